"""One draw function per figure, and `save`, the only function that touches the disk."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.legend_handler
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import remi
from remi.losses import LABELS, family
from remi.paper import typeset
from remi.paper.experiments import Curve, GaussianPlan, OneHotPlan, Plan
from remi.paper.measures import levels, smooth, trace
from remi.paper.slopes import slopes
from remi.runs import SOURCES, EncoderRun, Record
from remi.style import JOINT, MARGINAL, PALETTE, TRUTH, render
from remi.training import images

PRODUCTS = Path(os.environ.get("REMI_FIGURES", Path(remi.__file__).parents[1] / "figures"))
EVERY = 5  # steps between two drawn points of the strong seed
BIN = 25  # steps that one point of a band pools over, and between two of them
TERMS = ("joint_term", "marginal_term", "estimate")
OUTPUTS = ("joint_output", "marginal_output", "on_diagonal")
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


# ---- Figs. 1 to 5: the one-hot problem ---------------------------------------------------------------------------------


def traces(records: Records, columns: Sequence[str] = (*TERMS, *OUTPUTS)) -> pd.DataFrame:
    """The drawn points of every curve: the strong seed (seed 0) every 5th step, and bands over all seeds every 25th.

    A band is the 10% to 90% range over all seeds of the 25 steps around the point: of a term, or of the critic's outputs on
    and off the diagonal. Runs of more than 3,000 steps are thinned further, to as many points.
    """
    tables = []
    for key, group in records.items():
        values = {column: np.stack([trace(record, column) for record in group]) for column in columns}
        steps = np.arange(values[columns[0]].shape[1])
        wide = max(1, len(steps) // 3000)
        table = pd.DataFrame({"curve": key, "step": steps[:: wide * EVERY]})
        for column in columns:
            table[column] = values[column][0, :: wide * EVERY]
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


def breakdown(axes: Axes, table: pd.DataFrame, curve: Curve, true_mi: float) -> None:
    """First term, second term and estimate against the step, with the truth."""
    colours = {"joint_term": JOINT, "marginal_term": MARGINAL, "estimate": PALETTE[family(curve.loss)]}
    rows = table[table.curve == curve.key]
    for column, colour in colours.items():
        band(axes, rows, column, colour)
        axes.plot(rows.step, rows[column], color=colour, lw=0.5 if column != "joint_term" else 0.8)
    axes.axhline(true_mi, color=TRUTH, ls=":", lw=1.2)
    axes.set(ylim=(-10, 10), yticks=range(-10, 11, 5), xlim=(0, rows.step.max() + EVERY))


def scatter(axes: Axes, table: pd.DataFrame, curve: Curve) -> None:
    """One critic output of each kind per drawn step of the strong seed, coloured by support, and the ranges over all seeds."""
    rows = table[table.curve == curve.key]
    colour = PALETTE[family(curve.loss)]
    off, on = rows[rows.on_diagonal == 0], rows[rows.on_diagonal == 1]
    band(axes, rows, "off_diagonal", MARGINAL)
    band(axes, rows, "diagonal", colour)
    axes.scatter(off.step, off.marginal_output, s=2, color=MARGINAL, lw=0, rasterized=True)
    for part, column in ((rows, "joint_output"), (on, "marginal_output")):
        axes.scatter(part.step, part[column], s=2, color=colour, lw=0, rasterized=True)
    axes.set(xlim=(0, rows.step.max() + EVERY))


def key_of_terms(figure: Figure, hues: Sequence[str], second: str, outputs: bool = False) -> None:
    """One legend for all panels, above them; the estimate has the hue of each panel's loss, and so have the outputs."""
    lines: dict[str, Sequence[str]] = {"first term $E_P[T]$": [JOINT], second: [MARGINAL], "MI estimate": hues}
    handles = [tuple(mpl.lines.Line2D([], [], color=colour) for colour in colours) for colours in lines.values()]
    handles.append((mpl.lines.Line2D([], [], color=TRUTH, ls=":"),))
    labels = [*lines, r"true MI, $\log 16$"]
    if outputs:
        kinds: dict[str, Sequence[str]] = {"$T$ on the diagonal": hues, "$T$ off the diagonal": [MARGINAL]}
        handles += [
            tuple(mpl.lines.Line2D([], [], color=c, marker="o", ms=3, ls="") for c in colours) for colours in kinds.values()
        ]
        labels += kinds
    figure.legend(  # type: ignore[call-overload]  # a handle may be a tuple: HandlerTuple
        handles,
        labels,
        loc="outside upper center",
        ncols=3 if outputs else 4,
        handler_map={tuple: mpl.legend_handler.HandlerTuple(ndivide=None)},
    )


def figure1(plan: OneHotPlan, records: Records) -> tuple[Figure, pd.DataFrame]:
    """Loss breakdown of MINE and NWJ, and NWJ with the quantity that the published panel plots."""
    table = traces(records)
    published = table[table.curve == "nwj"].assign(curve="nwj-as-published")
    for suffix in ("", "_low", "_high"):
        published[f"marginal_term{suffix}"] = np.e * published[f"marginal_term{suffix}"] - 1
    published["estimate"] = published.joint_term - published.marginal_term
    published["estimate_low"] = published.joint_term_low - published.marginal_term_high
    published["estimate_high"] = published.joint_term_high - published.marginal_term_low
    table = pd.concat([table, published], ignore_index=True)
    figure = Figure(figsize=(7.0, 2.7))
    panels = figure.subplots(1, 3, sharey=True)
    mine, nwj = plan.curves
    as_published = Curve("nwj-as-published", r"NWJ as published: mean$(e^T) - 1$", "nwj")
    for axes, curve in zip(panels, (mine, nwj, as_published), strict=True):
        breakdown(axes, table, curve, plan_true_mi(plan))
        axes.set(title=curve.label, xlabel="step")
    panels[0].set_ylabel("nats")
    key_of_terms(figure, [PALETTE["mine"], PALETTE["nwj"]], "second term")
    return figure, table


def figure2(plan: OneHotPlan, records: Records) -> tuple[Figure, pd.DataFrame]:
    """Critic outputs of MINE and NWJ by support."""
    table = traces(records, OUTPUTS)
    figure = Figure(figsize=(7.0, 2.6))
    panels = figure.subplots(1, 2, sharey=True)
    for axes, curve, (on, off) in zip(panels, plan.curves, ((3.3, -3.6), (1.4, -1.8)), strict=True):
        scatter(axes, table, curve)
        axes.text(plan.steps, on, "on the diagonal, support of $P$", ha="right", color=PALETTE[curve.loss], fontsize=7)
        axes.text(plan.steps, off, "off the diagonal", ha="right", color=JOINT, fontsize=7)
        axes.set(title=curve.label, xlabel="step", ylim=(-12, 7), yticks=range(-10, 6, 5))
    best = plan_true_mi(plan) + 1
    panels[1].axhline(best, color=TRUTH, ls=":", lw=1.2)
    panels[1].text(plan.steps, best + 1.4, r"best critic, $T^* = \log 16 + 1$", ha="right", fontsize=7)
    panels[0].set_ylabel("critic output $T$ (nats)")
    return figure, table


def stacked_panels(
    plan: OneHotPlan,
    records: Records,
    curves: Sequence[Curve],
    frames: Mapping[str, tuple[float, float]],
) -> tuple[Figure, pd.DataFrame]:
    """Breakdown above, critic outputs below, a column per curve (Figs. 3 and 5).

    Args:
        plan: what the figure is about.
        records: of every curve.
        curves: the columns.
        frames: the vertical range of the outputs by loss.
    """
    drawn = {curve.key: records[curve.key] for curve in curves}
    table = traces(drawn)
    figure = Figure(figsize=(7.0, 4.4))
    panels = figure.subplots(2, len(curves), sharex="col", squeeze=False)
    for column, ((top, bottom), curve) in enumerate(zip(panels.T, curves, strict=True)):
        breakdown(top, table, curve, plan_true_mi(plan))
        scatter(bottom, table, curve)
        top.set_title(f"{curve.label}\n\n")
        top.annotate(setting(drawn[curve.key]), (0, 1), (0, 5), xycoords="axes fraction", textcoords="offset points", fontsize=7)
        bottom.set(xlabel="step", ylim=frames[curve.loss])
        top.tick_params(labelleft=column == 0)
        bottom.tick_params(labelleft=not (column and curve.loss == curves[column - 1].loss))
        for record in drawn[curve.key]:
            if not record.ok:
                top.plot(record.scalars["diverged_at"], 9.2, marker="x", color=PALETTE[family(curve.loss)], ms=4, clip_on=False)
    panels[0, 0].set_ylabel("nats")
    panels[1, 0].set_ylabel("critic output $T$ (nats)")
    key_of_terms(figure, list(dict.fromkeys(PALETTE[family(curve.loss)] for curve in curves)), "second term", outputs=True)
    return figure, table


def setting(group: Sequence[Record]) -> str:
    """Weight and batch size of the runs, and how many of their seeds became non-finite."""
    run, lost = group[0].run, sum(not record.ok for record in group)
    weight = "" if run.lam is None else rf"$\lambda = {run.lam:g}$, "
    return f"{weight}batch {run.batch}\n{lost or 'none'} of {len(group)} lost" + " (×)" * (lost > 0)


CONTROLS = (
    Curve("mine", "MINE", "mine"),
    Curve("stratified/mine", "MINE, 2 diagonal pairs", "mine"),
    Curve("nwj", "NWJ", "nwj"),
    Curve("small-steps/nwj", "NWJ, steps of 0.03", "nwj"),
)


def figure3(plan: OneHotPlan, records: Records) -> tuple[Figure, pd.DataFrame]:
    """MINE and NWJ at batch 32, each beside the control that takes its explosion away."""
    return stacked_panels(plan, records, CONTROLS, {"mine": (-110, 15), "nwj": (-30, 15)})


def figure4(plan: OneHotPlan, records: Records) -> tuple[Figure, pd.DataFrame]:
    """ReMINE's second term and estimate for five targets."""
    table = traces(records, TERMS)
    figure = Figure(figsize=(7.0, 2.5))
    panels = figure.subplots(1, len(plan.curves), sharey=True)
    for axes, curve in zip(panels, plan.curves, strict=True):
        breakdown(axes, table, curve, plan_true_mi(plan))
        target = curve.options["target"]
        axes.axhline(target, color="#CC3311", ls="--", lw=1)
        axes.set(title=f"$C^* = {target:g}$", xlabel="step", xticks=[0, 1000])
    panels[0].set_ylabel("nats")
    panels[0].text(1480, -7.4, "target $C^*$", color="#CC3311", ha="right", va="top", fontsize=7)
    key_of_terms(figure, [PALETTE["mine"]], r"second term $\log E_Q[e^T]$")
    return figure, table


TWINS = (
    Curve("remine", "ReMINE", "remine"),
    Curve("renwj-eq15", "ReNWJ, eq. 15", "renwj"),
    Curve("renwj-released", "ReNWJ, released target", "renwj"),
    Curve("gentle/renwj-gentle", "ReNWJ, eq. 15, weaker", "renwj"),
)


def figure5(plan: OneHotPlan, records: Records) -> tuple[Figure, pd.DataFrame]:
    """ReMINE and ReNWJ, both targets, at batch 32; and ReNWJ in the gentler setting."""
    return stacked_panels(plan, records, TWINS, {"remine": (-15, 10), "renwj": (-15, 10)})


def plan_true_mi(plan: OneHotPlan) -> float:
    """The truth of every one-hot figure, in nats."""
    return float(np.log(plan.symbols))


# ---- Fig. 7: the staircase ----------------------------------------------------------------------------------------------

ABLATION = (("{}", "neither", ":"), ("{}-clip", "clip", "-."), ("re{}-noclip", "regularizer", "--"), ("re{}", "both", "-"))


def figure7(plan: GaussianPlan, records: Records) -> tuple[Figure, pd.DataFrame]:
    """Each loss and its twin on the staircase; the clip ablation; the error over all levels."""
    total = plan.steps_per_level * len(plan.problem.levels)
    steps = np.arange(0, total, max(1, total // 250))
    curves = {key: trace(group[0], "estimate") for key, group in records.items()}
    curves["js-as-published"] = trace(records["js"][0], "objective")
    smoothed = {key: smooth(values, plan.smoothing)[steps] for key, values in curves.items()}
    truth = np.array([plan.problem.true_mi(int(step)) for step in steps])
    statistics = levels(records)
    table = pd.concat(
        [
            *(pd.DataFrame({"curve": k, "step": steps, "raw": curves[k][steps], "smoothed": smoothed[k]}) for k in curves),
            statistics,
        ],
        ignore_index=True,
    )
    figure = Figure(figsize=(7.0, 5.4))
    panels = figure.subplots(3, 3)
    for axes, name in zip(panels[:2].flat, PALETTE, strict=True):
        for loss, style, width in ((name, (0, (4, 1.5)), 1.0), ("re" + name, "-", 1.6)):
            axes.plot(steps, curves[loss][steps], color=PALETTE[name], lw=0.4, alpha=0.3, antialiased=False)  # a small file
            axes.plot(steps, smoothed[loss], color=PALETTE[name], ls=style, lw=width, label=LABELS[loss])
        axes.legend(loc="upper left")
    cap = float(np.log(plan.batch))
    panels[0, 2].axhline(cap, color=JOINT, ls=":", lw=1)
    panels[0, 2].text(total, cap - 0.2, rf"$\log {plan.batch}$", ha="right", va="top", fontsize=7)
    panels[1, 2].plot(steps, smoothed["js-as-published"], color=JOINT, lw=1)
    panels[1, 2].plot(steps, smoothed["rejs-log"], color=PALETTE["js"], ls="-.", lw=1, label="ReJS, log penalty")
    panels[1, 2].legend(loc="upper left")
    panels[1, 2].text(total, 0.15, "released code: JS objective", color=JOINT, ha="right", fontsize=7)
    for axes, name in zip(panels[2], ("nwj", "tuba"), strict=False):
        for pattern, label, style in ABLATION:
            axes.plot(steps, smoothed[pattern.format(name)], color=PALETTE[name], ls=style, lw=1.2, label=label)
        axes.set(title=f"{LABELS[name]}: what helps?", xlabel="step")
        axes.legend(loc="upper left", ncols=1)
    for axes in (*panels[:2].flat, *panels[2, :2]):
        axes.plot(steps, truth, color=TRUTH, lw=1, drawstyle="steps-post", ls=":")
        axes.set(xlim=(0, total), ylim=(-1, 11.5), yticks=range(0, 11, 2))
    for axes in panels[:, 0]:
        axes.set_ylabel("MI (nats)")
    _errors(panels[2, 2], np.sqrt(statistics.groupby("curve").mse.mean()))
    return figure, table


def _errors(axes: Axes, error: "pd.Series[float]") -> None:
    """From each loss to its twin, and the clip alone where there is one."""
    for row, (name, colour) in enumerate(PALETTE.items()):
        axes.plot([error[name], error["re" + name]], [row, row], color=colour, lw=1)
        axes.plot(error[name], row, color=colour, marker="o", ms=5, mfc="white")
        axes.plot(error["re" + name], row, color=colour, marker="o", ms=5)
        if name + "-clip" in error:
            axes.plot(error[name + "-clip"], row, color=colour, marker="x", ms=5)
    marks = (("o", "white", "original"), ("o", JOINT, "regularized"), ("x", JOINT, "clip only"))
    handles = [mpl.lines.Line2D([], [], color=JOINT, marker=m, mfc=fill, ms=4, ls="", label=text) for m, fill, text in marks]
    axes.legend(handles=handles, loc="lower right", handletextpad=0.1)
    axes.set(title="Error over all levels", xlabel="root mean square error (nats)", xscale="log", ylim=(5.5, -0.5))
    axes.set_yticks(range(len(PALETTE)), [LABELS[name] for name in PALETTE])


# ---- Table 2 ------------------------------------------------------------------------------------------------------------


def save_table2(table: pd.DataFrame, summary: pd.DataFrame, plans: Mapping[str, Plan], records: Records) -> str:
    """Every product of Table 2: what `save` writes, with the row per run as .csv; a row per cell; Markdown, LaTeX and slopes.

    Args:
        table: of `table2.rows`.
        summary: of `table2.summary`.
        plans: what was trained.
        records: of every run.

    Returns:
        The path of the slopes as PNG.
    """
    profile = plans["main"].profile
    where = folder(profile)
    caption = f"{typeset.caption(summary, profile)} {stamp(plans['main'], records)}"
    save("table2", typeset.table2_image(summary, profile), table, caption, plans, records)
    write(where / "table2_summary.csv", summary.to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    write(where / "table2.md", typeset.table2_markdown(summary, profile))
    write(where / "table2.tex", typeset.table2_tex(summary, profile))
    for suffix, content in render(slopes(summary)).items():
        write(where / f"table2_slopes{suffix}", content)
    return str(where / "table2_slopes.png")
