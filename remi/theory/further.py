"""Tasks with known mutual information that the forty of "Beyond Normal" leave out: codes, many columns, many nats, images.

Independence, a noisy channel, tables of K x K codes from K rows on, fewer rows than columns, correlated normals of up to 10 nats,
and pairs of images of the same class behind a binary symmetric channel.
"""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import entr, xlogy

from remi.theory.known import Array, Law, Pair, Task, normal, paired
from remi.training import images

KINDS = {"independent": 0.0, "noisy": 0.7, "deterministic": 1.0, "zipf": 0.7}  # share of rows in which y repeats x
LEVELS = 20, 100
NATS = 2, 4, 6, 8, 10
BITS = 2, 4, 6, 8, 10
PATCHES = 10  # images side by side; each carries a bit


# ---- Codes --------------------------------------------------------------------------------------------------------------


def table(probabilities: ArrayLike) -> Law:
    """Codes 0 to K - 1 on either side, from the (K, K) table of their joint probabilities.

    I = sum of p(x, y) log p(x, y) / (p(x) p(y))
    """
    p = np.asarray(probabilities, float)
    with np.errstate(divide="ignore"):
        ratios = np.log(p) - np.log(p.sum(1, keepdims=True)) - np.log(p.sum(0))

    def draw(rng: np.random.Generator, n: int) -> Pair:
        x, y = np.divmod(rng.choice(p.size, n, p=p.ravel()), p.shape[1])
        return x[:, None].astype(float), y[:, None].astype(float)

    def log_ratio(x: Array, y: Array) -> Array:
        return ratios[x[:, 0].astype(int), y[:, 0].astype(int)]

    mi = xlogy(p, p).sum() - xlogy(p.sum(1), p.sum(1)).sum() - xlogy(p.sum(0), p.sum(0)).sum()
    return Law(round(float(mi), 12) + 0.0, draw, log_ratio)  # 0, and not -4e-15, where they are independent


def repeated(frequencies: ArrayLike, share: float) -> Law:
    """In a share of the rows y is the code of x, in the others it is drawn anew, from the same frequencies."""
    f = np.asarray(frequencies, float) / np.sum(frequencies)
    return table(share * np.diag(f) + (1 - share) * np.outer(f, f))


def codes(kind: str, levels: int) -> Law:
    """One of `KINDS` on so many levels: equally frequent ones or, for "zipf", ones with frequency 1 / rank."""
    return repeated(1 / np.arange(1, levels + 1) if kind == "zipf" else np.ones(levels), KINDS[kind])


# ---- Normals ------------------------------------------------------------------------------------------------------------


def correlated(dim: int, mi: float) -> Law:
    """Column i of x and column i of y correlate, all equally, so that there are so many nats."""
    return paired(dim, dim, math.sqrt(1 - math.exp(-2 * mi / dim)))


def needle(columns: int) -> Law:
    """One column of y depends on one of so many of x: y = (x_1 + noise) / sqrt(2), half a log 2."""
    covariance = np.eye(columns + 1)
    covariance[0, -1] = covariance[-1, 0] = math.sqrt(0.5)
    return normal(covariance, columns)


# ---- Images -------------------------------------------------------------------------------------------------------------


@lru_cache
def digits() -> tuple[Array, NDArray[np.bool_]]:
    """Zeros and ones of scikit-learn's digits: the pixels that vary (images, pixels), and which are ones; zeros come first.

    Raises:
        ExtraError: scikit-learn is not installed.
    """
    data = images.DATASETS["digits"]()
    pixels = np.concatenate([data.train_images.numpy(), data.test_images.numpy()]).reshape(-1, 4, 2, 4, 2).mean((2, 4))
    labels = np.concatenate([data.train_labels.numpy(), data.test_labels.numpy()])
    chosen = np.concatenate([pixels[labels == 0], pixels[labels == 1]]).reshape(-1, 16).astype(float)
    ones = np.arange(len(chosen)) >= np.count_nonzero(labels == 0)
    return chosen[:, np.ptp(chosen, 0) > 0], ones


def same_class(bits: float) -> Law:
    """Numbers of images, (n, 10) on either side; those of a pair are of the same class unless the channel flips the bit.

    Ten fair bits choose the classes of x; each reaches y through a binary symmetric channel whose crossover leaves bits / 10 of
    it. An image shows its class, and beyond it nothing that x and y share: I = bits log 2.

    Source: Lee and Rhee (NeurIPS 2024), "A Benchmark Suite for Evaluating Neural Mutual Information Estimators on Unstructured
    Datasets", on their own images.
    """
    lost = 1 - bits / PATCHES
    flip = float(brentq(lambda p: (entr(p) + entr(1 - p)) / math.log(2) - lost, 0, 0.5)) if lost else 0.0

    def draw(rng: np.random.Generator, n: int) -> Pair:
        ones = digits()[1]
        zeros = int((~ones).sum())
        x = rng.random((n, PATCHES)) < 0.5
        y = x ^ (rng.random((n, PATCHES)) < flip)
        first, second = (np.where(z, rng.integers(zeros, len(ones), z.shape), rng.integers(zeros, size=z.shape)) for z in (x, y))
        return first.astype(float), second.astype(float)

    def log_ratio(x: Array, y: Array) -> Array:
        flipped = np.count_nonzero(digits()[1][x.astype(int)] ^ digits()[1][y.astype(int)], axis=1)
        return xlogy(PATCHES - flipped, 2 * (1 - flip)) + xlogy(flipped, 2 * flip)

    return Law(bits * math.log(2), draw, log_ratio)


def pictures(numbers: Array) -> Array:
    """The images with these numbers side by side, (n, 10) -> (n, 10 pixels)."""
    return digits()[0][numbers.astype(int)].reshape(len(numbers), -1)


# ---- Tasks --------------------------------------------------------------------------------------------------------------


def _coded(name: str, family: str, law: Law, *sizes: int) -> Task:
    return Task(name, family, "no", law, sizes=sizes, discrete=("x", "y"))


TASKS: tuple[Task, ...] = (
    Task("independent-5-5", "independence", "exactly", normal(np.eye(10), 5)),
    _coded("channel-5-0.3", "noisy channel", repeated(np.ones(5), 1 - 0.3 / 0.8), 1000, 5000, 10_000),
    *(_coded(f"table-{kind}-{k}", "tables", codes(kind, k), k, 10 * k, 100 * k) for k in LEVELS for kind in KINDS),
    Task("independent-200-200", "fewer rows than columns", "exactly", normal(np.eye(400), 200), sizes=(100, 300)),
    Task("needle-400-1", "fewer rows than columns", "exactly", needle(400), sizes=(100, 300)),
    *(Task(f"correlated-20-20-{mi}", "many nats", "exactly", correlated(20, mi), sizes=(10_000,)) for mi in NATS),
    *(Task(f"image-pairs-{bits}", "image pairs", "no", same_class(bits), pictures, pictures, (10_000,)) for bits in BITS),
)
