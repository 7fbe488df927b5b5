"""How often the p-value falls below 5%: on independent data, where it should in 5 of 100, and on dependent ones.

`python benchmarks/false_positives.py` asks every data set once, appends its answer to `runs/false_positives.csv`, goes on from
there when it is started again, and writes the counts to `figures/false_positives.csv`. `--only WORD ...` takes the cases whose
names have these words, `--most N` at most so many data sets of each, and `--steps N` trains shorter (another file). Settings are
the defaults but for what a case names.
"""

import argparse
import csv
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from remi.estimation import Estimate, estimate_cmi, estimate_mi, kl
from remi.paper.figures import PRODUCTS, write
from remi.runs.store import STORE

LEVEL = 0.05
COLUMNS = ("case", "seed", "p", "value", "low", "high")
Rows = tuple[np.ndarray[Any, Any], ...]


@dataclass(frozen=True)
class Case:
    """Data sets of one kind."""

    name: str
    goal: str  # of the share of p-values at most 5%
    n: int
    sets: int
    draw: Callable[[np.random.Generator, int], Rows]
    ask: Callable[..., Estimate] = estimate_mi
    options: dict[str, Any] = field(default_factory=dict)


def numbers(dim_x: int, dim_y: int, mi: float = 0.0) -> Callable[[np.random.Generator, int], Rows]:
    """Normal columns, pairs of them with so much information together."""

    def draw(rng: np.random.Generator, n: int) -> Rows:
        x, y = rng.normal(size=(n, dim_x)), rng.normal(size=(n, dim_y))
        pairs = min(dim_x, dim_y)
        rho = math.sqrt(1 - math.exp(-2 * mi / pairs))
        y[:, :pairs] = rho * x[:, :pairs] + math.sqrt(1 - rho**2) * y[:, :pairs]
        return x, y

    return draw


def tails(rng: np.random.Generator, n: int) -> Rows:
    """Cauchy columns."""
    return rng.standard_cauchy((n, 2)), rng.standard_cauchy(n)


def codes(rng: np.random.Generator, n: int) -> Rows:
    """Four levels, and two numbers."""
    return rng.integers(4, size=n).astype(str), rng.normal(size=(n, 2))


def square(rng: np.random.Generator, n: int) -> Rows:
    """Dependence without correlation."""
    x = rng.normal(size=n)
    return x, x**2 + rng.normal(size=n)


def samples(shift: float) -> Callable[[np.random.Generator, int], Rows]:
    """Two samples of three columns, the first one shifted."""
    return lambda rng, n: (rng.normal(size=(n, 3)) + shift, rng.normal(size=(n * 3 // 2, 3)))


def series(memory: float, coupling: float) -> Callable[[np.random.Generator, int], Rows]:
    """Two autoregressive series whose innovations are correlated."""

    def draw(rng: np.random.Generator, n: int) -> Rows:
        noise = rng.normal(size=(n + 500, 2))
        noise[:, 1] = coupling * noise[:, 0] + math.sqrt(1 - coupling**2) * noise[:, 1]
        z = np.zeros_like(noise)
        for t in range(1, len(z)):
            z[t] = memory * z[t - 1] + noise[t]
        return tuple(z[500:].T)

    return draw


def given(direct: float) -> Callable[[np.random.Generator, int], Rows]:
    """A wave and a square of one cause, and so much of the first noise in the second."""

    def draw(rng: np.random.Generator, n: int) -> Rows:
        z, first, second = rng.normal(size=(3, n))
        return np.sin(2 * z) + first, z**2 + direct * first + math.sqrt(1 - direct**2) * second, z

    return draw


def given_scale(rng: np.random.Generator, n: int) -> Rows:
    """One scale for both, and nothing else in common."""
    z, first, second = rng.normal(size=(3, n))
    return np.exp(z / 2) * first, np.exp(z / 2) * second, z


def given_three(rng: np.random.Generator, n: int) -> Rows:
    """Sums of three causes, and noise."""
    z, noise = rng.normal(size=(n, 3)), rng.normal(size=(2, n))
    return z.sum(1) + noise[0], z[:, 0] - z[:, 1] + noise[1], z


def given_treatment(rng: np.random.Generator, n: int) -> Rows:
    """Who is treated depends on z, and so does the outcome."""
    z, noise = rng.normal(size=(2, n))
    return rng.random(n) < 1 / (1 + np.exp(-2 * z)), 1.5 * z + noise, z


def given_codes(rng: np.random.Generator, n: int) -> Rows:
    """Codes whose frequencies depend on a group."""
    group = rng.integers(2, size=n)
    one, other = (rng.random(n) < np.where(group, 0.8, 0.3) for _ in range(2))
    return one, other, group.astype(str)


FALSE, TRUE = "3 to 7%", "at least 90%"
SERIES = {"series": True, "steps": 0, "restarts": 1}  # the p-value of a series does not read the critics
INDEPENDENT = {
    "1 + 1": numbers(1, 1),
    "3 + 3": numbers(3, 3),
    "10 + 10": numbers(10, 10),
    "heavy tails 2 + 1": tails,
    "4 levels and 2 numbers": codes,
}
GIVEN = {"steps": 0, "restarts": 1}  # closed forms alone: many data sets in the time of one training
CONDITIONAL = {
    "a curved common cause": given(0.0),
    "a common scale": given_scale,
    "three causes": given_three,
    "a cause of a truth value and a number": given_treatment,
    "a group, of two truth values": given_codes,
}
CASES = [
    *(Case(f"independent, {name}, n = {n:,}", FALSE, n, 100, draw) for n in (100, 1000) for name, draw in INDEPENDENT.items()),
    *(Case(f"one population, n = {n:,}", FALSE, n, 100, samples(0.0), kl) for n in (100, 1000)),
    Case("Gaussian 10-D, 0.1 nats, n = 2,000", TRUE, 2000, 50, numbers(10, 10, 0.1)),
    Case("square, n = 500", TRUE, 500, 50, square),
    Case("two populations, shift 0.2, n = 1,000", TRUE, 1000, 50, samples(0.2), kl),
    *(
        Case(f"independent given {name}, n = {n:,}", FALSE, n, 100, draw, estimate_cmi, GIVEN)
        for n in (100, 1000)
        for name, draw in CONDITIONAL.items()
    ),
    Case("effect beyond a curved common cause, 0.07 nats, n = 500", TRUE, 500, 50, given(0.36), estimate_cmi, GIVEN),
    Case("series, coefficient 0.98, n = 1,000", FALSE, 1000, 500, series(0.98, 0.0), estimate_mi, SERIES),
    Case("series, coefficient 0.9, n = 1,000", FALSE, 1000, 500, series(0.9, 0.0), estimate_mi, SERIES),
    Case("series, coefficient 0.98, coupling 0.7, n = 1,000", TRUE, 1000, 100, series(0.98, 0.7), estimate_mi, SERIES),
    Case("series, coefficient 0.9, coupling 0.5, n = 1,000", TRUE, 1000, 100, series(0.9, 0.5), estimate_mi, SERIES),
]


def counts(answers: pd.DataFrame) -> pd.DataFrame:
    """A row per case, and one for all independent data sets of a size."""
    groups = {case.name: (case.goal, answers.case == case.name) for case in CASES}
    for n, (words, beginning) in product((100, 1000), {"": "independent, ", " given others": "independent given "}.items()):
        ending = f", n = {n:,}"
        chosen = answers.case.str.startswith(beginning) & answers.case.str.endswith(ending)
        groups[f"all independent{words}{ending}"] = (FALSE, chosen)
    rows = [
        (name, goal, len(p), (p <= LEVEL).mean(), int((p <= LEVEL).sum()), int((p <= LEVEL / 5).sum()), p.median())
        for name, (goal, chosen) in groups.items()
        if len(p := answers.p[chosen].dropna())
    ]
    return pd.DataFrame(rows, columns=["case", "goal", "sets", "share", "at_most_5%", "at_most_1%", "median_p"])


def main() -> None:
    """Ask what is missing, and count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD")
    parser.add_argument("--most", type=int, default=10**6, metavar="N")
    parser.add_argument("--steps", type=int, metavar="N")
    options = parser.parse_args()
    torch.set_num_threads(1)
    name = "false_positives" if options.steps is None else f"false_positives_{options.steps}"
    answers = Path(STORE) / f"{name}.csv"
    answers.parent.mkdir(parents=True, exist_ok=True)
    if not answers.exists():
        answers.write_text(",".join(COLUMNS) + "\n")
    done = set(pd.read_csv(answers)[["case", "seed"]].itertuples(index=False, name=None))
    chosen = [case for case in CASES if all(word in case.name for word in options.only)]
    for seed in range(max(case.sets for case in chosen)):
        for case in chosen:
            if (case.name, seed) in done or seed >= min(case.sets, options.most):
                continue
            drawn = case.draw(np.random.default_rng([seed, case.n]), case.n)
            asked = case.options if options.steps is None else {"steps": options.steps, **case.options}
            try:
                found = case.ask(*drawn, seed=seed, **asked)
                answer = (found.p_value, found.value, *found.interval)
            except ValueError:  # a series that remembers too long is refused
                answer = (math.nan,) * 4
            with answers.open("a", newline="") as file:
                csv.writer(file, lineterminator="\n").writerow((case.name, seed, *answer))
    table = counts(pd.read_csv(answers))
    print(table.to_string(index=False))
    if options.steps is None:
        write(PRODUCTS / "false_positives.csv", table.to_csv(index=False, float_format="%.4g", lineterminator="\n"))


if __name__ == "__main__":
    main()
