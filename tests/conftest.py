"""Fixtures of several test files, and `--long`: the tests marked `verify` at full length, with their counts in a product."""

import csv
import io
import threading
from contextlib import contextmanager

import pytest
import torch

torch.set_num_threads(1)  # as every training process does: bits are compared


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="the tests marked verify at full length; writes figures/verify.csv")


@pytest.fixture(scope="session")
def long(request):
    """True when the tests marked `verify` run at full length."""
    return request.config.getoption("--long")


@pytest.fixture(scope="session")
def tally(long):
    """Count what a check tried; what it lost fails the test, by name. With `--long` the counts enter figures/verify.csv."""
    rows = []

    def count(check, unit, tried, lost=()):
        rows.append((check, unit, tried, tried - len(lost), len(lost)))
        assert not lost, f"{check}: lost {len(lost)} of {tried}, first {lost[0]}"

    yield count
    if long:
        from remi.paper import figures

        place, text = figures.folder("quick") / "verify.csv", io.StringIO()
        before = list(csv.reader(place.read_text().splitlines()))[1:] if place.exists() else []
        known = {row[0]: row for row in [*before, *rows]}  # a check that was not asked keeps its row
        header = ("check", "unit", "tried", "survived", "lost")
        csv.writer(text, lineterminator="\n").writerows([header, *(known[check] for check in sorted(known))])
        figures.write(place, text.getvalue())


@pytest.fixture
def empty_store(tmp_path, tmp_path_factory, monkeypatch):
    """An empty run store of the test's own; what the code computes is found once for all tests."""
    from remi.runs import store

    monkeypatch.setattr(store, "STORE", tmp_path / "runs")
    monkeypatch.setattr(store, "FINGERPRINTS", tmp_path_factory.getbasetemp() / "fingerprints")
    yield store.STORE
    torch.set_flush_denormal(False)  # `store.train` turns it on for its process


@pytest.fixture
def no_workers(monkeypatch):
    """Starting a worker process is an error."""
    from remi.runs import store

    def refuse(*arguments):
        raise AssertionError("a worker was started")

    monkeypatch.setattr(store.Worker, "train", refuse)


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
