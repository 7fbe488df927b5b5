"""The checks of the theorems: what is certain, what trained critics say, and what a broken theorem would."""

import pytest
from plants import BY_ID, constant, critics, judged, ramp, verdict

from remi.paper.checks_theorems import CLAIMS
from remi.theory import comparison, drift, theorems

PLANTED = (comparison.Comparison("printed", 1.0, 1.0, printed=True), comparison.Comparison("corrected", 1.0, 2.0))
WRONG = comparison.Comparison("printed, and wrong", 1.0, 3.0, printed=True)


@pytest.mark.parametrize("k", range(1, 9))
def test_a_theorem_is_what_its_printed_comparisons_say(k, monkeypatch):
    monkeypatch.setitem(theorems.CHECKS, k, lambda: PLANTED)
    found = judged(f"thm-{k}", {})
    assert (found.verdict, found.why) == ("holds", BY_ID[f"thm-{k}"].why)
    assert "printed: 1 (1); corrected statement (" in found.measured
    monkeypatch.setitem(theorems.CHECKS, k, lambda: (*PLANTED, WRONG))
    found = judged(f"thm-{k}", {})
    assert (found.verdict, found.why) == ("fails", BY_ID[f"thm-{k}"].otherwise)


@pytest.mark.parametrize(("k", "expected"), [(5, "holds"), (6, "holds"), (7, "holds"), (8, "holds")])
def test_verdicts_on_theorems_5_to_8(k, expected):
    assert verdict(f"thm-{k}", {}) == expected


def test_the_drift_moves_one_of_the_two_averages(monkeypatch):
    found = judged("thm-6-cause", {})
    assert found.measured == "a drift from 0 to -5 moves MINE's macro-average by 0.00 and its micro-average by 0.89"
    assert found.verdict == "fails"
    monkeypatch.setattr(drift, "moved_by_drift", lambda total: {"mine": (-0.3, -0.9)})
    assert verdict("thm-6-cause", {}) == "holds"


def wandering(free, twins):
    """Offsets that go so far in MINE and SMILE, and in ReMINE."""
    depths = {"mine": free, "smile": free, "remine": twins}
    return {curve: {"score_log_mean_exp": ramp(depth)} for curve, depth in depths.items()}


def test_regularized_estimators_have_the_upper_hand():
    yes, no = wandering(3, 0.1), wandering(0.1, 3)
    assert verdict("average-1", critics("derivation3", yes)) == "holds"
    assert verdict("average-1", critics("derivation3", no)) == "fails"
    assert verdict("average-1", critics("derivation3", yes, no, mix=(0, 1))) == "inconclusive"
    assert verdict("average-1", critics("derivation3", yes, seeds=1)) == "inconclusive"
    still = {curve: {"score_log_mean_exp": constant(0)} for curve in ("mine", "smile")}
    found = judged("average-1", critics("derivation3", still | {"renwj": {"score_log_mean_exp": ramp(3)}}))
    assert found.verdict == "fails"
    assert found.measured.endswith("(ReNWJ)")


def test_outside_the_papers_assumptions_a_theorem_is_only_remarked_on():
    for k, remark in ((7, "labels wrong"), (8, "two views")):
        assert remark in BY_ID[f"thm-{k}"].why
        assert "single-label assumption" in BY_ID[f"thm-{k}"].statement


def test_every_check_is_here():
    assert {claim.id for claim in CLAIMS} == {*(f"thm-{k}" for k in range(1, 9)), "thm-6-cause", "average-1"}
