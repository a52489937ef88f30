"""The cases of `tests.robustness.fuzz`: inputs of each kind, and the code that reads them."""

import copy
import dataclasses
import io
import json
import math
import os
import re
import shutil
import struct
import zipfile

import cv2
import numpy as np
import scipy.io
import torch
from PIL import Image

import reconstruct
import simulate
import test
import train
from swinsf.datasets import open_dataset
from swinsf.datasets.dat import read_dat, write_dat
from swinsf.datasets.layout import read_picture
from swinsf.datasets.picture_files import read_grey
from swinsf.datasets.size import guess_camera
from swinsf.evaluation import page
from swinsf.evaluation.niqe import niqe, read_statistics
from swinsf.evaluation.tables import learning_curves
from swinsf.models import SwinSF, SwinSFConfig, checkpoint, load_model
from swinsf.recordings import open_recording
from swinsf.recordings.workplace import read_record
from swinsf.training.log import read_lines
from swinsf.training.ship import ship
from tests.conftest import ROOT, moving_scene, write_png, write_reds
from tools import benchmark, benchmark_recordings, results

NAMES = (
    "a.dat",
    "a\nb.dat",
    "ü\u202e.dat",
    "x" * 200 + ".dat",
    "-x.dat",
    " .dat",
    "\udcff.dat",
    "9id999999.dat",
    "0id0.dat",
    "id٣.dat",
)
NUMBERS = (-1, 0, 1, 2**31, 2**63 - 1, 10**30, 0.5, -1e300, math.nan, math.inf, -math.inf)
VALUES = (
    *NUMBERS,
    None,
    True,
    False,
    "",
    "x",
    "a\nb",
    "\0",
    "../..",
    b"x",
    (),
    [],
    {},
    [[]],
    {"a": 1},
    [1, 2, 3],
)


def words(text):
    return text.split()


WORDS = words("""
    0 1 -1 99999999999999999999 1e400 nan inf -inf 0x10 ½ ² ٣ 1, 2.5 ../.. /dev/zero /dev/null . {} -- - = A= =B A=B a/b photos:
    videos: photos:/dev videos:/dev/zero demo cpu cuda:99 channels=1000000000 depths=1000000000, window=5000 -h 5ms 1e9s file
    folder pipe loop gone A=folder A=pipe
""")
WORDS += ["", " ", "9" * 5000, "a\nb", "a\0b", "x" * 300, "x" * 5000, "\udcff", "channels=(" + "(" * 3000]
LIKELY = words("""
    0 1 2 20 21 0.5 1e-3 10 100 True False paper modern 250 small released kair rate motion middle all tfp tfi train test val
    folder file new.npy new.mp4 new new.png reds camera ideal auto 5ms swinsf cpu 14 no_gt channels=8 fp32
""")
TAKES_LONG = {"compile", "parts", "variants", "runs", "lengths", "sizes"}


class Evil:
    """An object that runs a command when it is unpickled."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


class Ground:
    """Files shared by the cases, which none may change: tiny datasets, photographs, weights and a run."""

    def __init__(self, root):
        self.root, self.marker = root, root / "code_was_run"
        base = root / "ground"
        self.reds = write_reds(base / "reds", train=2, test=1)
        self.photos = base / "photos"
        for i in range(3):
            noise = np.random.default_rng(i).random((60, 80)).astype(np.float32)
            write_png(self.photos / f"{i}.png", (255 * cv2.GaussianBlur(noise, None, 2)).astype(np.uint8))
        self.recording = base / "rec.dat"
        write_dat(self.recording, moving_scene(250, 400, 64))
        self.weights = base / "tiny.pth"
        torch.manual_seed(0)
        model = SwinSF(SwinSFConfig(channels=4, depths=(2,), patch=4, tsa="paper", skip="motion"))
        checkpoint.save(
            {"config": dataclasses.asdict(model.config), "model": model.state_dict()}, self.weights
        )
        self.contents = checkpoint.load(self.weights)
        options = [
            "--max_steps",
            "1",
            "--epoch_length",
            "3",
            "--epochs",
            "1",
            "--recipe",
            "modern",
            "--run_name",
            "run",
        ]
        train.main(quick_run(self, base, *options))
        self.run = checkpoint.load(base / "run" / "last.pth")
        self.run["settings"]["max_steps"] = 3
        self.files = sorted(path for path in base.rglob("*") if path.is_file())

    def signature(self):
        return [(path.name, (s := path.stat()).st_size, s.st_mtime_ns, s.st_ino) for path in self.files]

    @property
    def evil(self):
        return Evil(f"touch {self.marker}")


def quick_run(ground, place, *more):
    """Arguments of train.py for a step or two."""
    return [
        "--dataset_path", f"photos:{ground.photos}", "--load_model", str(ground.weights), "--crop_size", "20", "--epochs", "1",
        "--batch_size", "1", "--epoch_length", "2", "--val_every", "0", "--workers", "0", "--device", "cpu",
        "--save_path", str(place), *more,
    ]  # fmt: skip


def pick(rng, options):
    return options[rng.integers(len(options))]


def place_odd(rng, path):
    """Put something other than a regular file at a path."""
    kind = pick(rng, ("pipe", "folder", "gone", "loop", "zero", "null", "empty", "sparse"))
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind in ("empty", "sparse"):
        path.write_bytes(b"")
        os.truncate(path, 2**40 if kind == "sparse" else 0)
    else:
        path.symlink_to(
            {"gone": "nowhere", "loop": path.name, "zero": "/dev/zero", "null": "/dev/null"}[kind]
        )


def damaged(rng, data):
    """The data truncated, changed here and there, doubled, or replaced."""
    kind = pick(rng, ("cut", "flip", "flip", "zeros", "twice", "noise", "insert"))
    at = int(rng.integers(len(data) + 1))
    if kind == "cut":
        return data[:at]
    if kind == "twice":
        return data + data
    if kind == "noise":
        return data[: rng.integers(0, 20)] + rng.bytes(rng.integers(0, 3000))
    if kind == "insert":
        return data[:at] + rng.bytes(rng.integers(1, 9)) + data[at:]
    changed = bytearray(data)
    if kind == "zeros":
        changed[at : at + 50] = bytes(len(changed[at : at + 50]))
    for _ in range(int(2 ** rng.integers(0, 7)) if kind == "flip" and data else 0):
        changed[rng.integers(len(changed))] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def spoiled(rng, value):
    """A copy of nested values with one value, anywhere, replaced, removed or added."""
    value = copy.copy(value)
    inner = (
        list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    )
    if inner and rng.random() < 0.85:
        key = pick(rng, inner)
        if rng.random() < 0.1 and isinstance(value, dict):
            del value[key]
        else:
            value[key] = spoiled(rng, value[key])
        return value
    if isinstance(value, dict) and rng.random() < 0.3:
        return {**value, pick(rng, ("extra", 3, "help", "", "seed=3", "a\nb")): pick(rng, VALUES)}
    if torch.is_tensor(value) and rng.random() < 0.8:
        others = (
            value[..., None], value.flatten()[:0], value.double(), value.to(torch.int32), value.to(torch.complex64),
            value * math.nan, torch.zeros(2, 3), torch.zeros(()).expand(10**6, 10**6), value.to_sparse(),
            torch.empty(10**12, device="meta"),
        )  # fmt: skip
        return pick(rng, others)
    return pick(rng, VALUES)


def write_recording(rng, ground, place, suffix=".dat"):
    """Write a recording with any contents."""
    path = place / (pick(rng, NAMES) + suffix)
    if rng.random() < 0.3:
        place_odd(rng, path)
    elif rng.random() < 0.5:
        path.write_bytes(damaged(rng, ground.recording.read_bytes()))
    else:
        path.write_bytes(
            rng.bytes(pick(rng, (1, 12499, 12500, 12500 * 41, 13000 * 50, 125000 * 2)) + rng.integers(0, 2))
        )
    return path


def recording(rng, ground, place):
    path = write_recording(rng, ground, place)
    sides = (None, None, 0, 1, 7, 8, 250, 400, 416, 1000, 16384, 10**9)
    height, width, flip = pick(rng, sides), pick(rng, sides), pick(rng, (None, True, False))
    reader = rng.integers(4)
    if reader == 0:
        guess_camera(path)
    elif reader == 1:
        read_dat(
            path,
            height or 250,
            width or 400,
            int(pick(rng, (0, 1, 50, -1))),
            pick(rng, (None, 0, 3, 10**12)),
            bool(flip),
        )
    elif reader == 2:
        spikes, _ = open_recording(path, height, width, flip)
        spikes[len(spikes) // 2 : len(spikes) // 2 + 3]
    else:
        arguments = [
            str(path),
            "--method",
            pick(rng, ("tfp", "tfi")),
            "--output",
            "out.npy",
            "--stop",
            "60",
            "--device",
            "cpu",
        ]
        reconstruct.main(
            [*arguments, *(["--height", str(height), "--width", str(width)] if height and width else [])]
        )


def array(rng, ground, place):
    """`.npy` and `.npz` files: odd shapes and types, and headers or archives that claim enormous sizes."""
    shape = [(50, 24, 32), (0, 3, 3), (41, 20, 20), (5,), (2, 3, 4, 5)][rng.integers(5)]
    kind = pick(rng, ("u1", "?", "f2", ">i4", "c8", "O", "U3", "V5", "f8"))
    values = (np.random.default_rng(0).random(shape) < 0.3).astype(np.uint8)
    file = io.BytesIO()
    if kind == "O" and rng.random() < 0.5:
        np.save(file, np.array([ground.evil], object), allow_pickle=True)
    elif rng.random() < 0.5:
        np.save(
            file,
            values.astype(kind, order=pick(rng, "CF")) if kind not in ("V5",) else values.view("V1"),
            allow_pickle=True,
        )
    else:
        claim = pick(
            rng,
            (
                (10**15, 1, 1),
                (41, 10**9, 10**9),
                (2**40, 2**40, 8),
                (-1, 20, 20),
                (True, 20, 20),
                (41, 20, 20),
                (1e3, 2, 2),
            ),
        )
        np.lib.format.write_array_header_1_0(
            file, {"descr": pick(rng, ("|u1", "<f8", "|V9")), "fortran_order": False, "shape": claim}
        )
        file.write(values.tobytes())
    data = file.getvalue()
    path = place / pick(rng, ("a.npy", "a\n.npz", "a.npz", "ü.NPY"))
    if rng.random() < 0.1:
        place_odd(rng, path)
    elif path.suffix == ".npz":
        packing = pick(rng, (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA))
        with zipfile.ZipFile(path, "w", packing) as archive:
            for name in pick(rng, (("a.npy",), ("a.npy", "b.npy"), (), ("a",), ("../a.npy",))):
                archive.writestr(name, data)
    else:
        path.write_bytes(data)
    if rng.random() < 0.4 and path.is_file() and path.stat().st_size < 10**7:
        path.write_bytes(damaged(rng, path.read_bytes()))
    spikes, _ = open_recording(path, flip=pick(rng, (None, True)))
    spikes[:41]


def write_picture_file(rng, path):
    """Write a picture that may be damaged, or claim to be large; returns its size."""
    height, width = (int(side) for side in rng.integers(1, 70, 2))
    kind = pick(rng, ("PNG", "PNG", "JPEG", "TIFF", "BMP", "WEBP"))
    picture = Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).convert(
        pick(rng, ("L", "RGB"))
    )
    file = io.BytesIO()
    options = {"compression": pick(rng, ("raw", "tiff_lzw", "tiff_adobe_deflate"))} if kind == "TIFF" else {}
    picture.save(file, kind, **options)
    data = bytearray(file.getvalue())
    if rng.random() < 0.3:  # a header that claims more
        claim = int(pick(rng, (10**4, 50000, 2**31 - 1)))
        spot = {"PNG": (16, ">I"), "BMP": (18, "<I"), "WEBP": (26, "<H")}.get(kind)
        if kind == "JPEG":
            spot = data.find(b"\xff\xc0") + 5, ">H"
        if spot:
            struct.pack_into(spot[1], data, spot[0], claim % 2**16 if spot[1][1] == "H" else claim)
    if rng.random() < 0.05:
        place_odd(rng, path)
    else:
        path.write_bytes(damaged(rng, bytes(data)) if rng.random() < 0.6 else data)
    return height, width


def picture(rng, ground, place):
    path = place / pick(rng, ("a.png", "a\nb.png", "ü.png"))
    size = write_picture_file(rng, path)
    reader = rng.integers(4)
    if reader == 0:
        read_grey(path)
    elif reader == 1:
        read_picture(path, *size)
    elif reader == 2:
        page.check_folders([("A", place)], [path.stem], [])
        page.read_compared(place, path.stem, size)
    else:
        for i in range(4):
            write_picture_file(rng, place / f"{i}{pick(rng, ('.png', '.jpg', '.tif', '.BMP', '.webp'))}")
        open_dataset(f"photos:{place}", split="train", crop_size=20)[0]


def dataset(rng, ground, place):
    """A spike-REDS or classA folder with one to three faults; read, scored, or trained on."""
    root = place / pick(rng, ("data", "a\nb", "ü"))
    shutil.copytree(ground.reds, root, copy_function=os.symlink)
    if rng.random() < 0.2:
        shutil.rmtree(root / "test" / "gt")
    for _ in range(rng.integers(1, 4)):
        paths = [path for path in sorted(root.rglob("*")) if path.suffix or rng.random() < 0.2]
        if paths:
            spoil_file(rng, pick(rng, paths))
    split, mode = pick(rng, ("train", "test", "test", "val")), pick(rng, ("250", "250", "1000", "no_gt"))
    if rng.random() < 0.1:
        weights = ["--load_model", str(ground.weights), "--workers", "0", "--device", "cpu"]
        # Once the dataset no longer links to a folder, it is like any other, and the user may write pictures
        # into it.
        folders = (f"test/{name}" for name in ("gt", "input"))
        linked = [
            ground.reds / folder for folder in folders if any(map(os.path.islink, (root / folder).glob("*")))
        ]
        output = pick(rng, ("out", root / "out", *linked))
        return test.main(
            [
                "--dataset_path",
                str(root),
                "--split",
                split,
                "--data_mode",
                mode,
                *weights,
                "--save_path",
                str(output),
            ]
        )
    opened = open_dataset(root, mode, split, pick(rng, (None, 14, 21, 28, 7)))
    opened[len(opened) - 1]


def spoil_file(rng, path):
    """Replace or rename a file or folder of a dataset."""
    change = pick(rng, ("odd", "damaged", "name", "gone", "other"))
    data = path.read_bytes() if path.is_file() and path.stat().st_size < 10**8 else b""
    if change == "name":
        path.rename(path.with_name(pick(rng, NAMES) + path.suffix))
        return
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    if change == "odd":
        place_odd(rng, path)
    elif change == "damaged":
        path.write_bytes(damaged(rng, data))
    elif change == "other":
        path.write_bytes(rng.bytes(12500 * 41))


def write_checkpoint(rng, ground, path, contents):
    """Write contents by torch.save, in either format, whole or damaged, packed, or with a command to run."""
    if rng.random() < 0.1:
        contents = {
            **(contents if isinstance(contents, dict) else {}),
            pick(rng, ("model", "config", "other")): ground.evil,
        }
    torch.save(contents, path, _use_new_zipfile_serialization=bool(rng.random() < 0.8))
    if zipfile.is_zipfile(path) and rng.random() < 0.15:
        with zipfile.ZipFile(path) as old:
            records = {name: old.read(name) for name in old.namelist()}
        with zipfile.ZipFile(path, "w", pick(rng, (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as new:
            for name, data in records.items():
                new.writestr(name, damaged(rng, data) if rng.random() < 0.2 else data)
    elif rng.random() < 0.3:
        path.write_bytes(damaged(rng, path.read_bytes()))


def weights(rng, ground, place):
    path = place / pick(rng, ("w.pth", "a\nb.pth", "ü.pth"))
    contents = {name: dict(part) for name, part in ground.contents.items()}
    if rng.random() < 0.15:
        contents = {"net": {f"module.{name}": value for name, value in contents["model"].items()}}
    if rng.random() < 0.1:
        contents["config"] = {
            "channels": int(pick(rng, (10**6, 4096, 4))),
            "depths": pick(rng, ((10**9,), (1,) * 10**5, 256, [])),
        }
    if rng.random() < 0.05:
        place_odd(rng, path)
    else:
        write_checkpoint(rng, ground, path, spoiled(rng, contents))
    if rng.random() < 0.3:
        ship(path, place / "shipped.pth")
    else:
        load_model(path)


def resume(rng, ground, place):
    folder = place / "run"
    folder.mkdir()
    contents = {**ground.run}
    part = pick(rng, ("settings", "training", "training", "config", "samples", None))
    for _ in range(rng.integers(0, 3)):
        if part:
            contents[part] = spoiled(rng, contents[part])
        else:
            contents = spoiled(rng, contents)
    torch.save(contents, folder / "last.pth") if rng.random() < 0.8 else write_checkpoint(
        rng, ground, folder / "last.pth", contents
    )
    if rng.random() < 0.3:
        (folder / "log.jsonl").write_bytes(hostile_text(rng, {"epoch": 0, "step": 1, "train_loss": 0.5}))
    return train.main(["--resume_path", str(folder), "--workers", "0", "--device", "cpu"])


def statistics(rng, ground, place):
    mean, covariance = np.zeros(36), np.eye(36)
    changes = (
        mean[:5],
        mean * np.nan,
        mean + 1e300,
        covariance * np.inf,
        "text",
        np.array([ground.evil], object),
        1 + 2j,
        -covariance,
    )
    data = {"mean": mean, "cov": covariance}
    if rng.random() < 0.6:
        data[pick(rng, ("mean", "cov", "other"))] = pick(rng, changes)
    path = place / pick(rng, ("s.npz", "s.npz", "s.mat", "s\n.npz"))
    if path.suffix == ".npz":
        np.savez_compressed(path, **data)
    else:
        scipy.io.savemat(
            path, {name: value for name, value in data.items() if np.asarray(value).dtype != object}
        )
    if rng.random() < 0.5:
        path.write_bytes(damaged(rng, path.read_bytes()))
    if rng.random() < 0.05:
        path.unlink()
        place_odd(rng, path)
    niqe(rng.integers(0, 256, (96, 192), np.uint8), read_statistics.__wrapped__(path))


def hostile_text(rng, value):
    """The bytes of a JSON text with a fault."""
    for _ in range(rng.integers(0, 3)):
        value = spoiled(rng, value)
    text = json.dumps(value, default=str)
    if rng.random() < 0.2:
        text = pick(rng, ("[" * 10**5, '{"a":' * 10**4, "9" * 10**4, "[]", "null", "", "\ufeff{}"))
    return damaged(rng, text.encode()) if rng.random() < 0.3 else text.encode()


def text(rng, ground, place):
    reader = rng.integers(3)
    if reader == 0:
        sources = {path.name: path.stat().st_size for path in sorted(ground.photos.iterdir())}
        split = {"data_mode": "250", "seed": 0, "sources": sources, "count": 1, "source": "photos:x"}
        (place / "sim").mkdir()
        (place / "sim/meta.json").write_bytes(
            hostile_text(rng, {"made_by": "simulate.py", "splits": {"test": split, "train": split}})
        )
        split = pick(rng, ("train", "val"))
        arguments = [
            "--source",
            f"photos:{ground.photos}",
            "--save_path",
            "sim",
            "--count",
            "1",
            "--workers",
            "0",
            "--split",
            split,
        ]
        return simulate.main(arguments)
    if reader == 1:
        folder = place / pick(rng, ("out", ".out.npy.parts", ".out.mp4.parts"))
        folder.mkdir()
        about = {"recording": str(ground.recording), "first": 20, "stride": 20, "pictures": 2}
        (folder / "reconstruct.json").write_bytes(
            hostile_text(rng, {"made_by": "reconstruct.py", "whole": False, "about": about})
        )
        read_record(folder / "reconstruct.json")
        output = folder.name.removeprefix(".").removesuffix(".parts")
        return reconstruct.main(
            [str(ground.recording), "--method", "tfp", "--output", output, "--device", "cpu"]
        )
    path = place / "log.jsonl"
    lines = [hostile_text(rng, {"epoch": i, "step": i, "val_psnr": 30.0}) for i in range(3)]
    path.write_bytes(b"\n".join(lines))
    lines = read_lines(path)
    if rng.random() < 0.2:
        learning_curves(place / "curves.png", {"weights": [lines]})


def script_flags(script):
    if script == "train":  # other flags might train for long
        return ["device_ids", "run_name", "save_path"]
    place = {"test": "evaluation.settings"}.get(script, script)
    text = (ROOT / f"{place.replace('.', '/')}.py").read_text()
    return sorted(set(re.findall(r'"--([a-z]\w*)"', text)) - TAKES_LONG)


def scripts(ground, place):
    """Name of a script -> (its main, arguments that keep it short)."""
    weights, device = ["--load_model", str(ground.weights)], ["--device", "cpu"]
    workers, recording = ["--workers", "0"], str(ground.recording)
    return {
        "train": (train.main, quick_run(ground, place / "runs")),
        "test": (
            test.main,
            ["--dataset_path", str(ground.reds), *weights, *device, *workers, "--save_path", "out"],
        ),
        "reconstruct": (
            reconstruct.main,
            [recording, "--method", "tfp", "--output", "o.npy", *device, "--stop", "60"],
        ),
        "simulate": (
            simulate.main,
            ["--source", f"photos:{ground.photos}", "--save_path", "sim", "--count", "1", *workers],
        ),
        "results": (results.main, ["--weights", "none.pth"]),  # any weights would take too long
        "benchmark": (benchmark.parse_settings, []),
        "benchmark_recordings": (benchmark_recordings.parse_settings, []),
    }


def flags(rng, ground, place):
    """A script with one to three flags of any value, or with words in places where none belong."""
    (place / "file").write_text("x")
    (place / "folder").mkdir()
    os.mkfifo(place / "pipe")
    (place / "loop").symlink_to("loop")
    (place / "gone").symlink_to("nowhere")
    name = pick(
        rng, ("train", "train", "test", "reconstruct", "reconstruct", "simulate", "results", "benchmark")
    )
    name = "benchmark_recordings" if name == "benchmark" and rng.random() < 0.3 else name
    main, arguments = scripts(ground, place)[name]
    for _ in range(rng.integers(1, 4)):
        flag, word = pick(rng, script_flags(name)), pick(rng, WORDS if rng.random() < 0.3 else LIKELY)
        if {flag, *arguments[-4:]} >= {"epochs", "--max_steps"} or {flag, *arguments[-4:]} >= {
            "max_steps",
            "--epochs",
        }:
            continue  # together they may start a long run
        arguments += pick(rng, 4 * ([f"--{flag}", word], [f"--{flag}={word}"]) + ([f"--{flag}"], [word]))
    if main in (benchmark.parse_settings, benchmark_recordings.parse_settings):
        main(arguments)
        return 0
    return main(arguments)


CASES = {
    "recording": recording, "array": array, "picture": picture, "dataset": dataset, "weights": weights, "resume": resume,
    "niqe": statistics, "text": text, "flags": flags,
}  # fmt: skip
