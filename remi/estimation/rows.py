"""Which rows a critic is trained on, which decide when it stops, and which it is read on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from remi.estimation.plan import Plan

VALIDATION, ENOUGH = 1 / 6, 2048  # share of a fold's training rows that decides when to stop, and how many are enough


@dataclass(frozen=True)
class Split:
    """Rows of one sample, per fold: to train, to choose and to stop by, and to read the value from."""

    train: Tensor  # (folds, n_train)
    validation: Tensor  # (folds, n_validation)
    held_out: Tensor  # (folds, n // folds)

    @property
    def rest(self) -> Tensor:
        """(folds, n) what is not held out; of independent rows, in no order."""
        return torch.cat([self.validation, self.train], 1)

    def repeated(self, times: int) -> "Split":
        """The same for each of so many critics per fold: run r belongs to fold r modulo the folds."""
        return Split(*(rows.repeat(times, 1) for rows in (self.train, self.validation, self.held_out)))

    def to(self, device: torch.device) -> "Split":
        """The same rows, listed on a device."""
        return Split(self.train.to(device), self.validation.to(device), self.held_out.to(device))


def split(n: int, plan: Plan, generator: torch.Generator, gap: int = 0) -> Split:
    """Every fold is held out once; its other rows are shuffled. Rows left over train everywhere.

    Of a series, folds and validation rows are stretches of it, and so many rows beside a stretch, `gap`, are left out.

    Raises:
        ValueError: fewer than four rows in a fold, or a gap that leaves too few to train on.
    """
    if plan.folds > n // 4:
        raise ValueError(f"folds must be a whole number from 2 to {n // 4}, a quarter of the {n} rows; got {plan.folds}")
    if plan.series:
        return _stretches(n, plan, gap)
    order = torch.randperm(n, generator=generator)
    folds = order[: n // plan.folds * plan.folds].view(plan.folds, -1)
    rows = []
    for held_out in folds:
        rest = order[~torch.isin(order, held_out)]
        rows.append((rest[torch.randperm(len(rest), generator=generator)], held_out))
    others, held_out = (torch.stack(part) for part in zip(*rows, strict=True))
    stop = max(2, min(ENOUGH, int(others.shape[1] * VALIDATION)))
    return Split(others[:, stop:], others[:, :stop], held_out)


def _stretches(n: int, plan: Plan, gap: int) -> Split:
    """Time as a circle, so that all folds have as many rows: held out, gap, train, gap, validation, gap, train, gap."""
    size = n // plan.folds
    stop = max(2, min(ENOUGH, int((n - size) * VALIDATION)))
    free = n - size - stop - 4 * gap  # rows to train on
    if free < max(8, n // 4):
        raise ValueError(
            f"series=True needs rows that forget each other soon: with {n} rows, {plan.folds} folds and gaps of {gap} rows "
            f"{max(0, free)} are left to train on; give more rows, or thin the series"
        )
    rows = []
    before = free // 2  # of the training rows, ahead of the validation rows
    for fold in range(plan.folds):
        circle = (torch.arange(n) + fold * size) % n
        held_out, _, first, _, validation, _, second, _ = circle.split([size, gap, before, gap, stop, gap, free - before, gap])
        rows.append((torch.cat([first, second]), validation, held_out))
    return Split(*(torch.stack(part) for part in zip(*rows, strict=True)))


def batches(splits: Sequence[Split], batch: int) -> Callable[[torch.Generator, int, int], tuple[Tensor, ...]]:
    """Positions in the training rows: no row twice in a batch, for a row beside itself would be a joint pair in Q."""

    def draw(generator: torch.Generator, first: int, steps: int) -> tuple[Tensor, ...]:
        drawn = []
        for part in splits:
            n = part.train.shape[1]
            size = min(batch, n)
            if n >= steps * size:
                drawn.append(torch.randperm(n, generator=generator)[: steps * size].view(steps, size))
                continue
            epochs = -(-steps // (n // size))
            shuffled = torch.rand(epochs, n, generator=generator).argsort(-1)[:, : n // size * size]
            drawn.append(shuffled.reshape(-1, size)[:steps])
        return tuple(drawn)

    return draw
