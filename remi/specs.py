"""What a run is: a specification that holds every value that can change its numbers, and the training that it describes."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from remi import estimators
from remi.critics import ConcatCritic, initialize
from remi.evaluation import in_batches, macro_average, micro_average, retrieve
from remi.images import DATASETS, Images, encoder
from remi.problems import GaussianStaircase, OneHot
from remi.scores import Scores
from remi.training import SGD, Adam, History, Optimizer, fit, stream

CHUNK = 100  # steps that a run draws ahead; part of what fixes its numbers
OPTIMIZERS: dict[str, type[SGD] | type[Adam]] = {"sgd": SGD, "adam": Adam}


class Outcome(NamedTuple):
    """What one run leaves behind."""

    status: str  # "ok" or "diverged"
    scalars: dict[str, float]
    arrays: dict[str, np.ndarray]


@dataclass(frozen=True)
class Run(ABC):
    """What all runs have in common; two runs that differ in `lam` and `seed` only can share a stack."""

    loss: str
    batch: int
    steps: int
    optimizer: str
    lr: float
    hidden: tuple[int, ...]
    lam: float | None = None  # weight of the regularizer; None for an original loss
    seed: int = 0
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, least in (("batch", 1), ("steps", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise ValueError(f"{name} must be a whole number >= {least}; got {value!r}")
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer must be one of {', '.join(OPTIMIZERS)}; got {self.optimizer!r}")

    @property
    @abstractmethod
    def words(self) -> str:
        """Readable part of the run's folder name."""

    @property
    @abstractmethod
    def cost(self) -> float:
        """Multiplications of one run, roughly: what a plan and a scheduler need."""

    @property
    @abstractmethod
    def data_checksum(self) -> str:
        """Of the data that the run reads; empty when its samples follow from the specification."""

    @staticmethod
    @abstractmethod
    def train(stack: Sequence[Any], where: torch.device) -> "list[Outcome]":
        """Train a stack of runs that share everything but `lam` and `seed`."""

    def estimator(self, stack: Sequence["Run"], where: torch.device) -> estimators.Estimator:
        """The loss of the whole stack."""
        lam = {} if self.lam is None else {"lam": torch.tensor([run.lam for run in stack], device=where)}
        return estimators.get(self.loss, **self.options, **lam)

    def update_rule(self) -> Optimizer:
        """A fresh optimizer."""
        return OPTIMIZERS[self.optimizer](self.lr)


@dataclass(frozen=True)
class CriticRun(Run):
    """A concatenated critic that estimates the mutual information of a synthetic problem (Figs. 1 to 5 and 7)."""

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
    def train(stack: Sequence["CriticRun"], where: torch.device) -> list[Outcome]:
        """See `Run`; a one-hot run also leaves its critic as a table."""
        run, runs = stack[0], len(stack)
        problem = run.problem
        critic = ConcatCritic(*problem.dims, run.hidden, output_bias=run.output_bias, runs=runs)
        initialize(critic, [torch.Generator().manual_seed(member.seed) for member in stack], run.init_std)
        critic.to(where)
        generators = [torch.Generator(where).manual_seed(member.seed) for member in stack]
        batches = stream(lambda g, first, steps: problem.draw(g, first, steps, run.batch), generators, run.steps, CHUNK)

        score, observe = _one_hot(problem, critic) if isinstance(problem, OneHot) else (_all_pairs(critic), None)
        history = fit(
            critic, score, batches, run.estimator(stack, where), run.update_rule(), runs=runs, steps=run.steps, observe=observe
        )
        tables = {}
        if isinstance(problem, OneHot):
            symbols = problem.encode(torch.arange(problem.symbols, device=where)).expand(runs, -1, -1)
            tables["table"] = critic.matrix(symbols, symbols).detach().cpu()
        return [_outcome(history, member, {}, tables) for member in range(runs)]


def _one_hot(problem: OneHot, critic: ConcatCritic) -> tuple[Callable[..., Scores], Callable[..., dict[str, Tensor]]]:
    """Joint pairs (x, x) against independent pairs (u, v), and one output of each kind to draw."""

    def score(x: Tensor, u: Tensor, v: Tensor) -> Scores:
        left, right = problem.encode(torch.cat([x, u], -1)), problem.encode(torch.cat([x, v], -1))
        joint, marginal = critic(left, right).chunk(2, -1)
        return Scores(joint, marginal.unsqueeze(-2))

    def observe(scores: Scores, x: Tensor, u: Tensor, v: Tensor) -> dict[str, Tensor]:
        outputs = {"joint_output": scores.joint[:, 0], "marginal_output": scores.marginal[:, 0, 0]}
        return outputs | {"on_diagonal": (u == v)[:, 0].float()}

    return score, observe


def _all_pairs(critic: ConcatCritic) -> Callable[[Tensor, Tensor], Scores]:
    """Every x with every y of the batch."""
    return lambda x, y: Scores.from_matrix(critic.matrix(x, y))


@dataclass(frozen=True)
class EncoderRun(Run):
    """An encoder trained on labelled images with a loss as the objective: the benchmarks of Section 5.1.

    With `steps` 0 the encoder stays untrained and `loss` only names the row.
    """

    task: str = "clb"  # "slb": T = logits[y]; "clb": T = f(x1) . f(x2)
    dataset: str = "digits"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, allowed in (("task", ("slb", "clb")), ("dataset", DATASETS)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}; got {getattr(self, name)!r}")

    @property
    def words(self) -> str:
        """See `Run`."""
        lam = "" if self.lam is None else f"-lam{self.lam:g}"
        return f"{self.task}-{self.dataset}-{self.loss if self.steps else 'untrained'}{lam}-seed{self.seed}"

    @property
    def cost(self) -> float:
        """See `Run`."""
        sizes = (64, *self.hidden)
        return 3.0 * self.steps * (self.batch * sum(a * b for a, b in pairwise(sizes)) + 1e6)

    @property
    def data_checksum(self) -> str:
        """See `Run`."""
        return DATASETS[self.dataset]().checksum

    @staticmethod
    def train(stack: Sequence["EncoderRun"], where: torch.device) -> list[Outcome]:
        """See `Run`; the encoders are evaluated on the test split."""
        run, runs = stack[0], len(stack)
        data = DATASETS[run.dataset]().to(where)
        n, pixels = data.train_images.shape
        network = encoder([pixels, *run.hidden], classes=data.classes if run.task == "slb" else None, runs=runs)
        initialize(network, [torch.Generator().manual_seed(member.seed) for member in stack])
        network.to(where)
        generators = [torch.Generator(where).manual_seed(member.seed) for member in stack]
        epoch = n // run.batch

        def epoch_of_indices(generator: torch.Generator, first: int, steps: int) -> tuple[Tensor]:
            order = torch.randperm(n, generator=generator, device=where)
            return (order[: steps * run.batch].view(steps, run.batch),)

        def scores_of(images: Tensor, labels: Tensor) -> Scores:
            outputs = network(images)
            labels = labels.expand(outputs.shape[:-1])
            return Scores.from_logits(outputs, labels) if run.task == "slb" else Scores.from_embeddings(outputs, labels)

        def observe(scores: Scores, indices: Tensor) -> dict[str, Tensor]:
            return {"score_low": scores.marginal.amin((-2, -1)), "score_high": scores.marginal.amax((-2, -1))}

        history = None
        if run.steps:
            history = fit(
                network,
                lambda indices: scores_of(data.train_images[indices], data.train_labels[indices]),
                stream(epoch_of_indices, generators, run.steps, epoch),
                run.estimator(stack, where),
                run.update_rule(),
                runs=runs,
                steps=run.steps,
                observe=observe,
            )
        with torch.no_grad():
            if not run.steps:  # an untrained encoder still needs the statistics of its features: one epoch of looking
                for (indices,) in stream(epoch_of_indices, generators, epoch, epoch):
                    network(data.train_images[indices])
            network.eval()
            held_out = [
                (scores.joint_mean(), scores.log_mean_exp(), scores.pairs)
                for images, labels in zip(
                    *(torch.split(part, run.batch) for part in (data.test_images, data.test_labels)), strict=True
                )
                if len(images) == run.batch and (scores := scores_of(images, labels))
            ]
            pooled = [torch.stack(parts, -1).cpu() for parts in zip(*held_out, strict=True)]
            accuracy = _accuracies(network, data, run)
            network.train()  # the released code never leaves this mode: batch statistics of the test batches
            accuracy_batch_stats = _accuracies(network, data, run)
        outcomes = []
        for member in range(runs):
            scalars = {
                "mi_heldout": micro_average(*(part[member] for part in pooled)),
                "accuracy": accuracy[member],
                "accuracy_batch_stats": accuracy_batch_stats[member],
            }
            if history is not None:
                scalars |= _training_scalars(history, member, epoch)
            outcomes.append(_outcome(history, member, scalars, {}))
        return outcomes


def _accuracies(network: torch.nn.Module, data: Images, run: EncoderRun) -> list[float]:
    outputs = in_batches(network, data.test_images, run.batch)
    if run.task == "slb":
        guesses = outputs.argmax(-1)
    else:
        items = in_batches(network, data.train_images, run.batch)
        guesses = torch.stack([retrieve(q, z, data.train_labels) for q, z in zip(outputs, items, strict=True)])
    return (guesses == data.test_labels).double().mean(-1).tolist()


def _training_scalars(history: History, member: int, epoch: int) -> dict[str, float]:
    last = {name: trace[member, -epoch:].double() for name, trace in history.traces.items()}
    seen = last["pairs"] > 0
    estimates = last["estimate"][seen]
    return {
        "mi_train": macro_average(estimates),
        "mi_last_batch": float(estimates[-1]) if seen.any() else torch.nan,
        "mi_dv": micro_average(*(last[name][seen] for name in ("score_mean", "score_log_mean_exp", "pairs"))),
        "n_skipped": float(history.skipped[member]),
        "first_score_low": float(history.traces["score_low"][member, 0]),
        "first_score_high": float(history.traces["score_high"][member, 0]),
    }


def _outcome(history: History | None, member: int, scalars: dict[str, float], tables: dict[str, Tensor]) -> Outcome:
    arrays = {name: table[member].numpy() for name, table in tables.items()}
    if history is None:
        return Outcome("ok", scalars, arrays)
    arrays |= {name: trace[member].numpy() for name, trace in history.traces.items()}
    status = history.status(member)
    if status == "diverged":
        step = int(history.diverged_at[member])
        scalars = {name: value if name == "n_skipped" or name.startswith("first") else np.nan for name, value in scalars.items()}
        scalars |= {"diverged_at": step} | {
            f"diverged_{name}": float(arrays[name][step]) for name in ("joint_term", "marginal_term")
        }
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
