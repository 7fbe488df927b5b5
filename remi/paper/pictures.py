"""A picture per derivation: its parameters are what a slider moves, its defaults what is printed."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from remi.losses import Scores, estimators
from remi.paper import experiments, figures, table2
from remi.paper.figures import Records
from remi.paper.measures import pooled
from remi.paper.slopes import mark
from remi.runs import Record
from remi.style import JOINT, MARGINAL, PALETTE, TRUTH, legend
from remi.theory import closed_forms, comparison, drift, duality, labels, samples


def plot(axes: Axes, data: Mapping[str, Any], *form: str, **look: Any) -> pd.DataFrame:
    """Draw the last of some columns against the one before it; returns all of them as rows of the figure's table."""
    rows = pd.DataFrame(data)
    axes.plot(rows.iloc[:, -2], rows.iloc[:, -1], *form, **look)
    return rows


def derivation1(lam: float = 1.0) -> tuple[Figure, pd.DataFrame]:
    """Objective of five losses at the critic log r + a, minus the divergence; what the released ReNWJ target costs."""
    mine, nwj, dashes, dashdot = PALETTE["mine"], PALETTE["nwj"], (0, (4, 1.5)), (0, (5, 1, 1, 1))
    curves: dict[str, tuple[estimators.Estimator, str, Any, float]] = {
        "MINE": (estimators.get("mine"), mine, dashes, 1.0),
        "ReMINE": (estimators.get("remine", lam=lam), mine, "-", 1.8),
        "NWJ": (estimators.get("nwj"), nwj, dashes, 1.0),
        "ReNWJ, eq. 15": (estimators.get("renwj", lam=lam), nwj, "-", 1.8),
        "ReNWJ, released": (estimators.get("renwj", lam=lam, target_of="released"), nwj, dashdot, 1.4),
    }
    figure = Figure(figsize=(7.0, 3.0))
    axes, beside = figure.subplots(1, 2, width_ratios=(3, 2))

    a = torch.linspace(-2, 3, 201, dtype=torch.float64)
    shifted = duality.on_table(duality.table_log_ratio() + a.view(-1, 1, 1))
    rows = []
    for name, (estimator, colour, style, width) in curves.items():
        value = (estimator(shifted).objective - duality.table_kl()).numpy()
        look: dict[str, Any] = {"color": colour, "ls": style, "lw": width, "label": name}
        rows.append(plot(axes, {"curve": name, "a": a.numpy(), "value": value}, **look))
    axes.axhline(0, color=TRUTH, ls=":", lw=1.2, label="truth")
    best = closed_forms.released_offset(lam)
    cost = closed_forms.released_cost(lam)
    axes.plot([best, best], [0, -cost], color=JOINT, lw=1)
    axes.plot(best, closed_forms.value_at_offset("renwj-released", best, lam), "o", color=nwj, ms=5, mfc="white")
    axes.plot(best, -cost, "o", color=nwj, ms=5)
    axes.text(best, 0.05, f"released: lacks {cost:.3f}", ha="center", fontsize=7, color=nwj)
    axes.set(xlim=(-2, 3), ylim=(-1.6, 0.25), xlabel=r"offset $a$ of the critic $\log\,r + a$")
    axes.set(ylabel="objective minus truth (nats)", yticks=(-1.5, -1, -0.5, 0))

    weights = torch.logspace(-3, 0.5, 8, dtype=torch.float64)
    released = estimators.regularized(lambda scores: estimators.nwj(scores, target_of="released"), weights)
    found = released(duality.on_table(duality.climb(released, duality.on_table, starts=len(weights), steps=1000, rate=2.0)))
    grid = np.logspace(-3, 1, 81)
    costs = [closed_forms.released_cost(x) for x in grid]
    losses = [-closed_forms.value_at_offset("renwj-released", closed_forms.released_offset(x), x) for x in grid]
    for name, style, fill, exact, reached in (
        ("objective", dashdot, "white", losses, found.objective),
        ("estimate", "-", nwj, costs, found.estimate),
    ):
        lacks = (duality.table_kl() - reached).numpy()
        curve, ascent = f"released, {name} lacks", {"lam": weights.numpy(), "value": lacks}
        rows.append(plot(beside, {"curve": curve, "lam": grid, "value": exact}, color=nwj, ls=style, lw=1.4))
        rows.append(plot(beside, {"curve": f"{curve}, by ascent", **ascent}, "o", color=nwj, ms=4, mfc=fill))
    beside.axhline(1 / math.e, color=MARGINAL, lw=0.8)
    beside.text(1.1e-3, 1 / math.e + 0.008, r"$1/e$", fontsize=7, color=JOINT)
    beside.axvline(lam, color=MARGINAL, lw=0.8)
    beside.text(0.075, 0.15, "objective", color=nwj, fontsize=7, ha="right")
    beside.text(2.4, 0.26, "estimate", color=nwj, fontsize=7, ha="left")
    beside.set(xlabel=r"weight $\lambda$", ylabel="nats below the truth", xscale="log", xlim=(1e-3, 10), ylim=(-0.01, 0.42))
    beside.set_title("released target, best critic")
    axes.set_title("the best critic plus a constant, for any $P$ and $Q$")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=6)
    return figure, pd.concat(rows, ignore_index=True)


def derivation2(lam: float = 10.0, eps: float = 0.25) -> tuple[Figure, pd.DataFrame]:
    """Sample sizes against the bound M of the critics, and the share of failures at the printed one; rare-event law."""
    delta, radius, blue = 0.1, eps / 24, PALETTE["mine"]
    figure = Figure(figsize=(7.0, 3.1))
    left, right = figure.subplots(1, 2)
    grid = np.linspace(1, 8, 57)
    printed = [closed_forms.printed_samples(m + radius, eps, delta, radius) for m in grid]
    enough = [closed_forms.remine_samples(m + radius, eps, delta, radius, lam=0) for m in grid]
    needed = [closed_forms.rare_event_samples(m, eps, delta) for m in grid]
    least = [closed_forms.least_samples(m, eps, delta) for m in grid]
    rows = []
    for name, n, colour, style, width, place, up in (
        ("enough (corrected)", enough, blue, "-", 1.8, 22, 8),
        ("needed by MINE for this law", needed, JOINT, "-", 1.2, 34, 8),
        ("needed by any estimator", least, TRUTH, ":", 1.2, 17, 0.12),
        ("printed", printed, blue, (0, (4, 1.5)), 1.2, 52, 0.12),
    ):
        values = np.where(np.array(n) >= 1, n, np.nan)
        rows.append(plot(left, {"curve": name, "M": grid, "value": values}, color=colour, ls=style, lw=width))
        above = {"ha": "right", "va": "bottom"} if up > 1 else {"ha": "left" if place < 40 else "right", "va": "top"}
        left.text(grid[place], values[place] * up**0.5, name, color=colour, fontsize=7, **above)
    left.set(xlabel=r"bound $M$ of the critics (nats); truth $\log\,\cosh M$", ylabel="sample size $n$")
    left.set(yscale="log", xlim=(1, 8), ylim=(1, 1e13))

    measured, trials = np.arange(1.0, 7.0), 200
    for name, weight, width, fill in (("reported value", 0.0, 1.0, "white"), (rf"eq. 14, $\lambda = {lam:g}$", lam, 1.8, blue)):
        sizes = zip(grid, map(math.ceil, printed), strict=True)
        exact = [closed_forms.rare_event_failure(n, m, eps, weight, radius) for m, n in sizes]
        rows.append(plot(right, {"curve": f"failures, {name}", "M": grid, "value": exact}, color=blue, lw=width))
        shares = []
        for m in measured:
            size = math.ceil(closed_forms.printed_samples(m + radius, eps, delta, radius))
            off = samples.rare_event_values(m, size, trials, weight, radius) - closed_forms.rare_event_mi(m)
            shares.append(float((off.abs() > eps).double().mean()))
        error = 1.96 * np.sqrt(np.array(shares) * (1 - np.array(shares)) / trials)
        marks: dict[str, Any] = {"color": blue, "marker": "o", "ms": 4, "mfc": fill, "ls": "", "elinewidth": 0.8}
        right.errorbar(measured, shares, error, label=name, **marks)
        rows.append(pd.DataFrame({"curve": f"failures, {name}, measured", "M": measured, "value": shares, "ci95": error}))
    right.axhline(delta, color=TRUTH, ls=":", lw=1.2)
    right.text(7.9, delta + 0.02, rf"promised: $\delta = {delta:g}$", ha="right", fontsize=7)
    right.set(xlabel="bound $M$ of the critics (nats)", ylabel="failures at the printed $n$", xlim=(0.9, 8), ylim=(0, 1.05))
    right.legend(loc="center right")
    return figure, pd.concat(rows, ignore_index=True)


POOLED = (1, 4, 16, 64, 256, 1024)  # batches in one estimate


def derivation3(records: Records, tau: float = 10.0) -> tuple[Figure, pd.DataFrame]:
    """What drift does to averages of the six losses; and what pooling does to the estimates of trained critics.

    Args:
        records: of `experiments.derivation3`.
        tau: where SMILE clips, left panel.
    """
    figure = Figure(figsize=(7.0, 3.2))
    left, middle, right = figure.subplots(1, 3, width_ratios=(1.3, 1.2, 0.9))
    right.sharey(middle)
    table = pd.concat([_drift(left, tau), _pooling(middle, records), _means(right, records)], ignore_index=True)
    for axes in (middle, right):
        axes.axhline(0, color=TRUTH, ls=":", lw=1.2)
    return figure, table.drop(columns=["loss", "treatment"])


def _drift(axes: Axes, tau: float) -> pd.DataFrame:
    """Change of both averages against the total drift: predicted, and measured on 50 batches of 32 one-hot pairs."""
    totals, points, batches = np.linspace(-16, 16, 161), np.linspace(-15, 15, 11), 50
    smile, level = estimators.get("smile", tau=tau), float(drift.two_levels(torch.tensor(True)))
    symbols = torch.randint(16, (batches, 32), generator=torch.Generator().manual_seed(0))
    still = drift.two_levels(symbols[:, :, None] == symbols[:, None, :])

    def at(total: float) -> Scores:
        return Scores.from_matrix(still + total * torch.linspace(0, 1, batches, dtype=torch.float64).view(-1, 1, 1))

    def averages(name: str, total: float) -> tuple[float, float]:
        return drift.averages(name, at(total))

    def along(cost: Callable[[float], float], total: float) -> float:
        return float(np.mean([cost(total * t) for t in np.linspace(0, 1, batches)]))

    def clipped(offset: float) -> float:
        return closed_forms.two_level_smile(level + offset, drift.SEPARATION, tau)

    curves: tuple[tuple[str, str, Callable[[float], float], Callable[[float], float]], ...] = (
        ("MINE, macro", "mine", lambda c: 0.0, lambda c: averages("mine", c)[0]),
        ("MINE, micro", "mine", lambda c: -closed_forms.linear_drift_cost(c, batches), lambda c: averages("mine", c)[1]),
        ("SMILE, macro", "smile", lambda c: along(clipped, c) - clipped(0.0), lambda c: float(smile(at(c)).estimate.mean())),
        ("InfoNCE, both", "infonce", lambda c: 0.0, lambda c: averages("infonce", c)[1]),
        ("NWJ, both", "nwj", lambda c: -along(closed_forms.offset_cost, c), lambda c: averages("nwj", c)[1]),
    )
    rows = []
    for label, name, predicted, measured in curves:
        colour, macro = PALETTE[name], label == "MINE, macro"
        line, start = [predicted(c) for c in totals], measured(0.0)
        seen = [measured(c) - start for c in points]
        lines, dots = ({"panel": "drift", "curve": f"{label}, {how}"} for how in ("predicted", "measured"))
        rows.append(plot(axes, {**lines, "x": totals, "y": line}, color=colour, lw=1.2))
        dot: dict[str, Any] = {"color": colour, "ms": 6 if macro else 3.5, "mfc": "none" if macro else colour}
        rows.append(plot(axes, {**dots, "x": points, "y": seen}, "o", **dot))
    texts = (
        (-15.5, 0.35, "MINE macro, InfoNCE: 0", "mine", "left"),
        (15.5, -1.6, "MINE micro", "mine", "right"),
        (15.5, 2.3, "SMILE macro", "smile", "right"),
        (-8.6, -5.6, "NWJ, TUBA, JS", "nwj", "left"),
    )
    for x, y, text, name, side in texts:
        axes.text(x, y, text, color=PALETTE[name], fontsize=7, ha=side, va="bottom")
    axes.text(-15.5, 4.3, "lines predicted, dots measured", color=JOINT, fontsize=7)
    axes.set(title="Drift alone", xlabel="total drift of the offset (nats)", ylabel="change of the average (nats)")
    axes.set(xlim=(-16, 16), ylim=(-6.2, 5))
    return pd.concat(rows)


def _bias(records: Records, panel: str, losses: Sequence[str], sizes: Sequence[int]) -> pd.DataFrame:
    """Pooled estimate minus the truth, a row per loss, twin or original, seed, and number of pooled batches."""
    plan, rows = experiments.DERIVATION3, []
    for key in [twin + loss for loss in losses for twin in ("", "re")]:
        own = {"panel": panel, "curve": key, "loss": estimators.family(key), "treatment": key.startswith("re")}
        for seed, record in enumerate(records[key]):
            bias = [pooled(record, plan.pooled, size).mean() - plan.mi for size in sizes]
            rows.append(pd.DataFrame({**own, "seed": seed, "x": sizes, "y": bias}))
    return pd.concat(rows)


def _pooling(axes: Axes, records: Records) -> pd.DataFrame:
    """Bias of the pooled estimate against the number of pooled batches; bands: smallest to largest seed."""
    table = _bias(records, "pooling", ("mine", "smile"), POOLED)
    look = {"dashes": {False: (4, 1.5), True: ""}, "sizes": {False: 1.0, True: 1.8}, "palette": PALETTE, "legend": False}
    seeds = {"errorbar": ("pi", 100), "err_kws": {"lw": 0}}
    sns.lineplot(table, x="x", y="y", hue="loss", style="treatment", size="treatment", ax=axes, **look, **seeds)
    axes.text(1100, -0.045, "ReMINE, ReSMILE", color=PALETTE["mine"], fontsize=7, ha="right")
    axes.text(14, -0.43, "MINE, SMILE", color=PALETTE["mine"], fontsize=7, ha="right")
    axes.set(title="Trained critics, batch 8", xlabel="pooled batches", ylabel="estimate minus truth (nats)", xscale="log")
    axes.set_xticks((1, 10, 100, 1000), ("1", "10", "100", "1,000"))
    axes.set(ylim=(-0.75, 0.3))
    axes.minorticks_off()
    return table


def _means(axes: Axes, records: Records) -> pd.DataFrame:
    """Bias of the losses whose pooled estimate is the mean of the batches' estimates, a dot per seed."""
    table = _bias(records, "means", ("infonce", "nwj", "tuba", "js"), POOLED[-1:])
    for key, rows in table.groupby("curve"):
        loss, twin = estimators.family(str(key)), str(key).startswith("re")
        places = list(estimators.BOUNDS).index(loss) - 2 + (0.18 if twin else -0.18) + np.linspace(-0.08, 0.08, len(rows))
        axes.plot(places, rows.y, "o", color=PALETTE[loss], mfc=PALETTE[loss] if twin else "white", ms=4)
    axes.set_xticks(range(4), ["InfoNCE", "NWJ", "TUBA", "JS"])
    axes.text(3.45, -0.71, "filled: regularized", color=JOINT, fontsize=7, ha="right")
    axes.set(title="pooled = averaged", xlim=(-0.5, 3.5))
    axes.tick_params(labelleft=False)
    return table


def derivation4(classes: float = 10) -> tuple[Figure, pd.DataFrame]:
    """What an image shares with its label and with a second image: where labels are wrong, and for two choices of the second."""
    count, truth = int(classes), closed_forms.true_mi(int(classes))
    figure = Figure(figsize=(7.0, 2.9))
    left, right = figure.subplots(1, 2)
    shares, images, rows = np.linspace(0, 1 - 1 / count, 101), np.geomspace(2, 5000, 101), []
    for axes, curve, x, y in (
        (left, "image and label", shares, [closed_forms.noisy_label_mi(count, e) for e in shares]),
        (left, "two images", shares, [closed_forms.noisy_pair_mi(count, e) for e in shares]),
        (right, "another view of the same image", images, truth + np.log(images)),
        (right, "another image of the class", images, [truth + closed_forms.distinct_pair_excess(m) for m in images]),
    ):
        rows.append(plot(axes, {"curve": curve, "x": x, "y": y}, "--" if axes.lines else "-", color=JOINT, label=curve))
    wrong = np.array([1 / 3, 1 / 5, 1 / 10, 1 / 31])
    sets = [labels.noisy_labels(count, round((count - 1) * (1 / e - 1))) for e in wrong]
    read = [labels.reads(Scores.from_logits(log_ratio[x], y)) for x, y, log_ratio in sets]
    dots = {"curve": (best := "MINE at the best critic"), "x": wrong, "y": read}
    rows.append(plot(left, dots, "o", color=PALETTE["mine"], ms=4, label=best))
    for axes, place in ((left, "upper right"), (right, "upper left")):
        axes.axhline(truth, color=TRUTH, ls=":", lw=1.2, label=rf"$H(Y) = \log\,{count}$")
        axes.legend(loc=place)
    left.set(title="Wrong labels", xlabel="share of labels that are wrong", ylabel="mutual information (nats)")
    left.set(xlim=(0, 1), ylim=(0, 1.5 * truth))
    right.set(title="The second image", xlabel="images in a class", xscale="log", ylim=(0, truth + 12))
    return figure, pd.concat(rows, ignore_index=True)


PUBLISHED: dict[str, Any] = {"color": MARGINAL, "marker": "d", "ms": 3.5, "mfc": "white", "mec": JOINT, "mew": 0.7, "lw": 0.7}


def derivation6(summary: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Table 2's MI column: predicted by a closed form, measured, published.

    Args:
        summary: of `table2.summary`.
    """
    columns = ["task", "dataset", "loss", "variant", "true_mi", "closed_form", "mi_mean", "mi_ci95", "n_ok", "n"]
    cells = summary[summary.variant.isin(("original", "regularized"))]
    cells = cells[[*columns, "published_mi_mean", "published_mi_ci95"]].reset_index(drop=True)
    blocks = list(cells.groupby(["task", "dataset"], sort=False))
    figure = Figure(figsize=(7.0, 5.0))
    panels = figure.subplots(2, len(blocks) // 2, sharey=True, squeeze=False)
    losses = list(estimators.BOUNDS)
    for axes, (key, block) in zip(panels.flat, blocks, strict=True):
        for _, cell in block.iterrows():
            loss, twin = str(cell.loss), bool(cell.variant == "regularized")
            y = losses.index(loss) + (0.14 if twin else -0.28)
            bar = losses.index(loss) - 0.4, losses.index(loss) + 0.4
            axes.plot([cell.closed_form] * 2, bar, color=PALETTE[loss], lw=5, alpha=0.2, solid_capstyle="butt")
            axes.errorbar(cell.published_mi_mean, y + 0.14, xerr=cell.published_mi_ci95, **PUBLISHED)
            mark(axes, cell.mi_mean, y, loss, filled=twin, xerr=cell.mi_ci95)
        axes.axvline(truth := float(block.true_mi.iloc[0]), color=TRUTH, ls=":", lw=1.2)
        published = table2.PAPER[table2.BENCHMARKS[str(key[1])].classes]
        axes.set(title=f"{str(key[0]).upper()}, {table2.readable(str(key[1]))} (published: {published})", ylim=(5.6, -0.6))
        axes.set(xlim=(-0.06 * truth, 1.15 * truth), yticks=range(6), yticklabels=[estimators.LABELS[name] for name in losses])
    for axes in panels[-1]:
        axes.set_xlabel("MI estimate (nats)")
    looks = {
        "closed form": {"color": JOINT, "lw": 5, "alpha": 0.3},
        "original": {"color": JOINT, "marker": "o", "ms": 4, "lw": 1, "mfc": "white"},
        "regularized": {"color": JOINT, "marker": "o", "ms": 4, "lw": 1},
        "published, CIFAR": PUBLISHED,
        "true MI": {"color": TRUTH, "ls": ":", "lw": 1.2},
    }
    legend(figure, looks)
    return figure, cells


ENDS = (  # what the right panel compares: group of runs, label
    ("mine", "MINE"),
    ("stratified/mine", "MINE,\n2 pairs"),
    ("regularized/remine", "ReMINE"),
    ("nwj", "NWJ"),
    ("stratified/nwj", "NWJ,\n2 pairs"),
    ("small-steps/nwj", "NWJ,\nsteps\n0.03"),
)


def population_value(record: Record) -> float:
    """Donsker-Varadhan value in nats of a one-hot run's last critic, on all pairs; nan where the run diverged."""
    table = torch.as_tensor(record.arrays["table"], dtype=torch.float64)
    return float(estimators.mine(comparison.every_pair(table)).estimate) if record.ok else math.nan


def derivation5(records: Records, lam: float = 0.1, batch: float = 32, noise: float = 0.0) -> tuple[Figure, pd.DataFrame]:
    """MINE's mean over batches has no maximum and ReMINE's has one; and where trainings at batch 32 end.

    Args:
        records: of `experiments.derivation5`.
        lam: weight of the middle ReMINE curve.
        batch: of the ReMINE curves, and of one of MINE's.
        noise: share of wrong labels, left panel.
    """
    figure = Figure(figsize=(7.0, 3.1))
    left, right = figure.subplots(1, 2, width_ratios=(1.15, 1))
    table = pd.concat([_objectives(left, lam, int(batch), noise), _ends(right, records)], ignore_index=True)
    return figure, table


def _objectives(axes: Axes, lam: float, batch: int, noise: float) -> pd.DataFrame:
    """Mean objective over batches against the separation of a two-level critic, on the one-hot problem with noise."""
    joint, marginal, blue = 1 - noise, 1 / 16, PALETTE["mine"]
    chi_square = joint**2 / marginal + (1 - joint) ** 2 / (1 - marginal) - 1
    s = np.arange(0, 70.1, 0.25)
    rows, panel = [], {"panel": "objective"}
    truth = np.array([closed_forms.two_level_dv(joint, marginal, x) for x in s])
    for size in sorted({10, batch, 100}):
        values = np.array([closed_forms.two_level_batch(joint, marginal, size, x)[0] for x in s])
        rows.append(plot(axes, {**panel, "curve": f"MINE, B = {size}", "x": s, "y": values}, "--", color=blue, lw=1))
        end = np.flatnonzero((values > 0) & (values < 13) & (s < 55))[-1]
        axes.text(s[end] - 0.8, values[end] + 0.15, f"MINE, $B = {size}$", color=blue, fontsize=7, ha="right", va="bottom")
    for weight in sorted({1.0, lam, 0.01}):
        law = [closed_forms.two_level_batch(joint, marginal, batch, x) for x in s]
        best = closed_forms.finite_optimum(joint, marginal, batch, weight)
        bound = closed_forms.remine_bound(float(truth.max()), chi_square, batch, weight)
        curve = f"ReMINE, lam = {weight:g}"
        values = np.array([mean - weight * spread**2 for mean, spread in law])
        rows.append(plot(axes, {**panel, "curve": curve, "x": s, "y": values}, color=blue, lw=2))
        end = np.flatnonzero((values > 1) & (s < 45))[-1]
        axes.text(s[end] + 1, values[end] + 0.25, rf"$\lambda = {weight:g}$", color=blue, fontsize=7, va="bottom")
        axes.plot([best.separation] * 2, [best.objective, bound], color=MARGINAL)
        most, limit = ({"panel": name, "curve": curve, "x": [best.separation]} for name in ("maximum", "bound"))
        rows.append(plot(axes, {**most, "y": [best.objective]}, "o", color=blue, ms=4, zorder=3))
        rows.append(plot(axes, {**limit, "y": [bound]}, "_", color=MARGINAL, ms=8))
    rows.append(plot(axes, {**panel, "curve": "all pairs", "x": s, "y": truth}, ":", color=TRUTH, lw=1.2))
    axes.text(69.5, truth[-1] - 0.25, "all pairs", ha="right", va="top", fontsize=7, clip_on=True)
    axes.text(59, 14.3, "bound on the maximum", color=JOINT, ha="right", va="center", fontsize=7)
    axes.set(title=f"Mean over batches; solid: ReMINE, $B = {batch}$", xlabel="separation $s$ (nats)")
    axes.set(ylabel="nats", xlim=(0, 70), ylim=(0, 15))
    return pd.concat(rows)


def _ends(axes: Axes, records: Records) -> pd.DataFrame:
    """Population value of the last critic of every seed; crosses for seeds that became non-finite, arrows for what is below."""
    rows = []
    for place, (key, _) in enumerate(ENDS):
        values = np.array([population_value(record) for record in records[key]])
        spread, loss = place + np.linspace(-0.2, 0.2, len(values)), records[key][0].run.loss
        colour = PALETTE[estimators.family(loss)]
        fill = colour if loss.startswith("re") else "white"
        for marker, these, heights in (
            ("o", values >= -15, values),
            ("v", values < -15, np.full_like(values, -15.7)),
            ("x", ~np.isfinite(values), np.full_like(values, -17.0)),
        ):
            axes.plot(spread[these], heights[these], marker, color=colour, mfc=fill, ms=4)
        rows.append(pd.DataFrame({"panel": "last critic", "curve": key, "x": range(len(values)), "y": values}))
    axes.axhline(math.log(16), color=TRUTH, ls=":", lw=1.2)
    axes.text(0, math.log(16) + 0.3, r"$\log 16$", ha="center", fontsize=7)
    axes.text(5.4, -14.0, "× non-finite   ▽ below −15", ha="right", va="center", fontsize=7)
    axes.set_xticks(range(len(ENDS)), [label for _, label in ENDS])
    axes.set(title="Batch 32: the last critics, on all pairs", ylabel="nats", xlim=(-0.5, 5.5))
    axes.set(ylim=(-18, 4), yticks=range(-15, 1, 5))
    return pd.concat(rows)


def tutorial2(
    estimates: Mapping[tuple[str, bool], np.ndarray],
    accuracies: Mapping[tuple[str, bool], float],
    true_mi: float,
    span: int = 50,
) -> tuple[Figure, pd.DataFrame]:
    """Estimates while encoders are trained with NWJ, SMILE and their twins, and what the encoders then know.

    Args:
        estimates: nats, a value per step, by loss and whether the scores are bounded; a run that stopped is shorter.
        accuracies: of the trained encoders; "untrained" has no estimates.
        true_mi: nats.
        span: steps of the moving average that is drawn.
    """
    figure = Figure(figsize=(7.0, 2.6))
    panels = figure.subplots(1, 3, width_ratios=(3, 3, 2.4))
    names = {key: estimators.LABELS.get(key[0], key[0]) + ", bounded" * key[1] for key in (*estimates, *accuracies)}
    rows = []
    for (loss, bounded), values in estimates.items():
        table = pd.DataFrame({"loss": loss, "bounded": bounded, "step": np.arange(len(values)), "estimate": values})
        table = table.assign(smoothed=table.estimate.rolling(span, min_periods=1).mean())[:: figures.EVERY]
        style: Any = "-." if bounded else "-" if loss.startswith("re") else (0, (4, 1.5))
        look = {"color": PALETTE[estimators.family(loss)], "ls": style, "lw": 1.6 if loss.startswith("re") else 1.0}
        panels[int(estimators.family(loss) == "nwj")].plot(table.step, table.smoothed, label=names[loss, bounded], **look)
        rows.append(table)
    for axes, name in zip(panels, ("smile", "nwj"), strict=False):
        axes.axhline(true_mi, color=TRUTH, ls=":", lw=1.2)
        axes.set(title=f"{estimators.LABELS[name]} and its twin", xlabel="step")
        axes.legend(loc="upper left")
    panels[0].set(ylabel="MI estimate (nats)", ylim=(-0.15, 1.6 * true_mi))
    panels[1].set_yscale("symlog", linthresh=1)
    panels[1].set_ylim(-3e5, 3e4)
    bottom = {"transform": panels[1].get_xaxis_transform(), "clip_on": False}
    panels[1].plot(0, 0.04, marker="x", ms=6, color=PALETTE["nwj"], **bottom)
    panels[1].text(40, 0.04, r"NWJ stops at $-\infty$", va="center", fontsize=7, **bottom)
    for row, ((loss, _), accuracy) in enumerate(accuracies.items()):
        colour = PALETTE.get(estimators.family(loss), TRUTH)
        panels[2].plot(accuracy, row, marker="o", ms=5, color=colour, mfc=colour if loss.startswith("re") else "white")
    panels[2].axvline(accuracies["untrained", False], color=TRUTH, ls=(0, (1, 3)), lw=1.2)
    panels[2].set_yticks(range(len(accuracies)), [names[key] for key in accuracies])
    panels[2].set(title="What the encoder knows", xlabel="test accuracy", xlim=(0, 1.02), ylim=(len(accuracies) - 0.5, -0.5))
    ends = pd.DataFrame([{"loss": loss, "bounded": bounded, "accuracy": value} for (loss, bounded), value in accuracies.items()])
    return figure, pd.concat([*rows, ends], ignore_index=True)
