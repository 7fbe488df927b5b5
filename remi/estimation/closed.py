"""Log-density ratios in closed form: fitted to some rows without any training, and of one shape."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from remi.estimation.ratios import Forms, distance
from remi.estimation.starts import HIGHEST, shrunk_directions, sparse_directions, stein, weights

TAILS = (1, 2, 4)  # degrees of freedom of the Student-t copulas
MOST = 20  # columns of x and y together that such a copula is fitted to
LOOKS = 12  # iterations of its scatter
DIRECTIONS = 12  # at most, of those that turn
CENTRES, CLOSE = 3000, 4  # rows that a kernel stands on; columns of x and y together in which rows have neighbours
LEAST = -126.0  # of an exponent: below, numbers lose their digits and processors their speed
WIDTHS = (0.1, 0.2, 0.4)  # of kernels, in standard deviations
FINE = (0.05, 0.1, 0.2, 0.4, 0.8)  # of those of a table over ranks, over the cube root of the rows
NODES = 256  # of a table over two columns, a side
ALONE = 0.005  # of a row, added everywhere to joint and product alike: where there are no rows, the ratio is 1


class Ratio(ABC):
    """T(x, y) = h(f(x) . g(y), a(x), b(y)): all n^2 pairs cost one matrix product."""

    @abstractmethod
    def left(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(..., n, dim_x) -> f (..., n, k) and a (..., n)."""

    @abstractmethod
    def right(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """(..., n, dim_y) -> g (..., n, k) and b (..., n)."""

    def h(self, inner: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """T from the three."""
        return inner + a + b

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """(n, dim_x) and (n, dim_y) -> (n,): each x with its own y."""
        (f, a), (g, b) = self.left(x), self.right(y)
        return self.h((f * g).sum(-1), a, b).float()

    def matrix(self, x: Tensor, y: Tensor) -> Tensor:
        """(..., n, dim_x) and (..., m, dim_y) -> (..., n, m): row i is anchored at x_i."""
        (f, a), (g, b) = self.left(x), self.right(y)
        return self.h(f @ g.transpose(-1, -2), a.unsqueeze(-1), b.unsqueeze(-2)).float()


@dataclass(frozen=True)
class Quadratic(Ratio):
    """x'My + x'Ax + y'By + x'c + y'd: Gaussians, or any table of two discrete columns."""

    forms: Forms

    def left(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The halves x'M and x'Ax + x'c."""
        cross, own, _, line, _ = self.forms
        return x @ cross, (x * (x @ own)).sum(-1) + (x @ line).squeeze(-1)

    def right(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """The halves y and y'By + y'd."""
        _, _, own, _, line = self.forms
        return y, (y * (y @ own)).sum(-1) + (y @ line).squeeze(-1)


@dataclass(frozen=True)
class Turning(Ratio):
    """The log-density ratio of Gaussians along directions that turn with the distance of a row, on one side or on both.

        sum_k [s_k u_k v_k - s_k^2 (u_k^2 + v_k^2) / 2] / (1 - s_k^2)

    u and v are canonical directions of the columns and of the columns times how far out their row lies, as normal scores of
    their own ranks: a product of columns has tails that no Gaussian has.
    """

    turns: tuple[bool, bool]
    directions: tuple[Tensor, Tensor]
    sorted: tuple[Tensor, Tensor]  # (k, n) what the rows are along each
    s: Tensor

    @classmethod
    def fit(cls, x: Tensor, y: Tensor, turns: tuple[bool, bool]) -> "Turning":
        """Of few columns, for there are twice as many."""
        sides = [widened(z) if turn else z for z, turn in zip((x, y), turns, strict=True)]
        left, _, right, used = sparse_directions(*sides)
        directions = left[:, :DIRECTIONS], right[:, :DIRECTIONS]
        along = [(z.double() @ ways).T.contiguous() for z, ways in zip(sides, directions, strict=True)]
        known = along[0].sort(-1).values, along[1].sort(-1).values
        u, v = (scored(values.T, rows) for values, rows in zip(along, known, strict=True))
        s = (u * v).mean(0) / (u.square().mean(0) * v.square().mean(0)).sqrt().clamp_min(1e-12)
        return cls(turns, directions, known, stein(s.clamp_min(0), len(x), *used).clamp(max=HIGHEST))

    def left(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The halves s u / (1 - s^2), and what u adds alone."""
        u, own = self._side(x, 0)
        return weights(self.s)[0] * u, own

    def right(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """The halves v, and what they add alone."""
        return self._side(y, 1)

    def _side(self, z: Tensor, side: int) -> tuple[Tensor, Tensor]:
        z = widened(z) if self.turns[side] else z
        along = scored(z.double() @ self.directions[side], self.sorted[side])
        return along, (weights(self.s)[1] * along.square()).sum(-1)


def scored(values: Tensor, rows: Tensor) -> Tensor:
    """(..., k) numbers -> the normal scores of their ranks among sorted rows (k, n), no farther out than these."""
    n, columns = rows.shape[1], values.movedim(-1, 0).flatten(1).contiguous()
    place = (torch.searchsorted(rows, columns) + torch.searchsorted(rows, columns, right=True)) / 2
    scores = torch.special.ndtri((place.double() / n).clamp(0.5 / n, 1 - 0.5 / n))
    return scores.view(-1, *values.shape[:-1]).movedim(0, -1)


def widened(z: Tensor) -> Tensor:
    """(..., d) -> (..., 2d)."""
    return torch.cat([z, distance(z) * z], -1)


@dataclass(frozen=True)
class Square:
    """z'Az + z'b, of two samples."""

    forms: Forms

    def __call__(self, z: Tensor) -> Tensor:
        """(n, dim) -> (n,)."""
        own, line = self.forms
        return (z * (z @ own)).sum(-1) + (z @ line).squeeze(-1)


# ---- Common tails -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Elliptical(Ratio):
    """The log-density ratio of a Student-t distribution with v degrees of freedom, or of its copula.

        -(v + p + q)/2 log(1 + Q/v) + (v + p)/2 log(1 + Q_x/v) + (v + q)/2 log(1 + Q_y/v)

    with the quadratic forms Q of (x, y), Q_x and Q_y of the scatter, its canonical correlations s, and p and q columns:

        Q = Q_x + Q_y + sum_k [s_k^2 (u_k^2 + v_k^2) - 2 s_k u_k v_k] / (1 - s_k^2).

    Source: Demarta and McNeil (2005).
    """

    dof: int
    scores: bool  # columns are normal scores, to be given the tails
    centre: tuple[Tensor, Tensor]
    white: tuple[Tensor, Tensor]
    directions: tuple[Tensor, Tensor]
    s: Tensor

    @classmethod
    def fit(cls, x: Tensor, y: Tensor, dof: int, *, scores: bool) -> "Elliptical":
        """Centre and scatter of largest likelihood, the correlations shrunk by one factor."""
        z = torch.cat([x, y], 1).double()
        z = tailed(z, dof) if scores else z
        n, d = z.shape
        centre = z.median(0).values
        scatter = torch.diag((z - centre).abs().median(0).values.square() + 1e-12)
        for _ in range(LOOKS):
            away = z - centre
            weight = (dof + d) / (dof + (away @ torch.linalg.inv(scatter) * away).sum(1, keepdim=True))
            centre = (weight * z).sum(0) / weight.sum()
            scatter = (weight * away).T @ away / n
            scatter.diagonal().add_(1e-6 * scatter.diagonal().mean())
        p = x.shape[1]
        found = shrunk_directions(scatter[:p, :p], scatter[:p, p:], scatter[p:, p:], n)
        return cls(dof, scores, (centre[:p], centre[p:]), *found)

    def left(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(-2 s u / (1 - s^2), Q_x + sum s^2 u^2 / (1 - s^2), 1) and Q_x."""
        u, own, whole = self._side(x, 0)
        return torch.cat([-2 * self.s / (1 - self.s.square()) * u, own, torch.ones_like(own)], -1), whole

    def right(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """(v, 1, Q_y + sum s^2 v^2 / (1 - s^2)) and Q_y."""
        v, own, whole = self._side(y, 1)
        return torch.cat([v, torch.ones_like(own), own], -1), whole

    def _side(self, z: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor]:
        z = z.double()
        z = (tailed(z, self.dof) if self.scores else z) - self.centre[side]
        along, whole = z @ self.directions[side], (z @ self.white[side]).square().sum(-1)
        own = whole + (self.s.square() / (1 - self.s.square()) * along.square()).sum(-1)
        return along, own.unsqueeze(-1), whole

    def h(self, inner: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """Three logarithms."""
        v, (p, q) = self.dof, (len(white) for white in self.white)
        joint, x, y = (torch.log1p(form.clamp_min(0) / v) for form in (inner, a, b))
        return ((v + p) * x + (v + q) * y - (v + p + q) * joint) / 2


def tailed(z: Tensor, dof: int) -> Tensor:
    """Student-t quantiles, of 1, 2 or 4 degrees of freedom, of what z is the normal quantile of.

    With u the smaller tail and e = 4u(1 - u): cot(pi u); (1 - 2u) sqrt(2/e); 2 sqrt(cos(arccos(sqrt e)/3)/sqrt e - 1).

    Source: Shaw (2006).
    """
    u = torch.special.ndtr(-z.abs()).clamp_min(1e-12)
    e = 4 * u * (1 - u)
    if dof == 1:
        size = 1 / torch.tan(math.pi * u)
    elif dof == 2:
        size = (1 - 2 * u) * (2 / e).sqrt()
    else:
        root = e.sqrt().clamp_max(1)
        size = 2 * ((root.acos() / 3).cos() / root - 1).clamp_min(0).sqrt()
    return size * z.sign()


# ---- Neighbours ---------------------------------------------------------------------------------------------------------


def smoothed(joint: Tensor, x: Tensor, y: Tensor, alone: float) -> Tensor:
    """Log of joint / (x y), where densities are estimated; 0 where there are none."""
    return ((joint + alone) / (x * y + alone)).log()


@dataclass(frozen=True)
class Kernel(Ratio):
    """The log-ratio of densities estimated with Gaussian kernels on (x_i, y_i), which factor into one of x and one of y."""

    x: Tensor
    y: Tensor
    width: float
    alone: float

    @classmethod
    def fit(cls, x: Tensor, y: Tensor, width: float) -> "Kernel":
        """Kernels on the rows, or on so many of them."""
        x, y = x[:CENTRES], y[:CENTRES]
        return cls(x, y, width, ALONE / len(x))

    def left(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Kernels over the number of centres, and their mean."""
        values = kernels(x, self.x, self.width)
        return values / len(self.x), values.mean(-1)

    def right(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Kernels and their mean."""
        values = kernels(y, self.y, self.width)
        return values, values.mean(-1)

    def h(self, inner: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """The ratio of the mean product to the product of means."""
        return smoothed(inner, a, b, self.alone)


def kernels(z: Tensor, centres: Tensor, width: float) -> Tensor:
    """(..., n, d) and (m, d) -> (..., n, m), 1 at distance 0: exp(-|z - c|^2 / (2 width^2)).

    The exponent is one product, z . c - z^2 / 2 - c^2 / 2, and to the base 2, which is ten times as fast far from a centre.
    """
    scale = math.sqrt(math.log2(math.e)) / width
    z, centres = scale * z, scale * centres
    own, theirs = (side.square().sum(-1, keepdim=True) / -2 for side in (z, centres))
    left = torch.cat([z, own, torch.ones_like(own)], -1)
    right = torch.cat([centres, torch.ones_like(theirs), theirs], -1)
    return (left @ right.T).clamp_(LEAST, 0).exp2_()


@dataclass(frozen=True)
class Grid:
    """A table over the ranks of two columns, given as normal scores; between its nodes T is bilinear."""

    table: Tensor  # (NODES, NODES)

    @classmethod
    def fit(cls, x: Tensor, y: Tensor, width: float) -> "Grid":
        """The log-ratio of counts smoothed by a Gaussian kernel that the edges of the unit square reflect."""
        kernel = reflected(width, x.device)
        joint = kernel @ counts(x, y) @ kernel.T / len(x)
        rows, columns = joint.sum(1, keepdim=True), joint.sum(0, keepdim=True)
        return cls(smoothed(joint, rows, columns, ALONE / len(x) * float(kernel.max()) ** 2))

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """(n, 1) and (n, 1) -> (n,): each x with its own y."""
        (i, a), (j, b) = between(x), between(y)
        below, above = (torch.lerp(self.table[i, k], self.table[i + 1, k], a) for k in (j, j + 1))
        return torch.lerp(below, above, b)

    def matrix(self, x: Tensor, y: Tensor) -> Tensor:
        """(..., n, 1) and (..., m, 1) -> (..., n, m): row i is anchored at x_i."""
        (i, a), (j, b) = between(x), between(y)
        rows = torch.lerp(self.table[i], self.table[i + 1], a.unsqueeze(-1))
        below, above = (rows.take_along_dim(k.unsqueeze(-2), -1) for k in (j, j + 1))
        return torch.lerp(below, above, b.unsqueeze(-2))


@lru_cache(maxsize=32)
def reflected(width: float, device: torch.device) -> Tensor:
    """(NODES, NODES) a kernel at each node, of mass 1, whose tails beyond the edges are folded back."""
    place = (torch.arange(NODES, device=device) + 0.5) / NODES
    images = torch.cat([-place, place, 2 - place])
    kernel = kernels(place.unsqueeze(1), images.unsqueeze(1), width).unflatten(1, (3, NODES)).sum(1)
    return kernel / kernel.sum(0)


def counts(x: Tensor, y: Tensor) -> Tensor:
    """(n, 1) and (n, 1) -> (NODES, NODES): each row is shared by the four nodes around it."""
    (i, a), (j, b) = between(x), between(y)
    shares = [
        torch.bincount((i + right) * NODES + j + up, wide * high, NODES**2)
        for right, wide in enumerate((1 - a, a))
        for up, high in enumerate((1 - b, b))
    ]
    return torch.stack(shares).sum(0).view(NODES, NODES)


def between(z: Tensor) -> tuple[Tensor, Tensor]:
    """(..., n, 1) normal scores -> (..., n) the node below each rank, and how far the rank is on the way to the next."""
    place = (torch.special.ndtr(z.squeeze(-1)) * NODES - 0.5).clamp(0, NODES - 1)
    below = place.long().clamp(max=NODES - 2)
    return below, place - below
