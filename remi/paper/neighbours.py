"""The estimator that the field compares with: Kraskov, Stoegbauer and Grassberger's first, which trains nothing."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import digamma

from remi.estimation import standardize

BLOCK = 2**22  # distances that are held at once


def nearest_neighbours(x: NDArray[np.float64], y: NDArray[np.float64], k: int = 3) -> float:
    """I(X; Y) in nats from distances, in the maximum norm, of standardized columns without ties.

        digamma(k) + digamma(n) - mean of digamma(n_x + 1) + digamma(n_y + 1)

    n_x counts the rows whose x is strictly nearer than the k-th neighbour of (x, y). scikit-learn has it for one column
    against one column only.

    Args:
        x: (n, d_x).
        y: (n, d_y).
        k: which neighbour.

    Source: Kraskov, Stoegbauer and Grassberger (2004), eq. 8.
    """
    sides = [torch.tensor(np.stack([standardize(column) for column in z.T], 1), dtype=torch.float64) for z in (x, y)]
    counts = []
    for rows in torch.arange(len(x)).split(max(1, BLOCK // len(x))):
        apart = [torch.cdist(z[rows], z, p=torch.inf) for z in sides]
        kth = torch.maximum(*apart).kthvalue(k + 1, keepdim=True).values  # the row itself is the nearest
        counts.append(torch.stack([(distances < kth).sum(1) for distances in apart]))  # with the row itself
    return float(digamma(k) + digamma(len(x)) - 2 * digamma(torch.cat(counts, 1).numpy()).mean())
