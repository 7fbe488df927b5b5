"""FLO's runs: a critic of two outputs, the second on the joint pairs alone, in stacks of their own."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from remi.runs import CriticRun, FloRun, from_json, stacks, to_json
from remi.runs.specs import CriticStack
from remi.training import GaussianStaircase, OneHot

CPU = torch.device("cpu")
ONE_HOT = FloRun("flo", 5, 3, "sgd", 0.1, (64,), problem=OneHot(16), output_bias=False)
GAUSSIAN = FloRun("flo", 4, 3, "adam", 1e-3, (64, 32), problem=GaussianStaircase(2, 16), init_std=0.3)


def hand(T_joint, u, rows):
    """1 - E_P[u + exp(-u) E_Q[exp(T' - T)]], in a plain loop."""
    terms = [
        u_i + math.exp(-u_i) * sum(math.exp(t - T_i) for t in row) / len(row)
        for T_i, u_i, row in zip(T_joint, u, rows, strict=True)
    ]
    return 1 - sum(terms) / len(terms)


def first_batch(run):
    """Both outputs of a run's critic at its start, and the first batch."""
    stack = CriticStack([run], CPU)
    batch = next(iter(stack.batches(run.steps)))
    return stack.critic, batch


def test_the_first_step_reads_the_formula_on_unrelated_pairs():
    critic, (x, u, v) = first_batch(ONE_HOT)
    x, u, v = map(ONE_HOT.problem.encode, (x, u, v))
    (T, second), (marginal, _) = critic(x, x), critic(u, v)
    assert T.shape == (1, 5)
    wanted = hand(T[0].tolist(), second[0].tolist(), [marginal[0].tolist()] * 5)
    assert FloRun.train([ONE_HOT], CPU)[0].arrays["objective"][0] == pytest.approx(wanted, abs=1e-6)


def test_the_first_step_reads_the_formula_on_a_matrix():
    critic, (x, y) = first_batch(GAUSSIAN)
    T, second = critic.matrix(x, y)[:, 0].tolist()
    rows = [[t for k, t in enumerate(row) if k != i] for i, row in enumerate(T)]
    wanted = hand([T[i][i] for i in range(4)], [second[i][i] for i in range(4)], rows)
    found = FloRun.train([GAUSSIAN], CPU)[0].arrays
    assert found["objective"][0] == pytest.approx(wanted, abs=1e-5)
    assert found["score_mean"][0] == pytest.approx(sum(T[i][i] for i in range(4)) / 4, abs=1e-6)


@pytest.mark.parametrize("run", [ONE_HOT, GAUSSIAN], ids=["one-hot", "Gaussian"])
def test_a_stack_is_its_runs_one_by_one(run):
    together = FloRun.train([replace(run, seed=seed) for seed in (3, 4)], CPU)
    for seed, found in zip((3, 4), together, strict=True):
        alone = FloRun.train([replace(run, seed=seed)], CPU)[0]
        assert found.arrays.keys() == alone.arrays.keys()
        for name, values in alone.arrays.items():
            assert np.array_equal(found.arrays[name], values), name


def test_both_outputs_learn_and_the_table_is_the_first():
    stack = CriticStack([replace(ONE_HOT, batch=100, steps=400)], CPU)
    loop, start = stack.loop(), [p.clone() for p in stack.critic.parameters()]
    for batch in stack.batches(400):
        loop.step(*batch)
    assert all(
        not torch.equal(p[..., k], q[..., k]) for p, q in zip(stack.critic.parameters(), start, strict=True) for k in (0, 1)
    )
    everyone = stack.run.problem.encode(torch.arange(16))[None]
    T, u = stack.critic.matrix(everyone, everyone).detach()
    assert torch.equal(stack.table(stack.run.problem), T)
    # its best u on the diagonal is -log 16, where it starts at 0; the true value is log 16
    assert loop.history().traces["estimate"][0, -50:].mean() == pytest.approx(math.log(16), abs=0.35)
    assert u[0].diagonal().mean() == pytest.approx(-math.log(16), abs=0.8)


def test_it_shares_no_stack_with_a_critic_of_one_output():
    other = CriticRun("mine", 5, 3, "sgd", 0.1, (64,), problem=OneHot(16), output_bias=False)
    assert sorted(map(len, stacks([ONE_HOT, other, replace(ONE_HOT, seed=1)]))) == [1, 2]
    assert from_json(to_json(ONE_HOT)) == ONE_HOT
    assert to_json(ONE_HOT) | {"kind": "CriticRun", "loss": "mine"} == to_json(other)


@pytest.mark.parametrize("chosen", [{"lam": 1.0}, {"options": {"nu": 1.0}}])
def test_it_has_no_options(chosen):
    with pytest.raises(ValueError, match="FLO has no options; got lam="):
        replace(ONE_HOT, **chosen)
