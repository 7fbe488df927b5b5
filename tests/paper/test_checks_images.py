"""Every check of Table 2 and Fig. 6 on records that must hold, must fail, must leave it open, and on runs that still learn."""

import math

import numpy as np
import pytest
from plants import SEEDS, encoder, encoders, judged, traces, verdict

from remi.paper import experiments
from remi.paper.checks_images import CLAIMS, CLASSES, HEAVY
from remi.paper.measures import settled
from remi.theory import closed_form

HALF, ONE = (0, 1), (0,)
TRUTH = {"digits": math.log(10), "digit-pairs": math.log(100)}
NAMES = {10: "digits", 100: "digit-pairs"}


def usual(run, curve):
    """A table as the paper has it: estimate, accuracy and state of a run."""
    truth, jitter = TRUTH[run.dataset], 0.002 * (run.seed % 2)
    if curve == "untrained":
        return math.nan, 0.5 + jitter, "settled"
    if run.task == "slb":
        form = closed_form("slb", run.loss, 10 ** (1 + (run.dataset == "digit-pairs")), run.batch) if curve == "js" else None
        return form or truth - 0.02 * (run.lam is None), 0.9 + jitter - 0.03 * (curve == "infonce"), "settled"
    if curve in ("nwj", "tuba", "renwj-noclip", "retuba-noclip"):
        return math.nan, math.nan, "diverged"
    if curve in ("smile", "nwj-clip", "tuba-clip"):
        return 0.0, 0.5, "frozen"
    return (1.2, 0.9 + jitter, "settled") if run.lam else (0.9, 0.8 + jitter, "settled")


def but(change, usual=usual):
    """The usual table, but for what `change(run, curve)` says otherwise."""
    return lambda run, curve: change(run, curve) or usual(run, curve)


def where(answer, **wanted):
    """`answer` for the runs of these loss, task, ..., and nothing for the others."""

    def change(run, curve):
        return (
            answer
            if all(getattr(run, k, None) == v for k, v in wanted.items() if k != "curve") and wanted.get("curve", curve) == curve
            else None
        )

    return change


def mixed(yes, no, seeds):
    return lambda run, curve: (no if run.seed in seeds else yes)(run, curve)


def by_lambda(mi, accuracy):
    """In CLB estimate and accuracy of every twin, from the largest weight to the smallest."""

    def change(run, curve):
        if run.task != "clb" or run.lam is None or "noclip" in curve:
            return None
        k = (0.1, 0.01, 0.001).index(run.lam)
        return mi[k], accuracy[k] + 0.001 * (run.seed % 2), "settled"

    return but(change)


def steadily(infonce, others):
    """In CLB the accuracies of ReInfoNCE and of the other twins, from the largest weight to the smallest; MI 0.5 and 1.2."""

    def change(run, curve):
        if run.task != "clb" or run.lam is None or "noclip" in curve:
            return None
        chosen = infonce if run.loss == "reinfonce" else others
        return 0.5 if run.loss == "reinfonce" else 1.2, chosen[(0.1, 0.01, 0.001).index(run.lam)], "settled"

    return but(change)


def per_size(name):
    """Plants of a claim that is judged on both data sets: what fails, or is mixed in."""
    dataset = {"dataset": NAMES[int(name.rsplit("-", 1)[1])]}
    return {
        "table2-collapse": (usual, but(where((1.0, 0.8, "settled"), task="clb", curve="smile", **dataset)), ONE),
        "table2-accuracy": (usual, but(where((1.2, 0.3, "settled"), task="clb", loss="renwj", **dataset)), HALF),
        "table2-slb": (usual, but(where((2.2, 0.9, "settled"), task="slb", curve="infonce", **dataset)), HALF),
        "table2-closed": (usual, but(where((1.0, 0.9, "settled"), task="slb", curve="js", **dataset)), HALF),
        "lambda-3": (steadily((0.9, 0.9, 0.9), (0.9, 0.8, 0.7)), steadily((0.9, 0.8, 0.7), (0.9, 0.9, 0.9)), HALF),
    }[name.rsplit("-", 1)[0]]


AGAINST, TOGETHER = by_lambda((0.8, 1.0, 1.2), (0.9, 0.8, 0.7)), by_lambda((0.8, 1.0, 1.2), (0.7, 0.8, 0.9))
WORSE = but(lambda run, curve: (0.7, 0.7, "settled") if run.lam and "noclip" not in curve and run.loss[2:] not in HEAVY else None)
PLANTS = {  # what must hold, what must fail, and the seeds that follow the second when it must stay open
    **{
        f"{kind}-{classes}": per_size(f"{kind}-{classes}")
        for classes in CLASSES
        for kind in ("table2-collapse", "table2-accuracy", "table2-slb", "table2-closed", "lambda-3")
    },
    "table2-better": (usual, WORSE, HALF),
    "table2-minimal": (usual, but(where((2.3, 0.84, "settled"), task="slb", loss="remine", dataset="digits")), HALF),
    "table2-clip": (
        but(lambda run, curve: (1.0, 0.9, "settled") if "noclip" in curve else None),
        but(lambda run, curve: (1.0, 0.9, "settled") if "noclip" in curve or curve == "nwj-clip" else None),
        ONE,
    ),
    "lambda-1": (AGAINST, TOGETHER, HALF),
    "lambda-2": (TOGETHER, AGAINST, HALF),
}
LEARNING = {  # a run of which a claim must not be judged while it learns
    **{f"table2-collapse-{c}": where((0.05, 0.8, "learning"), task="clb", loss="retuba", dataset=NAMES[c]) for c in CLASSES},
    **{f"table2-accuracy-{c}": where((0.05, 0.8, "learning"), task="clb", loss="retuba", dataset=NAMES[c]) for c in CLASSES},
    **{f"table2-slb-{c}": where((2.0, 0.8, "learning"), task="slb", curve="infonce", dataset=NAMES[c]) for c in CLASSES},
    **{f"table2-closed-{c}": where((1.0, 0.8, "learning"), task="clb", loss="renwj", dataset=NAMES[c]) for c in CLASSES},
    **{f"lambda-3-{c}": where((1.0, 0.8, "learning"), task="clb", loss="reinfonce", dataset=NAMES[c]) for c in CLASSES},
    "table2-better": lambda run, curve: (1.0, 0.8, "learning") if run.task == "clb" or curve == "mine" else None,
    "table2-minimal": lambda run, curve: (1.0, 0.8, "learning") if run.task == "clb" or curve == "mine" else None,
    "table2-clip": lambda run, curve: (1.0, 0.8, "learning") if curve == "retuba" else None,
    "lambda-1": lambda run, curve: (1.0, 0.8, "learning") if run.lam == 0.1 and run.loss[2:] in HEAVY else None,
    "lambda-2": lambda run, curve: (1.0, 0.8, "learning") if run.lam == 0.1 and run.loss[2:] in HEAVY else None,
}


def test_every_check_has_its_plants():
    assert {claim.id for claim in CLAIMS} == set(PLANTS) == set(LEARNING)


@pytest.mark.parametrize("claim", PLANTS)
def test_a_check_can_hold_fail_and_stay_open(claim):
    yes, no, mix = PLANTS[claim]
    assert verdict(claim, encoders(yes)) == "holds"
    assert verdict(claim, encoders(no)) == "fails"
    assert verdict(claim, encoders(mixed(yes, no, mix))) == "inconclusive"
    assert verdict(claim, encoders(yes, seeds=1)) == "inconclusive"


@pytest.mark.parametrize("claim", PLANTS)
def test_runs_that_still_learn_say_nothing(claim):
    assert verdict(claim, encoders(but(LEARNING[claim], PLANTS[claim][0]))) == "undertrained"


@pytest.mark.parametrize("claim", [name for name in PLANTS if name.endswith("-100")] + ["lambda-2"])
def test_without_100_classes_a_claim_about_them_is_untested(claim):
    assert verdict(claim, encoders(usual, keep=lambda key: "digit-pairs" not in key)) == "untested"
    assert verdict("table2-collapse-10", encoders(usual, keep=lambda key: "digit-pairs" not in key)) == "holds"


def test_three_losses_that_still_learn_leave_a_trade_off_to_the_others():
    learning = but(LEARNING["lambda-1"], AGAINST)
    two = but(lambda run, curve: (1.0, 0.8, "learning") if run.lam == 0.1 and run.loss in ("renwj", "retuba") else None, AGAINST)
    assert [verdict("lambda-1", encoders(plant)) for plant in (learning, two)] == ["undertrained", "holds"]


def test_a_slb_gain_that_is_zero_within_a_wide_interval_stays_open():
    wide = but(
        lambda run, curve: (2.2, 0.87 + 0.03 * (-1) ** run.seed, "settled") if run.task == "slb" and curve == "mine" else None
    )
    found = judged("table2-slb-10", encoders(wide))
    assert found.verdict == "inconclusive"
    assert "digits: accuracy minus InfoNCE's: MINE " in found.measured
    assert "(published +0.005), ReMINE +0.030 ± 0.000 (published +0.011), ReTUBA" in found.measured


def test_the_weight_is_chosen_anew_in_every_draw():
    """Seeds 0 and 1 like the largest weight, seeds 2 and 3 the smallest: its mean is on neither side in every draw."""

    def torn(run, curve):
        if run.task == "clb" and run.loss == "resmile":
            near = run.lam == (0.1 if run.seed < 2 else 0.001)
            return (2.3, 0.9, "settled") if near else (0.2, 0.9, "settled")
        return None

    found = judged("table2-collapse-10", encoders(but(torn)))
    assert found.measured.startswith("digits: MI SMILE 0.00 -> 1.25")


# ---- Settled ----------------------------------------------------------------------------------------------------------------

RUN = experiments.groups(experiments.table2("quick"))["clb/digits/mine/None"][0]


def trained(**changes):
    found = encoder(RUN, 1.0, 0.9)
    found.arrays.update(changes)
    return found


@pytest.mark.parametrize(
    ("estimate", "expected"),
    [
        (np.full(100, 1.0), True),
        (np.linspace(0, 1.0, 100), False),  # 0.2 in the last fifth, 5% of the truth is 0.115
        (np.linspace(0.6, 1.0, 100), True),
        (np.linspace(1.0, 0.5, 100), True),  # what falls is not learning
        (np.full(100, 0.1), False),  # has not left zero
        (np.full(100, -3.0), False),
        (np.full(100, -np.inf), False),
    ],
)
def test_settled(estimate, expected):
    assert settled(trained(estimate=estimate), math.log(10)) is expected


def test_one_high_epoch_at_the_end_is_scatter():
    estimate, rest = np.full(40_000, 1.0), {"objective": np.arange(40_000), "pairs": np.ones(40_000)}
    estimate[-143:] = 1.2
    assert settled(trained(estimate=estimate, **rest), math.log(10))
    estimate[-2000:] = 1.2
    assert not settled(trained(estimate=estimate, **rest), math.log(10))


def test_a_frozen_run_has_settled_at_zero_and_one_that_pays_a_penalty_has_not():
    estimate = np.zeros(100)
    assert settled(trained(estimate=estimate, objective=np.full(100, -8093.0)), math.log(10))
    assert settled(trained(estimate=estimate, objective=1e-6 * (np.arange(100) % 2)), math.log(10))  # rounding
    assert not settled(trained(estimate=estimate, objective=np.linspace(-300, -200, 100)), math.log(10))


def test_a_batch_without_a_joint_pair_does_not_count():
    estimate, pairs = np.full(100, 1.0), np.ones(100)
    estimate[::7], pairs[::7] = np.nan, 0
    assert settled(trained(estimate=estimate, pairs=pairs), math.log(10))


def test_diverged_and_untrained_runs_have_settled():
    assert settled(encoder(RUN, 1.0, 0.9, "diverged"), math.log(10))
    untrained = experiments.groups(experiments.table2("quick"))["clb/digits/untrained/None"][0]
    assert settled(encoder(untrained, math.nan, 0.9), math.log(10))


def test_planted_traces_are_what_they_say():
    assert set(traces(1.0)) == {"estimate", "objective", "pairs"}
    assert len(encoders(usual)["clb/digits/mine/None"]) == SEEDS
