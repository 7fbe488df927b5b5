"""Large batches a few rows at a time: memory grows like N, not like N squared, for the scores as for the encoder.

What is left out of memory is computed again in the backward pass: a chunk's scores, or the encoder's activations on a few items.
"""

import ctypes
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from remi.losses.pooled import Pooled, Quantity
from remi.losses.scores import Scores, check_embeddings, check_views, labelled, lonely, paired, product, tempered

ROWS = 256  # of a chunk: long enough for a fast product, 8 MiB of single-precision scores at N = 8,192


def from_views(z1: Tensor, z2: Tensor, temperature: float | Tensor = 1.0, *, rows: int = ROWS) -> Scores:
    """`Scores.from_views`, `rows` rows at a time.

    Args:
        z1: (..., n, d).
        z2: (..., n, d), the same items.
        temperature: divides the inner products; a tensor gets its gradient.
        rows: of one chunk; n need not be a multiple.

    Raises:
        ValueError: `rows` is not a positive integer, or what `Scores.from_views` raises.
    """
    check_views(z1, z2)
    z1 = tempered(z1, temperature)
    return Chunked.of(lambda some: paired(product(z1[..., some, :], z2), some.start), z1.shape[-2], rows)


def from_embeddings(embeddings: Tensor, labels: Tensor | Sequence[int] | np.ndarray, *, rows: int = ROWS) -> Scores:
    """`Scores.from_embeddings`, `rows` rows at a time.

    Args:
        embeddings: (..., n, d).
        labels: (..., n) integers.
        rows: of one chunk; n need not be a multiple.

    Raises:
        ValueError: `rows` is not a positive integer, or what `Scores.from_embeddings` raises.
    """
    every = check_embeddings(embeddings, labels)

    def block(some: slice) -> Scores:
        return labelled(product(embeddings[..., some, :], embeddings), every[..., some], every, some.start)

    n = embeddings.shape[-2]
    return Chunked.of(block, n, rows, lonely(every) < n)


def encode(encoder: Callable[[Tensor], Tensor], items: Tensor, *, rows: int = ROWS) -> Tensor:
    """`encoder(items)`, `rows` items at a time, for an encoder that does not fit (the cached gradients of Gao and others, 2021).

        z1, z2 = chunked.encode(encoder, x1), chunked.encode(encoder, x2)
        loss(z1, z2).backward()

    Only the embeddings are kept. The backward pass of the loss stops at them, then takes a few items at a time through the
    encoder again, forward and backward, with the same dropout. The gradient is the whole batch's. Batch normalisation takes
    the statistics of the few items, and counts each of them twice in its running ones.

    Args:
        encoder: a module or function from (rows, ...) to (rows, d), each item by itself.
        items: (n, ...).
        rows: items at a time; n need not be a multiple.

    Raises:
        ValueError: `rows` is not a positive integer.

    Source: Gao, Zhang, Han & Callan (2021), Scaling deep contrastive learning batch size under memory limited setup.
    """
    parts = items.split(check_rows(rows))
    return torch.cat([checkpoint(_tidied(encoder), part, use_reentrant=False) for part in parts])


class Chunked(Pooled):
    """Scores that are computed a chunk of rows at a time, and again in the backward pass.

    Args:
        parts: functions that compute a chunk's scores.
        valid: as in `Pooled`.
    """

    def __init__(self, parts: Sequence[Callable[[], Scores]], valid: Tensor | None = None) -> None:
        super().__init__(valid)
        self._parts = parts

    @classmethod
    def of(cls, block: Callable[[slice], Scores], n: int, rows: int, valid: Tensor | None = None) -> "Chunked":
        """`block` computes the scores of some of the n rows."""
        chunks = [slice(start, min(start + rows, n)) for start in range(0, n, check_rows(rows))]
        return cls([lambda some=some: block(some) for some in chunks], valid)  # type: ignore[misc]

    def map(self, transform: Callable[[Tensor], Tensor]) -> Scores:
        """The same populations with every critic value transformed, when it is computed."""
        return Chunked([lambda part=part: part().map(transform) for part in self._parts], self._valid)  # type: ignore[misc]

    def each(self, *quantities: Quantity) -> Tensor:
        """(parts, quantities, ...) the quantities of every chunk."""

        def of(part: Callable[[], Scores]) -> Tensor:
            scores = part()
            return torch.stack([quantity(scores) for quantity in quantities])

        run = _tidied(of)
        return torch.stack([checkpoint(run, part, use_reentrant=False, preserve_rng_state=False) for part in self._parts])


_trim: Callable[[int], object] | None
try:
    _trim = ctypes.CDLL(None).malloc_trim
except (AttributeError, OSError, TypeError):  # another C library, which needs no help
    _trim = None


def _tidied(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The function, which first gives memory that is free back to the system.

    glibc keeps what PyTorch frees in pieces that the next, equal chunk does not fit into: what is resident on the CPU would
    grow like N squared, 3 GB at N = 16,384.
    """

    def tidy(*arguments: object) -> Tensor:
        if _trim is not None and not torch.compiler.is_compiling():
            _trim(0)
        return function(*arguments)

    return tidy


def check_rows(rows: int, name: str = "rows") -> int:
    """Raise unless it is a positive integer."""
    if isinstance(rows, bool) or not isinstance(rows, int) or rows < 1:
        raise ValueError(f"{name} must be a positive integer, got {rows!r}")
    return rows
