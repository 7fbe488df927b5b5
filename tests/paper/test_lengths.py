"""A training settles where its estimate stops to rise."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import lengths

from remi.paper import experiments
from remi.runs.specs import EncoderRun
from remi.runs.store import Record

STEPS = 24_000


def record(estimate, **scalars):
    arrays = {"estimate": estimate, "objective": estimate * (1 + 0.1 * np.sin(np.arange(STEPS))), "pairs": np.ones(STEPS)}
    run = EncoderRun("mine", 10, STEPS, "adam", 1e-3, (64, 512))
    return Record(run, "diverged" if scalars else "ok", {"accuracy": 0.9, **scalars}, arrays, {}, 0.0)


@pytest.mark.parametrize(
    ("course", "settles"),
    [
        (lambda t: 2 * np.minimum(t / 0.5, 1), 0.6),  # rises to the half, and is still for a fifth from 0.58 on
        (lambda t: 2 * t, np.inf),
        (lambda t: 0 * t, 1 / lengths.CUTS),  # frozen: the objective is the same for every batch
    ],
)
def test_from_which_length_on(course, settles):
    found = lengths.settles_at(record(course(np.linspace(0, 1, STEPS))), truth=2.3)
    assert found == pytest.approx(settles * STEPS, abs=STEPS / lengths.CUTS)


def test_a_row_names_its_cell_and_shows_the_course():
    row = lengths.row("clb/digits/remine/0.1", record(np.full(STEPS, 1.5)), truth=2.3)
    assert (row["task"], row["curve"], row["lam"], row["mi_6of6"], row["status"]) == ("clb", "remine", "0.1", 1.5, "ok")
    assert "mi_1of6" not in lengths.row("clb/digits/nwj/None", record(np.full(STEPS, np.nan), diverged_at=0.0), truth=2.3)


def test_every_loss_is_searched_at_one_length_whatever_the_profile_gives_it():
    photographs = experiments.SMALL_CIFAR[0]
    assert "clb/renwj" in photographs.longer
    found = lengths.searched(photographs, 500, ["clb"])
    assert {run.steps for runs in found.values() for run in runs} == {500}
    assert len(found) == 6 + 6 * 3  # originals, and twins at every weight
    assert set(lengths.searched(photographs, 500, ["clb"], ["mine", "tuba"])) == {
        "clb/cifar-10/mine/None",
        "clb/cifar-10/tuba/None",
    }
