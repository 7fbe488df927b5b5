"""Cross-fitting: critics trained without a fold of the rows and read on it, so that a lower bound cannot overfit upwards."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, compress
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from remi.estimation.limits import limits, spread
from remi.estimation.mixture import (
    OFFSET,
    ROUNDING,
    Mean,
    Mixture,
    Part,
    alone,
    densities,
    fit,
    mixture,
    read_part,
    together,
    weigh,
)
from remi.estimation.plan import Plan
from remi.estimation.questions import BLOCK, LOOK_BLOCK, Question
from remi.estimation.ratios import QuadraticCritic, RatioCritic
from remi.estimation.rows import Split, batches
from remi.losses import Scores, estimators
from remi.training import Adam, Loop, Stream, evaluation, loop

LOOK_EVERY = 50  # steps between two looks at the validation rows
EPOCHS, PATIENCE = 8, (5, 10)  # without a value better by TOLERANCE before training ends; looks, at least and at most
TOLERANCE = 0.05  # standard errors of the value
AVERAGE = 0.7  # weight of the past in the moving average of the parameters that a look judges
PATIENT = 3  # seconds without a progress bar
READ, FEWEST = 2**22, 32  # pairs of a stack that are read, as long as a row meets at least so many others
FEWEST_PER_COLUMN = 2  # rows to fit closed forms to
SHARES = 2, 4  # of the rows
SETTLED = 50_000  # rows to fit to, beyond which nothing is extrapolated
GROUPS = 10  # parts of the held-out rows that the jackknife leaves out in turn


# ---- What critics read on their validation rows -----------------------------------------------------------------------


@dataclass(frozen=True)
class Look:
    """What the critics of each fold, averaged, read on its validation rows."""

    value: Tensor  # (folds,) the bound
    normalizer: Tensor  # (folds,)
    rows: Tensor  # (folds, n) what each row adds to what decides: to the bound, or to the likelihood of the mixture

    @property
    def judged(self) -> Tensor:
        """(folds,) what decides."""
        return self.rows.mean(-1)

    def surpasses(self, best: "Look", doubt: float) -> Tensor:
        """(folds,) True where it is higher by more than so many standard errors."""
        return self.judged - best.judged > doubt * error(self.rows - best.rows) + ROUNDING

    def where(self, mask: Tensor, other: "Look") -> "Look":
        """This look where `mask` (folds,) says so, the other elsewhere."""
        value = torch.where(mask, self.value, other.value)
        normalizer = torch.where(mask, self.normalizer, other.normalizer)
        return Look(value, normalizer, torch.where(mask.unsqueeze(-1), self.rows, other.rows))


def error(rows: Tensor) -> Tensor:
    """Standard error (folds,) of the mean over rows (folds, n)."""
    return rows.std(-1) / math.sqrt(rows.shape[-1])


@torch.no_grad()
def look(question: Question, critic: Mean, splits: Sequence[Split], plan: Plan, others: Tensor | None = None) -> Look:
    """The validation rows, within the limits of some training rows.

    With densities of the validation rows under other ratios, `others` (parts, folds, n), what decides is the likelihood of
    the mixture: training may end where critics still learn, but nothing that a closed form does not say.
    """
    within = limits(question, critic, [spread(part.train, BLOCK) for part in splits], plan)
    validation = [part.validation for part in splits]
    scores = question.score(critic, *validation, block=LOOK_BLOCK)
    reading = plan.report(within._replace(offset=torch.zeros_like(within.offset)).apply(scores))
    value = torch.where(reading.estimate.isfinite(), reading.estimate, -torch.inf)
    rows = scores.joint + (value - scores.joint_mean()).unsqueeze(-1)
    if others is not None:
        own, _ = densities(question, [Part(critic, within)], validation, plan)
        rows = together(torch.cat([others, own]))[1]
    return Look(value, reading.normalizer, rows)


# ---- Training -----------------------------------------------------------------------------------------------------------


@dataclass
class Trained:
    """What is read, the same with its closed forms fitted to fewer rows, and how its critics got there."""

    mixture: Mixture
    fewer: Sequence[Mixture]  # half and a quarter of the rows; nothing where nothing is extrapolated
    history: dict[str, np.ndarray[Any, Any]]


def train(question: Question, network: nn.Module, splits: Sequence[Split], plan: Plan) -> Trained:
    """Train the critics, weigh them and the ratios in closed form, and fit these again to all rows that are not held out.

    A critic of the caller's stands alone.
    """
    critic, rows, validation = Mean(network, plan.restarts), [part.train for part in splits], [part.validation for part in splits]
    if not isinstance(network, QuadraticCritic | RatioCritic):
        history = descend(question, critic, splits, plan)
        return Trained(alone(Part(critic, limits(question, critic, rows, plan)), question, validation, plan), [], history)
    closed = fit(question, rows, plan)
    history = descend(question, critic, splits, plan, densities(question, closed, validation, plan)[0])
    learned, rest = Part(critic, limits(question, critic, rows, plan)), [part.rest for part in splits]
    weights, raised = weigh(question, [*closed, learned], validation, plan)
    kept = (weights[1:-1] > 0).any(1).tolist()

    def of(rows: Sequence[Tensor]) -> Mixture:
        """The closed forms that count fitted to other rows, and the critics, at these weights."""
        parts = [*fit(question, rows, plan, kept), learned]
        return mixture(parts, weights[[True, *kept, True]], list(compress(raised, [*kept, True])), plan)

    whole = of(rest)
    least, columns = min(part.shape[1] for part in rest), sum(sample.shape[1] for sample in question.samples)
    grows = least <= SETTLED and not bool(whole.idle.all())
    shares = [share for share in SHARES if grows and least >= share * FEWEST_PER_COLUMN * columns]
    fewer = [of([part[:, ::share] for part in rest]) for share in shares]
    return Trained(whole, fewer, history)


def descend(
    question: Question, critic: Mean, splits: Sequence[Split], plan: Plan, others: Tensor | None = None
) -> dict[str, np.ndarray[Any, Any]]:
    """Train all critics as one stack; those of a fold keep the parameters of its best look at the validation rows.

    Returns:
        The history of an `Estimate`.
    """
    network, each, device = critic.network, Mean(critic.network, 1), splits[0].train.device
    generators = [torch.Generator().manual_seed(plan.seed * 10_007 + run + 1) for run in range(plan.runs)]
    runs, train = torch.arange(plan.runs, device=device).unsqueeze(-1), [part.train.repeat(plan.restarts, 1) for part in splits]

    def score(*positions: Tensor) -> Scores:
        return question.score(each, *(part[runs, at] for part, at in zip(train, positions, strict=True)))

    if isinstance(network, QuadraticCritic | RatioCritic):
        starts = (
            generators if device.type == "cpu" else [torch.Generator(device).manual_seed(g.initial_seed()) for g in generators]
        )
        network.begin(starts)
        _choose_start(question, critic, splits, plan)
    network.eval()
    best = look(question, critic, splits, plan, others)
    training = Loop(network, score, plan.read, Adam(plan.lr), runs=plan.runs, steps=max(1, plan.steps))
    state = [training.parameters.values, *(buffer for buffer in network.buffers() if buffer.is_floating_point())]

    def put(values: Sequence[Tensor]) -> None:
        for place, value in zip(state, values, strict=True):
            place.copy_(value)

    kept, average = [part.clone() for part in state], [part.clone() for part in state]
    best_step, moved_at = (torch.zeros(plan.folds, dtype=torch.long, device=device) for _ in range(2))
    ours = isinstance(network, QuadraticCritic | RatioCritic) and device.type == "cpu"
    steps, looks, step = [0], [best], loop.program(training, record=ours)
    patience = patient(train[0].shape[1], plan.batch)
    with tqdm(total=plan.steps, desc="training critics", unit="step", disable=None, leave=False, delay=PATIENT) as bar:
        while steps[-1] < plan.steps:
            chunk = min(LOOK_EVERY, plan.steps - steps[-1])
            network.train()
            for batch in Stream(batches(splits, plan.batch), generators, chunk, chunk):
                step(*(part.to(device) for part in batch))
                bar.update()
            network.eval()
            latest = [part.clone() for part in state]
            average = [AVERAGE * old + (1 - AVERAGE) * now for old, now in zip(average, latest, strict=True)]
            put(average)
            looks.append(look(question, critic, splits, plan, others))
            steps.append(steps[-1] + chunk)
            better = looks[-1].surpasses(best, question.doubt)
            progress = looks[-1].judged > best.judged + TOLERANCE * error(best.rows)
            these = better.repeat(plan.restarts)
            for keep, now in zip(kept, average, strict=True):
                keep[these] = now[these]
            best = looks[-1].where(better, best)
            best_step = torch.where(better, steps[-1], best_step)
            moved_at = torch.where(progress & better, steps[-1], moved_at)
            if bool((steps[-1] - moved_at >= patience).all()) or not bool(training.alive.any()):
                break
            put(latest)
    put(kept)
    return {
        "step": np.array(steps),
        "validation": torch.stack([one.value for one in looks], 1).cpu().numpy(),
        "normalizer": torch.stack([one.normalizer for one in looks], 1).cpu().numpy(),
        "best_step": best_step.cpu().numpy(),
        "diverged_at": training.diverged_at.cpu().numpy(),
        "fold": np.arange(plan.runs) % plan.folds,
    }


def patient(rows: int, batch: int) -> int:
    """Steps without progress before training ends: what many rows say takes longer to learn."""
    least, most = PATIENCE
    return min(most, max(least, EPOCHS * rows // (batch * LOOK_EVERY))) * LOOK_EVERY


@torch.no_grad()
def _choose_start(question: Question, critic: Mean, splits: Sequence[Split], plan: Plan) -> None:
    """Give each fold the candidate that reads best on its validation rows, T = 0 among them."""
    network, rows, offset = critic.network, [part.train for part in splits], OFFSET.get(plan.family, 0.0)
    assert isinstance(network, QuadraticCritic | RatioCritic)
    folds = [question.starts(*(part[fold] for part in rows)) for fold in range(plan.folds)]
    options = [[torch.zeros_like(form[: plan.folds]) for form in network.forms()]]
    options += [[torch.stack(values) for values in zip(*stacked, strict=True)] for stacked in zip(*folds, strict=True)]

    def put(forms: Sequence[Tensor], shift: Tensor) -> None:
        for place, values in zip(network.forms(), forms, strict=True):
            place.copy_(values.repeat(plan.restarts, *[1] * (values.ndim - 1)))
        network.shift(shift.repeat(plan.restarts))

    judged, shifts = [], []
    for forms in options:
        put(forms, torch.zeros_like(rows[0][:, 0], dtype=torch.float32))
        normalise = offset - question.score(critic, *(spread(part, BLOCK) for part in rows), block=LOOK_BLOCK).log_mean_exp()
        shifts.append(torch.where(normalise.isfinite(), normalise, 0.0))
        network.shift(shifts[-1].repeat(plan.restarts))
        judged.append(look(question, critic, splits, plan).judged)
        network.shift(-shifts[-1].repeat(plan.restarts))
    chosen, every = torch.stack(judged).argmax(0), torch.arange(plan.folds, device=rows[0].device)
    put([torch.stack(form)[chosen, every] for form in zip(*options, strict=True)], torch.stack(shifts)[chosen, every])


# ---- From critics to a number -------------------------------------------------------------------------------------------


@torch.no_grad()
def read(question: Question, found: Mixture, rows: Sequence[Tensor], plan: Plan) -> Scores:
    """Scores (folds, ...) of these rows (folds, n)."""
    n = max(part.shape[1] for part in rows)
    block = BLOCK if plan.family == "infonce" else max(FEWEST, min(BLOCK, READ // (plan.folds * n)))
    return found.score(question, *rows, block=block)


def extrapolated(values: Tensor, rows: int, columns: int, slowest: float) -> Tensor:
    """What many more rows would add to a value, from what half of them, and another half, took away.

    With v(n) = v - c n^-a, and e = (v(n/2) - v(n/4)) / (v(n) - v(n/2)) = 2^a,

        v - v(n) = (v(n) - v(n/2)) / (e - 1),    where `slowest` <= e <= 2:

    a fit with a fixed number of coefficients converges as fast as that, and what falls with more rows is chance, and counts
    once. Where columns are too many for a quarter of the rows, n - d - 1 takes the place of n: the risk of a Gaussian
    regression on d columns.

    Args:
        values: (k, ...) v(n), and v(n/2) and v(n/4) where they are known.
        rows: n.
        columns: d.
        slowest: see `Question.slowest`.
    """
    if len(values) < 2:
        return torch.zeros_like(values[0])
    gain = values[0] - values[1]
    if len(values) == 2:
        return gain / ((rows - columns - 1) / (rows // 2 - columns - 1) - 1)
    growth = torch.where(gain > 0, (values[1] - values[2]) / gain, 2.0)
    return gain / (growth.clamp(slowest, 2.0) - 1)


@torch.no_grad()
def learned(question: Question, found: Mixture, rows: Sequence[Tensor], plan: Plan) -> float:
    """What the trained critics read by themselves."""
    return pool(plan.report(read_part(question, found.parts[-1], *rows, block=LOOK_BLOCK)), plan.pooled)


def pool(readings: estimators.Reading, pooled: bool) -> float:
    """The value of all folds: Donsker-Varadhan of all their pairs together, or the mean of the folds' values."""
    if pooled:
        return evaluation.micro_average(readings.joint_term.cpu(), readings.marginal_term.cpu())
    return evaluation.macro_average(readings.estimate.cpu())


@torch.no_grad()
def tenths(question: Question, scores: Scores, plan: Plan, gap: int = 0) -> Tensor:
    """(1 + groups, folds) the folds' values: of all held-out rows, and without each tenth of them.

    Of a series the parts are stretches, and at least twice the gap.
    """
    rows = min(scores.joint.shape[-1], scores.marginal.shape[-1])
    groups = max(2, min(GROUPS, rows, rows // (2 * gap) if gap else GROUPS))
    without = (question.without(scores, group, groups) for group in range(groups))  # one at a time: each is large
    return torch.stack([plan.report(part).estimate for part in chain([scores], without)]).double().cpu()


def half_width(values: Tensor, function: Callable[[Tensor], Tensor]) -> float:
    """Student-t half width of a function of several mean values, from the jackknife's pseudo-values.

    A part is one tenth of one fold. The folds' own differences are part of the width.

    Args:
        values: (values, 1 + groups, folds), see `tenths`.
        function: (values, ...) means over the folds -> (...).
    """
    each, without = values[:, 0], values[:, 1:]
    whole = each.mean(-1)
    groups, folds = without.shape[1:]
    moved = function(whole[:, None, None] + (without - each.unsqueeze(1)) / folds) - function(whole)
    pseudo = function(each) - folds * (groups - 1) * moved
    return evaluation.student_t(pseudo.flatten().numpy()).half_width
