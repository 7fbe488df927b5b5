"""The image benchmarks for the eye: every loss from original to regularized, and every twin against its weight."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from remi.losses import LABELS
from remi.paper.plans import BenchmarkPlan
from remi.paper.table2 import readable
from remi.style import HUES, JOINT, MARGINAL, MARKERS, PALETTE, TRUTH, legend

STEP = 0.22  # from the middle of a loss to its original on the left, and to its twin on the right
UNTRAINED: dict[str, Any] = {"color": TRUTH, "ls": (0, (1, 3)), "lw": 1.2, "zorder": 1}
Draw = Callable[[Axes, float, pd.DataFrame, str], None]  # the cells of a loss at a place: their "mi" or "accuracy"


def slopes(summary: pd.DataFrame) -> Figure:
    """A slope per loss from original to regularized, a row per benchmark: MI on the left, accuracy on the right.

    Bars are the 95% intervals, open diamonds the published values on CIFAR; a hollow mark has runs that have not settled.

    Args:
        summary: of `table2.summary`.
    """
    blocks = list(summary.groupby(["task", "dataset"], sort=False))
    losses = [loss for loss in PALETTE if loss in set(summary.loss)]
    figure = Figure(figsize=(7.0, 0.7 + 1.5 * len(blocks)))
    panels = figure.subplots(len(blocks), 2, squeeze=False, sharex=True)
    for pair, (key, cells) in zip(panels, blocks, strict=True):
        task, dataset = map(str, key)
        benchmark(pair, cells, losses, slope, cells[cells.variant == "untrained"].accuracy_mean.iloc[0])
        pair[0].set_title(f"{task.upper()}, {readable(dataset)}")
    for axes in panels[-1]:
        axes.set_xticks(range(len(losses)), [LABELS[loss] for loss in losses])
        for text, loss in zip(axes.get_xticklabels(), losses, strict=True):
            text.set_color(PALETTE[loss])
    ours: dict[str, Any] = {"color": JOINT, "marker": "o", "ms": 4}
    looks = {
        "original (left) to regularized (right)": {**ours, "lw": 1.2},
        "not settled": {**ours, "mfc": "white", "lw": 0},
        "published, CIFAR": {**ours, "marker": "d", "mfc": "white", "lw": 0},
        "untrained encoder": UNTRAINED,
    }
    legend(figure, looks)
    return figure


def benchmark(panels: Sequence[Axes], cells: pd.DataFrame, losses: Sequence[str], draw: Draw, untrained: float) -> None:
    """MI with its true value on the left, accuracy with that of an untrained encoder on the right, of every loss."""
    truth = cells.true_mi.iloc[0]
    for axes, measure in zip(panels, ("mi", "accuracy"), strict=True):
        for place, loss in enumerate(losses):
            if not (rows := cells[cells.loss == loss]).empty:
                draw(axes, place, rows, measure)
    panels[0].axhline(truth, color=TRUTH, ls=":", lw=1.2, zorder=1)
    margin: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "fontsize": 6.5}
    panels[0].annotate(f"true MI {truth:.2f}", (1, truth), (-2, 2), ha="right", va="bottom", **margin)
    panels[1].axhline(untrained, **UNTRAINED)
    panels[0].set(ylim=(-0.06 * truth, 1.2 * truth), ylabel="MI (nats)")
    panels[1].set(ylim=(-0.03, 1.08), ylabel="test accuracy")


def mark(axes: Axes, x: float, y: float, loss: str, *, filled: bool, **style: Any) -> None:
    """A value of a loss; `xerr` or `yerr` is the half width of its interval."""
    fill = HUES[loss] if filled else "white"
    axes.errorbar(x, y, color=HUES[loss], marker=MARKERS.get(loss, "X"), ms=4, lw=0, elinewidth=0.9, mfc=fill, **style)


def slope(axes: Axes, place: float, cells: pd.DataFrame, measure: str) -> None:
    """One loss: original on the left, its twin on the right, ours filled and joined, the published ones open and grey."""
    sides, loss = {"original": place - STEP, "regularized": place + STEP}, str(cells.loss.iloc[0])
    ours = cells.set_index("variant").reindex(list(sides))  # what was not trained is not drawn
    axes.plot(list(sides.values()), ours[f"{measure}_mean"], color=PALETTE[loss], lw=1.4, zorder=2)
    axes.plot(list(sides.values()), ours[f"published_{measure}_mean"], color=MARGINAL, lw=0.7, zorder=1)
    for x, (_, cell) in zip(sides.values(), ours.iterrows(), strict=True):
        settled = cell.settled == cell.n
        mark(axes, x, cell[f"{measure}_mean"], loss, filled=settled, yerr=cell[f"{measure}_ci95"], zorder=3)
        axes.plot(x, cell[f"published_{measure}_mean"], marker="d", ms=4, color=JOINT, mfc="none", mew=0.7, lw=0)


def figure6(plan: BenchmarkPlan, by_lambda: pd.DataFrame, untrained: Mapping[str, float]) -> tuple[Figure, pd.DataFrame]:
    """MI and accuracy against the weight in the contrastive benchmark, a curve per regularized loss.

    A benchmark that has tried one weight only is left out. A cell with runs that have not settled is hollow; the loss is then
    named in the panel.
    """
    shown = [one for one in plan.benchmarks if len(one.lams or plan.lams) > 1]
    figure = Figure(figsize=(7.0, 0.8 + 2.1 * len(shown)))
    panels = figure.subplots(len(shown), 2, sharex=True, squeeze=False)
    for pair, one in zip(panels, shown, strict=True):
        rows = by_lambda[by_lambda.dataset == one.dataset]
        benchmark(pair, rows, list(PALETTE), course, untrained[one.dataset])
        pair[0].set_title(f"{readable(one.dataset)}, {one.classes} classes")
        if late := set(rows.loss[rows.settled < rows.n]):
            words = f"hollow, not settled:\n{', '.join(LABELS[f're{loss}'] for loss in PALETTE if loss in late)}"
            pair[0].text(0.02, 0.99, words, transform=pair[0].transAxes, fontsize=6.5, color=JOINT, va="top")
    for axes in panels[-1]:
        axes.set(xlabel=r"weight $\lambda$ of the regularizer", xscale="log")
        axes.set_xticks(plan.lams, [f"{lam:g}" for lam in plan.lams])
        axes.minorticks_off()
    looks = {LABELS["re" + loss]: {"color": PALETTE[loss], "marker": MARKERS[loss], "ms": 4} for loss in PALETTE}
    legend(figure, looks | {"untrained encoder": UNTRAINED})
    return figure, by_lambda


def course(axes: Axes, place: float, cells: pd.DataFrame, measure: str) -> None:
    """One twin over the weights; cells that have not settled are hollow and their lines faint."""
    cells, loss = cells.sort_values("lam"), str(cells.loss.iloc[0])
    settled = (cells.settled == cells.n).to_numpy()
    x = cells.lam.to_numpy() * 10 ** ((place - 2.5) * 0.035)  # beside each other, so that intervals do not hide
    axes.plot(x, cells[f"{measure}_mean"], color=PALETTE[loss], lw=1.4, alpha=1 if settled.all() else 0.35)
    for at, (_, cell), done in zip(x, cells.iterrows(), settled, strict=True):
        mark(axes, at, cell[f"{measure}_mean"], loss, filled=bool(done), yerr=cell[f"{measure}_ci95"])
