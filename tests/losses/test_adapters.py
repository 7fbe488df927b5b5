"""In other libraries' own calls InfoNCE is their loss, in value up to the logarithm of the candidates and in gradient."""

import inspect
import math

import pytest
import torch
from torch.testing import assert_close

from remi.losses import Loss, adapters

N = 8


def views():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(N, 5, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(2)]


def same(ours, theirs, leaves, candidates):
    """Equal to 1e-6, but for the constant; `reinfonce` without weight is InfoNCE."""
    assert_close(ours, theirs - math.log(candidates), rtol=0, atol=1e-6)
    gradients = [torch.autograd.grad(value, leaves) for value in (ours, theirs)]
    assert_close(*gradients, rtol=0, atol=1e-6)


def library(name):
    """The library, whose own import may warn; a reason to skip where it is not installed."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name, reason=f"{name} is not installed")


@pytest.mark.parametrize("adapter", [adapters.MetricLearning, adapters.OpenClip, adapters.SentenceTransformers])
def test_an_adapter_is_short(adapter):
    assert len(inspect.getsource(adapter).splitlines()) <= 40


def test_pytorch_metric_learning():
    losses = library("pytorch_metric_learning.losses")
    z, labels = torch.cat(views()), torch.arange(N).repeat(2)  # two of every class
    for theirs in (losses.NTXentLoss(temperature=0.3), losses.SupConLoss(temperature=0.3)):
        criterion = adapters.MetricLearning(Loss("reinfonce", lam=0, temperature=0.3))
        same(criterion(z, labels), theirs(z, labels), z, 2 * N - 1)
    labels = torch.arange(4).repeat(4)  # four of every class
    same(criterion(z, labels), theirs(z, labels), z, 2 * N - 1)
    with pytest.raises(ValueError, match="indices_tuple must be None"):
        criterion(z, labels, (labels, labels, labels))


def test_lightly():
    loss = library("lightly.loss")
    z1, z2 = views()
    ours = Loss("reinfonce", lam=0, temperature=0.3)(z1, z2, labels=range(N))
    same(ours, loss.NTXentLoss(temperature=0.3)(z1, z2), [z1, z2], 2 * N - 1)


def test_open_clip():
    open_clip = library("open_clip")
    z1, z2 = (torch.nn.functional.normalize(z, dim=-1).detach().requires_grad_() for z in views())
    scale = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    criterion = adapters.OpenClip(Loss("reinfonce", lam=0, temperature=1.0, normalize=False))
    ours = criterion(image_features=z1, text_features=z2, logit_scale=scale, output_dict=True)
    theirs = open_clip.loss.ClipLoss()(image_features=z1, text_features=z2, logit_scale=scale, output_dict=True)
    assert ours.keys() == theirs.keys()
    same(*(sum(found.values()) for found in (ours, theirs)), [z1, z2, scale], N)
    bias = -3.0
    sigmoid = adapters.OpenClip(Loss("sigmoid", bias=bias, temperature=1.0, normalize=False))
    same(sigmoid(z1, z2, scale), open_clip.loss.SigLipLoss()(z1, z2, scale, bias), [z1, z2, scale], 1)
    with pytest.raises(ValueError, match=r"temperature=1.0 and normalize=False"):
        adapters.OpenClip(Loss("infonce"))
    with pytest.raises(ValueError, match="logit_bias must be None"):
        criterion(z1, z2, scale, logit_bias=scale)


@pytest.mark.parametrize("columns", [2, 3])
def test_sentence_transformers(columns):
    sentence_transformers = library("sentence_transformers")
    losses = library("sentence_transformers.sentence_transformer.losses")

    class Table(torch.nn.Module):
        """A model that needs no download: a vector per sentence."""

        def __init__(self):
            super().__init__()
            self.table = torch.nn.Embedding(100, 5, dtype=torch.float64)

        def forward(self, features):
            return features | {"sentence_embedding": self.table(features["input_ids"])}

    model = sentence_transformers.SentenceTransformer(modules=[Table()], device="cpu")
    features = [{"input_ids": torch.arange(N) + N * column} for column in range(columns)]
    criterion = adapters.SentenceTransformers(model, Loss("reinfonce", lam=0, temperature=1 / 20, symmetric=False))
    theirs = losses.MultipleNegativesRankingLoss(model, scale=20.0)(features, None)
    same(criterion(features), theirs, list(model.parameters()), N * (columns - 1))
