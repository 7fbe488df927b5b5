"""The scores of a batch that lies on several processes: each has its own rows, against all columns.

Process r of R keeps n_r x N scores of the N x N; only embeddings and a few numbers travel. The reading is the whole batch's, the
same on every process, and each process's backward pass differentiates the sum of what all of them return, that is R times the
loss. `DistributedDataParallel` takes the mean over the processes, so that under it every parameter gets exactly the gradient
of one process with the whole batch, and no learning rate needs scaling. Who adds gradients up instead divides the loss by R.

Every process must make the same calls: an exchange waits for all. Rows may be unequal, as in a last batch.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.functional import pad

from remi.losses.pooled import Pooled, Quantity
from remi.losses.scores import Scores, check_embeddings, check_views, labelled, lonely, paired, product, tempered


def from_views(z1: Tensor, z2: Tensor, temperature: float | Tensor = 1.0) -> Scores:
    """`Scores.from_views` of all processes' rows.

    Args:
        z1: (n, d) this process's.
        z2: (n, d), the same items.
        temperature: divides the inner products; a tensor gets its gradient.
    """
    check_views(z1, z2, least=1)
    shares = Shares(len(z1), z1.device)
    return Gathered(paired(product(tempered(z1, temperature), shares.collect(z2)), shares.first), shares)


def from_embeddings(embeddings: Tensor, labels: Tensor | Sequence[int] | np.ndarray) -> Scores:
    """`Scores.from_embeddings` of all processes' rows.

    Args:
        embeddings: (n, d) this process's.
        labels: (n,) integers.
    """
    labels = check_embeddings(embeddings, labels, least=1)
    shares = Shares(len(embeddings), embeddings.device)
    every = shares.collect(labels)
    local = labelled(product(embeddings, shares.collect(embeddings)), labels, every, shares.first)
    return Gathered(local, shares, lonely(every) < len(every))


class Shares:
    """How many rows every process has, and the way to all of them.

    Args:
        rows: of this process.
        device: where tensors are exchanged.
        gather: False for this process's rows alone, as where there are no others.
    """

    def __init__(self, rows: int, device: torch.device, gather: bool = True) -> None:
        together = gather and dist.is_available() and dist.is_initialized()
        self._rank, count = (dist.get_rank(), dist.get_world_size()) if together else (0, 1)
        self.rows = [rows] if count == 1 else self._all(torch.full((1,), rows, device=device), [1] * count).tolist()
        self.first = sum(self.rows[: self._rank])  # of this process's rows, in the whole batch

    def collect(self, values: Tensor) -> Tensor:
        """All processes' rows, (N, ...), of this one's, (n, ...)."""
        return self._all(values, self.rows)

    def each(self, values: Tensor) -> Tensor:
        """One value after the other, (R, ...), of every process's, (...)."""
        return self._all(values.unsqueeze(0), [1] * len(self.rows))

    def _all(self, values: Tensor, rows: Sequence[int]) -> Tensor:
        if len(rows) == 1:
            return values
        first = sum(rows[: self._rank])
        around = (first, sum(rows) - first - len(values))
        return _Sum.apply(pad(values, (*[0, 0] * (values.ndim - 1), *around)))  # zeros where the others' rows are


class Gathered(Pooled):
    """The scores of all processes' rows; this one's are its part.

    Args:
        local: the scores of this process's rows against all columns.
        shares: the rows of every process.
        valid: as in `Pooled`, of the whole batch.
    """

    def __init__(self, local: Scores, shares: Shares, valid: Tensor | None = None) -> None:
        super().__init__(valid)
        self._local, self._shares = local, shares

    def map(self, transform: Callable[[Tensor], Tensor]) -> Scores:
        """The same populations with every critic value transformed."""
        return Gathered(self._local.map(transform), self._shares, self._valid)

    def each(self, *quantities: Quantity) -> Tensor:
        """(processes, quantities, ...) the quantities of every process's rows."""
        return self._shares.each(torch.stack([quantity(self._local) for quantity in quantities]))


class _Sum(torch.autograd.Function):
    """The sum over processes; so is its gradient's."""

    @staticmethod
    def forward(ctx: object, values: Tensor) -> Tensor:
        total = values.contiguous().clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return _Sum.forward(ctx, gradient)
