"""What the analysis of the weight asks for, measured: another target, no target, features with a sign, features of one length."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from remi.losses import family
from remi.paper import table2
from remi.paper.plans import Curve, Plan
from remi.paper.slopes import mark
from remi.runs import Record
from remi.style import JOINT, TRUTH, legend
from remi.training import student_t

PARTS = {  # plan, and what its rows have in common
    "main": "features never negative, target 0",
    "targets": "target above 0",
    "variance": "no target: variance alone",
    "signed": "features with a sign",
    "unit": r"features of length $\sqrt{10}$",
    "later": "later losses, features never negative",
}
LARGEST = 1.8  # truths; what reads more is drawn there, with its number


def labels(plans: Mapping[str, Plan]) -> dict[str, str]:
    """The name of every curve, by its key without the weight."""
    curves: dict[str, Sequence[Curve]] = {name: plan.curves for name, plan in plans.items()}  # type: ignore[attr-defined]
    return {("" if name == "main" else f"{name}/") + curve.key: curve.label for name in curves for curve in curves[name]}


def rows(plans: Mapping[str, Plan], records: Mapping[str, Sequence[Record]]) -> pd.DataFrame:
    """A row per setting: means over the seeds with their 95% half widths, in nats; a diverged run counts as in Table 2."""
    names, found = labels(plans), []
    for key, group in records.items():
        *plan, _, _, curve, lam = key.split("/")
        part = plan[0] if plan else "main"
        if curve == "untrained":
            continue
        runs = [table2.run_row(record) for record in group]
        mi, accuracy = student_t([max(0.0, run["mi_train"]) for run in runs]), student_t([run["accuracy"] for run in runs])
        name = names["/".join([*plan, curve])] + ("" if lam == "None" else f", λ {lam}")
        values = {"mi": mi.mean, "mi_ci95": mi.half_width, "accuracy": accuracy.mean, "accuracy_ci95": accuracy.half_width}
        counts = {"n_ok": sum(record.ok for record in group), "settled": sum(run["settled"] for run in runs), "n": len(group)}
        found.append({"part": part, "setting": name, "loss": family(group[0].run.loss), "lam": lam, **values, **counts})
    return pd.DataFrame(found)


def picture(table: pd.DataFrame, untrained: float, true_mi: float) -> Figure:
    """A line per setting: MI on the left, accuracy on the right, with their intervals; hollow has not settled.

    Args:
        table: of `rows`.
        untrained: accuracy of an encoder that was never trained.
        true_mi: in nats.
    """
    parts = [part for part in PARTS if part in set(table.part)]
    counts = [int((table.part == part).sum()) for part in parts]
    figure = Figure(figsize=(7.0, 0.9 + 0.17 * (sum(counts) + len(parts))))
    panels = figure.subplots(len(parts), 2, sharex="col", squeeze=False, height_ratios=counts)
    for (left, right), part in zip(panels, parts, strict=True):
        cells = table[table.part == part].iloc[::-1].reset_index(drop=True)
        for axes, measure, line, style in ((left, "mi", true_mi, ":"), (right, "accuracy", untrained, (0, (1, 3)))):
            axes.axvline(line, color=TRUTH, ls=style, lw=1.2, zorder=1)
            for place, (_, cell) in enumerate(cells.iterrows()):
                _mark(axes, place, cell, measure, LARGEST * true_mi)
            axes.set(yticks=range(len(cells)), yticklabels=cells.setting if axes is left else [], ylim=(-0.6, len(cells) - 0.4))
            axes.tick_params(axis="y", length=0)
        left.set_title(PARTS[part], loc="left", fontsize=8)
    panels[-1, 0].set(xlabel="MI estimate (nats)", xlim=(-0.1, (LARGEST + 0.05) * true_mi))
    panels[-1, 1].set(xlabel="test accuracy", xlim=(0, 1.03))
    looks = {
        "true MI": {"color": TRUTH, "ls": ":", "lw": 1.2},
        "untrained encoder": {"color": TRUTH, "ls": (0, (1, 3)), "lw": 1.2},
        "not settled": {"color": JOINT, "marker": "o", "mfc": "white", "ms": 4, "lw": 0},
    }
    legend(figure, looks)
    return figure


def _mark(axes: Axes, place: float, cell: Any, measure: str, limit: float) -> None:
    """A value and its interval; one beyond the limit stands there, with its number."""
    value, half_width = cell[measure], cell[f"{measure}_ci95"]
    if value > limit:
        axes.annotate(f"{value:,.0f}", (limit, place), (-6, 0), textcoords="offset points", ha="right", va="center", fontsize=7)
        value, half_width = limit, 0.0
    mark(axes, value, place, cell.loss, filled=cell.settled == cell.n, xerr=half_width)


def advice(table: pd.DataFrame, true_mi: float) -> pd.DataFrame:
    """The settings ordered by what they are good for: error of the estimate, accuracy, and the share of seeds that failed."""
    ordered = table.assign(error=(table.mi - true_mi).abs(), failed=1 - table.n_ok / table.n, name=table.setting)
    ordered = ordered[ordered.settled == ordered.n].sort_values(["failed", "error"], kind="stable")
    ordered["features"] = ordered.part.map({"signed": "signed", "unit": "one length"}).fillna("never negative")
    columns = {"name": "loss", "features": "features", "error": "MI error", "accuracy": "accuracy", "failed": "failed"}
    return ordered[list(columns)].rename(columns=columns).round(3).reset_index(drop=True)
