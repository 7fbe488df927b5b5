"""Whether the order of the rows means something: rows that follow each other in time count for fewer than they are."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from remi.estimation.columns import Array, Column, normal_scores

FORGOTTEN = 0.05  # autocorrelation, of both sides together, from which on rows count as strangers
MOST_LEVELS = 20  # of a discrete column, the commonest


class Memory(NamedTuple):
    """How rows remember those before them."""

    inflation: float  # so many rows count as one
    length: int  # rows after which they have forgotten


def memory(*sides: Sequence[Column]) -> Memory:
    """The memory that the sides have in common.

    With autocorrelations a(k) and b(k) of independent x and y, the variance of a mean of products x_i y_i is that of n
    independent rows times

        1 + 2 sum_k a(k) b(k),

    summed up to the first lag at which the product is noise. One side without memory is enough for none; a single sample has
    b = 1. Of several columns the one that remembers most counts.

    Source: Bartlett (1935).
    """
    parts = [_autocorrelation(columns) for columns in sides]
    product = np.prod([values for values, _ in parts], 0)
    noise = math.prod(level for _, level in parts)
    below = np.flatnonzero(product < noise)
    end = int(below[0]) if len(below) else len(product)
    soon = np.flatnonzero(product[:end] < FORGOTTEN)
    return Memory(1 + 2 * float(product[:end].sum()), int(soon[0]) + 1 if len(soon) else end)


def _autocorrelation(columns: Sequence[Column]) -> tuple[Array, float]:
    """At lags 1, 2, ... a quarter of the rows, of the column that remembers most; and what noise reaches."""
    features = [values for column in columns for values in _numbers(column)]
    chosen = max(features, key=lambda values: abs(float(values[1:] @ values[:-1])))
    n = len(chosen)
    spectrum = np.abs(np.fft.rfft(chosen, 2 * n)) ** 2
    values = np.fft.irfft(spectrum)[: n // 4 + 1]
    return values[1:] / values[0], (math.sqrt(2 * math.log(2 * len(features))) + 1) / math.sqrt(n)


def _numbers(column: Column) -> list[Array]:
    """Standardized: the normal scores, or an indicator per common level."""
    if not column.discrete:
        values = normal_scores(column.values)
        return [values / values.std()]
    common = np.argsort(-np.bincount(column.values))[:MOST_LEVELS]
    marks = [(column.values == level).astype(float) for level in common]
    return [(mark - mark.mean()) / mark.std() for mark in marks if 0 < mark.mean() < 1]
