"""How often chance does as well: held-out rows are paired anew, and scored again by the critics that never saw them.

Within a fold that is exact. Its critic T knows nothing of the held-out rows, so that under independence

    S(s) = sum_i T(x_i, y_s(i)),    s a permutation,

has one distribution for all s, and the share of permutations that reach S(identity) is a p-value. The folds together are
not: they share their critics. For T_k(x, y) = w(x, y)' sum_{j not in k} w_j, with w_k the sum of w over fold k,

    S_k = sum_{l != k} w_k' w_l

has the term w_k' w_l in common with S_l. So all S_k are correlated by 1 / (K - 1), their sum has twice the variance that folds
permuted one by one make believe, and at 5% that test rejects up to 12 of 100 independent data sets. Nor is one distribution
right for the sum: with one coefficient it is a chi-square, with many it is normal. But each fold's p-value is exact by
itself, and several such p-values, p_(1) <= ... <= p_(K), are combined by Simes' inequality,

    p = min_k K p_(k) / k,

exact where they are independent, and at most a little cautious where they are small or large together, as here.

Source: Phipson and Smyth (2010) for the permutations; Simes (1986) and Sarkar (1998) for the combination.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from remi.estimation.plan import Plan
from remi.estimation.questions import Dependence, Difference, Question
from remi.estimation.rows import Split
from remi.losses import Scores

Array = np.ndarray[Any, Any]
LEVEL = 0.05
TIED = 1e-9  # relative difference below which two sums are the same number
SAME = 1e-6  # nats: a critic that tells pairs apart by no more is one number everywhere
GROUPS, MOST = 512, 4096  # of rows that change their label together, in the smaller sample; in the larger
CHUNK = 1000  # permutations at a time, which bounds the memory
FEATURES = 32  # of a side, in a closed-form critic for series


def p_value(question: Question, held_out: Scores, splits: Sequence[Split], plan: Plan, gap: int = 0) -> float | None:
    """The share of data sets without any dependence, or difference, that would look like this one.

    Of series, y is shifted (`shifts`), or stretches of both samples change their labels.

    Args:
        question: what was asked.
        held_out: scores (folds, ...) of the rows that the critics have not seen.
        splits: of the rows.
        plan: how many permutations; None is returned for 0.
        gap: rows after which a series has forgotten.
    """
    if not plan.permutations:
        return None
    rng = np.random.default_rng([plan.seed, plan.permutations])
    if isinstance(question, Dependence):
        if plan.series:
            return shifts(question.x, question.y)
        tables = _tables(question, held_out, splits[0])
        return combined([pairings(table[None], plan.permutations, rng) for table in tables])
    assert isinstance(question, Difference)
    if plan.series:
        both = features(torch.cat([question.p, question.q]))
        whole = [part.T for part in np.split(both, [len(question.p)])]
        return labelings(whole[0], whole[1], plan.permutations, rng, 2 * gap)
    samples = _samples(question, held_out, splits, plan)
    return combined([labelings(p[None], q[None], plan.permutations, rng) for p, q in zip(*samples, strict=True)])


def combined(values: Sequence[float]) -> float:
    """One p-value of the folds' p-values, by Simes' inequality."""
    return float((np.sort(values) * len(values) / np.arange(1, len(values) + 1)).min())


def pairings(tables: Array, permutations: int, rng: np.random.Generator) -> float:
    """P-value of tables of scores (tables, m, m), whose diagonals hold the pairs: rows are paired anew within a table."""
    count, m, _ = tables.shape
    which, rows = np.arange(count)[:, None], np.arange(m)
    observed, reached = np.einsum("tii->", tables), 1
    for chunk in _chunks(permutations):
        pairs = rng.permuted(np.tile(rows, (chunk, count, 1)), axis=2)
        reached += _reached(tables[which, rows, pairs].sum((1, 2)), observed, np.abs(tables).max() * m * count)
    return reached / (1 + permutations)


def idle(tables: Array) -> bool:
    """Whether tables of scores (tables, m, m) add a function of x to one of y: no pairing is better than another."""
    rows, columns = tables.mean(-1, keepdims=True), tables.mean(-2, keepdims=True)
    return bool(np.abs(tables - rows - columns + tables.mean((-2, -1), keepdims=True)).max() <= SAME * len(tables[0]))


def labelings(p: Array, q: Array, permutations: int, rng: np.random.Generator, least: int = 1) -> float:
    """P-value of the difference of two means: of scores (1, n), by its size and sign; of features (d, n), by its square.

    Rows change their labels in groups of at least so many neighbours, for there are at most `GROUPS` of them.
    """
    rows = max(1, least, min(p.shape[1], q.shape[1]) // GROUPS)
    counts = [min(part.shape[1] // rows, MOST) for part in (p, q)]
    first, second = (z[:, : count * rows].reshape(len(z), count, rows).mean(-1) for z, count in zip((p, q), counts, strict=True))
    both, m = np.concatenate([first, second], 1), first.shape[1]
    if not 0 < m < both.shape[1]:
        return 1.0  # there is nothing to exchange

    def statistic(chosen: Array) -> Array:
        """(..., groups) True for the first sample -> (...,)."""
        difference = (chosen / m - ~chosen / (both.shape[1] - m)) @ both.T
        return difference[..., 0] if len(both) == 1 else np.square(difference).sum(-1)

    labels = np.arange(both.shape[1]) < m
    observed, reached = statistic(labels), 1
    for count in _chunks(permutations):
        found = statistic(rng.permuted(np.tile(labels, (count, 1)), axis=1))
        reached += _reached(found, observed, np.abs(both).max() ** (1 if len(both) == 1 else 2))
    return reached / (1 + permutations)


def conflict(p: float | None, low: float) -> Iterator[str]:
    """Where p-value and interval, which begins at `low`, do not say the same."""
    if p is None:
        return
    if p <= LEVEL and low <= 0:
        yield (
            f"And yet p = {p:.3g}: rearranged at random, held-out rows score as high once in {1 / p:.0f} times. "
            f"If something is there, the rows are too few to say how much."
        )
    if p > LEVEL and low > 0:
        yield (
            f"p = {p:.2f}: rearranged at random, held-out rows are often scored as high, although the interval does not reach 0. "
            f"Do not rely on either."
        )


def _chunks(permutations: int) -> Iterator[int]:
    return (min(CHUNK, permutations - done) for done in range(0, permutations, CHUNK))


def _reached(found: Array, observed: Any, scale: float) -> int:
    """How many are as large, or equal but for rounding."""
    return int((found >= observed - TIED * scale).sum())


# ---- Tables of scores ---------------------------------------------------------------------------------------------------


def _tables(question: Dependence, held_out: Scores, part: Split) -> Array:
    """(folds, m, m) scores whose diagonal holds the pairs; blocks of rows are permuted alike, so that their scores add up.

    A fold whose critic is idle has nothing to permute, and would read p = 1 in most independent data sets. A critic in closed
    form stands in for it, which knows no more of the held-out rows.
    """
    m = held_out.marginal.shape[-1]
    tables = held_out.marginal.unflatten(-2, (-1, m)).sum(-3, dtype=torch.float64).cpu().numpy()
    for fold, table in enumerate(tables):
        if idle(table[None]):
            seen, unseen = seen_and_unseen(part, fold)
            x, y = (features(z, seen) for z in question.samples)
            blocks = unseen[: len(unseen) // m * m].reshape(-1, m)
            tables[fold] = np.einsum("bik,bjk->ij", x[blocks] @ (x[seen].T @ y[seen]), y[blocks])
    return tables


def _samples(question: Difference, held_out: Scores, splits: Sequence[Split], plan: Plan) -> tuple[list[Array], list[Array]]:
    """Scores (n,) of both samples, per fold; where they are one number, those of a critic in closed form."""
    scored = [values.double().cpu().numpy() for values in (held_out.joint, held_out.marginal[..., 0, :])]
    samples = [list(part) for part in scored]
    for fold in range(plan.folds):
        if np.ptp(np.concatenate([part[fold] for part in scored])) <= SAME:
            rows = [seen_and_unseen(part, fold) for part in splits]
            (p_seen, p_unseen), (q_seen, q_unseen) = rows[0], [one + len(question.p) for one in rows[1]]
            z = features(torch.cat([question.p, question.q]), np.concatenate([p_seen, q_seen]))
            direction = z[p_seen].mean(0) - z[q_seen].mean(0)
            samples[0][fold], samples[1][fold] = z[p_unseen] @ direction, z[q_unseen] @ direction
    return samples[0], samples[1]


def seen_and_unseen(part: Split, fold: int) -> tuple[Array, Array]:
    """Rows that a fold's critics may have seen, and those that they have not."""
    return part.rest[fold].cpu().numpy(), part.held_out[fold].cpu().numpy()


# ---- Critics in closed form ---------------------------------------------------------------------------------------------


def features(z: Tensor, seen: Array | None = None) -> Array:
    """(n, 2d) columns and their squares, standardized by the rows seen: a critic is the covariance of two sides' features."""
    columns = z.double().cpu().numpy()
    known = slice(None) if seen is None else seen
    for power in (1, 2):
        columns = columns - columns[known].mean(0)
        columns = columns / np.maximum(columns[known].std(0), 1e-12)
        columns = np.concatenate([columns, np.square(columns)], 1) if power == 1 else columns
    return columns


def _principal(features: Array) -> Array:
    """At most `FEATURES` of them, the directions in which rows differ most."""
    if features.shape[1] <= FEATURES:
        return features
    return features @ np.linalg.eigh(features.T @ features)[1][:, -FEATURES:]


def shifts(x: Tensor, y: Tensor) -> float:
    """P-value of the squared covariances of all features among those at all shifts of y around its end.

    A whole series is shifted, and its critic in closed form fitted again each time: a stretch that is held out is too short to
    be shifted against itself.
    """
    n = len(x)
    fx, fy = (np.fft.rfft(_principal(features(z)), axis=0) for z in (x, y))
    found = np.zeros(n)
    for column in fx.T:
        found += np.square(np.fft.irfft(column.conj()[:, None] * fy, n, axis=0)).sum(1)
    return _reached(found, found[0], float(found.max())) / n
