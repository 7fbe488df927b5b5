"""From many batches or many runs to one number: averages over batches, intervals over seeds, accuracy by retrieval."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor


def macro_average(estimates: ArrayLike) -> float:
    """Mean of the batches' estimates, in nats.

    For Donsker-Varadhan exactly invariant to drift, and biased upwards by Var(log Z)-like terms however many batches there are.
    """
    return float(np.mean(np.asarray(estimates, dtype=float)))


def micro_average(joint_means: ArrayLike, log_mean_exps: ArrayLike, pairs: ArrayLike | None = None) -> float:
    """Donsker-Varadhan value of the pooled scores of all batches, in nats.

        sum_t p_t j_t / sum_t p_t  -  log mean_t exp(l_t)

    Its bias vanishes with the number of batches when the offset stays put; drift C_t costs log mean exp(C_t) - mean C_t.

    Args:
        joint_means: (batches,) j_t, mean joint score of a batch.
        log_mean_exps: (batches,) l_t, log mean exp of its marginal scores; batches of equal size.
        pairs: (batches,) p_t, number of joint pairs; equal when None.

    Source: Section 4, "micro-averaging".
    """
    joint = torch.as_tensor(np.asarray(joint_means), dtype=torch.float64)
    log_z = torch.as_tensor(np.asarray(log_mean_exps), dtype=torch.float64)
    weights = torch.ones_like(joint) if pairs is None else torch.as_tensor(np.asarray(pairs), dtype=torch.float64)
    first = torch.where(weights > 0, weights * joint, 0.0).sum() / weights.sum()
    return float(first - log_z.logsumexp(0) + np.log(len(log_z)))


class Interval(NamedTuple):
    """Mean and half width of its 95% interval; the half width is nan for a single value."""

    mean: float
    half_width: float


def student_t(values: ArrayLike, level: float = 0.95) -> Interval:
    """Student-t interval of the mean over seeds; nan without values."""
    from scipy.special import stdtrit  # here: two thirds of `import remi`, which a loss does without

    x = np.asarray(values, dtype=float)
    if len(x) < 2:
        return Interval(float(x[0]) if len(x) else np.nan, np.nan)
    return Interval(float(x.mean()), float(stdtrit(len(x) - 1, (1 + level) / 2) * x.std(ddof=1) / np.sqrt(len(x))))


def auc(above: ArrayLike, below: ArrayLike) -> float:
    """Probability that a score of the first kind exceeds one of the second, ties counting half."""
    a, b = np.asarray(above, dtype=float).reshape(-1, 1), np.asarray(below, dtype=float).ravel()
    return float((a > b).mean() + (a == b).mean() / 2)


def retrieve(queries: Tensor, items: Tensor, labels: Tensor, chunk: int = 1000) -> Tensor:
    """The label of the item with the largest inner product, (..., q) for queries (..., q, d) and items (..., n, d)."""
    found = [(part @ items.transpose(-1, -2)).argmax(-1) for part in torch.split(queries, chunk, dim=-2)]
    return labels[torch.cat(found, dim=-1)]


def in_batches(network: Callable[[Tensor], Tensor], images: Tensor, batch: int) -> Tensor:
    """Outputs (runs, n, d) of a network that sees `batch` images (n, pixels) at a time, the last batch shorter."""
    return torch.cat([network(part) for part in torch.split(images, batch)], dim=1)
