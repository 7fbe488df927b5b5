"""The one training loop: a stack of independent runs, traces that stay on the device, and divergence as data."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim.adam import adam
from tqdm import tqdm

from remi.estimators import Estimator, Reading
from remi.scores import Scores

Batch = tuple[Tensor, ...]
LOOK_EVERY = 100  # steps between two looks of the host at the device
COLUMNS = (*Reading._fields, "score_mean", "score_log_mean_exp", "pairs")


def device(name: str = "auto") -> torch.device:
    """The device called `name`; "auto" is CUDA where there is one, else the CPU."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def stream(
    draw: Callable[[torch.Generator, int, int], Batch], generators: Sequence[torch.Generator], steps: int, chunk: int
) -> Iterator[Batch]:
    """Batches of a stack, (runs, ...) each; run r draws from generator r alone, `chunk` steps at a time."""
    for first in range(0, steps, chunk):
        drawn = [draw(generator, first, min(chunk, steps - first)) for generator in generators]
        stacked = [torch.stack(parts, dim=1) for parts in zip(*drawn, strict=True)]
        yield from zip(*stacked, strict=True)


class FlatParameters:
    """All parameters of a stack in one (runs, size) buffer that the network keeps views of, and a buffer for the gradient.

    One row is one run, so that an update needs no knowledge of the network; fresh buffers at every step would cost more
    than the arithmetic.
    """

    def __init__(self, network: nn.Module, runs: int) -> None:
        self.parts = list(network.parameters())
        self.values = torch.cat([p.data.reshape(runs, -1) for p in self.parts], dim=1)
        self.gradient = torch.zeros_like(self.values)
        for p, view in zip(self.parts, self._views(self.values), strict=True):
            p.data = view
        self._gradients = self._views(self.gradient)

    def differentiate(self, loss: Tensor) -> None:
        """Fill `gradient` (runs, size)."""
        for view, part in zip(self._gradients, torch.autograd.grad(loss, self.parts), strict=True):
            view.copy_(part)

    def _views(self, buffer: Tensor) -> list[Tensor]:
        columns = torch.split(buffer, [p[0].numel() for p in self.parts], dim=1)
        return [column.view(p.shape) for p, column in zip(self.parts, columns, strict=True)]


class Optimizer(Protocol):
    """Updates the runs that `mask` (runs,) keeps; the others keep parameters, moments and step count."""

    def update(self, parameters: FlatParameters, mask: Tensor) -> None:
        """One step in place."""


@dataclass
class SGD:
    """theta <- theta - lr g."""

    lr: float

    def update(self, parameters: FlatParameters, mask: Tensor) -> None:
        """One step in place."""
        parameters.values.sub_(parameters.gradient.masked_fill_(~mask.unsqueeze(1), 0.0), alpha=self.lr)


@dataclass
class Adam:
    """PyTorch's fused Adam with its defaults, one call per run: its `found_inf` is the mask, applied on the device."""

    lr: float
    state: list[tuple[Tensor, ...]] = field(default_factory=list, repr=False)

    def update(self, parameters: FlatParameters, mask: Tensor) -> None:
        """One step in place."""
        rows = list(zip(parameters.values.unbind(), parameters.gradient.unbind(), (~mask).float().unbind(), strict=True))
        if not self.state:
            self.state = [(torch.zeros_like(row), torch.zeros_like(row), row.new_zeros(())) for row, _, _ in rows]
        for (row, gradient, skip), (mean, square, count) in zip(rows, self.state, strict=True):
            adam(
                [row], [gradient], [mean], [square], [], [count], found_inf=skip, fused=True, lr=self.lr, beta1=0.9,
                beta2=0.999, eps=1e-8, weight_decay=0, amsgrad=False, maximize=False,
            )  # fmt: skip


@dataclass(frozen=True)
class History:
    """What a stack of runs leaves behind; row r belongs to run r."""

    traces: dict[str, Tensor]  # (runs, steps) each; nan after a run has diverged
    diverged_at: Tensor  # (runs,) the first step with a non-finite objective or gradient, -1 if none
    skipped: Tensor  # (runs,) batches without a joint pair

    def status(self, run: int) -> str:
        """Either "ok" or "diverged"."""
        return "ok" if self.diverged_at[run] < 0 else "diverged"


def fit(
    network: nn.Module,
    score: Callable[..., Scores],
    batches: Iterable[Batch],
    estimator: Estimator,
    optimizer: Optimizer,
    *,
    runs: int,
    steps: int,
    observe: Callable[..., dict[str, Tensor]] | None = None,
) -> History:
    """Maximise the estimator's objective; nothing waits for the host.

    A run whose objective or gradient is not finite is frozen at once, on the device: it keeps the parameters it had before
    that step, and its trace ends there. A batch without a joint pair changes nothing and is counted.

    Args:
        network: a stack of `runs` networks.
        score: from a batch to the scores of the stack.
        batches: `steps` batches.
        estimator: from scores to a reading of shape (runs,).
        optimizer: the update.
        runs: size of the stack.
        steps: number of updates.
        observe: from scores and batch to more values of shape (runs,) to trace.
    """
    parameters = FlatParameters(network, runs)
    where = parameters.values.device
    alive = torch.ones(runs, dtype=torch.bool, device=where)
    diverged_at = torch.full((runs,), -1, device=where)
    skipped = torch.zeros(runs, dtype=torch.long, device=where)
    columns: list[str] = []
    trace = torch.empty(0)
    for step, batch in enumerate(tqdm(batches, total=steps, disable=None, leave=False)):
        scores = score(*batch)
        reading = estimator(scores)
        parameters.differentiate(-reading.objective.sum())

        with torch.no_grad():
            valid = scores.valid
            finite = reading.objective.isfinite() & parameters.gradient.sum(1).isfinite()
            optimizer.update(parameters, alive & valid & finite)

            values = [*reading, scores.joint_mean(), scores.log_mean_exp(), scores.pairs]
            extra = observe(scores, *batch) if observe else {}
            if not columns:
                columns = [*COLUMNS, *extra]
                trace = torch.full((steps, len(columns), runs), torch.nan, device=where)
            trace[step] = torch.stack([*values, *extra.values()]).masked_fill(~alive, torch.nan)

            skipped += alive & ~valid
            diverged_at = torch.where(alive & ~finite, step, diverged_at)
            alive &= finite
        if step % LOOK_EVERY == LOOK_EVERY - 1 and not alive.any():
            break
    traces = dict(zip(columns, trace.permute(1, 2, 0).cpu(), strict=True))
    return History(traces, diverged_at.cpu(), skipped.cpu())
