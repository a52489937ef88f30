"""The kinds of samples in training and validation, and calibrations as users measure them."""

import collections
import dataclasses

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from swinsf.datasets import open_dataset
from swinsf.datasets.augment import Augmented
from swinsf.datasets.simulation.dataset import PhotoScenes
from swinsf.datasets.simulation.kinds import (
    USUAL,
    VALIDATION,
    Kind,
    draw_binned,
    draw_kind,
    fill_bad,
    fixed_kinds,
    measure,
    measured_rate,
)
from swinsf.datasets.simulation.sensor import (
    IDEAL,
    SENSORS,
    Sensor,
    draw_pattern,
    integrate_and_fire,
    simulate,
)
from swinsf.evaluation.evaluate import BASELINES, calibration_of, evaluate, network
from swinsf.models import SwinSF, SwinSFConfig
from swinsf.recordings.binning import bin_steps
from swinsf.utils.cli import UserError


def still(grey, steps, side=200):
    return (np.full((side, side), grey / 255, np.float32) for _ in range(steps))


def test_some_cameras_have_binned_steps():
    """N steps a bin fire, on average, like one step with N times the light and N times the dark charge."""
    rng = np.random.default_rng(0)
    camera = Sensor(exposure=0.06, dark=0.003)
    drawn = [draw_binned(camera, rng) for _ in range(2000)]
    steps = np.array([sensor.exposure for sensor in drawn]) / 0.06
    assert np.mean(steps == 1) == pytest.approx(0.5, abs=0.07) and 7 < steps.max() <= 8
    assert np.median(steps[steps > 1]) == pytest.approx(np.sqrt(8), rel=0.2)
    np.testing.assert_allclose([sensor.dark for sensor in drawn], 0.003 * steps)
    assert max(draw_binned(Sensor(exposure=0.6), rng).exposure for _ in range(99)) <= 1.2
    assert {draw_binned(Sensor(exposure=1.2), rng).exposure for _ in range(9)} == {1.2}
    spikes = bin_steps(integrate_and_fire(still(200, 400), rng, camera), 4)
    assert spikes[0:100].mean() == pytest.approx(4 * (0.06 * 0.6 * 200 / 255 + 0.003), rel=0.01)


def test_x4k_in_training_is_half_in_phase():
    rng = np.random.default_rng(0)
    kinds = [draw_kind(SENSORS["x4k"], rng) for _ in range(1000)]
    phase = [kind.sensor for kind in kinds if kind.name == "in_phase"]
    assert len(phase) == pytest.approx(500, abs=50) and {sensor.start for sensor in phase} == {"zero"}
    before = [sensor.before for sensor in phase if sensor.before]
    assert len(before) / len(phase) == pytest.approx(0.25, abs=0.06) and (min(before), max(before)) == (1, 40)
    assert {kind.sensor for kind in kinds if kind.name == "random"} == {IDEAL}


def test_cameras_in_training_are_half_calibrated():
    rng = np.random.default_rng(0)
    kinds = [draw_kind(SENSORS["camera"], rng) for _ in range(1000)]
    steps = [kind.calibration for kind in kinds if kind.name == "calibrated"]
    assert (
        len(steps) == pytest.approx(500, abs=50) and 2000 <= min(steps) < 2100 and 19000 < max(steps) <= 20000
    )
    assert not any(kind.calibration for kind in kinds if kind.name == "plain")
    assert draw_kind(SENSORS["ideal"], rng) == Kind(IDEAL)
    assert not any(draw_kind(SENSORS["camera"], rng, calibrated=0).calibration for _ in range(100))
    assert all(draw_kind(SENSORS["camera"], rng, calibrated=1).calibration for _ in range(100))


def test_spike_counts_have_the_stated_error():
    """Compared with a simulated pixel over 500 steps: no bias, variance f (1 - f) plus that of the
    electrons."""
    shape, steps = (200, 200), 500
    for rate, electrons in ((0.00413, 0), (0.2503, 0), (0.2503, 1000)):
        counts = measured_rate(np.full(shape, rate), steps, electrons, np.random.default_rng(0)) * steps
        sensor = Sensor(rate=rate, electrons=electrons)
        real = integrate_and_fire(still(255, steps, 80), np.random.default_rng(1), sensor).sum(0, dtype=float)
        fraction = rate * steps % 1  # shot noise smears it, so that f (1 - f) becomes its mean
        variance = 1 / 6 + rate * steps / electrons if electrons else fraction * (1 - fraction)
        assert counts.mean() == pytest.approx(rate * steps, abs=0.01)
        assert counts.var() == pytest.approx(variance, abs=0.03) and real.var() == pytest.approx(
            variance, abs=0.04
        )


def test_longer_recordings_give_a_better_calibration():
    pattern = draw_pattern(USUAL, 200, 200, np.random.default_rng(0))
    true_dark, true_response = pattern.dark / pattern.threshold, pattern.gain / pattern.threshold / 0.6
    errors = []
    for steps in (2000, 20000):
        dark, response = measure(
            Kind(USUAL, "calibrated", calibration=steps), pattern, np.random.default_rng(1)
        )
        assert dark.dtype == response.dtype == np.float32 and response.mean() == pytest.approx(1, abs=2e-3)
        assert (dark - true_dark).mean() == pytest.approx(0, abs=2e-5)
        errors.append((steps, (dark - true_dark).std(), (response - true_response).std()))
    quantisation = np.sqrt(1 / 6)  # of one count; the response has two, and the shot noise of the flat
    for steps, of_dark, of_response in errors:
        assert of_dark * steps == pytest.approx(quantisation, rel=0.1)
        assert of_response * steps == pytest.approx(
            np.sqrt(2 / 6 + 0.3 * steps / USUAL.electrons) / 0.3, rel=0.05
        )
    assert errors[0][1] > 9 * errors[1][1] and errors[0][2] > 5 * errors[1][2]
    binned = Kind(USUAL, "calibrated", bin=4.0, calibration=20000)
    # its pattern has the dark charge of four steps
    dark, _ = measure(binned, pattern, np.random.default_rng(1))
    assert (dark - true_dark).mean() == pytest.approx(0, abs=2e-5)
    assert (dark - true_dark).std() == pytest.approx(4 * quantisation / 20000, rel=0.1)


def test_spikes_minus_dark_over_response_equal_the_light():
    """For still, even light: within the error of 2,000 steps, while the plain mean is off by the pattern."""
    sensor = dataclasses.replace(USUAL, exposure=0.5, hot=0.0, blur=0.0)
    pattern, rng = draw_pattern(sensor, 60, 90, np.random.default_rng(3)), np.random.default_rng(0)
    dark, response = measure(Kind(sensor, "calibrated", calibration=20000), pattern, rng)

    class Flat:
        def frame(self, time):
            return np.full((60, 90), 0.4, np.float32)

    sample = simulate(Flat(), rng, 2001, {"key": 1000}, sensor, pattern, flat=True)
    counted = (sample["spikes"].mean(0) - dark) / response * (255 / sensor.rate)
    plain = sample["spikes"].mean(0) * (255 / sensor.rate)
    assert np.ptp(sample["key"]) == 0 and np.abs(counted.mean() - sample["key"][0, 0]) < 0.1
    assert np.abs(counted - sample["key"]).mean() < 0.12 and np.abs(plain - sample["key"]).mean() > 2


def test_bad_pixels_have_their_neighbours_spikes_and_maps():
    spikes = np.random.default_rng(0).integers(0, 2, (41, 5, 6)).astype(np.uint8)
    dark, response = (
        np.full((5, 6), 0.01, np.float32),
        np.linspace(0.9, 1.1, 30, dtype=np.float32).reshape(5, 6),
    )
    dark[0, 0], response[3, 4] = 0.3, 0.0
    before = spikes.copy(), response.copy()
    fill_bad(spikes, dark, response)
    assert dark.max() == np.float32(0.01) and response.min() > 0.9
    sources = {(0, 0): ((0, 1), (1, 0)), (3, 4): ((2, 4), (4, 4), (3, 3), (3, 5))}
    for place, neighbours in sources.items():
        copied = [
            n
            for n in neighbours
            if np.array_equal(spikes[(slice(None), *place)], before[0][(slice(None), *n)])
        ]
        assert copied and response[place] in [before[1][n] for n in copied]
    changed = (spikes != before[0]).any(0)
    assert changed.sum() <= 2 and not changed[1, 1]


def test_hot_pixels_are_judged_by_unbinned_steps():
    """By the limit of `calibrate.py`, for any bin."""
    dark, response = np.full((2, 5, 6), 0.01, np.float32), np.ones((2, 5, 6), np.float32)
    dark[:, 2, 3] = 0.03
    spikes = np.zeros((2, 4, 5, 6), np.uint8)
    spikes[..., 2, 3] = 1
    fill_bad(spikes[0], dark[0], response[0])
    fill_bad(spikes[1], dark[1], response[1], bin=4.0)
    assert not spikes[0].any() and spikes[1, :, 2, 3].all()


def test_training_samples_of_cameras_have_maps_that_collate(photos):
    dataset = PhotoScenes(photos, "train", 40, 40, 12, sensors=SENSORS["camera"])
    batch = default_collate([Augmented(dataset, 40, 0)[0, index, 1 / 12] for index in range(12)])
    maps = calibration_of(batch)
    assert maps.shape == (12, 2, 40, 40) and maps.dtype == torch.float32
    plain = torch.tensor([kind == "plain" for kind in batch["kind"]])
    assert 0 < plain.sum() < 12
    assert (maps[plain, 0] == 0).all() and (maps[plain, 1] == 1).all()
    assert (maps[~plain, 1].flatten(1).std(1) > 0.005).all()
    assert calibration_of({"spikes": batch["spikes"]}) is None


def test_the_share_of_calibrated_scenes(photos):
    path = f"photos:{photos}"
    for share, kind in ((0.0, "plain"), (1.0, "calibrated")):
        options = {"crop_size": 40, "length": 12, "sensor": "camera", "calibrated": share}
        dataset = open_dataset(path, "250", "train", **options)
        assert {dataset.read(index)["kind"] for index in range(12)} == {kind}
        assert len(open_dataset(path, "250", "val", **options).kinds) == 12  # validation keeps all kinds
    for source, sensor in ((path, "reds"), (path, None), ("demo", "camera")):
        with pytest.raises(UserError, match="only scenes of --sensor camera come with a calibration"):
            open_dataset(source, "250", "train", sensor=sensor, calibrated=0.5)


def test_maps_are_cropped_and_flipped_with_the_spikes(photos):
    """The pattern in the crop is that of the whole frame."""
    dataset = PhotoScenes(photos, "train", 60, 60, 12, sensors=SENSORS["camera"])
    index = next(i for i in range(12) if dataset.read(i)["kind"] == "calibrated")
    whole, item = dataset.read(index), Augmented(dataset, 40, 0)[0, index, 1.0]
    crops = [
        np.lib.stride_tricks.sliding_window_view(np.flip(whole["response"], axes), (40, 40))
        for axes in ((), 0, 1, (0, 1))
    ]
    assert any((crop == item["response"][0].numpy()).all((2, 3)).any() for crop in crops)


def test_validation_alternates_between_the_kinds(photos):
    cameras = open_dataset(f"photos:{photos}", "250", "val", sensor="camera")
    assert len(cameras) == 24 and cameras.kinds == VALIDATION["camera"] == fixed_kinds(SENSORS["camera"])
    names = collections.Counter(kind.name for kind in cameras.kinds)
    assert names == {"plain": 4, "calibrated": 4, "noisy": 4}
    small = PhotoScenes(photos, "val", 40, 40, 24, sensors=SENSORS["camera"])
    samples = [small.read(index) for index in range(12)]
    assert [sample["kind"] for sample in samples] == [kind.name for kind in cameras.kinds]
    assert [sample["white"] * 0.6 for sample in samples[:4]] == pytest.approx([0.5, 0.15, 0.05, 0.02])
    assert [np.ptp(sample["dark"]) > 0 for sample in samples] == [False] * 4 + [True] * 4 + [False] * 4
    x4k = PhotoScenes(photos, "val", 40, 40, 4, sensors=SENSORS["x4k"])
    assert [x4k.read(index)["kind"] for index in range(4)] == ["in_phase", "random"] * 2
    ideal = PhotoScenes(photos, "val", 40, 40, 4, sensors=SENSORS["ideal"])
    assert np.array_equal(x4k.read(1)["spikes"], ideal.read(1)["spikes"]) and "kind" not in ideal.read(1)
    assert not np.array_equal(x4k.read(0)["spikes"], ideal.read(0)["spikes"])
    assert len(open_dataset(f"photos:{photos}", "1000", "val")) == 20


def test_evaluate_passes_the_calibration_to_every_method(photos):
    """TFP is corrected by the item's maps, and so are the network's spikes."""
    dataset = PhotoScenes(photos, "val", 60, 60, 5, sensors=SENSORS["camera"])
    torch.manual_seed(0)
    model = SwinSF(SwinSFConfig(channels=4, depths=(2,), patch=4, tsa="paper", skip="motion")).eval()
    methods = {**BASELINES, "SwinSF": network(model)}
    methods["plain"] = lambda spikes, output, maps: BASELINES["TFP21"](spikes, output)
    kinds = []
    for item, pictures, _ in evaluate(methods, dataset, torch.device("cpu"), lambda picture, truth: {}):
        kinds.append(item["kind"])
        dark, response = item["dark"][0].numpy(), item["response"][0].numpy()
        np.testing.assert_allclose(
            pictures["TFP21"], (pictures["plain"] - 425 * dark) / response, rtol=1e-5, atol=1e-3
        )
        with torch.inference_mode():
            shown = (
                model(item["spikes"][None], torch.cat([item["dark"], item["response"]])[None])
                .middle[0, 0]
                .numpy()
            )
        np.testing.assert_allclose(pictures["SwinSF"], shown, atol=2e-3)
        assert np.array_equal(pictures["plain"], pictures["TFP21"]) == (item["kind"] == "plain")
    assert kinds == ["plain"] * 4 + ["calibrated"]


def test_tiles_get_their_part_of_the_calibration():
    torch.manual_seed(0)
    model = SwinSF(
        SwinSFConfig(channels=4, depths=(2,), patch=4, window=2, tsa="paper", skip="motion")
    ).eval()
    spikes = (torch.rand(1, 41, 30, 110) < 0.3).to(torch.uint8)
    maps = torch.stack([torch.rand(30, 110) * 0.01, 1 + 0.1 * torch.rand(30, 110)])[None]
    with torch.inference_mode():
        whole, tiles = (network(model, tile)(spikes, "middle", maps) for tile in (0, 80))
    torch.testing.assert_close(tiles, whole, atol=0.02, rtol=0)
