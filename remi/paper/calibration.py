"""How good `estimate_mi` is on problems with known mutual information: `make calibration`.

A cell is one estimate; its record is written when it is done, so that an interrupted calibration goes on where it was.
"""

import json
import math
import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from scipy.spatial import cKDTree
from scipy.special import digamma, gammaln
from tqdm import tqdm

import remi
from remi.estimation import Array, estimate_mi, normal_scores, standardize
from remi.losses import family
from remi.runs import sources, store

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Pair = tuple[Array, Array]
RECORDS = Path(remi.__file__).parents[1] / "build" / "calibration"
SIZES = (1000, 5000)
REPEATS = 2
COVERED, COVERED_SIZE, COVERED_REPEATS = ("Gaussian 5-D, 1", "uniform noise 0.75", "independent 5-D"), 2000, 40
ACCURATE, ACCURATE_SIZE, ACCURATE_REPEATS = 20, 10_000, 3  # Gaussians up to so many dimensions
SOURCES = sources("losses", "training", "estimation", "paper/calibration.py")[:8]  # as imported


# ---- Problems -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """A problem: how to draw n rows of it, and the truth in nats."""

    name: str
    mi: float
    draw: Callable[[np.random.Generator, int], Pair]
    discrete: tuple[str, ...] = ()


def gaussian(rng: np.random.Generator, n: int, *, dim: int, mi: float, pairs: int) -> Pair:
    """The first `pairs` of `dim` coordinates are correlated, equally."""
    rho = np.where(np.arange(dim) < pairs, math.sqrt(1 - math.exp(-2 * mi / pairs)), 0.0)
    x, noise = rng.normal(size=(2, n, dim))
    return x, rho * x + np.sqrt(1 - rho**2) * noise


def half_cube(rng: np.random.Generator, n: int, *, dim: int, mi: float) -> Pair:
    """Gaussians, z -> z |z|^(1/2) in every coordinate: heavier tails, the same information."""
    x, y = gaussian(rng, n, dim=dim, mi=mi, pairs=dim)
    return x * np.sqrt(np.abs(x)), y * np.sqrt(np.abs(y))


def spiral(rng: np.random.Generator, n: int, *, dim: int, mi: float) -> Pair:
    """Gaussians, the first two coordinates of x and of y turned by an angle of a third of the squared radius."""

    def turned(z: Array) -> Array:
        angle = (z**2).sum(1) / 3
        first, second = z[:, 0].copy(), z[:, 1].copy()
        z[:, 0] = np.cos(angle) * first - np.sin(angle) * second
        z[:, 1] = np.sin(angle) * first + np.cos(angle) * second
        return z

    x, y = gaussian(rng, n, dim=dim, mi=mi, pairs=dim)
    return turned(x), turned(y)


def student(rng: np.random.Generator, n: int, *, dim: int, mi: float, dof: int) -> Pair:
    """Gaussians divided by one common random scale."""
    x, y = gaussian(rng, n, dim=dim, mi=mi, pairs=dim)
    scale = np.sqrt(dof / rng.chisquare(dof, size=(n, 1)))
    return x * scale, y * scale


def student_mi(dim: int, mi: float, dof: int) -> float:
    """What the common scale adds to the Gaussians' information.

    I = mi + f(dof) + f(dof + 2 dim) - 2 f(dof + dim),  f(v) = log Gamma(v/2) - v/2 digamma(v/2)

    Source: Czyz et al. (2023), "Beyond normal", after Arellano-Valle et al. (2013).
    """

    def f(v: float) -> float:
        return float(gammaln(v / 2) - v / 2 * digamma(v / 2))

    return mi + f(dof) + f(dof + 2 * dim) - 2 * f(dof + dim)


def uniform_noise(rng: np.random.Generator, n: int, *, width: float) -> Pair:
    """X uniform on [0, 1], Y = X + noise uniform on [-width, width]."""
    x = rng.uniform(size=n)
    return x, x + rng.uniform(-width, width, size=n)


def uniform_noise_mi(width: float) -> float:
    """h(Y) - log(2 width)."""
    return width - math.log(2 * width) if width <= 0.5 else 1 / (4 * width)


def channel(rng: np.random.Generator, n: int, *, symbols: int, errors: float) -> Pair:
    """A uniform symbol, replaced by another one with probability `errors`."""
    x = rng.integers(symbols, size=n)
    wrong = rng.random(n) < errors
    return x, np.where(wrong, (x + rng.integers(1, symbols, size=n)) % symbols, x)


def channel_mi(symbols: int, errors: float) -> float:
    """Log symbols minus the entropy of the error."""
    entropy = -errors * math.log(errors) - (1 - errors) * math.log(1 - errors)
    return math.log(symbols) - entropy - errors * math.log(symbols - 1)


def dense(dim: int, mi: float) -> str:
    """Name of the Gaussian task in which all coordinates are correlated."""
    return f"Gaussian {dim}-D, {mi:g}"


DENSE = ((2, 0.5), (2, 1.0), (5, 1.0), (5, 2.0), (10, 2.0), (10, 3.0), (20, 2.0), (20, 4.0), (25, 2.0), (25, 4.0))
SPARSE = ((5, 1.0), (10, 2.0), (25, 2.0))
TASKS = (
    *(Task(dense(d, mi), mi, partial(gaussian, dim=d, mi=mi, pairs=d)) for d, mi in DENSE),
    *(Task(f"Gaussian {d}-D, 2 pairs, {mi:g}", mi, partial(gaussian, dim=d, mi=mi, pairs=2)) for d, mi in SPARSE),
    Task("Student-t 2-D, 2 dof", student_mi(2, 0.5, 2), partial(student, dim=2, mi=0.5, dof=2)),
    Task("Student-t 5-D, 3 dof", student_mi(5, 0.5, 3), partial(student, dim=5, mi=0.5, dof=3)),
    *(Task(f"uniform noise {w:g}", uniform_noise_mi(w), partial(uniform_noise, width=w)) for w in (0.1, 0.75)),
    Task("spiral 3-D, 1", 1.0, partial(spiral, dim=3, mi=1.0)),
    Task("half-cube 3-D, 1", 1.0, partial(half_cube, dim=3, mi=1.0)),
    Task("channel of 5 symbols", channel_mi(5, 0.3), partial(channel, symbols=5, errors=0.3), ("x", "y")),
    Task("independent 5-D", 0.0, partial(gaussian, dim=5, mi=0.0, pairs=5)),
)


# ---- Methods ------------------------------------------------------------------------------------------------------------


def nearest_neighbours(x: Array, y: Array, k: int = 3, seed: int = 0) -> float:
    """Kraskov, Stoegbauer and Grassberger's first estimator, on SciPy's k-d tree.

        digamma(k) + digamma(n) - mean of digamma(n_x + 1) + digamma(n_y + 1)

    n_x counts the rows whose x is strictly nearer than the k-th neighbour of (x, y), in the maximum norm. scikit-learn has
    it for one column against one column only. Ties are broken by noise of 1e-10, as there.
    """
    rng = np.random.default_rng(seed)
    x, y = (np.stack([standardize(column) for column in z.reshape(len(z), -1).T], 1) for z in (x, y))
    x, y = (z + 1e-10 * rng.normal(size=z.shape) for z in (x, y))
    both = np.concatenate([x, y], 1)
    near = np.nextafter(np.asarray(cKDTree(both).query(both, k + 1, p=np.inf)[0])[:, -1], 0)
    counts = [cKDTree(z).query_ball_point(z, near, p=np.inf, return_length=True) for z in (x, y)]  # with the row itself
    return float(digamma(k) + digamma(len(x)) - np.mean([digamma(count) for count in counts]) * 2)


def _neural(x: Array, y: Array, seed: int, discrete: Sequence[str], bound: str, **chosen: Any) -> tuple[float, float, float]:
    found = estimate_mi(x, y, bound=bound, seed=seed, discrete=list(discrete), **chosen)
    return found.value, *found.interval


def _neighbours(x: Array, y: Array, seed: int, discrete: Sequence[str], **chosen: Any) -> tuple[float, float, float]:
    if not discrete:  # the same features as the others have
        x, y = (np.stack([normal_scores(column) for column in z.reshape(len(z), -1).T], 1) for z in (x, y))
    return nearest_neighbours(x.astype(float), y.astype(float), seed=seed), math.nan, math.nan


METHODS: dict[str, Callable[..., tuple[float, float, float]]] = {
    "remine": partial(_neural, bound="remine"),
    "mine": partial(_neural, bound="mine"),
    "infonce": partial(_neural, bound="infonce"),
    "neighbours": _neighbours,
}
DEFAULT = "remine"
LABELS = {"remine": "default (ReMINE)", "mine": "MINE", "infonce": "InfoNCE", "neighbours": "nearest neighbours"}


# ---- Cells --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """One estimate."""

    task: str
    n: int
    method: str
    seed: int

    @property
    def path(self) -> Path:
        """Its record; another version of the sources has another."""
        words = f"{self.task} {self.n} {self.method} {self.seed}".replace(",", "").replace(" ", "-").replace(".", "p")
        return RECORDS / f"{words}-{SOURCES}.json"


def solve(cell: Cell, **chosen: Any) -> dict[str, Any]:
    """The cell's record, from its file if there is one."""
    from remi.paper.figures import write

    if cell.path.is_file():
        return json.loads(cell.path.read_text())
    task = next(task for task in TASKS if task.name == cell.task)
    x, y = task.draw(np.random.default_rng([cell.seed, cell.n]), cell.n)
    start = time.perf_counter()
    value, low, high = METHODS[cell.method](x, y, cell.seed, task.discrete, **chosen)
    seconds = time.perf_counter() - start
    record = {**asdict(cell), "mi": task.mi, "value": value, "low": low, "high": high, "seconds": seconds}
    RECORDS.mkdir(parents=True, exist_ok=True)
    write(cell.path, json.dumps(record))
    return record


def _one_thread() -> None:
    torch.set_num_threads(1)


def run(cells: Sequence[Cell], processes: int = 2, **chosen: Any) -> pd.DataFrame:
    """Every record, solved in so many processes of one thread each; 0 solves here."""
    if not processes:
        return pd.DataFrame([solve(cell, **chosen) for cell in cells])
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, _one_thread) as pool:
        found = pool.map(partial(solve, **chosen), cells)
        return pd.DataFrame(tqdm(found, total=len(cells), unit="cell", disable=None))


def grid(repeats: int = REPEATS) -> list[Cell]:
    """All cells: every method on every task, then the default's interval, often, and the default with many rows."""
    every = [Cell(task.name, n, name, seed) for seed in range(repeats) for task in TASKS for n in SIZES for name in METHODS]
    covered = [Cell(name, COVERED_SIZE, DEFAULT, seed) for seed in range(COVERED_REPEATS) for name in COVERED]
    gaussians = [dense(dim, mi) for dim, mi in DENSE if dim <= ACCURATE]
    return every + covered + [Cell(name, ACCURATE_SIZE, DEFAULT, seed) for seed in range(ACCURATE_REPEATS) for name in gaussians]


# ---- Products -----------------------------------------------------------------------------------------------------------


def summary(records: pd.DataFrame) -> pd.DataFrame:
    """A row per task, size and method.

    A failure is not finite, or farther from the truth than half of it and than a quarter of a nat.
    """
    rows = records.assign(error=records.value - records.mi)
    rows["covered"] = np.where(rows.low.notna(), (rows.low <= rows.mi) & (rows.mi <= rows.high), np.nan).astype(float)
    rows["failed"] = ~(rows.error.abs() <= np.maximum(0.25, rows.mi / 2))
    groups = rows.groupby(["task", "n", "method"], sort=False)
    return groups.agg(
        mi=("mi", "first"),
        repetitions=("error", "size"),
        bias=("error", "mean"),
        spread=("error", "std"),
        median_absolute_error=("error", lambda error: error.abs().median()),
        coverage=("covered", "mean"),
        failures=("failed", "mean"),
        seconds=("seconds", "mean"),
    ).reset_index()


def judge(table: pd.DataFrame) -> pd.DataFrame:
    """What the default must do, against the summary: a row per target, set before any of it was measured."""
    default = table[table.method == DEFAULT].set_index(["task", "n"])
    rows = []

    def add(statement: str, target: str, measured: str, *, met: bool) -> None:
        rows.append({"statement": statement, "target": target, "measured": measured, "verdict": "met" if met else "missed"})

    many = default.xs(ACCURATE_SIZE, level="n")
    small = many.loc[[dense(dim, mi) for dim, mi in DENSE if dim <= 10 and mi <= 3]]
    shares = many.median_absolute_error / many.mi
    met = bool((small.median_absolute_error <= np.maximum(0.05 * small.mi, 0.05)).all())
    statement = f"Gaussians up to 10 dimensions and 3 nats, n = {ACCURATE_SIZE:,}"
    add(statement, "median error at most 5% or 0.05 nats", f"at most {shares[small.index].max():.1%}", met=met)
    hard = dense(20, 4)
    add(f"{hard} nats, n = {ACCURATE_SIZE:,}", "median error below 19%", f"{shares[hard]:.2%}", met=bool(shares[hard] < 0.19))

    every = table[table.n.isin(SIZES)].pivot_table(index=["task", "n"], columns="method", values="median_absolute_error")
    ahead = int((every[DEFAULT] < every.neighbours).sum())
    add("nearer the truth than nearest neighbours", "2 of 3 tasks", f"{ahead} of {len(every)}", met=ahead >= len(every) * 2 / 3)

    often = default.xs(COVERED_SIZE, level="n").loc[list(COVERED)]
    target = f"85% of {COVERED_REPEATS} repetitions; 90% for independence"
    least = [0.9 if mi == 0 else 0.85 for mi in often.mi]
    measured = ", ".join(f"{name}: {coverage:.0%}" for name, coverage in often.coverage.items())
    add(
        f"the nominal 95% interval holds the truth, n = {COVERED_SIZE:,}",
        target,
        measured,
        met=bool((often.coverage >= least).all()),
    )

    seconds = many.loc[[dense(dim, mi) for dim, mi in DENSE if dim == 10]].seconds.max()
    add(f"{ACCURATE_SIZE:,} rows of 10 + 10 columns", "at most 60 s", f"{seconds:.0f} s on one core", met=seconds <= 60)
    return pd.DataFrame(rows)


def draw(table: pd.DataFrame) -> "Figure":
    """Mean error of every method on every task, and its standard deviation over repetitions, a panel per size.

    The axis is logarithmic beyond a tenth of a nat, so that errors of 0.02 and of 3 nats can both be read.

    Args:
        table: of `summary`.
    """
    from matplotlib.figure import Figure

    from remi.style import JOINT, MARKERS, PALETTE, TRUTH

    tasks, sizes = list(table.task.unique()), [n for n in table.n.unique() if n in SIZES]
    looks = {name: {"color": PALETTE.get(family(name), JOINT), "marker": MARKERS.get(family(name), "x")} for name in LABELS}
    figure = Figure(figsize=(7.0, 0.9 + 0.24 * len(tasks)))
    for axes, n in zip(panels := figure.subplots(1, len(sizes), sharey=True, squeeze=False)[0], sizes, strict=True):
        axes.axvline(0, color=TRUTH, ls=":", lw=1.2)
        for place, name in enumerate(LABELS):
            rows = table[(table.n == n) & (table.method == name)]
            height = [tasks.index(task) + 0.18 * (place - 1.5) for task in rows.task]
            fill = "none" if name == "mine" else looks[name]["color"]
            axes.errorbar(rows.bias, height, xerr=rows.spread, ls="", ms=3, lw=0.8, mfc=fill, label=LABELS[name], **looks[name])
        axes.set(title=f"n = {n:,}", xlabel="mean of estimate - true MI (nats)", yticks=range(len(tasks)), yticklabels=tasks)
        axes.set_xscale("symlog", linthresh=0.1, linscale=0.6)
        axes.set(ylim=(len(tasks) - 0.5, -0.5), xlim=(-5, 0.2))
        axes.set_xticks((-3, -1, -0.3, -0.1, 0, 0.1), ("-3", "-1", "-0.3", "-0.1", "0", "0.1"), fontsize=6)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure


def calibrate(repeats: int = REPEATS, processes: int = 2) -> None:
    """Solve what is missing, and write figures/calibration.csv, .json, .png and .pdf, and the targets beside them."""
    from remi.paper.figures import PRODUCTS, write
    from remi.style import render

    records = run(grid(repeats), processes)
    table = summary(records)
    write(PRODUCTS / "calibration.csv", table.to_csv(index=False, float_format="%.4g", lineterminator="\n"))
    write(PRODUCTS / "calibration_targets.csv", judge(table).to_csv(index=False, lineterminator="\n"))
    provenance = {"repeats": repeats, "cells": len(records), "environment": store.environment(), "sources": SOURCES}
    write(PRODUCTS / "calibration.json", json.dumps(provenance, indent=1, sort_keys=True))
    for suffix, content in render(draw(table)).items():
        write(PRODUCTS / f"calibration{suffix}", content)
