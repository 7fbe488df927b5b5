"""The losses on extreme scores, against their formulas in float64: exact, or the infinity that the formula has, never nan."""

import math

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_estimators import each_case, formula

from remi.losses.estimators import NAMES, Reading, get, options
from remi.losses.scores import Scores

STACK = 8  # matrices of one example
TYPES = {  # of the numbers, their limit, and of the arithmetic; remi trains with the first and the second
    "float32": (torch.float32, 1e4, torch.float32),
    "bfloat16 in float32": (torch.bfloat16, 6e4, torch.float32),
    "bfloat16": (torch.bfloat16, 6e4, torch.bfloat16),
}


# ---- The oracle: values and gradients from the formulas of design.md, section 5 -----------------------------------------


def log_mean_exp(m, kept):
    """Over the last axis: the value, and its derivatives."""
    shift = np.where(kept, m, -np.inf).max(-1, keepdims=True)
    e = np.where(kept, np.exp(np.where(kept, m - shift, 0)), 0)
    return shift[..., 0] + np.log(e.sum(-1) / kept.sum(-1)), e / e.sum(-1, keepdims=True)


def softplus(t):
    return np.maximum(t, 0) + np.log1p(np.exp(-abs(t)))


def sigmoid(t):
    return np.exp(-softplus(-t))


def exp(t):
    with np.errstate(over="ignore"):
        return np.exp(t)


def oracle(
    name,
    j,
    m,
    j_kept,
    m_kept,
    row_kept,
    lam=1.0,
    target=0.0,
    tau=10.0,
    clip=None,
    target_of="eq15",
    evaluate="eq8",
    penalty="log",
):
    """A reading, the derivatives of its objective by j (n,) and m (rows, k), and the largest number in the latter."""
    family, both = name.removeprefix("re"), clip == "both"
    flat, flat_kept, shape = m.ravel(), m_kept.ravel(), m.shape
    weigh_j, weigh_m = j_kept / j_kept.sum(), flat_kept / flat_kept.sum()
    inside_j, inside_m = abs(j) < tau, abs(flat) < tau
    mean_j = (weigh_j * j).sum()
    log_z, softmax = log_mean_exp(flat, flat_kept)
    joint, by_j, normalizer, normalizer_by_m = mean_j, weigh_j, log_z, softmax
    clipped_z, clipped_softmax = log_mean_exp(flat.clip(-tau, tau), flat_kept)
    if both:
        joint, by_j = (weigh_j * j.clip(-tau, tau)).sum(), weigh_j * inside_j
    if family == "mine":
        marginal, by_m = log_z, softmax
    elif family == "smile":
        marginal, by_m = clipped_z, clipped_softmax * inside_m
    elif family == "infonce":
        pairs = j_kept.reshape(len(m), -1).sum(-1)  # of every row
        used = pairs > 0
        rows, softmaxes = log_mean_exp(m[used], row_kept[used])
        marginal, by_m = (pairs[used] * rows).sum() / pairs.sum(), np.zeros(shape)
        by_m[used] = pairs[used, None] / pairs.sum() * softmaxes
        normalizer, normalizer_by_m = marginal, by_m.ravel()
        by_m = by_m.ravel()
    elif family in ("nwj", "tuba"):
        one = family == "nwj"
        z, weights = (clipped_z, clipped_softmax * inside_m) if both else (log_z, softmax)
        marginal, by_m = exp(z - one) - (not one), exp(min(z - one, 700.0)) * weights
        normalizer = log_z - (one and target_of == "eq15")
    else:
        joint, by_j = -(weigh_j * softplus(-j)).sum(), weigh_j * sigmoid(-j)
        marginal, by_m = (weigh_m * softplus(flat)).sum(), weigh_m * sigmoid(flat)
        if penalty == "softplus":
            normalizer, normalizer_by_m = marginal, by_m
    estimate = joint - marginal
    if family == "js":
        estimate = mean_j - (exp(log_z) - 1 if evaluate == "eq8" else exp(log_z - 1))
    weight, off = (lam, normalizer - target) if name.startswith("re") else (0.0, 0.0)
    reading = Reading(estimate, joint - marginal - weight * off**2, joint, marginal, normalizer)
    made_of = abs(by_m).max() + 2 * weight * max(1, abs(normalizer), abs(target)) * abs(normalizer_by_m).max()
    return reading, by_j, (-by_m - 2 * weight * off * normalizer_by_m).reshape(shape), made_of


# ---- Scores that hurt ---------------------------------------------------------------------------------------------------

KINDS = {  # values of a given size, before they are cut at the limit
    "normal": lambda rng, size, scale: scale * rng.normal(size=size),
    "ties": lambda rng, size, scale: scale * rng.integers(-2, 3, size) / 2,
    "two levels": lambda rng, size, scale: scale * rng.choice([-1, 1], size),
    "constant": lambda rng, size, scale: np.full(size, scale * rng.choice([-1, 0, 1])),
    "outlier": lambda rng, size, scale: np.where(
        np.arange(size) == rng.integers(size), scale * rng.choice([-1, 1]), rng.normal()
    ),
}
CHOICES = {
    "tau": (0.51, 10.1, 50.3),  # no score lies on one: which derivative it has there is PyTorch's choice
    "target_of": ("eq15", "released"),
    "evaluate": ("eq8", "nwj"),
    "penalty": ("log", "softplus"),
    "lam": (0.0, 0.1, 1.0, 10.0),
    "target": (-5.0, 0.0, 5.0),
}


@st.composite
def stacks(draw, name, largest):
    """Options of a loss, and scores for it: a stack of matrices, each of its own kind and magnitude."""
    clips = ("marginal", "both") if name.endswith("smile") else (None, "both")
    asked = [key for key in options(name) if key != "penalty" or name.endswith("js")]  # MINE's has a test of its own
    chosen = {key: draw(st.sampled_from(clips if key == "clip" else CHOICES[key]), label=key) for key in asked}
    setting = draw(st.sampled_from(["matrix", "labels"] + ["unpaired"] * (not name.endswith("infonce"))), label="setting")
    n = draw(st.integers(2, min(largest, 40)) | st.integers(2, largest), label="n")
    numbers, limit, arithmetic = TYPES[draw(st.sampled_from(list(TYPES)), label="type")]
    kinds = draw(st.lists(st.sampled_from(list(KINDS)), min_size=STACK, max_size=STACK), label="kinds")
    powers = draw(st.lists(st.floats(-3, math.log10(limit)), min_size=STACK, max_size=STACK), label="powers of ten")
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1), label="seed"))
    rows, k = (n, 3) if setting == "unpaired" else (n, n)
    values = [KINDS[kind](rng, n + rows * k, 10**power) for kind, power in zip(kinds, powers, strict=True)]
    rounded = torch.tensor(np.clip(values, -limit, limit), dtype=numbers).to(arithmetic)
    joint, marginal = rounded[:, :n], rounded[:, n:].reshape(STACK, rows, k)
    joint_mask = marginal_mask = row_mask = None
    others = ~torch.eye(n, dtype=torch.bool)
    if setting == "matrix":
        marginal_mask = others
    if setting == "labels":  # as `from_embeddings` has them, but for whole rows that are left out
        labels = torch.tensor(rng.integers(0, rng.integers(1, 2 * n, (STACK, 1)), (STACK, n)))
        used = torch.tensor(rng.random((STACK, n, 1)) < 0.8) | (torch.arange(n) == 0).unsqueeze(-1)
        marginal_mask = row_mask = others & used
        joint_mask = ((labels.unsqueeze(-1) == labels.unsqueeze(-2)) & row_mask).flatten(-2)
        joint = marginal.flatten(-2)
    leaves = [part.clone().requires_grad_() for part in (joint, marginal)]
    return chosen, Scores(*leaves, joint_mask, marginal_mask, row_mask, rowwise=setting != "unpaired")


def wrong(name, chosen, scores):
    """How a stack of readings, or its gradient, differs from the formula: one line per wrong matrix."""
    reading = get(name, **chosen)(scores)
    leaves = (scores.joint, scores.marginal)
    gradients = [part.double().numpy() for part in torch.autograd.grad(reading.objective.sum(), leaves)]
    readings = torch.stack(reading, -1).detach().double().numpy()
    arrays = [part.detach().double().numpy() for part in leaves]
    masks = zip((scores.joint_mask, scores.marginal_mask, scores.row_mask), (*leaves, scores.marginal), strict=True)
    kept = [np.broadcast_to(True if mask is None else mask.numpy(), part.shape) for mask, part in masks]
    info, found = torch.finfo(scores.joint.dtype), []
    for run in range(STACK):
        got, by_j, by_m = Reading(*readings[run]), gradients[0][run], gradients[1][run]
        j, m, j_kept, m_kept, row_kept = (part[run] for part in (*arrays, *kept))
        if not j_kept.any():  # no joint pair: the batch is skipped
            if not (math.isnan(got.estimate) and got.objective == 0 and not by_j.any() and not by_m.any()):
                found.append(f"run {run}, without a joint pair: {got}")
            continue
        wanted, wanted_by_j, wanted_by_m, made_of = oracle(name, j, m, j_kept, m_kept, row_kept, **chosen)
        largest = max(1.0, abs(j[j_kept]).max(), abs(m[m_kept]).max(), abs(m[row_kept]).max())
        scale = max([largest, math.log(m.size), *(abs(value) for value in wanted if abs(value) < info.max)])
        for field, value, want in zip(Reading._fields, got, wanted, strict=True):
            near = info.max / (1.001 if info.bits == 32 else 8) < abs(want) < info.max * (1.001 if info.bits == 32 else 8)
            if near:  # rounding decides whether it overflows
                right = value == math.copysign(math.inf, want) or value * want > 0
            elif abs(want) > info.max:
                right = value == math.copysign(math.inf, want)
            else:
                right = abs(value - want) <= 1e-5 * scale if info.bits == 32 else math.isfinite(value)
            if not right:
                found.append(f"run {run}: {field} is {value}, not {want} (largest magnitude {scale})")
        # the scores themselves are known to half a unit in their last place, and a softmax inherits that
        share = 1e-5 + info.eps * largest
        for side, value, want, magnitude in (
            ("joint", by_j, wanted_by_j, 1.0 / j_kept.sum()),
            ("marginal", by_m, wanted_by_m, made_of),
        ):
            if side == "marginal" and abs(wanted.objective) > info.max / 8:
                continue  # see `test_where_the_second_term_overflows...`
            # a weight beside the largest, which may be clipped and have no gradient itself, is nothing below the smallest number
            lost = info.tiny * max(1.0, abs(wanted.marginal_term))
            exact = (abs(value - want) <= share * magnitude + lost).all() if info.bits == 32 else np.isfinite(value).all()
            if not exact:
                found.append(f"run {run}: the gradient of the {side} scores is off by {abs(value - want).max()} of {magnitude}")
    return found


@pytest.mark.verify
@pytest.mark.parametrize("name", NAMES)
def test_extreme_scores_are_read_as_the_formula_says(name, long, tally):
    lost, examples = [], 1250 if long else 25

    @settings(max_examples=examples, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(stacks(name, 512 if long else 64))
    def check(case):
        lost.extend(found := wrong(name, *case))
        assert not found, found[0]

    check()
    tally(f"extreme scores, {name}", "score matrix", examples * STACK, lost)


@pytest.mark.parametrize("name", ["nwj", "tuba", "renwj", "retuba"])
def test_where_the_second_term_overflows_the_gradient_says_so_and_the_first_terms_is_exact(name):
    """The gradient of inf is inf where a score has weight and nan where it has none, so that training freezes the run."""
    joint, marginal = (
        torch.tensor([1.0, 2.0]).requires_grad_(),
        torch.tensor([[1e4, 1e4, -1e4], [0.0, 5.0, 9e3]]).requires_grad_(),
    )
    reading = get(name)(Scores(joint, marginal))
    by_j, by_m = torch.autograd.grad(reading.objective, (joint, marginal))
    assert [reading.objective, reading.marginal_term] == [-math.inf, math.inf]
    assert by_j.tolist() == [0.5, 0.5]
    assert (by_m[0, :2] == -math.inf).all()
    assert not by_m.isfinite().any()


# ---- The oracle is right: the naive formula where floats suffice, and mpmath where they do not ----------------------------


@each_case
def test_oracle_is_the_naive_formula_and_its_derivative(name, chosen):
    rng = np.random.default_rng(0)
    j, m = rng.normal(0, 2, 6), rng.normal(0, 2, (6, 3))
    every = [np.ones_like(part, dtype=bool) for part in (j, m, m)]

    def objective(j, m):
        return formula(name, list(j), list(m.flat), list(m), **chosen).objective

    wanted = formula(name, list(j), list(m.flat), list(m), **chosen)
    found, by_j, by_m, _ = oracle(name, j, m, *every, **chosen)
    assert found == pytest.approx(wanted, rel=1e-12)
    step = 1e-6
    for place in np.ndindex(m.shape):
        moved = [m + sign * step * (np.indices(m.shape).transpose(1, 2, 0) == place).all(-1) for sign in (1, -1)]
        slope = (objective(j, moved[0]) - objective(j, moved[1])) / 2 / step
        assert by_m[place] == pytest.approx(slope, abs=1e-8)
    for place in range(6):
        moved = [j + sign * step * (np.arange(6) == place) for sign in (1, -1)]
        assert by_j[place] == pytest.approx((objective(moved[0], m) - objective(moved[1], m)) / 2 / step, abs=1e-8)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 60.0, 800.0, 1e4, 6e4])
def test_oracle_is_exact_where_floats_overflow(scale):
    t = scale * np.random.default_rng(0).normal(size=9)
    exact = [mpmath.exp(value) for value in t]
    with mpmath.workdps(50):
        assert log_mean_exp(t, np.ones(9, dtype=bool))[0] == pytest.approx(float(mpmath.log(sum(exact) / 9)), rel=1e-14)
        for value, e in zip(t, exact, strict=True):
            assert softplus(value) == pytest.approx(float(mpmath.log1p(e)), rel=1e-14)
            assert sigmoid(value) == pytest.approx(float(e / (1 + e)), rel=1e-10, abs=1e-300)
