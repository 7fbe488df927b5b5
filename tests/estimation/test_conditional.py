"""Conditional mutual information: right where it is a formula, 0 where z explains all, one error for every mistake."""

import json
import math

import numpy as np
import pandas as pd
import pytest

from remi import estimate_cmi, estimate_mi
from remi.__main__ import main
from remi.estimation import conditional
from remi.estimation.plan import Plan
from remi.estimation.residuals import Smooth, parted, spread_out

START = {"steps": 0, "restarts": 1}  # the starts alone: enough where the answer is near them


def rng(seed=0):
    return np.random.default_rng(seed)


def normal(*shape, seed=0):
    return rng(seed).normal(size=shape)


# 1. What z says is taken out
SHAPES = {
    "nothing": (lambda z: 0 * z, 0.02),
    "a line": (lambda z: 2 * z, 0.02),
    "a square": (lambda z: z**2, 0.02),
    "a wave": (lambda z: np.sin(3 * z), 0.05),
}


@pytest.mark.parametrize(("curve", "error"), SHAPES.values(), ids=SHAPES)
def test_the_mean_is_found(curve, error):
    z, noise = normal(2, 1500)
    part = parted(curve(z) + 0.5 * noise, Smooth(z[:, None], 0))
    assert np.square(part.mean - curve(z)).mean() < error
    assert np.corrcoef(part.rest, noise)[0, 1] > 0.95


def test_the_scale_is_found():
    z, noise = normal(2, 1500)
    part = parted(np.exp(z / 2) * noise, Smooth(z[:, None], 0))
    assert np.corrcoef(part.scale, z)[0, 1] > 0.9
    assert np.corrcoef(part.rest, noise)[0, 1] > 0.95


def test_no_row_has_a_part_in_its_own_fit():
    z, x = normal(40, 2), normal(40, seed=1)
    smooth = Smooth(z, 0)
    before = smooth(x)
    moved = x.copy()
    moved[3] += 1e-6  # so little that the ridges stay
    assert smooth(moved)[3] == pytest.approx(before[3], abs=1e-9)
    assert abs(smooth(moved)[5] - before[5]) > 1e-9


def test_many_rows_are_fitted_by_some(monkeypatch):
    monkeypatch.setattr("remi.estimation.residuals.FIT", 300)
    z, noise = normal(2, 2000)
    part = parted(z**2 + 0.5 * noise, Smooth(z[:, None], 0))
    assert np.square(part.mean - z**2).mean() < 0.1


def test_nothing_is_left_of_a_copy_of_z():
    z = normal(300)
    part = parted(z, Smooth(z[:, None], 0))
    assert not part.rest.any()
    assert np.abs(part.mean - z).max() < 0.05


def test_draws_are_not_those_of_the_callers_data():
    x, z = np.random.default_rng(0).random(400), normal(400, seed=1)
    groups = pd.DataFrame({"a": rng(2).random(400) > 0.5, "b": normal(400, seed=3)})
    found = estimate_cmi(groups["a"], pd.DataFrame({"x": x, "code": rng(4).random(400) > 0.5}), z, seed=0, **START)
    assert found.interval[0] <= 0.01, str(found)  # 3 nats, were the codes spread out by the numbers in x


@pytest.mark.parametrize("determined", ["x", "y"])
def test_a_column_that_z_determines_tells_nothing(determined):
    x, noise, other = normal(3, 400)
    y = x + 0.5 * noise
    z = np.stack([np.exp(x if determined == "x" else y), other], 1)
    found = estimate_cmi(x, y, z, **START)
    assert abs(found.value) < 0.02
    assert found.p_value > 0.01
    assert f"z determines {determined}: nothing is left of it" in found.diagnostics[-1]
    assert "determines" not in str(estimate_cmi(x, y, other, **START))


# 2. Known answers, read from the starts; four standard errors of so many rows, sqrt(2 I / n), and .02
def gaussian(kind, n, seed=0):
    a, b, c = normal(3, n, seed=seed)
    return {
        "chain": (a, a + b + 0.5 * c, a + b, 0.0),
        "common cause": (a + b, a + c, a, 0.0),
        "collider": (a, b, a + b + 0.5 * c, 0.5 * math.log(1.25 * 1.25 / 2.25 / 0.25)),
        "effect": (a + b, a + 0.75 * b + c, a, 0.5 * math.log(1 + 0.75**2)),
    }[kind]


@pytest.mark.parametrize("kind", ["chain", "common cause", "collider", "effect"])
def test_gaussians(kind):
    *data, truth = gaussian(kind, 1000)
    found = estimate_cmi(*data, **START)
    assert abs(found.value - truth) < 4 * math.sqrt(2 * truth / 1000) + 0.02, str(found)
    assert found.interval[0] - 0.05 <= truth <= found.interval[1] + 0.05
    assert found.p_value > 0.01 if truth == 0 else found.p_value <= 0.01


def test_what_z_hides_and_what_it_shows():
    x, y, z, _ = gaussian("common cause", 600)
    assert estimate_mi(x, y, **START).value > 0.08
    assert abs(estimate_cmi(x, y, z, **START).value) < 0.02
    x, y, z, truth = gaussian("collider", 600)
    assert abs(estimate_mi(x, y, **START).value) < 0.05
    assert estimate_cmi(x, y, z, **START).value > 0.6 * truth


def test_both_terms_are_extrapolated_alike(monkeypatch):
    asked, term = [], conditional.term
    monkeypatch.setattr(conditional, "term", lambda question, *rest: asked.append(question.slowest) or term(question, *rest))
    estimate_cmi(*gaussian("chain", 200)[:3], **START)
    assert len(asked) == 2
    assert asked[0] == asked[1]


def test_the_width_is_that_of_the_difference():
    z, flips, y = rng().integers(2, size=600), rng(1).random(600) < 0.05, rng(2).integers(2, size=600)
    x = z ^ flips  # of which z tells half a nat, and y nothing
    given = estimate_cmi(x, y, z, discrete=["x", "y", "z"], **START)
    both = estimate_mi(x, np.stack([y, z], 1), discrete=["x", "y"], **START)
    narrow, wide = (found.readings["held-out bound"] - found.interval[0] for found in (given, both))
    assert narrow < wide / 2


def test_curves_of_a_common_cause():
    z, first, second = normal(3, 1000)
    x, y = np.sin(3 * z) + 0.5 * first, z**2 + 0.5 * second
    nothing = estimate_cmi(x, y, z, **START)
    assert abs(nothing.value) < 0.02
    assert nothing.p_value > 0.01
    direct = estimate_cmi(x, z**2 + 0.5 * (0.6 * first + 0.8 * second), z, **START)
    assert direct.value == pytest.approx(0.223, abs=0.08)
    assert direct.p_value <= 0.01


def test_a_common_scale():
    z, first, second = normal(3, 800)
    found = estimate_cmi(np.exp(z) * first, np.exp(z) * second, z, **START)
    assert abs(found.value) < 0.02
    assert found.p_value > 0.01


def test_a_sign_that_is_a_code():
    z, x, noise = rng().integers(2, size=800), *normal(2, 800)
    y = 0.8 * np.where(z, 1, -1) * x + 0.6 * noise
    assert estimate_cmi(x, y, z.astype(str), **START).value == pytest.approx(0.511, abs=0.12)


def bits(n, errors, seed=0):
    x, z = rng(seed).integers(2, size=(2, n))
    return x, x ^ z ^ (rng(seed + 1).random(n) < errors), z


def test_codes():
    x, y, z = bits(600, 0.1)
    truth = math.log(2) + 0.1 * math.log(0.1) + 0.9 * math.log(0.9)
    found = estimate_cmi(x, y, z, discrete=["x", "y", "z"], **START)
    assert found.value == pytest.approx(truth, abs=0.08)  # standard deviation of the log-ratio, .66, over sqrt(600), three times
    assert found.p_value <= 0.01
    assert found.readings["table"] == pytest.approx(truth, abs=0.1)
    independent = estimate_cmi(x, rng(5).permutation(y), z, discrete=["x", "y", "z"], **START)
    assert independent.interval[0] <= 0 < independent.interval[1]
    assert independent.p_value > 0.01


def test_codes_of_one_distribution_per_group():
    shares = np.array([[0.8, 0.1, 0.1], [0.1, 0.1, 0.8], [1 / 3, 1 / 3, 1 / 3]]).cumsum(1)
    z = rng().integers(3, size=600)
    x, y = ((rng(seed).random(600)[:, None] > shares[z]).sum(1) for seed in (1, 2))
    found = estimate_cmi(*(pd.Series(one, dtype="category") for one in (x, y, z)), **START)
    assert found.interval[0] <= 0.01
    assert abs(found.value) < 0.03
    assert found.p_value > 0.01


@pytest.mark.parametrize("swapped", [False, True])
def test_kinds_of_columns_together(swapped):
    z, noise = normal(2, 800)
    treated = rng(1).random(800) < 1 / (1 + np.exp(-z))
    outcome = pd.DataFrame({"outcome": z + 2 * treated + noise, "other": normal(800, seed=3)})
    given = pd.DataFrame({"z": z, "group": np.array(["a", "b"])[rng(2).integers(2, size=800)]})
    sides = (outcome, treated) if swapped else (treated, outcome)
    found = estimate_cmi(*sides, given, **START)
    assert found.value == pytest.approx(0.286, abs=0.1)  # by integration
    assert found.p_value <= 0.01
    assert "group: discrete, 2 levels, one-hot" in found.features


@pytest.mark.slow
def test_what_only_critics_see():
    x, z, noise = normal(3, 800)
    found = estimate_cmi(x, x * z + noise, z, steps=600, restarts=1)
    assert found.value == pytest.approx(0.267, abs=0.12)
    assert found.p_value <= 0.01


def test_the_past_of_a_series():
    noise = normal(900, 2)
    values = np.zeros_like(noise)
    for t in range(1, len(values)):
        values[t] = [0.6 * values[t - 1, 0], 0.4 * values[t - 1, 0] + 0.5 * values[t - 1, 1]] + noise[t]
    x, y = values.T
    forward = estimate_cmi(x[:-1], y[1:], y[:-1], series=True, **START)
    back = estimate_cmi(y[:-1], x[1:], x[:-1], series=True, **START)
    assert forward.value == pytest.approx(0.102, abs=0.06)
    assert forward.p_value <= 0.01
    assert abs(back.value) < 0.02
    assert back.p_value > 0.01


# 3. Laws
def test_codes_as_numbers_keep_all_and_hide_z():
    z = normal(4000)
    likely = np.stack([1 / (1 + np.exp(-2 * z)), 1 / (1 + np.exp(2 * z))], 1)
    levels = (rng(1).random(4000) > likely[:, 0]).astype(int)
    numbers = spread_out(levels, likely, rng(2))
    assert np.array_equal(numbers > likely[:, 0], levels == 1)  # given z, the level is a function of the number
    assert abs(np.corrcoef(numbers, z)[0, 1]) < 0.06  # four standard errors
    assert abs(np.corrcoef(levels, z)[0, 1]) > 0.4
    assert np.abs(np.sort(numbers) - np.linspace(0, 1, 4000)).max() < 0.04  # evenly from 0 to 1


def test_the_same_seed_gives_the_same_bits():
    x, y, z = normal(3, 200)
    first, second, other = (estimate_cmi(x + 2 * z, y, z, seed=seed, **START) for seed in (0, 0, 1))
    assert first.as_dict() == second.as_dict()
    assert first.p_value != other.p_value


@pytest.mark.parametrize("bound", ["mine", "remine", "resmile", "infonce", "renwj", "js"])
def test_every_family_reads_it(bound):
    *data, truth = gaussian("effect", 600)
    assert estimate_cmi(*data, bound=bound, **START).value == pytest.approx(truth, abs=0.12)


def test_rows_alike_in_z_are_near():
    near = normal(103, 2)
    cells = conditional.cut(np.arange(103), near, None)
    assert cells.shape == (20, conditional.CELL)
    assert len(set(cells.ravel())) == 100
    assert near[cells].var(1).mean() < 0.2 * near.var(0).mean()
    levels = rng().integers(4, size=103)
    exact = conditional.cut(np.arange(103), near, levels)
    assert all(len(set(levels[cell])) == 1 for cell in exact)


def test_independent_rows_given_z_have_any_p_value():
    found = []
    for seed in range(25):
        z, first, second = normal(3, 120, seed=seed)
        found.append(estimate_cmi(z + first, z**2 + second, z, seed=seed, **START).p_value)
    assert sum(p <= 0.05 for p in found) <= 5
    assert 0.3 < np.mean(found) < 0.75


def test_doubts_about_alike_rows_are_said():
    words, x, y, noise = "exchange y that are not much alike", *normal(3, 100)
    z = normal(100, 3, seed=4)
    assert words in str(estimate_cmi(x, z.sum(1) + noise, z, **START))
    assert words not in str(estimate_cmi(x, y + noise, y, **START))


def test_levels_with_few_rows_have_no_p_value():
    z = np.repeat(np.arange(20), 5)
    found = estimate_cmi(normal(100), normal(100, seed=1), z, discrete="z", **START)
    assert found.p_value is None
    assert "No p-value" in found.diagnostics[-1]


# 4. Mistakes
X, Y, Z = normal(3, 60, 2)
MALFORMED = {
    "rows of y": ((X, Y[:-1], Z), {}, "x and y must have as many rows; got 60 and 59"),
    "rows of z": ((X, Y, Z[:-1]), {}, "x and z must have as many rows; got 60 and 59"),
    "z of text": ((X, Y, "z"), {}, "z must be a NumPy array.*got str"),
    "no z": ((X, Y, None), {}, "z must be a NumPy array.*got NoneType"),
    "nan in z": ((X, Y, np.where(Z > 1, np.nan, Z)), {}, "z column 'z0' must be finite"),
    "constant z": ((X, Y, np.ones(60)), {}, "z must not be constant"),
    "z without columns": ((X, Y, Z[:, :0]), {}, "z must have at least one column"),
    "z of three axes": ((X, Y, Z[:, :, None]), {}, r"z must be \(n,\) or \(n, features\)"),
    "order of z": ((pd.DataFrame(X), pd.DataFrame(Y), pd.DataFrame(Z)[::-1]), {}, "x and z must have the same index"),
    "unknown discrete": ((X, Y, Z), {"discrete": "w"}, "discrete must be among x, y, z, x0"),
    "bound": ((X, Y, Z), {"bound": "mime"}, "bound must be one of mine"),
    "folds": ((X, Y, Z), {"folds": 1}, "folds must be a whole number"),
    "transform": ((X, Y, Z), {"transform": "log"}, "transform must be one of"),
    "permutations": ((X, Y, Z), {"permutations": -1}, "permutations must be a whole number"),
    "series": ((X, Y, Z), {"series": 3}, "series must be True or False; got 3"),
    "text in x": ((X.astype(object), Y, Z), {}, "x column 'x0' must be of numbers.*got dtype object"),
    "y of text": ((X, "y", Z), {}, "y must be a NumPy array.*got str"),
    "few rows": ((X[:19], Y[:19], Z[:19]), {}, "x must have at least 20 rows; got 19"),
    "discrete z of numbers": ((X, Y, Z), {"discrete": "z"}, "z column 'z0' must have at most a level per 5 rows.*got 60"),
    "discrete of a number": ((X, Y, Z), {"discrete": 3}, "discrete must be a column name or a list of them; got 3"),
    "seed": ((X, Y, Z), {"seed": 0.5}, "seed must be a whole number from 0.*got 0.5"),
    "many folds": ((X, Y, Z), {"folds": 16}, "folds must be a whole number from 2 to 15, a quarter of the 60 rows; got 16"),
    "restarts": ((X, Y, Z), {"restarts": 0}, "restarts must be a whole number from 1 to 100; got 0"),
    "batch": ((X, Y, Z), {"batch": 2}, "batch must be a whole number from 8.*got 2"),
    "steps": ((X, Y, Z), {"steps": -1}, "steps must be a whole number from 0.*got -1"),
    "lr": ((X, Y, Z), {"lr": 0}, "lr must be a positive number; got 0"),
    "critic": ((X, Y, Z), {"critic": None}, "remine has no option 'critic'"),
    "option": ((X, Y, Z), {"tau": 3}, "remine has no option 'tau'"),
    "device": ((X, Y, Z), {"device": "abacus"}, "device must be 'cpu'"),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "chosen", "message"), MALFORMED.values(), ids=MALFORMED)
def test_a_mistake_is_one_error(arguments, chosen, message):
    with pytest.raises(ValueError, match=message):
        estimate_cmi(*arguments, **chosen)


def test_plans_of_both_terms_are_one():
    assert Plan("remine", 0, 5, 1, 64, 0, 1e-3).permutations == 0
    assert estimate_cmi(X[:, 0], Y[:, 0], Z[:, 0], permutations=0, **START).p_value is None


# 5. Command line
def test_command_line(tmp_path, capsys):
    x, y, z, _ = gaussian("common cause", 80)
    path = tmp_path / "data.csv"
    pd.DataFrame({"x": x, "y": y, "z": z}).to_csv(path, index=False)
    asked = ["estimate", str(path), "--x", "x", "--y", "y", "--given"]
    assert main([*asked, "z", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["value"] < 0.05
    for columns, message in (
        (["w"], "--given must be among x, y, z; got w"),
        (["x"], "--x and --given must have no column in common"),
    ):
        assert main([*asked, *columns]) == 1
        assert message in capsys.readouterr().err
