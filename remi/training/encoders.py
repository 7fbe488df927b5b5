"""The encoders that the image benchmarks train: stacks of small networks, and torchvision's ResNet-18."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm, conv2d, normalize

from remi.extras import extra
from remi.training.critics import Linear, initialize
from remi.training.images import normalized

MOMENTUM, EPSILON = 0.1, 1e-5  # of BatchNorm; PyTorch's defaults
NETWORKS = {"mlp": 1, "mlp-signed": 1, "mlp-unit": 1, "conv": 2, "resnet18": 0}  # and how many layer sizes they need at least
LENGTH = 10**0.5  # of the features of "mlp-unit": scores between -10 and 10, where SMILE clips; others say temperature 0.1


class BatchNorm(nn.Module):
    """Batch normalisation of a stack (runs, n, features): every run has its own statistics, as if it were alone."""

    def __init__(self, features: int, runs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(runs, features))
        self.bias = nn.Parameter(torch.zeros(runs, features))
        self.register_buffer("running_mean", torch.zeros(runs * features))
        self.register_buffer("running_var", torch.ones(runs * features))

    def forward(self, x: Tensor) -> Tensor:
        """(runs, n, features) -> (runs, n, features)."""
        runs, n, features = x.shape
        normal = self.channels(x.transpose(0, 1).reshape(n, runs * features))
        return normal.view(n, runs, features).transpose(0, 1)

    def channels(self, x: Tensor) -> Tensor:
        """(n, runs * features, ...) -> the same: a channel per feature of each run, so that one call serves the stack."""
        mean, variance = self.buffers()
        return batch_norm(x, mean, variance, self.weight.reshape(-1), self.bias.reshape(-1), training=self.training)


class _Rectified(torch.autograd.Function):
    """ReLU(BatchNorm(x W)) of a stack: one pass per step, n-major, and the gradient of W goes where it belongs.

    Between the layers a batch lies as (n, runs, features), so that features of all runs are channels side by side; a product
    of MKL takes and leaves a run of it in place.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, gain: Tensor, shift: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        runs, n, _ = x.shape
        product = x.new_empty(n, runs, weight.shape[-1])
        torch.bmm(x, weight, out=product.transpose(0, 1))
        gain = gain.reshape(-1)
        normal, *statistics = torch.native_batch_norm(
            product.view(n, -1), gain, shift.reshape(-1), mean, variance, True, MOMENTUM, EPSILON
        )
        y = normal.clamp_min_(0.0).view_as(product)
        ctx.save_for_backward(x, weight, gain, product, y, *statistics)
        ctx.place = getattr(weight, "place", None)
        return y.transpose(0, 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, gain, product, y, *statistics = ctx.saved_tensors
        n, runs, features = y.shape
        behind = torch.empty_like(y)
        torch.ops.aten.threshold_backward.grad_input(gradient.transpose(0, 1), y, 0.0, grad_input=behind)
        before, d_gain, d_shift = torch.ops.aten.native_batch_norm_backward(
            behind.view(n, -1), product.view(n, -1), gain, None, None, *statistics, True, EPSILON, [True] * 3
        )
        before = before.view_as(y).transpose(0, 1)
        d_weight = torch.bmm(x.transpose(1, 2), before, out=ctx.place)
        d_x = torch.bmm(before, weight.transpose(1, 2)) if ctx.needs_input_grad[0] else None
        return d_x, d_weight, d_gain.view(runs, features), d_shift.view(runs, features), None, None


class Layer(nn.Module):
    """ReLU(BatchNorm(x W + b)) of a stack, (runs, n, inputs) -> (runs, n, outputs).

    In training, the mean of the batch takes b back: it moves the running mean alone, and its gradient is zero.
    """

    def __init__(self, inputs: int, outputs: int, runs: int) -> None:
        super().__init__()
        self.linear, self.norm = Linear(inputs, outputs, runs=runs), BatchNorm(outputs, runs)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        weight, bias, gain, shift = self.parameters()
        if not self.training or torch.is_autocast_enabled(x.device.type):
            return self.norm(self.linear(x)).relu()
        mean, variance = self.norm.buffers()
        y = _Rectified.apply(x.expand(len(weight), -1, -1), weight, gain, shift, mean, variance)
        mean.add_(bias.detach().reshape(-1), alpha=MOMENTUM)
        return y


class Convolution(Linear):
    """A 3 x 3 convolution of stride 2 for a stack: a linear layer on every patch, with weight (runs, inputs * 9, outputs)."""

    def __init__(self, inputs: int, outputs: int, runs: int) -> None:
        super().__init__(inputs * 9, outputs, bias=False, runs=runs)  # a BatchNorm follows and would take a bias back

    def forward(self, x: Tensor) -> Tensor:
        """(n, runs * inputs, h, w) -> (n, runs * outputs, ceil(h / 2), ceil(w / 2)): a group of channels is a run."""
        runs, patch, outputs = self.weight.shape
        kernels = self.weight.transpose(1, 2).reshape(runs * outputs, patch // 9, 3, 3)
        return conv2d(x, kernels, stride=2, padding=1, groups=runs)


def mlp_encoder(sizes: Sequence[int], *, classes: int | None, runs: int, features: str = "") -> nn.Sequential:
    """Linear, BatchNorm and ReLU for each pair of sizes: a stack of `runs` encoders with non-negative features.

    With `classes`, one linear layer more gives logits, as the supervised benchmark needs. Where `features` says "signed", the
    last layer has no ReLU; where it says "unit", they have one length.
    """
    pairs = list(pairwise(sizes))
    layers: list[nn.Module] = [Layer(*pair, runs) for pair in pairs]
    if features == "signed":
        layers[-1:] = [Linear(*pairs[-1], runs=runs), BatchNorm(pairs[-1][1], runs)]
    if features == "unit":
        layers.append(Unit())
    if classes is not None:
        layers.append(Linear(sizes[-1], classes, runs=runs))
    return nn.Sequential(*layers)


class Unit(nn.Module):
    """Features of one length."""

    def forward(self, z: Tensor) -> Tensor:
        """(..., features) -> the same."""
        return LENGTH * normalize(z, dim=-1)


class ConvEncoder(nn.Module):
    """A stack of `runs` small convolutional networks on photographs.

    Convolution, BatchNorm and ReLU for each size but the last, each halving the image, and one layer of `mlp_encoder` from all
    that is left of it to the last size: a mean over the image would leave features so alike that the scores start far apart.

    Args:
        sizes: channels of the convolutions, and the number of features.
        classes: for logits; None for features.
        runs: size of the stack.
        side: photographs come in this size, or are resized to it.
    """

    def __init__(self, sizes: Sequence[int], *, classes: int | None, runs: int, side: int) -> None:
        super().__init__()
        self.runs, self.side = runs, side
        self.convolutions = nn.ModuleList(Convolution(inputs, outputs, runs) for inputs, outputs in pairwise((3, *sizes[:-1])))
        self.norms = nn.ModuleList(BatchNorm(outputs, runs) for outputs in sizes[:-1])
        left = -(-side // 2 ** len(self.norms))
        self.head = mlp_encoder((sizes[-2] * left**2, sizes[-1]), classes=classes, runs=runs)

    def forward(self, photographs: Tensor) -> Tensor:
        """(n, 3, h, w), or (runs, n, 3, h, w), of uint8 -> (runs, n, outputs)."""
        stack = photographs.expand(self.runs, *photographs.shape[-4:]).transpose(0, 1).flatten(1, 2)
        x = normalized(stack, self.side).contiguous(memory_format=torch.channels_last)  # else bits depend on the stack's size
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            pixels = convolution(x).permute(
                0, 2, 3, 1
            )  # a row each: BatchNorm and ReLU are a third of the time that they take else
            rows = norm.channels(pixels.flatten(0, 2)).relu()  # type: ignore[operator]
            x = rows.view(pixels.shape).permute(0, 3, 1, 2)
        return self.head(x.reshape(len(x), self.runs, -1).transpose(0, 1))


class ResNet18(nn.Module):
    """torchvision's ResNet-18 as a stack of one: logits, or with `classes` None its 512 pooled, non-negative features."""

    def __init__(self, classes: int | None, seed: int, side: int) -> None:
        with extra("paper"):
            from torchvision.models import resnet18

        super().__init__()
        self.side = side
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.network = resnet18(num_classes=classes or 1)
        if classes is None:
            self.network.fc = nn.Identity()

    def forward(self, photographs: Tensor) -> Tensor:
        """(n, 3, h, w), or (1, n, 3, h, w), of uint8 -> (1, n, outputs)."""
        x = normalized(photographs.flatten(0, -4), self.side)
        return self.network(x.contiguous(memory_format=torch.channels_last)).unsqueeze(0)


def build(network: str, hidden: Sequence[int], *, inputs: int, classes: int | None, seeds: Sequence[int]) -> nn.Module:
    """A stack of encoders, one per seed and drawn from that seed alone.

    Args:
        network: one of `NETWORKS`.
        hidden: layer sizes; ResNet-18 has its own.
        inputs: pixels of a flat image for an "mlp", pixels of a photograph's side for the others, which resize to it.
        classes: for logits; None for features.
        seeds: one per run; ResNet-18 is a stack of one.
    """
    if network == "resnet18":
        (seed,) = seeds
        return ResNet18(classes, seed, side=inputs)
    kind, _, features = network.partition("-")
    stack = (
        mlp_encoder([inputs, *hidden], classes=classes, runs=len(seeds), features=features)
        if kind == "mlp"
        else ConvEncoder(hidden, classes=classes, runs=len(seeds), side=inputs)
    )
    initialize(stack, [torch.Generator().manual_seed(seed) for seed in seeds])
    return stack


def multiplications(network: str, hidden: Sequence[int], side: int) -> float:
    """Roughly, of one image's way forward: what puts costly stacks first."""
    if network == "resnet18":
        return 1.8e9 * (side / 224) ** 2
    if network.startswith("mlp"):
        return sum(inputs * outputs for inputs, outputs in pairwise((64, *hidden)))
    return sum(9 * a * b * (side / 2**depth) ** 2 for depth, (a, b) in enumerate(pairwise((3, *hidden[:-1])), 1))
