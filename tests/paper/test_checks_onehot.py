"""Every check of Figs. 1 to 5 on records that must hold, must fail, and must leave it open."""

from functools import partial

import pytest
from plants import BY_ID, LOST, SEEDS, check_words, constant, critics, judged, noise, ramp, verdict

from remi.losses import estimators
from remi.paper.checks_onehot import CLAIMS
from remi.paper.experiments import TARGETS

HALF, ONE = (0, 1), (0,)


def targets(column, values, miss=0.0):
    """The curves of Fig. 4 at these values, the first one off by `miss`."""
    return {f"remine-target{c:g}": {column: constant(v + miss * (c == TARGETS[0]))} for c, v in zip(TARGETS, values, strict=True)}


def apart(distance):
    """NWJ's outputs before the overflow."""
    return {"nwj": {"joint_output": lambda x, e, t: distance + e, "marginal_output": lambda x, e, t: -e[::-1], **LOST}}


def sinking(depth):
    return {"mine": {"joint_output": ramp(-depth), "marginal_output": ramp(-depth)}}


def terms(curve, first, second):
    return {curve: {"joint_term": ramp(first), "marginal_term": ramp(second)}}


def twin(curve, value, **columns):
    return {curve: {"estimate": constant(value), **columns}}


def bounded(size):
    return {curve: {"marginal_output": noise(size)} for curve in ("remine", "renwj-eq15")}


def offsets(height):
    """The offset of GAN-DIME's critic, beside others that stay; FLO's is free to go."""
    free = {"later/flo": {"score_log_mean_exp": ramp(-9)}}
    return free | {"later/fdime": {"score_log_mean_exp": ramp(height)}}


PLANTS = {  # what must hold, what must fail, and the seeds that follow the second when it must stay open
    "drift-1": (twin("mine", 2.77), twin("mine", 2.4), HALF),
    "drift-2": (terms("mine", -4, -4), terms("mine", 0, -4), HALF),
    "drift-3": (terms("nwj", 0, 0), terms("nwj", 2, 0), HALF),
    "drift-later": (offsets(0.2), offsets(1.0), HALF),
    "drift-4": (sinking(5), sinking(0), HALF),
    "explode-1": ({"mine": {"estimate": noise(9)}}, {"mine": {"estimate": noise(2)}}, HALF),
    "explode-2": ({"nwj": LOST}, {}, (1, 2, 3)),
    "explode-3": (apart(5), apart(0), HALF),
    "explode-4": ({"stratified/mine": {"estimate": noise(3)}}, {"stratified/mine": {"estimate": noise(0.4)}}, HALF),
    "explode-5": ({"nwj": LOST}, {"nwj": LOST, "mine": LOST}, (1, 2, 3)),
    "target-1": (targets("marginal_term", TARGETS), targets("marginal_term", TARGETS, 0.5), HALF),
    "target-2": (targets("estimate", [2.7] * 5), targets("estimate", [2.7] * 5, 0.5), HALF),
    "stable-1": (twin("remine", 2.4), {"remine": {"estimate": noise(3)}}, HALF),
    "stable-2": (twin("renwj-eq15", 2), twin("renwj-eq15", 0.5), HALF),
    "stable-2-released": (twin("renwj-released", 2), twin("renwj-released", 2, **LOST), ONE),
    "stable-2-gentle": (twin("gentle/renwj-gentle", 2), twin("gentle/renwj-gentle", 0.5), HALF),
    "stable-3": (bounded(2), bounded(20), HALF),
}


def records(claim, *plants, mix=(), seeds=SEEDS):
    return critics(BY_ID[claim].figure, *plants, mix=mix, seeds=seeds, steps=1200)


def test_every_check_has_its_plants():
    assert {claim.id for claim in CLAIMS} == {*PLANTS, "smile-1"}


@pytest.mark.parametrize("claim", PLANTS)
def test_a_check_can_hold_fail_and_stay_open(claim):
    check_words(claim, partial(records, claim), PLANTS[claim])


@pytest.mark.parametrize("claim", PLANTS)
def test_one_seed_says_nothing_about_others(claim):
    assert verdict(claim, records(claim, PLANTS[claim][0], seeds=1)) == "inconclusive"


def test_drifting_terms_must_go_the_same_way():
    assert verdict("drift-2", records("drift-2", terms("mine", -4, 4))) == "fails"


def test_flos_free_offset_is_told_of_the_runs_that_last():
    yes, lost = offsets(0.2), offsets(0.2) | {"later/flo": {"score_log_mean_exp": lambda x, e, t: x * float("nan"), **LOST}}
    found = judged("drift-later", records("drift-later", yes, lost, mix=ONE))
    assert (found.verdict, found.measured.partition(";")[2]) == ("holds", " FLO's, which is free, by -4.88")
    found = judged("drift-later", records("drift-later", lost))
    assert (found.verdict, "FLO" in found.measured) == ("holds", False)


def test_without_an_explosion_there_is_no_before():
    assert verdict("explode-3", records("explode-3", {})) == "untested"


def test_a_single_lost_twin_of_remine_is_an_explosion():
    lost = twin("remine", 2.4, **LOST)
    assert verdict("stable-1", records("stable-1", lost)) == "fails"
    assert verdict("stable-1", records("stable-1", twin("remine", 2.4), lost, mix=ONE)) == "inconclusive"


def test_a_lost_run_of_fig5_reads_nothing_and_has_no_bound():
    yes, lost = twin("renwj-eq15", 2.8), twin("renwj-eq15", 2.8, **LOST)
    assert verdict("stable-2", records("stable-2", lost)) == "fails"
    found = judged("stable-2", records("stable-2", yes, lost, mix=ONE))
    assert found.measured == "1 of 4 seeds non-finite, mean estimate 2.10 of 2.77"
    assert verdict("stable-3", records("stable-3", bounded(2) | {"renwj-eq15": LOST})) == "fails"


def test_explode_2_says_how_many_and_when():
    found = judged("explode-2", records("explode-2", {"nwj": LOST}, {}, mix=ONE))
    assert (found.measured, found.verdict) == ("3 of 4 seeds non-finite, median step 800", "holds")


def test_smile_1_is_an_identity_and_fails_with_the_code(monkeypatch):
    assert verdict("smile-1", {}) == "identity"
    get = estimators.get
    monkeypatch.setattr(estimators, "get", lambda name, clip: get(name, clip="marginal"))
    assert verdict("smile-1", {}) == "fails"
