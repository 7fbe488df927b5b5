"""Cross-fitting: critics trained without a fold of the rows and read on it, so that a lower bound cannot overfit upwards."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from remi.estimation.questions import BLOCK, LOOK_BLOCK, Question
from remi.estimation.ratios import QuadraticCritic, RatioCritic
from remi.losses import Scores, estimators
from remi.training import Adam, Loop, Stream, evaluation, fit

LOOK_EVERY = 50  # steps between two looks at the validation rows
PATIENCE = 10  # looks without a value better by TOLERANCE before training ends
TOLERANCE = 5e-4  # nats
WITNESSES = 10  # draws from Q that a density ratio needs to be believed
AVERAGE = 0.7  # weight of the past in the moving average of the parameters that a look judges
VALIDATION = 1 / 6  # share of a fold's training rows that decides when to stop
GROUPS = 10  # parts of the held-out rows that the jackknife leaves out in turn
OFFSET = {"nwj": 1.0}  # log E_Q[exp T] at the normalised critic; 0 for the other bounds


@dataclass(frozen=True)
class Plan:
    """How critics are trained.

    Raises:
        ValueError: a value is not what it must be; the message names it and what is allowed.
    """

    bound: str
    seed: int
    folds: int
    restarts: int
    batch: int
    steps: int
    lr: float
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.bound, str) or self.bound not in estimators.NAMES:
            raise ValueError(f"bound must be one of {', '.join(estimators.NAMES)}; got {self.bound!r}")
        limits = {"seed": (0, 2**40), "folds": (2, 100), "restarts": (1, 100), "batch": (8, 2**16), "steps": (0, 10**9)}
        for name, (low, high) in limits.items():
            number = getattr(self, name)
            if not isinstance(number, Integral) or isinstance(number, bool) or not low <= int(number) <= high:
                raise ValueError(f"{name} must be a whole number from {low} to {high}; got {number!r}")
        if not isinstance(self.lr, Real) or isinstance(self.lr, bool) or not 0 < self.lr < math.inf:
            raise ValueError(f"lr must be a positive number; got {self.lr!r}")
        if isinstance(lam := self.options.get("lam"), Tensor):
            raise ValueError(f"lam must be one number; got {lam!r}")
        estimators.get(self.bound, **self.options)

    @property
    def runs(self) -> int:
        """Critics: run r belongs to fold r modulo `folds`."""
        return self.folds * self.restarts

    @property
    def family(self) -> str:
        """The bound, its regularizer left out."""
        return estimators.family(self.bound)

    def read(self, scores: Scores) -> estimators.Reading:
        """The bound's reading."""
        return estimators.get(self.bound, **self.options)(scores)


# ---- Rows ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Split:
    """Rows of one sample, per run: to train, to decide when to stop, and to read the value from."""

    train: Tensor  # (runs, n_train)
    validation: Tensor  # (runs, n_validation)
    held_out: Tensor  # (runs, n // folds)

    def to(self, device: torch.device) -> "Split":
        """The same rows, listed on a device."""
        return Split(self.train.to(device), self.validation.to(device), self.held_out.to(device))


def split(n: int, plan: Plan, generator: torch.Generator) -> Split:
    """Every fold is held out once; its other rows are shuffled anew for every restart. Rows left over train everywhere.

    Raises:
        ValueError: fewer than four rows in a fold.
    """
    if plan.folds > n // 4:
        raise ValueError(f"folds must be a whole number from 2 to {n // 4}, a quarter of the {n} rows; got {plan.folds}")
    order = torch.randperm(n, generator=generator)
    folds = order[: n // plan.folds * plan.folds].view(plan.folds, -1)
    rows = []
    for run in range(plan.runs):
        held_out = folds[run % plan.folds]
        rest = order[~torch.isin(order, held_out)]
        rows.append((rest[torch.randperm(len(rest), generator=generator)], held_out))
    others, held_out = (torch.stack(part) for part in zip(*rows, strict=True))
    stop = max(2, int(others.shape[1] * VALIDATION))
    return Split(others[:, stop:], others[:, :stop], held_out)


def batches(splits: Sequence[Split], batch: int) -> Callable[[torch.Generator, int, int], tuple[Tensor, ...]]:
    """Positions in the training rows: no row twice in a batch, for a row beside itself would be a joint pair in Q."""

    def draw(generator: torch.Generator, first: int, steps: int) -> tuple[Tensor, ...]:
        drawn = []
        for part in splits:
            n = part.train.shape[1]
            size = min(batch, n)
            epochs = -(-steps // (n // size))
            shuffled = torch.rand(epochs, n, generator=generator).argsort(-1)[:, : n // size * size]
            drawn.append(shuffled.reshape(-1, size)[:steps])
        return tuple(drawn)

    return draw


# ---- What a stack of critics reads --------------------------------------------------------------------------------------


class Limits(NamedTuple):
    """Between what T is read, and what is subtracted from it; (runs,) each.

    No score is above the largest that a training pair has, for what lies beyond is extrapolation, and exp T would magnify
    it. And none is farther from the offset than log(N/10), where N draws from Q were seen: of a region with a larger density
    ratio, less than 10 of them are expected. Without the second, one row outside the others' range makes the bound as
    large, or as small, as one likes (Proposition A).
    """

    low: Tensor
    high: Tensor
    offset: Tensor  # 0 where the bound holds the offset itself

    def apply(self, scores: Scores) -> Scores:
        """The scores as they are read."""

        def one(values: Tensor) -> Tensor:
            low, high, offset = (limit.view(-1, *[1] * (values.ndim - 1)) for limit in self)
            return values.clamp(low, high) - offset

        return scores.map(one)


@torch.no_grad()
def limits(question: Question, network: nn.Module, splits: Sequence[Split], plan: Plan) -> Limits:
    """What the training rows allow."""
    rows = [part.train for part in splits]
    offset = question.score(network, *(part[:, :BLOCK] for part in rows), block=LOOK_BLOCK).log_mean_exp()
    nothing = torch.zeros_like(offset)
    if plan.family == "infonce":  # each row has its own offset
        return Limits(nothing - torch.inf, nothing + torch.inf, nothing)
    far = math.log(max(WITNESSES, question.combinations(*(part.shape[1] for part in rows)) / WITNESSES))
    highest = torch.minimum(question.joint(network, *rows).amax(-1), offset + far)
    # Donsker-Varadhan does not hold its offset, and pooling needs one (Theorem 6)
    return Limits(offset - far, highest, offset if plan.family == "mine" else nothing)


@dataclass(frozen=True)
class Look:
    """What a stack of critics reads on its validation rows."""

    value: Tensor  # (runs,)
    normalizer: Tensor  # (runs,)
    rows: Tensor  # (runs, n) what each row adds: the mean is the value
    plan: Plan

    @property
    def shared(self) -> Tensor:
        """(runs,) mean value of the fold's critics: its restarts watch different rows, and are judged together."""
        return self._over_folds(self.value.unsqueeze(-1)).mean(-1).repeat(self.plan.restarts)

    def surpasses(self, best: "Look", errors: float) -> Tensor:
        """(runs,) True where the value is higher by more than so many standard errors."""
        gained = self._over_folds(self.rows - best.rows)
        convincing = gained.mean(-1) > errors * gained.std(-1) / math.sqrt(gained.shape[-1])
        return convincing.repeat(self.plan.restarts)

    def where(self, mask: Tensor, other: "Look") -> "Look":
        """This look where `mask` (runs,) says so, the other elsewhere."""
        value = torch.where(mask, self.value, other.value)
        normalizer = torch.where(mask, self.normalizer, other.normalizer)
        return Look(value, normalizer, torch.where(mask.unsqueeze(-1), self.rows, other.rows), self.plan)

    def _over_folds(self, values: Tensor) -> Tensor:
        """(runs, n) -> (folds, restarts * n)."""
        return values.unflatten(0, (self.plan.restarts, self.plan.folds)).transpose(0, 1).flatten(1)


@torch.no_grad()
def look(question: Question, network: nn.Module, splits: Sequence[Split], plan: Plan) -> Look:
    """The validation rows, within the limits of the training rows."""
    scores = question.score(network, *(part.validation for part in splits), block=LOOK_BLOCK)
    within = limits(question, network, splits, plan)
    scores = within._replace(offset=torch.zeros_like(within.offset)).apply(scores)
    reading = plan.read(scores)
    value = torch.where(reading.estimate.isfinite(), reading.estimate, -torch.inf)
    return Look(value, reading.normalizer, scores.joint + (value - scores.joint_mean()).unsqueeze(-1), plan)


# ---- Training -----------------------------------------------------------------------------------------------------------


@dataclass
class Trained:
    """A stack of critics at their best look, and how they got there."""

    network: nn.Module
    limits: Limits
    history: dict[str, np.ndarray[Any, Any]]
    idle: Tensor  # (runs,) True where the critic is still T = 0


def train(question: Question, network: nn.Module, splits: Sequence[Split], plan: Plan) -> Trained:
    """Train all critics as one stack; each keeps the parameters of its fold's best look at the validation rows."""
    device = splits[0].train.device
    generators = [torch.Generator().manual_seed(plan.seed * 10_007 + run + 1) for run in range(plan.runs)]
    runs = torch.arange(plan.runs, device=device).unsqueeze(-1)

    def score(*positions: Tensor) -> Scores:
        return question.score(network, *(part.train[runs, at.to(device)] for part, at in zip(splits, positions, strict=True)))

    idle = torch.zeros(plan.runs, dtype=torch.bool, device=device)
    if isinstance(network, QuadraticCritic | RatioCritic):
        starts = (
            generators if device.type == "cpu" else [torch.Generator(device).manual_seed(g.initial_seed()) for g in generators]
        )
        network.begin(starts)
        idle = _choose_start(question, network, splits, plan)
    parameters = list(network.parameters())

    def copy() -> list[Tensor]:
        return [p.detach().clone() for p in parameters]

    def put(values: Sequence[Tensor]) -> None:
        for parameter, value in zip(parameters, values, strict=True):
            parameter.data = value.clone()

    best = look(question, network, splits, plan)
    kept, average = copy(), copy()
    best_step, moved_at, diverged_at = (torch.full((plan.runs,), start, device=device) for start in (0, 0, -1))
    steps, looks = [0], [best]
    optimizer = Adam(plan.lr)
    while steps[-1] < plan.steps:
        chunk = min(LOOK_EVERY, plan.steps - steps[-1])
        stream = Stream(batches(splits, plan.batch), generators, chunk, chunk)
        loop = Loop(network, score, plan.read, optimizer, runs=plan.runs, steps=chunk)
        outcome = fit(loop, stream)
        new = (outcome.diverged_at.to(device) >= 0) & (diverged_at < 0)
        diverged_at = torch.where(new, steps[-1] + outcome.diverged_at.to(device), diverged_at)

        latest = copy()
        average = [AVERAGE * old + (1 - AVERAGE) * now for old, now in zip(average, latest, strict=True)]
        put(average)
        looks.append(look(question, network, splits, plan))
        steps.append(steps[-1] + chunk)
        progress, better = looks[-1].shared > best.shared + TOLERANCE, looks[-1].surpasses(best, question.doubt)
        for keep, now in zip(kept, average, strict=True):
            keep[better] = now[better]
        best = looks[-1].where(better, best)
        best_step = torch.where(better, steps[-1], best_step)
        moved_at = torch.where(progress & better, steps[-1], moved_at)
        if bool(((steps[-1] - moved_at >= PATIENCE * LOOK_EVERY) | (diverged_at >= 0)).all()):
            break
        put(latest)
    put(kept)
    history = {
        "step": np.array(steps),
        "validation": torch.stack([one.value for one in looks], 1).cpu().numpy(),
        "normalizer": torch.stack([one.normalizer for one in looks], 1).cpu().numpy(),
        "best_step": best_step.cpu().numpy(),
        "diverged_at": diverged_at.cpu().numpy(),
        "fold": np.arange(plan.runs) % plan.folds,
    }
    return Trained(network, limits(question, network, splits, plan), history, idle & (best_step == 0))


@torch.no_grad()
def _choose_start(question: Question, network: QuadraticCritic | RatioCritic, splits: Sequence[Split], plan: Plan) -> Tensor:
    """Give each run the candidate that reads best on its validation rows, T = 0 among them; True where that one won."""
    rows, offset = [part.train for part in splits], OFFSET.get(plan.family, 0.0)
    candidates = [question.starts(*(part[run] for part in rows)) for run in range(plan.runs)]
    network.shift(torch.full((plan.runs,), offset, device=rows[0].device))
    best = look(question, network, splits, plan).shared
    chosen, shifts = torch.zeros_like(best, dtype=torch.long), torch.zeros_like(best)
    for index, stacked in enumerate(zip(*candidates, strict=True), 1):
        for form, values in zip(network.forms(), zip(*stacked, strict=True), strict=True):
            form.copy_(torch.stack(values))
        normalise = -question.score(network, *(part[:, :BLOCK] for part in rows)).log_mean_exp() + offset
        normalise = torch.where(normalise.isfinite(), normalise, 0.0)
        network.shift(normalise)
        value = look(question, network, splits, plan).shared
        network.shift(-normalise)
        better = value > best
        best, chosen = torch.where(better, value, best), torch.where(better, index, chosen)
        shifts = torch.where(better, normalise, shifts)
    for place, form in enumerate(network.forms()):
        options = [torch.zeros_like(form)]
        options += [torch.stack([one[index][place] for one in candidates]) for index in range(len(candidates[0]))]
        form.copy_(torch.stack(options)[chosen, torch.arange(plan.runs, device=chosen.device)])
    network.shift(shifts)
    return chosen == 0


# ---- From critics to a number -------------------------------------------------------------------------------------------


@torch.no_grad()
def read(question: Question, trained: Trained, rows: Sequence[Tensor], plan: Plan) -> Scores:
    """Scores (folds, ...) of these rows (runs, n), averaged over the restarts."""
    scores = trained.limits.apply(question.score(trained.network, *rows))
    return scores.map(lambda values: values.unflatten(0, (plan.restarts, plan.folds)).mean(0))


def pool(bound: str, reading: estimators.Reading) -> float:
    """The value of all folds: Donsker-Varadhan of all their pairs together, or the mean of the bound's readings."""
    if estimators.family(bound) == "mine":
        return evaluation.micro_average(reading.joint_term.cpu(), reading.marginal_term.cpu())
    return evaluation.macro_average(reading.estimate.cpu())


def half_width(question: Question, scores: Scores, plan: Plan) -> float:
    """Student-t half width from the jackknife's pseudo-values: each fold without each tenth of its rows.

    The folds' own differences are part of it.
    """
    groups = min(GROUPS, scores.joint.shape[-1], scores.marginal.shape[-1])
    whole = plan.read(scores).estimate
    others = [plan.read(question.without(scores, group, groups)).estimate for group in range(groups)]
    pseudo = groups * whole - (groups - 1) * torch.stack(others)
    return evaluation.student_t(pseudo.flatten().cpu().numpy()).half_width
