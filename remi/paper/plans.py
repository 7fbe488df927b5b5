"""What a figure or table trains, as frozen dataclasses: their values, and the runs that follow from them.

Every field says where its value is from: "paper", "code" (the authors' released code, where the paper is silent) or "ours".
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields
from typing import Any

from remi.runs import CriticRun, EncoderRun, FloRun
from remi.training import GaussianStaircase, OneHot

Groups = dict[str, list[Any]]


@dataclass(frozen=True)
class Curve:
    """A loss as one figure uses it; `key` names it in products, `label` for readers."""

    key: str
    label: str
    loss: str
    lam: float | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """What a figure or table trains; `print` shows one field per line."""

    profile: str
    seeds: int

    def runs(self) -> Groups:
        """Every run, grouped by what the figure calls it; none for a derivation that trains nothing."""
        return {}

    def __str__(self) -> str:
        return "\n".join(f"{f.name:>14} = {_plain(getattr(self, f.name))}" for f in fields(self))


@dataclass(frozen=True)
class CriticPlan(Plan, ABC):
    """Losses that train a critic on a synthetic problem, all in the same setting."""

    curves: tuple[Curve, ...] = ()

    @property
    @abstractmethod
    def setting(self) -> dict[str, Any]:
        """What every run of the plan has in common, as fields of `CriticRun`."""

    def runs(self) -> Groups:
        """Seeds 0, 1, ... of every curve."""
        return {curve.key: [self.run(curve, seed) for seed in range(self.seeds)] for curve in self.curves}

    def run(self, curve: Curve, seed: int) -> CriticRun:
        """One of them."""
        kind = FloRun if curve.loss == "flo" else CriticRun
        return kind(loss=curve.loss, lam=curve.lam, options=curve.options, seed=seed, **self.setting)


@dataclass(frozen=True)
class OneHotPlan(CriticPlan):
    """Section 3: a small critic on the one-hot problem (Figs. 1 to 5)."""

    batch: int = 100  # paper
    steps: int = 3000  # paper
    lr: float = 0.1  # code: SGD without momentum
    hidden: int = 64  # code: one ReLU layer, no bias on the output
    symbols: int = 16  # code
    stratified: bool = False  # ours: the control of claim explode-4

    @property
    def setting(self) -> dict[str, Any]:
        """SGD, no bias on the output."""
        return {
            "batch": self.batch,
            "steps": self.steps,
            "optimizer": "sgd",
            "lr": self.lr,
            "hidden": (self.hidden,),
            "problem": OneHot(self.symbols, self.stratified),
            "output_bias": False,
        }


@dataclass(frozen=True)
class GaussianPlan(CriticPlan):
    """Section 5.3: a critic that follows a staircase of true values (Fig. 7)."""

    steps_per_level: int = 4000  # paper; five levels, code
    batch: int = 64  # paper
    dim: int = 20  # paper
    hidden: tuple[int, ...] = (256, 256)  # code
    lr: float = 5e-4  # code: Adam
    init_std: float = 0.05  # code: weights N(0, 0.05^2), zero biases
    smoothing: int = 200  # code: span of the moving average that is drawn

    @property
    def problem(self) -> GaussianStaircase:
        """The staircase."""
        return GaussianStaircase(self.steps_per_level, self.dim)

    @property
    def setting(self) -> dict[str, Any]:
        """Adam, normal weights."""
        return {
            "batch": self.batch,
            "steps": self.steps_per_level * len(self.problem.levels),
            "optimizer": "adam",
            "lr": self.lr,
            "hidden": self.hidden,
            "problem": self.problem,
            "init_std": self.init_std,
        }


@dataclass(frozen=True)
class AveragesPlan(CriticPlan):
    """Section 4, averaging over batches: a small critic, a fixed true value, batches too small for it (derivation3)."""

    batch: int = 8  # ours: 56 pairs from Q, chi-square 53.6
    steps: int = 3000  # ours
    pooled: int = 2048  # ours: the last steps, whose batches are averaged
    dim: int = 2  # ours
    mi: float = 2.0  # ours, nats: below log 8, so that InfoNCE could reach it
    hidden: tuple[int, ...] = (64,)  # ours
    lr: float = 5e-3  # ours: Adam

    @property
    def problem(self) -> GaussianStaircase:
        """A staircase of one level."""
        return GaussianStaircase(self.steps, self.dim, (self.mi,))

    @property
    def setting(self) -> dict[str, Any]:
        """Adam; no output bias, as in Section 3: nothing moves the offset but the loss."""
        return {
            "batch": self.batch,
            "steps": self.steps,
            "optimizer": "adam",
            "lr": self.lr,
            "hidden": self.hidden,
            "problem": self.problem,
            "output_bias": False,
        }


@dataclass(frozen=True)
class Benchmark:
    """One data set with what its training takes."""

    dataset: str
    classes: int
    batch: int
    steps: dict[str, int]  # by task
    hidden: tuple[int, ...]
    network: str = "mlp"
    train_size: int | None = None
    side: int | None = None
    lams: tuple[float, ...] = ()  # ours: of the plan's weights those that are tried here; all without it
    longer: dict[str, int] = field(default_factory=dict)  # ours: steps of "task/loss" that has not settled by then

    def length(self, task: str, loss: str) -> int:
        """Steps of a training."""
        return self.longer.get(f"{task}/{loss}", self.steps[task])


@dataclass(frozen=True)
class BenchmarkPlan(Plan):
    """Section 5.1: encoders trained on labelled images with each loss (Table 2 and Fig. 6)."""

    benchmarks: tuple[Benchmark, ...] = ()
    tasks: tuple[str, ...] = ("slb", "clb")
    curves: tuple[Curve, ...] = ()
    ablation: tuple[Curve, ...] = ()  # ours: clip only and regularizer only, CLB on the 10-class data
    lams: tuple[float, ...] = (0.1, 0.01, 0.001)  # paper
    lr: float = 1e-3  # code: Adam

    def cell(self, task: str, benchmark: Benchmark, curve: Curve, lam: float | None) -> list[EncoderRun]:
        """The seeds of one setting; loss "untrained" takes no step."""
        untrained = curve.loss == "untrained"
        return [
            EncoderRun(
                loss=curve.loss,
                lam=lam,
                options=curve.options,
                seed=seed,
                batch=benchmark.batch,
                steps=0 if untrained else benchmark.length(task, curve.loss),
                optimizer="adam",
                lr=self.lr,
                hidden=benchmark.hidden,
                task=task,
                dataset=benchmark.dataset,
                train_size=benchmark.train_size,
                network=benchmark.network,
                side=benchmark.side,
            )
            for seed in range(self.seeds)
        ]

    def runs(self) -> Groups:
        """Every cell, keyed "task/dataset/curve/lam"."""
        groups: Groups = {}
        for task in self.tasks:
            for benchmark in self.benchmarks:
                extra = self.ablation if task == "clb" and benchmark.classes == 10 else ()
                for curve in (*self.curves, *extra, UNTRAINED):
                    for lam in benchmark.lams or self.lams if curve.loss.startswith("re") else (None,):
                        key = f"{task}/{benchmark.dataset}/{curve.key}/{lam}"
                        groups[key] = self.cell(task, benchmark, curve, lam)
        return groups


UNTRAINED = Curve("untrained", "untrained", "untrained")


def _plain(value: object) -> str:
    if isinstance(value, tuple) and value and isinstance(value[0], Curve):
        return ", ".join(curve.label for curve in value)
    if isinstance(value, tuple) and value and isinstance(value[0], Benchmark):
        return ", ".join(f"{b.dataset} (batch {b.batch}, {_words(b)} steps)" for b in value)
    return str(value)


def _words(benchmark: Benchmark) -> str:
    """The number of steps, or one per task where they differ, and those of single losses."""
    steps, longer = benchmark.steps, benchmark.longer
    equal = len(set(steps.values())) == 1
    tasks = str(next(iter(steps.values()))) if equal else " and ".join(f"{count} {task.upper()}" for task, count in steps.items())
    return ", ".join([tasks, *(f"{count} {key}" for key, count in longer.items())])
