import threading

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

    monkeypatch.setattr(runs, "_serve", refuse)


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
