"""test.py, run as a user would."""

import csv
import hashlib
import json

import cv2
import numpy as np
import pytest

import test as script
from swinsf import models
from swinsf.datasets.dat import write_dat
from swinsf.evaluation.tables import comparison_figure, sharpest_patch
from swinsf.utils.cli import UserError
from tests.conftest import (
    REFERENCE,
    ROOT,
    assert_one_line_error,
    gradient_scene,
    moving_scene,
    random_spikes,
    run_process,
    run_script,
    write_png,
    write_reds,
)
from tools.results import read_shown

SAMPLE = REFERENCE / "data" / "spike_reds_sample"


def test_a_dataset_with_ground_truth(reds, tiny_weights, tmp_path):
    out = tmp_path / "out"
    result = run_script(
        "test.py", "--data_mode", "250", "--dataset_path", reds, "--device", "cpu",
        "--load_model", tiny_weights, "--save_image", "True", "--save_path", out,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    names = ["200_part1_key_id151", "201_part1_key_id151"]
    pictures = [f"{name}{kind}.png" for name in names for kind in ("", "_spike", "_gt")]
    assert {path.name for path in out.iterdir()} == {
        *pictures,
        "metrics.csv",
        "metrics.json",
        "comparison.png",
    }
    for name in names:
        spike = cv2.imread(str(out / f"{name}_spike.png"), cv2.IMREAD_UNCHANGED)
        assert spike.shape == (250, 400) and set(np.unique(spike)) == {0, 255}
        truth = cv2.imread(str(reds / "test/gt" / f"{name}.png"), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(cv2.imread(str(out / f"{name}_gt.png"), cv2.IMREAD_UNCHANGED), truth)

    with open(out / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:3] == ["name", "psnr", "ssim"]
    assert [row["name"] for row in rows] == names
    picture = cv2.imread(str(out / f"{names[0]}.png"), cv2.IMREAD_UNCHANGED).astype(float)
    truth = cv2.imread(str(out / f"{names[0]}_gt.png"), cv2.IMREAD_UNCHANGED).astype(float)
    assert float(rows[0]["psnr"]) == pytest.approx(
        10 * np.log10(255**2 / np.mean((picture - truth) ** 2)), abs=1e-6
    )

    contents = json.loads((out / "metrics.json").read_text())
    assert contents["count"] == 2 and contents["protocol"] == "released"
    assert contents["weights_sha256"] == hashlib.sha256(tiny_weights.read_bytes()).hexdigest()
    mean = np.mean([float(row["psnr"]) for row in rows])
    assert contents["means"]["SwinSF"]["psnr"] == pytest.approx(mean)
    assert contents["settings"]["dataset_path"] == str(reds)
    assert set(contents["means"]) == {"TFI", "TFP41", "TFP21", "SwinSF"}
    # The table on the screen has a row for each stream and a column for each method.
    line = next(line for line in result.stdout.splitlines() if line.startswith(names[0]))
    assert line.split()[-3:] == [f"{float(rows[0]['psnr']):.2f}", "/", f"{float(rows[0]['ssim']):.3f}"]


def test_without_pictures_and_by_another_protocol(reds, tiny_weights, tmp_path):
    options = ["test.py", "--dataset_path", reds, "--load_model", tiny_weights, "--save_path", tmp_path]
    result = run_script(*options, "--save_image", "False", "--protocol", "kair")
    assert result.returncode == 0, result.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"metrics.csv", "metrics.json", "comparison.png"}
    assert json.loads((tmp_path / "metrics.json").read_text())["protocol"] == "kair"


@pytest.mark.parametrize("key_id", [14, 28])
def test_the_written_key_frame_is_that_of_the_scored_picture(tiny_weights, tmp_path, key_id):
    data = write_reds(tmp_path / "data", test=1)
    options = [
        "--dataset_path",
        str(data),
        "--load_model",
        str(tiny_weights),
        "--device",
        "cpu",
        "--workers",
        "0",
    ]
    assert script.main([*options, "--save_path", str(tmp_path / "out"), "--key_id", str(key_id)]) == 0
    shown = cv2.imread(str(tmp_path / "out/200_part1_key_id151_spike.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(shown, 255 * gradient_scene(50, steps=301)[0][150])


def test_class_a(tiny_weights, tmp_path):
    (tmp_path / "classA/test").mkdir(parents=True)
    write_dat(tmp_path / "classA/test/car.dat", random_spikes(345, 250, 400))
    result = run_script(
        "test.py", "--data_mode", "250", "--dataset_path", tmp_path / "classA", "--device", "cpu",
        "--load_model", tiny_weights, "--save_image", "--save_path", tmp_path / "out",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "classA" in result.stdout and "NIQE" in result.stdout
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {"car.png", "car_spike.png", "metrics.csv", "metrics.json", "comparison.png"}
    header, row = (tmp_path / "out/metrics.csv").read_text().splitlines()
    assert header.startswith("name,niqe") and float(row.split(",")[1]) > 0


def test_spike_x4k(tiny_weights, tmp_path):
    (tmp_path / "x4k/test/input").mkdir(parents=True)
    write_dat(tmp_path / "x4k/test/input/occ008.649_f4305.dat", random_spikes(41, 1000, 1000), flip=False)
    write_png(tmp_path / "x4k/test/gt/occ008.649_f4305_key_id14.png", np.full((1000, 1000), 128, np.uint8))
    out = tmp_path / "out"
    options = [
        "--data_mode",
        "1000",
        "--dataset_path",
        tmp_path / "x4k",
        "--load_model",
        tiny_weights,
        "--save_path",
        out,
    ]
    result = run_script("test.py", *options)
    assert result.returncode == 0, result.stderr
    assert cv2.imread(str(out / "occ008.649_f4305.png"), cv2.IMREAD_UNCHANGED).shape == (1000, 1000)


def test_errors_are_one_line_and_leave_nothing(reds, tiny_weights, tmp_path):
    out = ["--save_path", str(tmp_path / "out")]
    data, weights = ["--dataset_path", str(reds)], ["--load_model", str(tiny_weights)]
    assert_one_line_error(
        run_process("test.py", "--dataset_path", tmp_path / "none", *weights, *out), "none", "no such dataset"
    )
    for arguments, word in (
        ([*data, "--load_model", str(tmp_path / "no.pth")], "no.pth"),
        ([*data, *weights, "--device", "cuda:77"], "cuda:77"),
        ([*data, *weights, "--key_id", "7"], "14, 21, 28"),
        ([*data, *weights, "--tile", "100"], "--tile 100: .* use 180 or more"),
        ([*data, *weights, "--niqe_params", "no.mat"], "no.mat"),
    ):
        with pytest.raises(UserError, match=word):
            script.main([*arguments, *out])
    assert not (tmp_path / "out").exists()


def test_precision_and_tiles(reds, tiny_weights, tmp_path, bfloat16):
    """Half precision and tiles do not change the figures, and are recorded."""
    means = {}
    for name, options in {"plain": [], "bf16": ["--precision", "bf16"], "tiles": ["--tile", "200"]}.items():
        arguments = [
            "--dataset_path",
            str(reds),
            "--load_model",
            str(tiny_weights),
            "--workers",
            "0",
            "--device",
            "cpu",
        ]
        assert script.main([*arguments, *options, "--save_path", str(tmp_path / name)]) == 0
        contents = json.loads((tmp_path / name / "metrics.json").read_text())
        assert contents["settings"]["precision"] == ("bf16" if name == "bf16" else "fp32")
        means[name] = contents["means"]["SwinSF"]["psnr"]
    assert means["bf16"] == pytest.approx(means["plain"], abs=0.02)
    assert means["tiles"] == pytest.approx(means["plain"], abs=0.001)


@pytest.mark.parametrize("names", [("a", "a_spike"), ("a_gt", "a"), ("comparison",)])
def test_streams_whose_pictures_would_share_a_name(tiny_weights, tmp_path, names):
    (tmp_path / "data/test").mkdir(parents=True)
    for name in names:
        write_dat(tmp_path / f"data/test/{name}.dat", random_spikes(345, 250, 400))
    options = ["--dataset_path", str(tmp_path / "data"), "--load_model", str(tiny_weights)]
    with pytest.raises(UserError, match="rename it"):
        script.main([*options, "--save_path", str(tmp_path / "out")])


def test_results_may_not_be_inside_the_dataset(reds, tiny_weights):
    options = ["--dataset_path", str(reds), "--load_model", str(tiny_weights)]
    with pytest.raises(UserError, match="is inside a folder of inputs"):
        script.main([*options, "--save_path", str(reds / "test" / "gt")])


def test_missing_shipped_weights_are_an_error_and_not_replaced_by_random_ones(monkeypatch, tmp_path):
    monkeypatch.setattr(models.weights, "SHIPPED", tmp_path)
    with pytest.raises(UserError, match=r"swinsf_small\.pth: no shipped weights"):
        script.main([])
    (tmp_path / "swinsf_small.pth").write_bytes(b"")
    assert models.shipped_weights() == tmp_path / "swinsf_small.pth"


def assert_as_shown(means, column):
    """The figures of test.py equal those in a column of the README's table, to the last digit."""
    shown = read_shown(ROOT / "README.md")
    for method, row in {
        "SwinSF": "`swinsf_small.pth`",
        "TFI": "TFI",
        "TFP41": "TFP41",
        "TFP21": "TFP21",
    }.items():
        figures, (psnr, ssim) = means[method], map(float, shown[row][column].split(" / "))
        # Half of the last digit, and a tenth of that for another processor's rounding.
        assert figures["psnr"] == pytest.approx(psnr, abs=0.0055), (method, column)
        assert figures["ssim"] == pytest.approx(ssim, abs=0.00055), (method, column)


def test_the_demo_has_the_figures_in_the_readme(tmp_path):
    result = run_script("test.py", "--save_path", tmp_path, "--device", "cpu")
    assert result.returncode == 0, result.stderr
    contents = json.loads((tmp_path / "metrics.json").read_text())
    assert contents["count"] == 5
    assert_as_shown(contents["means"], "demo")


@pytest.mark.skipif(not SAMPLE.is_dir(), reason=f"no spike-REDS sample streams at {SAMPLE}")
def test_the_published_streams_have_the_figures_in_the_readme(tmp_path):
    options = ("--data_mode", "250", "--dataset_path", SAMPLE, "--save_path", tmp_path, "--device", "cpu")
    result = run_script("test.py", *options)
    assert result.returncode == 0, result.stderr
    with open(tmp_path / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3
    for row in rows:
        prefixes = {"SwinSF": "", "TFI": "TFI_", "TFP41": "TFP41_", "TFP21": "TFP21_"}
        means = {
            method: {key: float(row[prefix + key]) for key in ("psnr", "ssim")}
            for method, prefix in prefixes.items()
        }
        assert_as_shown(means, row["name"].split("_key")[0])


def score(dataset, weights, out, *more):
    """The rows of metrics.csv."""
    options = [
        "--dataset_path",
        str(dataset),
        "--load_model",
        str(weights),
        "--device",
        "cpu",
        "--workers",
        "0",
    ]
    assert script.main([*options, "--save_image", "False", "--save_path", str(out), *more]) == 0
    with open(out / "metrics.csv") as file:
        return list(csv.DictReader(file))


def test_upright_data_give_a_warning_and_a_flag_turns_them(tiny_weights, tmp_path, capsys):
    spikes = moving_scene(250, 400, 301)
    (tmp_path / "data/test/input").mkdir(parents=True)
    write_dat(tmp_path / "data/test/input/a_id60.dat", spikes, flip=False)
    write_png(
        tmp_path / "data/test/gt/a_id60.png",
        np.clip(255 / 0.6 * spikes[49:70].mean(0), 0, 255).astype(np.uint8),
    )
    (wrong,) = score(tmp_path / "data", tiny_weights, tmp_path / "out")
    printed = capsys.readouterr().out
    assert (
        "use --flip False" in printed
        and "PSNR / SSIM (released) at step 60 " in printed
        and str(tmp_path / "out") in printed
    )
    (right,) = score(tmp_path / "data", tiny_weights, tmp_path / "out", "--flip", "False")
    assert "--flip" not in capsys.readouterr().out
    assert float(right["TFP21_psnr"]) > 50 > float(wrong["TFP21_psnr"]) and right["step"] == "60"


def test_another_dataset_of_the_same_name_does_not_replace_the_results(tiny_weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for place in ("one", "two"):
        write_reds(tmp_path / place / "spike_reds", test=1)
    (tmp_path / "results").mkdir()
    base = ["--load_model", str(tiny_weights), "--device", "cpu", "--workers", "0", "--save_image", "False"]
    assert script.main([*base, "--dataset_path", "one/spike_reds"]) == 0
    first = (tmp_path / "results/spike_reds/metrics.json").read_bytes()
    with pytest.raises(
        UserError, match=r"results/spike_reds: has the results of .*one/spike_reds \(test\); add --overwrite"
    ):
        script.main([*base, "--dataset_path", "two/spike_reds"])
    assert (tmp_path / "results/spike_reds/metrics.json").read_bytes() == first
    # the same dataset by another path
    assert script.main([*base, "--dataset_path", str(tmp_path / "one/spike_reds")]) == 0
    assert script.main([*base, "--dataset_path", "two/spike_reds", "--overwrite"]) == 0
    assert (
        "two/spike_reds" in json.loads((tmp_path / "results/spike_reds/metrics.json").read_text())["scored"]
    )


def test_the_sharpest_patch_is_where_the_detail_is():
    picture = np.full((60, 100), 90, np.float32)
    # the patch without its edges, one pixel on each side
    picture[41:49, 21:49] = 255 * np.random.default_rng(0).random((8, 28))
    assert sharpest_patch(picture, 10, 30) == (40, 20)


@pytest.mark.filterwarnings("error")
def test_names_in_any_script_are_drawn_without_a_warning(tmp_path):
    picture = np.tile(np.arange(60, dtype=np.float32), (40, 1))
    comparison_figure(
        tmp_path / "a.png",
        [(name, {"spikes": picture, "SwinSF": picture}) for name in ("街景_一", "거리", "улица", "a$b")],
    )
    assert (tmp_path / "a.png").stat().st_size > 1000
