"""Palette, style, one draw function per figure, and `save`, the only function that touches the disk.

Hue is the family of losses, line style the treatment: dashed original, solid regularized. Truth is black and dotted.
The parts of a loss are greys, its estimate has the family's hue.
"""

import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.legend_handler
import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import remi
from remi import images, runs
from remi.estimators import LABELS, family
from remi.experiments import BenchmarkPlan, Curve, GaussianPlan, OneHotPlan, Plan
from remi.measures import levels, outputs, smooth, trace
from remi.runs import Record
from remi.specs import EncoderRun

PRODUCTS = Path(os.environ.get("REMI_FIGURES", Path(remi.__file__).parents[1] / "figures"))
PALETTE = {"mine": "#0077BB", "smile": "#EE6677", "infonce": "#999933", "nwj": "#882255", "tuba": "#CC79A7", "js": "#332288"}
JOINT, MARGINAL, TRUTH = "#555555", "#AAAAAA", "#000000"
EVERY = 5  # steps between two drawn points of the strong seed
BIN = 25  # steps that one point of a band pools over
TERMS = ("joint_term", "marginal_term", "estimate")
Records = Mapping[str, Sequence[Record]]

mpl.style.use(Path(__file__).with_name("remi.mplstyle"))


def folder(profile: str) -> Path:
    """Where the products of a profile go: quick ones at the top."""
    return PRODUCTS if profile == "quick" else PRODUCTS / profile


def save(
    stem: str, figure: Figure | None, table: pd.DataFrame, caption: str, plans: Mapping[str, Plan], records: Records
) -> None:
    """Write `stem`.pdf, .png, .csv (what is drawn) and .json (where it is from); each file appears complete or not at all."""
    plan = plans["main"]
    where = folder(plan.profile)
    where.mkdir(parents=True, exist_ok=True)
    contents = {".csv": table.to_csv(index=False, float_format="%.5g", lineterminator="\n").encode()}
    contents[".json"] = json.dumps(_provenance(caption, plans, records), indent=1, sort_keys=True).encode()
    for suffix, metadata in ((".pdf", {"CreationDate": None}), (".png", {"Software": None})):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=suffix[1:], metadata=metadata)
        contents[suffix] = buffer.getvalue()
    for suffix, content in contents.items():
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
        "sources": runs.SOURCES,
        "version": remi.__version__,
    }


def stamp(plan: Plan, records: Records) -> str:
    """Profile, seeds and device, from the runs' own records."""
    devices = sorted({record.environment["device"] for group in records.values() for record in group})
    return f"Profile {plan.profile}, {plan.seeds} seed{'s' * (plan.seeds > 1)}, {', '.join(devices)}."


# ---- Figs. 1 to 5: the one-hot problem ---------------------------------------------------------------------------------


def traces(records: Records, columns: Sequence[str] = (*TERMS, "joint_output", "marginal_output", "on_diagonal")) -> pd.DataFrame:
    """The drawn points of every curve: the strong seed (seed 0) every 5th step, and for the terms a band over all seeds.

    The band is the 10% to 90% range over all seeds of the 25 steps around the point.
    """
    tables = []
    for key, group in records.items():
        steps = np.arange(0, len(trace(group[0], "estimate")), EVERY)
        table = pd.DataFrame({"curve": key, "step": steps})
        for column in columns:
            table[column] = trace(group[0], column)[steps]
            if column in TERMS:
                everything = np.stack([trace(record, column) for record in group])
                low, high = zip(*(_range(everything[:, max(0, s - BIN // 2) : s + BIN // 2 + 1]) for s in steps), strict=True)
                table[f"{column}_low"], table[f"{column}_high"] = low, high
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _range(values: np.ndarray) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    return (np.nan, np.nan) if not len(finite) else tuple(np.quantile(finite, [0.1, 0.9]))  # type: ignore[return-value]


def breakdown(axes: Axes, table: pd.DataFrame, curve: Curve, true_mi: float) -> None:
    """First term, second term and estimate against the step, with the truth."""
    colours = {"joint_term": JOINT, "marginal_term": MARGINAL, "estimate": PALETTE[family(curve.loss)]}
    rows = table[table.curve == curve.key]
    for column, colour in colours.items():
        axes.fill_between(rows.step, rows[f"{column}_low"], rows[f"{column}_high"], color=colour, alpha=0.25, lw=0)
        axes.plot(rows.step, rows[column], color=colour, lw=0.5 if column != "joint_term" else 0.8)
    axes.axhline(true_mi, color=TRUTH, ls=":", lw=1.2)
    axes.set(ylim=(-10, 10), xlim=(0, rows.step.max() + EVERY))


def scatter(axes: Axes, table: pd.DataFrame, curve: Curve) -> None:
    """One critic output of each kind per drawn step of the strong seed, coloured by support."""
    rows = table[table.curve == curve.key]
    off, on = rows[rows.on_diagonal == 0], rows[rows.on_diagonal == 1]
    axes.scatter(off.step, off.marginal_output, s=2, color=MARGINAL, lw=0, rasterized=True)
    for part, column in ((rows, "joint_output"), (on, "marginal_output")):
        axes.scatter(part.step, part[column], s=2, color=PALETTE[family(curve.loss)], lw=0, rasterized=True)
    axes.set(xlim=(0, rows.step.max() + EVERY))


def key_of_terms(figure: Figure, hues: Sequence[str], second: str) -> None:
    """One legend for all breakdown panels, above them; the estimate has the hue of each panel's loss."""
    lines = {"first term $E_P[T]$": [JOINT], second: [MARGINAL], "MI estimate": hues}
    handles = [tuple(mpl.lines.Line2D([], [], color=colour) for colour in colours) for colours in lines.values()]
    truth = (mpl.lines.Line2D([], [], color=TRUTH, ls=":"),)
    figure.legend(
        [*handles, truth],
        [*lines, r"true MI, $\log 16$"],
        loc="outside upper center",
        ncols=4,
        handler_map={tuple: mpl.legend_handler.HandlerTuple(ndivide=None)},
    )


def key_of_outputs(axes: Axes, colour: str) -> None:
    """Legend of a scatter panel."""
    handles = [
        mpl.lines.Line2D([], [], color=c, marker="o", ms=3, ls="", label=text)
        for c, text in ((colour, "pair on the diagonal (support of $P$)"), (MARGINAL, "pair off the diagonal"))
    ]
    axes.legend(handles=handles, loc="lower left")


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
    table = traces(records, ("joint_output", "marginal_output", "on_diagonal"))
    figure = Figure(figsize=(7.0, 2.6))
    for axes, curve in zip(figure.subplots(1, 2), plan.curves, strict=True):
        for record in records[curve.key][1:]:  # the other seeds: smoothed, faint
            for kind, colour in (("diagonal", PALETTE[curve.loss]), ("off-diagonal", MARGINAL)):
                steps, values = outputs(record, kind)
                axes.plot(steps[::EVERY], smooth(values, 100)[::EVERY], color=colour, lw=0.8, alpha=0.5)
        scatter(axes, table, curve)
        axes.set(title=curve.label, xlabel="step", ylabel="critic output $T$ (nats)")
        key_of_outputs(axes, PALETTE[curve.loss])
    return figure, table


def stacked_panels(plan: OneHotPlan, records: Records, note: Mapping[str, str]) -> tuple[Figure, pd.DataFrame]:
    """Breakdown above, critic outputs below, a column per curve (Figs. 3 and 5)."""
    drawn = {curve.key: records[curve.key] for curve in plan.curves}
    table = traces(drawn)
    figure = Figure(figsize=(7.0, 4.4))
    panels = figure.subplots(2, len(plan.curves), sharex=True, squeeze=False)
    for (top, bottom), curve in zip(panels.T, plan.curves, strict=True):
        breakdown(top, table, curve, plan_true_mi(plan))
        scatter(bottom, table, curve)
        top.set(title=curve.label)
        bottom.set(xlabel="step")
        top.text(0.98, 0.03, note[curve.key], transform=top.transAxes, ha="right", va="bottom", fontsize=7)
        for record in drawn[curve.key]:
            if not record.ok:
                top.plot(record.scalars["diverged_at"], 9.2, marker="x", color=PALETTE[family(curve.loss)], ms=4, clip_on=False)
    panels[0, 0].set_ylabel("nats")
    panels[1, 0].set_ylabel("critic output $T$ (nats)")
    key_of_outputs(panels[1, 0], PALETTE[family(plan.curves[0].loss)])
    key_of_terms(figure, list(dict.fromkeys(PALETTE[family(curve.loss)] for curve in plan.curves)), "second term")
    return figure, table


def divergence_note(group: Sequence[Record]) -> str:
    """How many seeds became non-finite, and when."""
    ends = [int(record.scalars["diverged_at"]) for record in group if not record.ok]
    when = f", median step {int(np.median(ends))} (×)" if ends else ""
    return f"{len(ends)} of {len(group)} seeds non-finite{when}"


def figure3(plan: OneHotPlan, records: Records) -> tuple[Figure, pd.DataFrame]:
    """MINE and NWJ at batch 32."""
    return stacked_panels(plan, records, {curve.key: divergence_note(records[curve.key]) for curve in plan.curves})


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
    panels[0].text(
        1450, plan.curves[0].options["target"] - 0.4, "target $C^*$", color="#CC3311", ha="right", va="top", fontsize=7
    )
    key_of_terms(figure, [PALETTE["mine"]], r"second term $\log E_Q[e^T]$")
    return figure, table


def figure5(plan: OneHotPlan, records: Records) -> tuple[Figure, pd.DataFrame]:
    """ReMINE and ReNWJ, both targets, at batch 32."""
    return stacked_panels(plan, records, {curve.key: divergence_note(records[curve.key]) for curve in plan.curves})


def plan_true_mi(plan: OneHotPlan) -> float:
    """The truth of every one-hot figure, in nats."""
    return float(np.log(plan.symbols))


# ---- Fig. 6: the weight of the regularizer ------------------------------------------------------------------------------


def figure6(plan: BenchmarkPlan, by_lambda: pd.DataFrame, untrained: Mapping[str, float]) -> tuple[Figure, pd.DataFrame]:
    """MI and accuracy against lambda in the contrastive benchmark, one curve per regularized loss."""
    figure = Figure(figsize=(7.0, 4.2))
    panels = figure.subplots(2, len(plan.benchmarks), sharex=True, squeeze=False)
    for (top, bottom), benchmark in zip(panels.T, plan.benchmarks, strict=True):
        rows = by_lambda[by_lambda.dataset == benchmark.dataset]
        for place, (name, colour) in enumerate(PALETTE.items()):
            mine = rows[rows.loss == name].sort_values("lam")
            beside = mine.lam * 10 ** ((place - 2.5) * 0.03)  # so that intervals do not hide each other
            for axes, column in ((top, "mi"), (bottom, "accuracy")):
                errors = mine[f"{column}_ci95"]
                axes.errorbar(
                    beside,
                    mine[column],
                    errors,
                    color=colour,
                    marker="o",
                    ms=3,
                    lw=1.4,
                    elinewidth=0.8,
                    label="Re" + LABELS[name],
                )
        top.axhline(np.log(benchmark.classes), color=TRUTH, ls=":", lw=1.2)
        top.text(0.0008, np.log(benchmark.classes), f"true MI, log {benchmark.classes}", va="bottom", fontsize=7)
        bottom.axhline(untrained[benchmark.dataset], color=TRUTH, ls=(0, (1, 3)), lw=1)
        bottom.text(0.0008, untrained[benchmark.dataset], "untrained encoder", va="bottom", fontsize=7)
        top.set(title=f"{benchmark.dataset}, {benchmark.classes} classes", xscale="log")
        bottom.set(xlabel=r"weight $\lambda$ of the regularizer", xticks=plan.lams, xticklabels=[f"{lam:g}" for lam in plan.lams])
    panels[0, 0].set_ylabel("MI estimate (nats)")
    panels[1, 0].set_ylabel("test accuracy")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=6)
    return figure, by_lambda


# ---- Fig. 7: the staircase ----------------------------------------------------------------------------------------------

ABLATION = (("{}", "neither", ":"), ("{}-clip", "clip", "-."), ("re{}-noclip", "regularizer", "--"), ("re{}", "both", "-"))


def figure7(plan: GaussianPlan, records: Records) -> tuple[Figure, pd.DataFrame]:
    """Each loss and its twin on the staircase; the clip ablation; the error per level."""
    total = plan.steps_per_level * len(plan.problem.levels)
    steps = np.arange(0, total, max(1, total // 400))
    smoothed = {key: smooth(trace(group[0], "estimate"), plan.smoothing)[steps] for key, group in records.items()}
    raw = {key: trace(group[0], "estimate")[steps] for key, group in records.items()}
    truth = np.array([plan.problem.true_mi(int(step)) for step in steps])
    statistics = levels(plan, dict(records))
    table = pd.concat(
        [*(pd.DataFrame({"curve": k, "step": steps, "raw": raw[k], "smoothed": smoothed[k]}) for k in records), statistics],
        ignore_index=True,
    )
    figure = Figure(figsize=(7.0, 6.2))
    panels = figure.subplots(3, 3)
    for axes, name in zip(panels[:2].flat, PALETTE, strict=True):
        for loss, style, width in ((name, (0, (4, 1.5)), 1.0), ("re" + name, "-", 1.6)):
            axes.plot(steps, raw[loss], color=PALETTE[name], lw=0.4, alpha=0.25)
            axes.plot(steps, smoothed[loss], color=PALETTE[name], ls=style, lw=width, label=LABELS[loss])
        axes.legend(loc="upper left")
        if name == "infonce":
            axes.axhline(np.log(plan.batch), color=JOINT, ls=":", lw=1)
            axes.text(total, np.log(plan.batch) - 0.2, f"log {plan.batch}", ha="right", va="top", fontsize=7)
    for axes, name in zip(panels[2], ("nwj", "tuba"), strict=False):
        for pattern, label, style in ABLATION:
            axes.plot(steps, smoothed[pattern.format(name)], color=PALETTE[name], ls=style, lw=1.2, label=label)
        axes.set_title(f"{LABELS[name]}: what helps?")
        axes.legend(loc="upper left", ncols=1)
    for axes in (*panels[:2].flat, *panels[2, :2]):
        axes.plot(steps, truth, color=TRUTH, lw=1, drawstyle="steps-post", ls=":")
        axes.set(xlim=(0, total), ylim=(0, 11.5))
    errors = panels[2, 2]
    for name, colour in PALETTE.items():
        for loss, style in ((name, (0, (4, 1.5))), ("re" + name, "-")):
            rows = statistics[statistics.curve == loss]
            errors.plot(rows.level, np.sqrt(rows.mse), color=colour, ls=style, marker="o", ms=2.5, lw=1)
    errors.set(title="Error per level", xlabel="true MI (nats)", ylabel="root mean square error", yscale="log")
    for axes in panels[:, 0]:
        axes.set_ylabel("MI (nats)")
    for axes in panels[2, :2]:
        axes.set_xlabel("step")
    return figure, table
