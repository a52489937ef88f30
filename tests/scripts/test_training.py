"""Training: precision, average, clipping, stochastic depth, learning rate, validation data."""

from unittest import mock

import numpy as np
import pytest
import torch

import train
from swinsf.datasets.augment import DRAWS
from swinsf.models import VARIANTS, SwinSF, SwinSFConfig, checkpoint, fast
from swinsf.training import validation
from swinsf.training.data import open_data
from swinsf.training.epoch import Forward, train_one_epoch
from swinsf.training.recipes import RECIPES, make_average, make_optimizer, reconstruction_loss, warmup_cosine
from swinsf.training.run import RunFolder
from swinsf.training.settings import new_settings, parse_settings
from swinsf.training.start import fresh_model
from swinsf.training.state import TrainingState
from swinsf.training.validation import finish_epoch, validate
from swinsf.utils.cli import UserError
from tests.conftest import quick, read_log, write_reds

CPU = torch.device("cpu")
TINY = SwinSFConfig(channels=4, depths=(1,), patch=4, tsa="paper", skip="motion", drop_path=0.0)


def settings_of(*flags):
    return new_settings(*parse_settings(flags))


def make_state(*flags):
    """(a TrainingState of a tiny network, settings) of a new run under the modern recipe."""
    torch.manual_seed(0)
    settings = settings_of("--recipe", "modern", *flags)
    model, recipe = SwinSF(TINY), RECIPES[settings.recipe]
    return TrainingState(model, make_optimizer(model, settings), make_average(model, recipe)), settings


def batches(count, bright=100.0):
    """`count` batches of one sample, random spikes with flat pictures."""
    for index in range(count):
        spikes = np.random.default_rng(index).random((1, 41, 20, 20)) < 0.3
        pictures = {key: torch.full((1, 1, 20, 20), bright) for key in ("middle", "left", "right")}
        packed = torch.from_numpy(np.packbits(spikes, axis=1))
        yield {"name": [str(index)], "weight": torch.ones(1), "spikes": packed, **pictures}


def train_on(state, settings, count, after_step=lambda: False, total_steps=1000):
    train_one_epoch(
        state, Forward(state.model, settings.amp), [*batches(count)], settings, total_steps, CPU, after_step
    )


def test_amp_computes_in_bfloat16(photos, tiny_weights, tmp_path, monkeypatch):
    seen, forward = [], fast.forward

    def spy(*arguments):
        seen.append((torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")))
        with torch.autocast("cpu", enabled=False):  # bfloat16 products kill the process on some machines
            return forward(*arguments)

    monkeypatch.setattr(fast, "forward", spy)
    monkeypatch.setattr(fast, "bfloat16_is_fast", lambda device: True)
    modern = ["--recipe", "modern"]
    for name, flags in (
        ("amp", ["--amp"]),
        ("auto", modern),
        ("plain", ["--recipe", "paper"]),
        ("off", [*modern, "--no-amp"]),
    ):
        assert (
            train.main(
                quick(photos, tiny_weights, tmp_path, name, "--max_steps", "1", "--workers", "0", *flags)[1:]
            )
            == 0
        )
    assert seen[:2] == [(True, torch.bfloat16)] * 2
    assert [on for on, _ in seen[2:]] == [False, False]


def test_the_average_warms_up():
    """After step n the decay is 1 - n^(-2/3): after the first step, the average equals the weights, and early
    weights are soon forgotten."""
    state, settings = make_state()
    expected = {}

    def after_step():
        decay = min(0.999, 1 - state.step ** (-2 / 3))
        for name, value in state.model.state_dict().items():
            expected[name] = decay * expected.get(name, value) + (1 - decay) * value

    train_on(state, settings, 5, after_step)
    assert state.step == 5
    for name, value in state.averaged.state_dict().items():
        torch.testing.assert_close(value, expected[name])
    assert not torch.equal(state.averaged.segment_scores, state.model.segment_scores)


def test_the_loss_of_an_epoch_is_the_mean_over_its_pictures():
    """A batch of two samples, and one of a single sample, whose second piece is empty and has weight 0."""
    state, settings = make_state("--accumulate", "2", "--lr", "1e-12")
    samples = [next(batches(1, bright)) for bright in (50.0, 100.0, 200.0)]
    forward = Forward(state.model)
    with torch.no_grad():
        losses = [
            reconstruction_loss(forward(sample["spikes"]), sample, RECIPES["modern"].loss).item()
            for sample in samples
        ]
    weights = (0.5, 0.5, 1.0, 0.0)
    pieces = [
        {**sample, "weight": torch.tensor([weight])}
        for sample, weight in zip([*samples, samples[0]], weights)
    ]
    train_one_epoch(state, forward, pieces, settings, 2, CPU)
    assert state.totals["pictures"] == 3 and state.totals["loss"] == pytest.approx(sum(losses), rel=1e-5)


class OneItem:
    def __len__(self):
        return 1

    def __getitem__(self, index):
        spikes = torch.from_numpy(np.random.default_rng(0).random((41, 20, 20)) < 0.3).to(torch.uint8)
        return {"name": "one", "spikes": spikes, "middle": torch.full((1, 20, 20), 100.0)}


def test_validation_and_best_pth_use_the_averaged_weights(tmp_path):
    state, settings = make_state("--workers", "0")
    (means, _), files = (
        validate(state, OneItem(), settings, CPU, lambda: False),
        RunFolder(tmp_path, {"config": {}}, state),
    )
    with torch.no_grad():
        state.model.conv_last[0].bias.add_(50)
    assert validate(state, OneItem(), settings, CPU, lambda: False)[0] == means
    files.keep_best()
    files.save()
    best = checkpoint.load(tmp_path / "best.pth")["model"]["conv_last.0.bias"]
    assert torch.equal(best, state.averaged.conv_last[0].bias) and not torch.equal(
        best, state.model.conv_last[0].bias
    )
    with torch.no_grad():
        state.averaged.conv_last[0].bias.add_(50)
    brighter, comparison = validate(state, OneItem(), settings, CPU, lambda: False)
    assert brighter["psnr"] < means["psnr"] - 1
    by_tfp, by_network, truth = np.split(comparison.astype(float), 3, axis=2)
    assert comparison.shape == (1, 20, 60) and (truth == 100).all()
    assert by_network.mean() > by_tfp.mean() + 40  # with the averaged weights, too
    assert validate(state, OneItem(), settings, CPU, lambda: True) is None


def test_best_pth_comes_from_the_epoch_with_the_best_psnr(monkeypatch):
    state, settings = make_state()
    state.totals = {"loss": 1.0, "pictures": 1, "seconds": 1.0}
    files, kept = mock.Mock(keep_best=lambda: kept.append(state.best_psnr)), []
    for psnr in (20.0, 22.0, 21.0, 23.0):
        monkeypatch.setattr(validation, "validate", lambda *_, psnr=psnr: ({"psnr": psnr}, None))
        assert finish_epoch(state, files, OneItem(), settings, CPU, lambda: False)
    assert kept == [20.0, 22.0, 23.0]


def test_validation_has_a_figure_for_each_kind():
    """The network also gets the calibration: without it, the second kind would have a large error."""
    state, settings = make_state("--workers", "0")
    spikes = torch.from_numpy(np.random.default_rng(0).random((41, 60, 60)) < 0.3).to(torch.uint8)
    item = {"name": "one", "spikes": spikes, "middle": torch.full((1, 60, 60), 127.5), "white": 1.0}
    ones = torch.ones(1, 60, 60)
    plain = {**item, "kind": "plain", "dark": 0 * ones, "response": ones}
    halved = {
        **item,
        "kind": "calibrated",
        "middle": torch.full((1, 60, 60), 51.0),
        "dark": 0.1 * ones,
        "response": 5 / 3 * ones,
    }
    means, _ = validate(state, [plain, halved, plain], settings, CPU, lambda: False)
    assert list(means) == ["psnr", "ssim", "loss", "psnr_plain", "psnr_calibrated"]
    assert means["psnr"] == pytest.approx((2 * means["psnr_plain"] + means["psnr_calibrated"]) / 3)
    # The same noise, divided by 5 / 3, around the mean of (0.3 - 0.1) / (5 / 3) spikes a step.
    assert means["psnr_calibrated"] - means["psnr_plain"] == pytest.approx(20 * np.log10(5 / 3), abs=0.5)


@pytest.mark.parametrize("recipe, largest", [("modern", 1.0), ("paper", None)])
def test_the_modern_recipe_clips_the_gradient(recipe, largest):
    state, settings = make_state("--recipe", recipe)
    state.model.conv_last[0].bias.register_hook(lambda gradient: 1000 * gradient)
    train_on(state, settings, 1)
    norm = torch.nn.utils.get_total_norm([p.grad for p in state.model.parameters() if p.grad is not None])
    assert norm.item() == pytest.approx(1.0, rel=1e-3) if largest else norm > 10


def test_each_step_has_its_own_learning_rate():
    state, settings = make_state("--lr", "0.01")
    seen = []
    state.optimizer.register_step_pre_hook(
        lambda optimizer, *_: seen.append({g["lr"] for g in optimizer.param_groups})
    )
    train_on(state, settings, 4, total_steps=40)
    assert seen == [{warmup_cosine(0.01, step, 0, 40)} for step in range(4)]
    assert seen[0] == {0.01 / 4}  # warm-up over 4 steps


def test_stochastic_depth_grows_over_the_blocks_and_is_drawn_for_each_branch():
    """Compared with many passes over one sample: a block drops each of its branches independently."""
    network = SwinSF(SwinSFConfig(channels=4, depths=(3, 2), patch=4, drop_path=0.4))
    assert [block.drop_path.drop_prob for block in network.blocks] == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])
    assert VARIANTS["250"].drop_path == VARIANTS["1000"].drop_path == 0.1
    torch.manual_seed(0)
    model = (
        SwinSF(SwinSFConfig(channels=4, depths=(2,), patch=4, tsa="paper", drop_path=0.5)).double().train()
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0.05, 0.2)
    x = (
        torch.from_numpy(np.random.default_rng(0).random((1, 41, 20, 20)) < 0.3)
        .double()
        .expand(256, -1, -1, -1)
    )
    with torch.no_grad():
        pictures = model(x)
    # Only the second block drops branches: the MLP in each stream, and attention in the middle one. The
    # middle picture depends on all three streams.
    kinds = {
        output: len(getattr(pictures, output).sum((1, 2, 3)).mul(1e6).round().unique())
        for output in pictures._fields
    }
    assert kinds == {"left": 2, "right": 2, "middle": 16}


def test_validation_is_on_other_photographs_and_scenes(photos, tmp_path):
    training, val, _ = open_data(settings_of("--dataset_path", f"photos:{photos}", "--crop_size", "20"))
    assert training.split == "train" and val.split == "val"
    assert training.sources and val.sources and not {*training.sources} & {*val.sources}
    data = write_reds(tmp_path / "reds", train=3)
    training, val, _ = open_data(settings_of("--dataset_path", str(data)))
    assert len(training) == 2 and len(val) == 1 and not {*training.names} & {*val.names}
    (data / "train").rename(data / "val")
    write_reds(data, train=2)
    training, val, _ = open_data(settings_of("--dataset_path", str(data)))
    assert (len(training), len(val)) == (2, 3) and all("/val/" in str(path) for path in val.files)


def test_the_papers_network_is_the_default():
    """Variants 250 and 1000 are as in the paper, small is ours; --tsa and --skip override them."""
    for flags, tsa, skip in (
        ([], "paper", "none"),
        (["--data_mode", "1000"], "paper", "none"),
        (["--variant", "small"], "paper", VARIANTS["small"].skip),
        (["--tsa", "released", "--skip", "motion"], "released", "motion"),
    ):
        settings = settings_of(*flags, "--architecture", "channels=4", "depths=1,")
        config = fresh_model(settings).config
        assert (config.tsa, config.skip) == (settings.tsa, settings.skip) == (tsa, skip)
    # the options for released files
    assert (SwinSFConfig().tsa, SwinSFConfig().skip) == ("released", "none")


def test_a_run_of_an_older_version_is_refused(photos, tiny_weights, tmp_path):
    """It drew its order, crops and scenes differently; config.json records how this version draws them."""
    assert (
        train.main(quick(photos, tiny_weights, tmp_path, "run", "--max_steps", "1", "--workers", "0")[1:])
        == 0
    )
    path = tmp_path / "run/last.pth"
    contents = checkpoint.load(path)
    assert contents.pop("draws") == DRAWS
    checkpoint.save(contents, path)
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"last\.pth: from an older version .* --load_model"):
        train.main(["--resume_path", str(path)])
    assert path.read_bytes() == before


def test_workers_persist_over_the_epochs(photos, tiny_weights, tmp_path, monkeypatch):
    """One loader for all epochs gives the same samples as one loader per epoch."""
    made, make_loader = [], train.make_loader
    monkeypatch.setattr(
        train, "make_loader", lambda *args, **options: made.append(make_loader(*args, **options)) or made[-1]
    )
    options = ["--epoch_length", "4", "--epochs", "3"]
    for name, workers in (("one", "1"), ("none", "0")):
        assert (
            train.main(quick(photos, tiny_weights, tmp_path, name, *options, "--workers", workers)[1:]) == 0
        )
    assert [loader.persistent_workers for loader in made] == [True, False]
    logs = [
        [(line["step"], line["train_loss"]) for line in read_log(tmp_path / name)] for name in ("one", "none")
    ]
    assert logs[0] == logs[1] and [step for step, _ in logs[0]] == [2, 4, 6]


def test_a_step_waits_for_the_device_once(monkeypatch):
    """Loss, norm and count are read as one list; nothing else reads a number from a tensor."""
    state, settings = make_state()
    reads, tolist, item = [], torch.Tensor.tolist, torch.Tensor.item
    monkeypatch.setattr(torch.Tensor, "tolist", lambda tensor: reads.append("tolist") or tolist(tensor))
    monkeypatch.setattr(torch.Tensor, "item", lambda tensor: reads.append("item") or item(tensor))
    monkeypatch.setattr(torch.Tensor, "__bool__", lambda tensor: reads.append("bool") or bool(item(tensor)))
    # it reads its step count, which is on the CPU
    monkeypatch.setattr(state.optimizer, "step", lambda: None)
    train_on(state, settings, 3)
    assert reads == ["tolist"] * 3
