"""Ratios in closed form against the densities they are ratios of, and how validation rows weigh them."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.datasets import load_diabetes

from remi import Scores, estimate_mi
from remi.estimation import closed, crossfit, estimate, mixture
from remi.estimation.columns import normal_scores
from remi.estimation.limits import Limits
from remi.estimation.plan import LATER, Plan
from remi.estimation.questions import Dependence, Question
from remi.estimation.ratios import distance
from remi.estimation.starts import gaussian_starts
from remi.training import evaluation, loop

PLAN = Plan("remine", 0, 2, 1, 16, 0, 1e-3)
SCATTER = np.array([[1.0, 0.3, 0.6], [0.3, 1.0, 0.0], [0.6, 0.0, 1.0]])  # of x, two columns, and y, one


def student(dof, n=20_000, seed=0):
    z = stats.multivariate_t(shape=SCATTER, df=dof, seed=seed).rvs(n)
    return torch.tensor(z[:, :2]), torch.tensor(z[:, 2:])


def log_ratio(x, y, dof):
    """Of the true densities."""
    joint = stats.multivariate_t(shape=SCATTER, df=dof).logpdf(np.concatenate([x, y], 1))
    return joint - stats.multivariate_t(shape=SCATTER[:2, :2], df=dof).logpdf(x) - stats.t(df=dof).logpdf(y[:, 0])


@pytest.mark.parametrize("dof", closed.TAILS)
def test_quantiles_are_those_of_students_distribution(dof):
    z = torch.linspace(-5, 5, 41, dtype=torch.float64)
    assert np.allclose(closed.tailed(z, dof), stats.t(df=dof).ppf(stats.norm.cdf(z)), rtol=1e-6)


@pytest.mark.parametrize("scores", [False, True])
@pytest.mark.parametrize("dof", closed.TAILS)
def test_an_elliptical_fit_is_the_log_ratio(dof, scores):
    x, y = student(dof)
    seen = [torch.tensor(stats.norm.ppf(stats.t(df=dof).cdf(z))) for z in (x, y)] if scores else [x, y]
    found = closed.Elliptical.fit(*seen, dof, scores=scores)(*seen).double()
    apart = found - torch.tensor(log_ratio(x, y, dof))
    assert (apart - apart.mean()).abs().mean() < 0.03  # up to a constant; 20,000 rows
    other = closed.Elliptical.fit(*seen, {1: 4, 2: 1, 4: 1}[dof], scores=False)(*seen).double()
    assert (other - found).std() > 0.05


def test_a_distance_is_standardized_and_has_an_end():
    far = distance(torch.tensor(np.random.default_rng(0).normal(size=(50_000, 7))))
    assert far.shape == (50_000, 1)
    assert float(far.mean()) == pytest.approx(0, abs=0.02)
    assert float(far.std()) == pytest.approx(1, abs=0.05)
    assert float(distance(torch.full((1, 7), 9.0))) == 3.0


def turned(z, by):
    """The first two columns turned with the distance of the row, which stays as it is."""
    angle, found = by * distance(z)[:, 0], z.clone()
    found[:, 0] = angle.cos() * z[:, 0] + angle.sin() * z[:, 1]
    found[:, 1] = angle.cos() * z[:, 1] - angle.sin() * z[:, 0]
    return found


@pytest.mark.parametrize("turns", [(True, False), (False, True), (True, True)])
def test_a_direction_that_turns_with_distance_is_seen(turns):
    rho, n = 0.8, 20_000
    z, noise = (torch.tensor(np.random.default_rng(seed).normal(size=(n, 4)), dtype=torch.float32) for seed in (0, 1))
    other = noise.clone()
    other[:, 0] = rho * z[:, 0] + math.sqrt(1 - rho**2) * noise[:, 0]
    pair = [turned(side, 0.6) if turn else side for side, turn in zip((z, other), turns, strict=True)]
    turning, straight = closed.Turning.fit(*pair, turns), closed.Quadratic(gaussian_starts(*pair)[2])
    shuffled = pair[1].roll(1, 0)
    read = [float(ratio(*pair).mean() - ratio(pair[0], shuffled).exp().mean().log()) for ratio in (turning, straight)]
    truth = -math.log(1 - rho**2) / 2
    assert read[0] > read[1] + 0.1
    assert truth - (0.25 if all(turns) else 0.1) < read[0] < truth + 0.02  # what is not turned linearly is lost on every side
    part = slice(0, 50)
    assert torch.allclose(turning.matrix(pair[0][part], pair[1][part]).diagonal(), turning(*pair)[part], atol=1e-5)


def test_scores_of_ranks_are_those_of_the_rows_themselves():
    rows = torch.tensor(np.random.default_rng(0).normal(size=(2, 40)).round(1)).sort(-1).values  # some are equal
    found = closed.scored(rows.T, rows)
    assert np.allclose(found, np.stack([normal_scores(row) for row in rows.numpy()], 1))
    ends = closed.scored(torch.tensor([[-9.0, 9.0]]), rows)[0]
    assert torch.allclose(ends, torch.special.ndtri(torch.tensor([0.5 / 40, 1 - 0.5 / 40], dtype=torch.float64)))


@pytest.mark.parametrize("width", closed.WIDTHS)
def test_a_kernel_ratio_is_that_of_mean_products(width):
    x, y = (torch.tensor(np.random.default_rng(seed).normal(size=(50, 2))) for seed in (0, 1))
    ratio = closed.Kernel.fit(x, y, width)
    for i, j in ((0, 0), (3, 7)):
        k = [math.exp(-float((x[i] - c).square().sum()) / (2 * width**2)) for c in x]
        m = [math.exp(-float((y[j] - c).square().sum()) / (2 * width**2)) for c in y]
        wanted = math.log((np.mean(np.multiply(k, m)) + ratio.alone) / (np.mean(k) * np.mean(m) + ratio.alone))
        assert float(ratio.matrix(x, y)[i, j]) == pytest.approx(wanted, abs=1e-5)
    assert torch.allclose(ratio.matrix(x, y).diagonal(), ratio(x, y), atol=1e-6)


def test_a_table_of_smoothed_ranks_nears_the_log_ratio():
    rho, n = 0.6, 50_000
    x, noise = torch.tensor(np.random.default_rng(0).normal(size=(2, n, 1)), dtype=torch.float32)
    y = rho * x + math.sqrt(1 - rho**2) * noise
    found = closed.Grid.fit(x, y, 0.02)(x, y).double()
    wanted = (rho * x * y - rho**2 * (x**2 + y**2) / 2) / (1 - rho**2) - math.log(1 - rho**2) / 2
    assert float((found - wanted[:, 0]).abs().mean()) < 0.1  # of a standard deviation of .6; 50,000 rows
    assert float(found.mean()) == pytest.approx(-math.log(1 - rho**2) / 2, abs=0.02)


def test_rows_are_shared_by_the_nodes_around_their_ranks():
    z = torch.tensor([[-9.0], [-1.3], [0.0], [0.7], [9.0]])
    place, share = closed.between(z)
    rank = torch.special.ndtr(z[:, 0]) * closed.NODES - 0.5
    assert torch.allclose((place + share)[1:-1], rank[1:-1], atol=1e-4)
    assert (place[0], share[0]) == (0, 0)
    assert (place[-1], share[-1]) == (closed.NODES - 2, 1)
    table = closed.counts(z, z.flip(0))
    assert float(table.sum()) == pytest.approx(5)
    at = torch.arange(closed.NODES, dtype=torch.float64)
    assert float(table.sum(1).double() @ at) == pytest.approx(float((place + share).sum()), rel=1e-6)


def test_a_table_between_its_nodes_is_bilinear():
    x, y = torch.tensor(np.random.default_rng(0).normal(size=(2, 400, 1)), dtype=torch.float32)
    table = closed.Grid.fit(x, y, 0.1)
    nodes = torch.special.ndtri((torch.arange(closed.NODES, dtype=torch.float64) + 0.5) / closed.NODES)[:, None]
    assert torch.allclose(table.matrix(nodes.float(), nodes.float()), table.table, atol=2e-3)
    assert torch.allclose(table.matrix(x, y).diagonal(), table(x, y), atol=1e-6)
    u = torch.special.ndtr(nodes)
    halfway = torch.special.ndtri((u[:-1] + u[1:]) / 2).float()
    four = table.table.unfold(0, 2, 1).unfold(1, 2, 1).mean((-2, -1))
    assert torch.allclose(table.matrix(halfway, halfway), four, atol=2e-3)


# ---- Weights ------------------------------------------------------------------------------------------------------------


class Known:
    """T(x, y) = size x y in one dimension, less its logarithmic mean under independent normal columns."""

    def __init__(self, size):
        self.size, self.offset = size, -math.log(1 - size**2) / 2

    def matrix(self, x, y):
        return self.size * x @ y.transpose(-1, -2) - self.offset

    def __call__(self, x, y):
        return (self.size * x * y).sum(-1) - self.offset


def asked(rho, n=2000, seed=0):
    x, noise = torch.tensor(np.random.default_rng(seed).normal(size=(2, n, 1)), dtype=torch.float32)
    return Dependence(x, rho * x + math.sqrt(1 - rho**2) * noise)


def part(size):
    far = torch.full((2,), 50.0)
    return mixture.Part(Known(size), Limits(-far, far, torch.zeros(2)))


ROWS = [torch.arange(2000).view(2, -1)]


def test_the_likelier_ratio_gets_the_weight():
    weights, raised = mixture.weigh(asked(0.5), [part(0.45), part(-0.45)], ROWS, PLAN)
    assert float(weights[1].min()) > 0.8
    assert torch.allclose(weights.sum(0), torch.ones(2), atol=1e-5)
    assert all(bool((more >= 0).all()) for more in raised)


def test_what_counts_for_little_is_left_out():
    parts = [part(0.45), part(-0.3), part(0.45)]
    weights, _ = mixture.weigh(asked(0.5), parts, ROWS, PLAN)
    assert not weights[2].any()
    assert torch.allclose(weights.sum(0), torch.ones(2), atol=1e-5)
    last, _ = mixture.weigh(asked(0.5), [*parts, part(-0.3)], ROWS, PLAN)
    assert float(last[-1].min()) > 0  # the trained critics stay, to be read by themselves
    fewer = mixture.fit(asked(0.5), ROWS, PLAN, [True, False, True, *[False] * 10])
    every = mixture.fit(asked(0.5), ROWS, PLAN)
    assert len(fewer) == 2
    assert torch.equal(fewer[1].limits.offset, every[2].limits.offset)


def test_a_ratio_that_is_none_is_lowered_first():
    high = replace(part(0.45), limits=part(0.45).limits._replace(offset=torch.full((2,), -3.0)))  # E_Q[exp T] = e^3
    weights, raised = mixture.weigh(asked(0.5), [part(0.45), high], ROWS, PLAN)
    assert torch.allclose(raised[1] - raised[0], torch.full((2,), 3.0), atol=0.1)
    assert float(weights[1:].min()) > 0.25  # the same ratio twice


def test_nothing_stands_alone_where_nothing_is_found():
    parts = [part(0.3), part(-0.3)]
    weights, raised = mixture.weigh(asked(0.0), parts, ROWS, PLAN)
    found = mixture.mixture(parts, weights, raised, PLAN)
    assert bool(found.idle.all())
    scores = found.score(asked(0.0), *ROWS, block=100)
    assert not scores.joint.any()
    assert not scores.marginal.any()


@pytest.mark.parametrize(("bound", "offset"), [("remine", 0.0), ("renwj", 1.0), ("retuba", 0.0)])
def test_a_mixture_of_ratios_is_a_ratio(bound, offset):
    plan = Plan(bound, 0, 2, 1, 16, 0, 1e-3)
    question = asked(0.5)
    parts = [part(0.45), part(0.2)]
    found = mixture.mixture(parts, torch.tensor([[0.2, 0.0], [0.5, 1.0], [0.3, 0.0]]), [torch.zeros(2)] * 2, plan)
    scores = found.score(question, *ROWS, block=500)
    wanted = [mixture.read_part(question, one, *ROWS, block=500).joint.exp() for one in parts]
    assert torch.allclose(scores.joint[0], (0.2 + 0.5 * wanted[0][0] + 0.3 * wanted[1][0]).log() + offset, atol=1e-5)
    assert torch.allclose(scores.joint[1], wanted[0][1].log() + offset, atol=1e-5)
    assert torch.allclose(scores.log_mean_exp(), torch.full((2,), offset), atol=0.1)


def test_an_offset_of_each_row_cancels():
    scores = Scores.from_matrix(torch.randn(2, 6, 6, generator=torch.Generator().manual_seed(0)))
    nothing = torch.zeros(2)
    within = Limits(nothing - torch.inf, nothing + torch.inf, nothing, by_row=True)
    shift = torch.tensor([3.0, -1.0, 0.0, 9.0, 2.0, 5.0])
    moved = replace(scores, joint=scores.joint + shift, marginal=scores.marginal + shift.unsqueeze(-1))
    assert torch.allclose(within.apply(moved).joint, within.apply(scores).joint, atol=1e-5)
    assert torch.allclose(within.apply(moved).marginal, within.apply(scores).marginal, atol=1e-5)


# ---- What more rows would add -------------------------------------------------------------------------------------------


def extrapolated(values, rows, columns, slowest=2**0.5):
    return float(crossfit.extrapolated(torch.tensor(values, dtype=torch.float64), rows, columns, slowest))


@pytest.mark.parametrize("power", [0.5, 0.7, 1.0])
def test_powers_of_the_rows_are_extrapolated_exactly(power):
    values = [2.0 - 3.0 * n**-power for n in (1000, 500, 250)]
    assert values[0] + extrapolated(values, 1000, 2) == pytest.approx(2.0, abs=1e-9)


def test_the_risk_of_a_regression_is_extrapolated_exactly():
    values = [2.0 - 30.0 / (n - 100 - 1) for n in (1000, 500)]
    assert values[0] + extrapolated(values, 1000, 100) == pytest.approx(2.0, abs=1e-9)


def test_what_does_not_grow_is_left_alone():
    assert extrapolated([0.7], 100, 60) == 0
    assert extrapolated([0.7, 0.7, 0.7], 1000, 2) == 0
    assert extrapolated([0.7, 0.8, 0.6], 1000, 2) == pytest.approx(-0.1)  # what falls is chance


@pytest.mark.parametrize("slowest", [2 ** (1 / 3), math.sqrt(2), 2.0])
def test_nothing_is_believed_to_grow_more_slowly_than_that(slowest):
    assert extrapolated([0.7, 0.6, 0.6], 1000, 2, slowest) == pytest.approx(0.1 / (slowest - 1))


def test_only_what_is_smoothed_converges_slowly():
    def slowest(dim_x, dim_y, *, n=500, scores=True, levels=None):
        return Dependence(torch.zeros(n, dim_x), torch.zeros(n, dim_y), levels, scores=scores).slowest

    assert slowest(1, 1) < slowest(1, 1, scores=False) == slowest(2, 2) < slowest(2, 3) == 2
    assert slowest(1, 1, n=499) == 2
    assert slowest(3, 3, scores=False, levels=(torch.zeros(500), torch.zeros(500))) == math.sqrt(2)


def test_the_width_of_a_mean_is_that_of_its_parts():
    folds, groups = 5, 10
    rows = torch.tensor(np.random.default_rng(0).normal(size=(folds, groups)))
    without = (rows.sum(1, keepdim=True) - rows) / (groups - 1)
    values = torch.cat([rows.mean(1, keepdim=True), without], 1).T[None]
    wanted = evaluation.student_t(rows.flatten()).half_width
    assert crossfit.half_width(values, lambda v: v[0]) == pytest.approx(wanted)
    assert crossfit.half_width(values, lambda v: 3 * v[0] + 1) == pytest.approx(3 * wanted)


def test_the_width_of_what_two_fits_say_is_that_of_their_sum():
    values = torch.tensor(np.random.default_rng(0).normal(size=(2, 11, 5)))
    both, alone = crossfit.half_width(values, lambda v: 2 * v[0] - v[1]), (2 * values[0] - values[1])[None]
    assert both == pytest.approx(crossfit.half_width(alone, lambda v: v[0]))


def test_many_columns_are_read_higher_than_their_bound():
    errors = []
    for seed in range(3):
        x, noise = np.random.default_rng(seed).normal(size=(2, 600, 30))
        found = estimate_mi(x, 0.3 * x + math.sqrt(1 - 0.09) * noise, seed=seed, steps=0)
        errors.append((found.value + 15 * math.log(1 - 0.09), found.readings["held-out bound"] + 15 * math.log(1 - 0.09)))
    value, bound = np.mean(errors, 0)
    assert bound < -0.05
    assert abs(value) < abs(bound)


def test_many_columns_end_above_what_their_coefficients_would_add(monkeypatch):
    x, noise = np.random.default_rng(0).normal(size=(2, 600, 30))
    one, other = [], []
    for found in (one, other):
        found.append(estimate_mi(x, 0.3 * x + noise, steps=0, restarts=1, permutations=0))
        monkeypatch.setattr(Question, "slowest", 2.0)
    assert one[0].value == other[0].value
    assert one[0].interval[1] > other[0].interval[1] + 0.05


@pytest.mark.parametrize(("rows", "steps"), [(60, 250), (2_300, 250), (3_300, 400), (6_700, 500), (10**6, 500)])
def test_patience_follows_the_rows(rows, steps):
    assert crossfit.patient(rows, 64) == steps


def test_the_interval_is_as_wide_as_what_is_reported_is_uncertain(monkeypatch):
    asked, half_width = [], crossfit.half_width
    monkeypatch.setattr(estimate, "half_width", lambda *given: asked.append(given) or half_width(*given))
    x, noise = np.random.default_rng(0).uniform(size=(2, 1000))
    found = estimate_mi(x, x + 0.4 * noise, steps=0, restarts=1, permutations=0)
    ((values, function),) = asked
    assert half_width(values, function) > 1.1 * half_width(values, lambda v: v[0])  # sharp edges: much is extrapolated
    assert found.readings["held-out bound"] - found.interval[0] == pytest.approx(half_width(values, function))


def test_a_copy_reads_no_more_than_its_entropy_and_no_less_for_it():
    x = np.random.default_rng(0).normal(size=(300, 2))
    found = estimate_mi(x, x, steps=50, restarts=1)
    assert 5 < found.value <= math.log(300)
    x = load_diabetes().data[:, [2, 3]]  # some rows are equal
    found = estimate_mi(x, x, restarts=1, steps=200)
    assert found.value == pytest.approx(math.log(442), abs=0.1)
    assert found.interval[0] > 0  # nothing is extrapolated, nor the error of an extrapolation taken off


def test_training_ends_where_a_closed_form_says_it_all():
    x, y = student(1, n=600)
    found = estimate_mi(x, y, restarts=1, permutations=0)
    assert found.history["step"][-1] <= 2 * crossfit.PATIENCE[0] * crossfit.LOOK_EVERY
    assert found.readings["trained critics"] < found.value - 0.02


@pytest.mark.parametrize("bound", ["remine", *LATER])
def test_recorded_steps_are_the_same_steps(monkeypatch, bound):
    x, noise = np.random.default_rng(0).normal(size=(2, 300))
    both = []
    for program in (loop.program, lambda training, record: training.step):
        monkeypatch.setattr(loop, "program", program)
        both.append(estimate_mi(x, np.sin(3 * x) + 0.3 * noise, bound=bound, steps=150, restarts=1, permutations=0))
    recorded, plain = both
    assert recorded.history["step"][-1] == 150
    assert recorded.value == plain.value
    assert np.array_equal(recorded.history["validation"], plain.history["validation"])
    assert plain.history["best_step"].max() > crossfit.LOOK_EVERY  # what is kept was made by the recorded steps
