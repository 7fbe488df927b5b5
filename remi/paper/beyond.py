"""The picture of `beyond_offsets`: what an offset costs, how far off the estimates are, and which seeds survive."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from remi.losses import family
from remi.paper.checks_beyond import bias, survives
from remi.paper.figures import Records
from remi.paper.measures import staircase
from remi.paper.pictures import plot
from remi.paper.plans import Curve, GaussianPlan, OneHotPlan
from remi.style import HUES, JOINT, MARGINAL, PALETTE, TRUTH
from remi.theory import offsets

COSTS = {  # as `offsets.HOLDERS` calls them, and where their line is named, in nats
    "MINE": (-2.9, -0.28),
    "InfoNCE-anchor": (1.1, -0.28),
    "HD-DIME": (1.95, 0.66),
    "sigmoid": (1.9, 1.55),
    "NWJ": (-2.9, 2.14),
    "ReMINE, lam 1": (-1.55, 3.0),
}
SHOWN = (("mine", "remine", "nwj", "renwj", "infonce"), ("infonce_anchor", "sigmoid", "fdime", "fdime-hd", "dcl", "flo"))
TOP = 4.0  # nats: of the frame of the errors


def figure(plans: Mapping[str, GaussianPlan | OneHotPlan], records: Records) -> tuple[Figure, pd.DataFrame]:
    """Above, the cost of an offset and the survivors; below, the error at every level, of the paper's and of later losses."""
    drawn = Figure(figsize=(7.0, 5.0))
    panels = drawn.subplots(2, 2)
    tables = [_costs(panels[0, 0]), _survivors(panels[0, 1], plans["survival"].curves, records)]
    curves = {curve.key: curve for curve in plans["main"].curves}
    for axes, keys in zip(panels[1], SHOWN, strict=True):
        tables.append(_errors(axes, [curves[key] for key in keys], records, plans["main"].batch))
    panels[1, 0].set(ylabel="estimate − truth (nats)", title="The paper's losses at batch 64")
    panels[1, 1].set(ylabel="", title="Later losses at batch 64")
    return drawn, pd.concat(tables, ignore_index=True)


def _costs(axes: Axes) -> pd.DataFrame:
    c = np.linspace(-3, 3, 61)
    tables = []
    for name, (x, y) in COSTS.items():
        holder = offsets.HOLDERS[name]
        colour = HUES[family(holder.loss)]
        cost = np.array([holder.cost(float(value)) for value in c])
        look = {"color": colour, "lw": 1.6 if holder.loss.startswith("re") else 1.0}
        tables.append(plot(axes, {"panel": "cost", "curve": name, "x": c, "y": cost}, **look))
        axes.text(x, y, name.partition(",")[0], color=colour, fontsize=7)
    axes.set(xlim=(-3, 3), ylim=(-0.4, 3.4), xlabel="offset $c$ of the best critic (nats)", ylabel="cost (nats)")
    axes.set_title("What an offset costs, one-hot problem")
    return pd.concat(tables)


def _survivors(axes: Axes, curves: Sequence[Curve], records: Records) -> pd.DataFrame:
    names, groups = [curve.label for curve in curves], [records[f"survival/{curve.key}"] for curve in curves]
    seeds, some = len(groups[0]), [sum(map(survives, group)) for group in groups]
    axes.barh(names, seeds, color="white", edgecolor=MARGINAL, lw=0.6, height=0.6)
    axes.barh(names, some, color=[HUES[family(curve.loss)] for curve in curves], height=0.6)
    axes.bar_label(axes.containers[0], labels=[f"{count:.0f}" for count in some], padding=3, fontsize=7)  # type: ignore[arg-type]
    axes.set(ylim=(len(curves) - 0.5, -0.5), xlim=(0, seeds + 2), xlabel=f"of {seeds} seeds", title="Who survives batch 32")
    return pd.DataFrame({"panel": "survivors", "curve": names, "y": some})


def _errors(axes: Axes, curves: Sequence[Curve], records: Records, batch: int) -> pd.DataFrame:
    """Mean over seeds at every level, with their range; solid where something was added to hold the offset, dashed where not."""
    truth = staircase(records[curves[0].key][0])[1][:, 0]
    every = [(curve.label, seed, record) for curve in curves for seed, record in enumerate(records[curve.key])]
    rows = [pd.DataFrame({"panel": "error", "curve": name, "seed": seed, "x": truth, "y": bias(r)}) for name, seed, r in every]
    table = pd.concat(rows, ignore_index=True)
    plain = {curve.label: curve.loss in PALETTE or curve.key in ("fdime-hd", "dcl") for curve in curves}
    look: dict[str, Any] = {
        "palette": {curve.label: HUES[family(curve.loss)] for curve in curves},
        "dashes": {label: (4, 1.5) if dashed else "" for label, dashed in plain.items()},
        "sizes": {label: 1.0 if dashed else 1.6 for label, dashed in plain.items()},
    }
    seeds: dict[str, Any] = {"errorbar": ("pi", 100), "err_style": "bars", "err_kws": {"elinewidth": 0.6}, "markers": True}
    drawn = table.assign(y=table.y.clip(upper=TOP))
    sns.lineplot(drawn, x="x", y="y", hue="curve", style="curve", size="curve", ms=5, ax=axes, **look, **seeds)
    axes.plot(truth, [offsets.quoted_ceiling(mi, batch) - mi for mi in truth], color=JOINT, lw=0.8, ls=":")
    axes.axhline(0, color=TRUTH, ls=":", lw=1.2)
    axes.set(xlabel="true MI (nats)", xticks=truth, ylim=(-12, TOP + 0.3))
    axes.legend(loc="lower left", ncols=2, title=None)
    return table
