"""A sweep that is killed at any moment goes on with the same command, and ends as if it had not been."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from test_store import contents, workers

from remi.paper import table2
from remi.runs import store
from remi.runs.specs import CriticRun, EncoderRun, to_json
from remi.training import checkpoints
from remi.training.problems import OneHot

HERE = Path(__file__).parent
pytestmark = [
    pytest.mark.slow,
    pytest.mark.verify,
    pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks for processes in /proc"),
]


def grid(cell):
    """40 runs: 4 losses, 10 seeds."""
    losses = (("mine", None, {}), ("nwj", None, {}), ("resmile", 0.1, {"clip": "both"}), ("rejs", 0.1, {}))
    return [replace(cell, loss=loss, lam=lam, options=options, seed=seed) for loss, lam, options in losses for seed in range(10)]


SWEPT = grid(EncoderRun("mine", 20, 142, "adam", 1e-3, (8, 16)))  # 2 epochs: 2 checkpoints of every stack
WRITTEN = grid(CriticRun("mine", 8, 3, "sgd", 0.1, (4,), problem=OneHot(4)))
WRITTEN = [replace(run, steps=301) if run.loss == "mine" else run for run in WRITTEN]  # 3 checkpoints of this stack


def state(wanted):
    """What the store holds of these runs: all that may not depend on how they came to be, by folder."""
    return {store.folder(run).name: contents(run) for run in wanted if store.load(run) is not None}


def folders():
    """The names of the records in the store, whole or not."""
    return {path.name for path in store.STORE.glob("*") if not path.name.startswith(".")}


def sweep(wanted=SWEPT):
    """The command, in a process group of its own."""
    script = "import json, sys; from remi.runs import specs, store; store.fill(map(specs.from_json, json.load(sys.stdin)))"
    environment = os.environ | {"REMI_RUNS": str(store.STORE), "REMI_CHECKPOINT_SECONDS": "0"}
    process = subprocess.Popen(
        [sys.executable, "-c", script], env=environment, stdin=subprocess.PIPE, text=True, start_new_session=True
    )
    json.dump([to_json(run) for run in wanted], process.stdin)
    process.stdin.close()
    return process


def test_killed_with_its_whole_group_at_random_moments(empty_store, tmp_path, monkeypatch, long, tally):
    """Every kill leaves all that was done; the table at the end is that of a sweep that nobody killed."""

    def table():
        return table2.rows({"all": [store.load(run) for run in SWEPT]}).to_csv()

    started = time.monotonic()
    assert sweep().wait() == 0
    seconds = time.monotonic() - started
    expected, expected_table = state(SWEPT), table()
    assert len(expected) == len(SWEPT)
    kills, done, lost, rng = 100 if long else 3, 0, [], random.Random(0)
    while done < kills:
        monkeypatch.setattr(store, "STORE", tmp_path / f"after {done} kills")
        before = {}
        while True:  # until a sweep comes to its end
            process = sweep()
            try:
                assert process.wait(rng.uniform(0, seconds) if done < kills else None) == 0
                break
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                done += 1
            found = state(SWEPT)
            if not (before.items() <= found.items() <= expected.items() and folders() == found.keys()):
                lost.append(f"kill {done}: {len(before)} records before, {len(found)} after, {len(folders())} folders")
            before = found
        if state(SWEPT) != expected or table() != expected_table:
            lost.append(f"kill {done}: it did not end as if nobody had killed it")
    tally("kill -9 of the process group at a random moment", "kill", kills, lost)


def test_a_sweep_that_is_killed_alone_takes_its_workers_along(empty_store, tmp_path, monkeypatch):
    cell = EncoderRun("mine", 10, 858, "adam", 1e-3, (16, 512))  # 6 epochs
    cells = [cell, replace(cell, loss="nwj"), replace(cell, loss="resmile", lam=0.1, options={"clip": "both"})]
    wanted = [replace(run, seed=seed) for run in cells for seed in range(3)]

    def table():
        return table2.rows({"all": [store.load(run) for run in wanted]}).to_csv()

    def kept():
        return set(store.STORE.glob(".checkpoints/*/*.npz"))

    for stack in store.stacks(wanted):
        store.train(stack)
    expected = table()
    monkeypatch.setattr(store, "STORE", tmp_path / "killed")
    for kill in ("a worker and the sweep", "the sweep"):
        before, process = kept(), sweep(wanted)
        while not kept() - before:  # it has come further than the sweep before
            time.sleep(0.01)
            assert process.poll() is None
        left = workers(process)
        if kill != "the sweep":
            os.kill(left[0], signal.SIGKILL)
            time.sleep(0.3)
        process.kill()
        process.wait()
        for _ in range(200):
            if not any(Path(f"/proc/{pid}").exists() for pid in left):
                break
            time.sleep(0.05)
        else:
            pytest.fail("an orphan trains on")
    assert sweep(wanted).wait() == 0
    assert table() == expected
    assert not kept()


def train_in_a_fork(kill_at=0):
    """Train what is missing of `WRITTEN`; the process kills itself before its n-th change of the store, or halfway through.

    Returns:
        How often it changed the store; None when it was killed.
    """
    counter = store.STORE.with_suffix(".count")
    if process := os.fork():
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        assert code in (0, -signal.SIGKILL)
        return None if code else int(counter.read_text())
    count, write = 0, checkpoints.write

    def change(halfway=lambda: None):
        nonlocal count
        count += 1
        if count == kill_at:
            halfway()
            os.kill(os.getpid(), signal.SIGKILL)

    def look(event, arguments):
        opened = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        changed = opened or event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir")
        if changed and Path(str(arguments[0])).is_relative_to(store.STORE):
            change()

    def write_and_look(path, data):
        change(lambda: path.write_bytes(data[: len(data) // 2]))
        write(path, data)

    sys.addaudithook(look)
    os.fsync = lambda file: change()
    checkpoints.write = store.write = write_and_look
    try:
        for stack in store.stacks(store.missing(WRITTEN)):
            store.train(stack)
        counter.write_text(str(count))
        os._exit(0)
    finally:
        os._exit(1)  # after its traceback, if there is one


def kill_at_every_change(folder, every):
    """Print how many changes there are, and after which a sweep did not go on to the right end; try each, or one of `every`."""
    store.STORE = Path(folder) / "expected"
    changes = train_in_a_fork()
    expected = state(WRITTEN)
    assert len(expected) == len(WRITTEN)
    places, lost = range(1, changes + 1, every), []
    for place in places:
        store.STORE = Path(folder) / f"killed{place}"
        assert train_in_a_fork(place) is None
        found = state(WRITTEN)
        if not (found.items() <= expected.items() and folders() == found.keys()):
            lost.append(f"change {place}: {len(found)} records, {len(folders())} folders")
        train_in_a_fork()
        if state(WRITTEN) != expected or folders() != expected.keys():
            lost.append(f"change {place}: it did not end as if nobody had killed it")
        shutil.rmtree(store.STORE)
    print(json.dumps([len(places), lost]))


def test_killed_at_every_write(tmp_path, long, tally):
    script = f"import test_kills; test_kills.kill_at_every_change({str(tmp_path)!r}, {1 if long else 80})"
    environment = os.environ | {"REMI_CHECKPOINT_SECONDS": "0", "CUDA_VISIBLE_DEVICES": ""}  # a fork has no CUDA
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=HERE, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    tally("kill -9 before, in or after every write", "change of the store", *json.loads(done.stdout))
