"""Many columns against a target: the ones that matter, corrected for their number, one error for every mistake."""

import json
import math

import numpy as np
import pandas as pd
import pytest

from remi import estimation
from remi.__main__ import main
from remi.estimation import estimate_mi, screen
from remi.estimation.screening import fdr, holm

START = {"steps": 0}


def rng(seed=0):
    return np.random.default_rng(seed)


def table(n=120, seed=20):
    """Three columns that tell something, one of them in words, and five that do not."""
    y = rng(seed).normal(size=n)
    frame = pd.DataFrame(rng(seed + 1).normal(size=(n, 5)), columns=list("abcde"))
    frame.insert(0, "near", y + 0.3 * rng(seed + 2).normal(size=n))
    frame.insert(2, "word", np.where(y + 0.3 * rng(seed + 3).normal(size=n) > 0, "up", "down"))
    frame["code"] = np.digitize(y + 0.3 * rng(seed + 4).normal(size=n), [-0.5, 0.5])
    return frame, pd.Series(y, name="target")


FRAME, TARGET = table()


@pytest.fixture(scope="module")
def found():
    return screen(FRAME, TARGET, discrete="code", **START)


def test_what_matters_is_first(found):
    assert list(found.table.column) == list(FRAME)
    assert set(found.ranked.column[:3]) == {"near", "word", "code"}
    chosen = found.table.set_index("column")
    assert (chosen.loc[["near", "word", "code"], "holm"] <= 0.05).all()
    assert (chosen.loc[list("abcde"), "holm"] > 0.05).all()
    assert (chosen.p <= chosen.fdr).all()
    assert (chosen.fdr <= chosen.holm).all()
    assert ((chosen.low <= chosen.value) & (chosen.value <= chosen.high)).all()
    assert (chosen.diagnostics == [len(found.estimates[name].diagnostics) for name in FRAME]).all()


def test_a_column_is_asked_as_estimate_mi_asks_it(found):
    alone = estimate_mi(FRAME["near"], TARGET, restarts=1, permutations=999, **START)
    assert found.estimates["near"].as_dict() == alone.as_dict()
    assert found.estimates["code"].features == ("code: discrete, 3 levels, one-hot", *alone.features[1:])


def test_it_shows_itself(found):
    text = str(found)
    assert text.startswith("3 of 8 columns tell something")
    assert text.splitlines()[1].split() == ["column", "value", "low", "high", "p", "holm", "fdr", "diagnostics"]
    assert "<table" in found._repr_html_()
    axes = found.plot().axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == list(found.ranked.column)
    assert 2.5 in [line.get_ydata()[0] for line in axes.lines]  # below the three that are beyond chance
    assert axes.get_xlabel().endswith("above the line: beyond chance among 8")


def test_critics_are_trained_where_there_is_something_for_them():
    chosen = {"steps": 50, "discrete": "code"}
    some = screen(FRAME[["near", "a", "code", "b"]], TARGET, **chosen).estimates
    steps = {name: one.settings["steps"] for name, one in some.items()}
    assert steps == {"near": 50, "a": 0, "code": 50, "b": 0}
    assert min(some[name].p_value for name in ("a", "b")) > 0.05
    many = np.stack([TARGET, *rng(3).normal(size=(3, len(TARGET)))], 1)  # too many features to smooth
    assert screen(FRAME[["a"]], many, **chosen | {"discrete": ()}).estimates["a"].settings["steps"] == 50


@pytest.mark.slow
def test_processes_change_nothing(found):
    assert screen(FRAME, TARGET, discrete="code", processes=2, **START).table.equals(found.table)


def test_a_target_of_several_columns_and_arrays():
    x = rng().normal(size=(80, 2))
    y = np.stack([x[:, 1], rng(1).normal(size=80)], 1)
    found = screen(x, y, **START).table
    assert list(found.column) == ["x0", "x1"]
    assert found.p[0] > 0.01 > found.p[1]


def test_permutations_follow_the_columns():
    x = rng().normal(size=(40, 30))
    found = screen(x, x[:, 0], **START)
    assert found.estimates["x3"].settings["permutations"] == 1200
    assert found.table.holm[0] <= 0.05  # 30 / 1201 can be reached


# The procedures, against their definitions
def test_holm():
    p = np.array([0.01, 0.04, 0.03, 0.005])
    assert holm(p) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.6, 0.7])) == pytest.approx([1, 1])


def test_fdr():
    assert fdr(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.02, 0.04, 0.04, 0.02])


def test_uncorrected_columns_would_be_believed():
    """Of 200 independent columns ten or so have p below 5%: that is what is corrected."""
    p = rng().uniform(size=(200, 200))
    believed = [[(row <= 0.05).any(), (holm(row) <= 0.05).any(), (fdr(row) <= 0.05).any()] for row in p]
    plain, any_holm, any_fdr = np.mean(believed, 0)
    assert plain > 0.99
    assert max(any_holm, any_fdr) < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 200)


MALFORMED = {
    "rows": ((FRAME, TARGET[:-1]), {}, "x and y must have as many rows; got 120 and 119"),
    "no processes": ((FRAME, TARGET), {"processes": 0}, "processes must be a whole number from 1 to 1000; got 0"),
    "half a process": ((FRAME, TARGET), {"processes": 1.5}, "processes must be a whole number.*got 1.5"),
    "true": ((FRAME, TARGET), {"processes": True}, "processes must be a whole number.*got True"),
    "no permutations": ((FRAME, TARGET), {"permutations": 0}, "permutations must be a whole number from 1 to 1000000.*got 0"),
    "text": ((FRAME, TARGET), {"permutations": "many"}, "permutations must be a whole number.*got 'many'"),
    "unknown code": ((FRAME, TARGET), {"discrete": "f"}, "discrete must be among x, y, near, a.*got 'f'"),
    "a bad column": ((FRAME.assign(c=np.nan), TARGET), {}, "x column 'c' must be finite|x column 'c' must have no missing"),
    "transform": ((FRAME, TARGET), {"transform": "log"}, "transform must be one of rank"),
    "device": ((FRAME, TARGET), {"device": "abacus"}, "device must be 'cpu'"),
    "bound": ((FRAME, TARGET), {"bound": "mime"}, "bound must be one of"),
    "critic": ((FRAME, TARGET), {"critic": None}, "remine has no option 'critic'"),
    "seed": ((FRAME, TARGET), {"seed": -1}, "seed must be a whole number from 0.*got -1"),
    "folds": ((FRAME, TARGET), {"folds": 31}, "folds must be a whole number from 2 to 30.*got 31"),
    "restarts": ((FRAME, TARGET), {"restarts": 0}, "restarts must be a whole number from 1 to 100; got 0"),
    "batch": ((FRAME, TARGET), {"batch": True}, "batch must be a whole number from 8.*got True"),
    "steps": ((FRAME, TARGET), {"steps": None}, "steps must be a whole number from 0.*got None"),
    "lr": ((FRAME, TARGET), {"lr": "fast"}, "lr must be a positive number; got 'fast'"),
    "series": ((FRAME, TARGET), {"series": "yes"}, "series must be True or False; got 'yes'"),
    "no columns": ((FRAME[[]], TARGET), {}, "x must have at least one column"),
    "a constant": ((FRAME, 0 * TARGET), {}, "y column 'target' must not be constant; got"),
    "no table": (("x", TARGET), {}, "x must be a NumPy array.*got str"),
    "order": ((FRAME, TARGET[::-1]), {}, "x and y must have the same index"),
}


@pytest.mark.parametrize(("arguments", "chosen", "message"), MALFORMED.values(), ids=MALFORMED)
def test_a_mistake_is_one_error(arguments, chosen, message):
    with pytest.raises(ValueError, match=message):
        screen(*arguments, **chosen)


def test_command_line(tmp_path, monkeypatch, capsys):
    path = tmp_path / "data.csv"
    pd.DataFrame({"a": FRAME["a"], "near": FRAME["near"], "y": TARGET})[:60].to_csv(path, index=False)
    monkeypatch.setattr(estimation, "screen", lambda *arguments, **chosen: screen(*arguments, **chosen, **START))
    assert main(["estimate", str(path), "--x", "a", "near", "--y", "y", "--each"]) == 0
    assert "near" in capsys.readouterr().out.splitlines()[2]
    assert main(["estimate", str(path), "--x", "a", "near", "--y", "y", "--each", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["column"] for row in rows] == ["a", "near"]
    assert main(["estimate", str(path), "--x", "a", "--y", "y", "--given", "near", "--each"]) == 1
    assert "--each asks without --given" in capsys.readouterr().err
