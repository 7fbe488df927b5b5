"""Section 5.3: the losses on the Gaussian staircase (Fig. 7)."""

from collections.abc import Callable, Sequence

import numpy as np

from remi.losses import BOUNDS, LABELS
from remi.paper.measures import climbs, level_errors, smooth, trace
from remi.paper.verdicts import Array, Claim, Finding, Seeds
from remi.runs import Record

CLEARLY = 0.9  # a number is clearly lower than another when it is below this share of it
LEARNING = 0.1  # share of the truth by which an estimate that still learns climbs in the last fifth of a level


def mean_square_error(record: Record) -> float:
    """Of the raw estimate, over the second halves of all levels; infinite where the run diverged."""
    return _finite(np.square(level_errors(record)).mean())


def variance(record: Record) -> float:
    """Of the raw estimate within a level, mean over the levels; infinite where the run diverged."""
    return _finite(level_errors(record).var(axis=1).mean())


def _finite(value: float) -> float:
    return float(np.nan_to_num(value, nan=np.inf))


def has_learnt(seeds: Seeds, curves: Sequence[str]) -> bool:
    """Whether each curve came to rest at every level: at none does it climb, by a tenth of the truth, in every seed."""
    return not any((seeds.each(curve, climbs)[0] > LEARNING).all(axis=0).any() for curve in curves)


def compare(seeds: Seeds, curves: Sequence[str], measure: Callable[[Record], float]) -> tuple[str, list[Array]]:
    """A measure of several curves, in words and as means over the seeds for every draw."""
    means = [seeds.each(curve, measure).mean(1) for curve in curves]
    return " -> ".join(f"{mean[0]:.3g}" for mean in means), means


def twin(name: str, share: float = CLEARLY, key: str = "") -> Callable[[Seeds], Finding]:
    """Whether the error of a twin is below a share of its original's; for InfoNCE, the exception, whether it is not."""

    def check(seeds: Seeds) -> Finding:
        curves = (name, key or "re" + name)
        (error, errors), (spread, _) = (compare(seeds, curves, measure) for measure in (mean_square_error, variance))
        better = errors[1] < share * errors[0]
        text = f"mean square error {error}, variance {spread}"
        return Finding(text, ~better if name == "infonce" else better, has_learnt(seeds, curves))

    return check


def gauss_variance(seeds: Seeds) -> Finding:
    texts, lower = [], []
    for name in ("nwj", "tuba"):
        text, (original, regularized) = compare(seeds, (name, "re" + name), variance)
        texts.append(f"{LABELS[name]} {text}")
        lower.append(regularized < CLEARLY * original)
    return Finding(f"variance: {', '.join(texts)}", np.all(lower, axis=0), has_learnt(seeds, ("nwj", "renwj", "tuba", "retuba")))


def gauss_cap(seeds: Seeds) -> Finding:
    cap = float(np.log(seeds.records["infonce"][0].run.batch))
    top = np.max([seeds.each(key, lambda r: smooth(trace(r, "estimate"), 200).max()) for key in ("infonce", "reinfonce")], (0, 2))
    return Finding(f"largest smoothed estimate {top[0]:.3f}, log 64 = {cap:.3f}", top <= cap)


def gauss_clip(seeds: Seeds) -> Finding:
    texts, holds = [], []
    read: list[str] = []
    for name in ("nwj", "tuba"):
        curves = (name, f"{name}-clip", f"re{name}-noclip", f"re{name}")
        _, errors = compare(seeds, curves, mean_square_error)
        _, clip, regularizer, both = errors
        words = zip(("neither", "clip", "regularizer", "both"), errors, strict=True)
        texts.append(f"{LABELS[name]}: " + ", ".join(f"{word} {error[0]:.3g}" for word, error in words))
        holds.append((regularizer < clip) & (regularizer < 1.1 * both))
        read.extend(curves)
    return Finding("mean square error of " + "; ".join(texts), np.all(holds, axis=0), has_learnt(seeds, read))


PUBLISHED_JS = " The published curve of the original is its training objective, which is no estimate and cannot rise above 0."

CLAIMS = (
    *(
        Claim(
            f"gauss-{name}",
            "fig7",
            "Fig. 7",
            f"Re{LABELS[name]} shows “clear superiority” over {LABELS[name]} on the staircase",
            "mean square error at least 10% lower, the same evaluation for both",
            twin(name),
            "The twin is nearer to the truth, over all levels and over the seeds.",
            "The twin is not nearer to the truth." + PUBLISHED_JS * (name == "js"),
        )
        for name in BOUNDS
        if name != "infonce"
    ),
    Claim(
        "gauss-infonce",
        "fig7",
        "Fig. 7",
        "“With the exception of InfoNCE”: its twin is not clearly better",
        "mean square error less than 10% lower",
        twin("infonce"),
        "Nothing in InfoNCE can drift, and both it and its twin are held down by the logarithm of the batch size.",
        "The twin is nearer to the truth.",
    ),
    Claim(
        "gauss-cap",
        "fig7",
        "Fig. 7",
        "InfoNCE is bounded by log 64",
        "largest smoothed estimate at most log 64",
        gauss_cap,
        "Its value compares each pair with a mean that contains the pair, so it cannot exceed log 64 on any batch.",
        "The formula does not do what the text says.",
        identity=True,
    ),
    Claim(
        "gauss-js-eval",
        "fig7",
        "Section 5.3",
        "Regularization “greatly enhances the MI estimation quality” of JS, as released",
        "half the mean square error when both are evaluated by eq. 8",
        twin("js", share=0.5),
        "Evaluated by the same formula, the twin has less than half the error.",
        "Evaluated by the same formula, the twin has no such gain." + PUBLISHED_JS,
    ),
    Claim(
        "gauss-js-log",
        "fig7",
        "ours",
        "ReJS that pins log E[exp T], which is 0 for the best critic of JS, is better than JS",
        "mean square error at least 10% lower, both evaluated by eq. 8",
        twin("js", key="rejs-log"),
        "A penalty that vanishes at the optimum of JS costs nothing there and steadies the way to it.",
        "JS needs no penalty on this problem: it has one best critic and reaches it.",
    ),
    Claim(
        "gauss-variance",
        "fig7",
        "Section 5.3",
        "Regularization “lessens the variance of both NWJ and TUBA”",
        "variance within a level at least 10% lower for both",
        gauss_variance,
        "The estimate of both twins varies less from step to step; Table 1 clips them as well, see gauss-clip.",
        "The estimate of a twin varies as much from step to step as its original's.",
    ),
    Claim(
        "gauss-clip",
        "fig7",
        "ours",
        "Of the two things that Table 1 lists for ReNWJ and ReTUBA, the regularizer and the clip, the regularizer does the work",
        "regularizer alone below clip alone, and within 10% of both together, in mean square error",
        gauss_clip,
        "The regularizer alone has a lower error than the clip alone, and about that of both.",
        "The clip alone lowers the error at least as much as the regularizer alone, or the regularizer needs the clip.",
    ),
)
