"""A checkpoint is what was written, or the one before it, or none; never something else."""

import numpy as np
import pytest

from remi.training.checkpoints import KEPT, Checkpoints

STATE = {"values": np.arange(6.0, dtype=np.float32).reshape(2, 3), "alive": np.array([True, False]), "count": np.array(7)}


def state(step):
    return {name: values + step if name == "count" else values for name, values in STATE.items()}


@pytest.fixture
def kept(tmp_path):
    """Three states were written."""
    kept = Checkpoints(tmp_path / "some" / "where", seconds=0)
    for step in (100, 200, 300):
        kept.write(step, state(step))
    return kept


def same(found, step):
    return found[0] == step and all(
        np.array_equal(found[1][name], values) and found[1][name].dtype == values.dtype for name, values in state(step).items()
    )


def test_last_two_states_are_kept(kept):
    assert same(kept.latest(), 300)
    assert [path.name.split("-")[0] for path in kept._files()] == ["0000000300", "0000000200"]
    assert len(list(kept.folder.iterdir())) == KEPT


def test_before_the_first_there_is_none(tmp_path):
    assert Checkpoints(tmp_path / "nowhere").latest() is None
    Checkpoints(tmp_path / "nowhere").clear()


@pytest.mark.parametrize("damage", [lambda b: b"", lambda b: b[: len(b) // 2], lambda b: b[:-1], lambda b: b + b"\0"])
def test_a_damaged_one_is_passed_over(kept, damage):
    last, before = kept._files()
    last.write_bytes(damage(last.read_bytes()))
    assert same(kept.latest(), 200)
    before.write_bytes(damage(before.read_bytes()))
    assert kept.latest() is None


def test_a_flipped_bit_never_gives_another_state(kept):
    last = kept._files()[0]
    data = last.read_bytes()
    for position in range(0, len(data), 7):
        flipped = bytearray(data)
        flipped[position] ^= 1
        last.write_bytes(flipped)
        assert same(kept.latest(), 200), position


def test_what_a_killed_writer_left_is_no_state(kept):
    (kept.folder / ".writing-123").write_bytes(b"half")
    assert same(kept.latest(), 300)
    kept.clear()
    assert not kept.folder.exists()


def test_pickles_are_not_read_or_written(kept):
    with pytest.raises(ValueError, match="allow_pickle=False"):
        kept.write(400, {"object": np.array([{}])})
    assert same(kept.latest(), 300)
    assert len(list(kept.folder.iterdir())) == KEPT


def test_a_full_disk_leaves_the_states_before(kept, full_disk):
    with full_disk(1000), pytest.raises(OSError, match="too large"):
        kept.write(400, {"values": np.zeros(1000)})
    assert same(kept.latest(), 300)
    assert len(list(kept.folder.iterdir())) == KEPT
    kept.write(400, state(400))
    assert same(kept.latest(), 400)


def test_it_is_due_after_some_seconds(tmp_path, monkeypatch):
    now = 0.0
    monkeypatch.setattr("remi.training.checkpoints.time.monotonic", lambda: now)
    kept = Checkpoints(tmp_path, seconds=30)
    found = []
    for now in (29.0, 30.0, 31.0, 59.0, 61.0):
        found.append(kept.due)
        if kept.due:
            kept.write(int(now), STATE)
    assert found == [False, True, False, False, True]


@pytest.mark.parametrize("cleared", [False, True])
def test_two_writers_of_one_state_do_not_collide(tmp_path, cleared, at_once):
    def write():
        for step in range(20):
            Checkpoints(tmp_path / "one", seconds=0).write(step, state(step))
            if cleared and step % 3 == 0:
                Checkpoints(tmp_path / "one").clear()

    at_once(write)
    assert cleared or same(Checkpoints(tmp_path / "one").latest(), 19)
