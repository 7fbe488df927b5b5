"""What z explains of a column, taken out of it: mean and scale by ridge regression on smooth functions of z.

    x~ = (x - g(z)) / s(z)

Given z that is an invertible map of x, whatever g and s are, so that I(X~; Y | Z) = I(X; Y | Z); a good g and s only make X~ tell
little about Z. No row has a part in its own g and s: they are those of the other rows, as leaving a row out changes them.

Source: Golub, Heath and Wahba (1979) for the choice of the ridge, Kim and Gu (2004) for its price, Rahimi and Recht (2007) for
the functions.
"""

from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]
WAVES = 64  # random smooth functions of z beside z itself
WIDTHS = (0.7, 1.5, 3.0)  # of what they resolve, in standard deviations of z, times the root of its columns
RIDGES = 10.0 ** np.arange(-3, 7)  # in units of the largest eigenvalue over 1e4
STRICT = 1.4  # price of a degree of freedom; 1 follows noise now and then
FIT = 20_000  # rows that g and s are fitted to
DETERMINED = 1e-6  # share of a column's variance below which z says all of it: what is left is the ridge's
NOISE = 1e-8  # and of what is left, added to its squares before their logarithm
STEEP = 2.0  # largest |log s(z)|


class Part(NamedTuple):
    """A column in two parts, (n,) each."""

    rest: Array  # x~
    mean: Array  # g(z)
    scale: Array  # log s(z)


class Smooth:
    """Ridge regressions on functions of z: z itself and waves of several widths; each column of numbers finds its own."""

    def __init__(self, z: Array, seed: int) -> None:
        z = (z - z.mean(0)) / np.maximum(z.std(0), 1e-12)
        rng = np.random.default_rng(seed)
        directions, phases = rng.normal(size=(z.shape[1], WAVES)), rng.uniform(0, 2 * np.pi, WAVES)
        self.rows = np.arange(min(len(z), FIT)) * len(z) // min(len(z), FIT)
        scaled = [z / width / np.sqrt(z.shape[1]) for width in WIDTHS]
        self.bases = [np.concatenate([z, np.cos(one @ directions + phases)], 1) for one in scaled]
        self.bases = [basis - basis[self.rows].mean(0) for basis in self.bases]
        self.axes = [np.linalg.eigh(basis[self.rows].T @ basis[self.rows]) for basis in self.bases]

    def __call__(self, values: Array) -> Array:
        """(n,) what the other rows say of each row."""
        known = values[self.rows]
        centre, n = known.mean(), len(known)
        best = np.inf, 0, 0.0
        for index, (basis, (sizes, vectors)) in enumerate(zip(self.bases, self.axes, strict=True)):
            sizes = sizes.clip(1e-12)
            along = vectors.T @ (basis[self.rows].T @ (known - centre))
            for ridge in RIDGES * sizes[-1] * 1e-4:
                shrunk = sizes / (sizes + ridge)
                error = np.square(known - centre).sum() - (np.square(along) / sizes * (2 * shrunk - shrunk**2)).sum()
                freedom = n - 1 - STRICT * shrunk.sum()
                if freedom > 0 and error / freedom**2 < best[0]:
                    best = error / freedom**2, index, ridge
        basis, (sizes, vectors) = self.bases[best[1]], self.axes[best[1]]
        inverse = vectors / (sizes.clip(1e-12) + best[2]) @ vectors.T
        found = centre + basis @ (inverse @ (basis[self.rows].T @ (known - centre)))
        own = 1 / n + np.einsum("ij,ij->i", basis[self.rows] @ inverse, basis[self.rows])
        found[self.rows] -= own * (known - found[self.rows]) / np.maximum(1 - own, 1e-3)
        return found


def parted(values: Array, smooth: Smooth) -> Part:
    """A column of numbers without what z says of it; 0 where z says all."""
    mean = smooth(values)
    rest = values - mean
    if rest.var() < DETERMINED * values.var():
        return Part(np.zeros_like(values), mean, np.zeros_like(values))
    scale = smooth(np.log(np.square(rest) + NOISE * rest.var())) / 2
    scale = (scale - scale.mean()).clip(-STEEP, STEEP)
    return Part(rest / np.exp(scale), mean, scale)


def spread_out(levels: Array, said: Array, rng: np.random.Generator) -> Array:
    """(n,) numbers in place of codes: the levels side by side, each as wide as z makes it likely, and drawn evenly within.

    Given z the level is a function of the number, and the rest of the number is noise, so that nothing is lost. Where z is right
    about the levels, the number is independent of it.

    Args:
        levels: (n,).
        said: (n, levels) what z says of each level.
        rng: draws within a level.

    Source: Dunn and Smyth (1996).
    """
    shares = said.clip(1 / len(said))
    upper = (shares / shares.sum(1, keepdims=True)).cumsum(1)
    rows = np.arange(len(levels))
    top = upper[rows, levels]
    bottom = np.where(levels > 0, upper[rows, levels - 1], 0.0)
    return bottom + rng.random(len(levels)) * (top - bottom)
