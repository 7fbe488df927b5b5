"""The one training loop: a stack of independent runs, traces that stay on the device, and divergence as data."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from typing import Protocol

import torch
from torch import Tensor, nn
from tqdm import tqdm

from remi.losses import Estimator, Reading, Scores
from remi.training.checkpoints import Checkpoints
from remi.training.recorded import recorded

Batch = tuple[Tensor, ...]
Observers = Mapping[str, Callable[..., Tensor]]
PRECISIONS = ("fp32", "tf32", "bf16")
STREAMS = 16  # of a GPU's, for kernels too small to fill it
LOOK_EVERY = 100  # steps between two looks of the host at the device
COLUMNS = (*Reading._fields, "score_mean", "score_log_mean_exp", "pairs")


def device(name: str = "auto") -> torch.device:
    """The device called `name`; "auto" is CUDA where there is one, else the CPU."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Matrix products and convolutions on CUDA with inputs of 10 bits, or not, whatever PyTorch's default is."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    try:
        matmul.allow_tf32 = cudnn.allow_tf32 = allowed
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def in_precision(network: Callable[..., Tensor], where: torch.device, precision: str) -> Callable[..., Tensor]:
    """The network with the products of "bf16" in bfloat16; what comes out, and every loss, has PyTorch's default type."""

    def outputs(*inputs: Tensor) -> Tensor:
        with torch.autocast(where.type, torch.bfloat16, enabled=precision == "bf16"):
            return network(*inputs).to(torch.get_default_dtype())

    return outputs


@dataclass
class Stream:
    """Batches of a stack, (runs, ...) each; run r draws from generator r alone, `chunk` steps at a time, from step `first` on."""

    draw: Callable[[torch.Generator, int, int], Batch]
    generators: Sequence[torch.Generator]
    steps: int
    chunk: int
    first: int = 0

    def __iter__(self) -> Iterator[Batch]:
        for first in range(self.first, self.steps, self.chunk):
            drawn = [self.draw(generator, first, min(self.chunk, self.steps - first)) for generator in self.generators]
            stacked = [torch.stack(parts, dim=1) for parts in zip(*drawn, strict=True)]
            yield from zip(*stacked, strict=True)


class FlatParameters:
    """All parameters of a stack in one (runs, size) buffer that the network keeps views of, and a buffer for the gradient.

    One row is one run, so that an update needs no knowledge of the network; fresh buffers at every step would cost more
    than the arithmetic.
    """

    def __init__(self, network: nn.Module, runs: int) -> None:
        self.runs = runs
        self.parts = list(network.parameters())
        self.values = torch.cat([p.data.reshape(runs, -1) for p in self.parts], dim=1)
        self.gradient = torch.zeros_like(self.values)
        self._gradients = self._views(self.gradient)
        for p, view, gradient in zip(self.parts, self._views(self.values), self._gradients, strict=True):
            p.data = view
            p.place = gradient  # type: ignore[attr-defined]  # a layer may leave its gradient there: see `encoders.Layer`

    def differentiate(self, loss: Tensor) -> None:
        """Fill `gradient` (runs, size); a gradient of None is zero."""
        for view, part in zip(self._gradients, torch.autograd.grad(loss, self.parts, allow_unused=True), strict=True):
            if part is not None and part is not view:
                view.copy_(part)

    def _views(self, buffer: Tensor) -> list[Tensor]:
        columns = torch.split(buffer, [p.numel() // self.runs for p in self.parts], dim=1)
        return [column.view(p.shape) for p, column in zip(self.parts, columns, strict=True)]


class Optimizer(Protocol):
    """Updates the runs that `mask` (runs,) keeps; the others keep parameters, moments and step count."""

    def tensors(self, parameters: FlatParameters) -> list[Tensor]:
        """What it remembers from step to step, changed in place."""

    def update(self, parameters: FlatParameters, mask: Tensor) -> None:
        """One step in place."""


@dataclass
class SGD:
    """theta <- theta - lr g."""

    lr: float

    def tensors(self, parameters: FlatParameters) -> list[Tensor]:
        """Nothing."""
        return []

    def update(self, parameters: FlatParameters, mask: Tensor) -> None:
        """One step in place."""
        parameters.values.sub_(parameters.gradient.masked_fill_(~mask.unsqueeze(1), 0.0), alpha=self.lr)


@dataclass
class Adam:
    """PyTorch's fused Adam with its defaults. On a GPU it is called for every run, and its `found_inf` is the mask.

    One call fills a few multiprocessors; on streams of their own several calls go on at a time.
    """

    lr: float
    state: tuple[Tensor, ...] = field(default=(), repr=False)  # moments (runs, size) and step counts (runs,)
    streams: list[torch.cuda.Stream] = field(default_factory=list, repr=False)

    def tensors(self, parameters: FlatParameters) -> list[Tensor]:
        """Both moments and the step count of every run."""
        if not self.state:
            values = parameters.values
            counts = values.new_zeros(len(values), dtype=torch.float32)  # whatever the type of the values
            self.state = torch.zeros_like(values), torch.zeros_like(values), counts
        return list(self.state)

    def update(self, parameters: FlatParameters, mask: Tensor) -> None:
        """One step in place."""
        mean, square, count = self.tensors(parameters)
        count += mask
        rows = zip(*(whole.unbind() for whole in (parameters.values, parameters.gradient, mean, square, count)), strict=True)
        if mask.is_cuda:  # nobody waits for the mask
            self.streams = self.streams or [torch.cuda.Stream() for _ in range(STREAMS)]
            here, skips = torch.cuda.current_stream(), (~mask).float().unbind()
            for stream in self.streams:
                stream.wait_stream(here)
            for row, skip, stream in zip(rows, skips, cycle(self.streams), strict=False):
                with torch.cuda.stream(stream):
                    self._update([row], skip)
            for stream in self.streams:
                here.wait_stream(stream)
        elif kept := [row for row, keep in zip(rows, mask.tolist(), strict=True) if keep]:
            self._update(kept, None)

    def _update(self, rows: list[tuple[Tensor, ...]], skip: Tensor | None) -> None:
        values, gradients, means, squares, counts = (list(column) for column in zip(*rows, strict=True))
        torch._fused_adam_(
            values, gradients, means, squares, [], counts, found_inf=skip, lr=self.lr, beta1=0.9, beta2=0.999,
            eps=1e-8, weight_decay=0.0, amsgrad=False, maximize=False,
        )  # fmt: skip


@dataclass(frozen=True)
class History:
    """What a stack of runs leaves behind; row r belongs to run r."""

    traces: dict[str, Tensor]  # (runs, steps) each; nan after a run has diverged
    diverged_at: Tensor  # (runs,) the first step with a non-finite objective or gradient, -1 if none
    skipped: Tensor  # (runs,) batches without a joint pair
    whole: bool = True  # False where the training ended early, for the sake of the runs that go on without the diverged ones

    def status(self, run: int) -> str:
        """Either "ok" or "diverged"."""
        return "ok" if self.diverged_at[run] < 0 else "diverged"


class Loop:
    """A training between two steps: tensors that stay where they are, so that a step waits for no host and a file can hold them.

    Args:
        network: a stack of `runs` networks.
        score: from a batch to the scores of the stack.
        estimator: from scores to a reading of shape (runs,).
        optimizer: the update.
        runs: size of the stack.
        steps: number of updates.
        observe: more values of shape (runs,) to trace, each from scores and batch.
    """

    def __init__(
        self,
        network: nn.Module,
        score: Callable[..., Scores],
        estimator: Estimator,
        optimizer: Optimizer,
        *,
        runs: int,
        steps: int,
        observe: Observers | None = None,
    ) -> None:
        self.score, self.estimator, self.optimizer, self.observe = score, estimator, optimizer, observe or {}
        self.parameters = FlatParameters(network, runs)
        where = self.parameters.values.device
        self.columns = (*COLUMNS, *self.observe)
        self.trace = torch.full((steps, len(self.columns), runs), torch.nan, device=where)
        self.position = torch.zeros(1, dtype=torch.long, device=where)  # the next row of `trace`
        self.alive = torch.ones(runs, dtype=torch.bool, device=where)
        self.mask = torch.zeros_like(self.alive)  # the runs that the next update changes
        self.diverged_at = torch.full((runs,), -1, device=where)
        self.skipped = torch.zeros(runs, dtype=torch.long, device=where)
        self.tensors = {  # all that changes from step to step
            "parameters": self.parameters.values,
            **{f"optimizer.{index}": tensor for index, tensor in enumerate(optimizer.tensors(self.parameters))},
            **{f"network.{name}": buffer for name, buffer in network.named_buffers()},
            **{name: getattr(self, name) for name in ("trace", "position", "alive", "diverged_at", "skipped")},
        }

    def step(self, *batch: Tensor) -> None:
        """One update of the stack."""
        self.read(*batch)
        self.update()

    def read(self, *batch: Tensor) -> None:
        """Everything but the update: the gradient, the runs that will follow it, and a row of the trace."""
        scores = self.score(*batch)
        reading = self.estimator(scores)
        self.parameters.differentiate(-reading.objective.sum())

        with torch.no_grad():
            valid = scores.valid
            finite = reading.objective.isfinite() & self.parameters.gradient.sum(1).isfinite()
            self.mask.copy_(self.alive & valid & finite)
            extra = [observed(scores, *batch) for observed in self.observe.values()]
            row = torch.stack([*reading, scores.joint_mean(), scores.log_mean_exp(), scores.pairs, *extra])
            self.trace.index_copy_(0, self.position, row.masked_fill(~self.alive, torch.nan).unsqueeze(0))

            self.skipped += self.alive & ~valid
            self.diverged_at.copy_(torch.where(self.alive & ~finite, self.position, self.diverged_at))
            self.alive &= finite
            self.position += 1

    @torch.no_grad()
    def update(self) -> None:
        """Follow the gradient."""
        self.optimizer.update(self.parameters, self.mask)

    @contextmanager
    def undone(self) -> Iterator[None]:
        """What happens in here has not happened afterwards."""
        before = {name: tensor.clone() for name, tensor in self.tensors.items()}
        yield
        for name, tensor in self.tensors.items():
            tensor.copy_(before[name])

    def history(self, *, whole: bool = True) -> History:
        """What is known so far, on the host."""
        traces = dict(zip(self.columns, self.trace.permute(1, 2, 0).cpu(), strict=True))
        return History(traces, self.diverged_at.cpu(), self.skipped.cpu(), whole)


def compiled(loop: Loop) -> Callable[..., None]:
    """The loop's step as one program of PyTorch's compiler, equal up to rounding.

    Raises:
        RuntimeError: this version of PyTorch cannot compile a step that takes its own gradient.
    """
    from torch._dynamo import config, reset  # here: slow to import

    if not hasattr(config, "trace_autograd_ops"):
        raise RuntimeError(
            f"compiled=True needs a PyTorch whose compiler follows torch.autograd.grad; {torch.__version__} does not"
        )
    reset()  # what was compiled for another loop only gets in the way
    config.trace_autograd_ops = True
    return torch.compile(loop.step, fullgraph=True)


class Captured:
    """A loop's step as one CUDA graph, the same kernels on the same numbers: the host says "again" once per step.

    Args:
        loop: its tensors stay where they are, as the graph needs.
        step: of the loop.
    """

    WARM_UP = 3  # steps in which the libraries choose their kernels

    def __init__(self, loop: Loop, step: Callable[..., None]) -> None:
        self.loop, self.step = loop, step
        self.graph: torch.cuda.CUDAGraph | None = None
        self.held: Batch = ()  # where the graph looks for its batch

    def __call__(self, *batch: Tensor) -> None:
        """One step; the first captures it."""
        if self.graph is None:
            self.held = tuple(part.clone() for part in batch)
            self.graph = self._capture()
        for held, part in zip(self.held, batch, strict=True):
            held.copy_(part)
        self.graph.replay()

    def _capture(self) -> torch.cuda.CUDAGraph:
        beside, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
        with self.loop.undone():
            beside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(beside):
                for _ in range(self.WARM_UP):
                    self.step(*self.held)
            torch.cuda.current_stream().wait_stream(beside)
            with torch.cuda.graph(graph):
                self.step(*self.held)
        return graph


class Recorded:
    """A loop's step on a CPU, of which all but the update is `recorded`: the same numbers to the bit.

    Args:
        loop: what its score and its loss do must not depend on values that Python sees.
    """

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.read: Callable[..., None] | None = None

    def __call__(self, *batch: Tensor) -> None:
        """One step; the first records it."""
        if self.read is None:
            with self.loop.undone():
                self.read = recorded(self.loop.read, *batch)
        self.read(*batch)
        self.loop.update()


@dataclass
class Keeper:
    """Puts a training down in a file, and takes it up again bit by bit as it was.

    It does so between two chunks of the batches only, where the generators say all about the batches to come.
    """

    checkpoints: Checkpoints
    batches: Stream

    def take_up(self, loop: Loop) -> int:
        """Bring loop and batches to the last state that was kept; returns the number of steps done."""
        found = self.checkpoints.latest()
        if found is None:
            return 0
        step, arrays = found
        for name, tensor in loop.tensors.items():
            tensor.copy_(torch.from_numpy(arrays[name]))
        for index, generator in enumerate(self.batches.generators):
            generator.set_state(torch.from_numpy(arrays[f"generator.{index}"]))
        self.batches.first = step
        return step

    def put_down(self, loop: Loop, step: int) -> None:
        """Write the state after `step` steps, if a chunk ends there and the next file is due."""
        if step % self.batches.chunk or not self.checkpoints.due:
            return
        generators = {f"generator.{index}": g.get_state() for index, g in enumerate(self.batches.generators)}
        self.checkpoints.write(step, {name: tensor.cpu().numpy() for name, tensor in (loop.tensors | generators).items()})


def program(loop: Loop, *, compile_step: bool = False, capture: bool = False, record: bool = False) -> Callable[..., None]:
    """The loop's step as it is run: plain, `compiled`, `Recorded`; or one of the first two `Captured`."""
    step = compiled(loop) if compile_step else Recorded(loop) if record else loop.step
    return Captured(loop, step) if capture else step


def fit(
    loop: Loop,
    batches: Iterable[Batch],
    *,
    keeper: Keeper | None = None,
    compile_step: bool = False,
    capture: bool = False,
    record: bool = False,
    weed: bool = False,
) -> History:
    """Maximise the objective of the loop's estimator; nothing waits for the host.

    A run whose objective or gradient is not finite is frozen at once, on the device: it keeps the parameters it had before
    that step, and its trace ends there. A batch without a joint pair changes nothing and is counted.

    Args:
        loop: what is trained.
        batches: one for each of its steps.
        keeper: of these batches; where it has a state, the training goes on from there.
        compile_step: see `compiled`.
        capture: see `Captured`; everything is on a CUDA device, and the scores draw no random numbers.
        record: see `Recorded`; everything is on the CPU.
        weed: end at the first look where some runs have diverged by then: the others cost less if they start again without them.
    """
    first = keeper.take_up(loop) if keeper else 0
    step = program(loop, compile_step=compile_step, capture=capture, record=record)
    for done, batch in enumerate(tqdm(batches, initial=first, total=len(loop.trace), disable=None, leave=False), first + 1):
        step(*batch)
        if keeper:
            keeper.put_down(loop, done)
        if done % LOOK_EVERY == 0 and not loop.alive.any():
            break
        if weed and done == LOOK_EVERY and not loop.alive.all():
            return loop.history(whole=False)
    return loop.history()
