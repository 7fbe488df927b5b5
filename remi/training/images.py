"""Labelled images as tensors: digits that come with scikit-learn, CIFAR, and any folder of images."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate
from tqdm import tqdm

from remi.extras import extra
from remi.training import photographs

SIDE = 224  # paper: to which images are resized
CIFAR = {"cifar-10": 10, "cifar-100": 100}  # classes
CIFAR_SIZES = (50_000, 10_000)


@dataclass(frozen=True)
class Images:
    """A split and labelled data set: flat images (n, pixels) in [-1, 1] or photographs (n, 3, h, w) of uint8; labels (n,)."""

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
        return float(0 - torch.special.xlogy(p, p).sum())  # 0 of one class, not -0

    @property
    def sizes(self) -> tuple[int, int]:
        """How many images there are to train on and to test."""
        return len(self.train_labels), len(self.test_labels)

    @cached_property
    def checksum(self) -> str:
        """SHA-256 over the bytes of all four tensors."""
        digest = hashlib.sha256()
        for values in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            digest.update(values.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def balanced(self, size: int) -> "Images":
        """The same with `size` training images, equally many of each class: a fixed draw, in random order.

        Raises:
            ValueError: `size` is not a positive multiple of the number of classes, or a class has too few images.
        """
        share, rest = divmod(size, self.classes)
        smallest = int(torch.bincount(self.train_labels, minlength=self.classes).min())
        if rest or not 0 < share <= smallest:
            raise ValueError(
                f"train_size must be a multiple of {self.classes}, the classes of {self.name}, "
                f"from {self.classes} to {self.classes * smallest}; got {size}"
            )
        order = torch.randperm(len(self.train_labels), generator=torch.Generator().manual_seed(0))
        labels = self.train_labels[order]
        rank = (labels.unsqueeze(1) == torch.arange(self.classes)).cumsum(0).gather(1, labels.unsqueeze(1)).squeeze(1)
        chosen = order[rank <= share]  # the first `share` of each class
        return replace(self, train_images=self.train_images[chosen], train_labels=self.train_labels[chosen])

    def to(self, device: torch.device) -> "Images":
        """The same images on a device."""
        tensors = ("train_images", "train_labels", "test_images", "test_labels")
        return replace(self, **{name: getattr(self, name).to(device) for name in tensors})


@lru_cache
def digits() -> Images:
    """scikit-learn's 1,797 handwritten digits, 8 x 8 pixels, 10 classes: 1,437 to train on and 360 to test, stratified."""
    with extra("paper"):
        from sklearn.datasets import load_digits
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


def data_root() -> Path:
    """Where CIFAR or a folder of images lies: the environment variable REMI_DATA, else `data` beside the package."""
    return Path(os.environ.get("REMI_DATA", Path(__file__).parents[2] / "data"))


def _place(name: str) -> Path:
    """Where a data set lies: in a folder of its name where `data_root` has one with image folders, else in `data_root` itself."""
    root = data_root()
    return root / name if (root / name / "train").is_dir() else root


def cifar10() -> Images:
    """CIFAR-10, 50,000 and 10,000 photographs of 32 x 32 pixels in 10 classes: see `_photographs`."""
    return _photographs("cifar-10", _place("cifar-10"))


def cifar100() -> Images:
    """CIFAR-100, the same numbers in 100 classes."""
    return _photographs("cifar-100", _place("cifar-100"))


def folder() -> Images:
    """The folder of images at `data_root`, whatever its classes."""
    return _photographs("folder", data_root())


def at_hand(name: str) -> bool:
    """True when `DATASETS[name]` needs no download."""
    root = _place(name)
    return name not in CIFAR or (root / "train").is_dir() or any(root.glob(f"{name}-*"))


@lru_cache
def _photographs(name: str, root: Path) -> Images:
    """The image folders `train` and `test` in `root` where they are, else CIFAR as torchvision downloads it into `root`.

    Raises:
        ValueError: the folder's classes are not those of the data set.
        OSError: a file cannot be read or downloaded; the message names it.
    """
    if name == "folder" or (root / "train").is_dir():
        data = read_folder(root, name)
        if name != "folder" and data.classes != CIFAR[name]:
            raise ValueError(f"{name} has {CIFAR[name]} classes, and {root / 'train'} has {data.classes}")
        return data
    return _download(name, root)


def _download(name: str, root: Path) -> Images:
    with extra("paper"):
        from torchvision import datasets

    source: Any = {"cifar-10": datasets.CIFAR10, "cifar-100": datasets.CIFAR100}[name]
    try:
        parts = [source(root, train=train, download=True) for train in (True, False)]
    except (OSError, RuntimeError) as error:
        raise OSError(
            f"{name}: neither image folders `train` and `test` nor {source.filename} with MD5 {source.tgz_md5} in {root}, "
            f"and it could not be downloaded: {error}"
        ) from None
    tensors = [(torch.from_numpy(part.data).movedim(-1, 1).contiguous(), torch.tensor(part.targets)) for part in parts]
    return Images(name, CIFAR[name], *tensors[0], *tensors[1])


def read_folder(root: Path, name: str = "folder") -> Images:
    """Two image folders, `root/train/<class>/*` and `root/test/<class>/*`, as `photographs` lists and reads them.

    Each split is put into a fixed random order: folders list one class after another, and a test batch of one class would have
    neither the statistics nor the pairs of a batch. Images that are not all of one size are resized to 224 x 224 on reading,
    by PIL, as the reference transform does.

    Raises:
        ValueError: the two folders have different classes or fewer than two, a file is no photograph of 8 bits, or all images
            of a split are the same.
        OSError: a folder is missing or empty, or a file is not a whole image; the message names it.
    """
    (classes, train), (others, test) = photographs.listed(root / "train"), photographs.listed(root / "test")
    if classes != others:
        raise ValueError(f"{root / 'train'} and {root / 'test'} must have the same classes, got {classes}, {others}")
    listed = [*train, *test]
    bar = tqdm(listed, desc=f"reading {root}", unit="image", disable=None, leave=False)
    read = [photographs.read(path) for path, _ in bar]
    if len({photograph.size for photograph in read}) > 1:
        read = [photograph.resize((SIDE, SIDE), resample=2) for photograph in read]  # 2: bilinear
    pixels = torch.stack([torch.from_numpy(np.array(photograph)) for photograph in read]).movedim(-1, 1).contiguous()
    labels = torch.tensor([label for _, label in listed])
    n = len(train)
    for split, images in (("train", pixels[:n]), ("test", pixels[n:])):
        if bool((images == images[0]).all()):
            raise ValueError(f"{root / split} must hold images that differ; all {len(images)} are the same, pixel by pixel")
    orders = [torch.randperm(size, generator=torch.Generator().manual_seed(0)) for size in (n, len(listed) - n)]
    first, then = orders[0], n + orders[1]
    return Images(name, len(classes), pixels[first], labels[first], pixels[then], labels[then])


def noise(name: str, size: int) -> Images:
    """As many random photographs and labels as `size`, shaped as those of a CIFAR data set: to take the time of a training."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (size, 3, 32, 32), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, CIFAR[name], (size,), generator=generator)
    return Images("noise", CIFAR[name], images, labels, images, labels)


def normalized(photographs: Tensor, side: int) -> Tensor:
    """Photographs (n, channels, h, w) of uint8 as float in [-1, 1], resized to `side` x `side` where they have another size.

    It is torchvision's Resize, ToTensor and Normalize(0.5, 0.5), on the device and without PIL's rounding of the resized image
    to whole grey levels: at most one of 255 levels apart, that is 2/255.
    """
    values = photographs.to(torch.get_default_dtype())
    if values.shape[-2:] != (side, side):
        values = interpolate(values, (side, side), mode="bilinear", antialias=True)
    return values / 127.5 - 1


DATASETS: dict[str, Callable[[], Images]] = {
    "digits": digits,
    "digit-pairs": digit_pairs,
    "cifar-10": cifar10,
    "cifar-100": cifar100,
    "folder": folder,
}
