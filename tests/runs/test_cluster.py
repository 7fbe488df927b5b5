"""A sweep on a cluster stores what a sweep on one machine does, whatever happens to its nodes."""

import json
import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from test_store import contents

from remi.extras import ExtraError
from remi.runs import cluster, store
from remi.runs.specs import CriticRun, to_json
from remi.training.problems import OneHot

SLOW_START, BUSY = "timed out during startup", "the machine is busy: Ray gives a node 30 s to start"
ONE_HOT = CriticRun("mine", 8, 3, "sgd", 0.1, (4,), problem=OneHot(4))


@pytest.mark.parametrize("address", ["", "here", "nowhere:port", "ray://head:10001"])
def test_an_address_is_local_auto_or_a_port(address):
    with pytest.raises(ValueError, match=f"address must be local, auto or host:port; got '{address}'"):
        cluster.Ray(address)


@pytest.mark.parametrize("count", [0, -1, 20_000])
def test_runs_per_gpu_out_of_range_are_named(count):
    with pytest.raises(ValueError, match=f"runs_per_gpu must be from 1 to 10000; got {count}"):
        cluster.Ray("local", count)


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ExtraError, match=r"ray is not installed.* pip install 'remi-losses\[cluster\]'"):
        cluster.Ray("local")


class FakeRay(SimpleNamespace):
    """Ray, as far as the runner asks what there is and what a task takes."""

    def __init__(self, **there):
        super().__init__(there=there, started=[], asked=None)

    def init(self, address, **how):
        self.started.append(address)

    def cluster_resources(self):
        return self.there

    def remote(self, **asked):
        self.asked = asked
        return lambda function: function

    def shutdown(self):
        self.started.clear()


@pytest.fixture
def fake_ray(monkeypatch):
    def install(**there):
        fake = FakeRay(**there)
        monkeypatch.setitem(sys.modules, "ray", fake)
        return fake

    return install


@pytest.mark.parametrize("count", range(1, 50))
def test_as_many_runs_share_a_gpu_as_were_asked_for(count, fake_ray):
    fake = fake_ray(CPU=4.0, GPU=2.0)
    runner = cluster.Ray("auto", count)
    in_grains = round(fake.asked["num_gpus"] * cluster.GRAIN)  # as Ray does
    assert count * in_grains <= cluster.GRAIN < (count + 1) * in_grains
    assert (fake.asked["num_cpus"], runner.processes) == (0, 2 * count)
    runner.close()
    assert not fake.started


def test_without_a_gpu_a_task_takes_a_cpu(fake_ray):
    fake = fake_ray(CPU=6.0)
    assert cluster.Ray("auto", 3).processes == 6
    assert fake.asked["num_cpus"] == 1
    assert "num_gpus" not in fake.asked


def test_a_cluster_with_nothing_to_train_on_is_an_error(fake_ray):
    fake = fake_ray()
    with pytest.raises(store.RunError, match="at auto has neither a GPU nor a CPU"):
        cluster.Ray("auto")
    assert not fake.started


def test_a_task_is_given_the_store_and_its_threads(fake_ray, empty_store, monkeypatch):
    monkeypatch.setenv("REMI_DATA", "/shared/images")
    fake = fake_ray(CPU=1.0)
    cluster.Ray("auto")
    given = fake.asked["runtime_env"]["env_vars"]
    assert given.items() >= {**store.WORKER_ENVIRONMENT, "REMI_RUNS": str(empty_store), "REMI_DATA": "/shared/images"}.items()
    assert fake.asked["max_calls"] == 1  # a process of its own


def test_a_head_that_does_not_answer_is_one_error_at_once(fake_ray):
    fake_ray(CPU=1.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(store.RunError, match=f"no Ray cluster at 127.0.0.1:{port}: .*refused"):
        cluster.Ray(f"127.0.0.1:{port}")


def test_a_node_trains_what_it_sees_the_store_of(empty_store):
    store.STORE.mkdir()
    task = [to_json(ONE_HOT)], store.identity(ONE_HOT), ".sweep-1"
    with pytest.raises(store.RunError, match=f"node {socket.gethostname()} does not see the run store {empty_store}"):
        cluster.train(*task)
    assert store.missing([ONE_HOT])
    (empty_store / ".sweep-1").touch()
    cluster.train(*task)
    assert not store.missing([ONE_HOT])


@pytest.mark.parametrize(
    ("name", "what"), [*((part, part) for part in ("torch", "device", "data")), ("computes", "what the code computes")]
)
def test_a_node_that_would_write_other_records_trains_nothing(name, what, empty_store):
    store.STORE.mkdir()
    (empty_store / ".sweep-1").touch()
    identity = store.identity(ONE_HOT) | {name: "other"}
    message = f"^{what} must be the same on all nodes; got .* on {socket.gethostname()}, and other here"
    with pytest.raises(store.RunError, match=message):
        cluster.train([to_json(ONE_HOT)], identity, ".sweep-1")
    assert [path.name for path in empty_store.iterdir()] == [".sweep-1"]


@pytest.mark.slow
def test_a_stack_that_raises_is_tried_again_and_named_and_ray_is_silent(empty_store):
    bad = replace(ONE_HOT, batch=9, options={"tau": 3.0})  # MINE has none; another batch, so another stack
    script = """
import json, sys
from remi.runs import cluster, store, specs
try:
    store.fill(map(specs.from_json, json.load(sys.stdin)), cluster.Ray("local"))
except store.RunError as error:
    print(error)
"""
    sweep = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"REMI_RUNS": str(empty_store)},
        input=json.dumps([to_json(ONE_HOT), to_json(bad)]),
        capture_output=True,
        text=True,
    )
    assert sweep.stderr == ""
    if SLOW_START in sweep.stdout:
        pytest.skip(BUSY)
    assert sweep.stdout.startswith(f"{bad.words} and 0 more, after {store.ATTEMPTS} attempts:\nray::train() (pid=")
    assert "tau" in sweep.stdout.splitlines()[-1]
    assert "tau" in store.journal().failures()[store.folder(bad).name]
    assert store.missing([ONE_HOT, bad]) == [bad]
    assert not list(empty_store.glob(".sweep-*"))


LEAN = {"include_dashboard": False, "include_log_monitor": False, "no_monitor": True}


@pytest.fixture
def two_nodes():
    """A cluster of two nodes of one CPU each, and its second node."""
    from ray.cluster_utils import Cluster

    nodes = Cluster()
    try:
        nodes.add_node(num_cpus=1, **LEAN)
        second = nodes.add_node(num_cpus=1, **LEAN)
    except Exception as error:
        nodes.shutdown()
        if SLOW_START not in str(error):
            raise
        pytest.skip(BUSY)
    yield nodes, second
    nodes.shutdown()


def trained_by(parent):
    """The runs that a child of the process trains now."""
    found = set()
    for path in store.journal().folder.glob("*.json"):
        with suppress(OSError, ValueError):  # written or removed just now
            note = json.loads(path.read_text())
            status = Path(f"/proc/{note['pid']}/stat").read_text()
            found |= set(note["runs"]) if int(status.rpartition(")")[2].split()[1]) == parent else set()
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks for the workers in /proc")
def test_a_node_that_is_killed_costs_nothing(empty_store, two_nodes, tmp_path, monkeypatch):
    nodes, second = two_nodes
    wanted = [replace(ONE_HOT, steps=steps, seed=seed) for steps in (4000, 4500, 5000, 5500) for seed in range(2)]
    store.fill(wanted, store.Local(2))
    expected = [contents(run) for run in wanted]
    monkeypatch.setattr(store, "STORE", tmp_path / "again")
    monkeypatch.setenv("REMI_CHECKPOINT_SECONDS", "0")
    raylet = second.all_processes["raylet"][0].process.pid
    with ThreadPoolExecutor(1) as thread:
        sweep = thread.submit(store.fill, wanted, cluster.Ray(nodes.address))
        while not (lost := trained_by(raylet)) or not list(store.STORE.glob(".checkpoints/*/*.npz")):
            time.sleep(0.05)
            assert not sweep.done()
        nodes.remove_node(second, allow_graceful=False)  # SIGKILL
        assert lost <= {store.folder(run).name for run in store.missing(wanted)}  # it was killed in the middle
        sweep.result()
    assert [contents(run) for run in wanted] == expected
    assert {path.name for path in store.STORE.iterdir()} <= {store.folder(run).name for run in wanted} | {
        ".checkpoints",
        ".fingerprints",
        ".journal",
    }
    assert store.journal().running() == set()
