"""Records made up so that a check must come to a given verdict.

A plant says for each curve what its columns are, as functions of the step (0 to 1), standard normal noise and the truth; what
it does not name is noise around zero. With `mix` some of the seeds follow a second plant.
"""

from dataclasses import replace

import numpy as np

from remi.paper import claims, experiments, verdicts
from remi.runs.store import Record
from remi.training.loop import COLUMNS

BY_ID = {claim.id: claim for claim in claims.CLAIMS}
SEEDS = 4
LOST = {"lost": True}  # the run becomes non-finite after two thirds of its steps


def verdict(claim, records):
    """The word of a claim on these records."""
    return judged(claim, records).verdict


def judged(claim, records):
    """The row of a claim on these records."""
    return verdicts.judge(BY_ID[claim], verdicts.Seeds(records), "quick")


def check_words(claim, records, plant):
    """That a claim holds on one kind of records, fails on another, and stays open where the seeds differ."""
    yes, no, mix = plant
    assert verdict(claim, records(yes)) == "holds"
    assert verdict(claim, records(no)) == "fails"
    assert verdict(claim, records(yes, no, mix=mix)) == "inconclusive"


def critics(figure, plant, other=None, mix=(), seeds=SEEDS, **size):
    """Records of every run of a figure whose seeds follow `plant`, those in `mix` follow `other`."""
    plans = {name: replace(plan, seeds=seeds, **size) for name, plan in experiments.PLANS[figure]("quick").items()}
    return {
        key: [critic(run, (other if run.seed in mix else plant).get(key, {})) for run in group]
        for key, group in experiments.groups(plans).items()
    }


def critic(run, columns):
    """A record of one run."""
    random, x = np.random.default_rng(run.seed), np.linspace(0, 1, run.steps)
    truth = np.array([run.problem.true_mi(step) for step in range(run.steps)])
    arrays = {name: 0.01 * random.normal(size=run.steps) for name in (*COLUMNS, "joint_output", "marginal_output")}
    arrays |= {"on_diagonal": np.zeros(run.steps), "table": np.eye(16)}
    for name, function in columns.items():
        if name != "lost":
            arrays[name] = function(x, random.normal(size=run.steps), truth)
    if not columns.get("lost"):
        return Record(run, "ok", {}, arrays, {}, 1.0)
    end = run.steps * 2 // 3
    kept = {name: np.where(np.arange(run.steps) < end, values, np.nan) for name, values in arrays.items() if name != "table"}
    return Record(run, "diverged", {"diverged_at": float(end)}, arrays | kept, {}, 1.0)


def constant(value):
    """A column that hardly moves."""
    return lambda x, e, truth: value + 0.01 * e


def noise(spread):
    """A column that jumps about."""
    return lambda x, e, truth: spread * e


def ramp(height):
    """A column that goes from 0 to a height."""
    return lambda x, e, truth: height * x + 0.01 * e


def off_by(bias, spread=0.01):
    """An estimate with that bias and standard deviation."""
    return lambda x, e, truth: truth + bias + spread * e


# ---- Table 2 ----------------------------------------------------------------------------------------------------------------

SHORT = 100  # steps


def encoders(describe, profile="quick", seeds=SEEDS, keep=lambda key: True):
    """Records of the runs of Table 2, at every weight: `describe(run, curve)` says estimate, accuracy and state of each."""
    plan = experiments.table2(profile)["main"]
    plan = replace(plan, seeds=seeds, benchmarks=tuple(replace(benchmark, lams=()) for benchmark in plan.benchmarks))
    return {
        key: [encoder(run, *describe(run, key.split("/")[2])) for run in group]
        for key, group in experiments.groups({"main": plan}).items()
        if keep(key)
    }


def encoder(run, mi, accuracy, state="settled"):
    """A record of one encoder that has settled, is still learning, is frozen or has diverged."""
    run = replace(run, steps=SHORT if run.steps else 0)
    scalars = {"mi_heldout": mi, "accuracy": accuracy, "accuracy_batch_stats": accuracy}
    if run.steps:
        scalars |= {"mi_train": mi, "mi_last_batch": mi, "mi_dv": mi, "n_skipped": 0.0}
    if state == "diverged":
        return Record(run, state, dict.fromkeys(scalars, np.nan) | {"n_skipped": 0.0, "diverged_at": 0.0}, {}, {}, 1.0)
    return Record(run, "ok", scalars, traces(mi, state, run.steps), {}, 1.0)


def traces(mi, state="settled", steps=SHORT):
    """What a training of that state leaves behind."""
    x, e = np.linspace(0, 1, steps), np.random.default_rng(0).normal(size=steps)
    estimate = {"settled": mi + 0.01 * e, "learning": mi * x**2 + 0.01 * e, "frozen": np.full(steps, mi)}[state]
    return {"estimate": estimate, "objective": estimate, "pairs": np.ones(steps)}
