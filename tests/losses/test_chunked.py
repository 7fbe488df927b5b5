"""Chunked scores are the dense ones in value, gradient and errors, and their memory grows like N."""

import itertools
import math

import pytest
import torch
from test_estimators import CASES
from torch import tensor, zeros
from torch.profiler import ProfilerActivity, profile
from torch.testing import assert_close

from remi.losses import chunked
from remi.losses.estimators import NAMES, get
from remi.losses.scores import Scores

TOLERANCE = {  # of the largest magnitude: rounding of sums in another order
    torch.float64: 1e-10,
    torch.float32: 1e-5,
}
N, ROWS = 23, 5  # not a multiple: the last chunk has three rows


def draw(leading, dtype):
    generator = torch.Generator().manual_seed(len(leading))
    z1, z2 = (torch.randn(*leading, N, 4, generator=generator, dtype=torch.float64).to(dtype) for _ in range(2))
    labels = torch.randint(0, 9, (*leading, N), generator=generator)
    if leading:
        labels[1] = torch.arange(N)  # no joint pair in this run
    return z1, z2, labels


def settings(z1, z2, labels):
    """Dense and chunked scores of the same embeddings."""
    return {
        "embeddings": (Scores.from_embeddings(z1, labels), chunked.from_embeddings(z1, labels, rows=ROWS)),
        "views": (Scores.from_views(z1, z2, 0.5), chunked.from_views(z1, z2, 0.5, rows=ROWS)),
    }


def close(found, expected, dtype):
    size = expected.detach().nan_to_num().abs().max().item()
    assert_close(found, expected, rtol=0, atol=TOLERANCE[dtype] * size, equal_nan=True)


@pytest.mark.parametrize("setting", ["embeddings", "views"])
@pytest.mark.parametrize("leading", [(), (3,)], ids=["one", "stack"])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(("name", "chosen"), CASES, ids=[f"{name}{chosen or ''}" for name, chosen in CASES])
def test_value_and_gradient_are_the_dense_ones(name, chosen, dtype, leading, setting):
    z1, z2, labels = draw(leading, dtype)
    inputs = [z1.requires_grad_(), z2.requires_grad_()]
    estimator = get(name, **chosen)
    dense, found = (estimator(scores) for scores in settings(*inputs, labels)[setting])
    for value, expected in zip(found, dense, strict=True):
        close(value, expected, dtype)
    gradients = [torch.autograd.grad(reading.objective.sum(), inputs, allow_unused=True) for reading in (found, dense)]
    for value, expected in zip(*gradients, strict=True):
        assert (value is None) == (expected is None)
        if expected is not None:
            close(value, expected, dtype)


@pytest.mark.parametrize("leading", [(), (3,), (2, 3)])
@pytest.mark.parametrize("setting", ["embeddings", "views"])
def test_pairs_and_valid_are_the_dense_ones(setting, leading):
    dense, found = settings(*draw(leading, torch.float32))[setting]
    assert torch.equal(found.pairs, dense.pairs)
    assert torch.equal(found.valid, dense.valid)
    assert found.valid.all() == (setting == "views" or not leading)


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_without_a_joint_pair_is_skipped(name):
    z = torch.randn(N, 4, requires_grad=True)
    reading = get(name)(chunked.from_embeddings(z, torch.arange(N), rows=ROWS))
    reading.objective.backward()
    assert reading.estimate.isnan()
    assert reading.objective == 0
    assert not z.grad.any()


@pytest.mark.parametrize("rows", [1, N, 10 * N])
def test_any_number_of_rows_gives_the_same(rows):
    z, _, labels = draw((), torch.float64)
    for name in NAMES:
        close(
            get(name)(chunked.from_embeddings(z, labels, rows=rows))[1], get(name)(Scores.from_embeddings(z, labels))[1], z.dtype
        )


def test_gradients_reach_what_a_map_uses():
    z, _, labels = draw((), torch.float64)
    shifts = [torch.ones((), dtype=z.dtype, requires_grad=True) for _ in range(2)]
    for scores, shift in zip(settings(z, z, labels)["embeddings"], shifts, strict=True):
        get("nwj")(scores.map(lambda t, shift=shift: t - shift)).objective.backward()
    close(shifts[1].grad, shifts[0].grad, z.dtype)


def allocated(name, module, n):
    """The most bytes that PyTorch has allocated at any moment of a step."""
    z, labels = torch.ones(n, 16, requires_grad=True), torch.arange(n) % 10
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        get(name)(module.from_embeddings(z, labels)).objective.backward()
    changes = [event.nbytes() for event in found.profiler.kineto_results.events() if event.name() == "[memory]"]
    return max(itertools.accumulate(changes))


@pytest.mark.parametrize("name", ["remine", "reinfonce", "rejs"])
def test_memory_grows_like_n(name):
    small, large = 500, 2000
    assert allocated(name, chunked, large) < 1.1 * large / small * allocated(name, chunked, small)
    assert allocated(name, Scores, large) > 0.9 * (large / small) ** 2 * allocated(name, Scores, small)


@pytest.mark.parametrize(
    ("setting", "inputs"),
    [
        ("from_embeddings", (zeros(3, 4), zeros(3))),
        ("from_embeddings", (zeros(3, 4), [0, 1, 2])),
        ("from_embeddings", (zeros(3, 4), tensor([0, 1]))),
        ("from_embeddings", (zeros(1, 4), tensor([0]))),
        ("from_embeddings", (zeros(3), tensor(1))),
        ("from_embeddings", (tensor([[1], [2]]), tensor([0, 0]))),
        ("from_views", (zeros(3, 4), zeros(2, 4))),
        ("from_views", (zeros(3), zeros(3))),
        ("from_views", (zeros(1, 4), zeros(1, 4))),
        ("from_views", (zeros(2, 4), zeros(2, 4), 0.0)),
        ("from_views", (zeros(2, 4), zeros(2, 4), math.nan)),
    ],
)
def test_errors_are_the_dense_ones(setting, inputs):
    with pytest.raises(ValueError, match="must") as dense:
        getattr(Scores, setting)(*inputs)
    with pytest.raises(ValueError, match="must") as found:
        getattr(chunked, setting)(*inputs)
    assert str(found.value) == str(dense.value)


@pytest.mark.parametrize("rows", [0, -1, 2.0, True, None])
def test_rows_out_of_range_are_refused(rows):
    for build in (chunked.from_views, chunked.from_embeddings):
        with pytest.raises(ValueError, match=f"rows must be a positive integer, got {rows!r}"):
            build(zeros(3, 4), zeros(3, 4) if build is chunked.from_views else zeros(3).long(), rows=rows)
