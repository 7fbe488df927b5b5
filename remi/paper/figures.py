"""One draw function per figure, and `save`, the only function that touches the disk."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

import remi
from remi.losses import LABELS, family
from remi.paper import typeset
from remi.paper.experiments import LATER, ROWLESS
from remi.paper.measures import levels, smooth, trace
from remi.paper.plans import Curve, GaussianPlan, OneHotPlan, Plan
from remi.paper.slopes import slopes
from remi.runs import SOURCES, EncoderRun, Record
from remi.style import HUES, JOINT, MARGINAL, PALETTE, TRUTH, legend, render
from remi.training import images

PRODUCTS = Path(os.environ.get("REMI_FIGURES", Path(remi.__file__).parents[1] / "figures"))
EVERY = 5  # steps between two drawn points of the strong seed
BIN = 25  # steps that one point of a band pools over, and between two of them
TERMS = ("joint_term", "marginal_term", "estimate")
OUTPUTS = ("joint_output", "marginal_output", "on_diagonal")
TRUE_MI = float(np.log(16))  # of every one-hot figure, in nats
Records = Mapping[str, Sequence[Record]]


def folder(profile: str) -> Path:
    """Where the products of a profile go: quick ones at the top."""
    return PRODUCTS if profile == "quick" else PRODUCTS / profile


def save(stem: str, figure: Figure, table: pd.DataFrame, caption: str, plans: Mapping[str, Plan], records: Records) -> str:
    """Write `stem`.pdf, .png, .csv (what is drawn) and .json (where it is from); each file appears complete or not at all.

    Returns:
        The path of the PNG.
    """
    plan = plans["main"]
    where = folder(plan.profile)
    where.mkdir(parents=True, exist_ok=True)
    contents = {".csv": table.to_csv(index=False, float_format="%.5g", lineterminator="\n").encode()}
    contents[".json"] = json.dumps(_provenance(caption, plans, records), indent=1, sort_keys=True).encode()
    for suffix, content in (contents | render(figure)).items():
        write(where / f"{stem}{suffix}", content)
    return str(where / f"{stem}.png")


def write(path: Path, content: bytes | str) -> None:
    """Write beside, then rename."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_bytes(content if isinstance(content, bytes) else content.encode())
    beside.replace(path)


def _provenance(caption: str, plans: Mapping[str, Plan], records: Records) -> dict[str, Any]:
    every = [record for group in records.values() for record in group]
    datasets = sorted({record.run.dataset for record in every if isinstance(record.run, EncoderRun)})
    return {
        "caption": caption,
        "profile": plans["main"].profile,
        "seeds": plans["main"].seeds,
        "runs": len(every),
        "configuration": {name: asdict(plan) for name, plan in plans.items()},
        "environment": [json.loads(text) for text in sorted({json.dumps(r.environment, sort_keys=True) for r in every})],
        "data": {name: images.DATASETS[name]().checksum for name in datasets},
        "sources": SOURCES,
        "version": remi.__version__,
    }


def stamp(plan: Plan, records: Records) -> str:
    """Profile, seeds and device, from the runs' own records."""
    devices = sorted({record.environment["device"] for group in records.values() for record in group})
    return f"Profile {plan.profile}, {plan.seeds} seed{'s' * (plan.seeds > 1)}, {', '.join(devices)}."


def moved(others: Records, to: str) -> dict[str, Sequence[Record]]:
    """The groups of `experiments.moved` that take the place of the figure's own, as "batch 48/mine" that of "mine"."""
    return {key.removeprefix(f"{to}/"): group for key, group in others.items() if key.startswith(f"{to}/")}


# ---- Figs. 1 to 5: the one-hot problem ---------------------------------------------------------------------------------


def typical(group: Sequence[Record]) -> int:
    """The seed that is drawn as a line: the first that lasts as long as the median of the seeds."""
    ends = [record.scalars.get("diverged_at", np.inf) for record in group]
    return ends.index(sorted(ends)[len(ends) // 2])


def traces(records: Records, columns: Sequence[str] = (*TERMS, *OUTPUTS), thin: int = 1) -> pd.DataFrame:
    """The drawn points of every curve: the typical seed every 5th step, bands over all seeds every 25th, and who is alive.

    A band is the 10% to 90% range over all seeds of the 25 steps around the point: of a term, or of the critic's outputs on
    and off the diagonal. Runs of more than 3,000 steps are thinned further, to as many points; all runs are, `thin` times.
    """
    tables = []
    for key, group in records.items():
        values = {column: np.stack([trace(record, column) for record in group]) for column in columns}
        steps = np.arange(values[columns[0]].shape[1])
        wide = thin * max(1, len(steps) // 3000)
        table = pd.DataFrame({"curve": key, "step": steps[:: wide * EVERY]})
        for column in columns:
            table[column] = values[column][typical(group), :: wide * EVERY]
        table["alive"] = [sum(step < record.scalars.get("diverged_at", np.inf) for record in group) for step in table.step]
        pooled = {column: values[column] for column in columns if column in TERMS}
        if "on_diagonal" in columns:
            pooled["diagonal"] = values["joint_output"]
            pooled["off_diagonal"] = np.where(values["on_diagonal"] == 0, values["marginal_output"], np.nan)
        at = table.step % (wide * BIN) == 0
        for name, every in pooled.items():
            windows = [every[:, max(0, s - wide * BIN // 2) : s + wide * BIN // 2 + 1] for s in table.step[at]]
            table.loc[at, [f"{name}_low", f"{name}_high"]] = [_range(window) for window in windows]
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _range(values: np.ndarray) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    return (np.nan, np.nan) if not len(finite) else tuple(np.quantile(finite, [0.1, 0.9]))


def band(axes: Axes, rows: pd.DataFrame, name: str, colour: str) -> None:
    """The range over all seeds."""
    rows = rows.dropna(subset=f"{name}_low")
    axes.fill_between(rows.step, rows[f"{name}_low"], rows[f"{name}_high"], color=colour, alpha=0.25, lw=0)


def breakdown(axes: Axes, rows: pd.DataFrame, hue: str) -> None:
    """First term, second term and estimate against the step, with the truth."""
    for column, colour in zip(TERMS, (JOINT, MARGINAL, hue), strict=True):
        band(axes, rows, column, colour)
        axes.plot(rows.step, rows[column], color=colour, lw=0.8 if column == "joint_term" else 0.5)
    axes.axhline(TRUE_MI, color=TRUTH, ls=":", lw=1.2)
    axes.set(ylim=(-10, 10), yticks=range(-10, 11, 5), ylabel="nats")


def scatter(axes: Axes, rows: pd.DataFrame, hue: str) -> None:
    """One critic output of each kind per drawn step of the typical seed, coloured by support, and the ranges over all seeds."""
    band(axes, rows, "off_diagonal", MARGINAL)
    band(axes, rows, "diagonal", hue)
    on = rows.on_diagonal == 1
    axes.scatter(rows.step[~on], rows.marginal_output[~on], s=2, color=MARGINAL, lw=0, rasterized=True)
    for part, column in ((rows, "joint_output"), (rows[on], "marginal_output")):
        axes.scatter(part.step, part[column], s=2, color=hue, lw=0, rasterized=True)
    axes.set(ylabel="critic output $T$ (nats)")


def alive(axes: Axes, rows: pd.DataFrame, hue: str) -> None:
    """How many seeds are still finite; the bands above are made of these."""
    seeds = rows.alive.max()
    axes.fill_between(rows.step, rows.alive, step="post", color=hue, alpha=0.35, lw=0)
    axes.set(ylim=(0, seeds), yticks=(0, seeds), ylabel="seeds\nalive")


Part = Callable[[Axes, pd.DataFrame, str], None]


def grid(
    figure: Figure | SubFigure, table: pd.DataFrame, curves: Sequence[Curve], parts: Mapping[Part, float], *, key: Sequence[str]
) -> Any:
    """A column per curve, and below each other what `parts` draw of it, as high as they say, in inches; returns the panels.

    `key` names the second term and, where the parts have outputs, the two kinds of them; without it there is no legend.
    """
    panels = figure.subplots(len(parts), len(curves), sharex="col", squeeze=False, height_ratios=list(parts.values()))
    for k, (column, curve) in enumerate(zip(panels.T, curves, strict=True)):
        rows = table[table.curve == curve.key]
        for axes, part in zip(column, parts, strict=True):
            part(axes, rows, HUES[family(curve.loss)])
            axes.set(xlim=(0, rows.step.max() + EVERY), ylabel="" if k else axes.get_ylabel())
        column[0].set_title(curve.label)
        column[-1].set_xlabel("step")
    for left, axes in chain.from_iterable(map(pairwise, panels)):
        axes.tick_params(labelleft=axes.get_ylim() != left.get_ylim())
    if not key:
        return panels
    hues = list(dict.fromkeys(HUES[family(curve.loss)] for curve in curves))
    outputs = zip(key[1:], (hues, MARGINAL), strict=False)
    looks: dict[str, Any] = {"first term $E_P[T]$": {"color": JOINT}, key[0]: {"color": MARGINAL}, "MI estimate": {"color": hues}}
    looks[r"true MI, $\log 16$"] = {"color": TRUTH, "ls": ":"}
    looks |= {name: {"color": colour, "ls": "", "marker": "o", "ms": 3} for name, colour in outputs}
    legend(figure, looks, columns=3 if key[1:] else 4)
    return panels


OURS = "#F1F1F1"  # behind what is not in the paper


def divided(paper: float, ours: float) -> tuple[Figure, SubFigure, SubFigure]:
    """A figure with the paper's losses above and, on grey, later ones in the same setting below; heights in inches."""
    figure = Figure(figsize=(7.0, paper + ours))
    above, below = np.asarray(figure.subfigures(2, 1, height_ratios=(paper, ours)))
    below.set_facecolor(OURS)
    below.suptitle("Ours, not in the paper: later losses in the same setting", x=0.01, ha="left", fontsize=8, weight="bold")
    return figure, above, below


def later(figure: SubFigure, records: Records, columns: Sequence[str], parts: Mapping[Part, float]) -> pd.DataFrame:
    """Later losses on the one-hot problem, a column each; half as many points as of the paper's. Returns what is drawn."""
    curves = [replace(curve, key=f"later/{curve.key}") for curve in ROWLESS]
    table = traces({curve.key: records[curve.key] for curve in curves}, columns, thin=2)
    for axes in grid(figure, table, curves, parts, key=()).flat:
        axes.set_facecolor(OURS)
    return table


def figure1(plan: OneHotPlan, records: Records) -> tuple[Figure, pd.DataFrame]:
    """Loss breakdown of MINE and NWJ, and NWJ with the quantity that the published panel plots; later losses below."""
    table = traces({curve.key: records[curve.key] for curve in plan.curves})
    published = table[table.curve == "nwj"].assign(curve="nwj-as-published")
    for suffix, other in (("", ""), ("_low", "_high"), ("_high", "_low")):
        published[f"marginal_term{suffix}"] = np.e * published[f"marginal_term{suffix}"] - 1
        published[f"estimate{other}"] = published[f"joint_term{other}"] - published[f"marginal_term{suffix}"]
    as_published = Curve("nwj-as-published", r"NWJ as published: mean$(e^T) - 1$", "nwj")
    figure, above, below = divided(2.7, 2.0)
    table = pd.concat([table, published], ignore_index=True)
    grid(above, table, (*plan.curves, as_published), {breakdown: 1.9}, key=["second term"])
    return figure, pd.concat([table, later(below, records, TERMS, {breakdown: 1.4})], ignore_index=True)


def figure2(plan: OneHotPlan, records: Records) -> tuple[Figure, pd.DataFrame]:
    """Critic outputs of MINE and NWJ by support."""
    table = traces(records, OUTPUTS)
    figure = Figure(figsize=(7.0, 2.6))
    panels = figure.subplots(1, 2, sharey=True)
    for axes, curve, (on, off) in zip(panels, plan.curves, ((3.3, -3.6), (1.4, -1.8)), strict=True):
        scatter(axes, table[table.curve == curve.key], PALETTE[curve.loss])
        axes.text(plan.steps, on, "on the diagonal, support of $P$", ha="right", color=PALETTE[curve.loss], fontsize=7)
        axes.text(plan.steps, off, "off the diagonal", ha="right", color=JOINT, fontsize=7)
        axes.set(title=curve.label, xlabel="step", xlim=(0, plan.steps), ylim=(-12, 7), yticks=range(-10, 6, 5))
    panels[1].axhline(TRUE_MI + 1, color=TRUTH, ls=":", lw=1.2)
    panels[1].text(plan.steps, TRUE_MI + 2.4, r"best critic, $T^* = \log 16 + 1$", ha="right", fontsize=7)
    panels[1].set_ylabel("")
    return figure, table


def outputs(low: float, high: float, mine: float | None = None) -> Part:
    """`scatter` between two values; of MINE from `mine` on."""

    def part(axes: Axes, rows: pd.DataFrame, hue: str) -> None:
        scatter(axes, rows, hue)
        axes.set_ylim(low if mine is None or hue != PALETTE["mine"] else mine, high)

    return part


def stacked(figure: SubFigure, records: Records, curves: Sequence[Curve], clouds: Part) -> pd.DataFrame:
    """Breakdown, critic outputs and the seeds that are alive, a column per curve (Figs. 3 and 5)."""
    drawn = {curve.key: records[curve.key] for curve in curves}
    table = traces(drawn)
    key = ["second term", "$T$ on the diagonal", "$T$ off the diagonal"]
    panels = grid(figure, table, curves, {breakdown: 1.7, clouds: 1.5, alive: 0.35}, key=key)
    for axes, curve in zip(panels[0], curves, strict=True):
        run = drawn[curve.key][0].run
        axes.set_title(f"{curve.label}\n" + ("" if run.lam is None else rf"$\lambda = {run.lam:g}$, ") + f"batch {run.batch}")
    return table


CONTROLS = (
    Curve("mine", "MINE", "mine"),
    Curve("stratified/mine", "MINE, no misses", "mine"),
    Curve("nwj", "NWJ", "nwj"),
    Curve("small-steps/nwj", "NWJ, steps of 0.03", "nwj"),
)


def figure3(plan: OneHotPlan, records: Records) -> tuple[Figure, pd.DataFrame]:
    """MINE and NWJ at batch 32, each beside the control that takes its explosion away; the outputs of later losses below."""
    figure, above, below = divided(4.35, 2.3)
    table = stacked(above, records, CONTROLS, outputs(-30, 15, mine=-110))
    return figure, pd.concat([table, later(below, records, OUTPUTS, {outputs(-30, 15): 1.4, alive: 0.35})], ignore_index=True)


def figure4(plan: OneHotPlan, records: Records) -> tuple[Figure, pd.DataFrame]:
    """ReMINE's second term and estimate for five targets."""
    table = traces(records, TERMS)
    figure = Figure(figsize=(7.0, 2.5))
    panels = grid(figure, table, plan.curves, {breakdown: 1.7}, key=[r"second term $\log E_Q[e^T]$"])
    for axes, curve in zip(panels[0], plan.curves, strict=True):
        axes.axhline(curve.options["target"], color="#CC3311", ls="--", lw=1)
        axes.set(title=f"$C^* = {curve.options['target']:g}$", xticks=[0, 1000])
    panels[0, 0].text(1480, -7.4, "target $C^*$", color="#CC3311", ha="right", va="top", fontsize=7)
    return figure, table


TWINS = (
    Curve("remine", "ReMINE", "remine"),
    Curve("renwj-eq15", "ReNWJ, eq. 15", "renwj"),
    Curve("renwj-released", "ReNWJ, released target", "renwj"),
    Curve("gentle/renwj-gentle", "ReNWJ, eq. 15, weaker", "renwj"),
)


def figure5(plan: OneHotPlan, records: Records) -> tuple[Figure, pd.DataFrame]:
    """ReMINE and ReNWJ, both targets, at batch 32; ReNWJ in the gentler setting; the estimates of later losses below."""
    figure, above, below = divided(4.35, 1.9)
    table = stacked(above, records, TWINS, outputs(-15, 10))

    def beside_remine(axes: Axes, rows: pd.DataFrame, hue: str) -> None:
        band(axes, table[table.curve == "remine"], "estimate", PALETTE["mine"])
        band(axes, rows, "estimate", hue)
        axes.plot(rows.step, rows.estimate, color=hue, lw=0.5)
        axes.axhline(TRUE_MI, color=TRUTH, ls=":", lw=1.2)
        axes.set(ylim=(-1, 6), ylabel="nats")

    return figure, pd.concat([table, later(below, records, ("estimate",), {beside_remine: 1.4})], ignore_index=True)


# ---- Fig. 7: the staircase ----------------------------------------------------------------------------------------------

TREATMENTS = {  # key of the records, with the loss for {}: name, dashes, marker, line width
    "{}": ("original", (4, 1.5), "o", 1.0),
    "re{}": ("regularized", "", "o", 1.8),
    "{}-clip": ("clip only", (5, 1, 1, 1), "X", 1.0),
    "re{}-noclip": ("regularizer only", (1, 1), "P", 1.0),
    "re{}-log": ("log penalty (ours)", (2, 1), "D", 1.0),
}
MARK: dict[str, Any] = {"ms": 4, "mec": "white", "mew": 0.4}
LARGEST = 30.0  # nats: where the axis of errors ends; what lies beyond is drawn there


def figure7(plan: GaussianPlan, records: Records) -> tuple[Figure, pd.DataFrame]:
    """Every loss on the staircase with its twin and what else was tried: the estimate, its bias, its error."""
    steps = np.arange(0, total := plan.steps_per_level * len(plan.problem.levels), max(1, total // 50))
    curves = {key: (group, "estimate") for key, group in records.items()} | {"js-as-published": (records["js"], "objective")}
    rows = []
    for key, (group, column) in curves.items():
        for seed, record in enumerate(group):
            values = smooth(trace(record, column), plan.smoothing)[steps]
            rows.append(pd.DataFrame({"curve": key, "seed": seed, "step": steps, "estimate": values}))
            if key in records:
                own = levels({key: [record]}).assign(seed=seed, error=lambda row: np.sqrt(row.mse))
                rows.append(own[["curve", "seed", "level", "bias", "error"]])
    table = pd.concat(rows, ignore_index=True)
    return staircase(plan, table), pd.concat([table, levels(records)], ignore_index=True)


def staircase(plan: GaussianPlan, table: pd.DataFrame) -> Figure:
    """Fig. 7 from its table: a column per loss; lines are means over seeds, bands all seeds.

    Below, the later losses: estimate and error, and the error of ReMINE in grey.
    """
    names = [(key.format(loss), loss, look[0]) for loss in PALETTE for key, look in TREATMENTS.items()]
    table = table.merge(pd.DataFrame(names, columns=["curve", "loss", "treatment"]), how="left")
    table["error"] = table.error.clip(upper=LARGEST)
    steps, total = table.step.dropna().unique(), plan.steps_per_level * len(plan.problem.levels)
    truth, true = [plan.problem.true_mi(int(step)) for step in steps], plan.problem.levels
    frames: dict[str, dict[str, Any]] = {
        "estimate": {"xlabel": "step", "ylabel": "estimate (nats)", "xticks": (0, total), "ylim": (-2.5, 12)},
        "bias": {"xlabel": "", "ylabel": "bias (nats)", "xticks": true, "ylim": (-7, 3)},
        "error": {"xlabel": "truth (nats)", "ylabel": "rms error (nats)", "xticks": true},
    }

    def draw(axes: Axes, measure: str, rows: pd.DataFrame, **look: Any) -> None:
        x, look = "step" if measure == "estimate" else "level", {"legend": False, "err_kws": {"lw": 0}} | look
        sns.lineplot(rows.dropna(subset=measure), x=x, y=measure, errorbar=("pi", 100), ax=axes, **look)
        axes.set(**frames[measure])

    def columns(part: SubFigure, measures: int, titles: Sequence[str]) -> Any:
        panels = part.subplots(measures, len(titles), sharex="row", sharey="row")
        for axes, title in zip(panels[0], titles, strict=True):
            axes.plot(steps, truth, color=TRUTH, lw=1, drawstyle="steps-post", ls=":", zorder=3)
            axes.set_title(title)
        return panels

    def finish(panels: Any) -> None:
        panels[-1, 0].set(yscale="log", ylim=(0.1, LARGEST * 1.3))  # last: there seaborn would average the logarithms
        for axes in panels[:, 1:].flat:
            axes.set_ylabel("")

    figure, above, below = divided(5.0, 2.7)
    panels = columns(above, 3, [LABELS[loss] for loss in PALETTE])
    looks = list(zip(*TREATMENTS.values(), strict=True))
    dashes, marks, sizes = (dict(zip(looks[0], look, strict=True)) for look in looks[1:])
    for axes, loss in zip(panels.T, PALETTE, strict=True):
        look = {"dashes": dashes, "sizes": sizes, "style": "treatment", "size": "treatment", "color": PALETTE[loss], **MARK}
        for panel, measure, markers in zip(axes, frames, (False, marks, marks), strict=True):
            draw(panel, measure, table[table.loss == loss], markers=markers, **look)
        axes[1].axhline(0, color=TRUTH, lw=1, ls=":")
    draw(panels[0, -1], "estimate", table[table.curve == "js-as-published"], color=JOINT)
    panels[0, -1].text(total, -2.2, "released code's JS", ha="right", fontsize=6, color=JOINT)
    panels[0, 2].axhline(np.log(plan.batch), color=JOINT, lw=1)
    panels[0, 2].text(total, np.log(plan.batch) + 0.3, rf"$\log {plan.batch}$", ha="right", fontsize=7)
    shown = {name: {"lw": lw, "ls": (0, dash) if dash else "-", "marker": mark} for name, dash, mark, lw in TREATMENTS.values()}
    legend(above, {name: {"color": JOINT, **look, **MARK} for name, look in shown.items()})
    finish(panels)
    panels = columns(below, 2, [curve.label for curve in LATER])
    for axes, curve in zip(panels.T, LATER, strict=True):
        draw(axes[0], "estimate", rows := table[table.curve == f"later/{curve.key}"], color=HUES[family(curve.loss)])
        draw(axes[1], "error", rows, color=HUES[family(curve.loss)])
        draw(axes[1], "error", table[table.curve == "remine"], color=JOINT, lw=0.8, ls=":")
    finish(panels)
    for axes in panels.flat:
        axes.set_facecolor(OURS)
    return figure


# ---- Table 2 ------------------------------------------------------------------------------------------------------------


def write_cells(where: Path, summary: pd.DataFrame, profile: str) -> None:
    """Write `table2_summary.csv`, `table2.md` and `table2.tex`, of `table2.summary`."""
    write(where / "table2_summary.csv", summary.to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    write(where / "table2.md", typeset.table2_markdown(summary, profile))
    write(where / "table2.tex", typeset.table2_tex(summary, profile))


def save_table2(table: pd.DataFrame, summary: pd.DataFrame, plans: Mapping[str, Plan], records: Records) -> str:
    """Every product of Table 2, of `table2.rows` and `table2.summary`: `save`'s, `write_cells`'s, and the slopes.

    Returns:
        The path of the slopes as PNG.
    """
    profile = plans["main"].profile
    where = folder(profile)
    caption = f"{typeset.caption(summary, profile)} {stamp(plans['main'], records)}"
    save("table2", typeset.table2_image(summary, profile), table, caption, plans, records)
    write_cells(where, summary, profile)
    for suffix, content in render(slopes(summary)).items():
        write(where / f"table2_slopes{suffix}", content)
    return str(where / "table2_slopes.png")
