"""The same trainings as people write them: what `benchmarks/speed.py` times beside ours. Nothing here is imported by `remi`.

Every function returns a function that takes a number of steps and trains on, for that many; only this is timed.
"""

import math
import random
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.optim.adam import adam
from torch.utils.data import DataLoader, Dataset

Training = Callable[[int], Any]


def donsker_varadhan(joint: Tensor, marginal: Tensor) -> Tensor:
    """MINE, for one run."""
    return joint.mean() - marginal.logsumexp(0) + math.log(len(marginal))


def views_by_hand(loss: Callable[[Tensor], Tensor], n: int = 4096, d: int = 128) -> Training:
    """A loss of two views' scores at temperature 0.1, as people write it, and its gradient."""
    views = [torch.randn(n, d, requires_grad=True) for _ in range(2)]

    def train(steps: int) -> None:
        for _ in range(steps):
            z1, z2 = (nn.functional.normalize(z, dim=-1) for z in views)
            loss(z1 @ z2.T / 0.1).backward()

    return train


def remine_by_hand(scores: Tensor, lam: float = 0.1) -> Tensor:
    """ReMINE of a matrix whose diagonal is joint."""
    n = len(scores)
    others = scores.masked_fill(torch.eye(n, dtype=torch.bool), -torch.inf)
    normalizer = others.logsumexp((0, 1)) - math.log(n * (n - 1))
    return normalizer - scores.diagonal().mean() + lam * normalizer**2


def clip_by_hand(scores: Tensor) -> Tensor:
    """InfoNCE over rows and over columns."""
    labels = torch.arange(len(scores))
    return (nn.functional.cross_entropy(scores, labels) + nn.functional.cross_entropy(scores.T, labels)) / 2


def one_hot_network(symbols: int, hidden: int) -> nn.Sequential:
    """The critic of Section 3."""
    return nn.Sequential(nn.Linear(2 * symbols, hidden), nn.ReLU(), nn.Linear(hidden, 1, bias=False))


def one_hot_plain(symbols: int = 16, hidden: int = 64, batch: int = 32, lr: float = 0.1) -> Training:
    """A well-written loop: samples as tensors, no synchronisation."""
    network, eye = one_hot_network(symbols, hidden), torch.eye(symbols)
    optimizer = torch.optim.SGD(network.parameters(), lr=lr)

    def train(steps: int) -> list[Tensor]:
        history = []
        for _ in range(steps):
            x, u, v = eye[torch.randint(symbols, (3, batch))]
            estimate = donsker_varadhan(network(torch.cat([x, x], 1)).squeeze(1), network(torch.cat([u, v], 1)).squeeze(1))
            optimizer.zero_grad()
            (-estimate).backward()
            optimizer.step()
            history.append(estimate.detach())
        return history

    return train


class Symbols(Dataset[Tensor]):
    """Pairs (x, x) of one-hot vectors, sampled one by one in Python."""

    def __init__(self, symbols: int, batch: int) -> None:
        self.symbols, self.batch = symbols, batch

    def __len__(self) -> int:
        return self.batch

    def __getitem__(self, index: int) -> Tensor:
        vector = torch.zeros(self.symbols)
        vector[random.randrange(self.symbols)] = 1
        return torch.cat([vector, vector])


def one_hot_released(symbols: int = 16, hidden: int = 64, batch: int = 32, lr: float = 0.1) -> Training:
    """In the manner of the released code: Python sampling, a DataLoader, four `.item()` a step, a history that is copied."""
    network = one_hot_network(symbols, hidden)
    optimizer = torch.optim.SGD(network.parameters(), lr=lr)
    history = pd.DataFrame()

    def train(steps: int) -> pd.DataFrame:
        nonlocal history
        for _ in range(steps):
            for pairs in DataLoader(Symbols(symbols, batch), batch_size=batch):
                x, y = pairs.split(symbols, 1)
                joint = network(pairs).squeeze(1)
                marginal = network(torch.cat([x, y[torch.randperm(batch)]], 1)).squeeze(1)
                estimate = donsker_varadhan(joint, marginal)
                optimizer.zero_grad()
                (-estimate).backward()
                optimizer.step()
                row = {
                    "estimate": estimate.item(),
                    "joint": joint.mean().item(),
                    "marginal": (marginal.logsumexp(0) - math.log(batch)).item(),
                    "output": joint[0].item(),
                }
                history = pd.concat([history, pd.DataFrame([row])], ignore_index=True)
        return history

    return train


def correlated(batch: int, dim: int, mi: float) -> tuple[Tensor, Tensor]:
    """Gaussians with `mi` nats."""
    rho = math.sqrt(1 - math.exp(-2 * mi / dim))
    x, noise = torch.randn(2, batch, dim)
    return x, rho * x + math.sqrt(1 - rho**2) * noise


def gaussian_torch_mist(dim: int = 20, hidden: int = 256, batch: int = 64, lr: float = 5e-4) -> Training:
    """torch-mist's joint critic on all pairs of a batch; `pip install torch-mist`."""
    from pyro.nn import DenseNN
    from torch_mist.critic.joint import JointCritic
    from torch_mist.estimators.discriminative import NWJ

    estimator = NWJ(critic=JointCritic(DenseNN(2 * dim, [hidden, hidden], [1])), neg_samples=0)
    optimizer = torch.optim.Adam(estimator.parameters(), lr=lr)

    def train(steps: int) -> list[Tensor]:
        history = []
        for _ in range(steps):
            loss = estimator.loss(*correlated(batch, dim, 2.0))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            history.append(loss.detach())
        return history

    return train


# ---- The encoders' step as it was ---------------------------------------------------------------------------------------------


def layer_before(layer: Any, x: Tensor) -> Tensor:
    """Product, bias, BatchNorm and ReLU, one after another, and autograd for their gradients."""
    return layer.norm(layer.linear(x)).relu()


def gram_before(z: Tensor) -> Tensor:
    """A product with itself, whose gradient is two products."""
    return z @ z.transpose(-1, -2)


def differentiate_before(parameters: Any, loss: Tensor) -> None:
    """Gradients of every parameter, copied to where the update reads them."""
    for part, gradient in zip(parameters._gradients, torch.autograd.grad(loss, parameters.parts), strict=True):
        part.copy_(gradient)


def adam_before(rule: Any, parameters: Any, mask: Tensor) -> None:
    """A call of the fused Adam per run."""
    rows = zip(*(whole.unbind() for whole in (parameters.values, parameters.gradient, *rule.tensors(parameters))), strict=True)
    for (values, gradient, mean, square, count), skip in zip(rows, (~mask).float().unbind(), strict=True):
        adam(
            [values], [gradient], [mean], [square], [], [count], found_inf=skip, fused=True, lr=rule.lr, beta1=0.9,
            beta2=0.999, eps=1e-8, weight_decay=0, amsgrad=False, maximize=False,
        )  # fmt: skip


def step_before(start: Callable[[], Training]) -> Callable[[], Training]:
    """The training that `start` begins, with these four in place of the package's; `start` does not record its steps."""

    def begin() -> Training:
        train = start()

        def other(steps: int) -> None:
            with (
                patch("remi.training.encoders.Layer.forward", layer_before),
                patch("remi.losses.scores._Gram.apply", gram_before),
                patch("remi.training.loop.FlatParameters.differentiate", differentiate_before),
                patch("remi.training.loop.Adam.update", adam_before),
            ):
                train(steps)

        return other

    return begin


class Photographs(Dataset[tuple[Tensor, int]]):
    """Images that torchvision's transforms resize one by one."""

    def __init__(self, images: np.ndarray[Any, Any], labels: np.ndarray[Any, Any], side: int) -> None:
        from torchvision import transforms

        self.images, self.labels = images, labels
        self.transform = transforms.Compose(
            [
                transforms.ToPILImage(),
                transforms.Resize(side),
                transforms.ToTensor(),
                transforms.Normalize((0.5,) * 3, (0.5,) * 3),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.images[index]), int(self.labels[index])


def photographs_plain(
    images: np.ndarray[Any, Any],
    labels: np.ndarray[Any, Any],
    *,
    device: str,
    batch: int,
    side: int = 224,
    workers: int = 8,
    lr: float = 1e-3,
) -> Training:
    """ResNet-18 on the contrastive benchmark as the authors train it: PIL, worker processes, `.item()` at every step.

    Args:
        images: (n, h, w, 3) of uint8.
        labels: (n,).
        device: where the network is.
        batch: images a step.
        side: to which they are resized.
        workers: processes of the DataLoader.
        lr: Adam's.
    """
    from torchvision.models import resnet18

    network = resnet18()
    network.fc = nn.Identity()
    network.to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=lr)
    loader = DataLoader(Photographs(images, labels, side), batch, shuffle=True, num_workers=workers, drop_last=True)

    def endless() -> Any:
        while True:
            yield from loader

    batches = endless()

    def train(steps: int) -> list[float]:
        history = []
        for _ in range(steps):
            inputs, targets = next(batches)
            features, targets = network(inputs.to(device)), targets.to(device)
            scores = features @ features.T
            others = ~torch.eye(batch, dtype=torch.bool, device=device)
            same = (targets[:, None] == targets[None, :]) & others
            if not same.any():
                continue
            estimate = donsker_varadhan(scores[same], scores[others])
            optimizer.zero_grad()
            (-estimate).backward()
            optimizer.step()
            history.append(estimate.item())
        return history

    return train
