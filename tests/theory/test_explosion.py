"""Propositions A to C: their checks hold, and notice an error planted in the functions that they use."""

import math
from types import SimpleNamespace

import numpy as np
import planted
import pytest
import torch

from remi.losses import estimators
from remi.paper import pictures
from remi.theory import closed_forms, explosion
from remi.training import problems

CHECKS = {
    "A": explosion.proposition_a,
    "B": explosion.proposition_b,
    "C": explosion.proposition_c,
    "optimum": explosion.finite_optimum,
    "step": explosion.step_size,
}


@pytest.mark.parametrize("name", CHECKS)
def test_a_proposition_holds(name):
    found = CHECKS[name]()
    assert [c.what for c in found if not c.holds] == []
    assert len({c.what for c in found}) == len(found)
    assert not [c for c in found if c.printed]  # the paper prints none of them


def _penalty(change):
    """`regularized` with another objective or estimate; `change` gets reading, weight and target."""
    return lambda bound, lam=1.0, target=0.0: lambda scores: change(bound(scores), lam, target)


def _charged(reading, lam, target):
    return reading._replace(objective=reading.objective - lam * (reading.normalizer - target) ** 2)


def _infonce_of_the_sum(scores):
    reading, row = INFONCE(scores), math.log(scores.marginal.shape[-1])  # log sum exp in place of log mean exp
    return reading._replace(estimate=reading.estimate - row)


def _independent(self, generator, first_step, steps, batch):
    return torch.randint(self.symbols, (3, steps, batch), generator=generator)


INFONCE, BATCH = estimators.infonce, closed_forms.two_level_batch
ERRORS = {  # the check: where, what, planted
    "A: a batch of one less": (closed_forms, "miss", lambda q, batch: (1 - q) ** (batch - 1)),
    "A: P(A) minus the chance of a miss": (closed_forms, "explosion_slope", lambda p, q, batch: p - (1 - q) ** batch),
    "A: mean of T for log mean exp": (estimators, "mine", planted.second_term(lambda s: s.marginal_mean())),
    "A: largest score for log mean exp": (estimators, "mine", planted.second_term(lambda s: s.marginal.amax((-2, -1)))),
    "A: a stratified batch that is not": (problems.OneHot, "draw", _independent),
    "A: NWJ with a logarithm": (estimators, "nwj", estimators.mine),
    "B: penalty with the wrong sign": (estimators, "regularized", _penalty(lambda r, lam, c: _charged(r, -lam, c))),
    "B: target 0, whatever is asked": (estimators, "regularized", _penalty(lambda r, lam, c: _charged(r, lam, 0))),
    "B: an estimate that pays the penalty": (
        estimators,
        "regularized",
        _penalty(lambda r, lam, c: (paid := _charged(r, lam, c))._replace(estimate=paid.objective)),
    ),
    "C: half the penalty": (estimators, "regularized", _penalty(lambda r, lam, c: _charged(r, lam / 2, c))),
    "C: an eighth for a quarter": (
        closed_forms,
        "remine_bound",
        lambda d, chi_square, batch, lam: min(d, math.log(batch)) + chi_square / (8 * lam * batch),
    ),
    "C: InfoNCE with log sum exp": (estimators, "infonce", _infonce_of_the_sum),
    "optimum: a diagonal of 1/17": (closed_forms, "two_level_batch", lambda p, q, batch, s: BATCH(p, 1 / 17, batch, s)),
    "optimum: log N without its correction": (closed_forms, "two_level_dv", lambda p, q, s: math.log(1 / q)),
    "optimum: a penalty of 1.1 lam": (estimators, "regularized", _penalty(lambda r, lam, c: _charged(r, 1.1 * lam, c))),
    "step: NWJ with e^T": (estimators, "nwj", planted.without_logarithm),
    "step: curvature k / B": (closed_forms, "nwj_curvature", lambda symbols, batch, k: k / batch),
}


@pytest.mark.parametrize("error", ERRORS)
def test_a_planted_error_is_noticed(error, monkeypatch):
    place, name, wrong = ERRORS[error]
    if place is estimators and name in estimators.BOUNDS:
        monkeypatch.setitem(estimators.BOUNDS, name, wrong)  # for `get`
    assert planted.notices(CHECKS[error.split(":")[0]], place, name, wrong, monkeypatch)


def test_a_miss_and_its_slope_by_hand():
    assert closed_forms.miss(0.5, 2) == 0.25
    assert closed_forms.explosion_slope(0.8, 0.5, 2) == pytest.approx(0.8 - 0.75)
    assert closed_forms.explosion_slope(0.8, 0.5, 3) == pytest.approx(0.8 - 0.875)


def test_a_batch_of_two_by_hand():
    """k = 0, 1, 2 of 2 with chance 1/4, 1/2, 1/4 and s = log 3: readings log 3, -log((1 + 1/3) / 2) and 0."""
    mean, spread = closed_forms.two_level_batch(1.0, 0.5, 2, math.log(3))
    readings = np.array([math.log(3), math.log(1.5), 0.0])
    chance = np.array([0.25, 0.5, 0.25])
    assert mean == pytest.approx(chance @ readings)
    assert spread**2 == pytest.approx(chance @ readings**2 - (chance @ readings) ** 2)


def test_two_levels_at_the_log_ratio_reach_the_divergence():
    s = math.log(0.8 / 0.5) - math.log(0.2 / 0.5)
    assert closed_forms.two_level_dv(0.8, 0.5, s) == pytest.approx(0.8 * math.log(1.6) + 0.2 * math.log(0.4))
    assert closed_forms.two_level_dv(1.0, 1 / 16, 4.0) == pytest.approx(math.log(16) - math.log(1 + 15 * math.exp(-4)))


@pytest.mark.parametrize(("joint", "marginal", "batch"), [(1.0, 1 / 16, 32), (0.8, 0.5, 2), (0.8, 0.5, 3)])
def test_far_out_the_mean_over_batches_is_a_line(joint, marginal, batch):
    rise = (
        closed_forms.two_level_batch(joint, marginal, batch, 400.0)[0]
        - closed_forms.two_level_batch(joint, marginal, batch, 300.0)[0]
    )
    assert rise / 100 == pytest.approx(closed_forms.explosion_slope(joint, marginal, batch))


def test_the_optimum_of_one_pair_is_a_parabola():
    """B = 1: T_off = -1 / (2 lam), T_diag = (N - 1) / (2 lam), objective chi^2 / (4 lam)."""
    best = closed_forms.finite_optimum(1.0, 1 / 16, 1, 0.1)
    assert (best.on, best.off, best.objective) == pytest.approx((75.0, -5.0, 37.5), rel=1e-6)
    assert closed_forms.remine_bound(math.log(16), 15.0, 1, 0.1) == pytest.approx(37.5)


def test_the_table_of_finite_optima():
    """theory.md 9.3: separation, mean, all pairs, sd, T_diag, T_off; computed there by other code."""
    expected = {
        (32, 1.0): (4.02, 2.70, 2.533, 0.63, 2.70, -1.31),
        (32, 0.1): (8.63, 3.52, 2.770, 2.01, 3.52, -5.12),
        (100, 1.0): (6.77, 2.84, 2.756, 0.46, 2.84, -3.93),
        (100, 0.1): (10.1, 2.87, 2.772, 0.53, 2.87, -7.25),
    }
    for (batch, lam), row in expected.items():
        best = closed_forms.finite_optimum(1.0, 1 / 16, batch, lam)
        assert (best.separation, best.estimate, best.pooled, best.spread, best.on, best.off) == pytest.approx(row, abs=0.02)


def test_the_floor_of_a_small_weight():
    assert closed_forms.finite_optimum(1.0, 1 / 16, 32, 0.01).off == pytest.approx(-1 / (2 * 0.01), abs=0.01)
    assert closed_forms.finite_optimum(1.0, 1 / 16, 32, 0.01, target=3.0).off == pytest.approx(3 - 50, abs=0.01)


def test_the_last_critic_is_valued_on_all_pairs():
    table = np.full((16, 16), -1.0) + 4 * np.eye(16)
    record = SimpleNamespace(ok=True, arrays={"table": table})
    assert pictures.population_value(record) == pytest.approx(closed_forms.two_level_dv(1.0, 1 / 16, 4.0))
    assert math.isnan(pictures.population_value(SimpleNamespace(ok=False, arrays={"table": table})))
