import pytest
import torch

from swinsf.models import checkpoint, load_model
from swinsf.training.ship import main
from swinsf.utils.cli import UserError


@pytest.mark.parametrize(
    ("path", "kept"), [("photos:/home/me/photos", "photos:photos"), ("/data/spike_reds", "spike_reds")]
)
def test_shipped_weights_are_half_precision_without_local_folders(tiny_weights, tmp_path, path, kept):
    run = checkpoint.load(tiny_weights)
    settings = {"dataset_path": path, "load_model": "/home/me/a.pth", "save_path": "checkpoint", "seed": 3}
    run |= {"settings": settings, "samples": "abc", "step": 7, "best_psnr": 30.0}
    checkpoint.save(run, tmp_path / "best.pth")
    main([str(tmp_path / "best.pth"), str(tmp_path / "small.pth")])
    shipped = checkpoint.load(tmp_path / "small.pth")
    assert shipped["settings"] == {**settings, "dataset_path": kept, "load_model": "a.pth"}
    assert shipped["step"] == 7 and "samples" not in shipped
    assert {value.dtype for value in shipped["model"].values()} == {torch.float16}
    for name, weight in load_model(tmp_path / "small.pth", "cpu").state_dict().items():
        assert torch.equal(weight, run["model"][name].half().float()), name
    with pytest.raises(UserError, match="already exists"):
        main([str(tmp_path / "best.pth"), str(tmp_path / "small.pth")])
