"""Every check of the remedies on records that must hold, fail, or leave it open, and on runs that still learn; the table, too."""

import math

import numpy as np
import pandas as pd
import pytest
from plants import encoder, verdict

from remi.paper import experiments, remedies
from remi.paper.checks_remedies import CLAIMS

TRUE_MI = math.log(10)


def records(**changes):
    """Three seeds of every setting: MI, accuracy and state by the key without its data set; what is not named reads 1.5."""
    found = {}
    for key, group in experiments.groups(experiments.remedies("quick")).items():
        *plan, _, _, curve, lam = key.split("/")
        name = "_".join([*plan, curve, lam]).replace(".", "")
        usual = (math.nan, 0.5, "settled") if curve == "untrained" else (1.5, 0.9, "settled")
        mi, accuracy, state = changes.get(name, usual)
        found[key] = [encoder(run, mi + 0.01 * run.seed, accuracy + 0.001 * run.seed, state) for run in group]
    return found


def spread(key, values, found):
    """The same records, with these MI of the seeds of one setting."""
    found[key] = [encoder(record.run, value, 0.9, "settled") for record, value in zip(found[key], values, strict=True)]
    return found


CASES = [
    ("remedies-target", "holds", {"targets_resmile-target10_001": (2.1, 0.9, "settled")}),
    ("remedies-target", "fails", {"targets_resmile-target10_001": (1.2, 0.9, "settled")}),
    ("remedies-target", "fails", {"targets_resmile-target10_001": (2.1, 0.8, "settled")}),
    ("remedies-target", "undertrained", {"targets_resmile-target10_001": (2.1, 0.9, "learning")}),
    ("remedies-variance", "holds", {"variance_remine_01": (1.9, 0.9, "settled")}),
    ("remedies-variance", "fails", {"variance_remine_01": (1.1, 0.9, "settled")}),
    ("remedies-variance", "undertrained", {"remine_01": (1.1, 0.9, "learning")}),
    ("remedies-signed", "holds", {"mine_None": (2.0, 0.9, "settled"), "signed_mine_None": (1.6, 0.9, "settled")}),
    ("remedies-signed", "fails", {"mine_None": (1.6, 0.9, "settled"), "signed_mine_None": (2.0, 0.9, "settled")}),
    ("remedies-signed", "undertrained", {"signed_remine_01": (1.6, 0.9, "learning")}),
    ("remedies-bounded", "holds", {}),
    ("remedies-bounded", "fails", {"unit_nwj_None": (math.nan, math.nan, "diverged")}),
    ("remedies-bounded", "fails", {"unit_tuba_None": (1.5, 0.4, "settled")}),
    ("remedies-bounded", "undertrained", {"unit_smile_None": (1.5, 0.9, "learning")}),
]


@pytest.mark.parametrize(
    ("claim", "word", "changes"), CASES, ids=[f"{claim}-{word}-{n}" for n, (claim, word, _) in enumerate(CASES)]
)
def test_verdicts(claim, word, changes):
    assert verdict(claim, records(**changes)) == word


@pytest.mark.parametrize(
    ("claim", "key"),
    [
        ("remedies-target", "targets/clb/digits/resmile-target10/0.01"),
        ("remedies-variance", "variance/clb/digits/remine/0.1"),
        ("remedies-bounded", "unit/clb/digits/nwj/None"),
    ],
)
def test_what_the_seeds_leave_open_is_left_open(claim, key):
    assert verdict(claim, spread(key, (0.2, 1.5, 4.0) if claim != "remedies-bounded" else (0.12, 0.3, 0.13), records())) == (
        "inconclusive"
    )


def test_every_claim_is_tried():
    assert {claim.id for claim in CLAIMS} == {claim for claim, *_ in CASES}


def test_the_table_has_a_row_per_setting_and_the_advice_is_ordered():
    plans = experiments.remedies("quick")
    table = remedies.rows(plans, records(nwj_None=(math.nan, math.nan, "diverged"), renwj_01=(1.9, 0.9, "learning")))
    assert list(table.part.unique()) == list(remedies.PARTS)
    assert len(table) == sum(len(plan.runs()) - 1 for plan in plans.values())
    assert table.set_index("setting").loc["ReMINE, λ 0.1"].mi.tolist() == pytest.approx([1.51, 1.51])  # features, and with a sign
    advice = remedies.advice(table, TRUE_MI)
    assert "ReNWJ, λ 0.1" not in set(advice[advice.features == "never negative"].loss)  # has not settled
    assert advice.iloc[-1].loss == "NWJ"
    assert advice.failed.is_monotonic_increasing
    finite = advice[advice.failed == 0]["MI error"]
    assert finite.is_monotonic_increasing


def test_the_picture_shows_every_setting_and_what_has_not_settled_is_hollow():
    plans = experiments.remedies("quick")
    table = remedies.rows(plans, records(renwj_01=(1.9, 0.9, "learning")))
    figure = remedies.picture(table, 0.5, TRUE_MI)
    panels = figure.axes
    names = [text.get_text() for axes in panels[::2] for text in axes.get_yticklabels()]
    assert sorted(names) == sorted(table.setting)
    fills = [line.get_markerfacecolor() for axes in panels[::2] for line in axes.lines if len(line.get_xdata()) == 1]
    assert fills.count("white") == 1
    assert isinstance(table, pd.DataFrame)
    assert np.isfinite(table.mi).all()
