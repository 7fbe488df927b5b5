"""Encoders whose stack is as many encoders that never meet, and whose first scores are those that the paper's losses meet."""

import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from remi.losses import estimators
from remi.losses.scores import Scores
from remi.training import encoders
from remi.training.critics import initialize
from remi.training.encoders import BatchNorm, ConvEncoder, Convolution, ResNet18, mlp_encoder
from remi.training.images import digits, noise, read_folder

SHARED = Path(__file__).parents[3] / "shared" / "data" / "cifar10-test.zip"
WIDTHS = (16, 32, 64, 512)  # of `desk`


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
        network = mlp_encoder([64, 64, 512], classes=classes, runs=2).train(training)
        initialize(network, [torch.Generator().manual_seed(seed) for seed in range(2)])
        values = network(x)
        assert values.shape == (2, 50, outputs)
        assert bool((values >= 0).all()) == (classes is None)


def first_scores(network, data, batches):
    """CLB scores of batches of 10 images, for a stack of 5."""
    order = torch.randperm(len(data.train_labels), generator=torch.Generator().manual_seed(0))[: 10 * batches].view(-1, 10)
    with torch.no_grad():
        return [Scores.from_embeddings(network(data.train_images[i]), data.train_labels[i].expand(5, -1)) for i in order]


def on_digits(tmp_path):
    return first_scores(encoders.build("mlp", (64, 512), inputs=64, classes=None, seeds=range(5)), digits(), 143)


def on_cifar(tmp_path):
    if not SHARED.exists():
        pytest.skip(f"needs {SHARED.name} in ../shared/data")
    with zipfile.ZipFile(SHARED) as packed:
        for index, name in enumerate(sorted(name for name in packed.namelist() if name.endswith(".png"))):
            if index % 10 == 0:
                packed.extract(name, tmp_path)  # 100 images of each class
    (tmp_path / "train").symlink_to(tmp_path / "test")
    network = encoders.build("conv", WIDTHS, inputs=32, classes=None, seeds=range(5))
    return first_scores(network, read_folder(tmp_path), 100)


@pytest.fixture(scope="module", params=[on_digits, on_cifar])
def scores_at_the_start(request, tmp_path_factory):
    return request.param(tmp_path_factory.mktemp("cifar"))


def test_scores_at_the_start_are_in_the_regime_of_resnet(scores_at_the_start):
    pairs = torch.stack([s.marginal[s.marginal_mask.expand_as(s.marginal)].view(5, -1) for s in scores_at_the_start])
    low, high = pairs.amin(-1), pairs.amax(-1)
    assert (high > 88.7).double().mean() > 0.97  # log of the largest float32: exp overflows
    assert low.min() > 10  # SMILE's tau: every score is clipped
    assert (low > 20).double().mean() > 0.98
    assert high.max() < 260


@pytest.mark.parametrize("name", ["nwj", "tuba"])
def test_plain_nwj_and_tuba_overflow_at_the_start(name, scores_at_the_start):
    overflows = [estimators.get(name)(scores).objective == -torch.inf for scores in scores_at_the_start]
    assert torch.stack(overflows).double().mean() > 0.95  # on digits all; where one does not, the next one does


def test_smile_clipped_in_both_terms_is_frozen_at_the_start(scores_at_the_start):
    for scores in scores_at_the_start[:20]:
        matrix = scores.marginal.clone().requires_grad_()
        reading = estimators.get("smile", clip="both")(replace(scores, joint=matrix.flatten(-2), marginal=matrix))
        (gradient,) = torch.autograd.grad(reading.objective.sum(), matrix)
        assert not reading.estimate.any()
        assert not gradient.any()


# Convolutional networks


def test_a_group_of_channels_is_a_convolution_of_torch():
    generator = torch.Generator().manual_seed(0)
    stack = Convolution(3, 5, runs=2)
    initialize(stack, [generator, generator])
    x = torch.randn(4, 2 * 3, 9, 8, generator=generator)
    for run in range(2):
        alone = nn.Conv2d(3, 5, 3, stride=2, padding=1, bias=False)
        alone.weight.data = stack.weight.data[run].T.reshape(5, 3, 3, 3)
        assert_close(stack(x)[:, 5 * run : 5 * run + 5], alone(x[:, 3 * run : 3 * run + 3]), rtol=0, atol=1e-5)  # float32


def test_a_convolution_starts_as_that_of_torch():
    stack = Convolution(16, 64, runs=1)
    initialize(stack, [torch.Generator().manual_seed(0)])
    theirs = nn.Conv2d(16, 64, 3, bias=False).weight
    bound = (16 * 9) ** -0.5
    assert bound * 0.999 < stack.weight.abs().max() <= bound
    assert bound * 0.999 < theirs.abs().max() <= bound


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("build", [lambda c: ConvEncoder(WIDTHS, classes=c, runs=1, side=32), lambda c: ResNet18(c, 0, side=64)])
def test_photographs_give_non_negative_features_or_logits(build, training):
    x = noise("cifar-10", 6).train_images
    for classes, outputs in ((None, 512), (10, 10)):
        network = build(classes).train(training)
        initialize(network, [torch.Generator().manual_seed(0)])
        values = network(x)
        assert values.shape == (1, 6, outputs)
        assert torch.equal(values, network(x.unsqueeze(0)))
        assert bool((values >= 0).all()) == (classes is None)


@pytest.mark.parametrize("side", [32, 17])
def test_a_stack_of_convolutional_networks_sees_each_run_its_own_images(side):
    x = torch.stack([noise("cifar-10", 12).train_images[:6], noise("cifar-10", 12).train_images[6:]])
    pair = encoders.build("conv", (4, 8, 16), inputs=side, classes=None, seeds=(3, 4))
    for run, seed in enumerate((3, 4)):
        alone = encoders.build("conv", (4, 8, 16), inputs=side, classes=None, seeds=(seed,))
        assert_close(pair(x)[run : run + 1], alone(x[run]), rtol=0, atol=1e-4)  # float32; equal bits are for the widths in use


def test_resnet_follows_its_seed_and_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    one, same, other = (dict(ResNet18(10, seed, side=32).named_parameters()) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(same[name], values) for name, values in one.items())
    assert not torch.equal(other["network.conv1.weight"], one["network.conv1.weight"])
    with pytest.raises(ValueError, match="too many values"):
        encoders.build("resnet18", (), inputs=32, classes=10, seeds=(0, 1))
