"""Hostile and broken input: three hundred cases of `tests.robustness.fuzz`, and the worst files."""

import contextlib
import io
import json
import os
import pickle
import struct
import zipfile
import zlib

import cv2
import numpy as np
import pytest
import scipy.io
import torch

import reconstruct
import simulate
import test as test_script
import train
from swinsf.datasets import open_dataset
from swinsf.datasets.dat import write_dat
from swinsf.datasets.picture_files import MOST_PIXELS, read_grey
from swinsf.evaluation.niqe import read_statistics
from swinsf.models import build_model, checkpoint, load_model
from swinsf.recordings import open_recording
from swinsf.recordings.workplace import read_record
from swinsf.training.log import read_lines
from swinsf.training.ship import ship
from swinsf.utils import cli
from swinsf.utils.cli import UserError
from swinsf.utils.guard import read_json
from tests.conftest import random_spikes, write_png, write_reds
from tests.robustness import fuzz, hostile

CASES = 300


@pytest.mark.parametrize("kind", fuzz.KINDS)
def test_every_case_ends_in_a_result_or_in_one_line(kind, tmp_path):
    indices = [index for index in range(CASES) if fuzz.kind_of(index) == kind]
    counts, faults, _ = fuzz.run_cases(indices, 0, tmp_path)
    assert not faults, "\n".join(f"{fuzz.again(0, index)}: {fault}" for index, fault in faults.items())
    assert len({outcome for _, outcome in counts}) > 1, counts  # if all cases end alike, they test nothing


def test_faults_of_a_case_are_detected(tmp_path, monkeypatch):
    ground = hostile.Ground(tmp_path)
    monkeypatch.setattr(fuzz, "SECONDS", 0.2)

    def fault_of(case):
        monkeypatch.setitem(hostile.CASES, fuzz.kind_of(0), lambda rng, ground, place: case())
        return fuzz.run_case(ground, 0, 0)[1]

    def endless():
        while True:
            pass

    def raising(error):
        raise error

    assert fault_of(lambda: 0) is None and fault_of(lambda: raising(UserError("--flag x: bad"))) is None
    assert "ZeroDivisionError" in fault_of(lambda: 1 // 0)
    assert "0.2 s" in fault_of(endless)
    monkeypatch.setattr(fuzz, "SECONDS", 30)
    assert "exit status 1" in fault_of(lambda: raising(SystemExit(1))) and "exit status 3" in fault_of(
        lambda: 3
    )
    assert "neither file nor flag" in fault_of(lambda: raising(UserError("something is wrong")))
    assert "code of a file" in fault_of(ground.marker.touch)
    assert "was changed" in fault_of(lambda: ground.recording.write_bytes(b"x"))
    monkeypatch.setattr(fuzz, "MEMORY", 50 * 10**6)
    held = [np.ones(10**7)]  # 80 MB allocated before
    assert fault_of(lambda: 0) is None
    if fuzz.reset_peak():
        assert "memory: 0.08 GB more" in fault_of(lambda: held.append(np.ones(10**7)))


def peak_of(call):
    """(peak memory in bytes, error text) of a call that ends with a UserError."""
    before = fuzz.reset_peak()
    with pytest.raises(UserError) as error:
        call()
    return fuzz.peak_memory() - before, str(error.value)


def npy(shape, kind="|u1", data=b""):
    """The bytes of a .npy file whose header claims a shape."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": kind, "fortran_order": False, "shape": shape})
    return file.getvalue() + data


def test_a_zip_bomb_of_an_array(tmp_path):
    with (
        zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("a.npy", "w") as file,
    ):
        file.write(npy((400, 1000, 1000)))
        for _ in range(400):
            file.write(bytes(10**6))
    assert (tmp_path / "a.npz").stat().st_size < 10**6
    for read in (open_recording, read_statistics):
        memory, text = peak_of(lambda read=read: read(tmp_path / "a.npz"))
        assert memory < 2**24 and "a.npz: " in text
    assert "unpacks to 400,000,128 bytes" in peak_of(lambda: open_recording(tmp_path / "a.npz"))[1]


@pytest.mark.parametrize("shape", [(10**15, 1, 1), (10**5, 10**5, 10**5), (2**40, 2**40, 8), (-1, 20, 20)])
def test_an_array_that_claims_more_than_there_is(tmp_path, shape):
    (tmp_path / "a.npy").write_bytes(npy(shape, data=bytes(41 * 400)))
    assert peak_of(lambda: open_recording(tmp_path / "a.npy"))[0] < 2**24
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", npy(shape, data=bytes(41 * 400)))
    assert peak_of(lambda: open_recording(tmp_path / "a.npz"))[0] < 2**24


def repacked(source, target, packing, change=lambda name, data: data):
    """Repack a file of torch.save as a new zip archive."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", packing) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))


def test_a_packed_checkpoint(tiny_weights, tmp_path):
    torch.save({"config": {}, "model": {"w": torch.zeros(10**8)}}, tmp_path / "large.pth")
    repacked(tmp_path / "large.pth", tmp_path / "bomb.pth", zipfile.ZIP_DEFLATED)
    assert (tmp_path / "bomb.pth").stat().st_size < 10**6
    memory, text = peak_of(lambda: load_model(tmp_path / "bomb.pth"))
    assert memory < 2**24 and "bomb.pth: refused, since it is compressed" in text
    repacked(tiny_weights, tmp_path / "stored.pth", zipfile.ZIP_STORED)
    load_model(tmp_path / "stored.pth")  # stored, not compressed, as a program may repack it


@pytest.mark.parametrize("new_format", [True, False])
def test_a_checkpoint_that_would_run_a_command(tiny_weights, tmp_path, new_format):
    contents = {**checkpoint.load(tiny_weights), "more": hostile.Evil(f"touch {tmp_path / 'was_run'}")}
    torch.save(contents, tmp_path / "evil.pth", _use_new_zipfile_serialization=new_format)
    for read in (
        load_model,
        lambda path: ship(path, tmp_path / "x.pth"),
        lambda path: train.main(["--resume_path", str(path)]),
    ):
        with pytest.raises(UserError, match=r"evil\.pth: refused, since it holds more than tensors"):
            read(tmp_path / "evil.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(hostile.Evil(f"touch {tmp_path / 'was_run'}")))
    with pytest.raises(UserError, match=r"plain\.pth"):
        load_model(tmp_path / "plain.pth")
    assert not (tmp_path / "was_run").exists()


def test_a_pickle_that_asks_for_memory(tmp_path):
    """torch.load itself allows a bytearray of any size."""
    torch.save({"config": {"depths": "HERE"}, "model": {}}, tmp_path / "whole.pth")
    asked = b"cbuiltins\nbytearray\n\x8a\x05" + (3 * 10**9).to_bytes(5, "little") + b"\x85R"
    here = b"X\x04\x00\x00\x00HERE"
    repacked(
        tmp_path / "whole.pth",
        tmp_path / "a.pth",
        zipfile.ZIP_STORED,
        lambda name, data: data.replace(here, asked),
    )
    memory, text = peak_of(lambda: load_model(tmp_path / "a.pth"))
    assert memory < 2**24 and "holds more than tensors" in text


@pytest.mark.parametrize(
    "fields",
    [
        {"channels": 10**6},
        {"channels": 4096},
        {"depths": (10**9,)},
        {"depths": (256,)},
        {"depths": (1,) * 10**5},
        {"window": 10**4},
        {"mlp_ratio": float("nan")},
        {"mlp_ratio": "x"},
        {"heads": True},
        {"tsa": torch.zeros(2)},
        {"channels": torch.zeros(2)},
    ],
    ids=lambda value: f"{value!s:.40}",
)
def test_an_architecture_that_claims_more_than_its_weights(tiny_weights, tmp_path, fields):
    contents = checkpoint.load(tiny_weights)
    contents["config"].update(fields)
    checkpoint.save(contents, tmp_path / "w.pth")
    memory, text = peak_of(lambda: load_model(tmp_path / "w.pth"))
    assert memory < 2**26 and "w.pth: " in text


def test_an_architecture_that_no_machine_has_room_for():
    for fields in ({"channels": 4096, "depths": (256,)}, {"depths": (10**9,)}):
        before = fuzz.reset_peak()
        with pytest.raises(ValueError):
            build_model("250", **fields)
        assert fuzz.peak_memory() - before < 2**26


@pytest.mark.parametrize(
    "tensor",
    [torch.zeros(1).expand(10**6, 10**6), torch.empty(10**12, device="meta"), torch.eye(3).to_sparse()],
    ids=["expanded", "meta", "sparse"],
)
def test_a_tensor_that_claims_more_than_the_file_has(tiny_weights, tmp_path, tensor):
    contents = checkpoint.load(tiny_weights)
    contents["model"]["norm.weight"] = tensor
    torch.save(contents, tmp_path / "w.pth")
    for read in (load_model, lambda path: ship(path, tmp_path / "x.pth")):
        memory, text = peak_of(lambda read=read: read(tmp_path / "w.pth"))
        assert memory < 2**26 and ("a tensor in it claims more" in text or "holds more than tensors" in text)


def test_endlessly_nested_contents(tmp_path):
    torch.save({"config": {"depths": "HERE"}, "model": {}}, tmp_path / "whole.pth")
    deep = b"]" + b"(]" * 10**5 + b"e" * 10**5  # [[[...]]]
    here = b"X\x04\x00\x00\x00HERE"
    repacked(
        tmp_path / "whole.pth",
        tmp_path / "deep.pth",
        zipfile.ZIP_STORED,
        lambda name, data: data.replace(here, deep),
    )
    shared = [0] * 10
    for _ in range(12):
        shared = [shared] * 10
    torch.save({"config": {"channels": shared}, "model": {}}, tmp_path / "shared.pth")
    for name in ("deep", "shared"):
        memory, text = peak_of(lambda name=name: load_model(tmp_path / f"{name}.pth"))
        assert memory < 2**28 and f"{name}.pth: " in text
    round_and_round = []
    round_and_round.append(round_and_round)
    torch.save({"config": {"depths": round_and_round}, "model": {}}, tmp_path / "round.pth")
    with pytest.raises(UserError, match=r"round\.pth: refused, since its contents are nested"):
        load_model(tmp_path / "round.pth")


def png(width, height):
    """A PNG whose header claims a size, with nothing in it."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


def test_a_picture_that_claims_gigabytes(tmp_path):
    for name in ("a.png", "b.png", "c.png", "d.png"):
        (tmp_path / name).write_bytes(png(50000, 50000))
    assert peak_of(lambda: open_dataset(f"photos:{tmp_path}", split="train", crop_size=20))[0] < 2**25
    assert read_grey(tmp_path / "a.png") is None
    whole = png(9, 9)
    chunk = whole.replace(b"\0\0\0\x08IDAT", b"\x7f\0\0\0IDAT")  # 2 GB of it
    assert chunk != whole
    (tmp_path / "chunk.png").write_bytes(chunk)
    before = fuzz.reset_peak()
    assert read_grey(tmp_path / "chunk.png") is None and fuzz.peak_memory() - before < 2**25


def test_a_picture_as_large_as_cameras_write(tmp_path):
    height, width = 12240, 16320
    assert height * width <= MOST_PIXELS
    cv2.imwrite(str(tmp_path / "large.png"), np.zeros((height, width), np.uint8))
    before = fuzz.reset_peak()
    assert read_grey(tmp_path / "large.png").shape == (height, width)
    assert fuzz.peak_memory() - before < fuzz.MEMORY


@pytest.mark.parametrize("text", ["[" * 10**5, '{"a":' * 10**5, "9" * 10**5])
def test_endless_json(tmp_path, text, photos, tiny_weights):
    path = tmp_path / "meta.json"
    path.write_text(text)
    with pytest.raises(ValueError):
        read_json(path)
    assert read_record(path) is None and read_lines(path) == []
    with pytest.raises(UserError, match=r"meta\.json: not from simulate\.py"):
        simulate.main(["--source", f"photos:{photos}", "--save_path", str(tmp_path), "--workers", "0"])


def test_a_pipe_does_not_hang_a_script(tmp_path, photos, reds):
    (tmp_path / "photos").mkdir()
    for name in ("a.png", "b.png", "c.png", "d.mp4", "e.dat", "f.npy", "reconstruct.json"):
        os.mkfifo(tmp_path / "photos" / name)
    with fuzz.within(20):
        for source in ("photos", "videos"):
            with pytest.raises(UserError, match=r"no readable|no video to use"):
                open_dataset(f"{source}:{tmp_path / 'photos'}", split="train", crop_size=20)
        for name in ("e.dat", "f.npy"):
            with pytest.raises(UserError, match=name):
                open_recording(tmp_path / "photos" / name)
        assert read_record(tmp_path / "photos" / "reconstruct.json") is None


def test_errors_of_odd_names_and_flags_are_one_line(tmp_path):
    for arguments in (
        ["--crop_size", "a\nb"],
        ["--no_such\nflag"],
        ["--resume_path", "a\nb\udcff"],
        ["--lr", "9" * 5000],
        ["a\0b"],
    ):
        with pytest.raises(UserError) as error:
            train.main(arguments)
        line = cli.one_line(error.value)
        assert line.isprintable() and 0 < len(line) < 1000 and line == str(error.value)
    with pytest.raises(
        UserError, match=r"argument --batch_size: 5000 is not from 1 to 4096; .* -h lists the flags"
    ):
        train.main(["--batch_size", "5000"])
    odd = OSError(2, "No such file", "a\nb")
    assert cli.one_line(odd).startswith("a\\nb: No such file; ")


@pytest.fixture(scope="module")
def run_contents(photos, tiny_weights, tmp_path_factory):
    """The contents of a last.pth after one step of three."""
    folder = tmp_path_factory.mktemp("run")
    options = [
        "--load_model",
        str(tiny_weights),
        "--crop_size",
        "20",
        "--batch_size",
        "1",
        "--epoch_length",
        "3",
        "--epochs",
        "1",
    ]
    options += [
        "--val_every",
        "0",
        "--workers",
        "0",
        "--device",
        "cpu",
        "--save_path",
        str(folder),
        "--run_name",
        "run",
    ]
    assert (
        train.main(["--dataset_path", f"photos:{photos}", "--recipe", "modern", "--max_steps", "1", *options])
        == 0
    )
    contents = checkpoint.load(folder / "run" / "last.pth")
    contents["settings"]["max_steps"] = 2
    return contents


def with_change(contents, path, value):
    """A copy of nested dicts and lists, with the value at a path of keys replaced."""
    key, *rest = path
    changed = contents.copy()
    changed[key] = with_change(contents[key], rest, value) if rest else value
    return changed


@pytest.mark.parametrize(
    "path, value",
    [
        (("settings", "batch_size"), 0), (("settings", "batch_size"), "4"), (("settings", "lr"), float("nan")),
        (("settings", "help"), True), (("settings", "no_flag"), 1), (("settings", "recipe"), "none"),
        (("settings", "workers"), 10**9), (("settings", "dataset_path"), "a\0b"), (("settings", "amp"), 1),
        (("config", "depths"), (10**9,)), (("config", "channels"), 8), (("samples",), 3), (("training",), []),
        (("training", "step"), -1), (("training", "epoch"), 0.5), (("training", "batch"), float("inf")),
        (("training", "best_psnr"), float("nan")), (("training", "totals", "pictures"), 0), (("training", "totals"), {}),
        (("training", "ema"), None), (("training", "model"), {}), (("training", "random"), {}),
        (("training", "random", 0, "numpy"), ("MT19937", [0] * 624, 10**6, 0, 0.0)),
        (("training", "random", 0, "torch"), torch.zeros(3)),
        (("training", "optimizer", "state", 0, "exp_avg"), torch.zeros(7)),
        (("training", "optimizer", "state", 0, "exp_avg_sq"), torch.zeros(7)),
        (("training", "optimizer", "state", 0, "step"), torch.tensor(-1.0)),
        (("training", "optimizer", "state", 10**6), {}), (("training", "optimizer", "param_groups"), []),
        (("training", "optimizer", "param_groups", 0, "weight_decay"), 0.5),
        (("training", "optimizer", "param_groups", 1, "betas"), (0.5, 0.999)),
    ],
    ids=lambda value: f"{value!s:.40}",
)  # fmt: skip
def test_an_impossible_state_of_a_run_is_refused(run_contents, tmp_path, path, value):
    (tmp_path / "run").mkdir()
    torch.save(with_change(run_contents, path, value), tmp_path / "run" / "last.pth")
    with pytest.raises(UserError, match=r"run(/last\.pth)?: ") as error:
        train.main(["--resume_path", str(tmp_path / "run"), "--device", "cpu", "--workers", "0"])
    assert "last.pth" in str(error.value) or "training state" in str(error.value)


def test_a_whole_run_resumes(run_contents, tmp_path):
    (tmp_path / "run").mkdir()
    torch.save(run_contents, tmp_path / "run" / "last.pth")
    assert train.main(["--resume_path", str(tmp_path / "run"), "--device", "cpu", "--workers", "0"]) == 0
    assert checkpoint.load(tmp_path / "run" / "last.pth")["step"] == 2


def contents_of(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_nothing_is_written_to_the_targets_of_a_datasets_links(tiny_weights, tmp_path):
    """Streams and pictures may be elsewhere: their folders belong to the dataset, too."""
    real = write_reds(tmp_path / "real", test=1)
    linked = tmp_path / "linked" / "test"
    (linked / "input").mkdir(parents=True)
    (linked / "gt").symlink_to(real / "test" / "gt")
    stream = next((real / "test" / "input").iterdir())
    (linked / "input" / stream.name).symlink_to(stream)
    before = contents_of(real)
    options = [
        "--dataset_path",
        str(tmp_path / "linked"),
        "--load_model",
        str(tiny_weights),
        "--workers",
        "0",
        "--device",
        "cpu",
    ]
    (tmp_path / "way_in").symlink_to(real / "test" / "gt")
    for place in (
        real / "test" / "gt",
        real / "test" / "input",
        linked / "gt" / "new",
        tmp_path / "way_in",
        tmp_path / "linked" / "new",
    ):
        with pytest.raises(UserError, match="is inside a folder of inputs"):
            test_script.main([*options, "--save_path", str(place)])
    with pytest.raises(UserError, match="is inside a folder of inputs"):
        test_script.main([*options, "--compare", f"A={tmp_path}", "--save_path", str(tmp_path)])
    assert contents_of(real) == before and not (tmp_path / "linked" / "new").exists()


def test_a_link_among_the_results_is_replaced_and_never_written_through(tiny_weights, tmp_path):
    data = write_reds(tmp_path / "data", test=1)
    out, picture = tmp_path / "out", next((data / "test" / "gt").iterdir())
    out.mkdir()
    for name in (picture.name, picture.stem + "_gt.png", "metrics.csv", "metrics.json", "comparison.png"):
        (out / name).symlink_to(picture)
    before = contents_of(data)
    options = [
        "--dataset_path",
        str(data),
        "--load_model",
        str(tiny_weights),
        "--workers",
        "0",
        "--device",
        "cpu",
    ]
    assert test_script.main([*options, "--save_path", str(out), "--overwrite"]) == 0
    assert contents_of(data) == before
    assert not any(path.is_symlink() for path in out.iterdir())


def test_a_list_of_names_that_lead_out_of_the_dataset(tmp_path):
    """A path with .. is resolved to its folder."""
    data = write_reds(tmp_path / "data", test=1)
    (tmp_path / "other").mkdir()
    with pytest.raises(UserError, match="is inside a folder of inputs"):
        test_script.main(
            [
                "--dataset_path",
                str(tmp_path / "other" / ".." / "data"),
                "--save_path",
                str(data / "test" / "gt" / ".." / "new"),
            ]
        )


def test_reconstruct_and_simulate_never_write_through_a_link(tiny_weights, photos, tmp_path):
    write_dat(tmp_path / "rec.dat", random_spikes(45, 250, 400))
    data = tmp_path / "data"
    write_png(data / "precious.png", np.zeros((4, 4), np.uint8))
    before = contents_of(data)
    options = [
        str(tmp_path / "rec.dat"),
        "--height",
        "250",
        "--width",
        "400",
        "--method",
        "tfp",
        "--device",
        "cpu",
    ]
    (tmp_path / ".x.npy.parts").symlink_to(data)
    with pytest.raises(
        UserError, match=r"\.x\.npy\.parts: pictures would be collected here, but it is not from this script"
    ):
        reconstruct.main([*options, "--output", str(tmp_path / "x.npy"), "--overwrite"])
    (tmp_path / "y.npy").symlink_to(data / "precious.png")
    assert reconstruct.main([*options, "--output", str(tmp_path / "y.npy"), "--overwrite"]) == 0
    assert not (tmp_path / "y.npy").is_symlink()
    sim = tmp_path / "sim"
    command = ["--source", f"photos:{photos}", "--save_path", str(sim), "--count", "1", "--workers", "0"]
    (sim / "train").mkdir(parents=True)
    (sim / "train" / "input").symlink_to(data)
    (sim / "meta.json").write_text(json.dumps({"made_by": "simulate.py", "splits": {}}))
    with pytest.raises(UserError, match="input: is a link"):
        simulate.main(command)
    assert contents_of(data) == before


def test_a_matlab_file_that_crashes_its_reader(tmp_path):
    """Each byte of its header is damaged in turn. The result is statistics or one line, though scipy
    sometimes crashes its process."""
    path = tmp_path / "s.mat"
    scipy.io.savemat(path, {"mean": np.zeros(36), "cov": np.eye(36)})
    whole = path.read_bytes()
    mean, covariance = read_statistics.__wrapped__(path)
    assert not mean.any() and np.array_equal(covariance, np.eye(36))
    for at in (128, 132, 136, 144, 145, 160, 176, 180):
        path.write_bytes(whole[:at] + b"\x0e\xff\x11" + whole[at + 3 :])
        with contextlib.suppress(UserError):
            read_statistics.__wrapped__(path)
    with pytest.raises(UserError, match=r"s\.mat: no NIQE statistics"):
        path.write_bytes(whole[:144] + b"\xff" * 40 + whole[184:])
        read_statistics.__wrapped__(path)
