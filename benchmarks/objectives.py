"""Every loss as what `estimate_mi` trains its critics with, on tasks of `make scoreboard`: the paper's twelve, and three later.

    python benchmarks/objectives.py [--every 4] [--n 1000] [--seeds 1] [--kinds default alone]

Two kinds of estimate get the same rows. `default` is `estimate_mi(bound=...)`: ratios in closed form, and critics beside them.
`alone` is a plain critic, the inner product of two networks, without any closed form, so that the loss has to do it all: two
folds, a critic each. Whatever the loss, critics of a task start alike, see the same batches of the same folds, and stop by one
rule. Weights of regularizers are the default, 0.1. Of every critic the offset is taken out before it is read.

What is read is part of an objective: `error` is that of the value that `estimate_mi` reports, Donsker-Varadhan's for MINE, SMILE
and the later losses, the loss's own for InfoNCE, NWJ, TUBA and JS. `error_dv` is that of Donsker-Varadhan's value of the same
held-out scores: what is left of a difference there comes from training. (What the default adds for rows to come is not in it.)

Records lie in the run store beside the scoreboard's. Tasks are asked one after the other, and only those count that every
objective has answered. Written: `figures/objectives.csv`, a row per task and objective; `objectives_summary.csv`, one per
objective; `objectives_targets.csv`, what was expected before; `objectives.png`.
"""

import argparse
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from tqdm import tqdm

from remi.estimation.plan import LATER, LOSSES
from remi.losses import estimators
from remi.paper import cells
from remi.paper.cells import ALONE, DEFAULT, Cell
from remi.paper.figures import PRODUCTS, write
from remi.style import HUES, MARGINAL, MARKERS, TRUTH, render
from remi.theory import known

PLAIN = {"hidden": [64, 64], "outputs": 32, "folds": 2, "restarts": 1, "permutations": 0}
KINDS: dict[str, dict[str, Any]] = {DEFAULT: {}, ALONE: PLAIN}
TWINS = [(name, f"re{name}") for name in estimators.BOUNDS]
ORDER = [name for pair in TWINS for name in pair] + list(LATER)

# Expected. Written before the run that they judge; remine, sigmoid and js had been timed on two of the tasks.
ALIKE = 0.02  # nats: with closed forms beside the critics no objective's mean absolute error is farther from remine's
NEARER = 0.02  # nats, alone: by so much the best of the later losses is nearer than remine
TWIN = 0.01  # nats, alone: a twin is farther than its original by no more
READING = 2.0  # alone: best and worst objective are more than so many times as far apart as when all are read in one way


# ---- Records ------------------------------------------------------------------------------------------------------------


def asked(every: int, n: int, seeds: int, kinds: Sequence[str] = tuple(KINDS)) -> Iterator[tuple[Cell, dict[str, Any]]]:
    """Cells and their options, one task after the other; of the forty tasks every so-maniest."""
    for seed in range(seeds):
        for task in known.TASKS[::every]:
            for objective in ORDER:
                for kind in kinds:
                    yield Cell(task.name, n, seed, kind), {"bound": objective, **KINDS[kind]}


def table(records: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """A row per record, with its errors; what failed is infinitely far off, and its interval holds nothing."""
    chosen = [record["identity"]["chosen"]["bound"] for record in records]
    rows = cells.table(records).rename(columns={"method": "kind", "mi": "truth"}).assign(objective=chosen)
    rows["dv"] = [record.get("readings", {}).get("Donsker-Varadhan", np.nan) for record in records]
    rows["diverged"] = [record.get("diverged", 0) for record in records]
    rows["seconds"] = [record["processor"] for record in records]
    rows["failed"] = ~np.isfinite(rows.value)
    for name, value in (("error", rows.value), ("error_dv", rows.dv)):
        rows[name] = (value - rows.truth).abs().where(np.isfinite(value), np.inf)
    rows["held"] = (rows.low <= rows.truth) & (rows.truth <= rows.high)
    return rows


def whole(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the tasks and seeds that every objective has answered, of each kind by itself."""
    return rows[rows.groupby(["kind", "task", "n", "seed"]).objective.transform("nunique") == len(ORDER)]


def per_task(rows: pd.DataFrame) -> pd.DataFrame:
    """A row per kind, task and objective; means over seeds."""
    found = rows.groupby(["kind", "task", "n", "objective"], sort=False).agg(
        seeds=("seed", "size"),
        truth=("truth", "first"),
        value=("value", "mean"),
        dv=("dv", "mean"),
        error=("error", "mean"),
        error_dv=("error_dv", "mean"),
        held=("held", "mean"),
        failed=("failed", "sum"),
        diverged=("diverged", "sum"),
        seconds=("seconds", "mean"),
    )
    return found.reset_index()


def summary(tasks: pd.DataFrame) -> pd.DataFrame:
    """A row per kind and objective, over the rows of `per_task`, each task once."""
    found = tasks.groupby(["kind", "n", "objective"]).agg(
        tasks=("task", "nunique"),
        seeds=("seeds", "max"),
        mean_absolute_error=("error", "mean"),
        median=("error", "median"),
        largest=("error", "max"),
        mean_absolute_error_dv=("error_dv", "mean"),
        held=("held", "mean"),
        failed=("failed", "sum"),
        diverged=("diverged", "sum"),
        seconds=("seconds", "mean"),
    )
    return found.reset_index().sort_values(["n", "kind", "objective"], key=_place).reset_index(drop=True)


def _place(key: pd.Series) -> pd.Series:
    order = {"kind": list(KINDS), "objective": ORDER}.get(str(key.name))
    return key if order is None else key.map(order.index)


# ---- What was expected --------------------------------------------------------------------------------------------------


def judged(sums: pd.DataFrame) -> pd.DataFrame:
    """The expectations against the rows of `summary` at one n; those of a kind that is not there are left out."""
    found = []

    def add(statement: str, target: str, measured: str, *, met: bool) -> None:
        verdict = "met" if met else "missed"
        found.append({"statement": statement, "target": target, "measured": measured, "verdict": verdict})

    means = {kind: rows.set_index("objective").mean_absolute_error for kind, rows in sums.groupby("kind")}
    if DEFAULT in means:
        apart = (means[DEFAULT] - means[DEFAULT]["remine"]).abs()
        words = f"{apart.max():.3f} nats, {apart.idxmax()}"
        add("default: farthest from remine's mean absolute error", f"at most {ALIKE} nats", words, met=apart.max() <= ALIKE)
    if ALONE in means:
        own = means[ALONE]
        gains = own["remine"] - own[list(LATER)]
        words = f"{gains.max():.3f} nats, {gains.idxmax()}"
        add("alone: the best later loss is nearer than remine", f"by more than {NEARER} nats", words, met=gains.max() > NEARER)
        costs = pd.Series({twin: own[twin] - own[name] for name, twin in TWINS})
        words = f"{costs.max():.3f} nats, {costs.idxmax()}"
        add("alone: a twin is farther than its original", f"by at most {TWIN} nats", words, met=costs.max() <= TWIN)
        one = sums[sums.kind == ALONE].mean_absolute_error_dv
        spans = own.max() - own.min(), one.max() - one.min()
        words = f"{spans[0]:.3f} nats as reported, {spans[1]:.3f} by Donsker-Varadhan"
        target = f"more than {READING:g} times as far when each is read in its own way"
        add("alone: best and worst objective are apart", target, words, met=spans[0] > READING * spans[1])
    return pd.DataFrame(found)


# ---- Picture ------------------------------------------------------------------------------------------------------------


def drawn(sums: pd.DataFrame) -> Figure:
    """Mean absolute errors, a panel per kind: originals hollow, twins and later losses filled; a bar at Donsker-Varadhan's."""
    kinds = [kind for kind in KINDS if kind in set(sums.kind)]
    figure = Figure(figsize=(5.5, 3.9))
    titles = {DEFAULT: "the default", ALONE: "a critic alone"}
    for axes, kind in zip(figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0], kinds, strict=True):
        rows = sums[sums.kind == kind].set_index("objective")
        right = 1.25 * rows[["mean_absolute_error", "mean_absolute_error_dv"]].replace(np.inf, np.nan).max().max()
        for place, name in enumerate(ORDER):
            family = estimators.family(name)
            mean, same, hue = rows.mean_absolute_error[name], rows.mean_absolute_error_dv[name], HUES[family]
            mean = min(mean, right)
            axes.plot([mean, same], [place, place], color=MARGINAL, lw=0.8, zorder=1)
            axes.plot(same, place, "|", color=TRUTH, ms=7, mew=1)
            face = "white" if name in estimators.BOUNDS else hue
            axes.plot(mean, place, MARKERS.get(family, "*"), color=hue, mfc=face, ms=6 if family in MARKERS else 8, clip_on=False)
            axes.text(1.02, place, f"{mean:.3f}", transform=axes.get_yaxis_transform(), va="center", fontsize=7)
        axes.axvline(rows.mean_absolute_error["remine"], color=TRUTH, ls=":", lw=1)
        tasks, seeds = int(rows.tasks.iloc[0]), int(rows.seeds.iloc[0])
        axes.set(title=f"{titles[kind]}, {tasks} tasks, seeds: {seeds}", xlim=(0, right), ylim=(len(ORDER) - 0.5, -0.5))
        axes.set_xlabel("mean absolute error (nats)")
        axes.set_yticks(range(len(ORDER)), ORDER)
    asked = f"n = {int(sums.n.iloc[0]):,}"
    figure.supxlabel(
        f"{asked}; dotted: remine; hollow: not regularized; bar: Donsker-Varadhan's value of the same scores", fontsize=7
    )
    return figure


def main() -> None:
    """Ask what is missing, and write what is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=4, help="of the forty tasks, every so-maniest; 1 for all")
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), help="none: only write what is there")
    options = parser.parse_args()
    if unknown := set(options.kinds) - set(KINDS):
        parser.error(f"--kinds must be among {', '.join(KINDS)}; got {', '.join(sorted(unknown))}")
    assert set(ORDER) == set(LOSSES)
    torch.set_num_threads(1)
    for cell, chosen in tqdm(list(asked(options.every, options.n, options.seeds, options.kinds)), unit="estimate", disable=None):
        cells.solve(cell, **chosen)
    every = asked(1, options.n, options.seeds)
    tasks = per_task(whole(table([record for cell, chosen in every if (record := cells.load(cell, **chosen)) is not None])))
    sums = summary(tasks)
    verdicts = judged(sums)
    for name, rows in (("", tasks), ("_summary", sums), ("_targets", verdicts)):
        print(rows.round(4).to_string(index=False))
        write(PRODUCTS / f"objectives{name}.csv", rows.to_csv(index=False, float_format="%.4g", lineterminator="\n"))
    write(PRODUCTS / "objectives.png", render(drawn(sums))[".png"])


if __name__ == "__main__":
    main()
