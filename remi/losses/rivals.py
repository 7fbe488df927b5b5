"""The losses that came later and hold the offset in other ways, beside the six bounds; and two upper readings.

What holds it: a class of samples from Q alone (`infonce_anchor`), the bias of a classifier (`sigmoid`), another divergence
(`fdime`), a second function (`flo`), or nothing, because it cancels (`dcl`). None of them has a twin here: where something holds
the offset already, a penalty has nothing to add. `estimators.get` finds those that need the scores alone.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

from torch import Tensor
from torch.nn.functional import logsigmoid

from remi.losses import estimators
from remi.losses.estimators import Reading
from remi.losses.scores import Scores, single


def infonce_anchor(scores: Scores, *, nu: float = 1.0) -> Reading:
    """InfoNCE with an anchor: which of K samples is from P, or, with weight nu, none?

        E log  (nu + K) e^T / (nu + S_1)   -   nu / K  E log  (nu + S_0) / (nu + K)

    S_0 sums exp T over K pairs from Q, S_1 over the joint pair and all of these but one. Best at T = log dP/dQ exactly, for every
    K, where InfoNCE leaves an offset free: so the estimate is E_P[T], which is no bound. As nu falls to 0 the objective becomes
    InfoNCE; for large K with nu / K = b it becomes E_P[T] - (1 + b) log (b + E_Q[exp T]) / (1 + b), which falls with b from
    Donsker-Varadhan to TUBA. With K = nu = 1 it is JS. Pairs from Q are a row's own; where pairs have no row, all.

    Args:
        scores: the two populations.
        nu: weight of the anchor, beside 1 for each of the K; 1 as published.

    Source: Ryu, Yeddanapudi, Xu & Wornell (ICLR 2026), the objective L_K,nu times -(K + nu) / K, plus a constant.
    """

    def part(t: Tensor, total: Tensor, log_k: Tensor) -> Tensor:
        return logsigmoid(math.log(nu) - log_k) - logsigmoid(math.log(nu) - total)  # log (nu + S) / (nu + K)

    def alone(t: Tensor, total: Tensor, log_k: Tensor) -> Tensor:
        return nu * (-log_k).exp() * part(t, total, log_k)

    joint, marginal = scores.joint_mean(), scores.row_mean(part, "swapped") + scores.row_mean(alone, "marginal")
    return Reading(joint, joint - marginal, joint, marginal, scores.log_mean_exp())


def sigmoid(scores: Scores) -> Reading:
    """The sigmoid loss of SigLIP: every pair by itself, joint or not, with as many marginal pairs to a joint one as there are.

        E_P log sigmoid(T) - m E_Q[softplus T]        m: marginal pairs per joint pair, n - 1 in a batch of n views

    Best at T = log dP/dQ - log m. The batch size is in the offset, so a critic of bounded scores needs a bias near -log m:
    `Loss("sigmoid", bias=-10, learn_bias=True, learn_temperature=True)` is SigLIP's. With m = 1 it is the JS objective. The
    estimate is eq. 8, a lower bound, at T + log m.

    Source: Zhai, Mustafa, Kolesnikov & Beyer (ICCV 2023), the loss with their t and b in T.
    """
    m = scores.marginal_pairs / scores.pairs.clamp_min(1)
    joint = scores.map(logsigmoid).joint_mean()
    marginal = -m * scores.map(lambda t: logsigmoid(-t)).marginal_mean()
    log_z = scores.log_mean_exp() + m.log()
    estimate = scores.joint_mean() + m.log() + 1 - log_z.exp()
    return Reading(estimate, joint - marginal, joint, marginal, log_z)


def fdime(scores: Scores, *, divergence: Literal["kl", "gan", "hd"] = "gan") -> Reading:
    """f-DIME: learn the density ratio by any f-divergence, then report the mean of its logarithm, E_P[T].

        kl    E_P[T] - (E_Q[exp T] - 1)                         TUBA
        gan   E_P[-softplus(-T)] - E_Q[softplus T]              JS
        hd    2 - E_P[exp(-T/2)] - E_Q[exp(T/2)]                squared Hellinger

    All are best at T = log dP/dQ. Without a second term the estimate is calm, and no bound: an offset of T goes into it whole.

    Args:
        scores: the two populations; their pairs from Q never pair an item with itself, the published derangement.
        divergence: f.

    Source: Letizia, Novello & Tonello (NeurIPS 2024), with their D = exp T, 1 / (1 + exp T) and exp(-T/2).
    """
    if divergence == "hd":
        joint = 1 - scores.map(lambda t: -t / 2).joint_log_mean_exp().exp()
        marginal = scores.map(lambda t: t / 2).log_mean_exp().exp() - 1
        return Reading(scores.joint_mean(), joint - marginal, joint, marginal, scores.log_mean_exp())
    reading = estimators.tuba(scores) if divergence == "kl" else estimators.js(scores)
    return reading._replace(estimate=scores.joint_mean())


def dcl(scores: Scores) -> Reading:
    """Decoupled contrastive loss: InfoNCE without the positive in its row.

        mean over joint pairs (i, j) of  T_ij - log mean_k exp T_ik,  k over the row's pairs that are not joint

    The offset of a row cancels, as in InfoNCE, but log k is no ceiling any more, and the value is no lower bound. It is the
    leave-one-out reading: with T(y, x) = log p(y|x), rows anchored at y, its mean lies above I(X; Y).

    Raises:
        ValueError: nothing says which entries of a row are joint pairs (`Scores(joint, marginal)`, `from_logits`).

    Source: Yeh and others (ECCV 2022), L_DC, up to the log of the number of negatives; Poole et al. (2019), eq. 13.
    """
    joint = scores.row_mean(lambda t, total, log_n: t, "negative")
    marginal = scores.row_mean(lambda t, total, log_n: total - log_n, "negative")
    return Reading(joint - marginal, joint - marginal, joint, marginal, marginal)


@dataclass(frozen=True)
class TwoScores(Scores):
    """Scores of a critic with a second output, as FLO trains it.

    Args:
        second: (..., n) that output on the joint pairs.
    """

    second: Tensor = field(kw_only=True)


def with_second(score: Callable[..., Scores]) -> Callable[..., TwoScores]:
    """From a batch to the scores of a critic of two outputs, which `score` has as the first dimension: T, then u."""

    def two(*batch: Tensor) -> TwoScores:
        both = score(*batch)
        return TwoScores(**vars(both.runs(0)), second=both.joint[1])

    return two


def flo(scores: Scores, u: Tensor) -> Reading:
    """Fenchel-Legendre optimisation: a second function u(x, y) learns what the first leaves open.

        I(X; Y)  >=  1 - E_P[u + exp(-u) E_Q[exp(T(x, y') - T(x, y))]]

    Tight at T = log dP/dQ + c(x) for every c, and u = -log dP/dQ: T's offset cancels and u is pinned. With u = -T it is TUBA, and
    the best u for a given T makes it the mean over pairs of T - log E_Q[exp T(x, y')], without any logarithm of a batch.
    Its second term is inf once the exponential leaves the range of the dtype.

    Args:
        scores: the two populations; a pair's y' are those of its row, or of all where pairs have no row.
        u: (..., n) the second function on the joint pairs, as `scores.joint` has them; of the same network or another.

    Raises:
        ValueError: `u` has another shape.

    Source: Guo and others (NeurIPS 2022), with g for T.
    """
    total, log_n, _ = scores.row("marginal")
    if u.shape != scores.joint.shape:
        raise ValueError(f"u must have a value per joint pair, {tuple(scores.joint.shape)}; got {tuple(u.shape)}")
    joint = -replace(scores, joint=single(u)).joint_mean()
    marginal = replace(scores, joint=total - log_n - scores.joint - u).joint_log_mean_exp().exp() - 1
    return Reading(joint - marginal, joint - marginal, joint, marginal, scores.log_mean_exp())


def club(scores: Scores) -> Reading:
    """CLUB, an upper reading.

        E_P[T] - E_Q[T]  >=  I(X; Y)        at T(x, y) = log p(y|x), which must be known, or learned by likelihood

    It is for making mutual information small. Other T may lie on either side, and made large it has no maximum.

    Source: Cheng and others (ICML 2020), eq. 4.
    """
    joint, marginal = scores.joint_mean(), scores.marginal_mean()
    return Reading(joint - marginal, joint - marginal, joint, marginal, marginal)


RIVALS = {"infonce_anchor": infonce_anchor, "sigmoid": sigmoid, "fdime": fdime, "dcl": dcl}
estimators.RIVALS |= RIVALS
