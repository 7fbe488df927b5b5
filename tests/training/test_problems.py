"""Each problem's samples, true value and exact log-ratio agree with each other."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal
from torch.testing import assert_close

from remi.training.problems import GaussianStaircase, OneHot

STAIRCASE = GaussianStaircase(steps_per_level=3)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("symbols", [2, 16])
def test_onehot_ratio_over_all_pairs(symbols):
    problem = OneHot(symbols)
    x, y = torch.cartesian_prod(torch.arange(symbols), torch.arange(symbols)).T
    log_ratio = problem.log_ratio(x, y).double()
    assert log_ratio.exp().mean().item() == pytest.approx(1, rel=1e-6)  # E_Q[r]; float32 logarithm
    assert log_ratio[x == y].mean().item() == pytest.approx(problem.true_mi(), rel=1e-6)  # E_P[log r]
    assert problem.true_mi() == math.log(symbols)


def test_onehot_encodes_symbols_as_unit_vectors():
    problem = OneHot(4)
    assert torch.equal(problem.encode(torch.arange(4)), torch.eye(4))
    assert problem.encode(torch.zeros(2, 3, dtype=torch.long)).shape == (2, 3, problem.dims[0])


@pytest.mark.parametrize("stratified", [False, True])
def test_onehot_draws_are_uniform(stratified):
    x, u, v = OneHot(4, stratified).draw(seeded(), 0, 500, 16)
    for symbols in (x, u, v):  # 8,000 draws: a share of 1/4 has standard error 0.005
        assert_close(torch.bincount(symbols.flatten(), minlength=4) / 8000, torch.full((4,), 0.25), rtol=0, atol=0.02)


def test_onehot_marginal_pairs_are_independent():
    x, u, v = OneHot().draw(seeded(), 0, 1000, 32)
    for one, other in ((u, v), (x, u), (x, v)):  # 32,000 pairs: 1/16 has standard error 0.00135
        assert (one == other).double().mean().item() == pytest.approx(1 / 16, abs=0.006)
    assert (u == v).sum(1).unique().numel() > 3  # and their number changes from batch to batch


@pytest.mark.parametrize(("symbols", "batch"), [(16, 32), (16, 16), (4, 12)])
def test_stratified_control_fixes_the_number_of_diagonal_pairs(symbols, batch):
    _, u, v = OneHot(symbols, stratified=True).draw(seeded(), 0, 200, batch)
    assert ((u == v).sum(1) == batch // symbols).all()


@pytest.mark.parametrize("batch", [8, 24, 100])
def test_stratified_batch_must_be_a_multiple(batch):
    with pytest.raises(ValueError, match=f"multiple of symbols=16 to be stratified, got {batch}"):
        OneHot(16, stratified=True).draw(seeded(), 0, 1, batch)


@pytest.mark.parametrize("mi", STAIRCASE.levels)
def test_gaussian_ratio_is_that_of_the_densities(mi):
    rho, eye = STAIRCASE.rho(mi), torch.eye(20, dtype=torch.float64)
    correlation = torch.tensor([[1, rho], [rho, 1]], dtype=torch.float64)
    joint, marginal = (MultivariateNormal(torch.zeros(40).double(), torch.kron(c, eye)) for c in (correlation, eye[:2, :2]))
    pair = torch.randn(50, 40, generator=seeded(), dtype=torch.float64)
    expected = joint.log_prob(pair) - marginal.log_prob(pair)
    assert_close(STAIRCASE.log_ratio(*pair.split(20, -1), mi), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("mi", [0.1, 0.5])
def test_gaussian_ratio_has_mean_one_under_the_marginals(mi):
    problem, n = GaussianStaircase(1, levels=(mi,)), 200_000
    x, y = problem.draw(seeded(), 0, 1, n)
    ratio = problem.log_ratio(x[0], y[0].roll(1, 0), mi).exp()  # rolled: independent pairs
    # Var_Q(r) = e^(2 mi) - 1; neighbours share a coordinate but are uncorrelated, since E[r(x, Y)] = 1
    assert ratio.mean().item() == pytest.approx(1, abs=4 * math.sqrt((math.exp(2 * mi) - 1) / n))


@pytest.mark.parametrize("mi", STAIRCASE.levels)
def test_gaussian_ratio_has_the_true_value_under_the_joint(mi):
    problem, n = GaussianStaircase(1, levels=(mi,)), 20_000
    x, y = problem.draw(seeded(), 0, 1, n)
    # Var_P(log r) = dim rho^2
    assert problem.log_ratio(x, y, mi).mean().item() == pytest.approx(mi, abs=4 * math.sqrt(20 * problem.rho(mi) ** 2 / n))


@pytest.mark.parametrize(("step", "mi"), [(0, 2), (2, 2), (3, 4), (8, 6), (11, 8), (12, 10), (14, 10), (99, 10)])
def test_staircase(step, mi):
    assert STAIRCASE.true_mi(step) == mi
    assert -STAIRCASE.dim / 2 * math.log(1 - STAIRCASE.rho(mi) ** 2) == pytest.approx(mi, rel=1e-12)


@pytest.mark.parametrize("first", [0, 2, 12])
def test_gaussian_draws_climb_the_staircase(first):
    n = 4000
    x, y = STAIRCASE.draw(seeded(), first, 5, n)
    assert x.shape == y.shape == (5, n, 20)
    for step in range(5):
        rho = STAIRCASE.rho(STAIRCASE.true_mi(first + step))
        covariance = (x[step] * y[step]).mean()  # 80,000 products of variance 1 + rho^2 <= 2: standard error 0.005
        assert covariance.item() == pytest.approx(rho, abs=0.02)
        assert x[step].var().item() == pytest.approx(1, abs=0.02)
        assert y[step].var().item() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("problem", [OneHot(), OneHot(stratified=True), STAIRCASE], ids=["onehot", "stratified", "gaussian"])
def test_draws_depend_on_the_generator_only(problem):
    first = problem.draw(seeded(1), 0, 2, 32)
    state = torch.random.get_rng_state()
    again, other = problem.draw(seeded(1), 0, 2, 32), problem.draw(seeded(2), 0, 2, 32)
    assert torch.equal(torch.random.get_rng_state(), state)  # the global generator is left alone
    assert all(map(torch.equal, first, again))
    assert not any(map(torch.equal, first, other))
