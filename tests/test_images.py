"""Images that fit the benchmarks' assumptions, and encoders whose stack is as many encoders that never meet."""

import math
from dataclasses import replace

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.testing import assert_close

from remi import estimators
from remi.critics import initialize
from remi.images import DATASETS, BatchNorm, digit_pairs, digits, encoder
from remi.scores import Scores

each_dataset = pytest.mark.parametrize("name", DATASETS)


def as_bytes(images):
    return [image.numpy().tobytes() for image in images]


def halves(images):
    left, right = images.unflatten(-1, (8, 16)).split(8, -1)
    return as_bytes(left.reshape(-1, 64)), as_bytes(right.reshape(-1, 64))


def test_digits_are_split_without_loss_or_overlap():
    data = digits()
    train, test = as_bytes(data.train_images), as_bytes(data.test_images)
    source, labels = load_digits(return_X_y=True)
    everything = dict(zip(as_bytes(torch.tensor(source / 8 - 1, dtype=torch.float32)), labels, strict=True))
    assert dict(zip(train + test, torch.cat([data.train_labels, data.test_labels]).tolist(), strict=True)) == everything
    assert not set(train) & set(test)  # scikit-learn's 1,797 digits hold no duplicate either


def test_pairs_are_exactly_uniform():
    data = digit_pairs()
    assert torch.equal(torch.bincount(data.train_labels, minlength=100), torch.full((100,), 50))
    assert torch.equal(torch.bincount(data.test_labels, minlength=100), torch.full((100,), 20))


@pytest.mark.parametrize("split", ["train", "test"])
def test_pairs_join_two_digits_of_their_own_split(split):
    source, pairs = digits(), digit_pairs()
    label = dict(zip(as_bytes(getattr(source, f"{split}_images")), getattr(source, f"{split}_labels").tolist(), strict=True))
    left, right = halves(getattr(pairs, f"{split}_images"))
    assert [10 * label[a] + label[b] for a, b in zip(left, right, strict=True)] == getattr(pairs, f"{split}_labels").tolist()
    assert len(set(left)) > 0.6 * len(label)  # drawn at random, not the same few


def test_no_test_digit_is_in_a_training_pair():
    left, right = halves(digit_pairs().train_images)
    assert not {*left, *right} & {*as_bytes(digits().test_images)}


def test_number_of_pairs_must_allow_uniform_labels():
    with pytest.raises(ValueError, match="multiple of 100 for uniform labels, got 150"):
        digit_pairs(train=150)


@pytest.mark.parametrize(
    ("name", "classes", "train", "test", "pixels"), [("digits", 10, 1437, 360, 64), ("digit-pairs", 100, 5000, 2000, 128)]
)
def test_shapes(name, classes, train, test, pixels):
    data = DATASETS[name]()
    assert (data.name, data.classes) == (name, classes)
    assert (data.train_images.shape, data.test_images.shape) == ((train, pixels), (test, pixels))
    for images, labels in ((data.train_images, data.train_labels), (data.test_images, data.test_labels)):
        assert (images.dtype, images.min(), images.max()) == (torch.float32, -1, 1)
        assert torch.equal(labels.unique(), torch.arange(classes))
        assert len(labels) == len(images)


def test_true_mi_is_the_entropy_of_the_training_labels():
    assert digit_pairs().true_mi == pytest.approx(math.log(100), rel=1e-12)
    assert math.log(10) - 1e-3 < digits().true_mi < math.log(10)
    quarters = replace(digits(), train_labels=torch.tensor([0, 0, 1, 3]))  # 1/2, 1/4, 1/4: 3/2 log 2
    assert quarters.true_mi == pytest.approx(1.5 * math.log(2), rel=1e-12)


@each_dataset
@pytest.mark.parametrize("tensor", ["train_images", "train_labels", "test_images", "test_labels"])
def test_checksum_changes_with_one_value(name, tensor):
    data = DATASETS[name]()
    values = getattr(data, tensor).clone()
    assert replace(data, **{tensor: values}).checksum == data.checksum
    values.view(-1)[-1] += 1
    assert replace(data, **{tensor: values}).checksum != data.checksum


@each_dataset
def test_data_sets_are_the_same_at_every_reading(name):
    assert DATASETS[name].__wrapped__().checksum == DATASETS[name]().checksum


def test_batch_norm_of_a_stack_is_that_of_torch_run_by_run():
    generator = torch.Generator().manual_seed(0)
    stack, alone = BatchNorm(5, runs=3), [nn.BatchNorm1d(5) for _ in range(3)]
    for name in ("weight", "bias"):
        getattr(stack, name).data.normal_(generator=generator)
        for run, layer in enumerate(alone):
            getattr(layer, name).data = getattr(stack, name).data[run].clone()
    for training in (True, True, False):
        x = 2 + 3 * torch.randn(3, 7, 5, generator=generator)
        stack.train(training)
        expected = torch.stack([layer.train(training)(x[run]) for run, layer in enumerate(alone)])
        assert_close(stack(x), expected, rtol=0, atol=1e-5)  # float32, values of order 3
        for name in ("running_mean", "running_var"):
            theirs = torch.cat([getattr(layer, name) for layer in alone])
            assert_close(getattr(stack, name), theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("training", [True, False])
def test_features_are_non_negative_and_logits_are_not(training):
    x = digits().train_images[:50]
    for classes, outputs in ((None, 512), (10, 10)):
        network = encoder([64, 64, 512], classes=classes, runs=2).train(training)
        initialize(network, [torch.Generator().manual_seed(seed) for seed in range(2)])
        values = network(x)
        assert values.shape == (2, 50, outputs)
        assert bool((values >= 0).all()) == (classes is None)


@pytest.fixture(scope="module")
def scores_at_the_start():
    """CLB scores of 143 batches of 10 digits for 5 seeds, encoders of width 512."""
    network = encoder([64, 64, 512], classes=None, runs=5)
    initialize(network, [torch.Generator().manual_seed(seed) for seed in range(5)])
    data = digits()
    order = torch.randperm(1430, generator=torch.Generator().manual_seed(0)).view(143, 10)
    with torch.no_grad():
        return [Scores.from_embeddings(network(data.train_images[i]), data.train_labels[i].expand(5, -1)) for i in order]


def test_scores_at_the_start_are_in_the_regime_of_resnet(scores_at_the_start):
    pairs = torch.stack([s.marginal[s.marginal_mask.expand_as(s.marginal)].view(5, -1) for s in scores_at_the_start])
    low, high = pairs.amin(-1), pairs.amax(-1)
    assert high.min() > 88.7  # log of the largest float32: exp overflows in every batch of every seed
    assert low.min() > 10  # SMILE's tau: every score is clipped
    assert (low > 20).double().mean() > 0.98
    assert high.max() < 260


@pytest.mark.parametrize("name", ["nwj", "tuba"])
def test_plain_nwj_and_tuba_overflow_at_the_start(name, scores_at_the_start):
    for scores in scores_at_the_start:
        assert torch.equal(estimators.get(name)(scores).objective, torch.full((5,), -torch.inf))


def test_smile_clipped_in_both_terms_is_frozen_at_the_start(scores_at_the_start):
    for scores in scores_at_the_start[:20]:
        matrix = scores.marginal.clone().requires_grad_()
        reading = estimators.get("smile", clip="both")(replace(scores, joint=matrix.flatten(-2), marginal=matrix))
        (gradient,) = torch.autograd.grad(reading.objective.sum(), matrix)
        assert not reading.estimate.any()
        assert not gradient.any()
