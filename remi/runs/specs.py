"""What a run is: a specification that holds every value that can change its numbers, and the training that it describes."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby, pairwise
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from remi.losses import Scores, estimators, with_second
from remi.training import (
    CIFAR,
    CIFAR_SIZES,
    DATASETS,
    PRECISIONS,
    SGD,
    Adam,
    Checkpoints,
    ConcatCritic,
    GaussianStaircase,
    History,
    Images,
    Keeper,
    Loop,
    Observers,
    OneHot,
    Optimizer,
    Stream,
    encoders,
    fit,
    in_batches,
    in_precision,
    initialize,
    macro_average,
    micro_average,
    noise,
    retrieve,
    tf32,
)

STACK = {"cpu": 20, "cuda": 160}  # runs trained together, at most
CHUNK = 100  # steps that a run draws ahead; part of what fixes its numbers
RECORD = 500  # steps: a shorter training is over before it pays to record its step or to weed its stack; no number depends on it
TRACED = ("estimate", "objective", "pairs")  # what the record of an encoder keeps of every step; a grid has hundreds of long runs
TESTED = ("mi_heldout", "accuracy", "accuracy_batch_stats")  # what the test split says of an encoder
OPTIMIZERS: dict[str, type[SGD] | type[Adam]] = {"sgd": SGD, "adam": Adam}


class Outcome(NamedTuple):
    """What one run leaves behind."""

    status: str  # "ok" or "diverged"
    scalars: dict[str, float]
    arrays: dict[str, np.ndarray]


@dataclass(frozen=True)
class Run(ABC):
    """What all runs have in common; those that differ in loss, weight, options and seed only can share a stack."""

    loss: str
    batch: int
    steps: int
    optimizer: str
    lr: float
    hidden: tuple[int, ...]
    lam: float | None = None  # weight of the regularizer; None for an original loss
    seed: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    precision: str = "fp32"  # of the network's arithmetic; fp32 is the reference
    compiled: bool = False  # the step as one compiled program, equal up to rounding

    def __post_init__(self) -> None:
        for name, least in (("batch", 1), ("steps", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise ValueError(f"{name} must be a whole number >= {least}; got {value!r}")
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer must be one of {', '.join(OPTIMIZERS)}; got {self.optimizer!r}")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}; got {self.precision!r}")
        if not isinstance(self.compiled, bool):
            raise ValueError(f"compiled must be true or false; got {self.compiled!r}")
        if self.compiled and self.optimizer == "adam":
            raise ValueError("compiled must be false with optimizer 'adam': PyTorch's compiler does not enter its fused Adam")

    @property
    @abstractmethod
    def words(self) -> str:
        """Readable part of the run's folder name."""

    @property
    @abstractmethod
    def cost(self) -> float:
        """Multiplications of one run, roughly: what a plan and a scheduler need."""

    @property
    def effort(self) -> float:
        """Its work in training steps."""
        return self.steps

    @property
    @abstractmethod
    def data_checksum(self) -> str:
        """Of the data that the run reads; empty when its samples follow from the specification."""

    @property
    def alone(self) -> bool:
        """True when the run shares no stack: its network is large enough to fill a device."""
        return False

    def together(self, device: str) -> int:
        """How many of these share a stack on such a device, at most; no number depends on it."""
        return 1 if self.alone else STACK[device]

    @staticmethod
    @abstractmethod
    def train(stack: Sequence[Any], where: torch.device, checkpoints: Checkpoints | None = None) -> "list[Outcome | None]":
        """Train a stack of runs, see the class, from the last checkpoint on where there is one.

        None is the outcome of a run that is better trained in another stack: others of this one have diverged early.
        """

    @staticmethod
    @abstractmethod
    def rehearse(stack: Sequence[Any], where: torch.device, steps: int) -> None:
        """Train the stack for a few steps and keep nothing: somebody takes the time."""

    def estimator(self, stack: Sequence["Run"], where: torch.device) -> estimators.Estimator:
        """The losses of the whole stack, each for the runs beside each other that have it."""
        parts = []
        for _, group in groupby(stack, key=lambda run: (run.loss, run.options, run.lam is None)):
            members = list(group)
            lam = {} if members[0].lam is None else {"lam": torch.tensor([run.lam for run in members], device=where)}
            parts.append((len(members), estimators.get(members[0].loss, **members[0].options, **lam)))
        return estimators.side_by_side(parts)

    def update_rule(self) -> Optimizer:
        """A fresh optimizer."""
        return OPTIMIZERS[self.optimizer](self.lr)


@dataclass(frozen=True)
class CriticRun(Run):
    """A concatenated critic that estimates the mutual information of a synthetic problem (Figs. 1 to 5 and 7)."""

    outputs: ClassVar[int] = 1  # of the critic for a pair
    problem: OneHot | GaussianStaircase = field(default_factory=OneHot)
    output_bias: bool = True
    init_std: float | None = None  # None: PyTorch's default initialisation

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1; got {self.steps}")
        if not isinstance(self.problem, OneHot | GaussianStaircase):
            raise ValueError(f"problem must be a OneHot or a GaussianStaircase; got {self.problem!r}")

    @property
    def words(self) -> str:
        """See `Run`."""
        name = "onehot" if isinstance(self.problem, OneHot) else "gaussian"
        return f"{name}-{self.loss}-b{self.batch}" + ("" if self.lam is None else f"-lam{self.lam:g}") + f"-seed{self.seed}"

    @property
    def cost(self) -> float:
        """See `Run`."""
        pairs = 2 * self.batch if isinstance(self.problem, OneHot) else self.batch**2
        sizes = (sum(self.problem.dims), *self.hidden, 1)
        return 3.0 * self.steps * (pairs * sum(a * b for a, b in pairwise(sizes[1:])) + 1e6)

    @property
    def data_checksum(self) -> str:
        """See `Run`."""
        return ""

    @staticmethod
    def rehearse(stack: Sequence["CriticRun"], where: torch.device, steps: int) -> None:
        """See `Run`."""
        CriticRun.train([replace(run, steps=steps) for run in stack], where)

    @staticmethod
    def train(stack: Sequence["CriticRun"], where: torch.device, checkpoints: Checkpoints | None = None) -> list[Outcome | None]:
        """See `Run`; a one-hot run also leaves its critic as a table."""
        critics = CriticStack(stack, where)
        with tf32(stack[0].precision == "tf32"):
            history = _fit(critics, checkpoints)
        tables = {} if isinstance(stack[0].problem, GaussianStaircase) else {"table": critics.table(stack[0].problem)}
        return [_outcome(history, member, tables=tables) for member in range(len(stack))]


class CriticStack:
    """A stack of critics and the samples that they see."""

    def __init__(self, stack: Sequence[CriticRun], where: torch.device) -> None:
        run = stack[0]
        self.run, self.stack, self.where = run, stack, where
        self.critic = ConcatCritic(
            *run.problem.dims, run.hidden, output_bias=run.output_bias, outputs=run.outputs, runs=len(stack)
        )
        initialize(self.critic, [torch.Generator().manual_seed(member.seed) for member in stack], run.init_std)
        self.critic.to(where)
        self.generators = [torch.Generator(where).manual_seed(member.seed) for member in stack]

    def loop(self) -> Loop:
        """Their training, before its first step."""
        problem, precision = self.run.problem, self.run.precision
        if isinstance(problem, OneHot):
            score, observe = _one_hot(problem, in_precision(self.critic, self.where, precision))
        else:
            score, observe = _all_pairs(in_precision(self.critic.matrix, self.where, precision)), {}
        if self.run.outputs > 1:
            score = with_second(score)
        estimator, rule = self.run.estimator(self.stack, self.where), self.run.update_rule()
        return Loop(self.critic, score, estimator, rule, runs=len(self.stack), steps=self.run.steps, observe=observe)

    def batches(self, steps: int) -> Stream:
        """Samples of the problem."""
        run = self.run
        return Stream(lambda g, first, steps: run.problem.draw(g, first, steps, run.batch), self.generators, steps, CHUNK)

    @torch.no_grad()
    def table(self, problem: OneHot) -> Tensor:
        """(runs, N, N) scores T of all pairs of symbols."""
        symbols = problem.encode(torch.arange(problem.symbols, device=self.where)).expand(len(self.stack), -1, -1)
        return self.critic.matrix(symbols, symbols).reshape(-1, *symbols.shape[1:])[: len(self.stack)].cpu()


def _one_hot(problem: OneHot, critic: Callable[..., Tensor]) -> tuple[Callable[..., Scores], Observers]:
    """Joint pairs (x, x) against independent pairs (u, v), and one output of each kind to draw."""

    def score(x: Tensor, u: Tensor, v: Tensor) -> Scores:
        left, right = problem.encode(torch.cat([x, u], -1)), problem.encode(torch.cat([x, v], -1))
        joint, marginal = critic(left, right).chunk(2, -1)
        return Scores(joint, marginal.unsqueeze(-2))

    return score, {
        "joint_output": lambda scores, *batch: scores.joint[:, 0],
        "marginal_output": lambda scores, *batch: scores.marginal[:, 0, 0],
        "on_diagonal": lambda scores, x, u, v: (u == v)[:, 0].to(scores.joint.dtype),
    }


def _all_pairs(matrix: Callable[..., Tensor]) -> Callable[[Tensor, Tensor], Scores]:
    """Every x with every y of the batch."""
    return lambda x, y: Scores.from_matrix(matrix(x, y))


@dataclass(frozen=True)
class EncoderRun(Run):
    """An encoder trained on labelled images with a loss as the objective: the benchmarks of Section 5.1.

    With `steps` 0 the encoder stays untrained and `loss` only names the row.
    """

    task: str = "clb"  # "slb": T = logits[y]; "clb": T = f(x1) . f(x2)
    dataset: str = "digits"
    train_size: int | None = None  # training images, equally many of each class; None: all
    network: str = "mlp"  # "mlp", "mlp-signed" or "mlp-unit" for flat images; "conv" or "resnet18" for photographs
    side: int | None = None  # to which photographs are resized, in pixels; None: as they are

    def __post_init__(self) -> None:
        super().__post_init__()
        choices = {"task": ("slb", "clb"), "dataset": DATASETS, "network": encoders.NETWORKS}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}; got {getattr(self, name)!r}")
        for name in ("train_size", "side"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int) and value > 0):
                raise ValueError(f"{name} must be a positive whole number or None; got {value!r}")
        if len(self.hidden) < (least := encoders.NETWORKS[self.network]):
            raise ValueError(f"hidden must hold at least {least} sizes for network {self.network!r}; got {self.hidden!r}")

    @property
    def words(self) -> str:
        """See `Run`."""
        lam = "" if self.lam is None else f"-lam{self.lam:g}"
        return f"{self.task}-{self.dataset}-{self.loss if self.steps else 'untrained'}{lam}-seed{self.seed}"

    @property
    def cost(self) -> float:
        """See `Run`."""
        return 3.0 * self.effort * (self.batch * encoders.multiplications(self.network, self.hidden, self.side or 32) + 1e6)

    @property
    def effort(self) -> float:
        """See `Run`; the test split is seen three times and CLB's items twice, and going forward is a third of a step."""
        train, test = CIFAR_SIZES if self.dataset in CIFAR else self.data.sizes
        images = 3 * test + (2 * (self.train_size or train) if self.task == "clb" else 0)
        return self.steps + images / self.batch / 3

    @property
    def data(self) -> Images:
        """All of the data set."""
        return DATASETS[self.dataset]()

    @property
    def data_checksum(self) -> str:
        """See `Run`."""
        return self.data.checksum

    @property
    def alone(self) -> bool:
        """See `Run`."""
        return self.network == "resnet18"

    def together(self, device: str) -> int:
        """See `Run`; weights, gradient and moments of a convolutional network are 9 MB, and those of many leave a CPU's cache."""
        return 5 if self.network == "conv" and device == "cpu" else super().together(device)

    @staticmethod
    def rehearse(stack: Sequence["EncoderRun"], where: torch.device, steps: int) -> None:
        """See `Run`; CIFAR need not be there."""
        run = stack[0]
        data = noise(run.dataset, 10 * run.batch) if run.dataset in CIFAR else run.data
        with tf32(run.precision == "tf32"):
            _fit(EncoderStack([replace(run, steps=steps) for run in stack], data, where), None)

    @staticmethod
    def train(stack: Sequence["EncoderRun"], where: torch.device, checkpoints: Checkpoints | None = None) -> list[Outcome | None]:
        """See `Run`; the encoders are evaluated on the test split."""
        run, data = stack[0], stack[0].data
        with tf32(run.precision == "tf32"):
            encoder_stack = EncoderStack(stack, data.balanced(run.train_size) if run.train_size else data, where)
            if not run.steps:
                encoder_stack.look()
                return [Outcome("ok", scalars, {}) for scalars in encoder_stack.evaluate()]
            history = _fit(encoder_stack, checkpoints)
            results = encoder_stack.evaluate() if history.whole else [dict.fromkeys(TESTED, torch.nan)] * len(stack)
            return [
                _outcome(history, member, scalars | _training_scalars(history, member, encoder_stack.epoch), kept=TRACED)
                if history.whole or history.status(member) == "diverged"
                else None
                for member, scalars in enumerate(results)
            ]


class EncoderStack:
    """A stack of encoders and the images that they see."""

    def __init__(self, stack: Sequence[EncoderRun], data: Images, where: torch.device) -> None:
        run = stack[0]
        if (data.train_images.ndim > 2) == run.network.startswith("mlp"):
            raise ValueError(
                f"network must be an 'mlp' for flat images and another for photographs; got {run.network!r} for {data.name}"
            )
        self.run, self.stack, self.where, self.data = run, stack, where, data.to(where)
        self.epoch = len(data.train_labels) // run.batch  # steps
        if not self.epoch:
            raise ValueError(
                f"batch must be at most {len(data.train_labels)}, the training images of {data.name}; got {run.batch}"
            )
        seeds = [member.seed for member in stack]
        classes = data.classes if run.task == "slb" else None
        inputs = run.side or data.train_images.shape[-1]
        self.network = encoders.build(run.network, run.hidden, inputs=inputs, classes=classes, seeds=seeds).to(where)
        self.outputs = in_precision(self.network, where, run.precision)  # (n, ...) or (runs, n, ...) images -> (runs, n, outputs)
        self.generators = [torch.Generator(where).manual_seed(seed) for seed in seeds]

    def scores(self, images: Tensor, labels: Tensor) -> Scores:
        """Scores of one batch of the stack."""
        outputs = self.outputs(images)
        labels = labels.expand(outputs.shape[:-1])
        return Scores.from_logits(outputs, labels) if self.run.task == "slb" else Scores.from_embeddings(outputs, labels)

    def loop(self) -> Loop:
        """Their training, before its first step."""
        images, labels = self.data.train_images, self.data.train_labels
        return Loop(
            self.network,
            lambda indices: self.scores(images[indices], labels[indices]),
            self.run.estimator(self.stack, self.where),
            self.run.update_rule(),
            runs=len(self.stack),
            steps=self.run.steps,
            observe={
                "score_low": lambda scores, indices: scores.marginal_min(),
                "score_high": lambda scores, indices: scores.marginal_max(),
            },
        )

    @torch.no_grad()
    def look(self) -> None:
        """An untrained encoder still needs the statistics of its features: one epoch of looking."""
        for (indices,) in self.batches(self.epoch):
            self.network(self.data.train_images[indices])

    @torch.no_grad()
    def evaluate(self) -> list[dict[str, float]]:
        """What the test split says of each run."""
        self.network.eval()
        batches = zip(*(part.split(self.run.batch) for part in (self.data.test_images, self.data.test_labels)), strict=True)
        readings = [self.scores(*batch) for batch in batches if len(batch[0]) == self.run.batch]
        held_out = [(scores.joint_mean(), scores.log_mean_exp(), scores.pairs) for scores in readings]
        pooled = [torch.stack(parts, -1).cpu() for parts in zip(*held_out, strict=True)]
        accuracy = self._accuracies()
        self.network.train()  # the released code never leaves this mode: batch statistics of the test batches
        accuracy_batch_stats = self._accuracies()
        return [
            {
                "mi_heldout": micro_average(*(part[member] for part in pooled)),
                "accuracy": accuracy[member],
                "accuracy_batch_stats": accuracy_batch_stats[member],
            }
            for member in range(len(self.stack))
        ]

    def _accuracies(self) -> list[float]:
        outputs = in_batches(self.outputs, self.data.test_images, self.run.batch)
        if self.run.task == "slb":
            guesses = outputs.argmax(-1)
        else:
            items = in_batches(self.outputs, self.data.train_images, self.run.batch)
            guesses = torch.stack([retrieve(q, z, self.data.train_labels) for q, z in zip(outputs, items, strict=True)])
        return (guesses == self.data.test_labels).double().mean(-1).tolist()

    def batches(self, steps: int) -> Stream:
        """Indices of training images, every image at most once an epoch."""
        n, batch = len(self.data.train_labels), self.run.batch

        def epoch_of_indices(generator: torch.Generator, first: int, steps: int) -> tuple[Tensor]:
            order = torch.randperm(n, generator=generator, device=self.where)
            return (order[: steps * batch].view(steps, batch),)

        return Stream(epoch_of_indices, self.generators, steps, self.epoch)


def _fit(stack: CriticStack | EncoderStack, checkpoints: Checkpoints | None) -> History:
    """Train as the specification says, as one graph where there is CUDA."""
    batches = stack.batches(stack.run.steps)
    keeper = Keeper(checkpoints, batches) if checkpoints else None
    run, place = stack.run, stack.where.type
    small = isinstance(run, EncoderRun) and not run.alone
    long = run.steps >= RECORD
    record = small and long and place == "cpu" and not run.compiled
    options = {"compile_step": run.compiled, "capture": place == "cuda", "record": record, "weed": small and long}
    return fit(stack.loop(), batches, keeper=keeper, **options)


def _training_scalars(history: History, member: int, epoch: int) -> dict[str, float]:
    last = {name: trace[member, -epoch:].double() for name, trace in history.traces.items()}
    seen = last["pairs"] > 0
    found = dict.fromkeys(("mi_train", "mi_last_batch", "mi_dv"), torch.nan)  # it diverged earlier, or saw no joint pair
    if seen.any():
        estimates = last["estimate"][seen]
        found["mi_train"], found["mi_last_batch"] = macro_average(estimates), float(estimates[-1])
        found["mi_dv"] = micro_average(*(last[name][seen] for name in ("score_mean", "score_log_mean_exp", "pairs")))
    return found | {
        "n_skipped": float(history.skipped[member]),
        "first_score_low": float(history.traces["score_low"][member, 0]),
        "first_score_high": float(history.traces["score_high"][member, 0]),
    }


def _outcome(
    history: History,
    member: int,
    scalars: dict[str, float] | None = None,
    *,
    tables: dict[str, Tensor] | None = None,
    kept: Iterable[str] | None = None,
) -> Outcome:
    """What a run leaves behind; of its traces those that are `kept`, or all."""
    scalars, status = dict(scalars or {}), history.status(member)
    if status == "diverged":
        step = int(history.diverged_at[member])
        scalars = {name: value if name == "n_skipped" or name.startswith("first") else np.nan for name, value in scalars.items()}
        terms = {name: float(history.traces[name][member, step]) for name in ("joint_term", "marginal_term")}
        scalars |= {"diverged_at": step} | {f"diverged_{name}": value for name, value in terms.items()}
    traces = {name: history.traces[name] for name in kept or history.traces}
    arrays = {name: table[member].numpy() for name, table in ((tables or {}) | traces).items()}
    return Outcome(status, scalars, arrays)


KINDS: dict[str, Any] = {cls.__name__: cls for cls in (CriticRun, EncoderRun, OneHot, GaussianStaircase)}


def to_json(run: Run) -> dict[str, Any]:
    """A specification as plain JSON values; `from_json` reverses it."""
    plain = {"kind": type(run).__name__, **asdict(run)}
    if isinstance(run, CriticRun):
        plain["problem"] = {"kind": type(run.problem).__name__, **plain["problem"]}
    return dict(json.loads(json.dumps(plain)))


def from_json(plain: dict[str, Any]) -> Any:
    """The specification that `to_json` wrote.

    Raises:
        ValueError: the kind or a field is unknown, or a required field is missing.
    """
    if not isinstance(plain, dict):
        raise ValueError(f"a specification must be a JSON object; got {plain!r}")
    values = dict(plain)
    kind = values.pop("kind", None)
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}; got {kind!r}")
    if isinstance(values.get("problem"), dict):
        values["problem"] = from_json(values["problem"])
    try:
        return KINDS[kind](**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})
    except TypeError as error:
        raise ValueError(f"not a {kind}: {error}") from None
