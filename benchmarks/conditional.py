"""`estimate_cmi` on tasks whose conditional mutual information is a formula, beside two published nearest-neighbour estimators.

    pip install --no-deps npeet-plus tigramite          (into an environment or a folder of their own, on the path)
    python benchmarks/conditional.py [--n 5000] [--seeds 1]

NPEET's counts neighbours among numbers (Frenzel and Pompe, 2007; k = 3, its default), tigramite's among numbers and codes
(Mesner and Shalizi, 2021; k = 7, theirs). Both are given the normal scores of numbers, as ours takes them. Without the packages
only ours is asked, at its default. Answers are appended to `runs/conditional.csv`, counted in `figures/conditional.csv`, drawn in
`figures/conditional.png`, and held against the goals in `figures/conditional_targets.csv`.
"""

import argparse
import csv
import math
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from remi.estimation import estimate_cmi
from remi.estimation.columns import normal_scores
from remi.paper.figures import PRODUCTS, write
from remi.runs.store import STORE
from remi.style import JOINT, PALETTE, TRUTH, render

Array = np.ndarray[Any, Any]
Rows = tuple[Array, Array, Array]
Generator = np.random.Generator
GOAL, NEARER = 0.05, 8  # nats, mean absolute error over the tasks at n = 5,000; tasks on which a rival is farther from the truth
COLUMNS = ("task", "n", "seed", "truth", "estimator", "value", "low", "high", "p", "seconds")


@dataclass(frozen=True)
class Task:
    """Rows to draw, and the answer."""

    name: str
    truth: float  # nats
    draw: Callable[[Generator, int], Rows]
    discrete: tuple[str, ...] = ()


# ---- Everything normal: a system of equations, cause before effect --------------------------------------------------------


def normal(name: str, effects: Array, noise: Sequence[float], x: list[int], y: list[int], z: list[int]) -> Task:
    """A vector v = effects v + noise; x, y and z are some of its variables.

    I(X; Y | Z) = 1/2 log det S_xz det S_yz / (det S_z det S_xyz)
    """
    whole = np.linalg.inv(np.eye(len(effects)) - effects) * np.asarray(noise)
    covariance = whole @ whole.T

    def log_det(*groups: list[int]) -> float:
        which = [variable for group in groups for variable in group]
        return float(np.linalg.slogdet(covariance[np.ix_(which, which)])[1])

    truth = 0.5 * (log_det(x, z) + log_det(y, z) - log_det(z) - log_det(x, y, z))

    def draw(rng: Generator, n: int) -> Rows:
        values = rng.normal(size=(n, len(effects))) @ whole.T
        return values[:, x], values[:, y], values[:, z]

    return Task(name, round(max(0.0, truth), 12), draw)


def system(size: int, effects: dict[tuple[int, int], float]) -> Array:
    """A matrix of effects, by (on which, of which) variable."""
    found = np.zeros((size, size))
    for place, value in effects.items():
        found[place] = value
    return found


def random_system(columns: int) -> Array:
    """Three groups: z acts on x and y, and x on y."""
    rng = np.random.default_rng(7)
    found = np.zeros((3 * columns, 3 * columns))
    z, x, y = (slice(i * columns, (i + 1) * columns) for i in range(3))
    found[x, z], found[y, z], found[y, x] = (rng.normal(size=(columns, columns)) * size for size in (0.4, 0.4, 0.2))
    return found


def lagged() -> float:
    """Transfer entropy of `past`: the variance of y_t given its own past value, and given that of x, too."""
    step, noise = np.array([[0.6, 0.0], [0.4, 0.5]]), np.eye(2)
    now = sum(np.linalg.matrix_power(step, k) @ noise @ np.linalg.matrix_power(step, k).T for k in range(60))
    before = now @ step.T  # covariance of the values before with those now
    alone = now[1, 1] - before[1, 1] ** 2 / now[1, 1]
    return 0.5 * math.log(alone)


def past(rng: Generator, n: int) -> Rows:
    """What x says of the next y beyond the last y."""
    noise = rng.normal(size=(n + 200, 2))
    values = np.zeros_like(noise)
    for t in range(1, len(values)):
        values[t] = 0.6 * values[t - 1, 0], 0.4 * values[t - 1, 0] + 0.5 * values[t - 1, 1]
        values[t] += noise[t]
    values = values[199:]
    return values[:-1, 0], values[1:, 1], values[:-1, 1]


# ---- Curves, scales and codes -------------------------------------------------------------------------------------------


def curved(direct: float) -> Callable[[Generator, int], Rows]:
    """A wave and a square of one cause, with noises that are correlated."""

    def draw(rng: Generator, n: int) -> Rows:
        z, first, second = rng.normal(size=(3, n))
        second = direct * first + math.sqrt(1 - direct**2) * second
        return np.sin(3 * z) + 0.5 * first, z**2 + 0.5 * second, z

    return draw


def volatile(rng: Generator, n: int) -> Rows:
    """One scale for both, and nothing else in common."""
    z, first, second = rng.normal(size=(3, n))
    return np.exp(z) * first, np.exp(z) * second, z


def multiplied(rng: Generator, n: int) -> Rows:
    """A slope that is z."""
    x, z, noise = rng.normal(size=(3, n))
    return x, x * z + noise, z


def flipped(rng: Generator, n: int) -> Rows:
    """A correlation of .8 whose sign is a code."""
    z, x, noise = rng.integers(2, size=n), *rng.normal(size=(2, n))
    return x, 0.8 * np.where(z, 1, -1) * x + 0.6 * noise, z


def xor(rng: Generator, n: int) -> Rows:
    """Two bits that say nothing of each other until the third is known; a tenth are errors."""
    x, z = rng.integers(2, size=(2, n))
    return x, (x ^ z) ^ (rng.random(n) < 0.1), z


def strata(rng: Generator, n: int) -> Rows:
    """Codes of four levels whose frequencies depend on z alone."""
    shares = np.array([[0.7, 0.1, 0.1, 0.1], [0.1, 0.1, 0.1, 0.7], [0.25, 0.25, 0.25, 0.25]]).cumsum(1)
    z = rng.integers(3, size=n)
    x, y = ((rng.random(n)[:, None] > shares[z]).sum(1) for _ in range(2))
    return x, y, z


def treated(rng: Generator, n: int) -> Rows:
    """Who is treated depends on z, and so does the outcome, which the treatment shifts by 1."""
    z, noise = rng.normal(size=(2, n))
    x = rng.random(n) < 1 / (1 + np.exp(-2 * z))
    return x, 1.5 * z + x + noise, z


def treated_truth() -> float:
    """E_z of the information in a shift by 1 of a standard normal variable that is there with probability p(z)."""
    z, y = np.linspace(-7, 7, 1401), np.linspace(-9, 10, 3801)
    p = (1 / (1 + np.exp(-2 * z)))[:, None]
    density = np.exp(-np.square([y, y - 1])[:, None, :] / 2) / math.sqrt(2 * math.pi)
    both = p * density[1] + (1 - p) * density[0]
    inside = sum(q * one * np.log(one / both) for q, one in ((p, density[1]), (1 - p, density[0])))
    weight = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    return float((inside.sum(1) * (y[1] - y[0]) * weight).sum() * (z[1] - z[0]))


def entropy(p: float) -> float:
    """Of a bit."""
    return -p * math.log(p) - (1 - p) * math.log(1 - p)


_SCALES = np.linspace(-10, 10, 20_001)
_WEIGHTS = np.exp(-(_SCALES**2) / 2) / np.exp(-(_SCALES**2) / 2).sum()
TASKS = (
    normal("chain", system(3, {(1, 0): 1, (2, 1): 1}), [1, 0.7, 0.7], [0], [2], [1]),
    normal(
        "common cause in three columns",
        system(5, {(3, 0): 0.7, (3, 1): 0.7, (4, 1): 0.7, (4, 2): -0.7}),
        [1] * 5,
        [3],
        [4],
        [0, 1, 2],
    ),
    normal("collider", system(3, {(2, 0): 1, (2, 1): 1}), [1, 1, 0.5], [0], [1], [2]),
    normal("common cause and effect", system(3, {(1, 0): 1, (2, 0): 1, (2, 1): 0.6}), [1, 0.8, 0.8], [1], [2], [0]),
    normal("5 + 5 given 5", random_system(5), [1] * 15, list(range(5, 10)), list(range(10, 15)), list(range(5))),
    normal("given five that say nothing", system(7, {(1, 0): 0.9}), [1] * 7, [0], [1], [2, 3, 4, 5, 6]),
    Task("the last value of another series", lagged(), past),
    Task("curved common cause", 0.0, curved(0.0)),
    Task("curved common cause and effect", -0.5 * math.log(1 - 0.6**2), curved(0.6)),
    Task("one scale", 0.0, volatile),
    Task("multiplied", float((_WEIGHTS * 0.5 * np.log1p(_SCALES**2)).sum()), multiplied),
    Task("a sign that is a code", -0.5 * math.log(1 - 0.8**2), flipped, ("z",)),
    Task("a sum of bits", math.log(2) - entropy(0.1), xor, ("x", "y", "z")),
    Task("frequencies by group", 0.0, strata, ("x", "y", "z")),
    Task("treatment", treated_truth(), treated, ("x",)),
)


# ---- Who is asked -------------------------------------------------------------------------------------------------------


def ours(rows: Rows, task: Task, seed: int) -> tuple[float, float, float, float]:
    """Value, interval and p-value."""
    found = estimate_cmi(*rows, discrete=list(task.discrete), seed=seed)
    return found.value, *found.interval, math.nan if found.p_value is None else found.p_value


def npeet(rows: Rows, task: Task, seed: int) -> tuple[float, float, float, float]:
    """The nearest neighbours of NPEET, of numbers."""
    from npeet_plus import mi

    if task.discrete:
        return (math.nan,) * 4  # it has none for codes beside numbers given others
    np.random.seed(seed)  # noqa: NPY002  # it draws from there
    return float(mi(*(_ranked(one) for one in rows), base=math.e)), math.nan, math.nan, math.nan


def tigramite(rows: Rows, task: Task, seed: int) -> tuple[float, float, float, float]:
    """The nearest neighbours of tigramite, of numbers and codes."""
    from tigramite.independence_tests.cmiknn_mixed import CMIknnMixed

    sides = [
        _ranked(one) if name not in task.discrete else one.astype(float).reshape(len(one), -1)
        for name, one in zip("xyz", rows, strict=True)
    ]
    place = np.concatenate([[index] * side.shape[1] for index, side in enumerate(sides)])
    kinds = np.concatenate([np.full(side.shape, name in task.discrete) for name, side in zip("xyz", sides, strict=True)], 1)
    asked = CMIknnMixed(estimator="MS", knn=7, transform="none", workers=1, seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value = asked.get_dependence_measure(np.concatenate(sides, 1).T, place, kinds.astype(int).T)
    return float(value), math.nan, math.nan, math.nan


def _ranked(rows: Array) -> Array:
    return np.stack([normal_scores(column) for column in rows.reshape(len(rows), -1).T], 1)


ESTIMATORS = {"remi": ours, "NPEET": npeet, "tigramite": tigramite}


def counts(answers: pd.DataFrame) -> pd.DataFrame:
    """A row per task and size: mean absolute errors, and how often our interval held the truth."""
    answers = answers.assign(error=(answers.value - answers.truth).abs())
    errors = answers.pivot_table(index=["task", "n", "truth"], columns="estimator", values="error", sort=False)
    own = answers[answers.estimator == "remi"]
    own = own.assign(held=(own.low <= own.truth) & (own.truth <= own.high), small=own.p <= 0.05)
    kept = {"value": ("value", "mean"), "seeds": ("seed", "count"), "held": ("held", "sum")}
    kept |= {"p_at_most_5%": ("small", "sum"), "seconds": ("seconds", "mean")}
    whole = own.groupby(["task", "n", "truth"], sort=False).agg(**kept)
    return whole.join(errors).reset_index()


def judged(table: pd.DataFrame) -> pd.DataFrame:
    """The goals, which were set before, against the rows of `counts` at n = 5,000."""
    table = table[table.n == 5000]
    own = table["remi"]
    rows = [("mean absolute error", f"at most {GOAL} nats", f"{own.mean():.3f} nats on {len(own)} tasks", own.mean() <= GOAL)]
    for rival in (name for name in ESTIMATORS if name in table and name != "remi"):
        asked, nearer = table[rival].notna().sum(), (own < table[rival]).sum()
        words = f"nearer the truth than {rival}", f"on at least {NEARER} tasks", f"on {nearer} of {asked}"
        rows.append((*words, nearer >= NEARER))
    found = pd.DataFrame(rows, columns=["statement", "target", "measured", "met"])
    return found.assign(verdict=np.where(found.pop("met"), "met", "missed"))


def drawn(answers: pd.DataFrame) -> Figure:
    """Signed errors at n = 5,000, a line per task."""
    answers = answers[(answers.n == 5000) & answers.value.notna()]
    places = {task.name: place for place, task in enumerate(TASKS)}
    marks = {"remi": ("o", PALETTE["mine"], 5), "NPEET": ("x", JOINT, 4.5), "tigramite": ("+", TRUTH, 6)}
    figure = Figure(figsize=(5.5, 3.4))
    axes = figure.subplots()
    axes.axvline(0, color=TRUTH, ls=":", lw=1.2)
    for name, (mark, hue, size) in marks.items():
        own = answers[answers.estimator == name]
        axes.plot(own.value - own.truth, own.task.map(places), mark, color=hue, ms=size, label=name)
    axes.set_yticks(list(places.values()), [f"{task.name}  {task.truth:.2f}" for task in TASKS])
    asked = f"n = 5,000, seeds: {answers.seed.nunique()}"
    axes.set(xlabel=f"error (nats); {asked}; behind each task its truth", ylim=(len(TASKS) - 0.5, -0.5))
    axes.legend(loc="lower left")
    return figure


def main() -> None:
    """Ask what is missing, and count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=5000)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", default="", metavar="WORD")
    options = parser.parse_args()
    torch.set_num_threads(1)
    answers = Path(STORE) / "conditional.csv"
    answers.parent.mkdir(parents=True, exist_ok=True)
    if not answers.exists():
        answers.write_text(",".join(COLUMNS) + "\n")
    done = set(pd.read_csv(answers)[["task", "n", "seed", "estimator"]].itertuples(index=False, name=None))
    for seed in range(options.seeds):
        for task in TASKS:
            for name, ask in ESTIMATORS.items():
                if (task.name, options.n, seed, name) in done or options.only not in task.name:
                    continue
                rows = task.draw(np.random.default_rng([seed, options.n]), options.n)
                start = time.process_time()
                try:
                    found = ask(rows, task, seed)
                except ModuleNotFoundError:
                    continue
                answer = (task.name, options.n, seed, task.truth, name, *found, time.process_time() - start)
                with answers.open("a", newline="") as file:
                    csv.writer(file, lineterminator="\n").writerow(answer)
    found = pd.read_csv(answers)
    table = counts(found)
    print(table.round(4).to_string(index=False))
    write(PRODUCTS / "conditional.csv", table.to_csv(index=False, float_format="%.4g", lineterminator="\n"))
    if (found.n == 5000).any():
        verdicts = judged(table)
        print(verdicts.to_string(index=False))
        write(PRODUCTS / "conditional_targets.csv", verdicts.to_csv(index=False, lineterminator="\n"))
        write(PRODUCTS / "conditional.png", render(drawn(found))[".png"])


if __name__ == "__main__":
    main()
