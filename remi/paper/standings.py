"""What the scoreboard's records say: per task, in sum beside the published rows, against the goals, and as a picture."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import remi
from remi.paper import figures
from remi.paper.cells import DEFAULT, FORTY, NEIGHBOURS, SEEDS, TASKS, grid, table
from remi.style import JOINT, MARGINAL, PALETTE, TRUTH, legend, render
from remi.theory import known

PUBLISHED = Path(__file__).with_name("published_estimates.csv")  # mean absolute errors over the forty; settings tuned per task
ALL, GAUSSIAN, OTHER, SHAPES = "the 40 tasks", "20 Gaussian ones", "20 other ones", "the 9 of these without Student-t tails"
COUNTS = {ALL: 40, GAUSSIAN: 20, OTHER: 20, SHAPES: 9}  # tasks

# Goals of the default, on the forty tasks. Set before the board that they judge.
MEAN_ERRORS = {1000: 0.090, 5000: 0.035, 10_000: 0.025}  # nats, of the mean over tasks
LARGEST_ERROR, LARGEST_AT = 0.15, 5000  # nats, of every task's mean
COVERED = 0.93  # of the cells, at every size
COVERED_TASK = 0.80  # of a task's cells, over all sizes: 12 of 15, which chance undercuts in 1 of 180 tasks where 95% hold


LEVEL = 0.05  # of the p-value below which dependence counts as shown


# ---- Tables -------------------------------------------------------------------------------------------------------------


def errors(records: pd.DataFrame) -> pd.DataFrame:
    """The records with what is asked of them: the error, the interval's width and whether it holds the truth, the task's kind."""
    tasks = records.task.map(TASKS)
    rows = records.assign(
        board=np.where(records.task.isin(FORTY), ALL, tasks.map(lambda task: task.family)),
        family=tasks.map(lambda task: task.family),
        gaussian=tasks.map(lambda task: task.gaussian),
        error=records.value - records.mi,
        width=records.high - records.low,
        shown=(records.p_value <= LEVEL).astype(float).where(records.p_value.notna()),
    )
    covered = (rows.low <= rows.mi) & (rows.mi <= rows.high)
    return rows.assign(off=rows.error.abs(), covered=covered.astype(float).where((rows.method == DEFAULT) & rows.value.notna()))


def per_task(records: pd.DataFrame) -> pd.DataFrame:
    """A row per task, size and method, in the order of the tasks; means are over seeds that were answered."""
    rows = errors(records).groupby(["board", "family", "gaussian", "task", "n", "method"], sort=False)
    found = rows.agg(
        seeds=("seed", "size"),
        refused=("refused", "count"),
        truth=("mi", "first"),
        value=("value", "mean"),
        bias=("error", "mean"),
        mean_absolute_error=("off", "mean"),
        coverage=("covered", "mean"),
        shown=("shown", "mean"),
        width=("width", "median"),
        seconds=("seconds", "median"),
    ).reset_index()
    order = {name: place for place, name in enumerate(TASKS)}
    return found.sort_values(["task", "n", "method"], key=lambda key: key.map(order) if key.name == "task" else key)


def summary(records: pd.DataFrame) -> pd.DataFrame:
    """A row per method, size and group of the forty; the published rows; a row per board of ours, over all its sizes."""
    every = errors(records)
    forty = every[every.board == ALL]
    default, near = forty[forty.method == DEFAULT], forty[forty.method == NEIGHBOURS]
    other = default[~default.gaussian]
    shapes = other[~other.family.str.contains("Student-t")]
    groups = {ALL: default, GAUSSIAN: default[default.gaussian], OTHER: other, SHAPES: shapes}
    rows = [_sum(group[group.n == n], tasks, DEFAULT, n) for n in known.SIZES for tasks, group in groups.items()]
    rows += [_sum(near[near.n == n], ALL, NEIGHBOURS, n) for n in known.SIZES]
    published = pd.read_csv(PUBLISHED).assign(tasks=ALL)
    rows += [_sum(every[every.board == board], board, DEFAULT, None) for board in every.board.unique() if board != ALL]
    found = pd.concat([pd.DataFrame([row for row in rows if row["cells"]]), published.drop(columns="kind")])
    return found.astype(dict.fromkeys(("n", "cells", "of", "refused"), "Int64"))


def _sum(cells: pd.DataFrame, tasks: str, method: str, n: int | None) -> dict[str, Any]:
    """A task counts once, with its mean absolute error over seeds and, on the boards of ours, sizes."""
    means = cells.groupby("task", sort=False)[["off", "covered"]].mean()
    found: dict[str, Any] = {"tasks": tasks, "method": method, "n": n, "cells": len(cells), "of": _count(tasks, method, n)}
    found |= {"refused": cells.refused.count(), "mean_absolute_error": means.off.mean(), "median": means.off.median()}
    if means.off.notna().any():
        found |= {"largest": means.off.max(), "largest_task": means.off.idxmax()}
    found |= {"coverage": cells.covered.mean(), "width": cells.width.median(), "seconds": cells.seconds.mean()}
    if means.covered.notna().any():
        found |= {"least_coverage": means.covered.min(), "least_covered_task": means.covered.idxmin()}
    return found


def _count(tasks: str, method: str, n: int | None) -> int:
    """How many cells the full board has of these."""
    if n is None:
        return sum(TASKS[cell.task].family == tasks and cell.task not in FORTY for cell in grid())
    return SEEDS * COUNTS[tasks]


def judge(records: pd.DataFrame) -> pd.DataFrame:
    """The goals against the default's records: met, missed, or "unfinished" while a cell that counts is missing.

    What the estimate refuses has an infinite error, and no interval that holds the truth.
    """
    rows = errors(records)
    rows = rows[(rows.board == ALL) & (rows.method == DEFAULT)].fillna({"off": np.inf, "covered": 0.0})
    found = []

    def add(statement: str, target: str, measured: str, cells: pd.DataFrame, of: int, *, met: bool) -> None:
        verdict = "unfinished" if len(cells) < of else "met" if met else "missed"
        row = {"statement": statement, "target": target, "measured": measured if len(cells) else "nothing yet"}
        found.append(row | {"cells": len(cells), "of": of, "verdict": verdict})

    one = SEEDS * len(FORTY)
    for n, goal in MEAN_ERRORS.items():
        cells = rows[rows.n == n]
        mean = cells.groupby("task").off.mean().mean()
        statement = f"mean absolute error over the 40 tasks, n = {n:,}"
        add(statement, f"at most {goal:.3f} nats", f"{mean:.3f} nats", cells, one, met=bool(mean <= goal))
    cells = rows[rows.n == LARGEST_AT]
    worst = cells.groupby("task").off.mean().sort_values().tail(1)
    measured = ", ".join(f"{off:.3f} nats, {label(task)}" for task, off in zip(worst.index, worst, strict=True))
    met = bool((worst <= LARGEST_ERROR).all())
    add(f"largest error of a task, n = {LARGEST_AT:,}", f"at most {LARGEST_ERROR} nats", measured, cells, one, met=met)
    shares = rows.groupby("n").covered.mean()
    measured = ", ".join(f"{n:,}: {share:.1%}" for n, share in shares.items())
    met, three = bool((shares >= COVERED).all()), one * len(known.SIZES)
    add("the nominal 95% interval holds the truth", f"in {COVERED:.0%} of the cells at every n", measured, rows, three, met=met)
    least = rows.groupby("task").covered.mean().sort_values().head(1)
    measured = ", ".join(f"{share:.0%}, {label(task)}" for task, share in zip(least.index, least, strict=True))
    met = bool((least >= COVERED_TASK).all())
    add("and on every task", f"in {COVERED_TASK:.0%} of its cells", measured, rows, three, met=met)
    return pd.DataFrame(found)


def missing(records: pd.DataFrame) -> str:
    """What the full board has and the records have not, in a sentence; nothing where all is there."""
    asked = records[records.task.isin(FORTY) & (records.method == DEFAULT)]
    words = []
    for n in known.SIZES:
        seeds = asked[asked.n == n].groupby("seed").size()
        if (whole := int((seeds == len(FORTY)).sum())) < SEEDS:
            words.append(f"n = {n:,}: seeds {whole} of {SEEDS}, {seeds.sum()} of {SEEDS * len(FORTY)} estimates")
    left = len(grid()) - len(records)
    return f"{left:,} of {len(grid()):,} estimates are missing; {'; '.join(words) or 'none on the 40 tasks'}" if left else ""


# ---- Words and picture --------------------------------------------------------------------------------------------------

WORDS = (  # of the published names, in short
    (r"-multinormal-sparse-(\d+)-.*", r" 2 pairs, \1 + \1"),
    (r"-multinormal-dense-(\d+)-.*", r" dense, \1 + \1"),
    (r"-student-identity-(\d+)-\d+-(\d+)", r" Student-t \1 + \1, \2 dof"),
    (r"-1v1-normal-.*", " normal, 1 + 1"),
    (r"-1v1-additive-(.*)", r" uniform noise \1"),
    (r"-1v1-bimodal-.*", " bimodal"),
    (r"^-swissroll_x.*", " Swiss roll"),
    (r"^-wiggly.*", " wiggly"),
    (r"-normal_cdf", " CDF of"),
    (r"-(half_cube|spiral|asinh)", r" \1 of"),
)


def label(name: str) -> str:
    """A task's name in short, for a picture or a sentence."""
    short = f"-{name}"
    for pattern, words in WORDS:
        short = re.sub(pattern, words, short)
    return short.strip(" -").replace("_", "-")


def draw(records: pd.DataFrame) -> Figure:
    """Every error on the forty tasks, a panel per size: a dot per seed, hollow where the interval misses the truth.

    The axis is logarithmic beyond a tenth of a nat, so that errors of 0.02 and of a nat can both be read. Shades are families.
    """
    rows = errors(records).query("board == @ALL")
    names = [name for name in TASKS if name in set(rows.task)]
    sizes = [n for n in known.SIZES if n in set(rows.n)]
    figure = Figure(figsize=(7.0, 1.1 + 0.165 * len(names)))
    hue = PALETTE["mine"]
    for axes, n in zip(figure.subplots(1, len(sizes), sharey=True, squeeze=False)[0], sizes, strict=True):
        families = [TASKS[name].family for name in names]
        for place, family in enumerate(dict.fromkeys(families)):
            first = families.index(family)
            if place % 2:
                axes.axhspan(first - 0.5, first + families.count(family) - 0.5, color=MARGINAL, alpha=0.25, lw=0)
        axes.axvline(0, color=TRUTH, ls=":", lw=1.2)
        heights = rows.task.map(names.index)
        here, default = rows.n == n, rows.method == DEFAULT
        axes.plot(rows.error[here & ~default], heights[here & ~default], "x", color=JOINT, ms=3, mew=0.6)
        for holds, face in ((True, hue), (False, "white")):
            chosen = here & default & (rows.covered == holds)
            axes.plot(rows.error[chosen], heights[chosen], "o", color=hue, mfc=face, ms=3.2, mew=0.7)
        axes.set_xscale("symlog", linthresh=0.1, linscale=0.8)
        axes.set(title=f"n = {n:,}", ylim=(len(names) - 0.5, -0.5), xlim=(-1.5, 0.5), xlabel="estimate - true MI (nats)")
        axes.set_xticks((-1, -0.3, -0.1, 0, 0.1, 0.3), ("-1", "-.3", "-.1", "0", ".1", ".3"))
        axes.set_yticks(range(len(names)), map(label, names), fontsize=6)
    looks = {
        "default, a dot per seed: interval holds the truth": {"color": hue, "marker": "o"},
        "interval misses it": {"color": hue, "marker": "o", "mfc": "white"},
        "nearest neighbours": {"color": JOINT, "marker": "x"},
    }
    legend(figure, {words: {"ls": "", "ms": 4, **look} for words, look in looks.items()})
    return figure


def markdown() -> list[str]:
    """The lines of README's table, from the products: our errors on the forty beside the published ones, goals in brackets."""
    summary = pd.read_csv(figures.PRODUCTS / "scoreboard_summary.csv")

    def row(
        words: str,
        column: str = "mean_absolute_error",
        tasks: str = ALL,
        method: str = DEFAULT,
        form: str = "{:.3f}",
        goals: Mapping[int, str] = {},
    ) -> str:
        found = summary[(summary.tasks == tasks) & (summary.method == method)].set_index("n")[column].reindex(known.SIZES)
        cells = ["–" if pd.isna(number) else form.format(number) for number in found]
        return f"| {words} | {' | '.join(cell + goals.get(n, '') for cell, n in zip(cells, known.SIZES, strict=True))} |"

    done = int(summary.cells[(summary.tasks == ALL) & (summary.method == DEFAULT)].sum())
    whole = SEEDS * COUNTS[ALL] * len(known.SIZES)
    part = f", {done} of {whole} estimates so far" * (done < whole)
    published = pd.read_csv(PUBLISHED).drop_duplicates("method")
    return [
        f"| mean absolute error over the 40 tasks, nats | {' | '.join(f'n = {n:,}' for n in known.SIZES)} |",
        "|---|" + "---|" * len(known.SIZES),
        row(f"**`estimate_mi`**, defaults (goal){part}", goals={n: f" ({goal:.3f})" for n, goal in MEAN_ERRORS.items()}),
        row(f"on {GAUSSIAN}", tasks=GAUSSIAN),
        row(f"on {OTHER}", tasks=OTHER),
        row(f"on {SHAPES}", tasks=SHAPES),
        row(f"share of its 95% intervals that hold the truth (goal {COVERED:.0%})", "coverage", form="{:.0%}"),
        row("nearest neighbours, the same rows", method=NEIGHBOURS),
        *(row(f"{what.method}, {what.kind}", method=str(what.method)) for what in published.itertuples()),
    ]


# ---- Products -----------------------------------------------------------------------------------------------------------


def save(found: Sequence[dict[str, Any]]) -> str:
    """Write figures/scoreboard.csv, .json, .png and .pdf, scoreboard_summary.csv and scoreboard_targets.csv.

    Args:
        found: records of the scoreboard, at least one of them on the forty.

    Returns:
        The targets' verdicts, and what is missing.
    """
    records = table(found)
    targets = judge(records)
    where = figures.PRODUCTS
    for name, rows in (("", per_task(records)), ("_summary", summary(records)), ("_targets", targets)):
        figures.write(where / f"scoreboard{name}.csv", rows.to_csv(index=False, float_format="%.4g", lineterminator="\n"))
    environments = sorted({json.dumps(record["environment"], sort_keys=True) for record in found})
    provenance = {
        "cells": len(found),
        "of": len(grid()),
        "missing": missing(records),
        "environment": [json.loads(text) for text in environments],
        "code": sorted({record["identity"]["code"] for record in found}),
        "version": remi.__version__,
    }
    figures.write(where / "scoreboard.json", json.dumps(provenance, indent=1, sort_keys=True))
    if records.task.isin(FORTY).any():
        for suffix, content in render(draw(records)).items():
            figures.write(where / f"scoreboard{suffix}", content)
    lines = [f"{row.verdict}: {row.statement}: {row.measured} ({row.target})" for row in targets.itertuples()]
    return "\n".join([*lines, *filter(None, [missing(records)])])
