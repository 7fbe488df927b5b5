"""The closed forms, chapter by chapter: what theory says a number has to be, in nats; notebooks and checks confront them."""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq, minimize_scalar
from scipy.special import logsumexp, softmax, xlogy
from scipy.stats import binom

# ---- Dual representations (derivation1) ---------------------------------------------


def value_at_offset(loss: str, offset: float, lam: float = 1.0) -> float:
    """Objective at the critic log r + a, minus the divergence, in nats: the same for every P and Q (C* = 0).

    mine            0                                    DV does not see a constant
    remine          -lam a^2
    nwj             a - exp(a - 1)                       0 at a = 1, below it elsewhere
    renwj           a - exp(a - 1) - lam (a - 1)^2       eq. 15
    renwj-released  a - exp(a - 1) - lam a^2             the authors' code

    Source: log E_Q[exp(log r + a)] = a.
    """
    a, nwj = offset, offset - math.exp(offset - 1)
    return {
        "mine": 0.0,
        "remine": -lam * a**2,
        "nwj": nwj,
        "renwj": nwj - lam * (a - 1) ** 2,
        "renwj-released": nwj - lam * a**2,
    }[loss]


def released_offset(lam: float) -> float:
    """Where the released ReNWJ target puts the critic log r + a: the root of 1 - exp(a - 1) = 2 lam a, between 0 and 1."""
    return float(brentq(lambda a: 1 - math.exp(a - 1) - 2 * lam * a, 0.0, 1.0))


def released_cost(lam: float) -> float:
    """What the estimate (without penalty) lacks at the best critic of the released target: exp(a - 1) - a, in nats."""
    return -value_at_offset("nwj", released_offset(lam))


# ---- Sample sizes (derivation2) ---------------------------------------------


def printed_samples(
    bound: float, eps: float, delta: float, radius: float, lipschitz: float = 1.0, dimension: int = 1, averages: int = 1
) -> float:
    """The sample size that eqs. 17 and 19 print: (d log(24 K L sqrt(d) / eps) + 2 d M + log(2 / delta)) 2 M^2 / (eps^2 k).

    Args:
        bound: M, the largest value of the critics.
        eps: accuracy in nats.
        delta: share of failures that is allowed.
        radius: K, the largest parameter.
        lipschitz: L, of the critic in its parameters.
        dimension: d, number of parameters.
        averages: k, "the number of sample means".
    """
    bracket = dimension * math.log(24 * radius * lipschitz * math.sqrt(dimension) / eps)
    return (bracket + 2 * dimension * bound + math.log(2 / delta)) * 2 * bound**2 / (eps**2 * averages)


def remine_samples(
    bound: float,
    eps: float,
    delta: float,
    radius: float,
    lipschitz: float = 1.0,
    dimension: int = 1,
    lam: float = 1.0,
    target: float = 0.0,
) -> float:
    """A sample size that suffices for ReMINE: 768 G^2 exp(2 M) / eps^2 (d log(16 K L (1 + G) sqrt(d) / eps) + log(4 / delta)).

    G = 1 + 2 lam (M + |C*|), eps <= 8 G; arguments as in `printed_samples`, but M bounds |T|. Theorem 3, corrected.
    """
    growth = 1 + 2 * lam * (bound + abs(target))
    cover = dimension * math.log(max(1.0, 16 * radius * lipschitz * (1 + growth) * math.sqrt(dimension) / eps))
    return 768 * growth**2 * math.exp(2 * bound) / eps**2 * (cover + math.log(4 / delta))


def renwj_samples(
    bound: float, eps: float, delta: float, radius: float, lipschitz: float = 1.0, dimension: int = 1, lam: float = 1.0
) -> float:
    """A sample size that suffices for ReNWJ of eq. 15: worst / eps^2 (d log(16 K L G sqrt(d) / eps) + log(6 / delta)).

    worst = max(288 M^2, 72 exp(2 (M - 1)), 6912 lam^2 (M + 1)^2 exp(2 M)), G = 1 + exp(M - 1) + 2 lam (M + 1),
    eps <= 24 lam (M + 1) unless lam = 0; arguments as in `remine_samples`. Theorem 4, corrected.
    """
    growth = 1 + math.exp(bound - 1) + 2 * lam * (bound + 1)
    worst = max(288 * bound**2, 72 * math.exp(2 * (bound - 1)), 6912 * (lam * (bound + 1)) ** 2 * math.exp(2 * bound))
    cover = dimension * math.log(max(1.0, 16 * radius * lipschitz * growth * math.sqrt(dimension) / eps))
    return worst / eps**2 * (cover + math.log(6 / delta))


def rare_event_mi(bound: float) -> float:
    """Divergence of the rare-event law in nats: log cosh M.

    An event has probability 1/2 under P and q = 1 / (1 + exp(2 M)) under Q. Its best critic is M on the event and -M off it,
    with E_Q[exp T] = 1 / cosh M. With N = 1 / q symbols it is a noisy one-hot problem: Y is X half of the time, else another.
    """
    return math.log(math.cosh(bound))


def rare_event_probability(bound: float) -> float:
    """Probability q = 1 / (1 + exp(2 M)) of the rare event under Q."""
    return 1 / (1 + math.exp(2 * bound))


def relative_variance(bound: float) -> float:
    """Largest Var(exp T) / E[exp T]^2 of any |T| <= M: sinh(M)^2, taken by the rare-event law under Q."""
    return math.sinh(bound) ** 2


def least_samples(bound: float, eps: float, delta: float) -> float:
    """Below this sample size no estimator has at most delta failures on all rare-event laws up to M.

    (exp(-4 eps) cosh(M)^2 - 1) log(1 / (4 delta)) / (2 eps^2), where that is positive; of the order of exp(2 M) / eps^2.

    Source: Bretagnolle-Huber inequality for two such laws whose divergences differ by 2 eps.
    """
    return max(0.0, (math.exp(-4 * eps) * math.cosh(bound) ** 2 - 1) * math.log(1 / (4 * delta)) / (2 * eps**2))


def rare_event_failure(samples: int, bound: float, eps: float, lam: float = 0.0, radius: float = 0.0) -> float:
    """Exact probability that ReMINE of eq. 14 is off by more than eps on the rare-event law; lam = 0 for the reported value.

    Critics T + theta, |theta| <= K, with target C* = log Z. With k of n joint and h of n marginal pairs in the event, k and h
    binomial: the value is M (2 k / n - 1) - l - lam g^2, l = log mean exp of the scores, g what theta leaves of l - C*.

    Args:
        samples: n.
        bound: M.
        eps: accuracy in nats.
        lam: weight of the penalty.
        radius: K.
    """
    truth, chance = rare_event_mi(bound), rare_event_probability(bound)
    hits = np.arange(min(samples, int(samples * chance + 12 * math.sqrt(samples * chance) + 30)) + 1)
    log_z = np.log((hits * math.exp(bound) + (samples - hits) * math.exp(-bound)) / samples)
    taken_off = log_z + lam * np.maximum(np.abs(log_z + truth) - radius, 0) ** 2
    highest, lowest = ((1 + (truth + taken_off + side * eps) / bound) * samples / 2 for side in (1, -1))
    close = binom.cdf(np.floor(highest), samples, 0.5) - binom.cdf(np.ceil(lowest) - 1, samples, 0.5)
    return max(0.0, float(1 - binom.pmf(hits, samples, chance) @ close))


def rare_event_samples(bound: float, eps: float, delta: float) -> int:
    """The sample size from which on MINE fails with probability delta or less on the rare-event law; exact to 1%.

    Bisection of `rare_event_failure`, which falls with n but for a wobble: counts are whole numbers.
    """
    low, high = 1.0, 100 * relative_variance(bound) / (eps**2 * delta)  # Chebyshev, with room for the first term
    while high > 1.01 * low:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if rare_event_failure(int(middle), bound, eps) <= delta else (middle, high)
    return int(high)


def rare_event_excess(bound: float, batch: int) -> float:
    """How much MINE reads too high on average over batches, in nats: E[-log(mean exp T / Z)] on the rare-event law (Jensen)."""
    return two_level_batch(0.5, rare_event_probability(bound), batch, 2 * bound)[0] - rare_event_mi(bound)


def log_penalty_threshold() -> float:
    """Where (log x)^2 = |x - 1| below 1: 0.48941; the squared log-Euclidean distance to 1 is the larger one from there to 0."""
    return float(brentq(lambda x: math.log(x) ** 2 - (1 - x), 0.1, 0.9))


def no_collision(draws: int, symbols: int) -> float:
    """Probability that independent uniform draws are all different."""
    return float(np.exp(np.log1p(-np.arange(draws) / symbols).sum()))


def best_nwj_above_one(symbols: int) -> float:
    """The best NWJ value on the one-hot problem with T >= 1: log N - 1 + 1/N, in nats, of log N."""
    return math.log(symbols) - 1 + 1 / symbols


# ---- Variance, drift and averages (derivation3) ---------------------------------------------


def gaussian_chi_square(mi: float) -> float:
    """Variance of dP/dQ under Q for correlated Gaussians: exp(2 I) - 1, whatever the dimension; no unit.

    A coordinate pair with correlation rho has E_Q[r^2] = 1 / (1 - rho^2), the exponential of twice its information.
    """
    return math.expm1(2 * mi)


def second_term_variance(constant: float, chi_square: float, batch: int) -> float:
    """Variance of the mean of exp(T) over B independent pairs, T = log dP/dQ + C: exp(2 C) chi^2 / B; no unit. Theorem 5."""
    return math.exp(2 * constant) * chi_square / batch


def drift_cost(offsets: ArrayLike) -> float:
    """What micro-averaged Donsker-Varadhan loses to offsets C_t: log mean exp(C_t) - mean C_t >= 0, in nats. Theorem 6."""
    c = np.asarray(offsets, dtype=float)
    return float(logsumexp(c) - math.log(len(c)) - c.mean())


def linear_drift_cost(total: float, batches: int) -> float:
    """`drift_cost` of k offsets 0, v, ..., (k - 1) v = total: log((exp(v k) - 1) / (k (exp(v) - 1))) - total / 2, in nats."""
    v = total / (batches - 1)
    return math.log(math.expm1(v * batches) / (batches * math.expm1(v))) - total / 2 if v else 0.0


def pooled_bias(offsets: ArrayLike, chi_square: float, batch: int) -> float:
    """Bias of micro-averaged Donsker-Varadhan at T = log dP/dQ + C_t, in nats, to first order in 1/B.

        -(log mean exp C_t - mean C_t)  +  chi^2 / (2 B) * sum_t w_t^2,       w_t = exp C_t / sum_s exp C_s

    Drift costs, and leaves 1 / sum_t w_t^2 of the k batches to average over. Without drift: chi^2 / (2 B k).
    """
    w = softmax(np.asarray(offsets, dtype=float))
    return -drift_cost(offsets) + chi_square / (2 * batch) * float(w @ w)


def offset_cost(offset: float) -> float:
    """What NWJ, TUBA and JS (eq. 8) read too low when the best critic is C too high: exp(C) - 1 - C >= 0, in nats."""
    return math.expm1(offset) - offset


def two_level_smile(offset: float, separation: float, tau: float, symbols: int = 16) -> float:
    """SMILE of eq. 9 on the one-hot problem, critic C on the diagonal and C - s off it, in nats.

    C - log(exp(clip(C)) / N + (1 - 1/N) exp(clip(C - s))), clip to [-tau, tau]: beyond tau it moves with C.
    """
    upper, lower = (min(max(level, -tau), tau) for level in (offset, offset - separation))
    return offset - math.log(math.exp(upper) / symbols + math.exp(lower) * (1 - 1 / symbols))


# ---- The benchmarks under noise and pairing (derivation4) ---------------------------------------------


def entropy(counts: ArrayLike) -> float:
    """H(Y) in nats of labels that occur `counts` times."""
    n = np.asarray(counts, dtype=float)
    return float(-xlogy(n / n.sum(), n / n.sum()).sum())


def noisy_label_mi(classes: int, error: float) -> float:
    """I(X; Y) in nats of C uniform labels of which a share e is wrong, evenly: log C - h(e) - e log(C - 1). Theorem 7.

    h(e) = -e log e - (1 - e) log(1 - e); 1.758 for C = 10, e = 0.1.
    """
    return math.log(classes) - entropy([error, 1 - error]) - float(xlogy(error, classes - 1))


def noisy_pair_mi(classes: int, error: float) -> float:
    """I(X1; X2) in nats of two images drawn with the same noisy label: the wrong labels count twice. Theorem 8.

    Their true classes agree with probability (1 - e)^2 + e^2 / (C - 1), and differ evenly otherwise.
    """
    agree = (1 - error) ** 2 + error**2 / (classes - 1)
    return noisy_label_mi(classes, 1 - agree)


def distinct_pair_excess(images: float) -> float:
    """What drawing X2 among the other images of X1's class adds to H(Y): log(m / (m - 1)) for m images a class, in nats."""
    return -math.log1p(-1 / images)


def distinct_pair_ceiling(classes: int, images: int) -> float:
    """What a saturated critic reads when neither population pairs an image with itself: log((C m - 1) / (m - 1)), in nats."""
    return math.log((classes * images - 1) / (images - 1))


# ---- Where the MI column of Table 2 has to end up (derivation6) ---------------------------------------------
#
# C classes with uniform labels, batches of B images, critics that separate the classes perfectly. The supervised benchmark (SLB)
# averages its second term over all C labels, so it has no sampling noise at the optimum. The contrastive one (CLB) has critic
# f(x1) . f(x2) with features f >= 0 (ResNet-18 without its last layer ends in a ReLU), hence T >= 0: the best critic is a on
# pairs of one label and b = 0 on the others. Training draws a batch without replacement, which adds `distinct_pair_excess`.
# That the published numbers agree with these forms is evidence, not proof.


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


def clb_remine(classes: int, lam: float) -> float:
    """Estimate of the best ReMINE critic with T >= 0, C* = 0: the penalty wants E_Q[exp T] = 1, T >= 0 wants it above; nats.

    a on pairs of a class, 0 on the others, z = log(exp(a) / C + 1 - 1/C): a - z at the maximum of a - z - lam z^2.
    2.054, 2.248 and 2.293 for C = 10 and lam = .1, .01 and .001.
    """

    def second(a: float) -> float:
        return float(logsumexp([a, 0.0], b=[1 / classes, 1 - 1 / classes]))

    best = minimize_scalar(lambda a: -(a - second(a) - lam * second(a) ** 2), bounds=(0, 100), method="bounded").x
    return float(best - second(best))


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


# ---- The explosion (derivation5) ---------------------------------------------


def miss(marginal: float, batch: int) -> float:
    """Probability that a batch from Q has no pair in a set A with Q(A) = `marginal`: (1 - Q(A))^B.

    On the one-hot problem A is the diagonal, Q(A) = 1/N: .524, .127 and .0016 for N = 16 and B = 10, 32 and 100.
    """
    return (1 - marginal) ** batch


def explosion_slope(joint: float, marginal: float, batch: int) -> float:
    """What a nat of distance between A and the rest is worth to MINE on an average batch: P(A) - nu_B(A), no unit.

    Here nu_B(A) = 1 - (1 - Q(A))^B is the probability that a batch from Q meets A. Where the slope is positive for some A
    the mean over batches of MINE's estimate has no maximum; where it is positive for none, that mean is at most log B.

    Args:
        joint: P(A).
        marginal: Q(A).
        batch: B.

    Source: Proposition A of notebooks/derivation5_explosion.ipynb.
    """
    return joint - (1 - miss(marginal, batch))


def two_level_dv(joint: float, marginal: float, s: float) -> float:
    """Donsker-Varadhan value in nats of the critic that is s higher on A than elsewhere.

        -(1 - P(A)) s - log(Q(A) + (1 - Q(A)) exp(-s))

    On the one-hot problem, P(A) = 1 and Q(A) = 1/N: log N - log(1 + (N - 1) exp(-s)), below log N for every finite s, so that
    the supremum is not attained.
    """
    return -(1 - joint) * s - float(logsumexp([0.0, -s], b=[marginal, 1 - marginal]))


def two_level_batch(joint: float, marginal: float, batch: int, s: float) -> tuple[float, float]:
    """Mean and standard deviation over batches, in nats, of MINE's estimate for the critic that is s higher on A.

    A batch is known by its number k of pairs in A, binomial(B, Q(A)); the second term is log((k + (B - k) exp(-s)) / B), up
    to the critic's offset. The first term is taken as exact, so the standard deviation is that of the second.

    Exact: 2.70 and .63 on the one-hot problem with N = 16, B = 32, s = 4, where `two_level_dv` is 2.53.
    """
    k = np.arange(batch + 1)
    chance = binom.pmf(k, batch, marginal)
    log_z = logsumexp([[0.0], [-s]], axis=0, b=[k / batch, 1 - k / batch])
    mean = float(chance @ log_z)
    return -(1 - joint) * s - mean, math.sqrt(float(chance @ np.square(log_z - mean)))


def remine_bound(divergence: float, chi_square: float, batch: int, lam: float) -> float:
    """No critic and no target give ReMINE a mean over batches above min(D, log B) + chi^2 / (4 lam B), in nats.

    Args:
        divergence: D = KL(P || Q) in nats.
        chi_square: variance of dP/dQ under Q; N - 1 on the one-hot problem.
        batch: B, independent marginal pairs.
        lam: weight of the penalty.

    Attained at B = 1. Source: Proposition C of notebooks/derivation5_explosion.ipynb.
    """
    return min(divergence, math.log(batch)) + chi_square / (4 * lam * batch)


class Optimum(NamedTuple):
    """Where ReMINE's mean over batches is largest among critics with two levels; everything in nats."""

    separation: float  # level on A minus level elsewhere
    objective: float  # mean over batches, penalty included
    estimate: float  # mean over batches of the reported value
    pooled: float  # Donsker-Varadhan value of the critic on the whole population
    spread: float  # standard deviation over batches of the second term
    on: float  # level on A
    off: float  # level elsewhere


def finite_optimum(joint: float, marginal: float, batch: int, lam: float, target: float = 0.0) -> Optimum:
    """The best critic with two levels for ReMINE at a finite batch size.

    Maximises mean - lam sd^2 over the separation s (Proposition B); the offset follows, since the second term has the mean
    `target`. Exact law of the batches, numerical maximum over one number. For one-hot, P(A) = 1 and Q(A) = 1/N.

    With P(A) = 1 and small lam the lower level rests at target - 1 / (2 lam), where a batch without a pair in A stops pushing.
    """

    def objective(s: float) -> float:
        mean, spread = two_level_batch(joint, marginal, batch, s)
        return mean - lam * spread**2

    grid = np.linspace(0, 10 + 1 / (marginal * lam), 500)  # at B = 1, the extreme, s is at most 1 / (2 lam Q(A))
    best = grid[np.argmax([objective(s) for s in grid])]
    around = (max(0.0, best - grid[1]), best + grid[1])
    s = float(minimize_scalar(lambda s: -objective(s), bounds=around, method="bounded", options={"xatol": 1e-9}).x)
    mean, spread = two_level_batch(joint, marginal, batch, s)
    on = target + mean + (1 - joint) * s
    return Optimum(s, mean - lam * spread**2, mean, two_level_dv(joint, marginal, s), spread, on, on - s)


def nwj_curvature(symbols: int, batch: int, k: int) -> float:
    """Curvature of NWJ's batch objective along T_diag at the best one-hot critic: N k / B with k diagonal pairs, no unit.

    One on average; e times larger with every nat that T_diag is too high. Along the same direction MINE's curvature is
    w (1 - w), with w the softmax weight of the diagonal pairs: never above 1/4.
    """
    return symbols * k / batch
