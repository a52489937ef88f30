"""A program that uses every public name passes `mypy --strict` against the installed wheel."""

import subprocess
import sys

import pytest

import swinsf
from tests.test_install import environment, wheel  # noqa: F401, fixtures

PROGRAM = """
from pathlib import Path

import numpy as np
import swinsf

rng = np.random.default_rng(0)
swinsf.tune(training=True)
light = [np.full((24, 32), 0.5, np.float32) for _ in range(60)]
spikes = swinsf.integrate_and_fire(light, rng)
swinsf.write_dat("rec.dat", spikes, flip=False)
steps = swinsf.read_dat("rec.dat", 24, 32, start=0, stop=50)
opened = swinsf.open_dat(Path("rec.dat"), 24, 32)
recording = swinsf.open_recording("rec.dat", 24, 32)
model = swinsf.build_model("small", channels=8)
model = swinsf.load_model(swinsf.shipped_weights("small"), device="cpu", precision="fp32")
for step, picture in swinsf.pictures("rec.dat", stride=20, model=model):
    level: float = picture[0, 0] / 255
    number: int = step
swinsf.tune()
for made in swinsf.reconstruct(steps, model, stride=20):
    print(made.shape)
for mean in [*swinsf.tfp_pictures(steps, [20]), *swinsf.tfi_pictures(steps, [20])]:
    psnr: float = swinsf.psnr_ssim(mean, mean).psnr
calibration: swinsf.Calibration = swinsf.load_calibration("camera.npz")
pixels = swinsf.look_at_pixels(steps, "camera.npz")
better = swinsf.correct(mean, pixels.maps)
swinsf.save_model(model, "own.pth")
facts = swinsf.inspect(steps)["rates"]
dataset = swinsf.open_dataset("demo")
service = swinsf.Reconstructor("camera", device="cpu", precision="auto", calibration=calibration)
window = service(steps[:41])
try:
    shown = service.recording("rec.dat", stride=1, height=24, width=32)
    sizes: tuple[int, float] = (shown.bin, shown.gain)
    for step, picture in shown:
        print(step, picture.shape, *shown.lines, *shown.warnings, swinsf.__version__)
except swinsf.UserError as error:
    fault: swinsf.Error = error
"""


def test_a_program_with_every_public_name_is_typed(environment, tmp_path):  # noqa: F811
    pytest.importorskip("mypy")
    assert all(f"swinsf.{name}" in PROGRAM for name in swinsf.__all__)
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--python-executable",
        environment / "python",
        "program.py",
    ]
    result = subprocess.run([*map(str, command)], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    (tmp_path / "wrong.py").write_text(PROGRAM + "swinsf.psnr_ssim(1, 2)\n")
    result = subprocess.run(
        [*map(str, command[:-1]), "wrong.py"], cwd=tmp_path, capture_output=True, text=True
    )
    assert "Found 2 errors" in result.stdout, result.stdout
