"""The further tasks against their definitions: truths by other formulas, oracles, what is drawn."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
from scipy import stats
from test_known import oracle_holds

from remi.theory import further, known

TASK = {task.name: task for task in further.TASKS}
ROWS = 20_000


def drawn(task, n=ROWS, seed=0):
    return task.law.draw(np.random.default_rng(seed), n)


def counted(law, levels, n=400_000):
    """The plug-in information of many rows."""
    x, y = law.draw(np.random.default_rng(1), n)
    joint = np.histogram2d(x[:, 0], y[:, 0], levels, [[0, levels]] * 2)[0] / n
    return stats.entropy(joint.sum(0)) + stats.entropy(joint.sum(1)) - stats.entropy(joint.ravel())


def test_names_are_new_and_sizes_begin_at_a_row_per_level():
    assert not {task.name for task in known.TASKS} & set(TASK)
    assert len(TASK) == len(further.TASKS)
    assert TASK["table-zipf-20"].sizes == (20, 200, 2000)
    assert all(sum(part.shape[1] for part in drawn(TASK[name], 2)) > max(TASK[name].sizes) for name in TASK if "needle" in name)


@pytest.mark.parametrize("name", [name for name in TASK if TASK[name].discrete])
def test_tables_are_what_they_say(name):
    kind, levels = name.split("-")[-2:] if name.startswith("table") else ("channel", "5")
    law, k = TASK[name].law, int(levels)
    assert law.mi == pytest.approx(counted(law, k), abs=0.02)  # 10,000 cells of 400,000 rows: 0.012 too high
    x, y = (part[:, 0] for part in drawn(TASK[name]))
    assert set(np.unique(x)) | set(np.unique(y)) == set(range(k))
    same = {"independent": 1 / k, "noisy": 0.7 + 0.3 / k, "deterministic": 1, "channel": 0.7}.get(kind)
    shares = 1 / np.arange(1, k + 1) / np.sum(1 / np.arange(1, k + 1)) if kind == "zipf" else np.full(k, 1 / k)
    same = 0.7 + 0.3 * np.sum(shares**2) if same is None else same
    assert np.mean(x == y) == pytest.approx(same, abs=0.02)
    assert stats.chisquare(np.bincount(x.astype(int), minlength=k), ROWS * shares).pvalue > 1e-5


def test_truths_in_closed_form():
    assert TASK["table-independent-20"].mi == pytest.approx(0, abs=1e-12)
    assert TASK["table-deterministic-100"].mi == pytest.approx(math.log(100))
    entropy = stats.entropy([0.3, 0.7])
    assert TASK["channel-5-0.3"].mi == pytest.approx(math.log(5) - entropy - 0.3 * math.log(4))
    assert TASK["needle-400-1"].mi == pytest.approx(math.log(2) / 2)
    assert TASK["independent-200-200"].mi == TASK["independent-5-5"].mi == 0
    for mi, bits in itertools.zip_longest(further.NATS, further.BITS):
        assert TASK[f"correlated-20-20-{mi}"].mi == pytest.approx(mi)
        assert TASK[f"image-pairs-{bits}"].mi == pytest.approx(bits * math.log(2))


@pytest.mark.parametrize("task", further.TASKS, ids=lambda task: task.name)
def test_oracle(task):
    base = drawn(task)
    if {"deterministic", "independent"} & set(task.name.split("-")) or task.name == "image-pairs-10":  # all rows read the same
        assert task.law.log_ratio(*base) == pytest.approx(np.full(ROWS, task.mi), abs=1e-9)
    else:
        assert oracle_holds(task.law, task.mi, base)


def test_another_parameter_is_seen():
    base = drawn(TASK["table-noisy-20"])
    assert not oracle_holds(further.repeated(np.ones(20), 0.4), TASK["table-noisy-20"].mi, base)
    assert further.repeated(np.ones(20), 0.4).mi != pytest.approx(counted(TASK["table-noisy-20"].law, 20), abs=0.02)
    assert not oracle_holds(further.same_class(7), 4 * math.log(2), drawn(TASK["image-pairs-4"]))


def test_normals_correlate_as_they_say():
    x, y = drawn(TASK["correlated-20-20-6"])
    rho = math.sqrt(1 - math.exp(-2 * 6 / 20))
    assert np.abs(np.corrcoef(x.T, y.T)[:20, 20:] - rho * np.eye(20)).max() < 5 / math.sqrt(ROWS)
    x, y = drawn(TASK["needle-400-1"])
    found = np.corrcoef(x.T, y.T)[:400, 400]
    assert found[0] == pytest.approx(math.sqrt(0.5), abs=0.02)
    assert np.abs(found[1:]).max() < 5 / math.sqrt(ROWS)


def test_pictures_show_their_class_and_share_nothing_else():
    task = TASK["image-pairs-4"]
    pixels, ones = further.digits()
    assert len(np.unique(pixels, axis=0)) == len(pixels)  # no picture is of both classes
    base = drawn(task, 5000)
    x, y = task.seen(base)
    assert x.shape == y.shape == (5000, 10 * pixels.shape[1])
    assert (x.reshape(5000, 10, -1)[7, 3] == pixels[int(base[0][7, 3])]).all()
    first, second = (ones[part.astype(int)] for part in base)
    flips = np.mean(first != second)
    assert 1 - stats.entropy([flips, 1 - flips], base=2) == pytest.approx(0.4, abs=0.02)
    assert np.mean(first) == pytest.approx(0.5, abs=0.02)
    alike = first == second
    assert np.corrcoef(base[0][alike & first], base[1][alike & first])[0, 1] == pytest.approx(0, abs=0.04)  # which one of them


@pytest.mark.parametrize("task", further.TASKS, ids=lambda task: task.name)
def test_draws_are_the_seed_s(task):
    first, second = (task.draw(np.random.default_rng(3), 20) for _ in range(2))
    assert all((a == b).all() and a.shape[0] == 20 for a, b in zip(first, second, strict=True))
    assert not (first[0] == dataclasses.replace(task).draw(np.random.default_rng(4), 20)[0]).all()
