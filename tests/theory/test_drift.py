"""Theorems 5 and 6: their checks hold where they should, and notice an error planted in the functions that they use."""

import math
from dataclasses import replace

import numpy as np
import planted
import pytest
from test_figures import synthetic

from remi.losses import Scores, estimators
from remi.paper import experiments, measures, pictures
from remi.theory import closed_forms, drift
from remi.training import evaluation

CHECKS = {"5": drift.theorem5, "6": drift.theorem6}


@pytest.mark.parametrize("number", CHECKS)
def test_the_printed_and_the_corrected_statement_hold(number):
    found = CHECKS[number]()
    assert [c.what for c in found if not c.holds] == []
    assert any(c.printed for c in found)
    assert len({c.what for c in found}) == len(found)


DRIFT_COST = closed_forms.drift_cost
ERRORS = {  # the check: where, what, planted
    "5: sum for mean": (Scores, "log_mean_exp", planted.without_count),
    "5: variance of the order exp(C)": (closed_forms, "second_term_variance", lambda c, chi, n: math.exp(c) * chi / n),
    "5: chi-square without its -1": (closed_forms, "gaussian_chi_square", lambda mi: math.exp(2 * mi)),
    "5: MINE without its logarithm": (estimators, "mine", planted.without_logarithm),
    "6: drift raises the micro-average": (
        closed_forms,
        "linear_drift_cost",
        lambda total, k: -abs(total) / 2 + math.log(abs(total)),
    ),
    "6: micro is macro": (evaluation, "micro_average", lambda joint, log_z: float((joint - log_z).mean())),
    "6: macro is a median": (evaluation, "macro_average", lambda estimates: float(estimates.median())),
    "6: cost of drift with the wrong sign": (closed_forms, "drift_cost", lambda c: -DRIFT_COST(c)),
    "6: cost of an offset without its -1": (closed_forms, "offset_cost", lambda c: math.exp(c) - c),
    "6: bias of a pool not divided by k": (closed_forms, "pooled_bias", lambda c, chi, n: -DRIFT_COST(c) + chi / (2 * n)),
    "6: rows of InfoNCE pooled": (estimators.BOUNDS, "infonce", planted.rows_pooled),
    "6: SMILE clips both": (estimators.BOUNDS, "smile", lambda scores: estimators.smile(scores, clip="both")),
}


@pytest.mark.parametrize("error", ERRORS)
def test_a_planted_error_is_noticed(error, monkeypatch):
    assert planted.notices(CHECKS[error.split(":")[0]], *ERRORS[error], monkeypatch)


def test_drift_by_hand():
    # offsets 0 and log 3: log 2 - log(3) / 2; weights 1/4 and 3/4
    assert closed_forms.drift_cost([0, math.log(3)]) == pytest.approx(math.log(2 / math.sqrt(3)))
    assert closed_forms.linear_drift_cost(math.log(3), 2) == pytest.approx(math.log(2 / math.sqrt(3)))
    assert closed_forms.pooled_bias([0, math.log(3)], 16.0, 5) == pytest.approx(1 - math.log(2 / math.sqrt(3)))  # 16/10 * 10/16
    assert closed_forms.linear_drift_cost(0.0, 7) == closed_forms.drift_cost([2.0] * 7) == 0
    assert closed_forms.linear_drift_cost(-5.0, 200) == pytest.approx(0.8915, abs=5e-5)
    assert closed_forms.offset_cost(0.0) == 0
    assert closed_forms.offset_cost(1.0) == pytest.approx(math.e - 2)


def test_chi_square_by_quadrature():
    rho = 0.5
    mi = -math.log(1 - rho**2) / 2
    x = np.linspace(-9, 9, 1201)
    density = np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
    cross = 2 * rho * x[:, None] * x - rho**2 * (x[:, None] ** 2 + x**2)
    ratio = np.exp(cross / (2 * (1 - rho**2))) / math.sqrt(1 - rho**2)
    second = (ratio**2 * density[:, None] * density).sum() * (x[1] - x[0]) ** 2
    assert closed_forms.gaussian_chi_square(mi) == pytest.approx(second - 1, rel=1e-6)


def test_smile_follows_its_offset_beyond_tau():
    assert closed_forms.two_level_smile(5.0, 8.0, 30.0) == pytest.approx(
        closed_forms.two_level_dv(1, 1 / 16, 8.0)
    )  # nothing clipped: DV
    assert closed_forms.two_level_smile(50.0, 8.0, 10.0) - closed_forms.two_level_smile(49.0, 8.0, 10.0) == pytest.approx(1)


TRAINED = synthetic(replace(experiments.DERIVATION3, profile="quick", seeds=2))


def test_a_pool_of_training_batches_by_hand():
    plan = experiments.DERIVATION3
    for name in estimators.NAMES:
        record = TRAINED[name][0]
        joint, marginal, estimate = (record.arrays[c][-plan.pooled :][:4] for c in ("joint_term", "marginal_term", "estimate"))
        logarithmic = estimators.family(name) in ("mine", "smile")
        expected = joint.mean() - math.log(np.exp(marginal).mean()) if logarithmic else estimate.mean()
        assert measures.pooled(record, plan.pooled, 4)[0] == pytest.approx(expected)
        assert measures.pooled(record, plan.pooled, 1) == pytest.approx(record.arrays["estimate"][-plan.pooled :])
        assert measures.offsets(record, plan.pooled)[-1] == pytest.approx(record.arrays["score_log_mean_exp"][-64:].mean())


@pytest.mark.parametrize("tau", [2, 15])
def test_the_picture_can_be_drawn_at_both_ends_of_its_slider(tau):
    _, table = pictures.derivation3(TRAINED, tau)
    drift = table[table.panel == "drift"]
    for curve in ("MINE, macro", "MINE, micro", "SMILE, macro", "InfoNCE, both"):
        line, dots = (drift[drift.curve == f"{curve}, {kind}"] for kind in ("predicted", "measured"))
        # dots have the noise of 50 batches of 32, lines have not
        assert np.allclose(np.interp(dots.x, line.x, line.y), dots.y, atol=0.3)
