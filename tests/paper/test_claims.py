"""Every claim has an id, a threshold in words, and a check that can say both yes and no."""

import numpy as np
import pytest
from test_figures import ONE_HOT, synthetic

from remi.paper import claims, experiments

BY_ID = {claim.id: claim for claim in claims.CLAIMS}
SERIES = {"drift": 4, "explode": 4, "target": 6, "stable": 3, "thm": 8, "lambda": 3}
FAMILIES = ("mine", "smile", "infonce", "nwj", "tuba", "js")
LISTED = {
    *(f"{name}-{k}" for name, last in SERIES.items() for k in range(1, last + 1)),
    *(f"gauss-{name}" for name in (*FAMILIES, "cap", "js-eval", "clip")),
    *(f"table2-{name}" for name in ("better", "collapse", "slb", "clip", "closed")),
    *("smile-1", "average-1"),
}


def test_every_listed_claim_is_there_once():
    assert set(BY_ID) >= LISTED
    assert len(BY_ID) == len(claims.CLAIMS)


def test_every_claim_of_a_figure_has_a_check():
    assert {claim.figure for claim in claims.CLAIMS if claim.check} <= set(experiments.PLANS)
    assert all(claim.check for claim in claims.CLAIMS if claim.figure)
    assert all(claim.expected and claim.statement and claim.source for claim in claims.CLAIMS)


def test_without_records_a_claim_is_untested():
    verdicts = claims.all_verdicts({}, "quick")
    assert set(verdicts.verdict) == {"untested"}
    assert list(verdicts.columns) == ["id", "source", "statement", "expected", "measured", "verdict", "profile"]


def shifted(name, **columns):
    """Synthetic records of a figure with some columns replaced by a function of the step (0 to 1)."""
    records = synthetic(ONE_HOT[name])
    for group in records.values():
        for record in group:
            x = np.linspace(0, 1, record.run.steps)
            noise = np.random.default_rng(record.run.seed).normal(size=record.run.steps)
            for column, function in columns.items():
                record.arrays[column] = function(x, noise)
    return records


@pytest.mark.parametrize(
    ("claim", "figure", "yes", "no"),
    [
        ("drift-1", "figure1", {"estimate": lambda x, e: 2.77 + e}, {"estimate": lambda x, e: 2.4 + e}),
        ("explode-1", "figure3", {"estimate": lambda x, e: 20 * e}, {"estimate": lambda x, e: e}),
        ("target-2", "figure4", {"marginal_term": lambda x, e: -2 + 0 * e}, {"marginal_term": lambda x, e: -1.5 + 0 * e}),
        ("target-6", "figure4", {"estimate": lambda x, e: 2.7 + 0 * e}, None),
        ("stable-2", "figure5", {"estimate": lambda x, e: 1.5 + 0 * e}, {"estimate": lambda x, e: 1.3 + 0 * e}),
        ("stable-3", "figure5", {"joint_output": lambda x, e: 9 + 0 * e}, {"joint_output": lambda x, e: 11 + 0 * e}),
        ("gauss-cap", "figure7", {"estimate": lambda x, e: 4.1 + 0 * e}, {"estimate": lambda x, e: 4.2 + 0 * e}),
    ],
)
def test_a_check_can_say_yes_and_no(claim, figure, yes, no):
    assert BY_ID[claim].check(shifted(figure, **yes))[1]
    if no is not None:
        assert not BY_ID[claim].check(shifted(figure, **no))[1]


def test_explode_2_counts_the_diverged_seeds():
    check = BY_ID["explode-2"].check
    measured, holds = check(synthetic(ONE_HOT["figure3"], diverge=("nwj",)))
    assert (measured, holds) == ("2 of 2 seeds non-finite, median step 60", True)
    assert not check(synthetic(ONE_HOT["figure3"]))[1]


def test_a_diverged_original_loses_to_its_twin():
    records = synthetic(ONE_HOT["figure7"], diverge=("nwj",))
    assert BY_ID["gauss-nwj"].check(records)[1]
    records = synthetic(ONE_HOT["figure7"], diverge=("renwj",))
    assert not BY_ID["gauss-nwj"].check(records)[1]


def test_smile_1_is_exact():
    measured, holds = BY_ID["smile-1"].check({})
    assert holds
    assert measured.startswith("gradient norm 0 for SMILE")
