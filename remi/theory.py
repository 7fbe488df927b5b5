"""The closed forms that notebooks and claims confront: where the MI column of Table 2 has to end up, in nats.

C classes with uniform labels, batches of B images, critics that separate the classes perfectly. The supervised benchmark
(SLB) averages its second term over all C labels, so it has no sampling noise at the optimum. The contrastive one (CLB) has
critic f(x1) . f(x2) with features f >= 0 (ResNet-18 without its last layer ends in a ReLU), hence scores T >= 0: the best
critic is a on pairs of the same label and b = 0 on the others. Training draws a batch without replacement, so m images per
class add up to log(m / (m - 1)) in CLB: .0002 on CIFAR-10, .007 on digits, .020 on digit pairs. That the published numbers
agree with these forms is evidence, not proof.
"""

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np


def true_mi(classes: int) -> float:
    """H(Y) = log C in nats: the true value of both benchmarks (Theorems 7 and 8); what every tight bound reaches in SLB."""
    return math.log(classes)


def slb_js(classes: int) -> float:
    """JS at its optimum T = log r, evaluated by NWJ, which wants T = 1 + log r: log C - 1/e, in nats.

    Source: Table 1 ("estimate with I_NWJ").
    """
    return math.log(classes) - 1 / math.e


def clb_nwj(classes: int) -> float:
    """The best NWJ value with T >= 0, at a = 1 + log C: log C - (1 - 1/C) / e, in nats; b = 0 still costs 1/e."""
    return math.log(classes) - (1 - 1 / classes) / math.e


def clb_tuba(classes: int) -> float:
    """The best TUBA value with T >= 0, at a = log C: log C - (1 - 1/C), in nats; b = 0 still costs 1."""
    return math.log(classes) - (1 - 1 / classes)


def clb_js(classes: int) -> float:
    """JS at its optimum with T >= 0, a = log C, evaluated by NWJ: log C - (2 - 1/C) / e, in nats."""
    return math.log(classes) - (2 - 1 / classes) / math.e


def clb_infonce(classes: int, batch: int) -> float:
    """Saturated InfoNCE in nats: mean over batches of the mean over joint pairs of log((B - 1) / k).

    A perfect critic gives each of an image's k same-label partners the share 1/k of its row of B - 1 scores, so a joint
    pair reads log((B - 1) / k). Batches of B independent uniform labels; those without a joint pair are left out.

    Computed exactly from the law of the label counts, not simulated: 1.8394 for B = C = 10, 4.0470 for B = C = 100.
    """
    return _pair_averages(classes, batch)[0]


def clb_dv(classes: int, batch: int) -> float:
    """Saturated Donsker-Varadhan value in nats: mean over batches of log(B (B - 1) / joint pairs).

    The score of joint pairs far above all others, in the batches of `clb_infonce`. More than log C, because the logarithm is
    concave (macro-averaging overestimates), and what SMILE has too as long as tau is far above log C.

    Computed exactly: 2.3998 for B = C = 10, 4.6151 for B = C = 100.
    """
    return _pair_averages(classes, batch)[1]


CLOSED_FORMS: dict[tuple[str, str], Callable[[int, int], float]] = {
    **{("slb", loss): lambda classes, batch: true_mi(classes) for loss in ("mine", "smile", "infonce", "nwj", "tuba")},
    ("slb", "js"): lambda classes, batch: slb_js(classes),
    ("clb", "mine"): clb_dv,
    ("clb", "smile"): clb_dv,
    ("clb", "infonce"): clb_infonce,
    ("clb", "nwj"): lambda classes, batch: clb_nwj(classes),
    ("clb", "tuba"): lambda classes, batch: clb_tuba(classes),
    ("clb", "js"): lambda classes, batch: clb_js(classes),
}


def closed_form(task: str, loss: str, classes: int, batch: int) -> float | None:
    """Where the training estimate of a loss ends in Table 2 when training succeeds, in nats; None where no form is known.

    A Re- twin has its bound's value: the limit of a small weight. A loss that never leaves its start (SMILE frozen, NWJ and
    TUBA overflowing in CLB) does not get there.

    Args:
        task: "slb" or "clb".
        loss: "mine" ... "js" or "remine" ... "rejs".
        classes: C.
        batch: B.
    """
    form = CLOSED_FORMS.get((task, loss.removeprefix("re")))
    return None if form is None else form(classes, batch)


@lru_cache
def _pair_averages(classes: int, batch: int) -> tuple[float, float]:
    """Saturated InfoNCE and DV values in nats, averaged over the batches with a joint pair.

    Label counts are independent Poisson(B / C) variables given that they sum to B. One Fourier transform over
    (images, pairs of one label) therefore has the law of all classes but one; the one left out is summed over.
    """
    n = np.arange(batch + 1)  # images of one class
    pairs = n * (n - 1) // 2
    rate = batch / classes
    one = np.exp(n * math.log(rate) - rate - np.array([math.lgamma(k + 1) for k in n]))
    law = np.zeros((2 * batch + 100, pairs[-1] + 1))  # rows enough that no probable number of images wraps around
    law[n, pairs] = one
    others = np.fft.irfft2(np.fft.rfft2(law) ** (classes - 1), s=law.shape).clip(min=0)

    total = infonce = dv = 0.0
    for k in n:
        count = pairs[k] + np.arange(pairs[-1] + 1 - pairs[k])  # of the whole batch
        chance = one[k] * others[batch - k, : len(count)]
        chance, count = chance[count > 0], count[count > 0]
        total += chance.sum()
        dv += (chance * np.log(batch * (batch - 1) / 2 / count)).sum()
        if k > 1:
            infonce += classes * (chance * pairs[k] / count).sum() * math.log((batch - 1) / (k - 1))
    return float(infonce / total), float(dv / total)


# ---- Dual representations (derivation1) ---------------------------------------------


# ---- Sample sizes (derivation2) ---------------------------------------------


# ---- Variance, drift and averages (derivation3) ---------------------------------------------


# ---- The benchmarks under noise and pairing (derivation4) ---------------------------------------------


# ---- The explosion (derivation5) ---------------------------------------------
