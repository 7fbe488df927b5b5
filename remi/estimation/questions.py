"""What a divergence compares: paired rows with unpaired ones (mutual information), or two samples."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from remi.estimation.closed import CLOSE, FINE, MOST, TAILS, WIDTHS, Elliptical, Grid, Kernel, Quadratic, Square, Turning
from remi.estimation.ratios import Forms, QuadraticCritic, RatioCritic
from remi.estimation.starts import difference_start, gaussian_starts, table_starts
from remi.losses import Scores

BLOCK, LOOK_BLOCK = 512, 128  # rows of a score matrix when held-out rows are read, and at a look; more rows make more matrices
AT_ONCE = 1024  # rows of the matrices that are made together
EDGES = 500  # rows of two columns that show how slowly the loss to sharp edges falls; fewer show noise


class Question(ABC):
    """Rows to draw from, how a stack of critics scores them, and the critic to use when none is given."""

    samples: tuple[Tensor, ...]  # tensors (n, d)
    sizes: tuple[int, ...]  # rows of each independent sample
    series: bool = False  # rows follow each other in time: what is left out together lies together
    doubt: float = 0.0  # standard errors by which a look must be better to count
    slowest: float = 2 ** (1 / 2)  # what halving the rows makes of an error, at least: of smoothed densities

    @abstractmethod
    def score(self, network: Any, *rows: Tensor, block: int = BLOCK) -> Scores:
        """Scores of a stack, from rows (runs, n) of each sample; a row meets at most `block` others."""

    @abstractmethod
    def joint(self, network: nn.Module, *rows: Tensor) -> Tensor:
        """(runs, n) scores of the joint pairs alone."""

    @abstractmethod
    def combinations(self, *sizes: int) -> int:
        """How many draws from Q so many rows of each sample make."""

    @abstractmethod
    def without(self, scores: Scores, group: int, groups: int) -> Scores:
        """The scores without every row i = group (modulo groups); of a series, without one of so many stretches."""

    def _stay(self, n: int, group: int, groups: int) -> Tensor:
        """(n,) False for the rows of one group."""
        rows = torch.arange(n, device=self.samples[0].device)
        return (rows * groups // n if self.series else rows % groups) != group

    @property
    @abstractmethod
    def freedom(self) -> int:
        """Coefficients of the simplest dependence, or difference, that there is to find: one per pair of features, or feature."""

    @abstractmethod
    def network(self, runs: int) -> "QuadraticCritic | RatioCritic":
        """The default critic."""

    @abstractmethod
    def starts(self, *rows: Tensor) -> list[Forms]:
        """Candidates for the default critic's forms, from one run's training rows."""

    @abstractmethod
    def ratios(self, *rows: Tensor) -> Sequence[Callable[[], Callable[..., Tensor]]]:
        """Log-density ratios in closed form, each to be fitted to these rows when it is called."""


@dataclass
class Dependence(Question):
    """P: paired rows (x_i, y_i). Q: all unpaired ones, (x_i, y_j) with i != j."""

    x: Tensor
    y: Tensor
    levels: tuple[Tensor, Tensor] | None = None  # (n,) each, where x and y are one discrete column each
    numbers: bool = False  # no column is discrete
    scores: bool = False  # all are normal scores
    series: bool = False

    def __post_init__(self) -> None:
        self.samples, self.sizes = (self.x, self.y), (len(self.x),)
        columns = self.x.shape[1] + self.y.shape[1]
        if self.levels is None and columns > CLOSE:
            self.slowest = 2.0  # nothing is smoothed
        elif self.scores and columns == 2:  # a jump along a line, smoothed over h, costs h, and 1 / (n h^2) in noise
            self.slowest = 2 ** (1 / 3) if len(self.x) >= EDGES else 2.0

    def score(self, network: Any, *rows: Tensor, block: int = BLOCK) -> Scores:
        """All pairs within each block, the blocks below each other; rows that do not fill a block are left out."""
        blocks = -(-rows[0].shape[1] // block)
        size = rows[0].shape[1] // blocks
        pairs = self._pairs(network, rows[0][:, : blocks * size].unflatten(1, (blocks, size)), max(1, AT_ONCE // size))
        joint, marginal = pairs.diagonal(dim1=-2, dim2=-1).flatten(1), pairs.flatten(1, 2)
        return Scores(joint, marginal, marginal_mask=self._unpaired(blocks * size, size), rowwise=True)

    def _pairs(self, network: Any, rows: Tensor, some: int) -> Tensor:
        """(runs, blocks, n, n) of these rows (runs, blocks, n), so many blocks at a time."""
        if rows.shape[1] <= some:
            return network.matrix(self.x[rows], self.y[rows])
        pairs = self.x.new_empty(*rows.shape, rows.shape[-1])  # one piece: many, among what comes and goes, would hold it all
        for first in range(0, rows.shape[1], some):
            part = rows[:, first : first + some]
            pairs[:, first : first + some] = network.matrix(self.x[part], self.y[part])
        return pairs

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
        stays = self._stay(n, group, groups)
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

    @property
    def freedom(self) -> int:
        """Of a table, (levels of x - 1) (levels of y - 1)."""
        return self.x.shape[1] * self.y.shape[1]

    def starts(self, *rows: Tensor) -> list[Forms]:
        """Gaussian fits or, for two discrete columns, tables."""
        if self.levels is None:
            return gaussian_starts(self.x[rows[0]], self.y[rows[0]])
        sizes = [int(level.max()) + 1 for level in self.levels]
        x, y = (level[rows[0]] for level in self.levels)
        counts = torch.bincount(x * sizes[1] + y, minlength=sizes[0] * sizes[1]).view(*sizes)
        features = []
        for z, level, size in zip((self.x, self.y), self.levels, sizes, strict=True):
            first = z.new_zeros(size, z.shape[1])
            first[level] = z  # rows of one level are alike
            features.append(first)
        return table_starts(counts, *features)

    def ratios(self, *rows: Tensor) -> list[Callable[[], Callable[..., Tensor]]]:
        """Gaussians or tables; of numbers, directions that turn, Student-t distributions; of few columns, neighbouring rows."""
        x, y = self.x[rows[0]], self.y[rows[0]]
        columns = x.shape[1] + y.shape[1]
        found: list[Callable[[], Callable[..., Tensor]]] = [partial(Quadratic, forms) for forms in self.starts(*rows)]
        if self.numbers and columns > 2:
            found += [partial(Turning.fit, x, y, turns) for turns in ((True, False), (False, True), (True, True))]
        if self.numbers and columns <= MOST:
            found += [partial(Elliptical.fit, x, y, dof, scores=self.scores) for dof in TAILS]
        if self.levels is None and columns <= CLOSE:
            if self.scores and columns == 2:
                found += [partial(Grid.fit, x, y, width / len(x) ** (1 / 3)) for width in FINE]
            else:
                found += [partial(Kernel.fit, x, y, width) for width in WIDTHS]
        return found


@dataclass
class Difference(Question):
    """P: rows of the first sample. Q: rows of the second."""

    p: Tensor
    q: Tensor
    series: bool = False

    def __post_init__(self) -> None:
        self.samples, self.sizes = (self.p,), (len(self.p), len(self.q))
        self.doubt = 1.0  # there are few draws from Q: one row outside the others' range must decide nothing

    def score(self, network: Any, *rows: Tensor, block: int = BLOCK) -> Scores:
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
        first, second = (self._stay(values.shape[-1], group, groups) for values in (scores.joint, scores.marginal))
        return replace(scores, joint_mask=first, marginal_mask=second.unsqueeze(0))

    @property
    def freedom(self) -> int:
        """A shift of each feature."""
        return self.p.shape[1]

    def network(self, runs: int) -> RatioCritic:
        """A quadratic form and a network."""
        return RatioCritic(self.p.shape[1], runs)

    def starts(self, *rows: Tensor) -> list[Forms]:
        """The log-density ratio of two Gaussians."""
        return [difference_start(self.p[rows[0]], self.q[rows[1]])]

    def ratios(self, *rows: Tensor) -> list[Callable[[], Square]]:
        """The same."""
        return [partial(Square, forms) for forms in self.starts(*rows)]
