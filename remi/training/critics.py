"""Networks that give every pair (x, y) a score T(x, y), one at a time or a stack of independent runs at once.

A stack has one more leading dimension, the run, on every parameter and every input; nothing is shared between runs.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


class Linear(nn.Module):
    """x @ weight + bias with weight (runs, inputs, outputs); (inputs, outputs) when `runs` is None."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool = True, runs: int | None = None) -> None:
        super().__init__()
        lead = () if runs is None else (runs,)
        self.weight = nn.Parameter(torch.zeros(*lead, inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(*lead, 1, outputs)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """(..., n, inputs) -> (..., n, outputs)."""
        # a product with one column takes another kernel, with other bits, for a stack of one
        product = x @ self.weight if self.weight.shape[-1] > 1 else (x * self.weight.transpose(-1, -2)).sum(-1, keepdim=True)
        return product if self.bias is None else product + self.bias


def mlp(sizes: Sequence[int], *, output_bias: bool = True, runs: int | None = None) -> nn.Sequential:
    """Linear layers of these sizes with ReLU between them."""
    layers: list[nn.Module] = []
    for index, (inputs, outputs) in enumerate(pairwise(sizes)):
        last = index == len(sizes) - 2
        layers += [Linear(inputs, outputs, bias=output_bias or not last, runs=runs)] + [nn.ReLU(inplace=True)] * (not last)
    return nn.Sequential(*layers)


def initialize(network: nn.Module, generators: Sequence[torch.Generator], std: float | None = None) -> None:
    """Draw every linear layer, run r from generator r, so that a run's start does not depend on its stack.

    PyTorch's default U(-1/sqrt(fan_in), 1/sqrt(fan_in)) for weights and biases; with `std`, N(0, std^2) weights, zero biases.
    """
    for layer in network.modules():
        if not isinstance(layer, Linear):
            continue
        stacked = layer.weight.ndim == 3
        bound = 1 / math.sqrt(layer.weight.shape[-2])
        for parameter in (layer.weight, layer.bias):
            if parameter is None:
                continue
            for values, generator in zip(parameter.data if stacked else [parameter.data], generators, strict=True):
                if std is None:
                    values.uniform_(-bound, bound, generator=generator)
                elif parameter is layer.weight:
                    values.normal_(0, std, generator=generator)


class ConcatCritic(nn.Module):
    """T(x, y) = MLP([x, y]).

    The first layer is linear in x and in y, so a matrix of n x n pairs needs it 2n times, not n^2 times. With several outputs
    for a pair these come first: (outputs, ..., n), as if each were a run.
    """

    def __init__(
        self,
        dim_x: int,
        dim_y: int,
        hidden: Sequence[int],
        *,
        output_bias: bool = True,
        outputs: int = 1,
        runs: int | None = None,
    ) -> None:
        super().__init__()
        self.dim_x = dim_x
        self.first = Linear(dim_x + dim_y, hidden[0], runs=runs)
        self.rest = mlp([*hidden, outputs], output_bias=output_bias, runs=runs)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """(..., n, dim_x) and (..., n, dim_y) -> (..., n): each x with its own y."""
        left, right = self._halves(x, y)
        return self._outputs((left + right).relu())

    def matrix(self, x: Tensor, y: Tensor) -> Tensor:
        """(..., n, dim_x) and (..., m, dim_y) -> (..., n, m): row i is anchored at x_i."""
        left, right = self._halves(x, y)
        hidden = (left.unsqueeze(-2) + right.unsqueeze(-3)).relu_()
        return self._outputs(hidden.flatten(-3, -2)).unflatten(-1, hidden.shape[-3:-1])

    def _outputs(self, hidden: Tensor) -> Tensor:
        values = self.rest(hidden)
        return values.squeeze(-1) if values.shape[-1] == 1 else values.movedim(-1, 0)

    def _halves(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        weight, bias = self.first.parameters()
        return x @ weight[..., : self.dim_x, :] + bias, y @ weight[..., self.dim_x :, :]


class SeparableCritic(nn.Module):
    """T(x, y) = f(x) . g(y), two encoders; the inner-product critic f(x) . f(y) when g is f."""

    def __init__(self, encoder_x: nn.Module, encoder_y: nn.Module | None = None) -> None:
        super().__init__()
        self.encoder_x = encoder_x
        self.encoder_y = encoder_x if encoder_y is None else encoder_y

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """(..., n, dim_x) and (..., n, dim_y) -> (..., n): each x with its own y."""
        return (self.encoder_x(x) * self.encoder_y(y)).sum(-1)

    def matrix(self, x: Tensor, y: Tensor) -> Tensor:
        """(..., n, dim_x) and (..., m, dim_y) -> (..., n, m): row i is anchored at x_i."""
        return self.encoder_x(x) @ self.encoder_y(y).transpose(-1, -2)
