"""Which pairs belong to which population, on examples small enough that every score says where it comes from."""

import math
import re
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import torch
from torch import tensor, zeros
from torch.testing import assert_close

from remi.losses import chunked
from remi.losses.scores import Scores


def real(values):
    return tensor(values, dtype=torch.float64)


TENS = real([[0, 1, 2], [10, 11, 12], [20, 21, 22]])  # T[i, j] = 10 i + j
PRIMES = real([[2], [3], [5], [7]])  # z z^T holds a product of two primes per pair
SETTINGS = {  # scores; joint pairs; marginal pairs; the row of each joint pair
    "unpaired": (Scores(real([1, 2, 4]), real([[3, 5], [6, 8]])), [1, 2, 4], [3, 5, 6, 8], None),
    "matrix": (Scores.from_matrix(TENS), [0, 11, 22], [1, 2, 10, 12, 20, 21], [[0, 1, 2], [10, 11, 12], [20, 21, 22]]),
    "logits": (
        Scores.from_logits(TENS, tensor([2, 0, 0])),
        [2, 10, 20],
        [0, 1, 2, 10, 11, 12, 20, 21, 22],
        [[0, 1, 2], [10, 11, 12], [20, 21, 22]],
    ),
    "embeddings": (  # images 0, 2 and 3 share a label
        Scores.from_embeddings(PRIMES, tensor([1, 0, 1, 1])),
        [10, 14, 10, 35, 14, 35],
        [6, 10, 14, 6, 15, 21, 10, 15, 35, 14, 21, 35],
        [[6, 10, 14], [6, 10, 14], [10, 15, 35], [10, 15, 35], [14, 21, 35], [14, 21, 35]],
    ),
    "rows": (  # two joint pairs per row, the third masked
        Scores(real([1, 2, 9, 4]), real([[3, 5], [6, 8]]), tensor([True, True, False, True]), rowwise=True),
        [1, 2, 4],
        [3, 5, 6, 8],
        [[3, 5], [3, 5], [6, 8]],
    ),
    "views": (Scores.from_views(real([[2], [3]]), real([[5], [7]]), 0.5), [20, 42], [28, 30], [[20, 28], [30, 42]]),
}
each_setting = pytest.mark.parametrize(("scores", "joint", "marginal", "rows"), SETTINGS.values(), ids=SETTINGS)


def kept(values, mask):
    return values.flatten().tolist() if mask is None else values[mask.expand_as(values)].tolist()


def mean(values):
    return sum(values) / len(values)


def lme(values):
    return math.log(mean([math.exp(t) for t in values]))


@each_setting
def test_populations(scores, joint, marginal, rows):
    assert kept(scores.joint, scores.joint_mask) == joint
    assert kept(scores.marginal, scores.marginal_mask) == marginal
    assert (scores.pairs.item(), scores.valid.item(), scores.rowwise) == (len(joint), True, rows is not None)


@each_setting
def test_means_are_those_of_the_selected_pairs(scores, joint, marginal, rows):
    assert scores.joint_mean().item() == pytest.approx(mean(joint), rel=1e-12)
    assert scores.marginal_mean().item() == pytest.approx(mean(marginal), rel=1e-12)
    assert scores.log_mean_exp().item() == pytest.approx(lme(marginal), rel=1e-12)
    assert [scores.marginal_min().item(), scores.marginal_max().item()] == [min(marginal), max(marginal)]
    if rows:
        assert scores.row_log_mean_exp().item() == pytest.approx(mean([lme(row) for row in rows]), rel=1e-12)


@each_setting
def test_map_transforms_every_score_and_keeps_the_populations(scores, joint, marginal, rows):
    mapped = scores.map(lambda t: 3 * t + 1)
    assert kept(mapped.joint, mapped.joint_mask) == [3 * t + 1 for t in joint]
    assert kept(mapped.marginal, mapped.marginal_mask) == [3 * t + 1 for t in marginal]
    if rows:
        assert mapped.row_log_mean_exp().item() == pytest.approx(mean([lme([3 * t + 1 for t in row]) for row in rows]), rel=1e-12)


def test_an_image_is_never_paired_with_itself():
    scores = SETTINGS["embeddings"][0]
    itself = 1e6 * torch.eye(4, dtype=torch.float64)
    other = replace(scores, joint=scores.joint + itself.flatten(), marginal=scores.marginal + itself)
    for quantity in (Scores.joint_mean, Scores.marginal_mean, Scores.log_mean_exp, Scores.row_log_mean_exp):
        assert torch.equal(quantity(scores), quantity(other))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_masking_equals_selecting(dtype):
    generator = torch.Generator().manual_seed(0)
    joint, marginal = torch.randn(20, generator=generator, dtype=dtype), torch.randn(6, 7, generator=generator, dtype=dtype)
    some, others = torch.rand(20, generator=generator) < 0.4, torch.rand(6, 7, generator=generator) < 0.4
    masked, selected = Scores(joint, marginal, some, others), Scores(joint[some], marginal[others][None])
    for quantity in (Scores.joint_mean, Scores.marginal_mean, Scores.log_mean_exp):
        assert_close(quantity(masked), quantity(selected))
    assert masked.pairs == selected.pairs == some.sum()


@pytest.mark.parametrize(("mask", "shape"), [("joint_mask", (3,)), ("joint_mask", (5, 3)), ("marginal_mask", (2, 4))])
def test_a_mask_may_leave_out_the_leading_dimensions(mask, shape):
    scores = Scores(torch.ones(5, 3), torch.ones(5, 2, 4), **{mask: torch.arange(math.prod(shape)).view(shape) % 3 != 1})
    for quantity in (Scores.joint_mean, Scores.marginal_mean, Scores.log_mean_exp):
        assert_close(quantity(scores), torch.ones(5))


@pytest.mark.parametrize(
    ("mask", "shape"), [("joint_mask", (1,)), ("joint_mask", (1, 3)), ("marginal_mask", (2, 1)), ("row_mask", (4,))]
)
def test_a_mask_of_another_shape_is_refused(mask, shape):
    with pytest.raises(ValueError, match=f"{mask} must be boolean of shape .* got torch.bool of shape {re.escape(str(shape))}"):
        Scores(torch.ones(5, 3), torch.ones(5, 2, 4), **{mask: torch.ones(shape, dtype=torch.bool)})


@pytest.mark.parametrize("size", [-1e3, 1e3])
def test_log_mean_exp_moves_with_the_scores_at_any_size(size):
    matrix = torch.linspace(-1, 1, 9).view(3, 3)
    near, far = Scores.from_matrix(matrix), Scores.from_matrix(matrix + size)
    assert_close(far.log_mean_exp(), near.log_mean_exp() + size)
    assert_close(far.row_log_mean_exp(), near.row_log_mean_exp() + size)


def test_a_batch_without_a_shared_label_has_no_joint_pair():
    labels = tensor([[0, 1, 2], [2, 2, 2], [1, 0, 1]])
    scores = Scores.from_embeddings(torch.ones(3, 3, 2), labels)
    assert scores.valid.tolist() == [False, True, True]
    assert scores.pairs.tolist() == [0, 6, 2]
    assert scores.joint_mean().tolist() == [0, 2, 2]


@pytest.mark.parametrize("leading", [(), (3,), (2, 3)])
def test_every_mean_has_the_leading_dimensions(leading):
    labels = torch.zeros(*leading, 4, dtype=torch.long)
    for scores in (
        Scores(torch.ones(*leading, 5), torch.ones(*leading, 2, 3)),
        Scores.from_matrix(torch.ones(*leading, 4, 4)),
        Scores.from_logits(torch.ones(*leading, 4, 3), labels),
        Scores.from_embeddings(torch.ones(*leading, 4, 1), labels),
        Scores.from_views(torch.ones(*leading, 4, 1), torch.ones(*leading, 4, 1)),
    ):
        for value in (scores.valid, scores.joint_mean(), scores.marginal_mean(), scores.log_mean_exp()):
            assert value.tolist() == torch.ones(leading).tolist()
        assert scores.pairs.shape == leading


def test_constructors_leave_their_inputs_alone():
    labels = tensor([1, 0, 1])
    before = TENS.clone(), labels.clone()
    (
        Scores.from_matrix(TENS),
        Scores.from_logits(TENS, labels),
        Scores.from_embeddings(TENS, labels),
        Scores.from_views(TENS, TENS, 2.0),
    )
    assert torch.equal(TENS, before[0])
    assert torch.equal(labels, before[1])


def test_scores_are_frozen():
    with pytest.raises(FrozenInstanceError):
        Scores(torch.zeros(1), torch.zeros(1, 1)).joint = torch.ones(1)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Scores([1.0], zeros(1, 1)), "joint must be a floating-point tensor, got list"),
        (lambda: Scores(tensor([1]), zeros(1, 1)), "joint must be a floating-point tensor, got torch.int64"),
        (lambda: Scores(zeros(1), tensor([[1]])), "marginal must be a floating-point tensor, got torch.int64"),
        (lambda: Scores(zeros(()), zeros(2)), r"joint must be \(..., n\) .* got joint \(\) and marginal \(2,\)"),
        (lambda: Scores(zeros(3), zeros(4)), r"marginal \(..., rows, k\) .* got joint \(3,\) and marginal \(4,\)"),
        (lambda: Scores(zeros(2, 3), zeros(5, 4, 4)), r"equal leading dimensions, got joint \(2, 3\) and marginal \(5, 4, 4\)"),
        (lambda: Scores(zeros(0), zeros(2, 2)), r"both populations need pairs, got joint \(0,\)"),
        (lambda: Scores(zeros(2), zeros(2, 0)), r"both populations need pairs, .* marginal \(2, 0\)"),
        (
            lambda: Scores(zeros(2), zeros(2, 2).double()),
            "share dtype and device, got torch.float32 on cpu and torch.float64 on cpu",
        ),
        (lambda: Scores(zeros(2), zeros(2, 2, device="meta")), "got torch.float32 on cpu and torch.float32 on meta"),
        (
            lambda: Scores(zeros(2), zeros(2, 2)).row_log_mean_exp(),
            "have none: build the scores with from_matrix, from_views, from_logits",
        ),
        (lambda: Scores.from_matrix(zeros(1, 1)), r"matrix must be \(..., n, n\) with n >= 2, got \(1, 1\)"),
        (lambda: Scores.from_matrix(zeros(2, 3)), r"matrix must be \(..., n, n\) with n >= 2, got \(2, 3\)"),
        (lambda: Scores.from_matrix(zeros(2)), r"matrix must be \(..., n, n\) with n >= 2, got \(2,\)"),
        (lambda: Scores.from_matrix(tensor([[1, 2], [3, 4]])), "floating-point tensor, got torch.int64"),
        (
            lambda: Scores.from_logits(zeros(3, 4), zeros(3)),
            r"labels must be integers of shape \(3,\), got torch.float32 of shape \(3,\)",
        ),
        (
            lambda: Scores.from_logits(zeros(3, 4), tensor([0, 1])),
            r"labels must be integers of shape \(3,\), got torch.int64 of shape \(2,\)",
        ),
        (
            lambda: Scores.from_logits(zeros(2, 3, 4), tensor([0, 1, 2])),
            r"labels must be integers of shape \(2, 3\), .* of shape \(3,\)",
        ),
        (lambda: Scores.from_logits(zeros(4), tensor(0)), r"logits must be \(..., n, C\), got \(4,\)"),
        (lambda: Scores.from_logits(zeros(0, 4), tensor([], dtype=torch.long)), r"both populations need pairs, got joint \(0,\)"),
        (lambda: Scores.from_embeddings(zeros(3, 4), zeros(3)), r"labels must be integers of shape \(3,\), got torch.float32"),
        (
            lambda: Scores.from_embeddings(zeros(3, 4), tensor([0, 1])),
            r"labels must be integers of shape \(3,\), .* of shape \(2,\)",
        ),
        (lambda: Scores.from_embeddings(zeros(1, 4), tensor([0])), r"embeddings @ embeddings.T must be .* n >= 2, got \(1, 1\)"),
        (lambda: Scores.from_views(zeros(3, 4), zeros(2, 4)), r"z1 and z2 must both be \(..., n, d\), got \(3, 4\) and \(2, 4\)"),
        (lambda: Scores.from_views(zeros(3), zeros(3)), r"z1 and z2 must both be \(..., n, d\), got \(3,\) and \(3,\)"),
        (lambda: Scores.from_views(zeros(1, 4), zeros(1, 4)), r"must be \(..., n, n\) with n >= 2, got \(1, 1\)"),
        (lambda: Scores.from_views(zeros(2, 4), zeros(2, 4), 0.0), "temperature must be a positive number, got 0.0"),
        (lambda: Scores.from_views(zeros(2, 4), zeros(2, 4), -1.0), "temperature must be a positive number, got -1.0"),
        (lambda: Scores.from_views(zeros(2, 4), zeros(2, 4), math.nan), "temperature must be a positive number, got nan"),
        (lambda: Scores.from_views(zeros(2, 4), zeros(2, 4), math.inf), "temperature must be a positive number, got inf"),
        (
            lambda: Scores(zeros(5), zeros(2, 3), rowwise=True),
            "rowwise needs as many joint pairs in every row, got 5 for 2 rows",
        ),  # 5 pairs, 2 rows: means over 4 of them
        (lambda: Scores(zeros(3), zeros(2, 2), joint_mask=tensor([True] * 5)), "joint_mask"),
        (lambda: Scores(zeros(3), zeros(2, 2), marginal_mask=tensor([[1, 0], [1, 1]])), "marginal_mask"),
        (lambda: Scores.from_matrix(tensor(1.0)), "matrix must be"),
        (lambda: Scores.from_embeddings(zeros(3), tensor(1)), "embeddings"),
        (lambda: Scores.from_logits(zeros(3, 4), tensor([True, False, True])), "labels must be integers"),
    ],
)
def test_errors_name_the_argument_and_its_value(build, message):
    with pytest.raises(ValueError, match=message):
        build()


LABELS = [2, 0, 1]


@pytest.mark.parametrize(
    "labels", [LABELS, tuple(LABELS), np.array(LABELS), np.array(LABELS, np.uint8)], ids=lambda x: str(type(x))
)
def test_labels_may_be_a_list_or_an_array(labels):
    for build, chunk in ((Scores.from_logits, None), (Scores.from_embeddings, chunked.from_embeddings)):
        assert torch.equal(build(TENS, labels).marginal, build(TENS, tensor(LABELS)).marginal)
        if chunk:
            assert chunk(TENS, labels).pairs == build(TENS, labels).pairs


@pytest.mark.parametrize(("labels", "wrong"), [([0, 3, 1], 3), ([-100, 0, -100], -100), ([-1, 1, 1], -1), ([0, 255, 256], 255)])
def test_a_label_without_a_column_is_one_clear_error(labels, wrong):
    with pytest.raises(ValueError, match=rf"labels must be in \[0, 3\), the columns of logits, got {wrong} "):
        Scores.from_logits(TENS, tensor(labels))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_read_in_single(dtype):
    """In float16 300 images have more pairs than there are numbers, and 65,536 is infinite."""
    z, labels = 30 * torch.ones(300, 100, dtype=dtype), torch.zeros(300, dtype=torch.long)
    for scores in (
        Scores.from_embeddings(z, labels),
        Scores.from_views(z, z),
        Scores.from_matrix(z @ z.mT / 30),
        Scores(z[0], z),
    ):
        assert scores.joint.dtype == scores.marginal.dtype == scores.log_mean_exp().dtype == torch.float32
    scores = Scores.from_embeddings(z, labels)
    assert (scores.pairs, scores.joint_mean(), scores.marginal_max()) == (300 * 299, 90_000, 90_000)


@pytest.mark.parametrize(
    "dtype",
    [
        torch.int64,
        torch.int32,
        torch.int16,
        torch.uint8,
    ],
)
def test_labels_may_be_any_integers(dtype):
    assert Scores.from_logits(TENS, tensor([2, 0, 1], dtype=dtype)).joint.tolist() == [2, 10, 21]


@pytest.mark.parametrize(
    "build",
    [
        lambda z, labels: Scores.from_matrix(z @ z.transpose(-1, -2)),
        lambda z, labels: Scores.from_views(z, z.flip(-1)),
        lambda z, labels: Scores.from_embeddings(z, labels),
        lambda z, labels: Scores.from_logits(z, labels),
    ],
)
def test_the_runs_of_a_stack_are_its_parts(build):
    generator = torch.Generator().manual_seed(0)
    z, labels = torch.randn(5, 6, 4, generator=generator), torch.randint(0, 3, (5, 6), generator=generator)
    whole = build(z, labels)
    for part in (slice(1, 3), slice(4, 5)):
        alone, found = build(z[part], labels[part]), whole.runs(part)
        for name in ("joint", "marginal", "joint_mask", "marginal_mask", "row_mask"):
            mine, theirs = getattr(found, name), getattr(alone, name)
            assert (mine is None) == (theirs is None)
            assert mine is None or torch.equal(mine, theirs)
        assert torch.equal(found.log_mean_exp(), whole.log_mean_exp()[part])
