"""Six bounds on mutual information as pure functions of `Scores`, and the one function that makes their regularized twins.

Everything is in nats and in the log domain where the mathematics allows. P is the joint distribution, Q the product of
the marginals, LME(m) = log mean exp over the marginal scores.
"""

import inspect
import math
from collections.abc import Callable, Sequence
from itertools import accumulate
from numbers import Real
from typing import Literal, NamedTuple, get_args, get_origin

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from remi.losses.scores import Scores


class Reading(NamedTuple):
    """What one batch says; every field has the leading dimensions of the scores and is in nats."""

    estimate: Tensor  # what is reported as mutual information; never contains the regularizer
    objective: Tensor  # what is maximised: the loss is its negative
    joint_term: Tensor  # first term of the objective
    marginal_term: Tensor  # second term of the objective
    normalizer: Tensor  # what the regularizer pins: zero at the normalised critic, where the loss has one


Bound = Callable[..., Reading]
Estimator = Callable[[Scores], Reading]


def mine(scores: Scores, *, penalty: Literal["log", "variance"] = "log") -> Reading:
    """MINE, the Donsker-Varadhan bound.

        I(X; Y)  >=  E_P[T] - log E_Q[exp T]

    Tight at T = log dP/dQ + C for every constant C. Adding a constant to T changes nothing, so nothing holds the
    constant: the two terms drift. On batches the bound is unbounded above when some batches miss the support of P.

    Args:
        scores: the two populations.
        penalty: what the regularizer pins: "log" is LME(m). "variance", with target 0, has no place to go: two halves of the
            batch differ by D in LME(m), and the square of D / sqrt 2 is an unbiased estimate of its variance, at half the
            batch. By Proposition B (derivation 5) the target of "log" adds nothing to that where a critic can be shifted.

    Source: Choi & Lee (UAI 2022), eqs. 2 and 4; Belghazi et al. (2018); "variance" is ours.
    """
    joint, marginal = scores.joint_mean(), scores.log_mean_exp()
    if penalty == "variance":
        one, other = scores.halves()
        pinned = (one.log_mean_exp() - other.log_mean_exp()) / math.sqrt(2)
    return Reading(joint - marginal, joint - marginal, joint, marginal, pinned if penalty == "variance" else marginal)


def smile(scores: Scores, *, tau: float = 10.0, clip: Literal["marginal", "both"] = "marginal") -> Reading:
    """SMILE: Donsker-Varadhan with clipped scores.

        E_P[T] - log E_Q[exp clip(T, -tau, tau)]

    Clipping the second term only (eq. 9) leaves the value unbounded above. Clipping both terms, as the released image
    code does, bounds it by 2 tau, but where every score is beyond tau the gradient is exactly zero.

    Source: eq. 9; Song & Ermon (2020).
    """
    clipped = scores.map(lambda t: t.clamp(-tau, tau))
    joint = (clipped if clip == "both" else scores).joint_mean()
    marginal = clipped.log_mean_exp()
    return Reading(joint - marginal, joint - marginal, joint, marginal, scores.log_mean_exp())


def infonce(scores: Scores) -> Reading:
    """InfoNCE: each joint pair against its own row.

        mean over joint pairs (i, j) of  T_ij - log mean_k exp T_ik

    Bounded by log k when the positive is in its row, whatever the true value. The offset of a row cancels.

    Raises:
        ValueError: the joint pairs have no rows (`Scores(joint, marginal)`).

    Source: eq. 5; van den Oord et al. (2018).
    """
    joint, marginal = scores.joint_mean(), scores.row_log_mean_exp()
    return Reading(joint - marginal, joint - marginal, joint, marginal, marginal)


def nwj(
    scores: Scores, *, clip: Literal["both"] | None = None, tau: float = 10.0, target_of: Literal["eq15", "released"] = "eq15"
) -> Reading:
    """Nguyen-Wainwright-Jordan bound.

        I(X; Y)  >=  E_P[T] - E_Q[exp(T - 1)]

    Tight only at T = 1 + log dP/dQ: it notices an added constant, so its terms cannot drift. Below Donsker-Varadhan for
    every T. The second term is inf once the mean of exp(T - 1) leaves the range of the dtype.

    Args:
        scores: the two populations.
        clip: "both" clips T to [-tau, tau] in both terms (Table 1's setting for ReNWJ).
        tau: where to clip.
        target_of: the normalizer, unclipped: "eq15" is LME(m - 1), "released" the LME(m) of the authors' code, whose
            optimum is below the divergence (0.2165 nat at lam = 1).

    Source: eqs. 3, 6 and 15.
    """
    seen = scores.map(lambda t: t.clamp(-tau, tau)) if clip == "both" else scores
    joint, marginal = seen.joint_mean(), (seen.log_mean_exp() - 1).exp()
    normalizer = scores.log_mean_exp() - (1 if target_of == "eq15" else 0)
    return Reading(joint - marginal, joint - marginal, joint, marginal, normalizer)


def tuba(scores: Scores, *, clip: Literal["both"] | None = None, tau: float = 10.0) -> Reading:
    """TUBA with the constant baseline a(y) = 1 (Table 1).

        I(X; Y)  >=  E_P[T] - (E_Q[exp T] - 1)

    NWJ of T + 1: tight at T = log dP/dQ. The second term is inf once the mean of exp T leaves the range of the dtype.

    Args:
        scores: the two populations.
        clip: "both" clips T to [-tau, tau] in both terms.
        tau: where to clip.

    Source: eq. 7; Poole et al. (2019).
    """
    seen = scores.map(lambda t: t.clamp(-tau, tau)) if clip == "both" else scores
    joint, marginal = seen.joint_mean(), seen.log_mean_exp().exp() - 1
    return Reading(joint - marginal, joint - marginal, joint, marginal, scores.log_mean_exp())


def js(scores: Scores, *, evaluate: Literal["eq8", "nwj"] = "eq8", penalty: Literal["log", "softplus"] = "log") -> Reading:
    """Jensen-Shannon: train one quantity, report another.

        objective   E_P[-softplus(-T)] - E_Q[softplus(T)]        (2 JSD - 2 log 2 at its best, never positive)
        estimate    1 + E_P[T] - E_Q[exp T]                      (eq. 8, a lower bound for every T)

    The objective is tight at T = log dP/dQ, where eq. 8 is tight too. Its gradients are bounded, so training is calm.

    Args:
        scores: the two populations.
        evaluate: "nwj" reports E_P[T] - E_Q[exp(T - 1)] (Table 1): low by 1/e at the optimum.
        penalty: what the regularizer pins: "log" is LME(m), zero at the optimum; "softplus" the E_Q[softplus T] of the
            authors' code.

    Source: eq. 8 and Table 1; Poole et al. (2019), Nowozin et al. (2016).
    """
    # softplus(t) = -logsigmoid(-t); torch's softplus has other bits at the end of a tensor, hence for another stack
    joint, marginal = scores.map(logsigmoid).joint_mean(), -scores.map(lambda t: logsigmoid(-t)).marginal_mean()
    log_z = scores.log_mean_exp()
    estimate = scores.joint_mean() + (1 - log_z.exp() if evaluate == "eq8" else -(log_z - 1).exp())
    return Reading(estimate, joint - marginal, joint, marginal, log_z if penalty == "log" else marginal)


def squared_difference(normalizer: Tensor, target: float) -> Tensor:
    """The paper's distance: Euclidean for eq. 14; on a normalizer that is a log, log-Euclidean for eq. 15."""
    return (normalizer - target).square()


def regularized(
    bound: Estimator,
    lam: float | Tensor = 1.0,
    target: float = 0.0,
    penalty: Callable[[Tensor, float], Tensor] = squared_difference,
) -> Estimator:
    """The regularized twin of a bound: eqs. 10, 11, 14 and 15 in one line.

        objective  =  objective of the bound  -  lam * penalty(normalizer, target)

    The supremum over T stays the divergence for every penalty >= 0 that vanishes at equality, as long as adding a constant
    to T can bring the normalizer to its target (Theorem 1). The estimate is the bound's own.

    Args:
        bound: any function from scores to a reading.
        lam: weight of the penalty, >= 0; a tensor gives every run of a stack its own.
        target: C* in eq. 14.
        penalty: d(normalizer, target).

    Raises:
        ValueError: `lam` is a tensor, and its shape is not that of the runs.
    """

    def twin(scores: Scores) -> Reading:
        reading = bound(scores)
        if isinstance(lam, Tensor) and lam.shape not in ((), reading.objective.shape):
            raise ValueError(f"lam must have a value per run, {tuple(reading.objective.shape)}; got {tuple(lam.shape)}")
        return reading._replace(objective=reading.objective - lam * penalty(reading.normalizer, target))

    return twin


def side_by_side(parts: Sequence[tuple[int, Estimator]]) -> Estimator:
    """Several losses for one stack of runs: each reads so many runs, the first one the first of them.

    Args:
        parts: for how many runs, and the loss; together they are all runs of the stack.
    """
    ends = list(accumulate(count for count, _ in parts))

    def estimator(scores: Scores) -> Reading:
        readings = [loss(scores.runs(slice(end - count, end))) for end, (count, loss) in zip(ends, parts, strict=True)]
        return Reading(*map(torch.cat, zip(*readings, strict=True)))

    return estimator if len(parts) > 1 else parts[0][1]


RIVALS: dict[str, Bound] = {}  # entered by `remi.losses.rivals`, which needs this file
BOUNDS: dict[str, Bound] = {"mine": mine, "smile": smile, "infonce": infonce, "nwj": nwj, "tuba": tuba, "js": js}
NAMES = tuple(BOUNDS) + tuple("re" + name for name in BOUNDS)
LABELS = {"mine": "MINE", "smile": "SMILE", "infonce": "InfoNCE", "nwj": "NWJ", "tuba": "TUBA", "js": "JS"}
LABELS |= {"re" + name: "Re" + label for name, label in LABELS.items()}
SELF_NORMALIZED = ("nwj", "tuba")  # their target is fixed: another one would move the optimum (Theorem 1)


def family(name: str) -> str:
    """The bound behind a loss: "mine" for "mine" and "remine"; a rival is its own."""
    return name if name in BOUNDS else name.removeprefix("re")


def options(name: str) -> dict[str, inspect.Parameter]:
    """The options of a loss, with their defaults and allowed values.

    Raises:
        ValueError: there is no such loss.
    """
    name = _known(name)
    found = _keywords(_formula(name))
    if _is_twin(name):
        found |= {key: value for key, value in _keywords(regularized).items() if key in ("lam", "target")}
        if family(name) in SELF_NORMALIZED:
            del found["target"]
    return found


def get(name: str, **chosen: object) -> Estimator:
    """The loss called `name` ("mine" ... "js", or "remine" ... "rejs") as a function from scores to a reading.

    So are the later losses of `rivals`, which have no twins.

    "ReMINE", as it is printed, is "remine". A number may be NumPy's, and `lam` an array as well as a tensor.

    A batch without a joint pair gives estimate nan and objective 0 without gradient, so that a training loop survives it.

    Raises:
        ValueError: no such loss, an option that it does not have, or a value out of range; the message lists what is allowed.
    """
    name = _known(name)
    allowed = options(name)
    for key, value in chosen.items():
        if key not in allowed:
            raise ValueError(f"{name} has no option {key!r}; it has {', '.join(allowed) or 'none'}")
        chosen[key] = _check(key, value, allowed[key])
    own = {key: value for key, value in chosen.items() if key not in ("lam", "target")}
    estimator: Estimator = lambda scores: _formula(name)(scores, **own)  # noqa: E731
    if _is_twin(name):
        estimator = regularized(estimator, **{key: value for key, value in chosen.items() if key not in own})  # type: ignore[arg-type]
    return lambda scores: _skip_empty(estimator, scores)


def _skip_empty(estimator: Estimator, scores: Scores) -> Reading:
    if scores.complete:
        return estimator(scores)
    valid = scores.valid
    zeroed = scores.map(lambda t: torch.where(valid[(..., *[None] * (t.ndim - valid.ndim))], t, 0.0))
    reading = estimator(zeroed)  # zero scores: 0 * inf would be a gradient of nan
    flagged = Reading(*(torch.where(valid, value, torch.nan) for value in reading))
    return flagged._replace(objective=torch.where(valid, reading.objective, 0.0))


def _known(name: str) -> str:
    """The name as the registry spells it."""
    found = name.lower() if isinstance(name, str) else name
    if found not in NAMES and found not in RIVALS:
        raise ValueError(f"name must be one of {', '.join((*NAMES, *RIVALS))}; got {name!r}")
    return found


def _is_twin(name: str) -> bool:
    return name not in BOUNDS and name not in RIVALS


def _formula(name: str) -> Bound:
    return RIVALS[name] if name in RIVALS else BOUNDS[family(name)]


def _keywords(function: Callable[..., object]) -> dict[str, inspect.Parameter]:
    return {key: p for key, p in inspect.signature(function).parameters.items() if p.default is not p.empty}


def _check(key: str, value: object, parameter: inspect.Parameter) -> object:
    """The value of an option, a number as Python's own."""
    choices = [
        c
        for hint in (parameter.annotation, *get_args(parameter.annotation))
        if get_origin(hint) is Literal
        for c in get_args(hint)
    ]
    if choices:
        choices += [None] * (parameter.default is None)
        if value not in choices:
            raise ValueError(f"{key} must be one of {', '.join(map(repr, choices))}; got {value!r}")
        return value
    if isinstance(value, np.ndarray) and value.dtype.kind in "iuf" and (value.ndim == 0 or key == "lam"):
        value = torch.as_tensor(value, dtype=torch.get_default_dtype()) if value.ndim else value.item()
    if key == "lam" and isinstance(value, Tensor):
        if value.dtype == torch.bool or not bool(((value >= 0) & value.isfinite()).all()):
            raise ValueError(f"lam must be finite and >= 0 for every run; got {value!r}")
        return value
    limit, inside = {"lam": (" >= 0", lambda v: v >= 0), **dict.fromkeys(("tau", "nu"), (" > 0", lambda v: v > 0))}.get(
        key, ("", lambda v: True)
    )
    if not isinstance(value, Real) or isinstance(value, bool) or not math.isfinite(value) or not inside(value):
        raise ValueError(f"{key} must be a finite number{limit}; got {value!r}")
    return float(value)
