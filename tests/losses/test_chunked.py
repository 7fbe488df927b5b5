"""Chunked scores are the dense ones in value, gradient and errors, and their memory grows like N."""

import itertools
import math
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from test_estimators import CASES
from test_rivals import CASES as RIVALS
from torch import tensor, zeros
from torch.profiler import ProfilerActivity, profile
from torch.testing import assert_close

from remi.losses import chunked, flo
from remi.losses.estimators import get
from remi.losses.scores import Scores

TOLERANCE = {  # of the largest magnitude: rounding of sums in another order
    torch.float64: 1e-10,
    torch.float32: 1e-5,
}
EVERY = CASES + RIVALS
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
@pytest.mark.parametrize(("name", "chosen"), EVERY, ids=[f"{name}{chosen or ''}" for name, chosen in EVERY])
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
    assert found.valid.dtype == torch.bool
    assert found.valid.all() == (setting == "views" or not leading)
    doubled = found.map(lambda t: 2 * t)
    assert torch.equal(doubled.valid, dense.valid)
    assert (found.complete, doubled.complete) == (dense.complete, dense.complete)


@pytest.mark.parametrize(("name", "chosen"), EVERY, ids=str)
def test_a_batch_without_a_joint_pair_is_skipped(name, chosen):
    z = torch.randn(N, 4, requires_grad=True)
    reading = get(name, **chosen)(chunked.from_embeddings(z, torch.arange(N), rows=ROWS))
    reading.objective.backward()
    assert reading.estimate.isnan()
    assert reading.objective == 0
    assert not z.grad.any()


@pytest.mark.parametrize("rows", [1, N, 10 * N])
def test_any_number_of_rows_gives_the_same(rows):
    z, _, labels = draw((), torch.float64)
    for name, chosen in EVERY:
        estimator = get(name, **chosen)
        close(
            estimator(chunked.from_embeddings(z, labels, rows=rows))[1], estimator(Scores.from_embeddings(z, labels))[1], z.dtype
        )


def test_where_there_is_no_pair_nothing_is_nan():
    z = torch.randn(N, 4)
    alone, alike = (chunked.from_embeddings(z, labels, rows=ROWS) for labels in (torch.arange(N), torch.zeros(N).long()))
    assert alone.joint_log_mean_exp() == -math.inf
    assert (alike.row_pairs("all"), alike.row_pairs("negative")) == (N * (N - 1), 0)


def test_gradients_reach_what_a_map_uses():
    z, _, labels = draw((), torch.float64)
    shifts = [torch.ones((), dtype=z.dtype, requires_grad=True) for _ in range(2)]
    for scores, shift in zip(settings(z, z, labels)["embeddings"], shifts, strict=True):
        get("nwj")(scores.map(lambda t, shift=shift: t - shift)).objective.backward()
    close(shifts[1].grad, shifts[0].grad, z.dtype)


@pytest.mark.parametrize("leading", [(), (3,)], ids=["one", "stack"])
@pytest.mark.parametrize("setting", ["embeddings", "views"])
def test_extremes_and_counts_are_the_dense_ones(setting, leading):
    z1, z2, labels = draw(leading, torch.float64)
    dense, found = settings(z1, z2, labels)[setting]
    close(found.marginal_min(), dense.marginal_min(), z1.dtype)
    close(found.marginal_max(), dense.marginal_max(), z1.dtype)
    assert found.marginal_pairs.tolist() == dense.marginal_pairs.tolist()
    for row in ("all", "marginal", "negative", "swapped"):
        assert found.row_pairs(row).tolist() == dense.row_pairs(row).tolist()


@pytest.mark.parametrize("setting", ["embeddings", "views"])
def test_scores_that_are_never_there_cannot_be_had(setting):
    """A bound of one's own that reads them gets an error, not something else's entries."""
    found = settings(*draw((), torch.float64))[setting][1]
    for field in ("joint", "marginal", "joint_mask", "marginal_mask", "row_mask", "rowwise", "runs", "halves"):
        with pytest.raises(AttributeError, match="in parts and never all there: ask for joint_mean"):
            getattr(found, field)
    with pytest.raises(AttributeError, match="never all there"):
        replace(found, marginal_mask=torch.ones(N, N, dtype=torch.bool))
    with pytest.raises(AttributeError, match="never all there"):
        flo(found, torch.zeros(N))
    assert repr(found) == "Chunked(...)"


@pytest.mark.parametrize("shape", [(), (1,), (3,)])
def test_a_learned_temperature_gets_its_gradient(shape):
    z1, z2, _ = draw((3,), torch.float64)
    found = []
    for build in (Scores.from_views, lambda *inputs: chunked.from_views(*inputs, rows=ROWS)):
        temperature = torch.full(shape, 0.5, dtype=torch.float64, requires_grad=True)
        get("remine")(build(z1, z2, temperature)).objective.sum().backward()
        found.append(temperature.grad)
    by_hand = [get("remine")(Scores.from_matrix(z1 @ z2.mT / t)).objective.sum() for t in (0.5 + 1e-6, 0.5 - 1e-6)]
    assert found[0].sum().item() == pytest.approx((by_hand[0] - by_hand[1]).item() / 2e-6, rel=1e-6)
    close(found[1], found[0], torch.float64)
    with pytest.raises(ValueError, match=r"temperature must be one value, or one for every run, \(3,\); got \(2,\)"):
        build(z1, z2, torch.ones(2))


class Noisy(torch.nn.Sequential):
    """Every layer that has a state or a mask, and something to train."""

    def __init__(self, width=8):
        super().__init__(torch.nn.Linear(4, width), torch.nn.GELU(), torch.nn.Dropout(0.3), torch.nn.Linear(width, 5))


@pytest.mark.parametrize("rows", [1, 5, 100])
def test_an_encoder_in_parts_has_the_gradient_of_the_whole_batch(rows):
    z1, z2, _ = draw((), torch.float64)
    encoder, found = Noisy().double(), []
    for encode in (
        lambda x: torch.cat([encoder(part) for part in x.split(rows)]),
        lambda x: chunked.encode(encoder, x, rows=rows),
    ):
        torch.manual_seed(0)  # both draw the same masks in the first pass; the second pass replays them
        encoder.zero_grad()
        get("remine")(Scores.from_views(encode(z1), encode(z2))).objective.backward()
        found.append([p.grad.clone() for p in encoder.parameters()])
        found[-1].append(torch.rand(1))  # and the generator goes on from where it was
    assert_close(found[1], found[0])


@pytest.mark.parametrize("rows", [1, 5, 100])
def test_an_encoder_sees_so_many_items_at_a_time_and_each_twice(rows):
    seen = []
    weight = torch.ones(4, requires_grad=True)

    def encoder(part):
        seen.append(len(part))
        return part * weight

    found = chunked.encode(encoder, torch.randn(N, 4), rows=rows)
    once = [rows] * (N // rows) + [N % rows] * (N % rows > 0)
    assert seen == once
    found.sum().backward()
    assert sorted(seen) == sorted(once + once)  # its activations are not kept


def resident(code):
    """MiB by which a process's resident memory grew while it ran `code`, after the first small step of its kind."""
    frame = f"""
import resource, torch
from remi.losses import chunked, estimators
torch.set_num_threads(1)
remine = estimators.get("remine")
def step(n):
{code}
step(300)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
step({{n}})
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""

    def grew(n):
        out = subprocess.run([sys.executable, "-c", frame.format(n=n)], capture_output=True, text=True, check=True)
        return float(out.stdout)

    return grew


@pytest.mark.skipif(sys.platform != "linux", reason="counts kibibytes, as Linux does")
def test_resident_memory_does_not_grow_like_n_squared():
    grew = resident("    z = torch.randn(n, 8, requires_grad=True); remine(chunked.from_views(z, z)).objective.backward()")
    assert grew(8192) < 300  # 860 before free memory was given back; the scores are 256 MiB, and several such are at work


@pytest.mark.skipif(sys.platform != "linux", reason="counts kibibytes, as Linux does")
def test_a_large_batch_through_an_encoder_stays_below_two_gigabytes():
    wide = 4096  # 8,192 items have 128 MiB of activations in each of its layers
    encoder = (
        f"torch.nn.Sequential(torch.nn.Linear(32, {wide}), torch.nn.GELU(), torch.nn.Dropout(0.1), torch.nn.Linear({wide}, 32))"
    )
    grew = resident(
        f"""
    encoder = {encoder}
    z1, z2 = (chunked.encode(encoder, torch.randn(n, 32), rows=256) for _ in range(2))
    remine(chunked.from_views(z1, z2, 10.0)).objective.backward()"""
    )
    assert grew(8192) < 500


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
        ("from_embeddings", (zeros(3, 4), [0, 1, 2.5])),
        ("from_embeddings", (zeros(3, 4), "abc")),
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
    with pytest.raises(ValueError, match=f"rows must be a positive integer, got {rows!r}"):
        chunked.encode(torch.nn.Linear(4, 2), zeros(3, 4), rows=rows)
