import argparse
import json
import math
import threading
import time

import numpy as np
import pytest
import torch

from swinsf.evaluation.evaluate import BASELINES, evaluate, network
from swinsf.evaluation.metrics import psnr_ssim
from swinsf.models import Reconstruction, SwinSF, SwinSFConfig
from swinsf.models.classical import tfp
from swinsf.training.epoch import Forward, train_one_epoch
from swinsf.training.recipes import (
    RECIPES,
    charbonnier,
    halving,
    make_average,
    make_optimizer,
    reconstruction_loss,
    smooth_l1,
    warmup_cosine,
)
from swinsf.training.state import TrainingState
from swinsf.utils.cli import UserError


def test_the_papers_loss():
    """SmoothL1, beta 1, on grey levels: d^2/2 below 1, |d| - 1/2 above; middle + 0.1 (left + right)."""
    truth = torch.full((1, 1, 4, 4), 100.0)
    pictures = Reconstruction(truth + 0.5, truth + 3, truth - 11)
    batch = {"middle": truth, "left": truth, "right": truth}
    assert reconstruction_loss(pictures, batch, RECIPES["paper"].loss).item() == pytest.approx(
        0.125 + 0.1 * (2.5 + 10.5)
    )


def test_the_loss_on_0_to_1():
    truth = torch.zeros(1, 1, 4, 4)
    assert charbonnier(truth + 51, truth).item() == pytest.approx(math.sqrt(0.04 + 1e-6))


def test_errors_of_a_scene_are_divided_by_the_root_of_its_white():
    truth = torch.full((2, 1, 4, 4), 20.0)
    batch = {
        "middle": truth,
        "left": truth,
        "right": truth,
        "white": torch.tensor([0.25, 1.0], dtype=torch.float64),
    }
    loss = reconstruction_loss(Reconstruction(truth + 3, truth, truth + 6), batch, RECIPES["paper"].loss)
    # At a white of a quarter, errors of 3 and 6 become 6 and 12; smooth L1 is half a level less.
    assert loss.item() == pytest.approx((5.5 + 2.5) / 2 + 0.1 * (11.5 + 5.5) / 2)


def test_a_scene_is_scored_with_its_white_at_255():
    class Dark:
        def __len__(self):
            return 1

        def __getitem__(self, index):
            return {
                "name": "dark",
                "spikes": torch.ones(41, 2, 3),
                "middle": torch.full((1, 2, 3), 20.0),
                "white": 0.25,
            }

    methods = {"grey": lambda spikes, output: torch.full((1, 2, 3), 30.0)}
    ((_, pictures, figures),) = evaluate(
        methods, Dark(), torch.device("cpu"), lambda *both: dict(zip(("ours", "truth"), both))
    )
    assert (figures["grey"]["ours"] == 120).all() and (figures["grey"]["truth"] == 80).all()
    assert (pictures["grey"] == 30).all()  # the picture to show stays dark


def test_no_clamp_removes_the_gradient_above_255():
    picture = torch.full((1, 1, 2, 2), 300.0, requires_grad=True)
    smooth_l1(picture, torch.full((1, 1, 2, 2), 255.0)).backward()
    assert (picture.grad > 0).all()


def test_learning_rates():
    assert [halving(1e-4, 0, epoch, 1) for epoch in (0, 299, 300, 600, 899)] == [
        1e-4,
        1e-4,
        5e-5,
        2.5e-5,
        2.5e-5,
    ]
    rates = [warmup_cosine(1e-3, step, 0, 2000) for step in range(2000)]
    assert rates[0] == pytest.approx(1e-5) and rates[99] == rates[100] == pytest.approx(1e-3)
    assert rates[100:] == sorted(rates[100:], reverse=True)
    assert rates[-1] == pytest.approx(1e-5, rel=0.01)


def test_a_recipes_record_describes_its_moving_average():
    record = RECIPES["modern"].describe()
    decay = make_average(torch.nn.Linear(1, 1), RECIPES["modern"]).get_decay(3500)
    assert decay == pytest.approx(0.9957, abs=5e-5)
    assert (
        f"{1 / (1 - decay):.0f} at step 3500" in record["ema_over"] and "1000 at most" in record["ema_over"]
    )
    assert RECIPES["paper"].describe()["ema_over"] is None and make_average(None, RECIPES["paper"]) is None
    assert json.loads(json.dumps(record)) == {**record, "betas": [0.9, 0.999]}


def test_weight_decay_leaves_out_biases_norms_and_kernels():
    model = SwinSF(SwinSFConfig(channels=4, depths=(1,), tsa="paper", skip="motion"))
    settings = argparse.Namespace(recipe="modern", lr=1e-3, weight_decay=0.1)
    decay, keep = make_optimizer(model, settings).param_groups
    names = {id(p): name for name, p in model.named_parameters()}
    assert (decay["weight_decay"], keep["weight_decay"]) == (0.1, 0.0)
    assert all(names[id(p)].endswith(".weight") for p in decay["params"])
    assert "segment_scores" in {names[id(p)] for p in keep["params"]}
    assert len(decay["params"]) + len(keep["params"]) == len(names)


def packed(count=1, seed=0):
    """Spikes of `count` samples of 20x20, packed as by `Augmented`."""
    spikes = np.random.default_rng(seed).random((count, 41, 20, 20)) < 0.3
    return torch.from_numpy(np.packbits(spikes, axis=1))


class TwoItems:
    def __len__(self):
        return 2

    def __getitem__(self, index):
        spikes = (torch.rand(41, 20, 24, generator=torch.Generator().manual_seed(index)) < 0.3).float()
        return {
            "name": str(index),
            "spikes": spikes,
            ("middle", "left")[index]: torch.full((1, 20, 24), 128.0),
        }


def test_evaluate_scores_the_output_that_has_a_picture():
    torch.manual_seed(0)
    model = SwinSF(SwinSFConfig(channels=4, depths=(1,), tsa="paper", skip="motion")).eval()
    data, cpu = TwoItems(), torch.device("cpu")
    rows = [
        *evaluate(
            {**BASELINES, "SwinSF": network(model)}, data, cpu, lambda *both: psnr_ssim(*both)._asdict()
        )
    ]
    assert [item["name"] for item, _, _ in rows] == ["0", "1"]
    for index, key_frame in enumerate((20, 13)):
        expected = tfp(data[index]["spikes"], key_frame, 21).numpy()
        _, pictures, figures = rows[index]
        np.testing.assert_allclose(pictures["TFP21"], expected, rtol=1e-5)
        with torch.inference_mode():
            shown = model(data[index]["spikes"][None])[index][0, 0].numpy()  # middle, left
        np.testing.assert_allclose(pictures["SwinSF"], shown, rtol=1e-4, atol=1e-3)
        assert figures["TFP21"]["psnr"] == psnr_ssim(expected, np.full((20, 24), 128.0)).psnr
        assert figures["SwinSF"]["seconds"] > 0


class Streams:
    """Seven streams of two sizes; the fifth and the sixth have a left picture."""

    def __len__(self):
        return 7

    def __getitem__(self, index):
        spikes = (
            torch.rand(41, 20, 30 if index == 2 else 24, generator=torch.Generator().manual_seed(index)) < 0.3
        ).float()
        output = "left" if index in (4, 5) else "middle"
        return {"name": str(index), "spikes": spikes, output: torch.full((1, *spikes.shape[1:]), 128.0)}


def test_batches_and_threads_change_neither_figures_nor_order():
    torch.manual_seed(0)
    sizes, scoring = [], set()

    def counted(spikes, output):
        sizes.append(len(spikes))
        return BASELINES["TFP21"](spikes, output)

    def score(picture, truth):
        scoring.add(threading.current_thread())
        time.sleep(0.02 * np.random.rand())  # the first to start is not the first to finish
        return psnr_ssim(picture, truth)._asdict()

    def run(**options):
        sizes.clear()
        scoring.clear()
        rows = [
            *evaluate(
                {"TFP21": counted, "TFI": BASELINES["TFI"]}, Streams(), torch.device("cpu"), score, **options
            )
        ]
        return [(item["name"], {name: (p, figures[name]["psnr"], figures[name]["ssim"]) for name, p in pictures.items()})
                for item, pictures, figures in rows]  # fmt: skip

    alone = run()
    assert (
        [name for name, _ in alone] == [*"0123456"]
        and sizes == [1] * 7
        and scoring == {threading.main_thread()}
    )
    for options, expected in (
        ({"pixels": 480}, [1] * 7),
        ({"pixels": 2 * 480}, [2, 1, 1, 2, 1]),
        ({"scorers": 3}, [1] * 7),
        ({"pixels": 10**6, "scorers": 3}, [2, 1, 1, 2, 1]),
    ):
        rows = run(**options)
        assert sizes == expected and (threading.main_thread() not in scoring) == ("scorers" in options)
        for (name, one), (other_name, other) in zip(alone, rows):
            assert name == other_name and one.keys() == other.keys()
            assert all(one[m][1:] == other[m][1:] and np.array_equal(one[m][0], other[m][0]) for m in one)


def test_seconds_exclude_scoring(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("swinsf.evaluation.evaluate.time.perf_counter", lambda: clock[0])

    def taking(seconds, result):
        clock[0] += seconds
        return result

    methods = {"grey": lambda spikes, output: taking(2.0, torch.zeros(1, 20, 24))}
    rows = evaluate(
        methods, TwoItems(), torch.device("cpu"), lambda picture, truth: taking(100.0, {"psnr": 0.0})
    )
    assert [figures["grey"]["seconds"] for _, _, figures in rows] == [2.0, 2.0]


@pytest.mark.parametrize("poison", ["loss", "gradient"])
def test_non_finite_values_stop_the_run_before_they_reach_the_weights(poison):
    torch.manual_seed(0)
    model = SwinSF(SwinSFConfig(channels=4, depths=(1,), patch=4, tsa="paper", skip="motion", drop_path=0.0))
    settings = argparse.Namespace(recipe="paper", lr=1e-3, weight_decay=0.0, amp=False, accumulate=1)
    state = TrainingState(model, make_optimizer(model, settings))

    def batch(name):
        pictures = {key: torch.full((1, 1, 20, 20), 100.0) for key in ("middle", "left", "right")}
        return {"name": [name], "weight": torch.ones(1), "spikes": packed(seed=0), **pictures}

    batches = [batch("good"), batch("fine"), batch("evil"), batch("never seen")]
    if poison == "loss":
        batches[2]["left"][0, 0, 3, 3] = math.nan
    kept = []

    def after_step():
        kept.append({name: value.clone() for name, value in model.state_dict().items()})
        if poison == "gradient" and len(kept) == 2:
            model.conv_last[0].bias.register_hook(lambda gradient: gradient * math.inf)
        return False

    with pytest.raises(UserError, match=r"step 2, epoch 1, batch 2: evil"):
        train_one_epoch(state, Forward(model), batches, settings, 4, torch.device("cpu"), after_step)
    assert len(kept) == 2
    assert all(torch.equal(value, kept[-1][name]) for name, value in model.state_dict().items())
