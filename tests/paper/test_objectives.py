"""The benchmark of objectives: its cells, what is made of planted records, and one small estimate of each kind."""

import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import objectives

from remi.estimation.plan import LOSSES
from remi.paper import cells
from remi.paper.cells import ALONE, DEFAULT, Cell
from remi.runs import store
from remi.theory import known

NAMES = [task.name for task in known.TASKS[::20]]


def planted(change=lambda kind, task, objective: {}, every=20):
    """Records 0.1 below the truth, 0.05 by Donsker-Varadhan (0.052 for NWJ), but where `change` says other fields."""
    found = []
    for cell, chosen in objectives.asked(every, 1000, 1):
        mi = cells.TASKS[cell.task].mi
        dv = mi - 0.05 - 0.002 * (chosen["bound"] == "nwj")
        record = {"value": mi - 0.1, "low": mi - 0.2, "high": mi, "readings": {"Donsker-Varadhan": dv}, "diverged": 0}
        record |= change(cell.method, cell.task, chosen["bound"])
        if "error" in record:
            record["value"] = mi - record.pop("error")
        found.append({"identity": {**asdict(cell), "chosen": chosen}, "mi": mi, "seconds": 9.0, "processor": 2.0, **record})
    return found


def sums(records):
    return objectives.summary(objectives.per_task(objectives.whole(objectives.table(records))))


def one(records, kind, objective):
    return sums(records).set_index(["kind", "objective"]).loc[(kind, objective)]


def test_every_objective_is_asked_the_same_of_the_same_rows():
    asked = list(objectives.asked(20, 1000, 2))
    assert sorted(objectives.ORDER) == sorted(LOSSES)
    assert len(asked) == 2 * len(NAMES) * 2 * len(LOSSES)
    for kind, options in objectives.KINDS.items():
        own = [(cell, chosen) for cell, chosen in asked if cell.method == kind]
        assert {chosen["bound"] for _, chosen in own} == set(LOSSES)
        assert all({**chosen, "bound": None} == {**options, "bound": None} for _, chosen in own)
        assert {(cell.task, cell.seed) for cell, _ in own} == {(name, seed) for name in NAMES for seed in (0, 1)}
    whole_task = asked[: 2 * len(LOSSES)]
    assert {cell.task for cell, _ in whole_task} == {NAMES[0]}  # what is interrupted has whole tasks


def test_the_sums_of_planted_records():
    def change(kind, task, objective):
        if (kind, objective) == (ALONE, "js"):
            return {"error": 0.4, "high": -9.0, "diverged": 3} if task == NAMES[0] else {"error": -0.2}
        return {}

    row = one(planted(change), ALONE, "js")
    assert (row.tasks, row.failed, row.diverged) == (2, 0, 3)
    assert (row.mean_absolute_error, row["median"], row.largest) == pytest.approx((0.3, 0.3, 0.4))
    assert (row.mean_absolute_error_dv, row.held, row.seconds) == pytest.approx((0.05, 0.5, 2.0))
    row = one(planted(change), DEFAULT, "js")
    assert (row.mean_absolute_error, row.held, row.diverged) == pytest.approx((0.1, 1.0, 0))
    assert list(sums(planted(change)).objective) == objectives.ORDER * 2
    assert list(sums(planted(change)).kind) == [DEFAULT] * len(LOSSES) + [ALONE] * len(LOSSES)


@pytest.mark.parametrize("failure", [{"value": None, "low": None, "high": None, "readings": {}}, {"value": np.nan}])
def test_what_failed_is_infinitely_far_off_and_counted(failure):
    lost = planted(lambda kind, task, objective: failure if (task, objective) == (NAMES[1], "nwj") else {})
    row = one(lost, DEFAULT, "nwj")
    assert (row.failed, row.mean_absolute_error, row.tasks) == (1, np.inf, 2)
    assert row.held == pytest.approx(0.5 if failure["value"] is None else 1.0)


def test_a_task_counts_when_every_objective_has_answered_it():
    records = [
        record
        for record in planted()
        if (record["identity"]["method"], record["identity"]["task"], record["identity"]["chosen"]["bound"])
        != (ALONE, NAMES[1], "fdime")
    ]
    assert set(sums(records).groupby("kind").tasks.unique().explode().items()) == {(DEFAULT, 2), (ALONE, 1)}
    assert len(objectives.per_task(objectives.whole(objectives.table(records)))) == 3 * len(LOSSES)


EXPECTED = {
    "as planted": ({}, ["met", "missed", "met", "missed"]),
    "a default is off": ({(DEFAULT, "js"): 0.121}, ["missed", "missed", "met", "missed"]),
    "a default is nearer": ({(DEFAULT, "js"): 0.079}, ["missed", "missed", "met", "missed"]),
    "a default is off by little": ({(DEFAULT, "js"): 0.119}, ["met", "missed", "met", "missed"]),
    "a later loss is nearer": ({(ALONE, "sigmoid"): 0.079}, ["met", "met", "met", "met"]),
    "an older loss is nearer": ({(ALONE, "mine"): 0.095}, ["met", "missed", "met", "met"]),
    "an older loss is nearer by little": ({(ALONE, "mine"): 0.097}, ["met", "missed", "met", "missed"]),
    "a twin is farther": ({(ALONE, "renwj"): 0.111}, ["met", "missed", "missed", "met"]),
    "an original is nearer": ({(ALONE, "js"): 0.089}, ["met", "missed", "missed", "met"]),
    "an original fails": ({(ALONE, "nwj"): np.inf}, ["met", "missed", "met", "met"]),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_expectations_of_planted_records(name):
    errors, verdicts = EXPECTED[name]
    found = planted(lambda kind, task, objective: {"error": errors.get((kind, objective), 0.1)})
    assert list(objectives.judged(sums(found)).verdict) == verdicts


def test_the_same_spread_read_in_one_way_is_no_matter_of_reading():
    def change(kind, task, objective):
        off = 0.1 + 0.1 * (objective == "sigmoid")
        return {"error": off, "readings": {"Donsker-Varadhan": cells.TASKS[task].mi - off}}

    assert list(objectives.judged(sums(planted(change))).verdict)[-1] == "missed"


def test_the_picture_has_a_panel_per_kind_with_every_number():
    figure = objectives.drawn(sums(planted(lambda kind, task, objective: {"error": 0.3 if objective == "tuba" else 0.1})))
    for axes in figure.axes:
        assert [text.get_text() for text in axes.texts].count("0.300") == 1
    assert len(figure.axes) == 2
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == objectives.ORDER
    alone = planted(lambda kind, task, objective: {})
    assert len(objectives.drawn(sums([r for r in alone if r["identity"]["method"] == ALONE])).axes) == 1


def test_a_critic_alone_is_one_and_its_record_is_found_again(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "STORE", tmp_path)
    cell, chosen = Cell("multinormal-dense-2-2-0.5", 60, 0, ALONE), {"bound": "fdime", **objectives.PLAIN, "steps": 20}
    record = cells.solve(cell, **chosen)
    assert record["value"] == record["readings"]["held-out bound"]  # nothing in closed form, so nothing is added
    assert record["readings"]["Donsker-Varadhan"] == pytest.approx(record["value"])
    assert record["diverged"] == 0
    assert cells.load(cell, **chosen) == record
    assert cells.load(cell, **chosen | {"hidden": [64]}) is None
    other = cells.solve(cell, **chosen | {"outputs": 8})
    assert other["value"] != record["value"]
    assert Cell("multinormal-dense-2-2-0.5", 1000, 0, ALONE) not in cells.grid()
