"""Tables 1 and 2 as the paper prints them: Markdown, LaTeX and an image."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from remi.losses import BOUNDS, LABELS, estimators
from remi.paper.table1 import NOTHING
from remi.paper.table2 import BENCHMARKS, PAPER, TASKS, benchmark, readable
from remi.training import Interval

BLUE = "#0077BB"
LEARNING = " …"  # beside a cell whose runs have not all settled
NO_INTERVAL = Interval(np.nan, np.nan)


class Cell(NamedTuple):
    """What a cell says, and whether it is the better of its pair: "" (no), "bold" (intervals overlap) or "blue" (disjoint)."""

    text: str
    emphasis: str = ""


class Row(NamedTuple):
    """MI original, MI regularized, accuracy original, accuracy regularized; and the weight of the regularized ones."""

    label: str
    cells: tuple[Cell, ...]
    lam: str


Pair = tuple[str, str, str, str]  # label, loss, variants on the left and on the right
PAIRS: list[Pair] = [(LABELS[loss], loss, "original", "regularized") for loss in BOUNDS]
EQUALS = {"both clipped": ("clip only", "regularized"), "no clip": ("original", "regularizer only")}
ABLATION: list[Pair] = [
    (f"{LABELS[loss]}, {words}", loss, *pair) for loss in estimators.SELF_NORMALIZED for words, pair in EQUALS.items()
]
UNTRAINED: list[Pair] = [("untrained", "untrained", "untrained", "none")]


def emphasis(original: Interval, regularized: Interval, truth: float | None = None) -> tuple[str, str]:
    """Which one of a pair is better: nearer to `truth` (MI), or larger where there is none (accuracy), in printed digits.

    "bold" when the intervals overlap, "blue" when they are disjoint, as in the paper; one run alone has no interval and
    overlaps with everything. Equal or missing values give none.
    """
    means = [round(interval.mean, 3) for interval in (original, regularized)]
    merits = [mean if truth is None else round(-abs(mean - round(truth, 3)), 3) for mean in means]
    if not np.isfinite(means).all() or merits[0] == merits[1]:
        return "", ""
    disjoint = abs(original.mean - regularized.mean) > original.half_width + regularized.half_width  # False with a nan
    mark = "blue" if disjoint else "bold"
    return (mark, "") if merits[0] > merits[1] else ("", mark)


def layout(summary: pd.DataFrame) -> dict[str, list[Row]]:
    """The paper's Table 2 as rows by the title of their block, with rows for the ablation and the untrained encoder.

    A row of the ablation compares equals: "both clipped" is clip only against clip and regularizer, "no clip" is neither
    against regularizer only. "(k/n)" says that k of n runs stayed finite, "…" that one was still learning when it ended.
    """
    blocks = {}
    for key, block in summary.groupby(["task", "dataset"], sort=False):
        task, dataset = map(str, key)
        cells = {(row["loss"], row["variant"]): row for row in block.to_dict("records")}
        size = f"{benchmark(dataset).classes} classes, true MI {block.true_mi.iloc[0]:.3f}"
        blocks[f"{TASKS[task]}, {readable(dataset)} ({size})"] = [
            _layout_row(label, *pair)
            for pairs, needed in ((PAIRS, any), (ABLATION, all), (UNTRAINED, any))
            for label, loss, *variants in pairs
            if needed(pair := [cells.get((loss, variant)) for variant in variants])
        ]
    return blocks


def _layout_row(label: str, *pair: Mapping[Any, Any] | None) -> Row:
    cells: list[Cell] = []
    learning = any(cell["settled"] < cell["n"] for cell in pair if cell)
    for measure in ("mi", "accuracy"):
        intervals = [Interval(cell[f"{measure}_mean"], cell[f"{measure}_ci95"]) if cell else NO_INTERVAL for cell in pair]
        truth = next(cell["true_mi"] for cell in pair if cell) if measure == "mi" else None
        marks = ("", "") if learning else emphasis(intervals[0], intervals[1], truth)
        for cell, interval, mark in zip(pair, intervals, marks, strict=True):
            cells.append(Cell((printed(*interval) or NOTHING) + (remarks(cell, measure) if cell else ""), mark))
    return Row(label, tuple(cells), f"{pair[1]['lam']:g}" if pair[1] else NOTHING)


def printed(mean: float, half_width: float = np.nan) -> str:
    """A mean and the half width of its interval to three digits; nothing where there is none."""
    spread = f" ± {half_width:.3f}" if np.isfinite(half_width) else ""
    return f"{mean:.3f}{spread}".replace("-", "−") if np.isfinite(mean) else ""


def remarks(cell: Mapping[Any, Any], measure: str) -> str:
    """Behind a mean: how many runs stayed finite, if not all did (MI), and whether one was still learning."""
    finite = measure != "mi" or cell["n_ok"] == cell["n"]
    return f" ({cell['n_ok']}/{cell['n']})" * (not finite) + LEARNING * (cell["settled"] < cell["n"])


def _place(dataset: str) -> str:
    """The data set, and the paper's if that is another."""
    ours, published = readable(dataset), PAPER[benchmark(dataset).classes]
    return ours if ours == published else f"{ours} in place of {published}"


def caption(summary: pd.DataFrame, profile: str = "quick") -> str:
    """What the numbers are, for a reader who has the table only."""
    place = " and ".join(_place(dataset) for dataset in BENCHMARKS if dataset in set(summary["dataset"])) or "a folder of images"
    return (
        f"Table 2, profile {profile}: {place}. Mean ± half width of the Student-t 95% interval over {summary['n'].max()} seeds. "
        "MI estimate in nats: mean over the training batches of the last epoch, negative values counted as 0. "
        "Test accuracy: BatchNorm in evaluation mode. λ: the weight whose MI is nearest the true value. "
        "Better of the pair: bold where the intervals overlap, blue where they are disjoint. "
        "(k/n): k of n runs stayed finite; a diverged run counts as MI 0 and chance accuracy. "
        "…: still learning when the training ended; its pair is not compared. "
        "Ours: “both clipped” adds the clip to the original loss, “no clip” takes it from the regularized one."
    )


HEADER = ("Loss", "MI original", "MI regularized", "Accuracy original", "Accuracy regularized", "λ")
BLUE_MARK = " ◆"  # GitHub shows no colours


def table2_markdown(summary: pd.DataFrame, profile: str = "quick") -> str:
    """Table 2 as Markdown; blue cells also carry a mark, for renderers without colour."""

    def show(cell: Cell) -> str:
        styles = {"bold": "**{}**", "blue": f'<span style="color:{BLUE}">{{}}</span>{BLUE_MARK}'}
        return styles.get(cell.emphasis, "{}").format(cell.text)

    parts = [_markdown_text(f"{caption(summary, profile)} Blue cells are marked{BLUE_MARK}.")]
    for title, block in layout(summary).items():
        rows = [(row.label, *map(show, row.cells), row.lam) for row in block]
        parts += [f"**{title}**", _markdown_table(HEADER, rows)]
    return "\n\n".join(parts) + "\n"


def table2_tex(summary: pd.DataFrame, profile: str = "quick") -> str:
    r"""Table 2 as LaTeX: a table* for booktabs and xcolor."""

    def show(cell: Cell) -> str:
        styles = {"bold": r"\textbf{%s}", "blue": rf"\textcolor[HTML]{{{BLUE[1:]}}}{{%s}}"}
        return styles.get(cell.emphasis, "%s") % _tex_text(cell.text)

    lines = [
        r" & \multicolumn{2}{c}{MI estimation} & \multicolumn{2}{c}{Test accuracy} & \\",
        r"\cmidrule(lr){2-3} \cmidrule(lr){4-5}",
        r"Loss & Original & Regularized & Original & Regularized & $\lambda$ \\",
    ]
    for title, block in layout(summary).items():
        lines += [r"\midrule", rf"\multicolumn{{6}}{{l}}{{\textit{{{_tex_text(title)}}}}} \\"]
        lines += [" & ".join((_tex_text(row.label), *map(show, row.cells), _tex_text(row.lam))) + r" \\" for row in block]
    return _tex_table("lccccc", lines, caption(summary, profile), "table2")


def table2_image(summary: pd.DataFrame, profile: str = "quick") -> Figure:
    """Table 2 as an image, 7.2 in wide."""
    note = textwrap.wrap(f"{caption(summary, profile)} Blue cells are marked{BLUE_MARK}.", 142)
    lines: list[Sequence[Cell]] = [[Cell(text, "head") for text in HEADER]]
    for title, block in layout(summary).items():
        lines.append([Cell(title, "head"), *[Cell("", "head")] * 5])
        lines += [[Cell(row.label), *row.cells, Cell(row.lam)] for row in block]
    high, table, margin = 0.25 + 0.185 * len(lines) + 0.145 * len(note), 0.185 * len(lines), 0.08
    figure = Figure(figsize=(7.2, high), facecolor="white")
    figure.set_layout_engine("none")  # whatever the style says: every text has its place
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    grid = axes.table(
        [[cell.text + BLUE_MARK * (cell.emphasis == "blue") for cell in line] for line in lines],
        colWidths=(0.22, 0.18, 0.18, 0.17, 0.19, 0.06), cellLoc="left", edges="T",
        bbox=Bbox.from_bounds(0.01, 1 - (table + margin) / high, 0.98, table / high),
    )  # fmt: skip
    grid.auto_set_font_size(False)
    styles = {"head": {"fontstyle": "italic"}, "bold": {"fontweight": "bold"}, "blue": {"color": BLUE}}
    for (row, column), box in grid.get_celld().items():
        emphasis = lines[row][column].emphasis
        box.set_text_props(fontsize=8, **styles.get(emphasis, {}))
        box.visible_edges = "T" * (emphasis == "head") + "B" * (row == len(lines) - 1)
        box.PAD = 0.02
    axes.text(0.015, 1 - (table + 2 * margin) / high, "\n".join(note), va="top", fontsize=6.5, linespacing=1.3)
    return figure


def _markdown_table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    body = [f"| {' | '.join(map(_markdown_text, row))} |" for row in (header, *rows)]
    return "\n".join([body[0], "|" + "---|" * (body[0].count(" | ") + 1), *body[1:]])


def _markdown_text(text: str) -> str:
    return text.replace("C*", r"C\*").replace("E_Q", r"E\_Q")


def _tex_text(text: str) -> str:
    symbols = {
        "±": r"$\pm$", "…": r"\dots", "–": "--", "−": "$-$", "λ": r"$\lambda$", "τ": r"$\tau$", "²": "$^2$", "%": r"\%",
        "C*": "$C^*$", "E_Q": "$E_Q$", "“": "``", "”": "''",
    }  # fmt: skip
    for symbol, command in symbols.items():
        text = text.replace(symbol, command)
    return text


def _tex_table(columns: str, lines: Sequence[str], note: str, label: str) -> str:
    opening = ["% needs booktabs and xcolor", r"\begin{table*}", r"\centering\small", rf"\begin{{tabular}}{{{columns}}}"]
    closing = [r"\end{tabular}", rf"\caption{{{_tex_text(note)}}}", rf"\label{{tab:{label}}}", r"\end{table*}"]
    return "\n".join([*opening, r"\toprule", *lines, r"\bottomrule", *closing]) + "\n"


def table1_markdown(table: pd.DataFrame) -> str:
    """Table 1 as Markdown."""
    return _markdown_table(list(table.columns), table.to_numpy().tolist()) + "\n"


def table1_tex(table: pd.DataFrame) -> str:
    """Table 1 as LaTeX: a table* for booktabs."""
    header, *rows = (" & ".join(map(_tex_text, row)) + r" \\" for row in (list(table.columns), *table.to_numpy().tolist()))
    note = "The six losses, their regularizers, and what each experiment changes."
    return _tex_table("l" + r"p{0.16\textwidth}" * (len(table.columns) - 1), [header, r"\midrule", *rows], note, "table1")
