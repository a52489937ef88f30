import csv

import cv2
import numpy as np
import pytest

import calibrate as script
import reconstruct
import swinsf
import test as test_script
from swinsf.datasets.dat import write_dat
from swinsf.models import load_model, shipped_weights
from swinsf.recordings import load_calibration
from swinsf.recordings.calibration import make_calibration
from swinsf.utils.cli import UserError
from tests.cameras import draw_camera, matched_psnr, record, waves
from tests.conftest import run_processes

HOT = [(5, 7, 0.1), (20, 30, 0.3)]
CAMERA = draw_camera(hot=HOT)
SIZE = ["--height", 40, "--width", 50]


def run(module, *arguments):
    return module.main([*map(str, arguments)])


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A read-only folder with dark.dat, flat.dat, rec.dat, other.dat by another camera, and camera.npz."""
    folder = tmp_path_factory.mktemp("camera")
    recordings = {
        "dark": record(0, CAMERA, 1500, 1),
        "flat": record(0.2, CAMERA, 1500, 2),
        "rec": record(waves(speed=0.02), CAMERA, 300, 3),
        "other": record(0.2, draw_camera(seed=9), 1500, 4),
    }
    for name, spikes in recordings.items():
        write_dat(folder / f"{name}.dat", spikes, flip=False)
    flags = ["--dark", folder / "dark.dat", "--flat", folder / "flat.dat", *SIZE]
    assert run(script, *flags, "--output", folder / "camera.npz") == 0
    return folder


def test_maps_table_and_report(place, tmp_path, capsys):
    read = load_calibration(place / "camera.npz")
    good = read.bad == 0
    assert (read.dark - CAMERA[0])[good].std() < 1e-4 and (read.response - CAMERA[1])[good].std() < 2e-3
    with open(place / "camera.csv") as file:
        rows = [*csv.DictReader(file)]
    assert [(int(row["row"]), int(row["column"]), row["kind"]) for row in rows] == [
        (r, c, "hot") for r, c, _ in HOT
    ]
    assert float(rows[0]["dark"]) == pytest.approx(0.1, rel=0.02)
    assert cv2.imread(str(place / "camera.png")).shape[1] > 1000
    run(
        script,
        "--dark",
        place / "dark.dat",
        "--flat",
        place / "flat.dat",
        *SIZE,
        "--output",
        tmp_path / "x.npz",
        "--keep_shading",
    )
    text = capsys.readouterr().out
    for words in (
        "bad pixels: 2 (2 hot, 0 dead, 0 dust)",
        "dark charge: median 0.00",
        "light of the flats: 0.2 ",
        "not corrected",
    ):
        assert words in text, words


def made(place, folder, *flags, recording="rec.dat", calibrated=True):
    """The pictures, float (N, H, W), that the script writes into a folder for a recording."""
    path = folder / f"{len([*folder.iterdir()])}.npy"
    more = ["--calibration", place / "camera.npz"] if calibrated else []
    size = SIZE if str(recording).endswith(".dat") else []
    run(reconstruct, place / recording, *size, "--bits", 32, *more, *flags, "--output", path)
    return np.load(path)


# filled: what filling bad pixels gains at least; the network does without, since it has seen such pixels
@pytest.mark.parametrize(("method", "gain", "filled"), [("tfp", 5, 0), ("tfi", 1, 0), ("swinsf", 3, -0.1)])
def test_calibrated_pictures_are_closer_to_the_truth(place, tmp_path, method, gain, filled):
    flags = [
        "--method",
        method,
        "--window",
        121,
        "--bin",
        1,
        "--start",
        100,
        "--stop",
        161,
        "--device",
        "cpu",
    ]
    truth = [waves(speed=0.02)(key) for key in range(100, 161, 20)]
    psnr = {}
    for name, more in {"plain": ["--repair", "none"], "repaired": [], "calibrated": []}.items():
        pictures = made(place, tmp_path, *flags, *more, calibrated=name == "calibrated")
        assert len(pictures) == 4
        psnr[name] = np.mean([matched_psnr(picture, light) for picture, light in zip(pictures, truth)])
    assert psnr["calibrated"] > psnr["repaired"] + gain and psnr["repaired"] > psnr["plain"] + filled, psnr


@pytest.mark.parametrize("method", ["tfp", "tfi", "swinsf"])
def test_every_way_gives_the_same_pictures(place, tmp_path, method, tiny_weights, monkeypatch):
    flags = ["--method", method, "--bin", 2, "--stride", 40, "--device", "cpu"]
    flags += ["--load_model", tiny_weights] if method == "swinsf" else []
    whole = made(place, tmp_path, *flags)
    write_dat(tmp_path / "turned.dat", record(waves(speed=0.02), CAMERA, 300, 3), flip=True)
    np.testing.assert_array_equal(
        made(place, tmp_path, *flags, "--flip", True, recording=tmp_path / "turned.dat"), whole
    )
    np.save(tmp_path / "rec.npy", record(waves(speed=0.02), CAMERA, 300, 3))
    np.testing.assert_array_equal(made(place, tmp_path, *flags, recording=tmp_path / "rec.npy"), whole)
    part = made(place, tmp_path, *flags, "--crop", "0:40,20:50")
    np.testing.assert_allclose(part[..., 10:], whole[..., 30:], atol=0.3 if method == "swinsf" else 0)
    with open(place / "rec.dat") as pipe:
        monkeypatch.setattr("sys.stdin", pipe)
        run(
            reconstruct,
            "-",
            *SIZE,
            "--bits",
            32,
            *flags,
            "--calibration",
            place / "camera.npz",
            "--output",
            tmp_path / "pipe.npy",
        )
    np.testing.assert_array_equal(np.load(tmp_path / "pipe.npy"), whole)
    two = run_processes(
        2, "reconstruct.py", place / "rec.dat", *SIZE, "--bits", 32, "--calibration", place / "camera.npz", *flags,
        "--output", tmp_path / "two.npy",
    )  # fmt: skip
    assert two.returncode == 0, two.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "two.npy"), whole)
    assert two.stdout.count("repair: the 2 bad pixels of the calibration") == 1


def test_tiles_and_bins_have_the_same_levels(tmp_path):
    camera = draw_camera(60, 150, 5)
    np.save(tmp_path / "rec.npy", record(0.05, camera, 400))
    make_calibration(*camera).save(tmp_path / "camera.npz")
    flags = ["--device", "cpu", "--load_model", shipped_weights("camera"), "--start", 200, "--stop", 201]
    whole = made(tmp_path, tmp_path, *flags, "--bin", 4, recording="rec.npy")
    tiles = made(tmp_path, tmp_path, *flags, "--bin", 4, "--tile", 100, recording="rec.npy")
    assert np.abs(whole - tiles).max() < 1
    for bin in (1, 2, 5):
        rates = made(tmp_path, tmp_path, *flags, "--method", "tfp", "--bin", bin, recording="rec.npy")
        assert rates.mean() == pytest.approx(0.05 * 255 / 0.6, rel=0.01)
    assert whole.mean() == pytest.approx(0.05 * 255 / 0.6, rel=0.03)  # without the dark charge
    assert (
        whole.std()
        < 0.6 * made(tmp_path, tmp_path, *flags, "--bin", 4, recording="rec.npy", calibrated=False).std()
    )


def test_inspection_and_page(place, tmp_path, capsys):
    flags = [*SIZE, "--calibration", place / "camera.npz"]
    assert run(reconstruct, place / "rec.dat", *flags, "--inspect", "--output", tmp_path / "x.png") == 0
    text = capsys.readouterr().out
    assert "repair: the 2 bad pixels of the calibration" in text and "hot pixels: 0" in text
    run(reconstruct, place / "rec.dat", *SIZE, "--inspect", "--output", tmp_path / "y.png")
    assert "hot pixels: 2: (5, 7), (20, 30)" in capsys.readouterr().out
    assert (
        run(
            reconstruct,
            place / "rec.dat",
            *flags,
            "--method",
            "tfp",
            "--report",
            "--output",
            tmp_path / "z.npy",
        )
        == 0
    )
    assert (tmp_path / "z.html").is_file()


def test_repaired_pixels_are_part_of_the_settings(place, tmp_path, capsys):
    flags = [place / "rec.dat", *SIZE, "--method", "tfp", "--output", tmp_path / "x"]
    run(reconstruct, *flags)
    assert "repair: 2 hot and 0 dead pixels" in capsys.readouterr().out
    run(reconstruct, *flags)
    assert "nothing to do" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"repair 2 pixels \(\w{8}\)"):
        run(reconstruct, *flags, "--repair", "none")
    with pytest.raises(UserError, match="calibration"):
        run(reconstruct, *flags, "--calibration", place / "camera.npz")


def test_from_python(place, tiny_weights):
    spikes = record(waves(), CAMERA, 400, 3)
    options = {"model": load_model(tiny_weights), "bin": 1, "exposure": 1.5}
    plain, repaired, calibrated = (
        np.mean([picture for _, picture in swinsf.pictures(spikes, **options, **more)], axis=0)
        for more in ({"repair": "none"}, {}, {"calibration": place / "camera.npz"})
    )
    light = waves()(20)
    assert (
        matched_psnr(calibrated, light) > matched_psnr(repaired, light) + 1 > matched_psnr(plain, light) + 1
    )
    with pytest.raises(UserError, match="but the recording is 20x50"):
        swinsf.pictures(spikes[:, :20], calibration=place / "camera.npz", **options)


def test_scoring_without_truth(tmp_path, capsys):
    camera = draw_camera(250, 400, hot=[(7, 9, 0.3)])
    make_calibration(*camera).save(tmp_path / "camera.npz")
    (tmp_path / "data/test").mkdir(parents=True)
    write_dat(tmp_path / "data/test/a.dat", record(0.15, camera, 60))
    flags = ["--data_mode", "no_gt", "--dataset_path", tmp_path / "data", "--device", "cpu", "--save_path"]
    means = {}
    for name, more in {"plain": [], "calibrated": ["--calibration", tmp_path / "camera.npz"]}.items():
        assert run(test_script, *flags, tmp_path / name, *more) == 0
        picture = cv2.imread(str(tmp_path / name / "a.png"), cv2.IMREAD_UNCHANGED)
        means[name] = abs(np.diff(picture[:, :2].astype(float).mean(0))[0])
    assert means["calibrated"] < 0.5 * means["plain"]  # the bright first column
    with pytest.raises(
        UserError, match=r"--calibration .*: only for recordings of a camera without ground truth"
    ):
        run(test_script, "--calibration", tmp_path / "camera.npz", "--save_path", tmp_path / "x")


def test_published_arrays_are_converted(tmp_path, capsys):
    arrays = {"Nd": np.full((20, 30), 8.0), "Nl": np.ones((20, 30)), "D_light": np.full((20, 30), 5.0)}
    np.savez(tmp_path / "data.npz", **arrays)
    assert run(script, "--published", tmp_path / "data.npz", "--output", tmp_path / "camera.npz") == 0
    assert "1 / rate is proportional to 1 / (light + dark)" in capsys.readouterr().out
    np.testing.assert_allclose(
        load_calibration(tmp_path / "camera.npz").dark, load_calibration(tmp_path / "data.npz").dark
    )


def test_bad_recordings_and_flags_are_refused(place, tmp_path):
    dark, flat = ["--dark", place / "dark.dat"], ["--flat", place / "flat.dat"]
    np.save(tmp_path / "flat.npy", record(0.2, draw_camera(20, 30), 600))
    np.save(tmp_path / "dark.npy", record(0, CAMERA, 600))
    warm = tuple(np.full((24, 32), value, np.float32) for value in (0.025, 1.0))
    np.save(tmp_path / "hot.npy", record(0, warm, 600))
    np.save(tmp_path / "bright.npy", record(0.2, warm, 600))
    cases = {
        "both are needed": [*dark, "--output", tmp_path / "x.npz"],
        "use one or the other": [*dark, "--published", place / "camera.npz", "--output", tmp_path / "x.npz"],
        "--flip with --published .*: it is for recordings": [
            *("--published", place / "camera.npz"), *("--flip", "True"), "--output", tmp_path / "x.npz"
        ],
        r"hot\.npy: 100% of the pixels look bad, with a dark charge of 0.025 a step in the median; cool": [
            *("--dark", tmp_path / "hot.npy"), *("--flat", tmp_path / "bright.npy"), "--output", tmp_path / "x.npz"
        ],
        "an .npz file": [*dark, *flat, *SIZE, "--output", tmp_path / "x.dat"],
        "already exists; add --overwrite": [*dark, *flat, *SIZE, "--output", place / "camera.npz"],
        "flat.npy is 20x30 and .*dark.npy is 40x50; use recordings of one camera": [
            *("--dark", tmp_path / "dark.npy"), *("--flat", tmp_path / "flat.npy"), "--output", tmp_path / "x.npz"
        ],
        "not dark": ["--dark", place / "flat.dat", *flat, *SIZE, "--output", tmp_path / "x.npz"],
        "another name": ["--published", place / "camera.npz", "--output", place / "camera.npz", "--overwrite"],
    }  # fmt: skip
    for words, flags in cases.items():
        with pytest.raises(UserError, match=words):
            run(script, *flags)
    assert {path.name for path in tmp_path.iterdir()} == {"flat.npy", "dark.npy", "hot.npy", "bright.npy"}
    with pytest.raises(UserError, match=r"another camera's, since its pattern is not in .*other\.dat"):
        run(
            reconstruct,
            place / "other.dat",
            *SIZE,
            "--calibration",
            place / "camera.npz",
            "--output",
            tmp_path / "x.npy",
        )
    with pytest.raises(UserError, match=r"calibrates a camera of 40x50, but .*flat\.npy is 20x30"):
        run(
            reconstruct,
            tmp_path / "flat.npy",
            "--calibration",
            place / "camera.npz",
            "--output",
            tmp_path / "x.npy",
        )
