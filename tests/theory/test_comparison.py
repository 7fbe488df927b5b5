"""How a comparison is judged and printed; and the number of every theorem."""

import math

import pytest

from remi.theory import theorems
from remi.theory.comparison import Comparison, lines, verdict


def test_every_theorem_has_its_check():
    assert {k: check.__name__ for k, check in theorems.CHECKS.items()} == {k: f"theorem{k}" for k in range(1, 9)}


@pytest.mark.parametrize(("relation", "holds"), [("=", "012"), ("<=", "-012"), (">=", "0123")])
def test_a_tolerance_is_on_the_wrong_side_only(relation, holds):
    measured = {"-": -9.0, "0": -0.5, "1": 0.0, "2": 0.5, "3": 9.0}
    assert "".join(key for key, x in measured.items() if Comparison("", 0.0, x, 0.5, relation).holds) == holds
    assert not Comparison("", 0.0, math.nan, 0.5, relation).holds
    assert not Comparison("", math.nan, 0.0, 0.5, relation).holds


def test_the_printed_statement_decides_the_verdict():
    good, bad, printed = Comparison("a", 1, 1), Comparison("b", 1, 2), Comparison("c", 1, 2, 0, "<=", True)
    assert verdict([good, bad]) == ("corrected statement: 1 of 2 comparisons hold", True)
    assert verdict([printed, good], "n") == ("c: 2 (<= 1); corrected statement (n): 1 of 1 comparisons hold", False)
    assert lines([good, printed]) == "holds  a: 1 (1 ± 0)\nfails  c: 2 (<= 1) as printed"
    assert lines([Comparison("d", 0.4763, 0.49631, 0.0223)]) == "holds  d: 0.4963 (0.4763 ± 0.02)"
