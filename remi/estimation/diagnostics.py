"""Reasons to doubt an estimate, in words, each with the number that raised it."""

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch

from remi.estimation.columns import FEW, Array, Column
from remi.estimation.crossfit import LOOK_EVERY, Trained, pool
from remi.estimation.limits import second_term
from remi.estimation.order import Memory
from remi.estimation.plan import Plan
from remi.estimation.questions import BLOCK, Question
from remi.losses import Scores, estimators

INFLATED = 1.5  # rows that count as one, from which on it is said
HEAVY = 0.5  # share of a column's variance in a thousandth of its rows
UNMET = 0.02  # share of P's rows where Q has none
MANY = 0.2  # share of different rows below which copies are repeated measurements
SELDOM = 0.9  # share of different values in a column whose values do not repeat by themselves
Z = 1.645  # of a normal distribution, one-sided 5%


def readings(held_out: Scores, plan: Plan) -> dict[str, float]:
    """The held-out bound, and what else the same scores say; in nats but for the share."""
    centre = held_out.log_mean_exp().mean()
    spread, share = second_term(held_out)
    found = {
        "held-out bound": pool(plan.report(held_out), plan.pooled),
        "Donsker-Varadhan": pool(estimators.mine(held_out), True),
        "NWJ": pool(estimators.nwj(held_out.map(lambda t: t - centre + 1)), False),
        "second term sd": float(spread.mean()) / math.sqrt(len(spread)),
        "largest share": float(share.max()) / len(share),
    }
    return found | ({"InfoNCE": pool(estimators.infonce(held_out), False)} if held_out.rowwise else {})


def hidden(question: Question) -> float:
    """The divergence, in nats, that rows show 19 times of 20 where it is linear, or any table of two discrete columns.

        (z sqrt(2 f) + 2 z^2) / n,    z = 1.645, f the coefficients that there are

    A likelihood-ratio test at 5% has that power there: 2 n times the divergence is the non-centrality of a chi-square with f
    degrees of freedom, about normal. Less may be hidden in n rows.
    """
    rows = question.sizes[0] if len(question.sizes) == 1 else 1 / sum(1 / n for n in question.sizes)
    return (Z * math.sqrt(2 * question.freedom) + 2 * Z**2) / rows


def diagnose(
    value: float,
    bound: float,
    half: float,
    gap: float,
    readings: Mapping[str, float],
    trained: Trained,
    plan: Plan,
    columns: Sequence[Column],
    rows: int,
    unseen: float,
) -> Iterator[str]:
    """Reasons to doubt a value.

    Args:
        value: what is reported.
        bound: the pooled held-out bound, without what was added for more rows.
        half: half width of its sampling error.
        gap: what the trained critics read more on rows that they have seen, times their weight.
        readings: of the same critics, see `readings`.
        trained: the critics.
        plan: how they were trained.
        columns: what they were trained on.
        rows: of the smallest sample.
        unseen: what could be hidden, the upper end of an interval that holds 0; 0 where something is shown.

    Yields:
        A sentence for each, with the number that raised it.
    """
    history = trained.history
    diverged = int((history["diverged_at"] >= 0).sum())
    if diverged:
        yield f"{diverged} of {plan.runs} critics diverged; what counts is their best look before that."
    if bool(trained.mixture.idle.all()):
        yield (
            f"No critic reads more than T = 0 does on its validation rows: {rows} rows show no dependence, and up to "
            f"{unseen:.3f} nats of it could be hidden."
        )
    elif value + half < 0:
        yield (
            f"The value, {value:.3f}, is below 0 by more than its sampling error, {half:.3f}: the critics read less than T = 0 "
            f"would, so that they were trained too little, or on too few rows. It says nothing about the divergence."
        )
    elif unseen:
        yield (
            f"The value, {value:z.3f}, is not told from 0: no dependence is shown, and up to {unseen:.3f} nats could be hidden."
        )
    if "table" in readings and readings["table"] > value + 2 * half + gap:
        yield (
            f"{rows} rows are few for the table of these columns, which reads {readings['table']:.3f} itself, too high: "
            f"dependence up to that is not excluded."
        )
    late = int((history["best_step"] >= history["step"][-1] - LOOK_EVERY).sum()) if len(history["step"]) > 1 else 0
    if history["step"][-1] >= plan.steps and late > plan.folds / 2:
        yield (
            f"The critics of {late} of {plan.folds} folds were still improving at the last of {plan.steps} steps: the value may "
            f"be low."
        )
    if gap > max(half, 0.05 * abs(value)):
        yield (
            f"The trained critics read {readings['training rows']:.3f} on their training rows and "
            f"{readings['trained critics']:z.3f} on rows they have not seen: with {rows} rows the bound may be low, by about "
            f"half of the difference."
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
    if others[high] - bound > 2 * half + 0.02 * abs(bound):
        yield f"The same held-out scores read {others[high]:.3f} as {high} and {bound:z.3f} as {plan.bound}: the bounds disagree."
    copies = _copies(columns)
    if copies > len(columns[0].values) / 100:
        yield (
            f"{copies} of {len(columns[0].values)} rows repeat another: if they are copies of it, critics have seen rows that "
            f"they are read on, and the value may be too high."
        )
    few = [c.name for c in columns if not c.discrete and len(np.unique(c.values[:100_000])) <= FEW]
    if few:
        yield f"At most {FEW} different numbers in {', '.join(few)}: if they are codes, name them in discrete."


def doubts(columns: Sequence[Column], transform: str, remembered: Memory, plan: Plan) -> Iterator[str]:
    """Reasons that lie in the rows themselves, whatever was read from them."""
    rows = len(columns[0].values)
    if not plan.series and remembered.inflation > INFLATED:
        yield (
            f"Rows that follow each other resemble each other, for about {remembered.length} rows: they count as one in "
            f"{remembered.inflation:.1f}, and chance alone makes series look alike. If the order is time, ask with series=True; "
            f"if the table was sorted, it says nothing, and shuffled rows give this value without this sentence."
        )
    for column in columns:
        if transform != "rank" and not column.discrete:
            squares = np.square((column.values - np.median(column.values)) / np.abs(column.values).max())
            few = max(1, rows // 1000)
            share = np.sort(squares)[-few:].sum() / squares.sum()
            if share > HEAVY:
                yield (
                    f"{few} of {rows} rows carry {share:.0%} of the variance of {column.name}: its tails are heavy, and critics "
                    f"see little of the rest; transform='rank' tames them."
                )


def unmet(samples: Sequence[tuple[Column, Column]]) -> Iterator[str]:
    """Rows of P where Q has none: there the divergence is infinite, or as large as few rows of Q cannot say."""
    for p, q in samples:
        if p.discrete:
            alone, what = ~np.isin(p.values, q.values), "levels that no row of q has"
        else:
            alone, what = (p.values < q.values.min()) | (p.values > q.values.max()), "values outside of all that q has"
        if alone.mean() > UNMET:
            yield (
                f"{alone.mean():.0%} of p's rows have, in {p.name}, {what}: the divergence may be infinite, and the value says "
                f"only that it is not small."
            )


def table_reading(question: Question) -> dict[str, float]:
    """The plug-in value of the table of two discrete columns, which is biased upwards: what few rows per cell cannot exclude."""
    levels = getattr(question, "levels", None)
    return {} if levels is None else {"table": plug_in(*levels)}


def plug_in(x: torch.Tensor, y: torch.Tensor) -> float:
    """Mutual information of a table of codes (n,) as the rows have it."""
    wide = int(y.max()) + 1
    shares = [torch.bincount(codes).double() / len(codes) for codes in (x, y, x * wide + y)]
    first, second, both = (float(-torch.special.xlogy(share, share).sum()) for share in shares)
    return first + second - both


def _copies(columns: Sequence[Column]) -> int:
    """Rows that repeat another, where that is no chance: where few values repeat anyway, it is.

    Whichever column is left out, most rows that agree in the others agree in it. Or some column of numbers has hardly a value
    twice otherwise, and rows that share its value share the other columns' more often than any two rows do, by two standard
    deviations.
    """
    n = len(columns[0].values)
    codes = [np.unique(column.values, return_inverse=True)[1] for column in columns]
    known = [int(code.max()) + 1 for code in codes]
    if n in known or len(columns) == 1:
        return 0
    different, both = _distinct(codes)
    if different <= n * MANY or different == n:
        return 0
    without = [_distinct([code for other, code in enumerate(codes) if other != place])[1] for place in range(len(codes))]
    if max(without) < 2 * both:
        return n - different
    numbers = [place for place, column in enumerate(columns) if not column.discrete]
    if not numbers or max(known[place] for place in numbers) <= SELDOM * different:
        return 0
    freshest = max(numbers, key=lambda place: known[place])
    shared, chance = _distinct([codes[freshest]])[1], without[freshest] / (n * (n - 1) / 2)
    return n - different if both > shared * chance + 2 * math.sqrt(shared * chance * (1 - chance)) else 0


def _distinct(codes: Sequence[Array]) -> tuple[int, int]:
    """Different rows of these columns, and pairs of rows that are equal."""
    counts = np.unique(np.stack(codes, 1), axis=0, return_counts=True)[1]
    return len(counts), int((counts * (counts - 1) // 2).sum())
