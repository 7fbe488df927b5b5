"""Theorem 1: its check holds, and notices an error planted in the functions that it uses."""

import math

import numpy as np
import planted
import pytest

from remi.losses import Scores, estimators
from remi.paper import pictures
from remi.theory import closed_forms, comparison, duality


def test_theorem_1_holds_as_printed_and_corrected():
    found = duality.theorem1()
    assert [c.what for c in found if not c.holds] == []
    assert comparison.verdict(found)[1]


REGULARIZED, RELEASED_OFFSET = estimators.regularized, closed_forms.released_offset


def _rewarded(bound, lam=1.0, target=0.0, penalty=estimators.squared_difference):
    return REGULARIZED(bound, -lam, target, penalty)


def _charged_twice(bound, lam=1.0, target=0.0, penalty=estimators.squared_difference):
    return lambda scores: (lambda r: r._replace(estimate=r.objective))(REGULARIZED(bound, lam, target, penalty)(scores))


ERRORS = {  # where, what, planted
    "penalty with the wrong sign": (estimators, "regularized", _rewarded),
    "wrong target": (estimators, "squared_difference", lambda u, c: (u - c - 1).square()),
    "released target": (estimators, "nwj", planted.nwj_released),
    "NWJ of T + 1": (estimators, "nwj", planted.nwj_unshifted),
    "sum for mean": (Scores, "log_mean_exp", planted.without_count),
    "estimate with its penalty": (estimators, "regularized", _charged_twice),
    "released cost without its factor 2": (closed_forms, "released_offset", lambda lam: RELEASED_OFFSET(lam / 2)),
}


@pytest.mark.parametrize("error", ERRORS)
def test_a_planted_error_is_noticed(error, monkeypatch):
    assert planted.notices(duality.theorem1, *ERRORS[error], monkeypatch)


def test_offsets_by_hand():
    assert [closed_forms.value_at_offset(loss, 1.0) for loss in ("mine", "remine", "nwj", "renwj")] == [0, -1, 0, 0]
    assert closed_forms.value_at_offset("renwj-released", 0.0) == pytest.approx(-1 / math.e)  # only NWJ pays: exp(-1)
    assert closed_forms.released_offset(0.0) == 1
    assert closed_forms.released_cost(1.0) == pytest.approx(0.2165, abs=1e-4)
    # very heavy: a = (1 - 1/e) / (2 lam) to first order, and the cost 1/e
    assert closed_forms.released_offset(1e6) == pytest.approx((1 - 1 / math.e) / 2e6, rel=1e-5)
    assert closed_forms.released_cost(1e6) == pytest.approx(1 / math.e, abs=1e-6)


def test_one_hot_levels_by_hand():
    assert closed_forms.two_level_dv(1, 1 / 16, 0.0) == pytest.approx(0)  # a constant critic
    assert closed_forms.two_level_dv(1, 1 / 16, math.log(15)) == pytest.approx(math.log(8))  # 1 + 15/15 = 2
    assert closed_forms.best_nwj_above_one(2) == pytest.approx(math.log(2) - 0.5)


@pytest.mark.parametrize("lam", [0.05, 3.0])
def test_the_picture_can_be_drawn_at_both_ends_of_its_slider(lam):
    _, table = pictures.derivation1(lam=lam)
    assert np.isfinite(table.value).all()
