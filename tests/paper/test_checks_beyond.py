"""Every check of `beyond` on records that must hold, must fail, must leave it open, or still climb; and its picture."""

from dataclasses import replace

import numpy as np
import pytest
from plants import BY_ID, LOST, SEEDS, check_words, constant, critics, judged, noise, off_by, verdict

from remi.paper import beyond, experiments
from remi.paper.checks_beyond import CLAIMS, TRUE_MI, survives
from remi.runs import CriticRun, FloRun
from remi.theory import offsets

HALF = (0, 1)
ALIVE, SCATTERED = {"estimate": off_by(0, 0.5)}, {"estimate": off_by(0, 8.0)}
HELD, FREE = ("remine", "infonce_anchor", "fdime", "fdime-hd"), ("mine", "nwj")


def survival(held, free):
    """Estimates of the one-hot runs, by whether the loss holds its offset."""
    return {f"survival/{name}": plant for names, plant in ((HELD, held), (FREE, free)) for name in names}


def below_the_quoted(by):
    return {"infonce": {"estimate": lambda x, e, truth: np.vectorize(offsets.quoted_ceiling)(truth, 64) - by + 0.01 * e}}


PLANTS = {  # what must hold, what must fail, and the seeds that follow the second when it must stay open
    **{
        f"beyond-{name}": (
            {"remine": {"estimate": off_by(-1)}, key: {"estimate": off_by(-0.5)}},
            {"remine": {"estimate": off_by(-1)}, key: {"estimate": off_by(-1.3)}},
            HALF,
        )
        for name, key in (("anchor", "infonce_anchor"), ("sigmoid", "sigmoid"), ("fdime", "fdime"), ("flo", "flo"))
    },
    "beyond-met": (below_the_quoted(0.1), below_the_quoted(1.0), (1,)),
    "beyond-dcl": ({"dcl": {"estimate": off_by(3)}}, {"dcl": {"estimate": off_by(0.5)}}, (*HALF, 2)),
    "beyond-survival": (survival(ALIVE, SCATTERED), survival(ALIVE, ALIVE), HALF),
    "beyond-flo-lost": ({"survival/flo": SCATTERED}, {"survival/flo": ALIVE}, (0, 1)),
}
LEARNS = {"estimate": lambda x, e, truth: truth * np.where(x * 5 % 1 < 0.8, 0.3, 0.5)}  # a step up in the last fifth of a level


def records(*plants, mix=(), seeds=SEEDS):
    return critics("beyond", *plants, mix=mix, seeds=seeds)


def test_every_check_has_its_plants():
    assert {claim.id for claim in CLAIMS} == {*PLANTS, "beyond-held", "beyond-ceiling"}
    assert {claim.source for claim in CLAIMS} == {"ours"}


@pytest.mark.parametrize("claim", PLANTS)
def test_a_check_can_hold_fail_and_stay_open(claim):
    check_words(claim, records, PLANTS[claim])


@pytest.mark.parametrize("claim", ["beyond-anchor", "beyond-sigmoid", "beyond-fdime", "beyond-flo", "beyond-met"])
def test_a_curve_that_still_climbs_says_nothing(claim):
    yes = PLANTS[claim][0]
    for curve in yes:
        assert verdict(claim, records(yes | {curve: LEARNS})) == "undertrained"


def test_what_is_exact_needs_no_runs_to_be_judged(monkeypatch):
    found = records({}, seeds=1)
    assert verdict("beyond-held", found) == "identity"
    assert verdict("beyond-ceiling", found) == "fails"
    wrong = replace(offsets.HOLDERS["MINE"], cost=lambda c: 1.0)
    monkeypatch.setattr(offsets, "HOLDERS", offsets.HOLDERS | {"MINE": wrong})
    assert verdict("beyond-held", found) == "fails"
    monkeypatch.setattr(offsets, "quoted_ceiling", lambda mi, k: 9.0)
    assert judged("beyond-ceiling", found).verdict == "holds"


def test_a_lost_dcl_reads_too_high():
    assert verdict("beyond-dcl", records({"dcl": LOST})) == "holds"


@pytest.mark.parametrize(
    ("plant", "alive"),
    [
        ({"estimate": constant(TRUE_MI)}, 1),
        ({"estimate": constant(TRUE_MI + 0.9)}, 1),
        ({"estimate": constant(TRUE_MI - 1.1)}, 0),
        ({"estimate": off_by(0, 1.8)}, 1),
        ({"estimate": off_by(0, 2.3)}, 0),
        ({"estimate": constant(TRUE_MI)} | LOST, 0),
        ({"estimate": lambda x, e, truth: truth + (x < 0.8) * 50}, 1),  # what it does before is forgiven
    ],
)
def test_who_survives(plant, alive):
    found = records({"survival/remine": plant}, seeds=1)["survival/remine"][0]
    assert survives(found) == alive


def test_survivors_are_counted():
    found = judged("beyond-survival", records(survival(ALIVE, SCATTERED)))
    assert found.measured == (
        "seeds that survive: remine 4 of 4, infonce_anchor 4 of 4, fdime 4 of 4, fdime-hd 4 of 4, mine 0 of 4, nwj 0 of 4, "
        "renwj-eq15 0 of 4"
    )
    assert verdict("beyond-survival", records(survival(ALIVE, SCATTERED) | {"survival/fdime-hd": SCATTERED})) == "fails"
    assert verdict("beyond-survival", records(survival(ALIVE, SCATTERED) | {"survival/nwj": ALIVE})) == "fails"


@pytest.mark.parametrize("profile", experiments.PROFILES)
def test_its_runs_are_fig7s_staircase_and_fig3s_batches(profile):
    found = experiments.groups(experiments.beyond(profile))
    size = {"quick": (3, 2000, (64, 64)), "desk": (3, 20_000, (256, 256)), "paper": (5, 20_000, (256, 256))}[profile]
    for key, members in found.items():
        run: CriticRun = members[0]
        if key.startswith("survival/"):
            assert (len(members), run.batch, run.steps, run.lr, run.output_bias) == (20, 32, 3000, 0.1, False)
        else:
            assert (len(members), run.steps, run.hidden) == size
            assert (run.batch, run.lr, run.problem.dim, run.problem.levels) == (64, 1e-3, 20, (2, 4, 6, 8, 10))
        assert isinstance(run, FloRun) == key.endswith("flo")
        assert run.lam == (1.0 if run.loss.startswith("re") else None)
        assert run.options == ({"divergence": "hd"} if key.endswith("hd") else {})
    shared = {"mine": "fig3", "nwj": "fig3", "remine": "fig5", "renwj-eq15": "fig5"}
    shared |= {f"later/{key}": figure for key in ("infonce_anchor", "fdime", "fdime-hd", "flo") for figure in ("fig3", "fig5")}
    for key, figure in shared.items():
        assert found[f"survival/{key.removeprefix('later/')}"] == experiments.groups(experiments.PLANS[figure](profile))[key]


def test_the_picture_shows_every_curve_and_is_drawn_alike_twice():
    plans = experiments.beyond("quick")
    found = records(
        {"dcl": {"estimate": off_by(30)}, "nwj": LOST, "survival/remine": ALIVE, "survival/mine": {"estimate": noise(9)}}
    )
    (figure, table), (_, again) = (beyond.figure(plans, found) for _ in range(2))
    assert table.equals(again)
    drawn = table[table.panel == "error"]
    assert set(drawn.curve) == {curve.label for curve in plans["main"].curves}
    assert drawn.groupby("curve").seed.nunique().eq(SEEDS).all()
    assert drawn[drawn.curve == "DCL"].y.to_numpy() == pytest.approx(30, abs=0.1)
    assert drawn[drawn.curve == "NWJ"].y.isna().sum() >= 2
    survivors = table[table.panel == "survivors"].set_index("curve").y
    assert (survivors["ReMINE"], survivors["MINE"]) == (SEEDS, 0)
    assert set(table[table.panel == "cost"].curve) == set(beyond.COSTS) <= set(offsets.HOLDERS)
    errors = figure.axes[2:]
    assert [len(axes.get_legend().get_texts()) for axes in errors] == [5, 6]
    assert max(line.get_ydata().max() for line in errors[1].lines if len(line.get_ydata()) == 5) <= beyond.TOP


def test_claims_are_known_by_their_names():
    assert all(BY_ID[claim.id] is claim for claim in CLAIMS)
