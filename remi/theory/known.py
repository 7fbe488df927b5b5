"""Laws whose mutual information is known: the 40 tasks of "Beyond Normal", each with its best critic.

A task draws from a base law and bends x and y by maps that keep the information. The base law knows its pointwise mutual
information log p(x, y) / (p(x) p(y)): the oracle that no critic beats.

Source: Czyz, Grabowski, Vogt, Beerenwinkel and Marx (NeurIPS 2023), "Beyond Normal: On the Evaluation of Mutual Information
Estimators", and the package benchmark-mi, whose names and parameters are kept.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, ndtr, psi

Array = NDArray[np.float64]
Pair = tuple[Array, Array]
Map = Callable[[Array], Array]
SIZES = 1000, 5000, 10_000  # rows that the field asks for


# ---- Base laws ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Law:
    """A joint law of x (n, d_x) and y (n, d_y).

    Args:
        mi: I(X; Y) in nats.
        draw: n independent rows of x and of y.
        log_ratio: log p(x, y) / (p(x) p(y)) row by row, (n,), in nats; -inf where no such pair occurs.
    """

    mi: float
    draw: Callable[[np.random.Generator, int], Pair]
    log_ratio: Callable[[Array, Array], Array]


def normal(covariance: Array, dim: int) -> Law:
    """Columns of mean 0 with this covariance S, the first `dim` of them x.

    I = (log det S_x + log det S_y - log det S) / 2
    """
    blocks = covariance[:dim, :dim], covariance[dim:, dim:], covariance
    determinants = [float(np.linalg.slogdet(block)[1]) for block in blocks]
    mi = (determinants[0] + determinants[1] - determinants[2]) / 2
    root, precisions = np.linalg.cholesky(covariance).T, [np.linalg.inv(block) for block in blocks]

    def draw(rng: np.random.Generator, n: int) -> Pair:
        z = rng.normal(size=(n, len(root))) @ root
        return z[:, :dim], z[:, dim:]

    def log_ratio(x: Array, y: Array) -> Array:
        of_x, of_y, of_both = (((z @ P) * z).sum(1) for z, P in zip((x, y, np.hstack([x, y])), precisions, strict=True))
        return mi + (of_x + of_y - of_both) / 2

    return Law(mi, draw, log_ratio)


def dense(dim: int, correlation: float = 0.5) -> Law:
    """Every column correlates equally with every other one, on both sides."""
    return normal(np.full((2 * dim, 2 * dim), correlation) + (1 - correlation) * np.eye(2 * dim), dim)


def paired(dim: int, pairs: int = 2, correlation: float = 0.8) -> Law:
    """The first columns of x and y correlate in pairs; all else is independent."""
    cross = np.diag(np.where(np.arange(dim) < pairs, correlation, 0.0))
    return normal(np.block([[np.eye(dim), cross], [cross, np.eye(dim)]]), dim)


def student(dim: int, dof: int) -> Law:
    """Independent normal columns, all of a row divided by one scale: dependent through the tails alone.

    I = f(dof) + f(dof + 2 dim) - 2 f(dof + dim),  f(v) = log Gamma(v/2) - v/2 digamma(v/2)

    Source: Arellano-Valle, Contreras-Reyes and Genton (2013), with the slip in their last formula mended.
    """

    def f(v: int) -> float:
        return float(gammaln(v / 2) - v / 2 * psi(v / 2))

    def draw(rng: np.random.Generator, n: int) -> Pair:
        z = rng.normal(size=(n, 2 * dim)) / np.sqrt(rng.chisquare(dof, size=(n, 1)) / dof)
        return z[:, :dim], z[:, dim:]

    def log_density(z: Array) -> Array:
        k = z.shape[1]
        constant = gammaln((dof + k) / 2) - gammaln(dof / 2) - k / 2 * math.log(dof * math.pi)
        return constant - (dof + k) / 2 * np.log1p((z**2).sum(1) / dof)

    def log_ratio(x: Array, y: Array) -> Array:
        return log_density(np.hstack([x, y])) - log_density(x) - log_density(y)

    return Law(f(dof) + f(dof + 2 * dim) - 2 * f(dof + dim), draw, log_ratio)


def uniform_noise(width: float) -> Law:
    """X uniform on [0, 1], Y = X + N with N uniform on [-width, width]: sharp edges.

    I = width - log(2 width) up to a width of 1/2, 1 / (4 width) from there on
    """

    def draw(rng: np.random.Generator, n: int) -> Pair:
        x = rng.uniform(size=(n, 1))
        return x, x + rng.uniform(-width, width, size=(n, 1))

    def log_ratio(x: Array, y: Array) -> Array:
        left = np.minimum(1, y + width) - np.maximum(0, y - width)  # length of the x that y leaves possible
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(np.abs(y - x) <= width, -np.log(left), -np.inf)[:, 0]

    return Law(width - math.log(2 * width) if width <= 0.5 else 1 / (4 * width), draw, log_ratio)


# ---- Maps that keep the information -------------------------------------------------------------------------------------


def half_cube(z: Array) -> Array:
    """Sign times |z|^(3/2): longer tails."""
    return z * np.sqrt(np.abs(z))


def wiggly_x(z: Array) -> Array:
    """Increasing, of uneven slope."""
    return z + 0.4 * np.sin(z) + 0.2 * np.sin(1.7 * z + 1) + 0.03 * np.sin(3.3 * z - 2.5)


def wiggly_y(z: Array) -> Array:
    """Increasing, of another uneven slope."""
    return z - 0.4 * np.sin(0.4 * z) + 0.17 * np.sin(1.3 * z + 3.5) + 0.02 * np.sin(4.3 * z - 2.5)


def two_humps(z: Array, *, first: float, centres: tuple[float, float]) -> Array:
    """The increasing map that takes a standard normal to a mixture of N(centre, 1), a share `first` at the first centre.

    The mixture's distribution function is inverted by halving, to 1e-13.
    """
    low, high = z + min(centres), z + max(centres)  # the mixture's function lies between its parts' ones
    for _ in range(46):
        middle = (low + high) / 2
        below = first * ndtr(middle - centres[0]) + (1 - first) * ndtr(middle - centres[1]) < ndtr(z)
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return (low + high) / 2


def swiss_roll(u: Array) -> Array:
    """A number of [0, 1] as a place on a rolled-up line, (n, 2)."""
    t = 1.5 * math.pi * (1 + 2 * u)
    return np.hstack([t * np.cos(t), t * np.sin(t)]) / 21


def spiral(z: Array, *, plane: tuple[int, int]) -> Array:
    """Two columns of the row turned by an angle of |row|^2 / columns."""
    i, j = plane
    angle = (z**2).sum(1) / z.shape[1]
    turned = z.copy()
    turned[:, i] = np.cos(angle) * z[:, i] - np.sin(angle) * z[:, j]
    turned[:, j] = np.sin(angle) * z[:, i] + np.cos(angle) * z[:, j]
    return turned


# ---- Tasks --------------------------------------------------------------------------------------------------------------


def unbent(z: Array) -> Array:
    """The base law's own columns."""
    return z


@dataclass(frozen=True)
class Task:
    """A law, seen through a map on either side.

    Args:
        name: as it is published.
        family: what it has in common with others.
        normal: whether it is "exactly" a multivariate normal, one after increasing maps of single "columns", or "no" such thing.
        law: of the columns before the maps.
        x_map: from the law's x to the x that is seen.
        y_map: the same for y.
        sizes: numbers of rows that it is asked with.
        discrete: the sides that hold codes.
    """

    name: str
    family: str
    normal: Literal["exactly", "columns", "no"]
    law: Law
    x_map: Map = unbent
    y_map: Map = unbent
    sizes: tuple[int, ...] = SIZES
    discrete: tuple[str, ...] = ()

    @property
    def gaussian(self) -> bool:
        """Whether its columns' ranks are those of a multivariate normal."""
        return self.normal != "no"

    @property
    def mi(self) -> float:
        """The truth in nats."""
        return self.law.mi

    def seen(self, base: Pair) -> Pair:
        """What an estimator is given of rows of the law."""
        return self.x_map(base[0]), self.y_map(base[1])

    def draw(self, rng: np.random.Generator, n: int) -> Pair:
        """So many rows of x (n, d_x) and of y (n, d_y)."""
        return self.seen(self.law.draw(rng, n))


BINORMAL = dense(1, 0.75)
SPARSE = {f"multinormal-sparse-{dim}-{dim}-2-2.0": paired(dim) for dim in (2, 3, 5, 25)}
LARGE = dict(list(SPARSE.items())[1:])  # those that are bent
STUDENTS = {f"student-identity-{d}-{d}-{v}": student(d, v) for d, v in ((1, 1), (2, 1), (2, 2), (3, 2), (3, 3), (5, 2), (5, 3))}
HUMPS = partial(two_humps, first=0.3, centres=(0.0, 5.0)), partial(two_humps, first=0.5, centres=(-1.0, 3.0))
TURNS = partial(spiral, plane=(0, 1)), partial(spiral, plane=(1, 2))


def _spiral_of_uniform(plane: tuple[int, int]) -> Map:
    return lambda z: spiral(ndtr(z), plane=plane)


TASKS: tuple[Task, ...] = (
    Task("1v1-normal-0.75", "normal", "exactly", BINORMAL),
    *(Task(f"multinormal-dense-{dim}-{dim}-0.5", "normal", "exactly", dense(dim)) for dim in (2, 3, 5, 25, 50)),
    *(Task(name, "normal", "exactly", law) for name, law in SPARSE.items()),
    Task("normal_cdf-1v1-normal-0.75", "normal CDF", "columns", BINORMAL, ndtr, ndtr),
    *(Task(f"normal_cdf-{name}", "normal CDF", "columns", law, ndtr, ndtr) for name, law in LARGE.items()),
    Task("half_cube-1v1-normal-0.75", "half-cube", "columns", BINORMAL, half_cube, half_cube),
    *(Task(f"half_cube-{name}", "half-cube", "columns", law, half_cube, half_cube) for name, law in LARGE.items()),
    Task("1v1-bimodal-0.75", "bimodal", "columns", BINORMAL, *HUMPS),
    Task("wiggly-1v1-normal-0.75", "wiggly", "columns", BINORMAL, wiggly_x, wiggly_y),
    *(Task(f"1v1-additive-{width}", "uniform noise", "no", uniform_noise(width)) for width in (0.1, 0.75)),
    Task("swissroll_x-normal_cdf-1v1-normal-0.75", "Swiss roll", "no", BINORMAL, lambda z: swiss_roll(ndtr(z)), ndtr),
    *(Task(name, "Student-t", "no", law) for name, law in STUDENTS.items()),
    *(
        Task(f"asinh-{name}", "asinh of Student-t", "no", STUDENTS[name], np.arcsinh, np.arcsinh)
        for name in (f"student-identity-{part}" for part in ("1-1-1", "2-2-1", "3-3-2", "5-5-2"))
    ),
    *(Task(f"spiral-{name}", "spiral", "no", law, *TURNS) for name, law in LARGE.items()),
    *(
        Task(f"spiral-normal_cdf-{name}", "spiral", "no", law, _spiral_of_uniform((0, 1)), _spiral_of_uniform((1, 2)))
        for name, law in LARGE.items()
    ),
)
