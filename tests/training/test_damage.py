"""Records and checkpoints on a faulty disk: what is read is what was written, or nothing, or an error; never another number."""

import errno
import os
import random
import shutil
from dataclasses import replace

import pytest
import torch
from test_loop import CPU, KilledError, same
from test_store import ONE_HOT, contents, equal

from remi.runs import store
from remi.runs.specs import CriticRun
from remi.training import checkpoints
from remi.training.checkpoints import Checkpoints
from remi.training.loop import Loop

pytestmark = pytest.mark.verify
TRAINED = replace(ONE_HOT, steps=320)  # checkpoints after 100, 200 and 300 steps
DAMAGES = ("truncated", "a bit", "zeros", "blocks swapped", "grown", "of another", "gone", "a link to nothing")


def damage(rng, path, other):
    """Do one of these to a file; `other` is a whole file of its kind."""
    kind, data = rng.choice(DAMAGES), bytearray(path.read_bytes())
    place, block = rng.randrange(len(data)), rng.choice((1, 16, 512))
    match kind:
        case "truncated":
            data = data[:place]
        case "a bit":
            data[place] ^= 1 << rng.randrange(8)
        case "zeros":
            data[place : place + block] = bytes(len(data[place : place + block]))
        case "blocks swapped":
            data[:block], data[-block:] = data[-block:], data[:block]
        case "grown":
            data += data[: place + 1]
        case "of another":
            data = other.read_bytes()
    if kind in ("gone", "a link to nothing"):
        path.unlink()
    else:
        path.write_bytes(data)
    if kind == "a link to nothing":
        path.symlink_to("nothing")
    return kind


def test_a_damaged_record_is_none_and_is_trained_again(empty_store, long, tally):
    rng, other, tries, lost = random.Random(0), replace(ONE_HOT, seed=1), 200 if long else 20, []
    store.train([ONE_HOT, other])
    whole, expected = store.load(ONE_HOT), contents(ONE_HOT)
    for _ in range(tries):
        file = rng.choice(("record.json", "arrays.npz"))
        done = damage(rng, store.folder(ONE_HOT) / file, store.folder(other) / file)
        found = store.load(ONE_HOT)
        if not (found is None or equal(replace(found, seconds=whole.seconds), whole)):
            lost.append(f"{file}, {done}: another record")
        store.train(store.missing([ONE_HOT]) or [other])
        if contents(ONE_HOT) != expected:
            lost.append(f"{file}, {done}: not trained again")
    tally("a damaged record", "mutation", tries, lost)


@pytest.fixture
def killed(tmp_path, monkeypatch):
    """The checkpoints of a training that was killed after 250 steps, and of another one."""
    step = Loop.step

    def limited(loop, *batch):
        if loop.position == 250:
            raise KilledError
        step(loop, *batch)

    folders = [tmp_path / "killed", tmp_path / "other"]
    with monkeypatch.context() as patch:
        patch.setattr(Loop, "step", limited)
        for seed, folder in enumerate(folders):
            with pytest.raises(KilledError):
                CriticRun.train([replace(TRAINED, seed=seed)], CPU, Checkpoints(folder, seconds=0))
            assert [path.name[:10] for path in sorted(folder.iterdir())] == ["0000000100", "0000000200"]
    return folders


def test_a_training_goes_on_from_a_state_that_is_whole(killed, tmp_path, monkeypatch, long, tally):
    rng, tries, lost = random.Random(1), 200 if long else 20, []
    (expected,), steps, step = CriticRun.train([TRAINED], CPU), [], Loop.step
    monkeypatch.setattr(Loop, "step", lambda loop, *batch: steps.append(step(loop, *batch)))
    for number in range(tries):
        folder = shutil.copytree(killed[0], tmp_path / str(number))
        victims = rng.sample(range(2), rng.choice((1, 1, 2)))
        done = [damage(rng, sorted(folder.iterdir())[i], sorted(killed[1].iterdir())[i]) for i in sorted(victims, reverse=True)]
        steps.clear()
        (found,) = CriticRun.train([TRAINED], CPU, Checkpoints(folder, seconds=3600))
        if not same(found, expected) or len(steps) not in (120, 220, 320):
            lost.append(f"{done}: {len(steps)} more steps to another end")
    tally("a damaged checkpoint", "mutation", tries, lost)


def break_disk(monkeypatch, error, place):
    """From now on the n-th file that is written stays half, with an error."""
    left = place

    def write(path, data):
        nonlocal left
        left -= 1
        path.write_bytes(data if left else data[: len(data) // 2])
        if not left:
            raise OSError(error, os.strerror(error), str(path))

    for module in (checkpoints, store):
        monkeypatch.setattr(module, "write", write)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS, errno.EIO], ids=["full", "read-only", "broken"])
@pytest.mark.parametrize("place", [1, 2])
def test_a_write_that_fails_is_an_error_and_the_state_before_stays(empty_store, tmp_path, monkeypatch, error, place):
    outcome, state = CriticRun.train([ONE_HOT], CPU)[0], {"values": torch.arange(6.0).numpy()}
    kept = Checkpoints(tmp_path / "kept", seconds=0)
    kept.write(1, state)
    with monkeypatch.context() as patch:
        break_disk(patch, error, place)
        with pytest.raises(OSError, match=os.strerror(error)):
            store.save(ONE_HOT, outcome, 1.0)
        break_disk(patch, error, 1)
        with pytest.raises(OSError, match=os.strerror(error)):
            kept.write(2, state)
    assert store.load(ONE_HOT) is None
    assert not store.folder(ONE_HOT).exists()
    assert kept.latest()[0] == 1
    assert len(list(kept.folder.iterdir())) == 1
    store.save(ONE_HOT, outcome, 1.0)
    assert store.load(ONE_HOT) is not None
