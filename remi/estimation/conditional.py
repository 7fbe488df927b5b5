"""Conditional mutual information: what x and y tell about each other beyond what z tells about both.

    I(X; Y | Z) = I(X; (Y, Z)) - I(X; Z)

The two terms on the right have errors of their own, and where z tells much of x both are large. So z is first taken out of x
and y (`residuals`): given z, what is left is an invertible map of what was there, so that the left side stays as it is, while
I(X; Z) becomes small, and as a rule exactly 0, which its critics say by finding nothing. What then remains is

    I(X~; (Y~, Z)) - I(X~; Z),

read on the same held-out rows; the interval is that of their paired difference. Where all columns are codes, tables are read as
they are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from remi.estimation import columns
from remi.estimation.columns import Array, Column
from remi.estimation.crossfit import half_width
from remi.estimation.diagnostics import doubts
from remi.estimation.estimate import Estimate, Term, answer, device_called, plan_of, term
from remi.estimation.mixture import Mixture
from remi.estimation.order import memory
from remi.estimation.plan import Plan
from remi.estimation.questions import Dependence
from remi.estimation.residuals import Smooth, parted, spread_out
from remi.estimation.rows import Split, split
from remi.estimation.significance import combined, features, idle, pairings, seen_and_unseen, shifts
from remi.estimation.undisturbed import undisturbed
from remi.losses import Scores

CROSSED = 64  # columns, at most, of y beside every level of z
CELL = 5  # rows alike in z whose y change places
SUMS = 128  # cells of a fold; more are permuted alike
FEW = 3  # features of z up to which rows alike in all of them are found
APART, NEGLIGIBLE = 0.3, 0.05  # share of the variance of z and of what z says of y that cells may have inside; and in itself
PAIRS = 2**15  # scores at a time
PAIRED = ("held-out bound", "Donsker-Varadhan", "NWJ", "InfoNCE", "training rows", "trained critics", "table")


def estimate_cmi(
    x: object,
    y: object,
    z: object,
    *,
    bound: str = "remine",
    seed: int = 0,
    discrete: str | Sequence[str] = (),
    transform: str = "rank",
    folds: int = 5,
    restarts: int = 2,
    batch: int = 64,
    steps: int = 2000,
    lr: float = 3e-3,
    device: str = "cpu",
    series: bool = False,
    permutations: int = 999,
    **options: Any,
) -> Estimate:
    """Conditional mutual information I(X; Y | Z), in nats, from rows (x_i, y_i, z_i).

    What x tells about y beyond z: 0 where z explains all that they have in common, a common cause or the middle of a chain;
    above I(X; Y) where z is what both have caused. With z the past of y it is the transfer entropy from x to y.

    The p-value asks whether x and y are independent given z. Held-out rows alike in z, five at a time, exchange what is left of
    their y: that assumes that these few have one distribution of it, and is doubted in words where they are not alike. Of a
    series, what is left of y is shifted against what is left of x: that assumes that z acts on mean and scale.

    Args:
        x: (n,) or (n, features), as in `estimate_mi`; so are y and z.
        y: the same, with as many rows.
        z: what is known already, with as many rows.
        bound: one of the losses, as in `estimate_mi`.
        seed: of folds, batches, starts and permutations.
        discrete: columns of numbers that are codes: their names, or "x", "y" or "z" for all of theirs.
        transform: of continuous columns, and of what is left of them.
        folds: parts of the data, the same for both terms.
        restarts: critics per fold.
        batch: rows per step.
        steps: at most so many, of each term's critics.
        lr: Adam's.
        device: "cpu", "cuda" or "auto".
        series: rows follow each other in time.
        permutations: for the p-value; 0 for none.
        **options: of the bound.

    Raises:
        ValueError: an argument is not what it must be; the message names it, its value, and what is allowed.
    """
    tables = columns.paired(x, y) | columns.paired(x, z, "z")
    plan = plan_of(bound, seed, folds, restarts, batch, steps, lr, options, series, permutations)
    with undisturbed(where := device_called(device), plan.seed, None):
        described = columns.read(tables, discrete)
        return _estimate(described, transform, plan, where)


def _estimate(described: Mapping[str, list[Column]], transform: str, plan: Plan, where: torch.device) -> Estimate:
    """Both terms, on the same rows."""
    everything = [column for side in described.values() for column in side]
    x, y, z = described.values()
    limit = min(columns.entropy(x), columns.entropy(y))
    sides = _codes(x, y, z, transform, where) or _numbers(x, y, z, transform, plan.seed, where)
    sides.question.series = sides.given.series = plan.series
    sides.given.slowest = sides.question.slowest
    remembered = memory(*sides.left)
    gap = remembered.length if plan.series else 0
    part = split(len(sides.question.x), plan, torch.Generator().manual_seed(plan.seed), gap).to(where)
    whole, known = (term(question, plan, None, [part], gap) for question in (sides.question, sides.given))
    both = torch.cat([whole.values, known.values])
    first, second, count = whole.within(limit), known.within(limit), len(whole.values)
    half = half_width(both, lambda values: first(values[:count]) - second(values[count:]))
    p, doubt = _p_value(sides, whole.trained.mixture, part, plan)
    settings = {"critic": "default", "transform": transform}
    found = answer(sides.question, plan, _less(whole, known), half, everything, remembered, limit, p, settings)
    doubt += [f"z determines {name}: nothing is left of it to tell, or to be told." for name in sides.determined]
    return found.doubted([*doubts(everything, transform, remembered, plan), *doubt])


def _less(whole: Term, known: Term) -> Term:
    """The first term, with what the second one read taken from its numbers."""
    found = {name: value - known.found.get(name, 0.0) if name in PAIRED else value for name, value in whole.found.items()}
    more = {name: getattr(whole, name) - getattr(known, name) for name in ("added", "beyond", "gained")}
    return replace(whole, found=found, **more)


# ---- What critics see ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sides:
    """The two questions, and what makes rows alike in z."""

    question: Dependence  # x and (y, z)
    given: Dependence  # x and z
    own: Tensor  # (n, d) the features of y alone
    left: tuple[list[Column], list[Column]]  # of x and of y
    near: Array  # (n, d) z where it has few features, and what it says of y, in units of y's standard deviation
    levels: Array | None  # (n,) where all columns of z are discrete: rows are alike within one
    determined: Sequence[str] = ()  # columns of x and y of which z says all

    def exchanged(self, x_rows: Tensor, y_rows: Tensor) -> Tensor:
        """(..., d) features of the y of some rows with the z of others that are alike in it."""
        if self.levels is not None:
            return self.question.y[y_rows]
        return torch.cat([self.own[y_rows], self.given.y[x_rows]], -1)


def _codes(x: list[Column], y: list[Column], z: list[Column], transform: str, where: torch.device) -> Sides | None:
    """Tables, where all columns are discrete, and the levels of y and z together few; nothing is taken out."""
    if not all(column.discrete for column in (*x, *y, *z)):
        return None
    first, second, known, both = (_joined(side) for side in (x, y, z, [*y, *z]))
    if int(both.values.max()) >= len(both.values) // 5:
        return None
    cause, effect, shared = (columns.features([code], transform, where) for code in (first, second, known))
    levels = [torch.from_numpy(code.values).to(where) for code in (first, both, known)]
    return Sides(
        Dependence(cause, columns.features([both], transform, where), (levels[0], levels[1])),
        Dependence(cause, shared, (levels[0], levels[2])),
        effect,
        ([first], [second]),
        shared.double().cpu().numpy(),
        known.values,
    )


def _joined(side: Sequence[Column]) -> Column:
    """One code for several: a level per row that there is."""
    values = np.unique(np.stack([column.values for column in side], 1), axis=0, return_inverse=True)[1].ravel()
    return Column(", ".join(column.name for column in side), values, True)


def _numbers(x: list[Column], y: list[Column], z: list[Column], transform: str, seed: int, where: torch.device) -> Sides:
    """Take z out of x and of the numbers among y. Of two sides, x is one without codes, where there is one."""
    if any(column.discrete for column in x) and not any(column.discrete for column in y):
        x, y = y, x
    shared = columns.features(z, transform, where)
    smooth = Smooth(shared.double().cpu().numpy(), seed)
    rng = np.random.default_rng([seed, 1])  # not the numbers that the caller's own default_rng(seed) has drawn
    first = [_left(column, transform, smooth, rng) for column in x]
    second = [
        Left(column, _said(column, smooth), False) if column.discrete else _left(column, transform, smooth, rng) for column in y
    ]
    left = [one.column for one in first], [one.column for one in second]
    cause, own = (columns.features(side, transform, where) for side in left)
    discrete = [column.discrete for column in (*left[1], *z)]
    numbers = not any(discrete)
    levels = None
    if all(column.discrete for column in z):
        levels = _joined(z).values
        own = _crossed(own, levels)
    near = [one.said for one in second]
    near += [shared.double().cpu().numpy()] if shared.shape[1] <= FEW else []
    scores = numbers and transform == "rank"
    return Sides(
        Dependence(cause, torch.cat([own, shared], 1), None, numbers, scores),
        Dependence(cause, shared, None, numbers, scores),
        own,
        left,
        np.concatenate(near, 1),
        levels,
        [one.column.name for one in (*first, *second) if one.nothing],
    )


class Left(NamedTuple):
    """What is left of a column, and what z said of it."""

    column: Column
    said: Array  # (n, d)
    nothing: bool  # z says all of it


def _left(column: Column, transform: str, smooth: Smooth, rng: np.random.Generator) -> Left:
    """Numbers; noise, where nothing is left."""
    if column.discrete:
        said = _said(column, smooth)
        return Left(Column(column.name, spread_out(column.values, said, rng), False), said, False)
    values = columns.TRANSFORMS[transform](column.values)
    part = parted(values, smooth)
    nothing = not part.rest.any()
    rest = rng.normal(size=len(values)) if nothing else part.rest
    return Left(Column(column.name, rest, False), np.stack([part.mean / values.std(), part.scale], 1), nothing)


def _said(column: Column, smooth: Smooth) -> Array:
    """(n, levels) what z says of every level."""
    return np.stack([smooth((column.values == level).astype(float)) for level in range(int(column.values.max()) + 1)], 1)


def _crossed(own: Tensor, levels: Array) -> Tensor:
    """Every feature beside every level, 0 in the others; as they are where these are too many."""
    marks = levels[:, None] == np.arange(int(levels.max()) + 1)
    if own.shape[1] * marks.shape[1] > CROSSED:
        return own
    found = (own.double().cpu().numpy()[:, :, None] * marks[:, None]).reshape(len(own), -1)
    found = found[:, found.std(0) > 0]
    return torch.from_numpy(((found - found.mean(0)) / found.std(0)).astype(np.float32)).to(own.device)


# ---- Chance, given z ----------------------------------------------------------------------------------------------------


def _p_value(sides: Sides, found: Mixture, part: Split, plan: Plan) -> tuple[float | None, list[str]]:
    """How often rows that are independent given z look like these, and doubts about it."""
    if not plan.permutations:
        return None, []
    if plan.series:
        return shifts(sides.question.x, sides.own), []
    cells = [
        cut(rows, sides.near[rows], None if sides.levels is None else sides.levels[rows]) for rows in part.held_out.cpu().numpy()
    ]
    count = min(len(one) for one in cells)
    if not count:
        return None, [f"No p-value: fewer than {CELL} held-out rows of a fold are alike in z."]
    together = np.stack([one[:count] for one in cells])
    rng = np.random.default_rng([plan.seed, plan.permutations])
    p = combined([pairings(tables, plan.permutations, rng) for tables in _tables(sides, found, part, together, plan)])
    inside, whole = sides.near[together].var(-2).mean((0, 1)).sum(), sides.near.var(0).sum()
    if sides.levels is None and inside > max(APART * whole, NEGLIGIBLE):
        return p, [
            f"The p-value lets {CELL} rows exchange y that are not much alike: within them lies {inside / whole:.0%} of the "
            f"variance of z and of what z says of y."
        ]
    return p, []


def cut(rows: Array, near: Array, levels: Array | None) -> Array:
    """(cells, CELL) of these rows (n,), alike within a cell; some are left over."""
    if levels is not None:
        groups = [rows[levels == level] for level in np.unique(levels)]
    else:
        groups = [rows[_ordered(np.arange(len(rows)), near)]]
    return np.concatenate([group[: len(group) // CELL * CELL].reshape(-1, CELL) for group in groups])


def _ordered(rows: Array, near: Array) -> Array:
    """The rows so that neighbours are near: halved again and again, along the coordinate in which they differ most."""
    if len(rows) < 2 * CELL:
        return rows
    rows = rows[near[rows, near[rows].var(0).argmax()].argsort(kind="stable")]
    half = len(rows) // 2 // CELL * CELL
    return np.concatenate([_ordered(rows[:half], near), _ordered(rows[half:], near)])


class Listed(Dependence):
    """Joint pairs as they are listed; Q is not asked."""

    def score(self, network: Any, *rows: Tensor, block: int = 0) -> Scores:
        """The pairs, in one row."""
        joint = self.joint(network, *rows)
        return Scores(joint, joint.unsqueeze(-2))


@torch.no_grad()
def _tables(sides: Sides, found: Mixture, part: Split, cells: Array, plan: Plan) -> Array:
    """(folds, tables, CELL, CELL) scores of x_i and z_i with the y_j of each row of their cell; idle folds by a closed form."""
    folds, count, size = cells.shape
    shape = (folds, count, size, size)
    i, j = (
        torch.from_numpy(np.ascontiguousarray(np.broadcast_to(one, shape)).reshape(folds, -1)).to(sides.own.device)
        for one in (cells[..., :, None], cells[..., None, :])
    )
    freely = [replace(one, limits=one.limits._replace(by_row=False)) for one in found.parts]
    scored = []
    for x_rows, y_rows in zip(i.split(PAIRS, 1), j.split(PAIRS, 1), strict=True):
        pairs = Listed(sides.question.x[x_rows].flatten(0, 1), sides.exchanged(x_rows, y_rows).flatten(0, 1))
        numbers = torch.arange(x_rows.numel(), device=i.device).view(x_rows.shape)
        scored.append(replace(found, parts=freely).score(pairs, numbers, block=0).joint)
    tables = torch.cat(scored, 1).view(shape).double().cpu().numpy()
    for fold in range(folds):
        if idle(tables[fold]):
            seen, _ = seen_and_unseen(part, fold)
            left, right = (features(z, seen) for z in (sides.question.x, sides.own))
            tables[fold] = np.einsum("cik,cjk->cij", left[cells[fold]] @ (left[seen].T @ right[seen]), right[cells[fold]])
    summed = np.zeros((folds, min(count, SUMS), size, size))
    np.add.at(summed.swapaxes(0, 1), np.arange(count) % SUMS, tables.swapaxes(0, 1))
    return summed
