"""The run store: specification in, record out, atomic; and the local runner that fills it.

A run is a folder named by readable words and a hash of its whole identity. It appears by one rename, so a reader never
sees half a record and two writers never collide; it is done when its record validates.
"""

import hashlib
import io
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

import remi
from remi import training
from remi.checkpoints import Checkpoints, write
from remi.journal import Journal
from remi.specs import Outcome, Run, from_json, to_json

STORE = Path(os.environ.get("REMI_RUNS", Path(remi.__file__).parents[1] / "runs"))
TRAINING_MODULES = (
    *("scores", "estimators", "critics", "problems", "images", "encoders", "evaluation", "checkpoints", "training", "specs"),
)
SOURCES = hashlib.sha256(  # of the code that trains, as imported: an edit elsewhere invalidates nothing
    b"".join((Path(remi.__file__).parent / f"{name}.py").read_bytes() for name in TRAINING_MODULES)
).hexdigest()
STACK = 20  # runs trained together; no number depends on it
ATTEMPTS = 3
WORKER_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    # glibc gives freed megabytes back to the kernel at every step otherwise; page faults then cost as much as the arithmetic
    "MALLOC_MMAP_THRESHOLD_": "1000000000",
    "MALLOC_TRIM_THRESHOLD_": "10000000000",
}


@dataclass(frozen=True)
class Record:
    """What the store knows of a finished run."""

    run: Run
    status: str
    scalars: dict[str, float]
    arrays: dict[str, np.ndarray]
    environment: dict[str, Any]
    seconds: float  # of its stack, shared equally

    @property
    def ok(self) -> bool:
        """False for a diverged run."""
        return self.status == "ok"


class RunError(RuntimeError):
    """A run that could not be trained."""


def environment() -> dict[str, Any]:
    """Versions and device that a record states."""
    where = training.device()
    name = torch.cuda.get_device_name(where) if where.type == "cuda" else platform.machine()
    return {"python": platform.python_version(), "torch": torch.__version__, "device": where.type, "device_name": name}


def identity(run: Run) -> dict[str, Any]:
    """Every value that can change the run's numbers."""
    return {
        "run": to_json(run),
        "data": run.data_checksum,
        "sources": SOURCES,
        "torch": torch.__version__,
        "device": training.device().type,
    }


def folder(run: Run) -> Path:
    """Where the record of a run lies."""
    digest = hashlib.sha256(json.dumps(identity(run), sort_keys=True).encode()).hexdigest()
    return STORE / f"{run.words}-{digest[:16]}"


def save(run: Run, outcome: Outcome, seconds: float) -> None:
    """Write a record beside its place, flush it, and rename it there; an identical record that came first stays."""
    path = folder(run)
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **outcome.arrays)
    record = {
        "identity": identity(run),
        "environment": environment(),
        "status": outcome.status,
        "scalars": {name: value if math.isfinite(value) else repr(value) for name, value in outcome.scalars.items()},
        "arrays_sha256": hashlib.sha256(buffer.getvalue()).hexdigest(),
        "seconds": seconds,
    }
    record["sha256"] = _digest(record)
    STORE.mkdir(parents=True, exist_ok=True)
    beside = STORE / f".writing-{uuid.uuid4().hex}"
    beside.mkdir()  # with the umask's permissions: a store is shared
    write(beside / "arrays.npz", buffer.getvalue())
    write(beside / "record.json", json.dumps(record, indent=1, sort_keys=True, allow_nan=False).encode())
    for _ in range(100):
        try:
            beside.rename(path)
            return
        except OSError as error:  # a folder is there
            blocked = error
        if load(run) is not None:
            for leftover in beside.iterdir():
                leftover.unlink()
            beside.rmdir()
            return
        with suppress(FileNotFoundError):  # another writer was faster
            path.rename(STORE / f".damaged-{path.name}-{uuid.uuid4().hex}")
    raise blocked


def load(run: Run) -> Record | None:
    """The record of a run, or None when there is none that validates."""
    path = folder(run)
    try:
        record = json.loads((path / "record.json").read_text())
        data = (path / "arrays.npz").read_bytes()
        if _digest(record) != record["sha256"]:
            return None
        if record["identity"] != identity(run) or hashlib.sha256(data).hexdigest() != record["arrays_sha256"]:
            return None
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            loaded = {name: arrays[name] for name in arrays.files}
        scalars = {name: float(value) for name, value in record["scalars"].items()}
        return Record(run, record["status"], scalars, loaded, record["environment"], record["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def train(stack: Sequence[Run]) -> None:
    """Train one stack in this process, one thread, and store its records; a long training goes on from its last checkpoint.

    A stack that does not fit into memory is trained in halves: no number depends on it.
    """
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    names = [folder(run).name for run in stack]
    checkpoints = Checkpoints(STORE / ".checkpoints" / hashlib.sha256("\n".join(names).encode()).hexdigest()[:32])
    started = time.perf_counter()
    with journal().training(names):
        outcomes = _outcomes(stack, checkpoints)
        if outcomes is not None:
            seconds = (time.perf_counter() - started) / len(stack)
            for run, outcome in zip(stack, outcomes, strict=True):
                save(run, outcome, seconds)
        checkpoints.clear()
    if outcomes is None:
        torch.cuda.empty_cache()
        half = len(stack) // 2
        train(stack[:half])
        train(stack[half:])


def _outcomes(stack: Sequence[Run], checkpoints: Checkpoints) -> list[Outcome] | None:
    """What the stack leaves behind; None when it does not fit into memory and can be halved."""
    try:
        return type(stack[0]).train(stack, training.device(), checkpoints)
    except (RuntimeError, MemoryError) as error:  # on the CPU PyTorch has no type of its own for it
        full = isinstance(error, torch.OutOfMemoryError | MemoryError) or "allocate memory" in str(error)
        if len(stack) == 1 or not full:
            raise
        return None


def journal() -> Journal:
    """What is trained now and what failed, in this store."""
    return Journal(STORE / ".journal")


def stacks(runs: Iterable[Run]) -> list[list[Run]]:
    """Group runs that share everything but `lam` and `seed`, costly stacks first."""

    def shared(run: Run) -> str:
        plain = {key: value for key, value in to_json(run).items() if key not in ("seed", "lam")}
        return json.dumps([plain, run.lam is None], sort_keys=True)

    found = []
    for _, group in groupby(sorted(runs, key=shared), key=shared):
        members = list(group)
        size = 1 if members[0].alone else STACK
        found += [members[start : start + size] for start in range(0, len(members), size)]
    return sorted(found, key=lambda stack: -sum(run.cost for run in stack))


def missing(runs: Iterable[Run]) -> list[Run]:
    """The distinct runs without a record."""
    distinct = {str(folder(run)): run for run in runs}
    return [run for run in distinct.values() if load(run) is None]


def fill(runs: Iterable[Run], processes: int = 2) -> None:
    """Train what is missing, in `processes` processes of one thread each; a process that dies is replaced.

    Raises:
        ValueError: `processes` is not positive.
        RunError: the store cannot be written, or a stack failed repeatedly; the message has the run and the end of the error.
    """
    if processes < 1:
        raise ValueError(f"processes must be at least 1, got {processes}")
    todo = stacks(missing(runs))
    if not todo:
        return
    try:
        STORE.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=STORE).close()
    except OSError as error:
        raise RunError(f"cannot write to the run store {STORE}: {error}") from None
    queue: Queue[tuple[list[Run], int]] = Queue()
    for stack in todo:
        queue.put((stack, 1))
    failures: list[str] = []
    with tqdm(total=sum(map(len, todo)), unit="run", disable=None) as progress:
        stop = threading.Event()
        started: list[subprocess.Popen[str]] = []
        servants = [
            threading.Thread(target=_serve, args=(queue, progress, failures, stop, started), daemon=True)
            for _ in range(min(processes, len(todo)))
        ]
        for servant in servants:
            servant.start()
        try:
            for servant in servants:
                servant.join()
        finally:  # interrupted: no worker outlives the sweep, and nobody starts another
            stop.set()
            while any(servant.is_alive() for servant in servants):
                for worker in started:
                    worker.kill()
                time.sleep(0.05)
    if not failures:
        failures = [f"{run.words}: trained, but no record" for run in missing(run for stack in todo for run in stack)]
    if failures:
        raise RunError("\n".join(failures))


def load_or_run(runs: Mapping[str, Sequence[Run]]) -> dict[str, list[Record]]:
    """The records of named groups of runs; what is missing is trained first.

    Raises:
        RunError: a run could not be trained.
    """
    fill(run for group in runs.values() for run in group)
    found = {name: [load(run) for run in group] for name, group in runs.items()}
    lost = [run.words for name, group in runs.items() for run, record in zip(group, found[name], strict=True) if record is None]
    if lost:
        raise RunError(f"no valid record in {STORE} for {', '.join(lost)}")
    return found  # type: ignore[return-value]


def _serve(
    queue: "Queue[tuple[list[Run], int]]",
    progress: Any,
    failures: list[str],
    stop: threading.Event,
    started: list[subprocess.Popen[str]],
) -> None:
    """Feed stacks to one worker process, `python -m remi run -`, until none is left; every process joins `started`."""
    worker: subprocess.Popen[str] | None = None
    with tempfile.TemporaryFile("w+") as errors:
        while not stop.is_set():
            try:
                stack, attempt = queue.get_nowait()
            except Empty:
                break
            if worker is None:
                errors.seek(0)  # the worker writes where this stands
                errors.truncate()
                command = [sys.executable, "-m", "remi", "run", "-"]
                worker = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
                    env={**os.environ, **WORKER_ENVIRONMENT, "REMI_RUNS": str(STORE)},
                )  # fmt: skip
                started.append(worker)
            assert worker.stdin is not None
            assert worker.stdout is not None
            try:
                worker.stdin.write(json.dumps([to_json(run) for run in stack]) + "\n")
                worker.stdin.flush()
                answer = worker.stdout.readline()
            except BrokenPipeError:
                answer = ""
            if answer.strip() == "done":
                progress.update(len(stack))
                continue
            worker.kill()
            worker.communicate()
            worker = None
            if attempt < ATTEMPTS:
                queue.put((stack, attempt + 1))
                continue
            errors.seek(0)
            reason = errors.read()[-2000:]
            failures.append(f"{stack[0].words} and {len(stack) - 1} more, after {attempt} attempts:\n{reason}")
            journal().fail([folder(run).name for run in stack], reason)
        if worker is not None:
            worker.communicate()


def serve(lines: Iterable[str]) -> None:
    """The worker's side: a stack per line in, the word "done" per stack out; it ends with the sweep, however that ends."""
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    for line in lines:
        train([from_json(plain) for plain in json.loads(line)])
        print("done", flush=True)


def _end_with(parent: int) -> None:
    """Leave at once when the process that started this one is gone: its successor goes on from the last checkpoint."""
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)


def _digest(record: dict[str, Any]) -> str:
    """SHA-256 of a record, its own digest left out."""
    text = json.dumps({key: value for key, value in record.items() if key != "sha256"}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
