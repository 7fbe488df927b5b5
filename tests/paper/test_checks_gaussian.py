"""Every check of Fig. 7 on records that must hold, must fail, must leave it open, and on curves that still climb."""

import numpy as np
import pytest
from plants import BY_ID, LOST, SEEDS, check_words, constant, critics, judged, off_by, verdict

from remi.losses.estimators import BOUNDS
from remi.paper.checks_gaussian import CLAIMS, has_learnt
from remi.paper.verdicts import Seeds

HALF = (0, 1)


def biases(**curves):
    return {key.replace("_", "-"): {"estimate": off_by(bias)} for key, bias in curves.items()}


def spreads(**curves):
    return {key: {"estimate": off_by(0, spread)} for key, spread in curves.items()}


def ablation(neither, clip, regularizer, both):
    """Biases of NWJ and TUBA in the four settings."""
    patterns = {"{}": neither, "{}-clip": clip, "re{}-noclip": regularizer, "re{}": both}
    return biases(**{pattern.format(name): bias for name in ("nwj", "tuba") for pattern, bias in patterns.items()})


PLANTS = {  # what must hold, what must fail, and the seeds that follow the second when it must stay open
    **{
        f"gauss-{name}": (biases(**{name: -1, f"re{name}": -0.5}), biases(**{name: -1, f"re{name}": -1.3}), HALF)
        for name in BOUNDS
    },
    "gauss-infonce": (biases(infonce=-1, reinfonce=-1), biases(infonce=-1, reinfonce=-0.8), HALF),
    "gauss-js-eval": (biases(js=-1, rejs=-0.3), biases(js=-1, rejs=-0.95), HALF),
    "gauss-js-log": (biases(js=-1, rejs_log=-0.5), biases(js=-1, rejs_log=-1.3), HALF),
    "gauss-variance": (spreads(nwj=1, tuba=1, renwj=0.5, retuba=0.5), spreads(nwj=1, tuba=1, renwj=0.5, retuba=1.3), HALF),
    "gauss-clip": (ablation(-2, -2, -1, -1), ablation(-2, -1, -1.5, -1.5), HALF),
}
LEARNS = {"estimate": lambda x, e, truth: truth * np.where(x * 5 % 1 < 0.8, 0.3, 0.5)}  # a step up in the last fifth of a level


def records(*plants, mix=(), seeds=SEEDS):
    return critics("fig7", *plants, mix=mix, seeds=seeds, steps_per_level=100)


def test_every_check_has_its_plants():
    assert {claim.id for claim in CLAIMS} == {*PLANTS, "gauss-cap"}


@pytest.mark.parametrize("claim", PLANTS)
def test_a_check_can_hold_fail_and_stay_open(claim):
    check_words(claim, records, PLANTS[claim])
    assert verdict(claim, records(PLANTS[claim][0], seeds=1)) == "inconclusive"


@pytest.mark.parametrize("claim", PLANTS)
def test_a_curve_that_still_climbs_says_nothing(claim):
    yes = PLANTS[claim][0]
    for curve in yes:
        assert verdict(claim, records(yes | {curve: LEARNS})) == "undertrained"
        assert verdict(claim, records(yes | {curve: LEARNS}, yes, mix=(3,))) != "undertrained"  # not in every seed: noise


def test_what_climbs_beyond_the_truth_or_has_diverged_is_not_learning():
    above = {"mine": {"estimate": lambda x, e, truth: truth * np.where(x * 5 % 1 < 0.8, 1.0, 2.0)}}
    for plant, learnt in ((above, True), ({"mine": LEARNS}, False), ({"mine": LOST | LEARNS}, False), ({"mine": LOST}, True)):
        assert has_learnt(Seeds(records(plant)), ("mine",)) is learnt


def test_a_diverged_original_loses_to_its_twin_and_a_diverged_twin_to_its_original():
    assert verdict("gauss-nwj", records(biases(renwj=-1) | {"nwj": LOST})) == "holds"
    assert verdict("gauss-nwj", records(biases(nwj=-1) | {"renwj": LOST})) == "fails"


def test_the_released_rejs_is_the_papers_and_the_log_penalty_is_ours():
    plans = {key: group[0].run for key, group in records({}).items()}
    assert (plans["rejs"].options, plans["rejs-log"].options) == ({"penalty": "softplus"}, {})
    assert [BY_ID[name].source for name in ("gauss-js", "gauss-js-eval", "gauss-js-log")] == ["Fig. 7", "Section 5.3", "ours"]


def test_measured_values():
    found = judged("gauss-mine", records(biases(mine=-2, remine=-1)))
    assert found.measured.startswith("mean square error 4 -> 1, variance ")


def test_gauss_cap_is_an_identity_and_fails_with_the_code():
    def capped(value):
        return records({"infonce": {"estimate": constant(value)}}, seeds=1)

    assert verdict("gauss-cap", capped(4.1)) == "identity"
    assert verdict("gauss-cap", capped(4.2)) == "fails"
