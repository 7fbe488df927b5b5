"""The runner beyond one machine: a sweep as tasks of a Ray cluster.

Ray places the tasks and starts them again when a worker or a node dies. It keeps no result: the run store does, so it must be on
a file system that all nodes share, under one path; the same holds for the data, where `--data` or REMI_DATA names them. Every
node needs this package, in a version that computes the same, and the same PyTorch. A node that differs ends the sweep with one
error.

Whoever reaches a port of a Ray cluster can run code on its nodes, and "local" opens ports, too: use a private network.
"""

import logging
import math
import os
import re
import socket
import uuid
from concurrent.futures import Future
from typing import Any

from remi.extras import extra
from remi.runs import store
from remi.runs.specs import Run, from_json, to_json

COLOUR = re.compile(r"\x1b\[\d*m")
GRAIN = 10_000  # Ray counts a resource in parts of this size, and rounds


class Ray:
    """The runner on a Ray cluster: a stack is a task in a process of its own.

    A task takes 1 / `runs_per_gpu` of a GPU where the cluster has any, else a CPU.

    Args:
        address: "local" for a cluster that is started here and ends with the sweep, "auto" for the one that this machine is
            a node of, or host:port of its head.
        runs_per_gpu: tasks that share a GPU.

    Raises:
        ValueError: an argument is not one of these.
        ExtraError: Ray is not installed.
        RunError: the cluster is not there or has nothing to train on.
    """

    def __init__(self, address: str = "local", runs_per_gpu: int = 1) -> None:
        if not (address in ("local", "auto") or re.fullmatch(r"[^/\s]+:\d+", address)):
            raise ValueError(f"address must be local, auto or host:port; got {address!r}")
        if not 1 <= runs_per_gpu <= GRAIN:
            raise ValueError(f"runs_per_gpu must be from 1 to {GRAIN}; got {runs_per_gpu}")
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        with extra("cluster"):
            import ray
        self._ray: Any = ray
        dashboard = False if address == "local" else None  # of a cluster that is there, it is not ours to say
        try:
            if ":" in address:  # Ray itself tries for minutes
                host, port = address.rsplit(":", 1)
                socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
            ray.init(address, include_dashboard=dashboard, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:  # Ray raises plain ones, too
            raise store.RunError(f"no Ray cluster at {address}: {error}") from None
        there = ray.cluster_resources()
        gpus = int(there.get("GPU", 0))
        self.place: dict[str, str] = {}
        self.processes = gpus * runs_per_gpu or int(there.get("CPU", 0))
        if not self.processes:
            ray.shutdown()
            raise store.RunError(f"the Ray cluster at {address} has neither a GPU nor a CPU")
        needs = {"num_cpus": 0, "num_gpus": math.floor(GRAIN / runs_per_gpu) / GRAIN} if gpus else {"num_cpus": 1}
        ours = {name: value for name, value in os.environ.items() if name.startswith("REMI_")}
        environment = {**ours, **store.WORKER_ENVIRONMENT, "REMI_RUNS": str(store.STORE.absolute())}
        self._train: Any = ray.remote(max_calls=1, runtime_env={"env_vars": environment}, **needs)(train)
        self._sign = store.STORE / f".sweep-{uuid.uuid4().hex}"

    def submit(self, stack: list[Run]) -> "Future[None]":
        """See `Runner`."""
        self._sign.touch()
        settled: Future[None] = Future()

        def settle(task: "Future[None]") -> None:
            error: Any = task.exception()
            if error is None:
                settled.set_result(None)
            elif isinstance(error, store.RunError):
                settled.set_exception(error.cause)  # type: ignore[attr-defined]
            else:
                settled.set_exception(RuntimeError(COLOUR.sub("", str(error))))

        task = self._train.remote([to_json(run) for run in stack], store.identity(stack[0]), self._sign.name)
        task.future().add_done_callback(settle)
        return settled

    def close(self) -> None:
        """See `Runner`."""
        self._ray.shutdown()
        self._sign.unlink(missing_ok=True)


def train(plain: list[dict[str, Any]], identity: dict[str, Any], sign: str) -> None:
    """On a node: train a stack as `store.train` does, if its records will be those that the sweep looks for.

    Args:
        plain: the specifications.
        identity: of the first of them, where the sweep was started.
        sign: a file that the sweep left in the store.

    Raises:
        RunError: the node does not see the store, or its records would be others.
    """
    node = socket.gethostname()
    if not (store.STORE / sign).exists():
        raise store.RunError(f"node {node} does not see the run store {store.STORE}: it must be on a file system that all share")
    stack = [from_json(run) for run in plain]
    for name, value in store.identity(stack[0]).items():
        if value != identity[name]:
            what = "what the code computes" if name == "computes" else name
            raise store.RunError(f"{what} must be the same on all nodes; got {value} on {node}, and {identity[name]} here")
    store.train(stack)
