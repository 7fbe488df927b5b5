"""Cells, their records, a board that is interrupted and asked for in parts, its products, and planted records for the judge."""

import dataclasses
import json
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from sklearn.feature_selection import mutual_info_regression

from remi.__main__ import main
from remi.paper import cells, figures, scoreboard, standings
from remi.paper.cells import DEFAULT, FORTY, NEIGHBOURS, SEEDS, TASKS, Cell
from remi.paper.neighbours import nearest_neighbours
from remi.runs import store
from remi.theory import known

PRODUCTS = {f"scoreboard{suffix}" for suffix in (".csv", ".json", ".png", ".pdf", "_summary.csv", "_targets.csv")}
LITTLE = {"steps": 20, "restarts": 1}


@pytest.fixture
def products(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "STORE", tmp_path / "runs")
    monkeypatch.setattr(figures, "PRODUCTS", tmp_path)
    return tmp_path


@pytest.fixture
def quick(products, monkeypatch):
    """The command in this process, with methods that read the truth: the cells that they were asked."""
    asked = []

    def method(task, x, y, seed):
        asked.append((task.name, len(x), seed))
        return {"value": task.mi, "low": task.mi - 0.1, "high": task.mi + 0.1, "diagnostics": ["none"]}

    monkeypatch.setattr(cells, "METHODS", {DEFAULT: method, NEIGHBOURS: method})
    monkeypatch.setattr(scoreboard, "ProcessPoolExecutor", lambda *arguments: ThreadPoolExecutor(1))
    monkeypatch.setattr(os, "environ", dict(os.environ))
    return asked


# ---- Cells and records --------------------------------------------------------------------------------------------------


def test_the_grid_is_the_whole_board():
    every = cells.grid()
    assert len(every) == len(set(every))
    forty = [cell for cell in every if cell.task in FORTY]
    assert len(forty) == 2 * 40 * len(known.SIZES) * SEEDS
    assert {cell.method for cell in every if cell.task not in FORTY} == {DEFAULT}
    assert {cell.task for cell in every} == set(TASKS)


@pytest.mark.parametrize(
    ("asked", "count"),
    [
        ({"seeds": [0]}, 2 * 40 * 3 + 44),
        ({"sizes": [5000], "seeds": [1, 2]}, 2 * (2 * 40 + 2)),
        ({"tasks": ["spiral"], "sizes": [1000]}, 2 * 6 * SEEDS),
        ({"tasks": ["1v1-normal-0.75", "many nats"], "seeds": [4]}, 2 * 3 + 5),
    ],
)
def test_a_part_of_the_board(asked, count):
    assert len(scoreboard.part(**{"seeds": None, "sizes": None, "tasks": None} | asked)) == count


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("--seeds 5", "--seeds must be among 0, 1, 2, 3, 4; got 5"),
        ("--sizes 1000 7", "--sizes must be among 20, 100, 200, 300, 1000, 2000, 5000, 10000; got 7"),
        ("--tasks spirals", f"--tasks must be among {', '.join(cells.FAMILIES)}, or a task's name; got spirals"),
        ("--tasks spiral --sizes 20", "--sizes and --tasks must have an estimate in common; got 20; spiral"),
    ],
)
def test_a_part_that_is_not_there_is_one_line(words, error, capsys):
    assert main(["scoreboard", *words.split()]) == 1
    assert capsys.readouterr().err == f"remi scoreboard: {error}\n"


def test_records_are_written_once_and_known_by_what_is_estimated(products, monkeypatch):
    asked = [Cell("1v1-normal-0.75", 60, seed, method) for seed in (0, 1) for method in (DEFAULT, NEIGHBOURS)]
    for cell in asked[:3]:
        cells.solve(cell, **LITTLE)
    before = {path: path.stat().st_mtime_ns for path in (store.STORE / ".scoreboard").iterdir()}
    assert len(before) == 3
    for cell in asked:
        cells.solve(cell, **LITTLE)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    record = cells.load(asked[0], **LITTLE)
    assert record["low"] <= record["value"] <= record["high"]
    assert record["mi"] == pytest.approx(0.4133, abs=1e-4)
    assert record["environment"] == store.environment()

    assert cells.load(asked[0]) is None  # the default is another estimate
    other = dict.fromkeys(cells.CODE, "another")
    with monkeypatch.context() as patch:
        patch.setattr(cells, "CODE", other)
        assert cells.load(asked[0], **LITTLE) is None
    path = cells.path(asked[0], **LITTLE)
    path.write_text(path.read_text()[:-20])
    assert cells.load(asked[0], **LITTLE) is None
    assert cells.solve(asked[0], **LITTLE)["value"] == record["value"]


def test_tasks_and_seeds_have_rows_of_their_own():
    first, again, other, bent = (
        np.sort(cells.rows(Cell(task, 30, seed, method))[0], 0)
        for task, seed, method in (
            ("1v1-normal-0.75", 0, DEFAULT),
            ("1v1-normal-0.75", 0, NEIGHBOURS),
            ("1v1-normal-0.75", 1, DEFAULT),
            ("wiggly-1v1-normal-0.75", 0, DEFAULT),
        )
    )
    assert (first == again).all()
    assert not np.isclose(first, other).any()
    assert not np.isclose(known.wiggly_x(first), bent).any()


def test_what_the_estimate_refuses_is_recorded_with_its_reason(products):
    record = cells.solve(Cell("table-deterministic-100", 100, 0))
    assert "must have at most a level per" in record["refused"]
    assert "value" not in cells.load(Cell("table-deterministic-100", 100, 0))


def test_processes_write_the_same_records(products, monkeypatch):
    monkeypatch.setenv("REMI_RUNS", str(store.STORE))
    monkeypatch.setattr(os, "environ", dict(os.environ))
    cell = Cell("1v1-normal-0.75", 60, 0, NEIGHBOURS)
    scoreboard.run([cell], 1)
    there = cells.load(cell)
    cells.path(cell).unlink()
    assert cells.solve(cell)["value"] == there["value"]


def test_neighbours_are_those_of_scikit_learn_for_one_column():
    x, y = TASKS["1v1-normal-0.75"].draw(np.random.default_rng(0), 500)
    theirs = mutual_info_regression(x, y[:, 0], n_neighbors=3, random_state=0)[0]
    assert nearest_neighbours(x, y) == pytest.approx(theirs, abs=0.01)  # they scale by another deviation


def test_neighbours_by_counting():
    x, y = (np.random.default_rng(seed).normal(size=(40, 2)) for seed in (0, 1))
    near = []
    for i in range(40):
        d_x, d_y = (np.abs((z - z[i]) / z.std(0)).max(1) for z in (x, y))
        kth = np.sort(np.maximum(d_x, d_y))[3]
        near += [(d_x < kth).sum(), (d_y < kth).sum()]
    harmonic = [sum(1 / j for j in range(1, m)) for m in range(41)]  # digamma(m) + Euler's constant
    expected = harmonic[3] + harmonic[40] - 2 * np.mean([harmonic[m] for m in near])
    assert nearest_neighbours(x, y) == pytest.approx(expected, abs=1e-6)


# ---- The command --------------------------------------------------------------------------------------------------------


PART = ["scoreboard", "--tasks", "uniform noise", "--sizes", "1000", "--seeds", "0"]  # two tasks, two methods


def test_a_board_that_fails_writes_its_products_and_goes_on(quick, products, monkeypatch, capsys):
    method = cells.METHODS[DEFAULT]

    def failing(task, x, y, seed):
        if task.name == "1v1-additive-0.1":
            raise RuntimeError("no memory")
        return method(task, x, y, seed)

    with monkeypatch.context() as patch:
        patch.setitem(cells.METHODS, DEFAULT, failing)
        assert main(PART) == 1
    said = capsys.readouterr()
    assert "4 estimates to make: about" in said.out
    assert re.search(r"1 of 4 estimates failed; the first: Cell\(.*1v1-additive-0.1.*no memory", said.err)
    assert {path.name for path in products.iterdir()} >= PRODUCTS
    assert len(pd.read_csv(products / "scoreboard.csv")) == 3
    assert main(PART) == 0
    assert len(quick) == len(set(quick)) * 2 == 4  # each once
    said = capsys.readouterr().out
    assert "1 estimates to make: about" in said
    assert "n = 1,000: seeds 0 of 5, 2 of 200 estimates" in said
    assert json.loads((products / "scoreboard.json").read_text())["cells"] == 4


def test_a_board_that_is_interrupted_writes_its_products(quick, products, monkeypatch):
    def interrupted(asked):
        first, *_ = asked
        first.result()
        raise KeyboardInterrupt

    monkeypatch.setattr(scoreboard, "as_completed", interrupted)
    assert main(PART) == 130
    assert 1 <= len(pd.read_csv(products / "scoreboard.csv")) <= 4


def test_parts_add_up_and_the_products_say_what_is_missing(quick, products, capsys):
    assert main(["scoreboard", "--seeds", "0,1", "--sizes", "1000"]) == 0
    assert main(["scoreboard", "--seeds", "0", "--tasks", "noisy channel"]) == 0
    assert "n = 1,000: seeds 2 of 5, 80 of 200 estimates" in capsys.readouterr().out
    targets = pd.read_csv(products / "scoreboard_targets.csv")
    assert set(targets.verdict) == {"unfinished"}
    assert list(targets.cells) == [80, 0, 0, 0, 80, 80]
    summary = pd.read_csv(products / "scoreboard_summary.csv").set_index(["tasks", "method", "n"])
    assert summary.loc[(standings.ALL, DEFAULT, 1000)].cells == 80
    assert summary.loc[(standings.ALL, "Alice Base", 5000)].mean_absolute_error == 0.063
    assert summary.xs("noisy channel").of.item() == 15
    assert main(["scoreboard", "--seeds", "0", "--tasks", "noisy channel"]) == 0
    assert "0 estimates to make: all are there" in capsys.readouterr().out


def test_the_hours_are_those_of_the_committed_board(products):
    asked = [Cell("1v1-normal-0.75", 1000, seed) for seed in range(4)]
    assert scoreboard.hours(asked, 2) == pytest.approx(2 * 12 / 3600)
    pd.DataFrame([{"task": "1v1-normal-0.75", "n": 1000, "method": DEFAULT, "seconds": 90.0}]).to_csv(products / "scoreboard.csv")
    assert scoreboard.hours(asked, 2) == pytest.approx(0.05)


# ---- The judge ----------------------------------------------------------------------------------------------------------


def planted(change=None, asked=None):
    """Records of the whole board that are nearly the truth, but where `change` says other fields."""
    found = []
    for cell in cells.grid() if asked is None else asked:
        mi = TASKS[cell.task].mi
        record = {"value": mi - 0.01, "low": mi - 0.05, "high": mi + 0.05} if cell.method == DEFAULT else {"value": mi + 0.2}
        record |= (change and cell.method == DEFAULT and change(cell, mi)) or {}
        identity = {**dataclasses.asdict(cell), "code": "", "chosen": {}}
        found.append({"identity": identity, "environment": {}, "mi": mi, "seconds": 1.0, "diagnostics": [], **record})
    return found


def off(error, **where):
    """A change: the value is so far off on cells with these fields."""
    return lambda cell, mi: {"value": mi + error} if all(getattr(cell, key) == value for key, value in where.items()) else None


def misses(*seeds, **where):
    """A change: the interval misses the truth on cells with these seeds and fields."""
    return lambda cell, mi: (
        {"low": mi + 0.01} if cell.seed in seeds and all(getattr(cell, key) == value for key, value in where.items()) else None
    )


def refused(**where):
    """A change: there is no value on cells with these fields."""
    answer = {"value": None, "low": None, "high": None, "refused": "why"}
    return lambda cell, mi: answer if all(getattr(cell, key) == value for key, value in where.items()) else None


MET = ["met"] * 6
VERDICTS = {
    "all is met": (None, MET),
    "the mean is off at 1,000": (off(-0.0901, n=1000), ["missed", *MET[1:]]),
    "the mean is just right at 1,000": (off(-0.0899, n=1000), MET),
    "the mean is off at 5,000": (off(0.0351, n=5000), ["met", "missed", *MET[2:]]),
    "the mean is off at 10,000": (off(0.0251, n=10_000), ["met", "met", "missed", *MET[3:]]),
    "a task is off at 5,000": (off(-0.151, n=5000, task="1v1-additive-0.1"), [*MET[:3], "missed", "met", "met"]),
    "a task is off at 1,000 alone": (off(-0.151, n=1000, task="1v1-additive-0.1"), MET),
    "a seed of a task is off at 5,000": (off(-0.5, n=5000, task="1v1-additive-0.1", seed=2), MET),
    "a seed misses at one size": (misses(2, n=10_000), [*MET[:4], "missed", "met"]),
    "a task misses in 4 of 15": (misses(0, 1, 2, 3, n=1000, task="1v1-additive-0.1"), [*MET[:5], "missed"]),
    "a task misses in 3 of 15": (misses(2, task="1v1-additive-0.1"), MET),
    "an estimate is refused": (
        refused(n=5000, seed=0, task="1v1-additive-0.1"),
        ["met", "missed", "met", "missed", "met", "met"],
    ),
    "other boards do not count": (lambda cell, mi: {"value": mi + 9} if cell.task not in FORTY else None, MET),
}


@pytest.mark.parametrize("name", VERDICTS)
def test_planted_records_get_their_verdict(name):
    change, verdicts = VERDICTS[name]
    assert list(standings.judge(cells.table(planted(change))).verdict) == verdicts


@pytest.mark.parametrize(("n", "finished"), [(1000, [1, 2, 3]), (5000, [0, 2])])
def test_a_missing_estimate_leaves_a_goal_open(n, finished):
    records = cells.table(planted(asked=[cell for cell in cells.grid() if cell != Cell("1v1-normal-0.75", n, 4)]))
    verdicts = standings.judge(records).verdict
    assert list(verdicts[verdicts != "unfinished"].index) == finished
    assert f"n = {n:,}: seeds 4 of 5, 199 of 200 estimates" in standings.missing(records)


def test_a_whole_board_misses_nothing():
    assert standings.missing(cells.table(planted())) == ""


def test_the_sums_count_a_task_once():
    records = cells.table(planted(off(-0.41, n=1000, task="1v1-additive-0.1")))
    rows = standings.summary(records).set_index(["tasks", "method", "n"])
    whole = rows.loc[(standings.ALL, DEFAULT, 1000)]
    assert whole.mean_absolute_error == pytest.approx(0.02)
    assert (whole["median"], whole.largest, whole.largest_task) == pytest.approx((0.01, 0.41, "1v1-additive-0.1"))
    assert (whole.coverage, whole.width, whole.cells, whole.of) == pytest.approx((1, 0.1, 200, 200))
    assert rows.loc[(standings.GAUSSIAN, DEFAULT, 1000)].mean_absolute_error == pytest.approx(0.01)
    assert rows.loc[(standings.OTHER, DEFAULT, 1000)].mean_absolute_error == pytest.approx(0.03)
    assert rows.loc[(standings.ALL, NEIGHBOURS, 5000)].mean_absolute_error == pytest.approx(0.2)
    assert rows.xs("tables").cells.item() == 8 * 3 * SEEDS
    table = standings.per_task(records)
    assert table.shown.isna().all()
    assert list(table.task.unique()) == list(TASKS)
    assert len(table) == 2 * 40 * 3 + 44


def test_the_lines_of_readme_come_from_the_products(products):
    standings.save(planted(off(-0.41, n=1000, task="1v1-additive-0.1")))
    lines = standings.markdown()
    assert lines[0] == "| mean absolute error over the 40 tasks, nats | n = 1,000 | n = 5,000 | n = 10,000 |"
    assert lines[2] == "| **`estimate_mi`**, defaults (goal) | 0.020 (0.090) | 0.010 (0.035) | 0.010 (0.025) |"
    assert lines[4] == "| on 20 other ones | 0.030 | 0.010 | 0.010 |"
    assert lines[5] == "| on the 9 of these without Student-t tails | 0.054 | 0.010 | 0.010 |"
    assert lines[6] == "| share of its 95% intervals that hold the truth (goal 93%) | 100% | 100% | 100% |"
    assert lines[7] == "| nearest neighbours, the same rows | 0.200 | 0.200 | 0.200 |"
    assert lines[8] == "| Alice Base, a pretrained model of 85 million parameters | 0.092 | 0.063 | 0.060 |"
    assert len(lines) == 14
    standings.save(planted(asked=scoreboard.part([0], [1000], ["half-cube", "many nats"])))
    assert standings.markdown()[2] == (
        "| **`estimate_mi`**, defaults (goal), 4 of 600 estimates so far | 0.010 (0.090) | – (0.035) | – (0.025) |"
    )
    assert standings.markdown()[4] == "| on 20 other ones | – | – | – |"


def test_the_share_of_small_p_values():
    asked = [Cell("independent-5-5", 1000, seed) for seed in range(4)]
    found = planted(lambda cell, mi: {"p_value": [0.04, 0.05, 0.06, 0.9][cell.seed]}, asked)
    assert standings.per_task(cells.table(found)).shown.item() == 0.5


def test_labels_are_short_and_different():
    labels = [standings.label(name) for name in TASKS if name in FORTY]
    assert len(set(labels)) == 40
    assert max(map(len, labels)) <= 33
    assert standings.label("spiral-normal_cdf-multinormal-sparse-25-25-2-2.0") == "spiral of CDF of 2 pairs, 25 + 25"


def test_the_picture_has_a_mark_per_estimate():
    figure = standings.draw(cells.table(planted(misses(0, n=5000))))
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["n = 1,000", "n = 5,000", "n = 10,000"]
    marks = [[len(line.get_xdata()) for line in axes.lines[1:]] for axes in figure.axes]
    assert marks == [[200, 200, 0], [200, 160, 40], [200, 200, 0]]  # neighbours, filled, hollow
    assert figure.axes[1].lines[-1].get_markerfacecolor() == "white"


def test_the_same_records_make_the_same_products(products):
    found = planted(asked=scoreboard.part([0], [1000], ["half-cube"]))
    contents = []
    for _ in range(2):
        standings.save(found)
        contents.append({path.name: path.read_bytes() for path in products.iterdir()})
        time.sleep(0.01)
    assert contents[0] == contents[1]
    assert set(contents[0]) == PRODUCTS
