"""What a sweep is said to take follows from its runs and from the time of a step."""

import subprocess
from dataclasses import replace

import pytest

from remi.runs import budget, store
from remi.runs.specs import CriticRun, EncoderRun
from remi.training import images
from remi.training.problems import GaussianStaircase

CRITIC = CriticRun("mine", 8, 60, "adam", 1e-3, (4,), problem=GaussianStaircase(60))
ENCODER = EncoderRun("mine", 10, 3000, "adam", 1e-3, (16, 16))
CONV = replace(ENCODER, hidden=(4, 8), dataset="cifar-10", network="conv", train_size=6000)


@pytest.fixture
def timed(monkeypatch):
    """Every step takes 36 ms; and the stacks that were timed."""
    sizes = []

    def seconds_per_step(stacks, place):
        sizes.extend(map(len, stacks))
        return [0.036] * len(stacks)

    monkeypatch.setattr(budget, "seconds_per_step", seconds_per_step)
    return sizes


def test_numbers_by_hand(timed):
    found = budget.budget([replace(CONV, task="slb", seed=seed) for seed in (0, 1, 1)], processes=2)
    assert (found.runs, found.steps, found.processes) == (2, 6000, 2)
    assert found.bytes == 4 * 6000 * 3  # three traces of float32
    # one stack: 3,000 steps, and 3 x 10,000 test images in batches of 10 at a third of a step
    assert found.hours == pytest.approx((3000 + 1000) * 0.036 / 2 / 3600)
    assert timed == [2]


def test_retrieval_sees_the_training_images_twice(timed):
    slb, clb = (budget.budget([replace(CONV, task=task)], processes=1).hours for task in ("slb", "clb"))
    assert (clb - slb) * 3600 == pytest.approx(2 * 6000 / 10 / 3 * 0.036)


def test_a_shape_is_timed_once(timed):
    losses = [replace(CRITIC, loss=loss) for loss in ("mine", "smile", "js")]
    untrained = replace(ENCODER, loss="untrained", steps=0)
    found = budget.budget([*losses, replace(CRITIC, batch=9), ENCODER, untrained], processes=1)
    assert timed == [1, 3, 1]
    assert found.hours * 3600 == pytest.approx((2 * 60 + ENCODER.effort + untrained.effort) * 0.036)


@pytest.mark.parametrize("run", [CRITIC, ENCODER, CONV, replace(CONV, dataset="cifar-100", task="slb", batch=100)], ids=repr)
def test_a_step_is_timed_without_cifar(run, monkeypatch):
    def refuse():
        raise AssertionError("it reads CIFAR")

    for name in images.CIFAR:
        monkeypatch.setitem(images.DATASETS, name, refuse)
    assert 0 < budget.time_step([run, replace(run, seed=1)]) < 1


def test_steps_are_timed_by_a_process_such_as_those_that_train(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    done, run = [], subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda *command, **options: done.append(options["env"]) or run(*command, **options))
    found = budget.seconds_per_step([[CRITIC], [replace(CRITIC, batch=64)]], {"HERE": "1"})
    assert len(found) == 2
    assert min(found) >= 0
    assert done[0].items() >= {**store.WORKER_ENVIRONMENT, "HERE": "1"}.items()
    assert budget.seconds_per_step([]) == []
    unknown = replace(ENCODER)
    object.__setattr__(unknown, "dataset", "letters")
    with pytest.raises(RuntimeError, match="dataset must be one of"):
        budget.seconds_per_step([[unknown]])


@pytest.mark.parametrize(
    ("hours", "processes", "words"),
    [(0.5, 1, "about 30 minutes with 1 process on"), (1.25, 2, "1.2 hours with 2 processes"), (4321, 2, "4,321 hours")],
)
def test_words(hours, processes, words):
    text = str(budget.Budget(1234, 5_000_000, hours, processes, 3e9, "abacus"))
    assert text.startswith("1,234 runs of 5,000,000 steps in all")
    assert text.endswith("on abacus, about 3,000 MB on disk")
    assert words in text
