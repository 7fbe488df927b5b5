"""p-values: right on small examples, at their level where nothing is, small where something is, one error for every mistake."""

import json
import math
from itertools import combinations, permutations

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from remi import estimate_mi, kl
from remi.__main__ import main
from remi.estimation.columns import normal_scores
from remi.estimation.significance import combined, labelings, pairings, shifts

START = {"steps": 0, "restarts": 1}  # the starts alone


def rng(seed=0):
    return np.random.default_rng(seed)


def series(n, memory, coupling=0.0, seed=0):
    noise = rng(seed).normal(size=(n + 200, 2))
    noise[:, 1] = coupling * noise[:, 0] + math.sqrt(1 - coupling**2) * noise[:, 1]
    z = np.zeros_like(noise)
    for t in range(1, len(z)):
        z[t] = memory * z[t - 1] + noise[t]
    return z[200:].T


# 1. Small examples, against all rearrangements
def test_pairings_are_all_permutations():
    table = rng().normal(size=(5, 5)) + 0.7 * np.eye(5)
    sums = [sum(table[i, j] for i, j in enumerate(order)) for order in permutations(range(5))]
    exact = np.mean(np.array(sums) >= np.trace(table) - 1e-12)
    found = pairings(table[None], 20_000, rng())
    assert found == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 20_000))


def test_pairings_stay_in_their_table():
    tables = rng().normal(size=(2, 3, 3)) + 0.3 * np.eye(3)
    sums = [sum(table[i, j] for i, j in enumerate(order)) for table in tables for order in permutations(range(3))]
    both = np.add.outer(sums[:6], sums[6:]).ravel()
    exact = np.mean(both >= np.einsum("tii->", tables) - 1e-12)
    assert pairings(tables, 20_000, rng()) == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 20_000))


@pytest.mark.parametrize("features", [1, 3])
def test_labelings_are_all_exchanges(features):
    both = rng().normal(size=(features, 9))
    both[:, :4] += 0.5
    chosen = [list(four) for four in combinations(range(9), 4)]
    gaps = [both[:, four].mean(1) - np.delete(both, four, 1).mean(1) for four in chosen]
    sizes = np.array([gap[0] if features == 1 else gap @ gap for gap in gaps])
    exact = np.mean(sizes >= sizes[chosen.index([0, 1, 2, 3])] - 1e-12)
    found = labelings(both[:, :4], both[:, 4:], 20_000, rng())
    assert found == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 20_000))


def test_shifts_are_all_shifts():
    x, y = series(60, 0.5, 0.8)
    found = estimate_mi(x, y, series=True, **START).p_value

    def features(z):
        from scipy.stats import norm, rankdata

        z = norm.ppf((rankdata(z) - 0.5) / len(z))
        z = np.stack([z, (z / z.std()) ** 2])
        return (z - z.mean(1, keepdims=True)) / z.std(1, keepdims=True)

    a, b = features(x), features(y)
    sizes = np.array([np.square(a @ np.roll(b, -shift, 1).T).sum() for shift in range(60)])
    assert found == pytest.approx(np.mean(sizes >= sizes[0] * (1 - 1e-6)), abs=1e-12)


def test_folds_are_combined_by_simes():
    assert combined([0.3] * 5) == pytest.approx(0.3)
    assert combined([0.8, 0.01, 0.5, 1.0, 0.7]) == pytest.approx(0.05)
    assert combined([0.04, 0.03, 0.5, 0.9, 1.0]) == pytest.approx(0.1)  # two of five below .04


# 2. The level
def folds_of_bilinear_critics(seed, rows=20, folds=5, dim=10):
    """Score tables of x'C y with C from the other folds' rows, which are independent."""
    x, y = rng(seed).normal(size=(2, folds, rows, dim))
    own = np.einsum("kia,kib->kab", x, y)
    return np.einsum("kia,kab,kjb->kij", x, own.sum(0) - own, y)


def summed(tables, chances, generator):
    """The pooling that believes folds to be independent."""
    m, observed, reached = tables.shape[-1], np.einsum("kii->", tables), 1
    for _ in range(chances):
        reached += sum(table[np.arange(m), generator.permutation(m)].sum() for table in tables) >= observed
    return reached / (1 + chances)


def test_the_combination_holds_its_level_where_the_sum_does_not():
    sets = 800
    tables = [folds_of_bilinear_critics(seed) for seed in range(sets)]
    ours = np.mean([combined([pairings(fold[None], 199, rng(seed)) for fold in one]) <= 0.05 for seed, one in enumerate(tables)])
    naive = np.mean([summed(one, 99, rng(seed)) <= 0.05 for seed, one in enumerate(tables)])
    assert 0.03 <= ours <= 0.07, ours  # 5% or a little less, +/- 2.5 standard errors of 800
    assert naive > 0.085, naive  # 12% for many coefficients


@pytest.mark.parametrize("ask", ["numbers", "codes", "samples"])
def test_nothing_to_find_gives_any_p_value(ask):
    found = []
    for seed in range(25):
        x, y = rng(seed).normal(size=(2, 100))
        if ask == "codes":
            x, y = pd.Series(x > 0.5), np.digitize(y, [-0.5, 0.5]).astype(str)
        found.append((kl if ask == "samples" else estimate_mi)(x, y, seed=seed, **START).p_value)
    found = np.array(found)
    assert (found <= 0.05).sum() <= 5  # 1 is expected, more than 5 in one of 500
    assert (found >= 0.95).sum() <= 8  # folds whose critics found nothing have p-values, too
    assert 0.3 < found.mean() < 0.75


# 3. What is there is found
def test_ten_dimensions_and_a_tenth_of_a_nat():
    x, noise = rng().normal(size=(2, 2000, 10))
    rho = math.sqrt(1 - math.exp(-0.02))
    assert estimate_mi(x, rho * x + math.sqrt(1 - rho**2) * noise, **START).p_value <= 0.002


def test_dependence_without_correlation():
    x = rng().normal(size=400)
    found = estimate_mi(x, x**2 + 0.5 * rng(1).normal(size=400), steps=300, restarts=1)
    assert found.p_value <= 0.01


def test_what_validation_rows_do_not_see():
    x, noise = rng(4).normal(size=(2, 60))
    found = [estimate_mi(x, 0.45 * x + noise, seed=seed, **START) for seed in range(12)]
    quiet = [one for one in found if one.interval[0] <= 0 and one.p_value <= 0.05]
    assert quiet
    assert all("And yet p = " in one.diagnostics[-1] for one in quiet)
    assert not any("And yet" in str(one) for one in found if one not in quiet)


def test_two_samples():
    found = kl(rng().normal(size=300), rng(1).normal(0.5, 1, size=100), **START)
    assert found.p_value <= 0.01


@pytest.mark.parametrize("memory", [0.9, 0.98])
def test_series(memory):
    def p(coupling, seed):
        return shifts(*(torch.tensor(normal_scores(z))[:, None] for z in series(1000, memory, coupling, seed)))

    alone = [p(0.0, seed) for seed in range(100)]
    assert sum(one <= 0.05 for one in alone) <= 13  # 5 or 6 are expected, more than 13 in one of 300
    assert 0.35 < np.mean(alone) < 0.65
    assert max(p(0.9, seed) for seed in range(10)) <= 0.05


def test_a_stretch_shifted_against_itself_would_not_do():
    def p(seed):
        x, y = (normal_scores(z) for z in series(1000, 0.98, 0.0, seed))
        folds = np.arange(1000) * 5 // 1000
        found = []
        for fold in range(5):
            a, b = x[folds == fold] * (x[folds != fold] @ y[folds != fold]), y[folds == fold]
            sums = np.array([a @ np.roll(b, -shift) for shift in range(len(a))])
            found.append(np.mean(sums >= sums[0] - 1e-9))
        return combined(found)

    assert np.mean([p(seed) <= 0.05 for seed in range(200)]) > 0.08


def test_two_samples_that_follow_their_time():
    alone = [kl(*series(800, 0.9, seed=seed), series=True, **START).p_value for seed in range(8)]
    apart = [kl(p + 5, q, series=True, **START).p_value for p, q in (series(800, 0.9, seed=seed) for seed in range(3))]
    assert sum(p <= 0.05 for p in alone) <= 3
    assert max(apart) <= 0.05


def test_a_critic_of_ones_own():
    x, noise = rng().normal(size=(2, 200))
    torch.manual_seed(0)  # a critic of one's own begins where its owner lets it
    assert estimate_mi(x, x + noise, critic=(nn.Linear(1, 1), nn.Linear(1, 1)), steps=200, restarts=1).p_value <= 0.01


# 4. What comes back
def test_the_p_value_is_told():
    x, noise = rng().normal(size=(2, 100))
    found, again, none = (estimate_mi(x, x + 0.3 * noise, permutations=b, **START) for b in (99, 99, 0))
    assert found.p_value == again.p_value == 0.01
    assert str(found).splitlines()[0].endswith(", p = 0.01")
    assert "p = 0.01" in found._repr_html_()
    assert found.bits.p_value == found.p_value
    assert found.as_dict()["p_value"] == 0.01
    assert found.settings["permutations"] == 99
    assert none.p_value is None
    assert "p =" not in str(none)
    assert (none.value, none.interval) == (found.value, found.interval)


def test_more_rows_than_a_table_holds():
    x, noise = rng().normal(size=(2, 6000))
    assert estimate_mi(x, 0.1 * x + noise, **START).p_value <= 0.01
    assert kl(rng().normal(size=9000), rng(1).normal(0.1, 1, size=30), **START).p_value > 0.002


@pytest.mark.parametrize("bad", [-1, 1.5, True, "many", None, 10**7])
@pytest.mark.parametrize("ask", [estimate_mi, kl])
def test_a_mistake_is_one_error(ask, bad):
    with pytest.raises(ValueError, match=r"permutations must be a whole number from 0 to 1000000; got "):
        ask(*rng().normal(size=(2, 100)), permutations=bad)


def test_command_line(tmp_path, capsys):
    x, noise = rng().normal(size=(2, 60))
    pd.DataFrame({"a": x, "b": x + noise}).to_csv(tmp_path / "data.csv", index=False)
    asked = ["estimate", str(tmp_path / "data.csv"), "--x", "a", "--y", "b", "--json", "--permutations"]
    assert main([*asked, "19"]) == 0
    assert 0.05 <= json.loads(capsys.readouterr().out)["p_value"] < 0.2
    assert main([*asked, "-1"]) == 1
    assert "permutations must be" in capsys.readouterr().err
