"""Tables 1 and 2: a row per run, a row per cell, and the paper's layout as Markdown, LaTeX and image; numbers in nats."""

import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from remi.losses import BOUNDS, LABELS, estimators
from remi.paper import experiments
from remi.paper.experiments import Benchmark, Curve
from remi.runs import Record
from remi.theory import closed_form
from remi.training import Interval, images, student_t

BLUE = "#0077BB"
MI = ("mi_train", "mi_last_batch", "mi_dv", "mi_heldout")
ACCURACY = ("accuracy", "accuracy_batch_stats")
CELL = ["task", "dataset", "loss", "regularized", "clip", "variant"]
COLUMNS = ["task", "dataset", "loss", "regularized", "clip", "lam", "seed", *MI, *ACCURACY, "n_skipped", "status"]
TASKS = {"slb": "Supervised learning benchmark", "clb": "Contrastive learning benchmark"}
VARIANTS = ("original", "regularized", "clip only", "regularizer only", "untrained")
BENCHMARKS: dict[str, Benchmark] = {benchmark.dataset: benchmark for benchmark in experiments.BENCHMARKS}
PAPER = {10: "CIFAR-10", 100: "CIFAR-100"}  # the paper's data set with as many classes
PUBLISHED = Path(__file__).with_name("published_table2.csv")


# From records to rows


def rows(groups: Mapping[str, Sequence[Record]]) -> pd.DataFrame:
    """One row per run of Table 2, in a fixed order whatever the order of the groups; MI in nats, 6 digits.

    A diverged run says at which step in `status` and counts as in the paper: MI 0, accuracy 1 / C. `lam` is nan without a
    regularizer, `clip` is what the loss clips ("both", "marginal" or "none"), and an untrained encoder has no training MI.

    Args:
        groups: the records of `experiments.table2` or `experiments.folder`; a record says itself to which row it belongs.

    Raises:
        ValueError: a data set is not in `experiments.BENCHMARKS`.
    """
    found = sorted((_run_row(record) for records in groups.values() for record in records), key=_order)
    return pd.DataFrame(found, columns=COLUMNS).round(6)


def _run_row(record: Record) -> dict[str, Any]:
    run: Any = record.run
    chance = 1 / _benchmark(run.dataset).classes
    if record.ok:
        values, status = {name: record.scalars.get(name, np.nan) for name in (*MI, *ACCURACY)}, record.status
    else:
        values = dict.fromkeys(MI, 0.0) | dict.fromkeys(ACCURACY, chance)
        status = f"diverged at step {record.scalars['diverged_at']:.0f}"
    untrained = run.loss == "untrained"
    allowed = {} if untrained else estimators.options(run.loss)
    clip = run.options.get("clip", allowed["clip"].default) if "clip" in allowed else None
    return {
        "task": run.task,
        "dataset": run.dataset,
        "loss": run.loss if untrained else estimators.family(run.loss),
        "regularized": run.lam is not None,
        "clip": clip or "none",
        "lam": np.nan if run.lam is None else run.lam,
        "seed": run.seed,
        **values,
        "n_skipped": int(record.scalars.get("n_skipped", 0)),
        "status": status,
    }


def _benchmark(dataset: str) -> Benchmark:
    if dataset == "folder":
        return experiments.folder_benchmark()  # classes and batch are the same in every profile
    if dataset not in BENCHMARKS:
        raise ValueError(f"dataset must be one of {', '.join(BENCHMARKS)}; got {dataset!r}")
    return BENCHMARKS[dataset]


def _variant(row: Mapping[str, Any]) -> str:
    if row["loss"] == "untrained":
        return "untrained"
    clipped = row["clip"] == "both"  # Table 1 clips NWJ and TUBA with the regularizer only
    if row["loss"] in estimators.SELF_NORMALIZED and clipped != row["regularized"]:
        return "regularizer only" if row["regularized"] else "clip only"
    return "regularized" if row["regularized"] else "original"


def _order(row: Mapping[str, Any]) -> tuple[float, ...]:
    places = zip(
        (tuple(TASKS), (*BENCHMARKS, "folder"), (*BOUNDS, "untrained"), VARIANTS),
        (row["task"], row["dataset"], row["loss"], _variant(row)),
        strict=True,
    )
    return (*(names.index(name) for names, name in places), -np.nan_to_num(row["lam"]), row["seed"])


# From rows to cells


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """One row per cell of Table 2: over seeds, mean and half width of the Student-t 95% interval; nats, 6 digits.

    * `variant`: original, regularized, clip only and regularizer only (NWJ and TUBA, ours), untrained.
    * `<measure>_mean`, `<measure>_ci95`: every run, a diverged one as MI 0 and chance accuracy. `mi` is `mi_train`; in it and
      in `mi_last_batch` a negative value of a run counts as 0, as in the paper. `<measure>_mean_ok`: finite runs only.
    * `lam`: of a regularized cell the weight whose `mi_mean` is nearest the true MI, the larger one of a tie.
    * `published_*`: the paper's numbers on the CIFAR data set with as many classes. `closed_form`: `theory.closed_form`.

    Args:
        table: of `rows`, or read back from its CSV file.
    """
    cells = _cells(table)
    cells["error"] = (cells["mi_mean"] - cells["true_mi"]).abs().round(6)
    best = cells.sort_values(["error", "lam"], ascending=[True, False], kind="stable").groupby(CELL, sort=False).head(1)
    best = best.sort_index().drop(columns="error")
    columns = zip(best["task"], best["loss"], map(_benchmark, best["dataset"]), strict=True)
    best["closed_form"] = np.array([closed_form(task, loss, b.classes, b.batch) for task, loss, b in columns], dtype=float)
    return best.merge(_published(), how="left", on=["task", "dataset", "loss", "variant"], validate="one_to_one").round(6)


def by_lambda(table: pd.DataFrame) -> pd.DataFrame:
    """Fig. 6: the CLB cells of every regularized loss (as in Table 1) and weight, columns as in `summary`; nats."""
    cells = _cells(table)
    chosen = cells[(cells["task"] == "clb") & (cells["variant"] == "regularized")]
    return chosen[[*CELL, "lam", "true_mi", *_statistics("mi"), *_statistics("accuracy"), "n_ok", "n"]].reset_index(drop=True)


def _statistics(measure: str) -> list[str]:
    return [f"{measure}_{statistic}" for statistic in ("mean", "ci95", "mean_ok")]


def _cells(table: pd.DataFrame) -> pd.DataFrame:
    """A row per task, data set, loss, clip and weight, in the order of `table`."""
    runs = table.assign(variant=[_variant(row) for row in _records(table)])
    rows = []
    for key, cell in runs.groupby([*CELL, "lam"], sort=False, dropna=False):
        row = dict(zip([*CELL, "lam"], key, strict=True))
        ok = cell["status"] == "ok"
        row |= {"true_mi": _true_mi(str(row["dataset"])), "n_ok": int(ok.sum()), "n": len(cell)}
        for column in (*MI, *ACCURACY):
            values = cell[column].clip(lower=0) if column in ("mi_train", "mi_last_batch") else cell[column]
            measure = "mi" if column == "mi_train" else column
            row |= dict(zip(_statistics(measure), (*student_t(values), values[ok].mean()), strict=True))
        rows.append(row)
    return pd.DataFrame(rows).round(6)


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def _true_mi(dataset: str) -> float:
    return images.DATASETS[dataset]().true_mi


def _published() -> pd.DataFrame:
    """The paper's Table 2 under our names: beside CIFAR itself, and beside what stands in for it."""
    ours = {name: [b.dataset for b in BENCHMARKS.values() if b.classes == classes] for classes, name in PAPER.items()}
    table = pd.read_csv(PUBLISHED).rename(columns=lambda name: f"published_{name}" if name.endswith(("_mean", "_ci95")) else name)
    table["task"] = table["task"].str.lower()
    table["dataset"] = table["dataset"].map(ours)
    table["loss"] = table["loss"].map({LABELS[name]: name for name in BOUNDS})
    return table.explode("dataset", ignore_index=True)


# Layout and emphasis


class Cell(NamedTuple):
    """What a cell says, and whether it is the better of its pair: "" (no), "bold" (intervals overlap) or "blue" (disjoint)."""

    text: str
    emphasis: str = ""


class Row(NamedTuple):
    """MI original, MI regularized, accuracy original, accuracy regularized; and the weight of the regularized ones."""

    label: str
    cells: tuple[Cell, ...]
    lam: str


class Block(NamedTuple):
    """A task on a data set."""

    title: str
    rows: list[Row]


NOTHING = "–"
Pair = tuple[str, str, str, str]  # label, loss, variants on the left and on the right
PAIRS: list[Pair] = [(LABELS[loss], loss, "original", "regularized") for loss in BOUNDS]
ABLATION: list[Pair] = [
    pair
    for loss in estimators.SELF_NORMALIZED
    for pair in (
        (f"{LABELS[loss]}, both clipped", loss, "clip only", "regularized"),
        (f"{LABELS[loss]}, no clip", loss, "original", "regularizer only"),
    )
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


def layout(summary: pd.DataFrame) -> list[Block]:
    """The paper's Table 2 as blocks of rows, with rows for the ablation and the untrained encoder.

    A row of the ablation compares equals: "both clipped" is clip only against clip and regularizer, "no clip" is neither
    against regularizer only. "(k/n)" says that k of n runs stayed finite.
    """
    cells = {(row["task"], row["dataset"], row["loss"], row["variant"]): row for row in _records(summary)}

    def rows(task: str, dataset: str, pairs: Sequence[Pair], needed: Callable[[Iterable[Any]], bool]) -> Iterator[Row]:
        for label, loss, left, right in pairs:
            pair = cells.get((task, dataset, loss, left)), cells.get((task, dataset, loss, right))
            if needed(pair):
                yield _layout_row(label, *pair)

    blocks = []
    for task, dataset in dict.fromkeys(key[:2] for key in cells):
        size = f"{_benchmark(dataset).classes} classes, true MI {_true_mi(dataset):.3f}"
        shown = [*rows(task, dataset, PAIRS, any), *rows(task, dataset, ABLATION, all), *rows(task, dataset, UNTRAINED, any)]
        blocks.append(Block(f"{TASKS[task]}, {readable(dataset)} ({size})", shown))
    return blocks


def _layout_row(label: str, original: dict[str, Any] | None, regularized: dict[str, Any] | None) -> Row:
    cells: list[Cell] = []
    for measure in ("mi", "accuracy"):
        left, right = _interval(original, measure), _interval(regularized, measure)
        truth = (original or regularized or {})["true_mi"] if measure == "mi" else None
        marks = emphasis(left, right, truth)
        for cell, interval, mark in zip((original, regularized), (left, right), marks, strict=True):
            text = f"{interval.mean:.3f}" if np.isfinite(interval.mean) else NOTHING
            text += f" ± {interval.half_width:.3f}" if np.isfinite(interval.half_width) else ""
            text += f" ({cell['n_ok']}/{cell['n']})" if cell and cell["n_ok"] < cell["n"] and measure == "mi" else ""
            cells.append(Cell(text, mark))
    return Row(label, tuple(cells), f"{regularized['lam']:g}" if regularized else NOTHING)


def _interval(cell: dict[str, Any] | None, measure: str) -> Interval:
    return Interval(cell[f"{measure}_mean"], cell[f"{measure}_ci95"]) if cell else Interval(np.nan, np.nan)


def readable(dataset: str) -> str:
    """The data set for readers: "digit pairs", "CIFAR-10"."""
    return dataset.upper() if dataset.startswith("cifar") else dataset.replace("-", " ")


def _place(dataset: str) -> str:
    """The data set, and the paper's if that is another."""
    ours, published = readable(dataset), PAPER[_benchmark(dataset).classes]
    return ours if ours == published else f"{ours} in place of {published}"


def caption(summary: pd.DataFrame, profile: str = "quick") -> str:
    """What the numbers are, for a reader who has the table only."""
    place = " and ".join(_place(dataset) for dataset in BENCHMARKS if dataset in set(summary["dataset"]))
    return (
        f"Table 2, profile {profile}: {place}. Mean ± half width of the Student-t 95% interval over {summary['n'].max()} seeds. "
        "MI estimate in nats: mean over the training batches of the last epoch, negative values counted as 0. "
        "Test accuracy: BatchNorm in evaluation mode. λ: the weight whose MI is nearest the true value. "
        "Better of the pair: bold where the intervals overlap, blue where they are disjoint. "
        "(k/n): k of n runs stayed finite; a diverged run counts as MI 0 and chance accuracy. "
        "Ours: “both clipped” adds the clip to the original loss, “no clip” takes it from the regularized one."
    )


# Rendering


HEADER = ("Loss", "MI original", "MI regularized", "Accuracy original", "Accuracy regularized", "λ")
BLUE_MARK = " ◆"  # GitHub shows no colours


def markdown(summary: pd.DataFrame, profile: str = "quick") -> str:
    """Table 2 as Markdown; blue cells also carry a mark, for renderers without colour."""

    def show(cell: Cell) -> str:
        styles = {"bold": "**{}**", "blue": f'<span style="color:{BLUE}">{{}}</span>{BLUE_MARK}'}
        return styles.get(cell.emphasis, "{}").format(cell.text)

    parts = [_markdown_text(f"{caption(summary, profile)} Blue cells are marked{BLUE_MARK}.")]
    for block in layout(summary):
        rows = [(row.label, *map(show, row.cells), row.lam) for row in block.rows]
        parts += [f"**{block.title}**", _markdown_table(HEADER, rows)]
    return "\n\n".join(parts) + "\n"


def tex(summary: pd.DataFrame, profile: str = "quick") -> str:
    r"""Table 2 as LaTeX: a table* for booktabs and xcolor."""

    def show(cell: Cell) -> str:
        styles = {"bold": r"\textbf{%s}", "blue": rf"\textcolor[HTML]{{{BLUE[1:]}}}{{%s}}"}
        return styles.get(cell.emphasis, "%s") % _tex_text(cell.text)

    lines = [
        r" & \multicolumn{2}{c}{MI estimation} & \multicolumn{2}{c}{Test accuracy} & \\",
        r"\cmidrule(lr){2-3} \cmidrule(lr){4-5}",
        r"Loss & Original & Regularized & Original & Regularized & $\lambda$ \\",
    ]
    for block in layout(summary):
        lines += [r"\midrule", rf"\multicolumn{{6}}{{l}}{{\textit{{{_tex_text(block.title)}}}}} \\"]
        lines += [" & ".join((_tex_text(row.label), *map(show, row.cells), _tex_text(row.lam))) + r" \\" for row in block.rows]
    return _tex_table("lccccc", lines, caption(summary, profile), "table2")


def draw(summary: pd.DataFrame, profile: str = "quick") -> Figure:
    """Table 2 as an image, 7.2 in wide."""
    blocks = layout(summary)
    note = textwrap.wrap(caption(summary, profile), 142)
    width, line, size = 7.2, 0.185, 8.0
    lines = 2 + sum(1.35 + len(block.rows) for block in blocks)
    height = 0.25 + line * lines + 0.145 * len(note)
    figure = Figure(figsize=(width, height), facecolor="white")
    figure.set_layout_engine("none")  # whatever the style says: every text has its place
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    places = (0.1, 2.25, 3.6, 4.85, 6.05, 6.93)

    def write(x: float, y: float, text: str, **style: Any) -> None:
        defaults: dict[str, Any] = {"fontsize": size, "va": "center", "ha": "center"}
        axes.text(x, y, text, **(defaults | style))

    def rule(y: float, left: float = 0.08, right: float = width - 0.08, weight: float = 0.5) -> None:
        axes.plot([left, right], [y, y], color="black", linewidth=weight, clip_on=False)

    y = 0.1
    rule(y, weight=1.0)
    y += line * 0.6
    for left, right, text in ((1, 2, "MI estimation (nats)"), (3, 4, "Test accuracy")):
        write((places[left] + places[right]) / 2, y, text)
        rule(y + line / 2, places[left] - 0.55, places[right] + 0.55)
    y += line * 1.05
    for x, text in zip(places, ("Loss", "Original", "Regularized", "Original", "Regularized", "λ"), strict=True):
        write(x, y, text, ha="left" if x == places[0] else "center")
    y += line * 0.6
    for block in blocks:
        rule(y)
        y += line * 0.7
        write(places[0], y, block.title, ha="left", style="italic")
        for row in block.rows:
            y += line
            write(places[0], y, row.label, ha="left")
            for x, cell in zip(places[1:], row.cells, strict=False):
                styles = {"bold": {"fontweight": "bold"}, "blue": {"color": BLUE}}
                write(x, y, cell.text, **styles.get(cell.emphasis, {}))
            write(places[-1], y, row.lam)
        y += line * 0.65
    rule(y, weight=1.0)
    write(places[0], y + 0.08, "\n".join(note), ha="left", va="top", fontsize=6.5, linespacing=1.3)
    return figure


def _markdown_table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    body = [f"| {' | '.join(map(_markdown_text, row))} |" for row in (header, *rows)]
    return "\n".join([body[0], "|" + "---|" * (body[0].count(" | ") + 1), *body[1:]])


def _markdown_text(text: str) -> str:
    return text.replace("C*", r"C\*").replace("E_Q", r"E\_Q")


def _tex_text(text: str) -> str:
    symbols = {
        "±": r"$\pm$", "–": "--", "−": "$-$", "λ": r"$\lambda$", "τ": r"$\tau$", "²": "$^2$", "%": r"\%",
        "C*": "$C^*$", "E_Q": "$E_Q$", "“": "``", "”": "''",
    }  # fmt: skip
    for symbol, command in symbols.items():
        text = text.replace(symbol, command)
    return text


def _tex_table(columns: str, lines: Sequence[str], note: str, label: str) -> str:
    opening = ["% needs booktabs and xcolor", r"\begin{table*}", r"\centering\small", rf"\begin{{tabular}}{{{columns}}}"]
    closing = [r"\end{tabular}", rf"\caption{{{_tex_text(note)}}}", rf"\label{{tab:{label}}}", r"\end{table*}"]
    return "\n".join([*opening, r"\toprule", *lines, r"\bottomrule", *closing]) + "\n"


# Table 1


PINNED = {  # loss and the value of the option that decides: normalizer, name of its squared difference to the target
    ("mine", None): ("log E_Q[exp T]", "Euclidean"),
    ("smile", None): ("log E_Q[exp T]", "Euclidean"),
    ("infonce", None): ("mean over pairs of log mean exp of the row", "Euclidean"),
    ("nwj", "eq15"): ("log E_Q[exp(T − 1)]", "log-Euclidean"),
    ("nwj", "released"): ("log E_Q[exp T]", "log-Euclidean"),
    ("tuba", None): ("log E_Q[exp T]", "log-Euclidean"),
    ("js", "log"): ("log E_Q[exp T]", "log-Euclidean"),
    ("js", "softplus"): ("E_Q[softplus T]", "Euclidean"),
}
DECIDES = {"nwj": "target_of", "js": "penalty"}
WORDS = {
    ("clip", None): "no clip",
    ("clip", "marginal"): "second term clipped at τ = {tau:g}",
    ("clip", "both"): "both terms clipped at τ = {tau:g}",
    ("evaluate", "eq8"): "estimate by eq. 8",
    ("evaluate", "nwj"): "estimate by NWJ",
}
REMARKS = {"mine": ["no gradient moving average"], "tuba": ["a(y) = 1"]}  # settings that are no option
EARLY = {
    "Figs. 1 to 3": experiments.FIGURE1.curves + experiments.FIGURE3.curves,
    "Fig. 4": experiments.FIGURE4.curves,
    "Fig. 5": experiments.FIGURE5.curves,
}
GAUSSIAN = tuple(curve for curve in experiments.FIGURE7.curves if curve.key in estimators.NAMES)  # without the ablation


def table1() -> pd.DataFrame:
    """The paper's Table 1 from the code: a row per loss; its settings, its regularizer, and what each experiment changes.

    The first columns are the defaults of `estimators.options`, the others where `experiments` departs from them. A squared
    difference is the Euclidean distance of a normalizer to its target, or, on a normalizer that is the logarithm of a
    quantity to be pinned to 1, the log-Euclidean distance of that quantity to 1.
    """
    gaussian = f"Fig. 7 (λ = {_numbers(curve.lam for curve in GAUSSIAN)})"
    benchmarks = f"Table 2, Fig. 6 (λ = {_numbers(experiments.TABLE2.lams)})"
    rows = []
    for loss in BOUNDS:
        early = [f"{figure}: {use}" for figure, curves in EARLY.items() if (use := _changes(loss, curves, state_lam=True))]
        rows.append(
            {
                "Loss": LABELS[loss],
                "Loss settings": _loss_settings(loss),
                "Regularizer settings": _regularizer_settings(loss),
                "Figs. 1 to 5": "; ".join(early) or NOTHING,
                gaussian: _changes(loss, GAUSSIAN),
                benchmarks: _changes(loss, experiments.TABLE2.curves),
            }
        )
    return pd.DataFrame(rows)


def table1_markdown(table: pd.DataFrame) -> str:
    """Table 1 as Markdown."""
    return _markdown_table(list(table.columns), table.to_numpy().tolist()) + "\n"


def table1_tex(table: pd.DataFrame) -> str:
    """Table 1 as LaTeX: a table* for booktabs."""
    header, *rows = (" & ".join(map(_tex_text, row)) + r" \\" for row in (list(table.columns), *table.to_numpy().tolist()))
    note = "The six losses, their regularizers, and what each experiment changes."
    return _tex_table("l" + r"p{0.16\textwidth}" * (len(table.columns) - 1), [header, r"\midrule", *rows], note, "table1")


def _loss_settings(loss: str) -> str:
    allowed = estimators.options(loss)
    defaults = {name: option.default for name, option in allowed.items()}
    words = [WORDS[setting].format(**defaults) for setting in defaults.items() if setting in WORDS]
    return ", ".join([*REMARKS.get(loss, []), *words]) or NOTHING


def _regularizer_settings(loss: str) -> str:
    allowed = estimators.options("re" + loss)
    quantity, distance = PINNED[loss, allowed[DECIDES[loss]].default if loss in DECIDES else None]
    if "target" not in allowed:
        return f"λ ({quantity})², {distance}"
    return f"λ ({quantity} − C*)², {distance}, C* = {allowed['target'].default:g}"


def _changes(loss: str, curves: Sequence[Curve], state_lam: bool = False) -> str:
    """What the curves of a loss and of its twin set, where it is not the default; "" without such curves."""
    members = {name: [curve for curve in curves if curve.loss == name] for name in (loss, "re" + loss)}
    if not any(members.values()):
        return ""
    both = _set_options(loss, members[loss])
    twin = [words for words in _set_options("re" + loss, members["re" + loss]) if words not in both]
    if state_lam and members["re" + loss]:
        twin.insert(0, f"λ = {_numbers(curve.lam for curve in members['re' + loss])}")
    return "; ".join([*both, *([f"{LABELS['re' + loss]}: {', '.join(twin)}"] if twin else [])]) or "default"


def _set_options(name: str, curves: Sequence[Curve]) -> list[str]:
    loss, words = estimators.family(name), []
    defaults = {option: parameter.default for option, parameter in estimators.options(name).items()}
    settings = [defaults | curve.options for curve in curves]
    for option, default in defaults.items():
        values = list(dict.fromkeys(setting[option] for setting in settings))
        if option == "lam" or values in ([], [default]):
            continue
        if option in ("target", "tau"):
            words.append(f"{'C*' if option == 'target' else 'τ'} = {_numbers(values)}")
        elif option == DECIDES.get(loss):
            words.append("pins " + " or ".join(PINNED[loss, value][0] for value in values))
        else:
            words.append(" or ".join(dict.fromkeys(WORDS[option, setting[option]].format(**setting) for setting in settings)))
    return words


def _numbers(values: Iterable[float | None]) -> str:
    return ", ".join(f"{value:g}".replace("-", "−") for value in dict.fromkeys(values) if value is not None)
