"""What figures draw and claims judge: numbers read off the traces of finished runs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from remi.losses import family
from remi.runs import Record
from remi.training import auc, macro_average, micro_average

Array = np.ndarray


def trace(record: Record, column: str) -> Array:
    """One column of one run, (steps,); nan after a divergence."""
    return record.arrays[column].astype(float)


def last(record: Record, column: str, steps: int) -> Array:
    """The finite values among the last `steps` steps before the run ended or diverged."""
    values = trace(record, column)
    end = int(record.scalars.get("diverged_at", len(values)))
    window = values[max(0, end - steps) : end]
    return window[np.isfinite(window)]


def change(record: Record, column: str, early: tuple[int, int] = (450, 550), late: int = 100) -> float:
    """Mean of the last `late` steps minus mean of the steps `early`."""
    values = trace(record, column)
    return float(np.mean(last(record, column, late)) - np.nanmean(values[slice(*early)]))


def smooth(values: Array, span: int) -> Array:
    """Exponential moving average of that span along the steps."""
    return pd.Series(values).ewm(span=span, adjust=False).mean().to_numpy()


def correlation(record: Record, one: str, other: str, start: int = 450, span: int = 100) -> float:
    """Correlation of two smoothed columns after step `start`."""
    pair = [smooth(trace(record, column), span)[start:] for column in (one, other)]
    return float(np.corrcoef(pair)[0, 1])


def slope(record: Record, kind: str, start: int) -> float:
    """Least-squares slope of the critic outputs after step `start`, in nats per 1,000 steps.

    Args:
        record: a one-hot run.
        kind: "diagonal" or "off-diagonal".
        start: first step to use.
    """
    steps, values = outputs(record, kind)
    keep = (steps >= start) & np.isfinite(values)
    return float(np.polyfit(steps[keep], values[keep], 1)[0] * 1000)


def outputs(record: Record, kind: str) -> tuple[Array, Array]:
    """Steps and critic outputs of the recorded pairs on or off the diagonal, sorted by step."""
    marginal, on_diagonal = trace(record, "marginal_output"), trace(record, "on_diagonal")
    steps = np.arange(len(marginal))
    if kind == "off-diagonal":
        keep = on_diagonal == 0
        return steps[keep], marginal[keep]
    keep = on_diagonal == 1
    both = np.concatenate([steps, steps[keep]]), np.concatenate([trace(record, "joint_output"), marginal[keep]])
    order = np.argsort(both[0], kind="stable")
    return both[0][order], both[1][order]


def separation(record: Record) -> float:
    """AUC of the critic's diagonal against its off-diagonal outputs, at the last finite step."""
    table = record.arrays["table"]
    return auc(np.diag(table), table[~np.eye(len(table), dtype=bool)])


def separation_before_divergence(record: Record) -> float:
    """AUC of the outputs recorded 200 to 100 steps before a divergence."""
    end = int(record.scalars["diverged_at"])
    kinds = []
    for kind in ("diagonal", "off-diagonal"):
        at, values = outputs(record, kind)
        kinds.append(values[(at >= end - 200) & (at < end - 100)])
    return auc(*kinds)


def staircase(record: Record) -> tuple[Array, Array]:
    """The estimate at every level of the staircase, (levels, steps), and the truth there, (levels, 1); nats."""
    problem: Any = record.run.problem  # type: ignore[attr-defined]
    return trace(record, "estimate").reshape(len(problem.levels), -1), np.array(problem.levels, dtype=float)[:, None]


def level_errors(record: Record) -> Array:
    """Raw estimate minus truth in the second half of every level, (levels, steps) in nats; nan after a divergence."""
    estimate, truth = staircase(record)
    return estimate[:, estimate.shape[1] // 2 :] - truth


def levels(records: Mapping[str, Sequence[Record]]) -> pd.DataFrame:
    """Bias, variance and mean squared error of the raw estimate at every level of the staircase, in nats.

    Over the second half of each level and over seeds; a diverged run has no finite value from there on, and says nan.
    """
    rows = []
    for key, group in records.items():
        every = np.concatenate([level_errors(record) for record in group], axis=1)
        for (level,), errors in zip(staircase(group[0])[1], every, strict=True):
            rows.append((key, level, errors.mean(), errors.var(), np.square(errors).mean()))
    return pd.DataFrame(rows, columns=["curve", "level", "bias", "variance", "mse"])


def climbs(record: Record) -> Array:
    """How far the estimate still climbs at the end of every level, (levels,), as a share of the truth.

    By how much its median over the last fifth of the steps exceeds the one over the fifth before; 0 where it has reached the
    truth, or where the run has diverged.
    """
    estimate, truth = staircase(record)
    fifth = estimate.shape[1] // 5
    before, end = (np.median(estimate[:, k * fifth :][:, :fifth], axis=1) for k in (3, 4))
    return np.where(end < truth[:, 0], (end - before) / truth[:, 0], 0.0)


STILL = 0.05  # share of the truth: what an encoder's estimate may still gain in the last fifth of its steps
WINDOW = 20  # a mean is over a twentieth of the steps: one over 100 batches of 10 scatters by half of what may be gained
ROUNDING = 1e-5  # nats, in single precision: two objectives that differ by less are the same


def settled(record: Record, true_mi: float) -> bool:
    """Whether an encoder's training had the time that its loss takes; an untrained encoder has.

    It diverged; or it is frozen: its objective is the same for every batch of the last twentieth of the steps, so that no
    gradient moves it; or it has left zero and hardly rises any more: the mean estimate of the last twentieth is at least 5% of
    the truth, and it exceeds that of the twentieth that ends four fifths into the training by less than 5% of the truth.
    """
    if record.run.loss == "untrained" or not record.ok:
        return True
    steps = len(record.arrays["pairs"])
    window = max(1, steps // WINDOW)

    def those_before(stop: int, column: str) -> Array:
        values, pairs = (record.arrays[name][stop - window : stop].astype(float) for name in (column, "pairs"))
        return values[pairs > 0]

    if np.ptp(those_before(steps, "objective")) < ROUNDING:
        return True
    before, end = (float(those_before(stop, "estimate").mean()) for stop in (steps * 4 // 5, steps))
    return bool(end >= STILL * true_mi and end - before < STILL * true_mi)


LOGARITHMIC = ("mine", "smile")  # the estimate takes a logarithm of a mean over the batch; the others are means themselves


def pooled(record: Record, last: int, batches: int) -> Array:
    """One estimate from the scores of `batches` consecutive batches, for all such groups among the last `last` steps, in nats.

    Micro-averaging with the loss's own formula: MINE and SMILE average their second terms before the logarithm. The
    estimates of the others are means over pairs or rows, so that pooled scores give the mean of the batches' estimates.
    """
    logarithmic = family(record.run.loss) in LOGARITHMIC and batches > 1
    columns, average = (("joint_term", "marginal_term"), micro_average) if logarithmic else (("estimate",), macro_average)
    groups = [trace(record, column)[-last:].reshape(-1, batches) for column in columns]
    return np.array([average(*group) for group in zip(*groups, strict=True)])


def offsets(record: Record, last: int, span: int = 64) -> Array:
    """The critic's offset, log mean exp of the marginal scores, averaged over `span` steps at a time, in nats."""
    return trace(record, "score_log_mean_exp")[-last:].reshape(-1, span).mean(1)
