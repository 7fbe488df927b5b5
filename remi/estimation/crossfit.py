"""Cross-fitting: critics trained without a fold of the rows and read on it, so that a lower bound cannot overfit upwards."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from remi.estimation.plan import Plan
from remi.estimation.questions import BLOCK, LOOK_BLOCK, Question
from remi.estimation.ratios import QuadraticCritic, RatioCritic
from remi.estimation.rows import Split, batches
from remi.losses import Scores, estimators
from remi.training import Adam, Loop, Stream, evaluation

LOOK_EVERY = 50  # steps between two looks at the validation rows
PATIENCE = 10  # looks without a value better by TOLERANCE before training ends
TOLERANCE = 5e-4  # nats
ROUNDING = 1e-6  # nats: a critic that is one number everywhere reads no more than T = 0
WITNESSES = 10  # draws from Q that a density ratio needs to be believed
AVERAGE = 0.7  # weight of the past in the moving average of the parameters that a look judges
SOMETHING = 1.0  # standard errors by which a critic must read more than T = 0
PATIENT = 3  # seconds without a progress bar
READ, FEWEST = 2**24, 32  # pairs of a stack that are read, as long as a row meets at least so many others
HIGHEST = 2**13  # training rows among whose scores the largest is sought
GROUPS = 10  # parts of the held-out rows that the jackknife leaves out in turn
OFFSET = {"nwj": 1.0}  # log E_Q[exp T] at the normalised critic; 0 for the other bounds


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


def spread(rows: Tensor, count: int) -> Tensor:
    """(runs, at most `count`) of these rows, evenly from first to last: rows of a series lie in its order."""
    n = rows.shape[1]
    return rows if n <= count else rows[:, torch.arange(count, device=rows.device) * n // count]


@torch.no_grad()
def limits(question: Question, network: nn.Module, splits: Sequence[Split], plan: Plan) -> Limits:
    """What the training rows allow."""
    rows = [part.train for part in splits]
    scores = question.score(network, *(spread(part, BLOCK) for part in rows), block=LOOK_BLOCK)
    offset = scores.log_mean_exp()
    nothing = torch.zeros_like(offset)
    if plan.family == "infonce":  # each row has its own offset
        return Limits(nothing - torch.inf, nothing + torch.inf, nothing)
    far = math.log(max(WITNESSES, question.combinations(*(part.shape[1] for part in rows)) / WITNESSES))
    within = Limits(
        offset - far,
        torch.minimum(question.joint(network, *(spread(part, HIGHEST) for part in rows)).amax(-1), offset + far),
        nothing,
    )
    # Donsker-Varadhan does not hold its offset, and pooling needs one (Theorem 6): that of the scores as they are read, so
    # that a critic which only extrapolates, and is one number everywhere, reads 0
    return within._replace(offset=within.apply(scores).log_mean_exp()) if plan.pooled else within


@torch.no_grad()
def tested(question: Question, network: nn.Module, splits: Sequence[Split], within: Limits) -> Limits:
    """The limits with the offset of the validation rows, where it differs by more than its error from the training rows'.

    A critic that has learned its training rows by heart has another offset elsewhere, and pooled folds would pay for it.
    """
    seen = within.apply(question.score(network, *(spread(part.validation, BLOCK) for part in splits), block=LOOK_BLOCK))
    moved = seen.log_mean_exp()
    return within._replace(offset=within.offset + torch.where(moved.abs() > 2 * second_term(seen)[0], moved, 0.0))


def second_term(scores: Scores) -> tuple[Tensor, Tensor]:
    """Standard deviation (runs,) of log mean exp, and the largest share of one pair in it.

    The pairs of a matrix are as good as independent at the best critic, up to the swap of the two members (factor 2).
    """
    values = scores.marginal if scores.marginal_mask is None else scores.marginal.masked_fill(~scores.marginal_mask, -torch.inf)
    weights = values.flatten(1).double().softmax(-1)
    squares = weights.square().sum(-1) - 1 / weights.shape[-1]
    return ((2 if scores.rowwise else 1) * squares).clamp_min(0).sqrt().to(scores.joint), weights.amax(-1)


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

    def surpasses(self, best: "Look", errors: Tensor) -> Tensor:
        """(runs,) True where the value is higher by more than so many standard errors (runs,)."""
        gained = self._over_folds(self.rows - best.rows)
        error = (gained.std(-1) / math.sqrt(gained.shape[-1])).repeat(self.plan.restarts)
        return gained.mean(-1).repeat(self.plan.restarts) > errors * error + ROUNDING

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
    reading = plan.report(scores)
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
        return question.score(network, *(part.train[runs, at] for part, at in zip(splits, positions, strict=True)))

    idle = torch.zeros(plan.runs, dtype=torch.bool, device=device)
    if isinstance(network, QuadraticCritic | RatioCritic):
        starts = (
            generators if device.type == "cpu" else [torch.Generator(device).manual_seed(g.initial_seed()) for g in generators]
        )
        network.begin(starts)
        network.resting = True
        idle = _choose_start(question, network, splits, plan)
        network.resting = False
    network.eval()
    best = look(question, network, splits, plan)
    loop = Loop(network, score, plan.read, Adam(plan.lr), runs=plan.runs, steps=max(1, plan.steps))
    state = [loop.parameters.values, *(buffer for buffer in network.buffers() if buffer.is_floating_point())]

    def put(values: Sequence[Tensor]) -> None:
        for place, value in zip(state, values, strict=True):
            place.copy_(value)

    kept, average = [part.clone() for part in state], [part.clone() for part in state]
    best_step, moved_at = (torch.zeros(plan.runs, dtype=torch.long, device=device) for _ in range(2))
    steps, looks = [0], [best]
    with tqdm(total=plan.steps, desc="training critics", unit="step", disable=None, leave=False, delay=PATIENT) as bar:
        while steps[-1] < plan.steps:
            chunk = min(LOOK_EVERY, plan.steps - steps[-1])
            network.train()
            for batch in Stream(batches(splits, plan.batch), generators, chunk, chunk):
                loop.step(*(part.to(device) for part in batch))
                bar.update()
            network.eval()
            latest = [part.clone() for part in state]
            average = [AVERAGE * old + (1 - AVERAGE) * now for old, now in zip(average, latest, strict=True)]
            put(average)
            looks.append(look(question, network, splits, plan))
            steps.append(steps[-1] + chunk)
            doubt = torch.where(idle & (best_step == 0), SOMETHING, question.doubt)
            progress, better = looks[-1].shared > best.shared + TOLERANCE, looks[-1].surpasses(best, doubt)
            for keep, now in zip(kept, average, strict=True):
                keep[better] = now[better]
            best = looks[-1].where(better, best)
            best_step = torch.where(better, steps[-1], best_step)
            moved_at = torch.where(progress & better, steps[-1], moved_at)
            if bool(((steps[-1] - moved_at >= PATIENCE * LOOK_EVERY) | ~loop.alive).all()):
                break
            put(latest)
    put(kept)
    history = {
        "step": np.array(steps),
        "validation": torch.stack([one.value for one in looks], 1).cpu().numpy(),
        "normalizer": torch.stack([one.normalizer for one in looks], 1).cpu().numpy(),
        "best_step": best_step.cpu().numpy(),
        "diverged_at": loop.diverged_at.cpu().numpy(),
        "fold": np.arange(plan.runs) % plan.folds,
    }
    within = limits(question, network, splits, plan)
    within = tested(question, network, splits, within) if plan.pooled else within
    return Trained(network, within, history, idle & (best_step == 0))


@torch.no_grad()
def _choose_start(question: Question, network: QuadraticCritic | RatioCritic, splits: Sequence[Split], plan: Plan) -> Tensor:
    """Give each run the candidate that reads best on its validation rows, T = 0 among them; True where that one won."""
    rows, offset = [part.train for part in splits], OFFSET.get(plan.family, 0.0)
    candidates = [question.starts(*(part[run] for part in rows)) for run in range(plan.runs)]
    network.shift(torch.full((plan.runs,), offset, device=rows[0].device))
    nothing = look(question, network, splits, plan)
    best = nothing.shared
    chosen, shifts = torch.zeros_like(best, dtype=torch.long), torch.zeros_like(best)
    for index, stacked in enumerate(zip(*candidates, strict=True), 1):
        for form, values in zip(network.forms(), zip(*stacked, strict=True), strict=True):
            form.copy_(torch.stack(values))
        normalise = offset - question.score(network, *(spread(part, BLOCK) for part in rows), block=LOOK_BLOCK).log_mean_exp()
        normalise = torch.where(normalise.isfinite(), normalise, 0.0)
        network.shift(normalise)
        candidate = look(question, network, splits, plan)
        network.shift(-normalise)
        value = candidate.shared
        better = (value > best) & candidate.surpasses(nothing, torch.full_like(best, SOMETHING))
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
    n = max(part.shape[1] for part in rows)
    block = BLOCK if plan.family == "infonce" else max(FEWEST, min(BLOCK, READ // (plan.runs * n)))
    scores = trained.limits.apply(question.score(trained.network, *rows, block=block))
    return scores.map(lambda values: values.unflatten(0, (plan.restarts, plan.folds)).mean(0))


def pool(readings: estimators.Reading, pooled: bool) -> float:
    """The value of all folds: Donsker-Varadhan of all their pairs together, or the mean of the folds' values."""
    if pooled:
        return evaluation.micro_average(readings.joint_term.cpu(), readings.marginal_term.cpu())
    return evaluation.macro_average(readings.estimate.cpu())


def half_width(question: Question, scores: Scores, plan: Plan, gap: int = 0) -> float:
    """Student-t half width from the jackknife's pseudo-values: each fold without each tenth of its rows.

    The folds' own differences are part of it. Of a series the parts are stretches, and at least twice the gap.
    """
    rows = min(scores.joint.shape[-1], scores.marginal.shape[-1])
    groups = max(2, min(GROUPS, rows, rows // (2 * gap) if gap else GROUPS))
    whole = plan.report(scores).estimate
    others = [plan.report(question.without(scores, group, groups)).estimate for group in range(groups)]
    pseudo = groups * whole - (groups - 1) * torch.stack(others)
    return evaluation.student_t(pseudo.flatten().cpu().numpy()).half_width
