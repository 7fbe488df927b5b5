"""Mutual information and Kullback-Leibler divergence of your own data, with an interval and with diagnostics in words.

    I(X; Y) = KL(P || Q),   P the joint distribution, Q the product of the marginals

Both are read from critics that have not seen the rows they are read on: the rows are cut into folds, a critic is trained
without each fold, and the folds' scores are pooled. A lower bound read this way cannot overfit upwards, so that a value
slightly below zero is legal: it says that nothing was found.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from scipy.special import ndtri
from torch import Tensor, nn

from remi import critics, estimators, evaluation, training
from remi.scores import Scores

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

Array = np.ndarray[Any, Any]
Forms = tuple[Tensor, ...]
TRANSFORMS = ("rank", "standardize", "none")
LOOK_EVERY = 50  # steps between two looks at the validation rows
PATIENCE = 10  # looks without a value better by TOLERANCE before training ends
TOLERANCE = 5e-4  # nats
WITNESSES = 10  # draws from Q that a density ratio needs to be believed
AVERAGE = 0.7  # weight of the past in the moving average of the parameters that a look judges
VALIDATION = 1 / 6  # share of a fold's training rows that decides when to stop
BLOCK, LOOK_BLOCK = 512, 128  # rows of a score matrix when held-out rows are read, and at a look; more rows make more matrices
PAIRS = 2**19  # scores of a stack at a time, which bounds the memory
GROUPS = 10  # parts of the held-out rows that the jackknife leaves out in turn
WIDTH, RANK, JOINED = 64, 32, 32  # of the default critic's networks
OFFSET = {"nwj": 1.0}  # log E_Q[exp T] at the normalised critic; 0 for the other bounds
FEW = 12  # numbers with so few different values may be codes


# ---- What comes back ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Estimate:
    """What the data say about a divergence.

    Args:
        value: the pooled held-out value of the bound; a lower bound, so slightly negative values are legal.
        interval: nominal 95%. Below the value it is sampling error; above it is sampling error and the distance to what
            the critics read on their training rows, since a lower bound is low by about half of that.
        diagnostics: reasons for doubt, each with the number that raised it; empty when there are none.
        history: "step" (looks,), and per critic (critics, looks) "validation", the bound on the validation rows, and
            "normalizer", there too; "best_step", "diverged_at" (-1: never) and "fold" (critics,).
        readings: what else the same held-out scores say: other bounds, and the bound on the training rows.
        features: what was made of each column.
        settings: what was asked for.
        unit: "nats" or "bits".
    """

    value: float
    interval: tuple[float, float]
    diagnostics: tuple[str, ...]
    history: Mapping[str, Array] = field(repr=False)
    readings: Mapping[str, float] = field(repr=False)
    features: tuple[str, ...] = field(repr=False)
    settings: Mapping[str, Any] = field(repr=False)
    unit: str = "nats"

    @property
    def bits(self) -> "Estimate":
        """The same, in bits; diagnostics stay in nats."""
        if self.unit == "bits":
            return self
        low, high = (end / math.log(2) for end in self.interval)
        readings = {name: value / math.log(2) for name, value in self.readings.items()}
        history = {name: v / math.log(2) if name in ("validation", "normalizer") else v for name, v in self.history.items()}
        return replace(
            self, value=self.value / math.log(2), interval=(low, high), readings=readings, history=history, unit="bits"
        )

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        low, high = self.interval
        return "\n".join(
            [f"{self.value:z.3f} {self.unit}, 95% interval {low:z.3f} to {high:z.3f}", *(f"* {d}" for d in self.diagnostics)]
        )

    def _repr_html_(self) -> str:
        from html import escape

        low, high = self.interval
        notes = "".join(f"<li>{escape(text)}</li>" for text in self.diagnostics)
        return f"<p><b>{self.value:z.3f} {self.unit}</b>, 95% interval {low:z.3f} to {high:z.3f}</p>" + (
            f"<ul>{notes}</ul>" if notes else ""
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the history."""
        return {
            "value": self.value,
            "interval": list(self.interval),
            "unit": self.unit,
            "diagnostics": list(self.diagnostics),
            "readings": dict(self.readings),
            "features": list(self.features),
            "settings": dict(self.settings),
        }

    def plot(self) -> "Figure":
        """The course of every critic on its validation rows, and the value with its interval."""
        from matplotlib.figure import Figure

        from remi.figures import MARGINAL, PALETTE

        figure = Figure(figsize=(4.5, 2.7))
        axes = figure.subplots()
        hue = PALETTE[estimators.family(self.settings["bound"])]
        axes.plot(self.history["step"], self.history["validation"].T, color=MARGINAL, lw=0.6)
        axes.plot([], [], color=MARGINAL, label="one critic, validation rows")
        axes.axhspan(*self.interval, color=hue, alpha=0.2, lw=0, label="95% interval")
        axes.axhline(self.value, color=hue, label=f"held-out value {self.value:z.3f}")
        axes.set(xlabel="step", ylabel=self.unit)
        axes.legend()
        return figure


def compare(estimates: Mapping[str, Estimate]) -> "tuple[Figure, pd.DataFrame]":
    """Values and intervals under each other, and what is drawn, a row per estimate."""
    import pandas as pd
    from matplotlib.figure import Figure

    from remi.figures import PALETTE, TRUTH

    rows = [(name, e.value, *e.interval, len(e.diagnostics)) for name, e in estimates.items()]
    figure = Figure(figsize=(5.5, 0.8 + 0.25 * len(rows)))
    axes = figure.subplots()
    axes.axvline(0, color=TRUTH, ls=":", lw=1.2)
    for place, (name, value, low, high, doubts) in enumerate(rows):
        hue = PALETTE[estimators.family(estimates[name].settings["bound"])]
        axes.plot([low, high], [place, place], color=hue, lw=1.2)
        axes.plot(value, place, color=hue, marker="o", ms=4, mfc="white" if doubts else hue)
    axes.set(xlabel=f"{next(iter(estimates.values())).unit}; a hollow point has diagnostics", ylim=(len(rows) - 0.5, -0.5))
    axes.set_yticks(range(len(rows)), list(estimates))
    return figure, pd.DataFrame(rows, columns=["name", "value", "low", "high", "diagnostics"])


# ---- From data to features ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Column:
    """One column of the input."""

    name: str
    values: Array  # (n,)
    discrete: bool


def _table(name: str, data: object, rows: str = "n") -> list[tuple[str, Array]]:
    """Named columns of an array, tensor, frame or series.

    Raises:
        ValueError: another type, not one- or two-dimensional, empty, a dtype without a meaning here, or fewer than 20 rows.
    """
    kinds = "a NumPy array, a tensor, a pandas DataFrame or Series"
    if isinstance(data, Tensor):
        if data.is_meta or data.is_sparse or data.is_complex():
            raise ValueError(f"{name} must be a dense tensor of real numbers; got {data.dtype}, {data.layout}, on {data.device}")
        data = data.detach().cpu()
        data = (data.double() if data.is_floating_point() else data).numpy()
    if isinstance(data, np.ma.MaskedArray):
        raise ValueError(f"{name} must have no missing values, so that rows stay paired; got a masked array")
    if isinstance(data, np.ndarray):
        if data.ndim not in (1, 2):
            raise ValueError(f"{name} must be ({rows},) or ({rows}, features); got shape {data.shape}")
        columns = [(name, data)] if data.ndim == 1 else [(f"{name}{i}", column) for i, column in enumerate(data.T)]
    elif hasattr(data, "to_frame") and hasattr(data, "index"):  # a Series, without importing pandas
        columns = [(name if data.name is None else str(data.name), data)]  # type: ignore[attr-defined]
    elif hasattr(data, "iloc") and hasattr(data, "columns"):
        columns = [(str(label), data.iloc[:, i]) for i, label in enumerate(data.columns)]
    else:
        raise ValueError(f"{name} must be {kinds}; got {type(data).__name__}")
    if not columns:
        raise ValueError(f"{name} must have at least one column; got shape {getattr(data, 'shape', ())}")
    names = [label for label, _ in columns]
    if len(set(names)) < len(names):
        raise ValueError(f"{name} must have different column names; got {names}")
    if len(columns[0][1]) < 20:
        raise ValueError(f"{name} must have at least 20 rows; got {len(columns[0][1])}")
    return columns


def _column(argument: str, name: str, values: Any, asked: bool) -> Column:
    """Numbers are continuous; truth values, strings and categories are discrete, and so is what was asked for."""
    where = argument if name == argument else f"{argument} column {name!r}"
    dtype = values.dtype
    kind = "category" if str(dtype) == "category" else getattr(dtype, "kind", "O")
    if kind == "O" and not isinstance(dtype, np.dtype):
        kind = "U" if str(dtype).startswith("str") else "O"
    if kind not in ("f", "i", "u", "b", "U", "category"):
        raise ValueError(f"{where} must be of numbers, truth values, strings or categories; got dtype {dtype}")
    if hasattr(values, "isna") and bool(values.isna().any()):
        raise ValueError(f"{where} must have no missing values; got {int(values.isna().sum())} in {len(values)} rows")
    if kind == "category" or kind == "U" or kind == "b" or asked:
        array = np.asarray(values, dtype=str) if kind in ("category", "U") else np.asarray(values)
        if kind == "f" and not np.isfinite(array.astype(float)).all():
            raise ValueError(f"{where} must be finite; got NaN or inf in {int((~np.isfinite(array)).sum())} of {len(array)} rows")
        column = Column(name, np.unique(array, return_inverse=True)[1], True)
        levels = int(column.values.max()) + 1
        if levels > max(2, len(array) // 5):
            raise ValueError(f"{where} must have at most a level per 5 rows to be discrete; got {levels} in {len(array)} rows")
    else:
        column = Column(name, np.asarray(values, dtype=float), False)
        bad = ~np.isfinite(column.values)
        if bad.any():
            raise ValueError(f"{where} must be finite; got {column.values[bad][0]} in row {int(bad.argmax())}")
    if column.values.min() == column.values.max():
        raise ValueError(f"{where} must not be constant; got {np.asarray(values)[0]} in every row")
    return column


def _read(tables: Mapping[str, list[tuple[str, Array]]], discrete: object) -> dict[str, list[Column]]:
    """Columns of each argument; `discrete` names columns, or arguments for all of theirs."""
    asked = [discrete] if isinstance(discrete, str) else discrete
    names = [name for table in tables.values() for name, _ in table]
    if not isinstance(asked, Sequence) or not all(isinstance(name, str) for name in asked):
        raise ValueError(f"discrete must be a column name or a list of them; got {discrete!r}")
    for name in asked:
        if name not in names and name not in tables:
            raise ValueError(f"discrete must be among {', '.join(dict.fromkeys([*tables, *names]))}; got {name!r}")
    whole = set(asked) - set(names)
    return {
        argument: [_column(argument, name, values, name in asked or argument in whole) for name, values in table]
        for argument, table in tables.items()
    }


def normal_scores(values: Array) -> Array:
    """Standard normal quantiles of the ranks; ties share their mean rank."""
    from scipy.stats import rankdata

    return np.asarray(ndtri((rankdata(values) - 0.5) / len(values)))


def standardize(values: Array) -> Array:
    """Mean 0, standard deviation 1; safe for any finite numbers."""
    centred = values / np.abs(values).max()
    centred = centred - centred.mean()
    return centred / centred.std()


def features(columns: Sequence[Column], transform: str) -> tuple[Array, tuple[str, ...]]:
    """(n, d) float32 features, and what they are.

    Mutual information does not change under an invertible map of x alone or of y alone, so any of these is allowed: ranks to
    normal scores, standardized numbers, and for a discrete column the indicators of all levels but the first.
    """
    maps: dict[str, Callable[[Array], Array]] = {"rank": normal_scores, "standardize": standardize, "none": lambda v: v}
    words = {"rank": "normal scores of the ranks", "standardize": "standardized", "none": "as given"}
    parts, notes = [], []
    for column in columns:
        if column.discrete:
            levels = int(column.values.max()) + 1
            hot = (column.values[:, None] == np.arange(1, levels)).astype(float)  # one level less: the last would be their sum
            parts.append((hot - hot.mean(0)) / hot.std(0))
            notes.append(f"{column.name}: discrete, {levels} levels, one-hot")
        else:
            parts.append(maps[transform](column.values)[:, None])
            notes.append(f"{column.name}: continuous, {words[transform]}")
    return np.concatenate(parts, 1).astype(np.float32), tuple(notes)


# ---- Critics ------------------------------------------------------------------------------------------------------------


class QuadraticCritic(nn.Module):
    """T(x, y) = x'My + x'Ax + y'By + f(x) . g(y) + a(x) + b(y) + h(x, y), a stack of runs.

    The forms are the log-density ratio of Gaussians; the networks are what departs from it. For the separable ones all n^2
    pairs cost one matrix product; h, small and on pairs, draws the edges that they blur.
    """

    def __init__(self, dim_x: int, dim_y: int, runs: int) -> None:
        super().__init__()
        self.cross = critics.Linear(dim_x, dim_y, bias=False, runs=runs)
        self.own_x = critics.Linear(dim_x, dim_x, bias=False, runs=runs)
        self.own_y = critics.Linear(dim_y, dim_y, bias=False, runs=runs)
        self.net_x = critics.mlp([dim_x, WIDTH, WIDTH, RANK + 1], runs=runs)
        self.net_y = critics.mlp([dim_y, WIDTH, WIDTH, RANK + 1], runs=runs)
        self.joined = critics.ConcatCritic(dim_x, dim_y, [JOINED, JOINED], runs=runs)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """(runs, n, dim_x) and (runs, n, dim_y) -> (runs, n): each x with its own y."""
        (f, a), (g, b) = self._halves(x, y)
        return (f * g).sum(-1) + a + b + self.joined(x, y)

    def matrix(self, x: Tensor, y: Tensor) -> Tensor:
        """(runs, n, dim_x) and (runs, m, dim_y) -> (runs, n, m): row i is anchored at x_i."""
        (f, a), (g, b) = self._halves(x, y)
        rows = max(1, PAIRS // (len(y) * y.shape[-2]))
        joined = torch.cat([self.joined.matrix(part, y) for part in x.split(rows, -2)], -2)
        return f @ g.transpose(-1, -2) + a.unsqueeze(-1) + b.unsqueeze(-2) + joined

    def _halves(self, x: Tensor, y: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        hidden_x, hidden_y = self.net_x(x), self.net_y(y)
        f, g = torch.cat([self.cross(x), hidden_x[..., :-1]], -1), torch.cat([y, hidden_y[..., :-1]], -1)
        return (f, (x * self.own_x(x)).sum(-1) + hidden_x[..., -1]), (g, (y * self.own_y(y)).sum(-1) + hidden_y[..., -1])

    def forms(self) -> Forms:
        """The quadratic part's coefficients, to be set by a start."""
        return self.cross.weight.data, self.own_x.weight.data, self.own_y.weight.data

    def begin(self, generators: Sequence[torch.Generator]) -> None:
        """Random networks that add nothing yet."""
        critics.initialize(self, generators)
        for form in self.forms():
            form.zero_()
        for values in (self.net_x[-1].weight, self.net_x[-1].bias, self.net_y[-1].weight, self.net_y[-1].bias):
            assert isinstance(values, Tensor)
            values.data[..., -1] = 0  # a and b
        for values in (*self.net_x[-1].parameters(), *self.joined.rest[-1].parameters()):
            values.data.zero_()  # f . g and h

    def shift(self, amount: Tensor) -> None:
        """Add a constant (runs,) to T."""
        assert isinstance(self.net_x[-1].bias, Tensor)
        self.net_x[-1].bias.data[..., 0, -1] += amount


class RatioCritic(nn.Module):
    """T(z) = z'Az + z'b + h(z), a stack of runs."""

    def __init__(self, dim: int, runs: int) -> None:
        super().__init__()
        self.own = critics.Linear(dim, dim, bias=False, runs=runs)
        self.linear = critics.Linear(dim, 1, bias=False, runs=runs)
        self.net = critics.mlp([dim, WIDTH, WIDTH, 1], runs=runs)

    def forward(self, z: Tensor) -> Tensor:
        """(runs, n, dim) -> (runs, n)."""
        return (z * self.own(z)).sum(-1) + (self.linear(z) + self.net(z)).squeeze(-1)

    def forms(self) -> Forms:
        """The quadratic part's coefficients, to be set by a start."""
        return self.own.weight.data, self.linear.weight.data

    def begin(self, generators: Sequence[torch.Generator]) -> None:
        """A random network that adds nothing yet."""
        critics.initialize(self, generators)
        for form in (*self.forms(), *(p.data for p in self.net[-1].parameters())):
            form.zero_()

    def shift(self, amount: Tensor) -> None:
        """Add a constant (runs,) to T."""
        assert isinstance(self.net[-1].bias, Tensor)
        self.net[-1].bias.data[..., 0, 0] += amount


class _AllPairs(nn.Module):
    """A critic on pairs, asked for the pairs or for all pairs."""

    def __init__(self, critic: nn.Module) -> None:
        super().__init__()
        self.critic = critic

    def forward(self, *inputs: Tensor, matrix: bool) -> Tensor:
        if not matrix:
            return self.critic(*inputs)
        if hasattr(self.critic, "matrix"):
            return self.critic.matrix(*inputs)  # type: ignore[operator]
        x, y = inputs
        rows = max(1, PAIRS // len(y))
        return torch.cat(
            [
                self.critic(part.repeat_interleave(len(y), 0), y.repeat(len(part), 1)).unflatten(0, (len(part), len(y)))
                for part in x.split(rows)
            ]
        )


class Copies(nn.Module):
    """A stack of runs from one ordinary module; each run starts where the module stands, which stays as it is."""

    def __init__(self, module: nn.Module, runs: int, device: torch.device) -> None:
        super().__init__()
        self.shell = [_AllPairs(module)]  # a list hides it from `parameters()`
        state = {name: p for name, p in self.shell[0].named_parameters() if p.requires_grad}
        self.names = list(state)
        self.stack = nn.ParameterList(p.detach().to(device, torch.float32).expand(runs, *p.shape).clone() for p in state.values())
        fixed = [*self.shell[0].named_parameters(), *self.shell[0].named_buffers()]
        rest = {name: value.detach() for name, value in fixed if name not in state}
        self.fixed = [{name: value.to(device, copy=True) for name, value in rest.items()} for _ in range(runs)]

    def forward(self, *inputs: Tensor, matrix: bool = False) -> Tensor:
        """(runs, n, ...) each -> (runs, n), or (runs, n, m)."""
        runs = []
        for r, fixed in enumerate(self.fixed):
            own = {name: p[r] for name, p in zip(self.names, self.stack, strict=True)}
            runs.append(torch.func.functional_call(self.shell[0], own | fixed, tuple(x[r] for x in inputs), {"matrix": matrix}))
        return torch.stack(runs)

    def matrix(self, x: Tensor, y: Tensor) -> Tensor:
        """All pairs."""
        return self(x, y, matrix=True)


def _custom(critic: object, inputs: Forms, runs: int) -> Copies:
    """A stack of copies of the user's critic, tried once.

    Raises:
        ValueError: not a module or a pair of encoders, nothing to train, or an output that is not a score per row.
    """
    two = len(inputs) == 2
    wanted = "an nn.Module on pairs (x, y) -> (n,), or a pair of encoders" if two else "an nn.Module on rows z -> (n,)"
    if two and isinstance(critic, tuple | list) and len(critic) == 2 and all(isinstance(part, nn.Module) for part in critic):
        critic = critics.SeparableCritic(*critic)
    if not isinstance(critic, nn.Module):
        raise ValueError(f"critic must be {wanted}; got {critic!r}")
    stack = Copies(critic, runs, inputs[0].device)
    if not stack.names:
        raise ValueError(f"critic must have parameters to train; got {type(critic).__name__} with none")
    shapes = " and ".join(str(tuple(z[:3].shape)) for z in inputs)
    try:
        found = stack(*(z[:3].expand(runs, -1, -1) for z in inputs))
    except (RuntimeError, TypeError, NotImplementedError) as error:
        raise ValueError(f"critic must be {wanted}; on float32 inputs {shapes} it failed: {error}") from None
    if found.shape != (runs, 3) or not found.is_floating_point():
        raise ValueError(f"critic must be {wanted}; on inputs {shapes} it returned {tuple(found.shape[1:])} of {found.dtype}")
    unused = torch.autograd.grad(found.sum(), list(stack.stack), allow_unused=True) if found.requires_grad else [None]
    idle = [name.removeprefix("critic.") for name, gradient in zip(stack.names, unused, strict=False) if gradient is None]
    if idle:
        raise ValueError(f"critic must use every parameter that requires a gradient; it does not use {', '.join(idle)}")
    return stack


# ---- The two questions --------------------------------------------------------------------------------------------------


class Question(ABC):
    """Rows to draw from, how a stack of critics scores them, and the critic to use when none is given."""

    samples: Forms  # tensors (n, d)
    sizes: tuple[int, ...]  # rows of each independent sample
    doubt: float = 0.0  # standard errors by which a look must be better to count

    @abstractmethod
    def score(self, network: nn.Module, *rows: Tensor, block: int = BLOCK) -> Scores:
        """Scores of a stack, from rows (runs, n) of each sample; a row meets at most `block` others."""

    @abstractmethod
    def joint(self, network: nn.Module, *rows: Tensor) -> Tensor:
        """(runs, n) scores of the joint pairs alone."""

    @abstractmethod
    def combinations(self, *sizes: int) -> int:
        """How many draws from Q so many rows of each sample make."""

    @abstractmethod
    def without(self, scores: Scores, group: int, groups: int) -> Scores:
        """The scores without every row i = group (modulo groups)."""

    @abstractmethod
    def network(self, runs: int) -> "QuadraticCritic | RatioCritic":
        """The default critic."""

    @abstractmethod
    def starts(self, *rows: Tensor) -> list[Forms]:
        """Candidates for the default critic's forms, from one run's training rows."""


@dataclass
class Dependence(Question):
    """P: paired rows (x_i, y_i). Q: all unpaired ones, (x_i, y_j) with i != j."""

    x: Tensor
    y: Tensor

    def __post_init__(self) -> None:
        self.samples, self.sizes = (self.x, self.y), (len(self.x),)

    def score(self, network: Any, *rows: Tensor, block: int = BLOCK) -> Scores:
        """All pairs within each block, the blocks below each other; rows that do not fill a block are left out."""
        blocks = -(-rows[0].shape[1] // block)
        size = rows[0].shape[1] // blocks
        matrices = [network.matrix(self.x[part], self.y[part]) for part in rows[0][:, : blocks * size].split(size, 1)]
        if blocks == 1:
            return Scores.from_matrix(matrices[0])
        joint = torch.cat([matrix.diagonal(dim1=-2, dim2=-1) for matrix in matrices], -1)
        return Scores(joint, torch.cat(matrices, -2), marginal_mask=self._unpaired(blocks * size, size), rowwise=True)

    def _unpaired(self, n: int, size: int) -> Tensor:
        """(n, size) False where a row meets itself."""
        return ~torch.eye(size, dtype=torch.bool, device=self.x.device).repeat(n // size, 1)

    def joint(self, network: nn.Module, *rows: Tensor) -> Tensor:
        """Each x with its own y."""
        return network(self.x[rows[0]], self.y[rows[0]])

    def combinations(self, *sizes: int) -> int:
        """All pairs but a row with itself."""
        return sizes[0] * (sizes[0] - 1)

    def without(self, scores: Scores, group: int, groups: int) -> Scores:
        """A row goes with its column."""
        n, size = scores.marginal.shape[-2:]
        stays = torch.arange(n, device=self.x.device) % groups != group
        columns = stays.view(-1, 1, size).expand(-1, size, size).reshape(n, size)
        return replace(
            scores,
            joint_mask=stays,
            marginal_mask=self._unpaired(n, size) & stays.unsqueeze(-1) & columns,
            row_mask=columns,
        )

    def network(self, runs: int) -> QuadraticCritic:
        """Quadratic forms and networks."""
        return QuadraticCritic(self.x.shape[1], self.y.shape[1], runs)

    def starts(self, *rows: Tensor) -> list[Forms]:
        """Gaussian fits, with two ways to shrink the correlations."""
        return gaussian_starts(self.x[rows[0]], self.y[rows[0]])


@dataclass
class Difference(Question):
    """P: rows of the first sample. Q: rows of the second."""

    p: Tensor
    q: Tensor

    def __post_init__(self) -> None:
        self.samples, self.sizes = (self.p,), (len(self.p), len(self.q))
        self.doubt = 1.0  # there are few draws from Q: one row outside the others' range must decide nothing

    def score(self, network: nn.Module, *rows: Tensor, block: int = BLOCK) -> Scores:
        """One row of marginal scores."""
        return Scores(network(self.p[rows[0]]), network(self.q[rows[1]]).unsqueeze(-2))

    def joint(self, network: nn.Module, *rows: Tensor) -> Tensor:
        """Scores of the first sample."""
        return network(self.p[rows[0]])

    def combinations(self, *sizes: int) -> int:
        """The second sample."""
        return sizes[1]

    def without(self, scores: Scores, group: int, groups: int) -> Scores:
        """Fewer rows of both: the samples are independent, so their errors add up."""
        first, second = (
            torch.arange(values.shape[-1], device=self.p.device) % groups != group for values in (scores.joint, scores.marginal)
        )
        return replace(scores, joint_mask=first, marginal_mask=second.unsqueeze(0))

    def network(self, runs: int) -> RatioCritic:
        """A quadratic form and a network."""
        return RatioCritic(self.p.shape[1], runs)

    def starts(self, *rows: Tensor) -> list[Forms]:
        """The log-density ratio of two Gaussians."""
        p, q = self.p[rows[0]].double(), self.q[rows[1]].double()
        (mean_p, inverse_p), (mean_q, inverse_q) = _gaussian(p), _gaussian(q)
        own = (inverse_q - inverse_p) / 2
        linear = inverse_p @ mean_p - inverse_q @ mean_q
        return [(own.float(), linear.float().unsqueeze(-1))]


def _gaussian(z: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and inverse covariance."""
    centred = z - z.mean(0)
    covariance = centred.T @ centred / len(z)
    ridge = 1e-3 * covariance.diagonal().mean() + 1e-12
    return z.mean(0), torch.linalg.inv(covariance + ridge * torch.eye(len(covariance), dtype=z.dtype, device=z.device))


def gaussian_starts(x: Tensor, y: Tensor) -> list[Forms]:
    """The log-density ratio of Gaussians with the sample's correlations, shrunk in two ways.

    With canonical correlations s_k and whitened coordinates u, v,

        T = sum_k  [s_k u_k v_k - s_k^2 (u_k^2 + v_k^2) / 2] / (1 - s_k^2).

    Noise of size 1/sqrt(n) in each correlation adds up over all pairs of coordinates. James and Stein's factor suits
    dependence spread over all of them; shrinking each singular value suits dependence in a few.

    Returns:
        (M, A, B) per way: T = x'My + x'Ax + y'By.

    Source: Gavish and Donoho (2017) for the singular values.
    """
    x, y = x.double(), y.double()
    n, small, large = len(x), *sorted((x.shape[1], y.shape[1]))
    white_x, white_y = _whitening(x), _whitening(y)
    u, s, vt = torch.linalg.svd(white_x @ ((x - x.mean(0)).T @ (y - y.mean(0)) / n) @ white_y, full_matrices=False)
    stein = (1 - small * large / (n * s.square().sum()).clamp_min(1e-12)).clamp_min(0) * s
    scaled = (s * math.sqrt(n / large)).clamp_min(1e-12)
    ratio = small / large
    above = ((scaled.square() - ratio - 1).square() - 4 * ratio).clamp_min(0).sqrt() / scaled
    single = torch.where(scaled > 1 + math.sqrt(ratio), above, 0.0) * math.sqrt(large / n)
    starts = []
    for correlations in (stein, single):
        rho = correlations.clamp(max=0.9999)
        cross, own = rho / (1 - rho.square()), -rho.square() / (1 - rho.square()) / 2
        left, right = white_x @ u, white_y @ vt.T
        forms = (left * cross) @ right.T, (left * own) @ left.T, (right * own) @ right.T
        starts.append(tuple(form.float() for form in forms))
    return starts


def _whitening(z: Tensor) -> Tensor:
    """Inverse square root of the covariance, for columns that may be copies of each other."""
    centred = z - z.mean(0)
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(z))
    return (vectors / (values.clamp_min(0) + 1e-4 * values.mean() + 1e-12).sqrt()) @ vectors.T


# ---- Cross-fitting ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """How critics are trained; checked by `_check_plan`."""

    bound: str
    seed: int
    folds: int
    restarts: int
    batch: int
    steps: int
    lr: float

    @property
    def runs(self) -> int:
        """Critics: run r belongs to fold r modulo `folds`."""
        return self.folds * self.restarts


@dataclass(frozen=True)
class Split:
    """Rows of one sample, per run: to train, to decide when to stop, and to read the value from."""

    train: Tensor  # (runs, n_train)
    validation: Tensor  # (runs, n_validation)
    held_out: Tensor  # (runs, n // folds)


def split(n: int, plan: Plan, generator: torch.Generator) -> Split:
    """Every fold is held out once; its other rows are shuffled anew for every restart. Rows left over train everywhere."""
    order = torch.randperm(n, generator=generator)
    folds = order[: n // plan.folds * plan.folds].view(plan.folds, -1)
    rows = []
    for run in range(plan.runs):
        held_out = folds[run % plan.folds]
        rest = order[~torch.isin(order, held_out)]
        rows.append((rest[torch.randperm(len(rest), generator=generator)], held_out))
    others, held_out = (torch.stack(part) for part in zip(*rows, strict=True))
    stop = max(2, int(others.shape[1] * VALIDATION))
    return Split(others[:, stop:], others[:, :stop], held_out)


def _batches(splits: Sequence[Split], batch: int) -> Callable[[torch.Generator, int, int], tuple[Tensor, ...]]:
    """Positions in the training rows: no row twice in a batch, for a row beside itself would be a joint pair in Q."""

    def draw(generator: torch.Generator, first: int, steps: int) -> tuple[Tensor, ...]:
        drawn = []
        for part in splits:
            n = part.train.shape[1]
            size = min(batch, n)
            epochs = -(-steps // (n // size))
            shuffled = torch.rand(epochs, n, generator=generator).argsort(-1)[:, : n // size * size]
            drawn.append(shuffled.reshape(-1, size)[:steps])
        return tuple(drawn)

    return draw


class Limits(NamedTuple):
    """Between what T is read, and what is subtracted from it; (runs,) each.

    No score is above the largest that a training pair has, for what lies beyond is extrapolation, and exp T would magnify
    it. And none is farther from the offset than log(N/10), where N draws from Q were seen: of a region with a larger density
    ratio, less than 10 of them are expected. Without the second, one row outside the others' range makes the bound as
    large, or as small, as one likes (Proposition A).
    """

    low: Tensor
    high: Tensor
    offset: Tensor  # 0 where the bound holds the offset itself

    def apply(self, scores: Scores) -> Scores:
        """The scores as they are read."""

        def one(values: Tensor) -> Tensor:
            low, high, offset = (limit.view(-1, *[1] * (values.ndim - 1)) for limit in self)
            return values.clamp(low, high) - offset

        return scores.map(one)


@dataclass(frozen=True)
class Look:
    """What a stack of critics reads on its validation rows."""

    value: Tensor  # (runs,)
    normalizer: Tensor  # (runs,)
    rows: Tensor  # (runs, n) what each row adds: the mean is the value
    plan: Plan

    @property
    def shared(self) -> Tensor:
        """(runs,) mean value of the fold's critics: its restarts watch different rows, and are judged together."""
        return self._over_folds(self.value.unsqueeze(-1)).mean(-1).repeat(self.plan.restarts)

    def surpasses(self, best: "Look", errors: float) -> Tensor:
        """(runs,) True where the value is higher by more than so many standard errors."""
        gained = self._over_folds(self.rows - best.rows)
        convincing = gained.mean(-1) > errors * gained.std(-1) / math.sqrt(gained.shape[-1])
        return convincing.repeat(self.plan.restarts)

    def where(self, mask: Tensor, other: "Look") -> "Look":
        """This look where `mask` (runs,) says so, the other elsewhere."""
        value = torch.where(mask, self.value, other.value)
        normalizer = torch.where(mask, self.normalizer, other.normalizer)
        return Look(value, normalizer, torch.where(mask.unsqueeze(-1), self.rows, other.rows), self.plan)

    def _over_folds(self, values: Tensor) -> Tensor:
        """(runs, n) -> (folds, restarts * n)."""
        return values.unflatten(0, (self.plan.restarts, self.plan.folds)).transpose(0, 1).flatten(1)


@dataclass
class Trained:
    """A stack of critics at their best look, and how they got there."""

    network: nn.Module
    limits: Limits
    history: dict[str, Array]
    idle: Tensor  # (runs,) True where the critic is still T = 0


def train(question: Question, network: nn.Module, splits: Sequence[Split], plan: Plan, bound: estimators.Estimator) -> Trained:
    """Train all critics as one stack; each keeps the parameters of its fold's best look at the validation rows."""
    device = question.samples[0].device
    generators = [torch.Generator().manual_seed(plan.seed * 10_007 + run + 1) for run in range(plan.runs)]
    rows = [part.train.to(device) for part in splits]
    watched = [part.validation.to(device) for part in splits]
    runs = torch.arange(plan.runs, device=device).unsqueeze(-1)
    zero = torch.zeros(plan.runs, device=device)

    def score(*positions: Tensor) -> Scores:
        return question.score(network, *(part[runs, at.to(device)] for part, at in zip(rows, positions, strict=True)))

    @torch.no_grad()
    def limits() -> Limits:
        scores = question.score(network, *(part[:, :BLOCK] for part in rows), block=LOOK_BLOCK)
        offset, far = (
            scores.log_mean_exp(),
            math.log(max(WITNESSES, question.combinations(*(part.shape[1] for part in rows)) / WITNESSES)),
        )
        if estimators.family(plan.bound) == "infonce":  # each row has its own offset
            return Limits(torch.full_like(offset, -torch.inf), torch.full_like(offset, torch.inf), torch.zeros_like(offset))
        highest = torch.minimum(question.joint(network, *rows).amax(-1), offset + far)
        # Donsker-Varadhan does not hold its offset, and pooling needs one (Theorem 6)
        return Limits(offset - far, highest, offset if estimators.family(plan.bound) == "mine" else torch.zeros_like(offset))

    @torch.no_grad()
    def look() -> Look:
        scores = question.score(network, *watched, block=LOOK_BLOCK)
        scores = limits()._replace(offset=zero).apply(scores)
        reading = bound(scores)
        value = torch.where(reading.estimate.isfinite(), reading.estimate, -torch.inf)
        return Look(value, reading.normalizer, scores.joint + (value - scores.joint_mean()).unsqueeze(-1), plan)

    idle = torch.zeros(plan.runs, dtype=torch.bool, device=device)
    if isinstance(network, QuadraticCritic | RatioCritic):
        network.begin(generators_on(device, generators))
        idle = _choose_start(question, network, rows, look, OFFSET.get(estimators.family(plan.bound), 0.0))
    parameters = list(network.parameters())

    def copy() -> list[Tensor]:
        return [p.detach().clone() for p in parameters]

    def put(values: Sequence[Tensor]) -> None:
        for parameter, value in zip(parameters, values, strict=True):
            parameter.data = value.clone()

    best = look()
    kept, average = copy(), copy()
    best_step, moved_at, diverged_at = (torch.full((plan.runs,), start, device=device) for start in (0, 0, -1))
    steps, looks = [0], [best]
    optimizer = training.Adam(plan.lr)
    while steps[-1] < plan.steps:
        chunk = min(LOOK_EVERY, plan.steps - steps[-1])
        stream = training.Stream(_batches(splits, plan.batch), generators, chunk, chunk)
        outcome = training.fit(network, score, stream, bound, optimizer, runs=plan.runs, steps=chunk)
        new = (outcome.diverged_at.to(device) >= 0) & (diverged_at < 0)
        diverged_at = torch.where(new, steps[-1] + outcome.diverged_at.to(device), diverged_at)

        latest = copy()
        average = [AVERAGE * old + (1 - AVERAGE) * now for old, now in zip(average, latest, strict=True)]
        put(average)
        looks.append(look())
        steps.append(steps[-1] + chunk)
        progress, better = looks[-1].shared > best.shared + TOLERANCE, looks[-1].surpasses(best, question.doubt)
        for keep, now in zip(kept, average, strict=True):
            keep[better] = now[better]
        best = looks[-1].where(better, best)
        best_step = torch.where(better, steps[-1], best_step)
        moved_at = torch.where(progress & better, steps[-1], moved_at)
        if bool(((steps[-1] - moved_at >= PATIENCE * LOOK_EVERY) | (diverged_at >= 0)).all()):
            break
        put(latest)
    put(kept)
    history = {
        "step": np.array(steps),
        "validation": torch.stack([look.value for look in looks], 1).cpu().numpy(),
        "normalizer": torch.stack([look.normalizer for look in looks], 1).cpu().numpy(),
        "best_step": best_step.cpu().numpy(),
        "diverged_at": diverged_at.cpu().numpy(),
        "fold": np.arange(plan.runs) % plan.folds,
    }
    return Trained(network, limits(), history, idle & (best_step == 0))


def generators_on(device: torch.device, generators: Sequence[torch.Generator]) -> list[torch.Generator]:
    """Generators of a device that continue from those of the host."""
    if device.type == "cpu":
        return list(generators)
    return [torch.Generator(device).manual_seed(generator.initial_seed()) for generator in generators]


@torch.no_grad()
def _choose_start(
    question: Question,
    network: QuadraticCritic | RatioCritic,
    rows: Sequence[Tensor],
    look: Callable[[], Look],
    offset: float,
) -> Tensor:
    """Give each run the candidate that reads best on its validation rows, T = 0 among them; True where that one won."""
    runs = len(rows[0])
    candidates = [question.starts(*(part[run] for part in rows)) for run in range(runs)]
    network.shift(torch.full((runs,), offset, device=rows[0].device))
    best, chosen = look().shared, torch.zeros(runs, dtype=torch.long, device=rows[0].device)
    shifts = torch.zeros_like(best)
    for index, stacked in enumerate(zip(*candidates, strict=True), 1):
        for form, values in zip(network.forms(), zip(*stacked, strict=True), strict=True):
            form.copy_(torch.stack(values))
        normalise = -question.score(network, *(part[:, :512] for part in rows)).log_mean_exp() + offset
        normalise = torch.where(normalise.isfinite(), normalise, 0.0)
        network.shift(normalise)
        value = look().shared
        network.shift(-normalise)
        better = value > best
        best, chosen = torch.where(better, value, best), torch.where(better, index, chosen)
        shifts = torch.where(better, normalise, shifts)
    for place, form in enumerate(network.forms()):
        options = [torch.zeros_like(form)]
        options += [torch.stack([candidates[run][i][place] for run in range(runs)]) for i in range(len(candidates[0]))]
        form.copy_(torch.stack(options)[chosen, torch.arange(runs, device=chosen.device)])
    network.shift(shifts)
    return chosen == 0


@torch.no_grad()
def read(question: Question, trained: Trained, rows: Sequence[Tensor], plan: Plan) -> Scores:
    """Scores (folds, ...) of these rows (runs, n), averaged over the restarts."""
    chosen = [part.to(question.samples[0].device) for part in rows]
    scores = trained.limits.apply(question.score(trained.network, *chosen))
    return scores.map(lambda values: values.unflatten(0, (plan.restarts, plan.folds)).mean(0))


def pool(bound: str, estimator: estimators.Estimator, scores: Scores) -> float:
    """The value of all folds: Donsker-Varadhan of all their pairs together, or the mean of the bound's readings."""
    reading = estimator(scores)
    if estimators.family(bound) == "mine":
        return evaluation.micro_average(reading.joint_term.cpu(), reading.marginal_term.cpu())
    return evaluation.macro_average(reading.estimate.cpu())


def half_width(question: Question, estimator: estimators.Estimator, scores: Scores) -> float:
    """Student-t half width from the jackknife's pseudo-values: each fold without each tenth of its rows.

    The folds' own differences are part of it.
    """
    groups = min(GROUPS, scores.joint.shape[-1], scores.marginal.shape[-1])
    whole = estimator(scores).estimate
    others = [estimator(question.without(scores, group, groups)).estimate for group in range(groups)]
    pseudo = groups * whole - (groups - 1) * torch.stack(others)
    return evaluation.student_t(pseudo.flatten().cpu().numpy()).half_width


# ---- In words -----------------------------------------------------------------------------------------------------------


def _diagnose(
    value: float, half: float, readings: Mapping[str, float], trained: Trained, plan: Plan, columns: Sequence[Column], rows: int
) -> Iterator[str]:
    """Reasons to doubt the value."""
    history = trained.history
    diverged = int((history["diverged_at"] >= 0).sum())
    if diverged:
        yield f"{diverged} of {plan.runs} critics diverged; what counts is their best look before that."
    if bool(trained.idle.all()):
        yield f"No critic reads more than T = 0 does on its validation rows: {rows} rows show no dependence."
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
    if estimators.family(plan.bound) == "infonce":
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
    if estimators.family(plan.bound) == plan.bound and moved > 1 and plan.bound in ("mine", "smile"):
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


def _readings(scores: Scores, seen: Scores, bound: str, estimator: estimators.Estimator) -> dict[str, float]:
    """What else the held-out scores say, and what the training rows say."""
    normalised = scores.map(lambda t: t - scores.log_mean_exp().mean() + 1)
    spread, share = _second_term(scores)
    found = {
        "training rows": pool(bound, estimator, seen),
        "Donsker-Varadhan": pool("mine", estimators.get("mine"), scores),
        "NWJ": pool("nwj", estimators.get("nwj"), normalised),
        "second term sd": float(spread.mean()) / math.sqrt(len(spread)),
        "largest share": float(share.max()) / len(share),
    }
    return found | ({"InfoNCE": pool("infonce", estimators.get("infonce"), scores)} if scores.rowwise else {})


def _second_term(scores: Scores) -> tuple[Tensor, Tensor]:
    """Standard deviation (folds,) of log mean exp, and the largest share of one pair in it.

    The pairs of a matrix are as good as independent at the best critic, up to the swap of the two members (factor 2).
    """
    values = scores.marginal if scores.marginal_mask is None else scores.marginal.masked_fill(~scores.marginal_mask, -torch.inf)
    weights = values.flatten(1).double().softmax(-1)
    squares = weights.square().sum(-1) - 1 / weights.shape[-1]
    return ((2 if scores.rowwise else 1) * squares).clamp_min(0).sqrt(), weights.amax(-1)


# ---- The two functions --------------------------------------------------------------------------------------------------


def estimate_mi(
    x: object,
    y: object,
    *,
    bound: str = "remine",
    critic: nn.Module | Sequence[nn.Module] | None = None,
    seed: int = 0,
    discrete: str | Sequence[str] = (),
    transform: str = "rank",
    folds: int = 5,
    restarts: int = 2,
    batch: int = 64,
    steps: int = 2000,
    lr: float = 3e-3,
    device: str = "cpu",
    **options: Any,
) -> Estimate:
    """Mutual information of x and y, in nats, from paired rows.

    Deterministic for a seed. A lower bound read on rows that the critics have not seen.

    Args:
        x: (n,) or (n, features): a NumPy array, a tensor, a pandas DataFrame or Series. Numbers, integers too, are
            continuous; truth values, strings and categories are discrete. Nothing is guessed, and nothing transposed.
        y: the same, with as many rows.
        bound: one of the twelve losses; "remine" holds the offset, which pooling over folds needs (Theorem 6).
        critic: an `nn.Module` that maps n pairs, (n, features of x) and (n, features of y), to n scores; or a pair of
            encoders, whose inner product is the score. The features are those that `Estimate.features` lists.
        seed: of the folds, the batches and the critics' starts.
        discrete: columns of numbers that are codes: their names ("x0", "x1", ... in an array), or "x" or "y" for all.
        transform: of continuous columns: "rank" (normal scores, tames heavy tails), "standardize" or "none".
        folds: parts of the data; each is read by critics trained on the others.
        restarts: critics per fold, whose scores are averaged.
        batch: rows per step; all their batch * (batch - 1) unpaired combinations are used.
        steps: at most so many; training ends when the validation rows read no more for 500 steps.
        lr: Adam's.
        device: "cpu", "cuda" or "auto".
        **options: of the bound, as in `estimators.get`; lam is 0.1 for the regularized ones.

    Raises:
        ValueError: an argument is not what it must be; the message names it, its value, and what is allowed.
    """
    tables = {"x": _table("x", x), "y": _table("y", y)}
    if isinstance(x, Tensor) and isinstance(y, Tensor) and x.device != y.device:
        raise ValueError(f"x and y must be on one device; got x on {x.device} and y on {y.device}")
    sizes = [len(table[0][1]) for table in tables.values()]
    if sizes[0] != sizes[1]:
        raise ValueError(f"x and y must have as many rows; got {sizes[0]} and {sizes[1]}")
    plan, estimator, where = _plan(min(sizes), bound, seed, folds, restarts, batch, steps, lr, device, transform, options)
    columns = _read(tables, discrete)
    (left, notes_x), (right, notes_y) = (features(columns[name], transform) for name in tables)
    question = Dependence(torch.from_numpy(left).to(where), torch.from_numpy(right).to(where))
    settings = {"transform": transform, **options}
    return _estimate(question, plan, estimator, critic, [*columns["x"], *columns["y"]], (*notes_x, *notes_y), settings)


def kl(
    p: object,
    q: object,
    *,
    bound: str = "remine",
    critic: nn.Module | None = None,
    seed: int = 0,
    discrete: str | Sequence[str] = (),
    transform: str = "rank",
    folds: int = 5,
    restarts: int = 4,
    batch: int = 256,
    steps: int = 2000,
    lr: float = 1e-3,
    device: str = "cpu",
    **options: Any,
) -> Estimate:
    """Kullback-Leibler divergence KL(P || Q), in nats, from a sample of each.

    The same estimate as `estimate_mi`, for any two populations. Columns of p and q mean the same thing, and are transformed
    together, which leaves the divergence as it is.

    Args:
        p: (n,) or (n, features) rows drawn from P, of the types that `estimate_mi` takes.
        q: (m,) or (m, features) rows drawn from Q.
        bound: any loss but InfoNCE, which needs pairs.
        critic: an `nn.Module` that maps (n, features) to n scores.
        seed: as in `estimate_mi`; so are the others.
        discrete: names of columns of numbers that are codes, or "p" for all ("p0", "p1", ... in an array).
        transform: of continuous columns.
        folds: parts of the data.
        restarts: critics per fold.
        batch: rows of each sample per step.
        steps: at most so many.
        lr: Adam's.
        device: "cpu", "cuda" or "auto".
        **options: of the bound.

    Raises:
        ValueError: an argument is not what it must be.
    """
    tables = {"p": _table("p", p), "q": _table("q", q, "m")}
    if isinstance(p, Tensor) and isinstance(q, Tensor) and p.device != q.device:
        raise ValueError(f"p and q must be on one device; got p on {p.device} and q on {q.device}")
    names = [[label.removeprefix(argument) for label, _ in table] for argument, table in tables.items()]
    if names[0] != names[1]:
        raise ValueError(f"p and q must have the same columns; got {', '.join(names[0])} and {', '.join(names[1])}")
    sizes = [len(table[0][1]) for table in tables.values()]
    if isinstance(bound, str) and bound in ("infonce", "reinfonce"):
        raise ValueError(f"bound must be one without rows of pairs for two samples, for example 'remine'; got {bound!r}")
    plan, estimator, where = _plan(min(sizes), bound, seed, folds, restarts, batch, steps, lr, device, transform, options)
    joined = {"p": [(name, _joined(name, a, b)) for (name, a), (_, b) in zip(tables["p"], tables["q"], strict=True)]}
    columns = _read(joined, discrete)["p"]
    both, notes = features(columns, transform)
    rows = torch.from_numpy(both).to(where)
    question = Difference(rows[: sizes[0]], rows[sizes[0] :])
    return _estimate(question, plan, estimator, critic, columns, notes, {"transform": transform, **options})


def _joined(name: str, first: Any, second: Any) -> Any:
    """One column of both samples."""
    kinds = [str(values.dtype) for values in (first, second)]
    if isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
        if first.dtype.kind != second.dtype.kind:
            raise ValueError(f"p and q column {name!r} must be of one kind; got dtypes {kinds[0]} and {kinds[1]}")
        return np.concatenate([first, second])
    if kinds[0] != kinds[1] or isinstance(first, np.ndarray) != isinstance(second, np.ndarray):
        raise ValueError(f"p and q column {name!r} must be of one type; got dtypes {kinds[0]} and {kinds[1]}")
    import pandas as pd

    return pd.concat([first, second], ignore_index=True)


def _plan(
    rows: int,
    bound: object,
    seed: object,
    folds: object,
    restarts: object,
    batch: object,
    steps: object,
    lr: object,
    device: object,
    transform: object,
    options: dict[str, Any],
) -> tuple[Plan, estimators.Estimator, torch.device]:
    """The checked settings; gives lam its default here."""
    if not isinstance(bound, str) or bound not in estimators.NAMES:
        raise ValueError(f"bound must be one of {', '.join(estimators.NAMES)}; got {bound!r}")
    if transform not in TRANSFORMS:
        raise ValueError(f"transform must be one of {', '.join(TRANSFORMS)}; got {transform!r}")
    limits = {
        "seed": (seed, 0, 2**40),
        "folds": (folds, 2, max(2, rows // 4)),
        "restarts": (restarts, 1, 100),
        "batch": (batch, 8, 2**16),
        "steps": (steps, 0, 10**9),
    }
    for name, (number, low, high) in limits.items():
        if not isinstance(number, Integral) or isinstance(number, bool) or not low <= int(number) <= high:
            raise ValueError(f"{name} must be a whole number from {low} to {high}; got {number!r}")
    if not isinstance(lr, Real) or isinstance(lr, bool) or not 0 < float(lr) < math.inf:
        raise ValueError(f"lr must be a positive number; got {lr!r}")
    if bound.startswith("re"):
        options.setdefault("lam", 0.1)
        if isinstance(options["lam"], Tensor):
            raise ValueError(f"lam must be one number; got {options['lam']!r}")
    try:
        where = training.device(device) if isinstance(device, str) else torch.device("none")
        torch.empty(0, device=where)
    except (RuntimeError, AssertionError):
        raise ValueError(f"device must be 'cpu', 'auto' or a device that is present, such as 'cuda'; got {device!r}") from None
    numbers = {name: int(number) for name, (number, _, _) in limits.items()}  # type: ignore[call-overload]
    return Plan(bound, lr=float(lr), **numbers), estimators.get(bound, **options), where


@contextmanager
def _flush_denormals() -> Iterator[None]:
    """Numbers below 1e-38 are 0 meanwhile: exp T of hopeless pairs would slow every step down."""
    before = float(torch.tensor([1e-38]) / 10) == 0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def _estimate(
    question: Question,
    plan: Plan,
    estimator: estimators.Estimator,
    critic: object,
    columns: Sequence[Column],
    notes: tuple[str, ...],
    settings: Mapping[str, Any],
) -> Estimate:
    """Split, train, read."""
    generator = torch.Generator().manual_seed(plan.seed)
    splits = [split(n, plan, generator) for n in question.sizes]
    device = question.samples[0].device
    network = question.network(plan.runs).to(device) if critic is None else _custom(critic, question.samples, plan.runs)
    with _flush_denormals():
        trained = train(question, network, splits, plan, estimator)
        held_out = read(question, trained, [part.held_out for part in splits], plan)
        # the same rows for every restart of a fold: what it stops by is among them, a little
        seen = [part.train[: plan.folds, : part.held_out.shape[1]].repeat(plan.restarts, 1) for part in splits]
        readings = _readings(held_out, read(question, trained, seen, plan), plan.bound, estimator)
        value = pool(plan.bound, estimator, held_out)
        rows = min(question.sizes)
        half = max(half_width(question, estimator, held_out), 1.92 / rows)  # no likelihood ratio resolves less
    gap = max(0.0, readings["training rows"] - value)
    return Estimate(
        value,
        (value - half, value + half + gap),
        tuple(_diagnose(value, half, readings, trained, plan, columns, rows)),
        trained.history,
        readings,
        notes,
        {**vars(plan), "critic": "default" if critic is None else type(critic).__name__, **settings},
    )
