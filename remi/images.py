"""Labelled images as tensors, and the encoders that the supervised and contrastive benchmarks train."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm

from remi.critics import Linear


@dataclass(frozen=True)
class Images:
    """A split and labelled data set: flat images (n, pixels) in [-1, 1], labels (n,)."""

    name: str
    classes: int
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor

    @property
    def true_mi(self) -> float:
        """H(Y) of the training labels in nats: the true value of both benchmarks (Theorems 7 and 8)."""
        p = torch.bincount(self.train_labels, minlength=self.classes).double() / len(self.train_labels)
        return float(-torch.special.xlogy(p, p).sum())

    @cached_property
    def checksum(self) -> str:
        """SHA-256 over the bytes of all four tensors."""
        digest = hashlib.sha256()
        for values in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            digest.update(values.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def to(self, device: torch.device) -> "Images":
        """The same images on a device."""
        tensors = ("train_images", "train_labels", "test_images", "test_labels")
        return replace(self, **{name: getattr(self, name).to(device) for name in tensors})


@lru_cache
def digits() -> Images:
    """scikit-learn's 1,797 handwritten digits, 8 x 8 pixels, 10 classes: 1,437 to train on and 360 to test, stratified."""
    from sklearn.datasets import load_digits  # here: most commands never need the images
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    parts = train_test_split(images / 8 - 1, labels, test_size=360, stratify=labels, random_state=0)
    train_images, test_images = (torch.tensor(part, dtype=torch.float32) for part in parts[:2])
    train_labels, test_labels = (torch.tensor(part, dtype=torch.long) for part in parts[2:])
    return Images("digits", 10, train_images, train_labels, test_images, test_labels)


@lru_cache
def digit_pairs(train: int = 5000, test: int = 2000) -> Images:
    """Two digits side by side, 8 x 16 pixels, label 10 a + b: 100 classes, exactly uniform.

    Pairs are built inside each split of `digits`, so that no digit of the test split is in a training pair.
    """
    source = digits()
    rng = np.random.default_rng(0)
    train_images, train_labels = _pairs(source.train_images, source.train_labels, train, rng)
    test_images, test_labels = _pairs(source.test_images, source.test_labels, test, rng)
    return Images("digit-pairs", 100, train_images, train_labels, test_images, test_labels)


def _pairs(images: Tensor, labels: Tensor, count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    if count % 100:
        raise ValueError(f"the number of pairs must be a multiple of 100 for uniform labels, got {count}")
    pair_labels = rng.permutation(np.repeat(np.arange(100), count // 100))
    members = [np.flatnonzero(labels.numpy() == digit) for digit in range(10)]
    left, right = (
        np.array([rng.choice(members[digit]) for digit in digits_of_side]) for digits_of_side in np.divmod(pair_labels, 10)
    )
    both = [images[torch.from_numpy(side)].unflatten(-1, (8, 8)) for side in (left, right)]
    return torch.cat(both, dim=-1).flatten(-2), torch.from_numpy(pair_labels)


DATASETS: dict[str, Callable[[], Images]] = {"digits": digits, "digit-pairs": digit_pairs}


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
        channels = x.transpose(0, 1).reshape(n, runs * features)  # a channel per feature of each run: one call serves the stack
        mean, variance = self.buffers()
        normal = batch_norm(channels, mean, variance, self.weight.reshape(-1), self.bias.reshape(-1), training=self.training)
        return normal.view(n, runs, features).transpose(0, 1)


def encoder(sizes: Sequence[int], *, classes: int | None, runs: int) -> nn.Sequential:
    """Linear, BatchNorm and ReLU for each pair of sizes: a stack of `runs` encoders with non-negative features.

    With `classes`, one linear layer more gives logits, as the supervised benchmark needs.
    """
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [Linear(inputs, outputs, runs=runs), BatchNorm(outputs, runs), nn.ReLU()]
    if classes is not None:
        layers.append(Linear(sizes[-1], classes, runs=runs))
    return nn.Sequential(*layers)
