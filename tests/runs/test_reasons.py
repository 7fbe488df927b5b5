"""Why a record is not used is said in words, in a line for each reason."""

from dataclasses import replace

import pytest
import torch

from remi.__main__ import main
from remi.paper import experiments
from remi.runs import reasons, store
from remi.runs.specs import CriticRun, EncoderRun, Outcome
from remi.training.problems import OneHot

ONE_HOT = CriticRun("mine", 8, 3, "sgd", 0.1, (4,), problem=OneHot(4))
ENCODER = EncoderRun("mine", 10, 2, "adam", 1e-3, (16, 16))


def put(run, **changed):
    """A record of the run, with some parts of its identity changed; its folder."""
    identity = store.identity
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "identity", lambda run: identity(run) | changed)
        store.save(run, Outcome("ok", {}, {}), 0.0)
        return store.folder(run)


def said(*missing, used=()):
    """The sentences, without what all of them say."""
    return [
        line.replace("1 record is not used", "1").replace(" records are not used", "") for line in reasons.unused(missing, used)
    ]


def test_nothing_is_said_without_records(empty_store):
    assert said(ONE_HOT) == []
    put(replace(ONE_HOT, seed=1))
    assert said(ONE_HOT) == []  # another run's


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"computes": "before"}, "what the code computes has changed"),
        ({"torch": "2.0"}, f"made with PyTorch 2.0 instead of {torch.__version__}"),
        ({"device": "tpu"}, f"made on tpu instead of {store.loop.device().type}"),
        ({"data": "before"}, "other data"),
        (
            {"torch": "2.0", "computes": "before"},
            f"what the code computes has changed, made with PyTorch 2.0 instead of {torch.__version__}",
        ),
        ({"sources": "before"}, "made by an older version of the store"),
    ],
)
def test_a_part_of_the_identity_that_differs_is_named(changed, reason, empty_store):
    put(ENCODER, **changed)
    assert said(ENCODER) == [f"1: {reason} (clb: mine)"]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"steps": 5720}, "steps 5720 instead of 3"),
        ({"hidden": (8, 8)}, "hidden [8, 8] instead of [4]"),
        ({"problem": OneHot(5)}, "problem.symbols 5 instead of 4"),
        ({"options": {"tau": 5.0}}, "options.tau 5.0 instead of None"),
        ({"lr": 0.3, "init_std": 0.1}, "lr 0.3 instead of 0.1, init_std 0.1 instead of None"),
    ],
)
def test_a_specification_that_differs_is_named_by_its_fields(changed, reason, empty_store):
    put(replace(ONE_HOT, **changed))
    assert said(ONE_HOT) == [f"1: {reason} (onehot: mine)"]


@pytest.mark.parametrize("file", ["record.json", "arrays.npz"])
def test_a_damaged_record_is_called_so(file, empty_store):
    path = put(ONE_HOT) / file
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert said(ONE_HOT) == ["1: damaged (onehot: mine)"]


def test_the_record_that_differs_least_counts_and_that_of_another_run_does_not(empty_store):
    put(replace(ONE_HOT, steps=5, lr=0.2))
    put(ONE_HOT, torch="2.0", device="tpu", data="before")
    used = put(replace(ONE_HOT, steps=4))
    assert said(ONE_HOT) == ["1: steps 4 instead of 3 (onehot: mine)"]
    assert said(ONE_HOT, used={used.name}) == ["1: steps 5 instead of 3, lr 0.2 instead of 0.1 (onehot: mine)"]


def test_equal_reasons_are_one_line_and_the_rest_is_counted(empty_store, monkeypatch):
    monkeypatch.setattr(reasons, "SHOWN", 2)
    first = [replace(ONE_HOT, loss=loss, seed=seed) for loss in ("mine", "nwj", "tuba") for seed in range(2)]
    then = [replace(ONE_HOT, seed=seed) for seed in range(2, 6)]
    for run in first:
        put(run, computes="before")
    for run, steps in zip(then, (4, 4, 5, 6), strict=True):
        put(replace(run, steps=steps))
    assert said(*then, *first) == [
        "6: what the code computes has changed (onehot: 3 losses)",
        "2: steps 4 instead of 3 (onehot: mine)",
        "2 for 2 other reasons",
    ]


def test_status_says_it(empty_store, monkeypatch, capsys):
    wanted = [ONE_HOT, replace(ONE_HOT, loss="nwj"), ENCODER]
    monkeypatch.setattr(experiments, "runs_of", lambda name, profile: wanted)
    put(ENCODER)
    put(wanted[0], computes="before")
    put(wanted[1], computes="before")
    assert main(["status"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [
        f"1 of 3 runs done in {empty_store}, 0 of them diverged",
        "2 records are not used: what the code computes has changed (onehot: mine, nwj)",
    ]
