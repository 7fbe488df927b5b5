"""Notes say who trains what, and are not believed when their writer is gone."""

import json
import multiprocessing
import os
import socket

import pytest

from remi.runs.journal import Journal


@pytest.fixture
def journal(tmp_path):
    return Journal(tmp_path / "store" / ".journal")


def note(journal, **content):
    journal.folder.mkdir(parents=True, exist_ok=True)
    (journal.folder / "note.json").write_text(
        json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "runs": ["a"]} | content)
    )


def test_runs_are_in_training_as_long_as_they_are(journal):
    assert journal.running() == set()
    with journal.training(["a", "b"]), Journal(journal.folder).training(["c"]):
        assert journal.running() == {"a", "b", "c"}
    assert journal.running() == set()
    assert not journal.folder.exists()


def test_a_process_that_is_gone_trains_nothing(journal):
    gone = multiprocessing.get_context("spawn").Process()
    gone.start()
    gone.join()
    note(journal, pid=gone.pid)
    assert journal.running() == set()
    assert not journal.folder.exists()


@pytest.mark.parametrize("content", [{"host": "elsewhere", "pid": 10**9}, {"pid": 1}])
def test_a_process_that_may_be_there_counts(journal, content):
    note(journal, **content)
    assert journal.running() == {"a"}


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "3"])
def test_half_a_note_says_nothing(journal, text):
    note(journal)
    (journal.folder / "note.json").write_text(text)
    assert journal.running() == set()


def test_processes_that_come_and_go_do_not_collide(journal, at_once):
    def come_and_go():
        for _ in range(200):
            with journal.training(["a"]):
                assert journal.running() == {"a"}

    at_once(come_and_go)


def test_a_failure_is_remembered_until_the_run_is_trained(journal):
    journal.fail(["a", "b"], "no memory")
    with pytest.raises(KeyError), journal.training(["a"]):
        raise KeyError
    assert journal.failures() == {"a": "no memory", "b": "no memory"}
    with journal.training(["a"]):
        pass
    assert journal.failures() == {"b": "no memory"}
