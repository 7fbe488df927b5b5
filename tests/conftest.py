import json
import threading
from contextlib import contextmanager

import pytest
import torch

torch.set_num_threads(1)  # as every training process does: bits are compared


@pytest.fixture
def store(tmp_path, monkeypatch):
    """An empty run store of the test's own."""
    from remi import runs

    monkeypatch.setattr(runs, "STORE", tmp_path / "runs")
    yield runs.STORE
    torch.set_flush_denormal(False)  # `runs.train` turns it on for its process


@pytest.fixture
def no_workers(monkeypatch):
    """Starting a worker process is an error."""
    from remi import runs

    def refuse(*arguments):
        raise AssertionError("a worker was started")

    monkeypatch.setattr(runs.Worker, "train", refuse)


@pytest.fixture
def contents():
    """What may not depend on how a run came to be: a function of the run."""
    from remi import runs

    def read(run):
        record = json.loads((runs.folder(run) / "record.json").read_text())
        return record["scalars"], record["status"], record["identity"], (runs.folder(run) / "arrays.npz").read_bytes()

    return read


@pytest.fixture
def full_disk():
    """A context in which no file grows beyond some bytes, here and in new processes: every write fails halfway."""
    import resource  # not on every system

    @contextmanager
    def full(size):
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return full


@pytest.fixture
def at_once():
    """Do something in several threads that start together; none may fail."""

    def run(action, threads=4):
        barrier, failures = threading.Barrier(threads), []

        def one():
            barrier.wait()
            try:
                action()
            except BaseException as error:
                failures.append(error)

        started = [threading.Thread(target=one) for _ in range(threads)]
        for thread in started:
            thread.start()
        for thread in started:
            thread.join()
        assert not failures

    return run
