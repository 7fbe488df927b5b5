"""The run store: specification in, record out, atomic; and the sweep that fills it, by default with processes of this machine.

A run is a folder named by readable words and a hash of its whole identity. It appears by one rename, so a reader never
sees half a record and two writers never collide; it is done when its record validates.
"""

import hashlib
import io
import json
import math
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from queue import Queue
from typing import Any, Protocol

import numpy as np
import torch
from tqdm import tqdm

import remi
from remi.runs.fingerprint import SOURCES, computes
from remi.runs.journal import Journal
from remi.runs.specs import Outcome, Run, from_json, to_json
from remi.training import Checkpoints, loop, write

STORE = Path(os.environ.get("REMI_RUNS", Path(remi.__file__).parents[1] / "runs"))
FINGERPRINTS = STORE / ".fingerprints"
OWN = ("loss", "options", "lam", "seed")  # in what the runs of a stack may differ
ATTEMPTS = 3
DAMAGED = (OSError, ValueError, KeyError, TypeError)  # what reading a record may raise
SAME_BITS = (  # PyTorch, MKL and oneDNN take the same path on every x86-64 processor with AVX2, so that their bits agree
    {"ATEN_CPU_CAPABILITY": "avx2", "MKL_CBWR": "AVX2,STRICT", "ONEDNN_MAX_CPU_ISA": "AVX2"}
    if torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
    else {}
)
WORKER_ENVIRONMENT = SAME_BITS | {
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
    seconds: float  # of the processor, which others may share; of its stack, shared equally

    @property
    def ok(self) -> bool:
        """False for a diverged run."""
        return self.status == "ok"


class RunError(RuntimeError):
    """A run that could not be trained."""


def environment() -> dict[str, Any]:
    """Versions and device that a record states."""
    where = loop.device()
    name = torch.cuda.get_device_name(where) if where.type == "cuda" else platform.machine()
    return {"python": platform.python_version(), "torch": torch.__version__, "device": where.type, "device_name": name}


def identity(run: Run) -> dict[str, Any]:
    """Every value that can change the run's numbers; nothing of how the code is written, or of the kind of CPU."""
    return {
        "run": to_json(run),
        "data": run.data_checksum,
        "computes": computes(run, FINGERPRINTS),
        "torch": torch.__version__,
        "device": loop.device().type,
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
        "sources": SOURCES,
        "status": outcome.status,
        "scalars": {name: value if math.isfinite(value) else repr(value) for name, value in outcome.scalars.items()},
        "arrays_sha256": hashlib.sha256(buffer.getvalue()).hexdigest(),
        "seconds": seconds,
    }
    record["sha256"] = _digest(record)
    STORE.mkdir(parents=True, exist_ok=True)
    beside = STORE / f".writing-{uuid.uuid4().hex}"
    try:
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
                return
            with suppress(FileNotFoundError):  # another writer was faster
                path.rename(STORE / f".damaged-{path.name}-{uuid.uuid4().hex}")
        raise blocked
    finally:
        shutil.rmtree(beside, ignore_errors=True)  # not renamed: half a record on a full disk, or the second of two


def load(run: Run) -> Record | None:
    """The record of a run, or None when there is none that validates."""
    path = folder(run)
    try:
        record = statement(path)
        data = (path / "arrays.npz").read_bytes()
        if record["identity"] != identity(run) or hashlib.sha256(data).hexdigest() != record["arrays_sha256"]:
            return None
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            loaded = {name: arrays[name] for name in arrays.files}
        scalars = {name: float(value) for name, value in record["scalars"].items()}
        return Record(run, record["status"], scalars, loaded, record["environment"], record["seconds"])
    except DAMAGED:
        return None


def statement(path: Path) -> dict[str, Any]:
    """What the record in this folder says, without its arrays; one of `DAMAGED` is raised where it is not as it was written."""
    record = json.loads((path / "record.json").read_text())
    if _digest(record) != record["sha256"]:
        raise ValueError(f"{path} is damaged")
    return dict(record)


def train(stack: Sequence[Run]) -> None:
    """Train one stack in this process, one thread, and store its records; a long training goes on from its last checkpoint.

    A stack that does not fit into memory is trained in halves, and what others of a stack hold up is trained without them: no
    number depends on it.

    Raises:
        OSError: the store is full or cannot be written; the message names it. What is stored stays as it was.
    """
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    names = [folder(run).name for run in stack]
    checkpoints = Checkpoints(STORE / ".checkpoints" / hashlib.sha256("\n".join(names).encode()).hexdigest()[:32])
    started = time.process_time()
    try:
        with journal().training(names):
            outcomes = _outcomes(stack, checkpoints)
            done = [(run, outcome) for run, outcome in zip(stack, outcomes, strict=True) if outcome]
            seconds = (time.process_time() - started) / max(1, len(done))
            for run, outcome in done:
                save(run, outcome, seconds)
            checkpoints.clear()
    except OSError as error:
        if error.errno and not error.filename:  # a full disk does not say which
            error.filename = str(STORE)
        raise
    rest = [run for run, outcome in zip(stack, outcomes, strict=True) if not outcome]
    if len(rest) < len(stack):
        if rest:
            train(rest)
        return
    torch.cuda.empty_cache()
    train(stack[: len(stack) // 2])
    train(stack[len(stack) // 2 :])


def _outcomes(stack: Sequence[Run], checkpoints: Checkpoints) -> Sequence[Outcome | None]:
    """What the stack leaves behind; nothing of any run when it does not fit into memory and can be halved."""
    try:
        return type(stack[0]).train(stack, loop.device(), checkpoints)
    except (RuntimeError, MemoryError) as error:  # on the CPU PyTorch has no type of its own for it
        full = isinstance(error, torch.OutOfMemoryError | MemoryError) or "allocate memory" in str(error)
        if len(stack) == 1 or not full:
            raise
        return [None] * len(stack)


def journal() -> Journal:
    """What is trained now and what failed, in this store."""
    return Journal(STORE / ".journal")


def stacks(runs: Iterable[Run]) -> list[list[Run]]:
    """Group runs that differ in loss, weight, options and seed only, costly stacks first; a loss stays together."""

    def shared(run: Run) -> str:
        return json.dumps({key: value for key, value in to_json(run).items() if key not in OWN}, sort_keys=True)

    def own(run: Run) -> str:
        return json.dumps([run.loss, run.options, run.lam is None], sort_keys=True)

    found = []
    for _, group in groupby(sorted(runs, key=lambda run: (shared(run), own(run))), key=shared):
        members = list(group)
        size = members[0].together(loop.device().type)
        found += [members[start : start + size] for start in range(0, len(members), size)]
    return sorted(found, key=lambda stack: -sum(run.cost for run in stack))


def missing(runs: Iterable[Run]) -> list[Run]:
    """The distinct runs without a record."""
    distinct = {str(folder(run)): run for run in runs}
    return [run for run in distinct.values() if load(run) is None]


class Runner(Protocol):
    """Who trains the stacks of a sweep: an executor in the sense of `concurrent.futures`, for one sweep."""

    processes: int  # that train at the same time
    place: dict[str, str]  # what the environment of one of them says beside ours

    def submit(self, stack: list[Run]) -> "Future[None]":
        """Train the stack and store its records, later; the future has what went wrong.

        A `RunError` there ends the sweep, since no other attempt would help.
        """

    def close(self) -> None:
        """Nothing is trained any more when this returns."""


def fill(runs: Iterable[Run], runner: Runner | None = None) -> None:
    """Train what is missing; a stack that fails is tried again, `ATTEMPTS` times in all.

    Args:
        runs: the runs; those with a record are not trained.
        runner: who trains, closed at the end; by default two processes of this machine, see `Local`.

    Raises:
        RunError: the store cannot be written, or a stack failed repeatedly; the message has the run and the end of the error.
    """
    with closing(runner or Local()) as trainers:
        todo = stacks(missing(runs))
        if not todo:
            return
        try:
            STORE.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=STORE).close()
        except OSError as error:
            raise RunError(f"cannot write to the run store {STORE}: {error}") from None
        failures: list[str] = []
        with tqdm(total=sum(map(len, todo)), unit="run", disable=None) as progress:
            pending = {trainers.submit(stack): (stack, 1) for stack in todo}
            while pending:
                for future in wait(pending, return_when=FIRST_COMPLETED).done:
                    stack, attempt = pending.pop(future)
                    failure = future.exception()
                    if failure is None:
                        progress.update(len(stack))
                    elif isinstance(failure, RunError):
                        raise failure
                    elif attempt < ATTEMPTS:
                        pending[trainers.submit(stack)] = stack, attempt + 1
                    else:
                        reason = str(failure)[-2000:]
                        failures.append(f"{stack[0].words} and {len(stack) - 1} more, after {attempt} attempts:\n{reason}")
                        with suppress(OSError):  # the disk may be full; the sweep says it all the same
                            journal().fail([folder(run).name for run in stack], reason)
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


class Local:
    """The runner on this machine: worker processes of one thread each; one that dies is replaced.

    Args:
        processes: how many; with `gpus`, how many for each of them.
        gpus: numbers of GPUs as PyTorch counts them here; a process sees its own only. None: a process sees what there is.

    Raises:
        ValueError: `processes` is not positive, or a GPU is not there or named twice.
    """

    def __init__(self, processes: int = 2, gpus: Sequence[int] | None = None) -> None:
        if processes < 1:
            raise ValueError(f"processes must be at least 1, got {processes}")
        places: list[dict[str, str]] = [{}] if gpus is None else [{"CUDA_VISIBLE_DEVICES": name} for name in _names(gpus)]
        self.place = places[0]
        self._workers = [Worker(place) for _ in range(processes) for place in places]  # GPUs take turns
        self._idle: Queue[Worker] = Queue()
        for worker in self._workers:
            self._idle.put(worker)
        self.processes = len(self._workers)
        self._threads = ThreadPoolExecutor(self.processes)
        self._futures: list[Future[None]] = []

    def submit(self, stack: list[Run]) -> "Future[None]":
        """See `Runner`."""
        self._futures.append(self._threads.submit(self._train, stack))
        return self._futures[-1]

    def close(self) -> None:
        """See `Runner`."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        while not all(future.done() for future in self._futures):  # interrupted: no worker outlives the sweep
            for worker in self._workers:
                worker.kill()
            time.sleep(0.05)
        for worker in self._workers:
            worker.end()

    def _train(self, stack: list[Run]) -> None:
        worker = self._idle.get()
        try:
            worker.train(stack)
        finally:
            self._idle.put(worker)


def _names(gpus: Sequence[int]) -> list[str]:
    """What CUDA_VISIBLE_DEVICES calls these GPUs: PyTorch counts those that it names, where it is set."""
    here = torch.cuda.device_count()
    if len(set(gpus)) < max(len(gpus), 1) or not set(gpus) <= set(range(here)):
        raise ValueError(f"gpus must be different ones of the {here} that PyTorch sees, counted from 0; got {list(gpus)}")
    named = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(here)))
    return [named.split(",")[gpu].strip() for gpu in gpus]


class Worker:
    """A process `python -m remi run -`, started when it is needed, and again after it died.

    Args:
        place: what its environment says beside ours and `WORKER_ENVIRONMENT`.
    """

    def __init__(self, place: Mapping[str, str]) -> None:
        ours = {"REMI_RUNS": str(STORE), "REMI_SWEEP": str(os.getpid())}
        self.environment = {**os.environ, **WORKER_ENVIRONMENT, **ours, **place}
        self._process: subprocess.Popen[str] | None = None

    def train(self, stack: list[Run]) -> None:
        """Train the stack and store its records.

        Raises:
            RuntimeError: the process died; the message is what it wrote to its standard error.
        """
        if self._process is None:
            self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - it lives as long as the process
            self._process = subprocess.Popen(
                [sys.executable, "-m", "remi", "run", "-"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True, env=self.environment,
            )  # fmt: skip
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps([to_json(run) for run in stack]) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if answer.strip() != "done":
            self.kill()
            raise RuntimeError(self.end())

    def kill(self) -> None:
        """At once, whatever it does."""
        process = self._process  # another thread may be ending it
        if process is not None:
            process.kill()

    def end(self) -> str:
        """Let it end, and hand over what it wrote to its standard error."""
        if self._process is None:
            return ""
        self._process.communicate()
        self._process = None
        with self._errors:
            self._errors.seek(0)
            return self._errors.read()


def serve(lines: Iterable[str]) -> None:
    """The worker's side: a stack per line in, the word "done" per stack out; it ends with the sweep, however that ends."""
    sweep = int(os.environ.get("REMI_SWEEP", os.getppid()))  # which may have ended while we were starting
    threading.Thread(target=_end_with, args=(sweep,), daemon=True).start()
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
