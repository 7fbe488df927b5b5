"""Critics score pairs, one at a time or all with all, and a stack of them is as many critics that never meet."""

import copy

import pytest
import torch
from scipy.stats import kstest
from torch import nn
from torch.testing import assert_close

from remi.training.critics import ConcatCritic, Linear, SeparableCritic, initialize, mlp

X, Y = 16, 32  # widths of x and y; equal bits need the widths in use, below 16 the kernels differ with the stack
CRITICS = {
    "concat": lambda runs: ConcatCritic(X, Y, [64], runs=runs),
    "concat-deep": lambda runs: ConcatCritic(X, Y, [64, 32], runs=runs),
    "concat-no-output-bias": lambda runs: ConcatCritic(X, Y, [64], output_bias=False, runs=runs),
    "separable": lambda runs: SeparableCritic(mlp([X, 64, 32], runs=runs), mlp([Y, 64, 32], runs=runs)),
    "inner-product": lambda runs: SeparableCritic(mlp([X, 64, 32], runs=runs)),
}
each_critic = pytest.mark.parametrize("kind", CRITICS)


def seeds(*numbers):
    return [torch.Generator().manual_seed(number) for number in numbers]


def critic_and_inputs(kind, runs, n=6, m=4):
    critic = CRITICS[kind](runs)
    initialize(critic, seeds(*range(runs or 1)))
    lead = () if runs is None else (runs,)
    generator = torch.Generator().manual_seed(9)
    width = X if kind == "inner-product" else Y
    return critic, torch.randn(*lead, n, X, generator=generator), torch.randn(*lead, m, width, generator=generator)


@each_critic
@pytest.mark.parametrize("runs", [None, 1, 3])
def test_matrix_holds_the_score_of_every_pair(kind, runs):
    critic, x, y = critic_and_inputs(kind, runs)
    pairs = critic.double()(x.double().repeat_interleave(4, -2), y.double().repeat(*(1,) * (x.ndim - 2), 6, 1))
    # 1e-12: float64, sums of at most 64 terms below 1
    assert_close(critic.matrix(x.double(), y.double()), pairs.unflatten(-1, (6, 4)), rtol=0, atol=1e-12)


def test_concat_critic_is_the_mlp_of_the_concatenation():
    critic, x, y = critic_and_inputs("concat-deep", None)
    layers = []
    for mine in (critic.first, *(layer for layer in critic.rest if isinstance(layer, Linear))):
        theirs = nn.Linear(*mine.weight.shape)
        theirs.weight.data, theirs.bias.data = mine.weight.data.T, mine.bias.data[0]
        layers += [theirs, nn.ReLU()]
    expected = nn.Sequential(*layers[:-1])(torch.cat([x[:4], y], -1)).squeeze(-1)
    assert_close(critic(x[:4], y), expected, rtol=0, atol=1e-6)  # float32, sums of at most 64 terms below 1


@pytest.mark.parametrize("runs", [None, 3])
def test_a_critic_of_two_outputs_is_two_critics_that_share_all_but_their_last_layer(runs):
    _, x, y = critic_and_inputs("concat", runs)
    both = ConcatCritic(X, Y, [64], outputs=2, runs=runs).double()
    initialize(both, seeds(*range(runs or 1)))
    for which in (0, 1):
        one = ConcatCritic(X, Y, [64], runs=runs).double()
        for mine, theirs in zip(one.parameters(), both.parameters(), strict=True):
            mine.data = theirs.data if mine.shape == theirs.shape else theirs.data[..., which : which + 1]
        assert_close(both(x.double()[..., :4, :], y.double())[which], one(x.double()[..., :4, :], y.double()))
        assert_close(both.matrix(x.double(), y.double())[which], one.matrix(x.double(), y.double()))


def test_paper_critic_has_no_bias_on_its_output():
    critic = ConcatCritic(16, 16, [64], output_bias=False)
    assert [tuple(p.shape) for p in critic.parameters()] == [(32, 64), (1, 64), (64, 1)]


@each_critic
@pytest.mark.parametrize("call", ["__call__", "matrix"])
def test_a_stack_is_its_runs_one_by_one(kind, call):
    critic, x, y = critic_and_inputs(kind, 3, n=32, m=32)
    together = getattr(critic, call)(x, y)
    gradients = torch.autograd.grad(together.square().sum(), list(critic.parameters()))
    for run in range(3):
        alone = copy.deepcopy(critic)
        for p in alone.parameters():
            p.data = p.data[run : run + 1]
        scores = getattr(alone, call)(x[run : run + 1], y[run : run + 1])
        assert torch.equal(scores[0], together[run])
        for mine, stacked in zip(torch.autograd.grad(scores.square().sum(), list(alone.parameters())), gradients, strict=True):
            assert torch.equal(mine[0], stacked[run])


@each_critic
@pytest.mark.parametrize("std", [None, 0.05])
def test_start_of_a_run_does_not_depend_on_its_stack(kind, std):
    stack, alone, plain = CRITICS[kind](3), CRITICS[kind](1), CRITICS[kind](None)
    initialize(stack, seeds(5, 6, 7), std)
    initialize(alone, seeds(6), std)
    initialize(plain, seeds(6), std)
    for many, one, bare in zip(stack.parameters(), alone.parameters(), plain.parameters(), strict=True):
        assert torch.equal(many[1], one[0])
        assert torch.equal(many[1], bare)


@pytest.mark.parametrize("ours", [True, False], ids=["initialize", "torch.nn.Linear"])
@pytest.mark.parametrize("name", ["weight", "bias"])
def test_default_start_has_the_distribution_of_torch(ours, name):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = Linear(25, 2000) if ours else nn.Linear(25, 2000)
    if ours:
        initialize(layer, seeds(0))
    values = getattr(layer, name).detach().flatten()
    assert values.abs().max() <= 1 / 5  # 1 / sqrt(fan_in)
    assert kstest(values, "uniform", (-1 / 5, 2 / 5)).pvalue > 1e-3  # seeded


def test_start_with_std_is_normal_with_zero_biases():
    layer = Linear(25, 2000)
    initialize(layer, seeds(0), std=0.05)
    assert kstest(layer.weight.detach().flatten(), "norm", (0, 0.05)).pvalue > 1e-3  # seeded
    assert not layer.bias.any()


def test_initialize_needs_a_generator_per_run():
    with pytest.raises(ValueError, match="zip"):
        initialize(CRITICS["concat"](3), seeds(0, 1))


def test_inner_product_critic_is_symmetric_and_positive_semidefinite():
    critic, x, _ = critic_and_inputs("inner-product", 2)
    matrix = critic.double().matrix(x.double(), x.double())
    assert_close(matrix, matrix.transpose(-1, -2), rtol=0, atol=1e-14)  # float64, sums of 32 terms below 1
    assert torch.linalg.eigvalsh(matrix).min() > -1e-13
