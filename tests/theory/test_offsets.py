"""Who holds the constant: the costs and ceilings hold where they should, and notice an error planted in what they use."""

import math

import planted
import pytest

from remi.losses import RIVALS, Scores, estimators, rivals
from remi.theory import closed_forms, offsets

ANCHOR, SIGMOID, JS = rivals.infonce_anchor, rivals.sigmoid, estimators.js


def test_costs_are_as_written_and_the_quoted_ceiling_is_none():
    assert [c.what for c in offsets.held() if not c.holds] == []
    found = offsets.ceilings()
    assert [c.what for c in found if not c.holds] == [c.what for c in found if c.printed]
    for comparisons in (offsets.held(), found):
        assert len({(c.what, c.relation) for c in comparisons}) == len(comparisons)


ERRORS = {  # the check: where, what, planted
    "held: MINE without its logarithm": (estimators.BOUNDS, "mine", planted.without_logarithm),
    "held: rows of InfoNCE pooled": (estimators.BOUNDS, "infonce", planted.rows_pooled),
    "held: an anchor of twice the weight": (
        estimators.RIVALS,
        "infonce_anchor",
        lambda scores, nu=1.0: ANCHOR(scores, nu=2 * nu),
    ),
    "held: NWJ of T + 1": (estimators.BOUNDS, "nwj", planted.without_logarithm),
    "held: a classifier without its negatives' weight": (estimators.RIVALS, "sigmoid", JS),
    "held: an offset that costs half": (closed_forms, "offset_cost", lambda c: (math.expm1(c) - c) / 2),
    "ceilings: rows of InfoNCE pooled": (estimators.BOUNDS, "infonce", planted.rows_pooled),
    "ceilings: InfoNCE of the sum": (Scores, "row_log_mean_exp", lambda scores: scores.row_mean(lambda t, total, log_n: total)),
    "ceilings: K for K - 1": (offsets, "quoted_ceiling", lambda mi, k: math.log(k) - math.log1p(k * math.exp(-mi))),
    "ceilings: a ceiling of half the divergence": (offsets, "ceiling", lambda mi, reverse, k: offsets.quoted_ceiling(mi / 2, k)),
}


@pytest.mark.parametrize("error", ERRORS)
def test_a_planted_error_is_noticed(error, monkeypatch):
    place, name, wrong = ERRORS[error]
    if isinstance(place, dict):
        monkeypatch.setitem(place, name, wrong)
    else:
        monkeypatch.setattr(place, name, wrong)
    if error.startswith("held: an offset"):
        holders = {name: holder for name, holder in offsets.HOLDERS.items() if holder.loss == "renwj"}
        monkeypatch.setattr(
            offsets, "HOLDERS", holders | {"TUBA, KL-DIME": offsets.HOLDERS["TUBA, KL-DIME"]}
        )  # they ask for it by name
    check = getattr(offsets, error.partition(":")[0])
    assert [c for c in check() if not c.holds and not c.printed]


def test_every_rival_that_scores_alone_can_tell_has_a_holder():
    assert {holder.loss for holder in offsets.HOLDERS.values()} >= set(RIVALS) - {"dcl"}  # a row of all of Q has no negatives


@pytest.mark.parametrize(
    ("name", "hardness"),
    [
        ("MINE", 0),
        ("InfoNCE", 0),
        ("ReMINE, lam 1", 2),
        ("NWJ", 1),
        ("ReNWJ, lam 1", 3),
        ("InfoNCE-anchor", 1 / 17),
        ("sigmoid", 0.5),
        ("JS, GAN-DIME", 1 / 17),
        ("HD-DIME", 1 / 8),
    ],
)
def test_how_hard_it_is_held(name, hardness):
    assert offsets.hold(offsets.HOLDERS[name]) == pytest.approx(hardness, abs=1e-3)


def test_ceilings_by_hand():
    # 2 bits, 4 samples: log 4 - log(1 + 3/4); drawn from 4 symbols: log 4 - E log(1 + N), N of 3 with probability 1/4
    assert offsets.quoted_ceiling(math.log(4), 4) == pytest.approx(math.log(16 / 7))
    expected = math.log(4) - (27 * math.log(2) + 9 * math.log(3) + math.log(4)) / 64
    assert offsets.best_infonce(4, 4) == pytest.approx(expected)
    assert expected > math.log(16 / 7) + 0.09
    assert offsets.ceiling(1.0, 0.5, 8) == offsets.quoted_ceiling(1.5, 8)
    assert offsets.anchor_cost(0.7, 1e-9) == pytest.approx(0, abs=1e-6)
    assert offsets.anchor_cost(0.7, 1e9) == pytest.approx(closed_forms.offset_cost(0.7), abs=1e-5)
