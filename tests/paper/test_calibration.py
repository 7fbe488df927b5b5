"""The tasks' truths, the neighbours' formula, and a small calibration that is interrupted."""

import math
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
from scipy.stats import multivariate_t
from sklearn.feature_selection import mutual_info_regression

from remi.__main__ import main
from remi.paper import calibration, figures
from remi.paper.calibration import TASKS, Cell


@pytest.fixture
def records(tmp_path, monkeypatch):
    monkeypatch.setattr(calibration, "RECORDS", tmp_path / "records")
    monkeypatch.setattr(figures, "PRODUCTS", tmp_path)
    return calibration.RECORDS


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_tasks_draw_what_they_say(task):
    x, y = task.draw(np.random.default_rng(0), 50)
    assert len(x) == len(y) == 50
    assert task.mi >= 0
    assert np.array_equal(x, task.draw(np.random.default_rng(0), 50)[0])


def test_student_information_is_the_mean_log_ratio():
    dim, mi, dof = 2, 0.5, 3
    x, y = calibration.student(np.random.default_rng(0), 100_000, dim=dim, mi=mi, dof=dof)
    rho = math.sqrt(1 - math.exp(-2 * mi / dim))
    shape = np.block([[np.eye(dim), rho * np.eye(dim)], [rho * np.eye(dim), np.eye(dim)]])
    joint = multivariate_t(shape=shape, df=dof).logpdf(np.concatenate([x, y], 1))
    alone = multivariate_t(shape=np.eye(dim), df=dof)
    mean = np.mean(joint - alone.logpdf(x) - alone.logpdf(y))
    assert calibration.student_mi(dim, mi, dof) == pytest.approx(mean, abs=0.02)  # four standard errors


@pytest.mark.parametrize("width", [0.1, 0.5, 0.75])
def test_noise_information_by_a_histogram(width):
    _, y = calibration.uniform_noise(np.random.default_rng(0), 200_000, width=width)
    density, edges = np.histogram(y, 200, density=True)
    entropy = -np.sum(density * np.log(np.maximum(density, 1e-12))) * (edges[1] - edges[0])
    assert calibration.uniform_noise_mi(width) == pytest.approx(entropy - math.log(2 * width), abs=0.01)


def test_channel_information_by_counting():
    x, y = calibration.channel(np.random.default_rng(0), 200_000, symbols=5, errors=0.3)
    joint = np.histogram2d(x, y, 5)[0] / len(x)
    ratio = joint / joint.sum(0) / joint.sum(1, keepdims=True)
    assert calibration.channel_mi(5, 0.3) == pytest.approx(np.sum(joint * np.log(ratio)), abs=0.01)


def test_neighbours_are_those_of_scikit_learn_for_one_column():
    x, y = calibration.gaussian(np.random.default_rng(0), 500, dim=1, mi=0.7, pairs=1)
    theirs = mutual_info_regression(x, y[:, 0], n_neighbors=3, random_state=0)[0]
    assert calibration.nearest_neighbours(x, y) == pytest.approx(theirs, abs=0.01)  # they scale by another deviation


def test_a_small_calibration_goes_on_where_it_was(records, monkeypatch):
    monkeypatch.setattr(calibration, "SIZES", (60,))
    cells = [Cell(task.name, 60, method, 0) for task in TASKS[:2] for method in calibration.METHODS]
    calibration.run(cells[:3], 0, steps=20)
    before = {path: path.stat().st_mtime_ns for path in records.iterdir()}
    assert len(before) == 3
    found = calibration.run(cells, 0, steps=20)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert found.value.notna().all()
    table = calibration.summary(found)
    assert table.shape == (8, 11)
    assert table[table.method == "neighbours"].coverage.isna().all()
    assert [axes.get_title(loc="left") for axes in calibration.draw(table).axes] == ["n = 60"]


def said(cells, share, width, seconds):
    """Records of all cells: a share of the truth plus 0.1 nats is missing, 5% for neighbours; the interval is +- width."""
    truths = {task.name: task.mi for task in TASKS}
    rows = []
    for cell in cells:
        mi = truths[cell.task]
        value = mi - (0.05 if cell.method == "neighbours" else share) * (mi + 0.1)
        ends = {"low": value - width, "high": value + width}
        rows.append({**asdict(cell), "mi": mi, "value": value, **ends, "seconds": seconds})
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("share", "width", "seconds", "verdicts"),
    [
        (0.04, 0.1, 30, ["met", "met", "met", "met", "met"]),
        (0.06, 0.1, 30, ["missed", "met", "missed", "met", "met"]),
        (0.2, 0.5, 30, ["missed", "missed", "missed", "met", "met"]),
        (0.04, 0.01, 61, ["met", "met", "met", "missed", "missed"]),
    ],
)
def test_the_command_writes_its_products_and_judges(share, width, seconds, verdicts, records, tmp_path, monkeypatch):
    monkeypatch.setattr(calibration, "run", lambda cells, processes: said(cells, share, width, seconds))
    assert main(["calibration", "--repeats", "2"]) == 0
    assert list(pd.read_csv(tmp_path / "calibration_targets.csv").verdict) == verdicts
    assert {f"calibration{suffix}" for suffix in (".csv", ".json", ".png", ".pdf")} <= {path.name for path in tmp_path.iterdir()}


def test_a_wrong_number_is_one_line(capsys):
    assert main(["calibration", "--repeats", "0"]) == 1
    assert capsys.readouterr().err == "remi calibration: --repeats must be at least 1; got 0\n"


def test_every_part_of_the_grid_is_there():
    cells = calibration.grid(1)
    assert len(cells) == len(set(cells))
    assert {cell.task for cell in cells} == {task.name for task in TASKS}
    assert sum(cell.n == calibration.COVERED_SIZE for cell in cells) == 3 * 40
    assert {cell.task for cell in cells if cell.n == calibration.ACCURATE_SIZE} >= {"Gaussian 10-D, 3", "Gaussian 20-D, 4"}
