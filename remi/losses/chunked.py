"""The scores of large batches, a few rows of the N x N matrix at a time: memory grows like N, not like N squared.

A chunk of rows is ordinary `Scores`, and so are its means; here they are only pooled. The backward pass computes the chunks
again instead of keeping them.

Linear is what is allocated. On the CPU the C library may keep freed blocks (glibc 2.36 does): where resident memory matters,
start Python with the environment variable MALLOC_MMAP_THRESHOLD_=100000.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from remi.losses.scores import Scores

ROWS = 256  # of a chunk: long enough for a fast product, 8 MiB of single-precision scores at N = 8,192


def from_views(z1: Tensor, z2: Tensor, temperature: float = 1.0, *, rows: int = ROWS) -> Scores:
    """`Scores.from_views`, `rows` rows at a time.

    Args:
        z1: (..., n, d).
        z2: (..., n, d), the same items.
        temperature: divides the inner products.
        rows: of one chunk; n need not be a multiple.

    Raises:
        ValueError: `rows` is not a positive integer, or what `Scores.from_views` raises.
    """
    Scores.from_views(_shape(z1), _shape(z2), temperature)  # for its errors

    def block(some: Tensor, every: Tensor, start: int) -> Scores:
        matrix = _product(some, every) / temperature
        others = ~_itself(matrix, start)
        return Scores(matrix.diagonal(start, -2, -1), matrix, marginal_mask=others, rowwise=True)

    return _Chunked(z1.flatten(-2), z2, block=block, rows=_check_rows(rows))


def from_embeddings(embeddings: Tensor, labels: Tensor, *, rows: int = ROWS) -> Scores:
    """`Scores.from_embeddings`, `rows` rows at a time.

    Args:
        embeddings: (..., n, d).
        labels: (..., n) integers.
        rows: of one chunk; n need not be a multiple.

    Raises:
        ValueError: `rows` is not a positive integer, or what `Scores.from_embeddings` raises.
    """
    Scores.from_embeddings(_shape(embeddings), _shape(labels))  # for its errors

    def block(some: Tensor, every: Tensor, start: int) -> Scores:
        matrix = _product(some, every)
        others = ~_itself(matrix, start)
        own = labels[..., start : start + matrix.shape[-2], None]
        same = (own == labels.unsqueeze(-2)) & others
        return Scores(matrix.flatten(-2), matrix, same.flatten(-2), others, others, rowwise=True)

    ordered = labels.sort(-1).values
    valid = (ordered[..., 1:] == ordered[..., :-1]).any(-1, keepdim=True)
    return _Chunked(embeddings.flatten(-2), embeddings, valid, block=block, rows=_check_rows(rows))


@dataclass(frozen=True, kw_only=True)
class _Chunked(Scores):
    """Scores that are the inner products of two sets of embeddings, and that are never all there at once.

    What is zeroed in a batch without a joint pair (`estimators.get`) are the scores of `Scores`, and the embeddings here: the
    scores are zero in both cases.

    Args:
        joint: (..., n * d) the embeddings of the rows, flat: a value per run and entry, as joint scores are.
        marginal: (..., n, d) the embeddings of the columns.
        joint_mask: (..., 1) whether there is a joint pair; None means that there is.
        block: some rows' embeddings, all columns' embeddings and the number of the first row -> the scores of these rows.
        rows: of one chunk.
    """

    block: Callable[[Tensor, Tensor, int], Scores]
    rows: int

    def __post_init__(self) -> None:
        """The constructors have checked what the scores would be."""

    @property
    def valid(self) -> Tensor:
        """(...) as in `Scores`; from the labels alone."""
        if self.joint_mask is None:
            return self.marginal.new_ones(self.marginal.shape[:-2], dtype=torch.bool)
        return self.joint_mask.squeeze(-1)

    @property
    def pairs(self) -> Tensor:
        """(...) the number of joint pairs."""
        return torch.stack(self._each(lambda scores: scores.pairs)).sum(0)

    def map(self, transform: Callable[[Tensor], Tensor]) -> Scores:
        """The same populations with every critic value transformed, when it is computed."""
        return replace(self, block=lambda some, every, start: self.block(some, every, start).map(transform))

    def joint_mean(self) -> Tensor:
        """E_P[T]: the chunks' means, weighed by their joint pairs."""
        return self._over_pairs(Scores.joint_mean)

    def marginal_mean(self) -> Tensor:
        """E_Q[T]: the chunks' means, weighed by their rows, which all have n - 1 marginal pairs."""
        return torch.stack([mean * share for mean, share in self._shares(Scores.marginal_mean)]).sum(0)

    def log_mean_exp(self) -> Tensor:
        """Logarithm of E_Q[exp T], with the same weights."""
        return torch.stack([lme + math.log(share) for lme, share in self._shares(Scores.log_mean_exp)]).logsumexp(0)

    def row_log_mean_exp(self) -> Tensor:
        """Mean over joint pairs of log mean exp of the pair's own row; a row is whole in its chunk."""
        return self._over_pairs(Scores.row_log_mean_exp)

    def _over_pairs(self, quantity: Callable[[Scores], Tensor]) -> Tensor:
        sums, pairs = torch.stack(self._each(lambda scores: torch.stack([quantity(scores) * scores.pairs, scores.pairs]))).sum(0)
        return sums / pairs.clamp_min(1)

    def _shares(self, quantity: Callable[[Scores], Tensor]) -> list[tuple[Tensor, float]]:
        """The quantity of every chunk, with the chunk's share of the rows."""
        n = self.marginal.shape[-2]
        sizes = [min(self.rows, n - start) for start in range(0, n, self.rows)]
        return [(value, size / n) for value, size in zip(self._each(quantity), sizes, strict=True)]

    def _each(self, quantity: Callable[[Scores], Tensor]) -> list[Tensor]:
        """The quantity of every chunk, computed again in the backward pass."""
        every = self.marginal
        some = self.joint.unflatten(-1, every.shape[-2:])

        def of(some: Tensor, every: Tensor, start: int) -> Tensor:
            return quantity(self.block(some, every, start))

        starts = range(0, every.shape[-2], self.rows)
        return [
            checkpoint(of, some[..., start : start + self.rows, :], every, start, use_reentrant=False, preserve_rng_state=False)
            for start in starts
        ]


def _product(some: Tensor, every: Tensor) -> Tensor:
    """Inner products of all pairs; what is pooled over chunks is at least single precision."""
    matrix = some @ every.transpose(-1, -2)
    return matrix.float() if matrix.dtype in (torch.float16, torch.bfloat16) else matrix


def _itself(matrix: Tensor, start: int) -> Tensor:
    """(rows, n) True where an item meets itself; row 0 is item `start`."""
    rows, n = matrix.shape[-2:]
    items = torch.arange(n, device=matrix.device)
    return items[start : start + rows, None] == items


def _shape(value: Tensor) -> Tensor:
    """A tensor's shape and type without its values, that is without memory for their products; anything else as it is."""
    return value.detach().to("meta") if isinstance(value, Tensor) else value


def _check_rows(rows: int) -> int:
    if isinstance(rows, bool) or not isinstance(rows, int) or rows < 1:
        raise ValueError(f"rows must be a positive integer, got {rows!r}")
    return rows
