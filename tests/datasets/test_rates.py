"""The firing rate of white: given, recorded or measured; and that grey levels follow it."""

import json

import cv2
import numpy as np
import pytest
import torch

from swinsf.datasets import open_dataset, rates
from swinsf.datasets.dat import write_dat
from swinsf.datasets.simulation.sensor import Sensor, integrate_and_fire
from swinsf.evaluation.evaluate import BASELINES, evaluate
from swinsf.evaluation.metrics import psnr_ssim
from swinsf.utils.cli import UserError
from tests.conftest import write_png

CPU = torch.device("cpu")


def texture(seed, least=0.1, most=0.9):
    """A soft picture (250, 400) in 0..1."""
    noise = cv2.GaussianBlur(np.random.default_rng(seed).random((250, 400), np.float32), None, 6)
    dark, bright = np.quantile(noise, (0.05, 0.95))
    return least + (most - least) * np.clip((noise - dark) / (bright - dark), 0, 1)


def fire(light, rate, seed=0, steps=41):
    return integrate_and_fire([light] * steps, np.random.default_rng(seed), Sensor(rate=rate))


def write_dataset(folder, rate, count=2, split="test", curve=lambda light, i: light):
    """Write still scenes and their pictures, which are `curve` of the light."""
    (folder / split / "input").mkdir(parents=True, exist_ok=True)
    for i in range(count):
        light = texture(i)
        write_dat(folder / split / "input" / f"scene{i:06d}id21.dat", fire(light, rate, i))
        write_png(
            folder / split / "gt" / f"scene{i:06d}id21.png", np.round(255 * curve(light, i)).astype(np.uint8)
        )
    return folder


def figures_of(dataset):
    """(PSNR of TFP41, mean error in grey levels) over a dataset."""
    rows = []
    for item, pictures, figures in evaluate(
        BASELINES, dataset, CPU, lambda *pair: psnr_ssim(*pair)._asdict()
    ):
        rows.append((figures["TFP41"]["psnr"], float((pictures["TFP41"] - item["middle"][0].numpy()).mean())))
    return np.mean(rows, axis=0)


@pytest.mark.parametrize("rate", [0.3, 0.5, 0.6, 1.0])
def test_datasets_of_any_rate_score_alike(tmp_path, rate):
    """A count over 41 steps is coarser by 0.6 / rate; otherwise the figures are equal."""
    dataset = open_dataset(write_dataset(tmp_path / "data", rate))
    assert [*dataset.rates.values()] == pytest.approx([rate] * 2, rel=0.01)
    assert bool(dataset.warnings) == ("white fires" in dataset.description) == (rate != 0.6)
    psnr, error = figures_of(dataset)
    usual, _ = figures_of(open_dataset(write_dataset(tmp_path / "usual", 0.6)))
    assert abs(error) < 0.7 and psnr == pytest.approx(usual + 20 * np.log10(rate / 0.6), abs=1)
    if rate == 0.5:
        # exactly: a measured rate close to a simulator's becomes that of the simulator
        assert dataset.rates["scene000000id21"] == 0.5
        assert (
            "white fires 0.5 times a step in these streams (measured over 2; 0.6 is usual)"
            in dataset.warnings[0]
        )
        assert figures_of(open_dataset(tmp_path / "data", rate=0.6))[0] < psnr - 8


def test_the_rate_is_given_or_recorded_or_measured(tmp_path):
    folder = write_dataset(tmp_path, 0.5)
    sensors = {"scene000000": {"rate": 0.4}, "scene000001": {"rate": 0.45}}
    record = {"made_by": "simulate.py", "splits": {"test": {"sensors": sensors}}}
    (folder / "meta.json").write_text(json.dumps(record))
    dataset = open_dataset(folder)
    assert dataset.rates == {"scene000000id21": 0.4, "scene000001id21": 0.45} and not dataset.warnings
    assert dataset[1]["rate"] == 0.45 and "white fires 0.4 to 0.45 times a step" in dataset.description
    assert set(open_dataset(folder, rate=0.7).rates.values()) == {0.7}
    # incomplete records
    for sensors["scene000001"] in ({}, {"rate": "0.5"}, {"rate": 0}, {"rate": float("nan")}, None):
        (folder / "meta.json").write_text(json.dumps(record))
        assert set(open_dataset(folder).rates.values()) == {0.5}
    for text in ("", "[]", '{"splits": 3}', '{"splits": {"train": {}}}'):
        (folder / "meta.json").write_text(text)
        assert set(open_dataset(folder).rates.values()) == {0.5}


def test_invalid_rates_and_rates_for_scenes_are_refused(tmp_path):
    folder = write_dataset(tmp_path, 0.5, 1)
    for rate in (0, -1, 2.1, float("nan")):
        with pytest.raises(UserError, match="more than 0 and up to 2"):
            open_dataset(folder, rate=rate)
    with pytest.raises(UserError, match=r"--rate 0\.5 with demo"):
        open_dataset("demo", rate=0.5)


@pytest.mark.parametrize(
    "curve, words",
    [
        (lambda light, i: light ** (1 / 2.2), "the dark half of the pictures has"),
        (lambda light, i: light * (0.5 + 0.4 * i), "in one stream and"),
        (lambda light, i: 0.2 * light, "which no camera does"),
    ],
    ids=["gamma", "exposed one by one", "a fifth"],
)
def test_pictures_that_no_factor_explains_give_a_warning(tmp_path, curve, words):
    dataset = open_dataset(write_dataset(tmp_path, 0.6, curve=curve))
    (warning,) = dataset.warnings
    assert words in warning and "--rate sets it" in warning and set(dataset.rates.values()) == {0.6}
    assert not open_dataset(tmp_path, rate=0.6).warnings


def test_an_empty_start_does_not_bias_the_measured_rate():
    """Over all 41 steps each pixel lacks half a spike; over the steps that are counted it lacks none."""
    for rate in (0.6, 0.62):
        charge = np.float32(rate) * texture(1) * np.arange(1, 42, dtype=np.float32)[:, None, None]
        spikes = np.diff(np.floor(charge), axis=0, prepend=0).astype(np.uint8)
        assert rates.compare(spikes, [255 * texture(1)]).rate == pytest.approx(rate, rel=0.015)
        assert spikes.mean() / texture(1).mean() < 0.97 * rate


def test_moving_and_tiny_and_dark_pictures():
    light = texture(3)
    moving = integrate_and_fire(
        (np.roll(light, step // 4, 1) for step in range(41)), np.random.default_rng(0), Sensor(rate=0.5)
    )
    look = rates.compare(moving, [255 * np.roll(light, 5, 1)])
    assert look.rate == pytest.approx(0.5, rel=0.01) and look.bend == pytest.approx(1, abs=0.05)
    for size in ((1, 1), (3, 5), (20, 24)):
        small = np.full(size, 0.5, np.float32)
        assert rates.compare(fire(small, 0.6, steps=41), [255 * small]).rate == pytest.approx(0.6, rel=0.15)
    assert rates.compare(moving, [np.full((250, 400), 15.0)]) is None and rates.measure([]) == (None, None)


def test_one_odd_stream_among_many_gives_no_warning():
    looks = [rates.Look(0.497, 1.0)] * 6
    assert rates.measure([*looks, rates.Look(0.9, 1.0)]) == (0.5, None)
    assert rates.measure([rates.Look(0.62, 1.0)]) == (0.62, None)
    assert rates.measure([rates.Look(rate, 1.0) for rate in (0.59, 0.611, 0.617)]) == (0.6, None)


def test_spike_x4k_is_known_to_fire_a_little_more_often(tmp_path):
    """The rate is reported and used, but without a warning."""
    light = cv2.resize(texture(2), (1000, 1000))
    (tmp_path / "test/input").mkdir(parents=True)
    write_dat(tmp_path / "test/input/a.dat", fire(light, 0.625), flip=False)
    write_png(tmp_path / "test/gt/a_key_id21.png", np.round(255 * light).astype(np.uint8))
    dataset = open_dataset(tmp_path, "1000")
    assert not dataset.warnings and "white fires 0.62" in dataset.description
    assert dataset[0]["rate"] == pytest.approx(0.625, rel=0.003)
