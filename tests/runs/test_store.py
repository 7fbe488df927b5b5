"""The run store never shows half a record or a wrong number, and the runner finishes whatever happens to its workers."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from contextlib import closing, suppress
from dataclasses import fields, replace
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
import torch

from remi.paper import experiments
from remi.runs import store
from remi.runs.specs import CriticRun, EncoderRun, Outcome, from_json, to_json
from remi.training import images
from remi.training.problems import GaussianStaircase, OneHot

ONE_HOT = CriticRun("mine", 8, 3, "sgd", 0.1, (4,), problem=OneHot(4))
GAUSSIAN = CriticRun("remine", 4, 3, "adam", 1e-3, (4,), 0.5, options={"target": 1.0}, problem=GaussianStaircase(2, 3, (0.5, 1)))
ENCODER = EncoderRun("mine", 10, 2, "adam", 1e-3, (16, 16))
OUTCOME = Outcome(
    "diverged",
    {"nan": math.nan, "up": math.inf, "down": -math.inf, "third": 1 / 3, "tiny": 5e-324, "diverged_at": 7},
    {"trace": np.array([1 / 3, np.nan, np.inf], np.float32), "empty": np.zeros((0, 2)), "table": np.arange(6).reshape(2, 3)},
)
FILES = ("record.json", "arrays.npz")
PYTHON = sys.executable


def saved(run=ONE_HOT, outcome=OUTCOME):
    store.save(run, outcome, 1.5)
    return store.load(run)


def contents(run):
    """What may not depend on how a run came to be."""
    record = json.loads((store.folder(run) / "record.json").read_text())
    return record["scalars"], record["status"], record["identity"], (store.folder(run) / "arrays.npz").read_bytes()


def workers(sweep):
    """The process numbers of a sweep's workers; importing PyTorch may start other processes."""
    children = [int(pid) for task in Path(f"/proc/{sweep.pid}/task").glob("*/children") for pid in task.read_text().split()]
    found = []
    for pid in children:
        with suppress(FileNotFoundError, ProcessLookupError):
            found += [pid] * (b"-m\0remi\0run" in Path(f"/proc/{pid}/cmdline").read_bytes())
    return found


def equal(one, other):
    return repr(replace(one, arrays={})) == repr(replace(other, arrays={})) and all(
        np.array_equal(values, other.arrays[name], equal_nan=True) for name, values in one.arrays.items()
    )


def test_a_record_comes_back_as_it_was(empty_store):
    record = saved()
    assert (record.run, record.status, record.ok, record.seconds) == (ONE_HOT, "diverged", False, 1.5)
    assert repr(record.scalars) == repr({name: float(OUTCOME.scalars[name]) for name in sorted(OUTCOME.scalars)})
    assert record.arrays.keys() == OUTCOME.arrays.keys()
    for name, values in OUTCOME.arrays.items():
        assert record.arrays[name].dtype == values.dtype
        assert np.array_equal(record.arrays[name], values, equal_nan=True)
    assert record.environment["torch"] == torch.__version__


def test_record_is_strict_json_and_nothing_else_is_left(empty_store):
    saved()
    json.loads((store.folder(ONE_HOT) / "record.json").read_text(), parse_constant=pytest.fail)
    assert list(empty_store.iterdir()) == [store.folder(ONE_HOT)]
    assert {path.name for path in store.folder(ONE_HOT).iterdir()} == set(FILES)


def test_no_record_before_the_first(empty_store):
    assert store.load(ONE_HOT) is None
    assert store.missing([ONE_HOT, replace(ONE_HOT, seed=1), ONE_HOT]) == [ONE_HOT, replace(ONE_HOT, seed=1)]


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", [lambda b: b"", lambda b: b[: len(b) // 2], lambda b: b[:-1], lambda b: b + b" 1", None])
def test_a_damaged_record_is_trained_again(empty_store, file, damage):
    store.train([ONE_HOT])
    first, path = store.load(ONE_HOT), store.folder(ONE_HOT) / file
    if damage:
        path.write_bytes(damage(path.read_bytes()))
    else:
        path.unlink()
    assert store.load(ONE_HOT) is None
    assert store.missing([ONE_HOT]) == [ONE_HOT]
    store.train([ONE_HOT])
    assert equal(replace(store.load(ONE_HOT), seconds=first.seconds), first)


@pytest.mark.parametrize(("file", "every"), [("record.json", 1), ("arrays.npz", 9)])
def test_a_flipped_bit_never_gives_a_wrong_number(empty_store, file, every):
    whole, path = saved(), store.folder(ONE_HOT) / file
    data = path.read_bytes()
    for position in range(0, len(data), every):
        flipped = bytearray(data)
        flipped[position] ^= 1  # another digit, where there is one
        path.write_bytes(flipped)
        record = store.load(ONE_HOT)
        assert record is None or equal(record, whole), bytes(flipped[max(0, position - 20) : position + 20])


@pytest.mark.parametrize("before", ["nothing", "good", "damaged"])
def test_writers_of_one_run_do_not_collide(empty_store, before, at_once):
    for _ in range(10):
        if before != "nothing":
            saved()
        if before == "damaged":
            (store.folder(ONE_HOT) / "arrays.npz").write_bytes(b"")
        at_once(saved)
        assert store.load(ONE_HOT).scalars["third"] == 1 / 3
        assert [path for path in empty_store.iterdir() if not path.name.startswith(".damaged")] == [store.folder(ONE_HOT)]


CHANGES = {  # of every field
    "loss": "smile",
    "batch": 9,
    "steps": 4,
    "optimizer": "adam",
    "lr": 0.2,
    "hidden": (5,),
    "lam": 0.25,
    "seed": 1,
    "options": {"tau": 5.0},
    "problem": OneHot(5),
    "output_bias": False,
    "init_std": 0.1,
    "task": "slb",
    "dataset": "digit-pairs",
    "train_size": 100,
    "network": "conv",
    "side": 16,
    "precision": "bf16",
    "compiled": True,
    "stratified": True,
    "symbols": 7,
    "steps_per_level": 5,
    "dim": 7,
    "levels": (1.0,),
}


@pytest.mark.parametrize("run", [GAUSSIAN, ENCODER], ids=["critic", "encoder"])
def test_identity_holds_every_field(run):
    run = replace(run, optimizer="sgd")  # which can be compiled
    changed = [run] + [replace(run, **{f.name: CHANGES[f.name]}) for f in fields(run)]
    assert len({store.folder(other) for other in changed}) == len(changed)


@pytest.mark.parametrize("problem", [OneHot(), GaussianStaircase(4)], ids=["onehot", "gaussian"])
def test_identity_holds_every_field_of_the_problem(problem):
    changed = [problem] + [replace(problem, **{f.name: CHANGES[f.name]}) for f in fields(problem)]
    assert len({store.folder(replace(ONE_HOT, problem=other)) for other in changed}) == len(changed)


def test_identity_holds_data_torch_and_what_the_code_computes(monkeypatch):
    pixels = images.digits().test_images.clone()
    pixels[0, 0] += 1
    found = {store.folder(ENCODER)}
    for setting in (
        (images.DATASETS, "digits", lambda: replace(images.digits(), test_images=pixels)),
        (store.__dict__, "computes", lambda run, cache: "other"),
        (torch.__dict__, "__version__", "0.0"),
    ):
        with monkeypatch.context() as patch:
            patch.setitem(*setting)
            found.add(store.folder(ENCODER))
    assert len(found) == 4


def test_every_run_survives_json_and_has_its_own_folder():
    distinct = {json.dumps(to_json(run), sort_keys=True): run for run in experiments.runs_of("all", "quick")}
    for text, run in distinct.items():
        assert from_json(json.loads(text)) == run
    assert len({store.folder(run).name for run in distinct.values()}) == len(distinct)


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        ({}, "kind must be one of CriticRun, EncoderRun"),
        ({"kind": "Fancy"}, "got 'Fancy'"),
        (to_json(ONE_HOT) | {"colour": 1}, "not a CriticRun.*colour"),
        ({"kind": "EncoderRun"}, "not a EncoderRun.*missing"),
        (to_json(ONE_HOT) | {"problem": {"kind": "OneHot", "colour": 1}}, "not a OneHot.*colour"),
    ],
)
def test_a_malformed_specification_says_what_is_wrong(plain, message):
    with pytest.raises(ValueError, match=message):
        from_json(plain)


def test_stacks_share_everything_but_loss_weight_options_and_seed():
    cells = [ONE_HOT, replace(ONE_HOT, batch=4), replace(ONE_HOT, loss="remine", lam=0.1), replace(ONE_HOT, loss="remine")]
    cells += [
        replace(ONE_HOT, loss="remine", lam=0.2),
        replace(ONE_HOT, steps=500),
        replace(ONE_HOT, loss="js", options={"penalty": "log"}),
    ]
    wanted = [replace(cell, seed=seed) for seed in range(15) for cell in cells]
    found = store.stacks(wanted)
    assert sorted(map(repr, wanted)) == sorted(repr(run) for stack in found for run in stack)
    assert max(map(len, found)) == ONE_HOT.together("cpu") == 20
    for stack in found:
        assert len({repr(replace(run, seed=0, lam=None, loss="mine", options={})) for run in stack}) == 1
        losses = [(run.loss, repr(run.options), run.lam is None) for run in stack]
        assert len(list(groupby(losses))) == len(set(losses))  # beside each other
    assert found[0][0].steps == 500  # costly stacks first


def test_a_stack_of_convolutional_networks_fits_the_cache_of_a_cpu():
    conv = EncoderRun("mine", 10, 20, "adam", 1e-3, (4, 8), dataset="cifar-10", network="conv")
    assert [len(stack) for stack in store.stacks([replace(conv, seed=seed) for seed in range(12)])] == [5, 5, 2]
    assert conv.together("cuda") == ONE_HOT.together("cuda")


def test_two_weights_in_a_stack_train_as_if_alone(empty_store):
    pair = [replace(ONE_HOT, loss="remine", lam=lam, steps=20) for lam in (0.1, 1.0)]
    alone = [run.train([run], torch.device("cpu"))[0] for run in pair]
    store.train(pair)
    for run, outcome in zip(pair, alone, strict=True):
        # 1e-5: float32, 20 steps; equal bits are for the widths in use
        np.testing.assert_allclose(store.load(run).arrays["table"], outcome.arrays["table"], atol=1e-5)


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")],
)
def test_a_stack_that_is_too_large_is_halved(empty_store, monkeypatch, error):
    train, sizes = CriticRun.train, []

    def small(stack, *rest):
        sizes.append(len(stack))
        if len(stack) > 2:
            raise error
        return train(stack, *rest)

    monkeypatch.setattr(CriticRun, "train", small)
    wanted = [replace(ONE_HOT, seed=seed) for seed in range(5)]
    store.train(wanted)
    assert sizes == [5, 2, 3, 1, 2]
    assert not store.missing(wanted)


@pytest.mark.parametrize(("seeds", "error"), [(1, MemoryError()), (3, RuntimeError("something else")), (3, ValueError("bad"))])
def test_what_halving_does_not_cure_is_raised(empty_store, monkeypatch, seeds, error):
    def fail(stack, *rest):
        raise error

    monkeypatch.setattr(CriticRun, "train", fail)
    with pytest.raises(type(error)):
        store.train([replace(ONE_HOT, seed=seed) for seed in range(seeds)])
    assert store.journal().running() == set()


def test_what_is_there_is_loaded_not_trained(empty_store, no_workers):
    wanted = {"b": [replace(ONE_HOT, seed=1), ONE_HOT], "a": [ONE_HOT], "none": []}
    store.train(wanted["b"])
    found = store.load_or_run(wanted)
    assert {name: [record.run for record in records] for name, records in found.items()} == wanted


def test_worker_trains_a_stack_per_line(empty_store, capsys):
    store.serve(json.dumps([to_json(run)]) + "\n" for run in (ONE_HOT, ENCODER))
    assert capsys.readouterr().out == "done\ndone\n"
    assert not store.missing([ONE_HOT, ENCODER])


def test_a_killed_worker_is_replaced_and_nothing_changes(empty_store, tmp_path, monkeypatch):
    wanted = [replace(ONE_HOT, steps=steps) for steps in (120, 200, 160)] + [ENCODER]
    for stack in store.stacks(wanted):
        store.train(stack)
    expected = [contents(run) for run in wanted]
    started, popen = [], subprocess.Popen
    monkeypatch.setattr(store, "STORE", tmp_path / "again")
    monkeypatch.setattr(subprocess, "Popen", lambda *command, **how: started.append(popen(*command, **how)) or started[-1])
    filling = threading.Thread(target=store.fill, args=(wanted, store.Local(1)))
    filling.start()
    while not any(path.name.startswith("onehot") for path in store.STORE.glob("*")):
        time.sleep(0.01)
        assert filling.is_alive()
    os.kill(started[0].pid, signal.SIGKILL)  # the costly stack is done, the others are not
    filling.join(60)
    assert not filling.is_alive()
    assert len(started) == 2
    assert [contents(run) for run in wanted] == expected


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks for the workers in /proc")
@pytest.mark.parametrize("whom", [os.kill, os.killpg], ids=["the sweep", "its whole group, as Ctrl-C does"])
def test_an_interrupted_sweep_ends_at_once_and_takes_its_workers_along(tmp_path, whom):
    # a shell may start us with interrupts ignored, and children inherit that
    script = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    script += "from remi.__main__ import main; sys.exit(main(['sweep', 'fig7']))"  # minutes, if nobody stops it
    environment = os.environ | {"REMI_RUNS": str(tmp_path)}
    sweep = subprocess.Popen([PYTHON, "-c", script], env=environment, start_new_session=True, stderr=subprocess.PIPE, text=True)
    while not (left := workers(sweep)):
        time.sleep(0.05)
        assert sweep.poll() is None
    time.sleep(0.5)
    whom(sweep.pid, signal.SIGINT)
    assert "sweep: interrupted" in sweep.communicate(timeout=60)[1]
    assert sweep.returncode == 130
    assert not [pid for pid in left if Path(f"/proc/{pid}").exists()]


def test_a_worker_whose_sweep_ended_while_it_started_trains_nothing(tmp_path):
    gone = subprocess.Popen(["true"])
    gone.wait()
    environment = os.environ | {"REMI_RUNS": str(tmp_path), "REMI_SWEEP": str(gone.pid)}
    stack = json.dumps([to_json(replace(ONE_HOT, steps=10**6))])
    worker = subprocess.run([PYTHON, "-m", "remi", "run", "-"], env=environment, input=stack, text=True, timeout=60)
    assert worker.returncode == 1


def test_two_sweeps_at_once_on_one_store_do_not_collide(empty_store, tmp_path, monkeypatch, at_once):
    monkeypatch.setenv("REMI_CHECKPOINT_SECONDS", "0")
    wanted = [replace(ONE_HOT, steps=steps, seed=seed) for steps in (300, 500) for seed in range(2)]
    at_once(lambda: store.fill(wanted, store.Local(1)), threads=2)
    found = [contents(run) for run in wanted]
    monkeypatch.setattr(store, "STORE", tmp_path / "again")
    for stack in store.stacks(wanted):
        store.train(stack)
    assert [contents(run) for run in wanted] == found
    assert {path for path in empty_store.iterdir() if path.name.startswith(".")} <= {
        empty_store / ".checkpoints",
        empty_store / ".fingerprints",
    }


@pytest.fixture
def stub(tmp_path, monkeypatch):
    """A program that takes the place of every worker, and the log of its starts."""

    def install(script):
        program = tmp_path / "worker"
        program.write_text(f"#!/bin/sh\necho started >>{tmp_path}/log\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setattr(store.sys, "executable", str(program))
        return program, tmp_path / "log"

    return install


@pytest.mark.parametrize("script", ["read stack; echo no such loss >&2; exit 1", "echo no such loss >&2; exit 1"])
def test_a_stack_that_always_fails_is_named(empty_store, stub, script):
    _, log = stub(script)
    with pytest.raises(store.RunError) as raised:
        store.load_or_run({"bad": [ONE_HOT, replace(ONE_HOT, seed=1)]})
    assert f"{ONE_HOT.words} and 1 more, after {store.ATTEMPTS} attempts:\nno such loss" in str(raised.value)
    assert len(log.read_text().split()) == store.ATTEMPTS
    assert store.journal().failures() == dict.fromkeys(
        [store.folder(replace(ONE_HOT, seed=seed)).name for seed in (0, 1)], "no such loss\n"
    )


@pytest.mark.parametrize("processes", [0, -1])
def test_a_sweep_without_a_process_is_refused(processes):
    with pytest.raises(ValueError, match=f"processes must be at least 1, got {processes}"):
        store.Local(processes)


@pytest.mark.parametrize("gpus", [[], [0, 4], [-1], [1, 1]])
def test_a_gpu_that_is_not_there_is_named(gpus, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    with pytest.raises(ValueError, match=rf"different ones of the 4 that PyTorch sees.*got {re.escape(str(gpus))}"):
        store.Local(1, gpus)


@pytest.mark.parametrize(
    ("visible", "names"), [(None, "1 1 3 3"), ("", "1 1 3 3"), ("7, GPU-b,5,GPU-d", "GPU-b GPU-b GPU-d GPU-d")]
)
def test_every_worker_sees_one_gpu(visible, names, empty_store, stub, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    stub(f"while read stack; do echo $CUDA_VISIBLE_DEVICES $OMP_NUM_THREADS $REMI_RUNS >>{tmp_path}/seen; echo done; done")
    runner = store.Local(2, [3, 1])
    with closing(runner):
        for future in [runner.submit([ONE_HOT]) for _ in range(4)]:
            assert future.result() is None
    seen = sorted(line.split() for line in (tmp_path / "seen").read_text().splitlines())
    assert seen == [[name, "1", str(empty_store)] for name in names.split()]
    assert runner.processes == 4


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_processes_share_a_gpu(empty_store, tmp_path, monkeypatch):
    wanted = [replace(ONE_HOT, steps=steps) for steps in (120, 200, 160)]
    store.fill(wanted, store.Local(2, [0]))
    found = [contents(run) for run in wanted]
    monkeypatch.setattr(store, "STORE", tmp_path / "again")
    store.fill(wanted, store.Local(1))
    assert [contents(run) for run in wanted] == found


def test_a_sweep_that_leaves_runs_missing_is_an_error(empty_store, stub):
    stub("while read stack; do echo done; done")  # it says so
    with pytest.raises(store.RunError, match=ONE_HOT.words):
        store.fill([ONE_HOT])


def test_a_runner_says_what_ends_the_sweep(empty_store):
    class Nowhere:
        processes, closed = 1, False

        def submit(self, stack):
            future = Future()
            future.set_exception(store.RunError("no machine"))
            return future

        def close(self):
            self.closed = True

    runner = Nowhere()
    with pytest.raises(store.RunError, match=r"^no machine$"):
        store.fill([ONE_HOT], runner)
    assert runner.closed


def test_a_full_disk_is_named_and_leaves_nothing_behind(empty_store, full_disk):
    with full_disk(1000), pytest.raises(OSError, match=f"too large.*{empty_store}"):
        store.train([ONE_HOT])
    assert store.load(ONE_HOT) is None
    assert not list(empty_store.iterdir())
    whole = saved()
    with full_disk(200), pytest.raises(OSError, match="too large"):
        saved()
    assert equal(store.load(ONE_HOT), whole)
    assert list(empty_store.iterdir()) == [store.folder(ONE_HOT)]


@pytest.mark.slow
def test_a_sweep_on_a_full_disk_says_so_and_goes_on_when_there_is_room(empty_store, full_disk, tmp_path, monkeypatch):
    monkeypatch.setenv("REMI_CHECKPOINT_SECONDS", "0")
    run = replace(ENCODER, steps=300, hidden=(4, 4))
    store.train([run])
    expected = contents(run)
    size = (store.folder(run) / "arrays.npz").stat().st_size
    monkeypatch.setattr(store, "STORE", tmp_path / "full")
    monkeypatch.setattr(store, "ATTEMPTS", 1)  # the start of a process takes seconds
    with full_disk(size - 1), pytest.raises(store.RunError, match=f"after 1 attempts:\n.*too large.*{store.STORE}"):
        store.fill([run], store.Local(1))
    assert store.missing([run])
    assert "too large" in store.journal().failures()[store.folder(run).name]
    store.fill([run], store.Local(1))
    assert contents(run) == expected
    assert {path.name for path in store.STORE.iterdir()} <= {store.folder(run).name, ".checkpoints", ".fingerprints"}


def test_a_store_that_cannot_be_written_is_named_before_training(tmp_path, monkeypatch, no_workers):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(store, "STORE", tmp_path / "file" / "runs")
    with pytest.raises(store.RunError, match="file/runs"):
        store.fill([ONE_HOT])
