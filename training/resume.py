"""The state of a run, as a last.pth has it, is set only where it fits the run: the file may be damaged, or
not ours."""

import math

import torch

from swinsf.utils.cli import UserError

MOMENTS = {"step", "exp_avg", "exp_avg_sq"}  # that Adam and AdamW keep of a weight


def restore(state, saved, path):
    """Set an training.state.TrainingState to a state_dict of one. Raises UserError where `saved` is none of a
    run like this one's."""
    own = state.state_dict()  # by all processes, so outside of what may fail in one
    try:
        fault = misfit(state, own, saved)
        if not fault:
            state.load_state_dict(saved)
    except Exception as error:  # the random generators refuse in many ways
        fault = (str(error).splitlines() or [type(error).__name__])[0]
    if fault:
        raise UserError(
            f"{path}: its training state does not fit the run ({fault}); resume from an undamaged last.pth"
        )


def totals_logged(saved, training, path):
    """{loss, pictures} at the last line that was logged of the epoch, of a last.pth's entry; None where it
    has no such entry.

    Raises UserError where they are not from the epoch.
    """
    if saved is None:
        return None
    fits = isinstance(saved, dict) and saved.keys() == {"loss", "pictures"}
    if not fits or not all(
        type(v) in (int, float) and 0 <= v <= training["totals"][name] for name, v in saved.items()
    ):
        raise UserError(
            f"{path}: its entry logged {saved!s:.80} does not fit the run; resume from an undamaged last.pth"
        )
    return saved


def misfit(state, own, saved):
    """Text on the first thing in `saved` that training would stumble on later, or "". own: the state_dict as
    it is."""
    missing = own.keys() - saved.keys()
    if missing:
        return f"{', '.join(sorted(missing))} missing"
    counts = {name: saved[name] for name in ("epoch", "batch", "step")}
    for name, value in counts.items():
        if type(value) is not int or not 0 <= value < 2**31:
            return f"{name} {value!s:.80}"
    if type(saved["best_psnr"]) is not float or math.isnan(saved["best_psnr"]):
        return f"best_psnr {saved['best_psnr']!s:.80}"
    totals = saved["totals"]
    if not isinstance(totals, dict) or totals.keys() != own["totals"].keys():
        return "totals"
    if not all(type(value) in (int, float) and 0 <= value < math.inf for value in totals.values()):
        return f"totals {totals!s:.80}"
    if saved["batch"] and not (totals["pictures"] and totals["seconds"]):
        return f"batch {saved['batch']} without pictures"
    for name in ("model", "ema"):
        if not alike(own[name], saved[name]):
            return name
    return optimizer_misfit(state.optimizer, saved["optimizer"])


def alike(own, saved):
    """Whether both are None, or name -> tensor with the same names and shapes."""
    if own is None or not isinstance(saved, dict):
        return own is saved
    return own.keys() == saved.keys() and all(same_shape(own[name], saved[name]) for name in own)


def same_shape(own, saved):
    return torch.is_tensor(saved) and saved.is_floating_point() and saved.shape == own.shape


def optimizer_misfit(optimizer, saved):
    """`misfit` of the optimiser: its settings are made by the run's flags, and its moments are of its
    weights."""
    own, weights = (
        optimizer.state_dict(),
        [weight for group in optimizer.param_groups for weight in group["params"]],
    )
    if (
        not isinstance(saved, dict)
        or not isinstance(saved.get("state"), dict)
        or not isinstance(saved.get("param_groups"), list)
    ):
        return "optimizer"
    groups = saved["param_groups"]
    if len(groups) != len(own["param_groups"]) or not all(isinstance(group, dict) for group in groups):
        return "optimizer's groups"
    for group, wanted in zip(groups, own["param_groups"]):
        for name in wanted.keys() - {"lr"}:  # which the schedule sets at each step
            if name in group and (type(group[name]) is not type(wanted[name]) or group[name] != wanted[name]):
                return f"optimizer's {name} {group[name]!s:.80}"
    for index, moments in saved["state"].items():
        if (
            type(index) is not int
            or not 0 <= index < len(weights)
            or not isinstance(moments, dict)
            or moments.keys() != MOMENTS
        ):
            return f"optimizer's moments of weight {index!s:.80}"
        step = moments["step"]
        if not torch.is_tensor(step) or step.shape != () or not 0 < step < math.inf:
            return "optimizer's steps"
        if not all(same_shape(weights[index], moments[name]) for name in ("exp_avg", "exp_avg_sq")):
            return "optimizer's moments"
    return ""
