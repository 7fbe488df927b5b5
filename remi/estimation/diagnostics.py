"""Reasons to doubt an estimate, in words, each with the number that raised it."""

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from torch import Tensor, inf

from remi.estimation.columns import FEW, Column
from remi.estimation.crossfit import LOOK_EVERY, Plan, Trained, pool
from remi.estimation.questions import BLOCK
from remi.losses import Scores, estimators


def readings(held_out: Scores, seen: Scores, plan: Plan) -> dict[str, float]:
    """What else the held-out scores say, and what the bound reads on the training rows, `seen`; in nats but for the share."""
    centre = held_out.log_mean_exp().mean()
    spread, share = _second_term(held_out)
    found = {
        "training rows": pool(plan.bound, plan.read(seen)),
        "Donsker-Varadhan": pool("mine", estimators.mine(held_out)),
        "NWJ": pool("nwj", estimators.nwj(held_out.map(lambda t: t - centre + 1))),
        "second term sd": float(spread.mean()) / math.sqrt(len(spread)),
        "largest share": float(share.max()) / len(share),
    }
    return found | ({"InfoNCE": pool("infonce", estimators.infonce(held_out))} if held_out.rowwise else {})


def _second_term(scores: Scores) -> tuple[Tensor, Tensor]:
    """Standard deviation (folds,) of log mean exp, and the largest share of one pair in it.

    The pairs of a matrix are as good as independent at the best critic, up to the swap of the two members (factor 2).
    """
    values = scores.marginal if scores.marginal_mask is None else scores.marginal.masked_fill(~scores.marginal_mask, -inf)
    weights = values.flatten(1).double().softmax(-1)
    squares = weights.square().sum(-1) - 1 / weights.shape[-1]
    return ((2 if scores.rowwise else 1) * squares).clamp_min(0).sqrt(), weights.amax(-1)


def diagnose(
    value: float, half: float, readings: Mapping[str, float], trained: Trained, plan: Plan, columns: Sequence[Column], rows: int
) -> Iterator[str]:
    """Reasons to doubt a value.

    Args:
        value: the pooled held-out value.
        half: half width of its sampling error.
        readings: of the same critics, see `readings`.
        trained: the critics.
        plan: how they were trained.
        columns: what they were trained on.
        rows: of the smallest sample.

    Yields:
        A sentence for each, with the number that raised it.
    """
    history = trained.history
    diverged = int((history["diverged_at"] >= 0).sum())
    if diverged:
        yield f"{diverged} of {plan.runs} critics diverged; what counts is their best look before that."
    if bool(trained.idle.all()):
        yield f"No critic reads more than T = 0 does on its validation rows: {rows} rows show no dependence."
    elif value + half < 0:
        yield (
            f"The value, {value:.3f}, is below 0 by more than its sampling error, {half:.3f}: the critics read less than T = 0 "
            f"would, so that they were trained too little, or on too few rows."
        )
    elif value - half <= 0:
        yield f"The value, {value:z.3f}, is within its sampling error of 0, {half:.3f}: no dependence is shown."
    late = int((history["best_step"] >= history["step"][-1] - LOOK_EVERY).sum()) if len(history["step"]) > 1 else 0
    if history["step"][-1] >= plan.steps and late > plan.runs / 2:
        yield f"{late} of {plan.runs} critics were still improving at the last of {plan.steps} steps: the value may be low."
    gap = readings["training rows"] - value
    if gap > max(half, 0.05 * abs(value)):
        yield (
            f"The critics read {readings['training rows']:.3f} on their training rows and {value:z.3f} on rows they have not "
            f"seen: with {rows} rows the value may be low, by about half of the difference."
        )
    if plan.family == "infonce":
        limit = math.log(min(BLOCK, rows // plan.folds))
        if value > limit - 1:
            yield f"InfoNCE reads at most log {round(math.exp(limit))} = {limit:.2f} nats here, and {value:.2f} is close to it."
    if value > math.log(rows) - 1:
        yield f"{value:.2f} nats is near log {rows} = {math.log(rows):.2f}: no lower bound from {rows} rows can show much more."
    second = readings["second term sd"]
    if second > max(0.05, 0.05 * abs(value)):
        yield (
            f"The second term alone has a standard deviation of about {second:.2f} nats at {value:.2f} nats and {rows} rows "
            f"(its variance grows at least as exp(value)): too few rows for this value."
        )
    if readings["largest share"] > 0.05:
        yield f"One pair carries {readings['largest share']:.0%} of the second term: the value hangs on few rows."
    moved = float(np.abs(trained.history["normalizer"][:, -1]).max())
    if plan.bound in ("mine", "smile") and moved > 1:
        yield f"The offset of the critics drifted by up to {moved:.1f} nats, and was taken out: re{plan.bound} holds it."
    others = {name: v for name, v in readings.items() if name in ("Donsker-Varadhan", "NWJ", "InfoNCE")}
    high = max(others, key=lambda name: others[name])
    if others[high] - value > 2 * half + 0.02 * abs(value):
        yield f"The same held-out scores read {others[high]:.3f} as {high} and {value:z.3f} as {plan.bound}: the bounds disagree."
    copies, by_chance = _repeats(columns)
    if copies > max(rows / 100, 10 * by_chance):
        yield (
            f"{copies} of {rows} rows repeat another: if they are copies of it, critics have seen rows that they are read on, "
            f"and the value may be too high."
        )
    few = [c.name for c in columns if not c.discrete and len(np.unique(c.values[:100_000])) <= FEW]
    if few:
        yield f"At most {FEW} different numbers in {', '.join(few)}: if they are codes, name them in discrete."


def _repeats(columns: Sequence[Column]) -> tuple[int, float]:
    """Rows that repeat another, and how many would if columns were independent."""
    n, meet = len(columns[0].values), 1.0
    for column in columns:
        meet *= float(np.square(np.unique(column.values, return_counts=True)[1] / n).sum())
    return n - len(np.unique(np.stack([c.values for c in columns], 1), axis=0)), n * (n - 1) / 2 * meet
