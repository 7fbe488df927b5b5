"""From batches and seeds to one number: averages under drift, intervals that cover, ranks and retrieval."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from remi.losses import estimators
from remi.losses.scores import Scores
from remi.training.evaluation import auc, in_batches, macro_average, micro_average, retrieve, student_t

rng = np.random.default_rng(0)
JOINT = torch.tensor(rng.normal(2, 1, (20, 8)))  # 20 batches of 8 joint and 24 marginal scores
MARGINAL = torch.tensor(rng.normal(0, 1, (20, 1, 24)))
DRIFTS = {"linear": np.linspace(0, -5, 20), "random": rng.normal(0, 1, 20), "none": np.full(20, 3.0)}
each_drift = pytest.mark.parametrize("drift", DRIFTS.values(), ids=DRIFTS)


def drifted(drift):
    offset = torch.tensor(drift)
    return Scores(JOINT + offset[:, None], MARGINAL + offset[:, None, None])


@each_drift
def test_macro_average_of_donsker_varadhan_ignores_drift(drift):
    still, moving = (macro_average(estimators.mine(scores).estimate) for scores in (drifted(0 * drift), drifted(drift)))
    assert moving == pytest.approx(still, abs=1e-12)


@each_drift
def test_micro_average_pays_for_drift(drift):
    cost = math.log(np.exp(drift).mean()) - drift.mean()
    joint_means, log_mean_exp = JOINT.mean(1).numpy(), np.full(20, 0.7)  # equal in all batches: the cost is exact
    still, moving = micro_average(joint_means, log_mean_exp), micro_average(joint_means + drift, log_mean_exp + drift)
    assert moving == pytest.approx(still - cost, abs=1e-12)
    assert cost >= 0


@each_drift
def test_micro_average_is_donsker_varadhan_of_the_pooled_scores(drift):
    scores = drifted(drift)
    pooled = estimators.mine(Scores(scores.joint.flatten(), scores.marginal.reshape(1, -1))).estimate
    assert micro_average(scores.joint_mean(), scores.log_mean_exp()) == pytest.approx(pooled.item(), abs=1e-12)


def test_micro_average_weighs_joint_pairs_equally():
    means, pairs = [3.0, 5.0, math.nan], [3, 1, 0]  # pairs 1, 2, 6; 5; none
    assert micro_average(means, [0.0, 0.0, 0.0], pairs) == 3.5
    # the batch without a joint pair still has its marginal scores: log((1 + 1 + 4) / 3)
    assert micro_average(means, [0.0, 0.0, math.log(4)], pairs) == pytest.approx(3.5 - math.log(2), abs=1e-12)


def test_micro_average_stays_in_the_log_domain():
    assert micro_average([1e4, 1e4], [1e4, 1e4 - 1]) == pytest.approx(-math.log((1 + math.exp(-1)) / 2), abs=1e-9)


def test_averages_read_lists_arrays_and_tensors():
    values = [1.0, 2.0, 4.5]
    for kind in (list, np.array, torch.tensor, lambda v: torch.tensor(v, dtype=torch.float32)):
        assert macro_average(kind(values)) == 2.5
        assert micro_average(kind(values), kind([0.0, 0.0, 0.0])) == 2.5


def test_student_t_known_number():
    mean, half_width = student_t([1, 2, 3, 4, 5])
    assert mean == 3
    assert half_width == pytest.approx(2.7764451 * math.sqrt(2.5) / math.sqrt(5), rel=1e-7)  # t(0.975, 4) from tables


@pytest.mark.parametrize("level", [0.5, 0.95, 0.99])
@pytest.mark.parametrize("n", [2, 5, 30])
def test_student_t_is_that_of_scipy(n, level):
    values = rng.normal(3, 2, n)
    mean, half_width = student_t(values, level)
    low, high = stats.t.interval(level, n - 1, loc=values.mean(), scale=stats.sem(values))
    assert (mean - half_width, mean + half_width) == (pytest.approx(low), pytest.approx(high))


def test_student_t_of_too_few_values():
    assert np.array_equal(student_t([4.0]), (4.0, math.nan), equal_nan=True)
    assert np.isnan(student_t([])).all()


@pytest.mark.verify
def test_student_t_covers(tally):
    draws = np.random.default_rng(1).normal(7, 3, (4000, 5))
    covered = np.array([abs(mean - 7) <= half_width for mean, half_width in map(student_t, draws)])
    assert 0.935 <= covered.mean() <= 0.965  # standard error 0.0034
    tally(f"the Student-t interval of 5 seeds covers {covered.mean():.2%}, 95% are due", "simulation", len(draws))


@pytest.mark.parametrize(
    ("above", "below", "expected"),
    [
        ([3, 4], [1, 2], 1),
        ([1, 2], [3, 4], 0),
        ([1, 1], [1, 1, 1], 0.5),
        ([1], [1], 0.5),
        ([2, 1], [1, 0], (1 + 1 + 0.5 + 1) / 4),
    ],
)
def test_auc_by_hand(above, below, expected):
    assert auc(above, below) == expected


def test_auc_counts_pairs():
    above, below = rng.integers(0, 6, (5, 6)), rng.integers(0, 5, 20)
    wins = [(a > b) + 0.5 * (a == b) for a in above.ravel() for b in below]
    assert auc(above, torch.tensor(below)) == pytest.approx(np.mean(wins), abs=1e-12)


@pytest.mark.parametrize("chunk", [1, 4, 7, 1000])
@pytest.mark.parametrize("runs", [(), (2,)])
def test_retrieval_finds_the_largest_inner_product(runs, chunk):
    queries, items = torch.tensor(rng.normal(size=(*runs, 7, 3))), torch.tensor(rng.normal(size=(*runs, 11, 3)))
    labels = torch.tensor(rng.integers(0, 5, 11))
    for run in np.ndindex(runs):
        found = retrieve(queries, items, labels, chunk)[run]
        for query, label in zip(queries[run], found, strict=True):
            assert label == labels[max(range(11), key=lambda i: float(query @ items[run][i]))]


@pytest.mark.parametrize(("batch", "sizes"), [(4, [4, 4, 2]), (5, [5, 5]), (20, [10])])
def test_in_batches_keeps_the_order(batch, sizes):
    seen, images = [], torch.arange(20.0).view(10, 2)

    def network(part):
        seen.append(len(part))
        return torch.stack([part, -part])

    assert torch.equal(in_batches(network, images, batch), torch.stack([images, -images]))
    assert seen == sizes
