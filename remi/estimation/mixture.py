"""What is read: a mixture of density ratios, those in closed form and the trained one, weighed on validation rows."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import compress
from typing import Any

import torch
from torch import Tensor, nn

from remi.estimation.limits import Limits, limits, second_term, spread
from remi.estimation.plan import Plan
from remi.estimation.questions import BLOCK, LOOK_BLOCK, Question
from remi.losses import Scores

FITTED = 100_000  # rows of a fold at most, to which a closed form is fitted
TURNS = 60  # of expectation and maximization
NEGLIGIBLE = 0.02  # weight of a part that others take over
SOMETHING = 1.0  # standard errors by which a mixture must read more than T = 0
ROUNDING = 1e-6  # nats: a critic that is one number everywhere reads no more than T = 0
OFFSET = {"nwj": 1.0}  # log E_Q[exp T] at the normalised critic; 0 for the other bounds


class ByFold:
    """One ratio in closed form per fold, as a stack."""

    def __init__(self, ratios: Sequence[Any]) -> None:
        self.ratios = ratios

    def __call__(self, *rows: Tensor) -> Tensor:
        """(folds, n, ...) each -> (folds, n)."""
        return torch.stack([ratio(*parts) for ratio, *parts in zip(self.ratios, *rows, strict=True)])

    def matrix(self, x: Tensor, y: Tensor) -> Tensor:
        """(folds, blocks, n, ...) each -> (folds, blocks, n, n): all pairs of each block."""
        return torch.stack([ratio.matrix(*parts) for ratio, *parts in zip(self.ratios, x, y, strict=True)])


class Mean:
    """A stack of trained critics, whose scores are averaged over the restarts of a fold."""

    def __init__(self, network: nn.Module, restarts: int) -> None:
        self.network, self.restarts = network, restarts

    def __call__(self, *rows: Tensor) -> Tensor:
        """(folds, n, ...) each -> (folds, n)."""
        return self._over(self.network, *rows)

    def matrix(self, x: Tensor, y: Tensor) -> Tensor:
        """(folds, blocks, n, ...) each -> (folds, blocks, n, n): all pairs of each block."""
        score: Any = self.network.matrix
        return torch.stack([self._over(score, *pair) for pair in zip(x.unbind(1), y.unbind(1), strict=True)], 1)

    def _over(self, score: Callable[..., Tensor], *rows: Tensor) -> Tensor:
        if self.restarts == 1:
            return score(*rows)
        values = score(*(part.repeat(self.restarts, 1, 1) for part in rows))
        return values.unflatten(0, (self.restarts, -1)).mean(0)


@dataclass(frozen=True)
class Part:
    """A density ratio of every fold, and how its scores are read."""

    ratio: Any
    limits: Limits


@dataclass(frozen=True)
class Mixture:
    """T = log sum_k w_k exp T_k per fold; T_0 = 0 is one of the parts, and where it stands alone, nothing was found.

    Args:
        parts: the density ratios beside T = 0.
        weights: (1 + parts, folds) of T = 0 and of each part.
        offset: of what is reported, see `OFFSET`.
    """

    parts: Sequence[Part]
    weights: Tensor
    offset: float

    @property
    def idle(self) -> Tensor:
        """(folds,) True where T is 0."""
        return self.weights[0] == 1

    @torch.no_grad()
    def score(self, question: Question, *rows: Tensor, block: int) -> Scores:
        """Scores (folds, ...) of these rows (folds, n)."""
        shared = [(part, w) for part, w in zip(self.parts, self.weights[1:], strict=True) if bool(w.any())]
        if not shared:
            zero = read_part(question, self.parts[0], *rows, block=block).map(torch.zeros_like)
            return zero.map(lambda values: values + self.offset)
        total: Scores | None = None
        for part, weight in shared:
            scores = read_part(question, part, *rows, block=block)
            if bool((weight == 1).all()):
                return scores.map(lambda values: values + self.offset)
            ratio = scores.map(partial(_ratio, weight))
            total = ratio if total is None else combine(torch.Tensor.add_, total, ratio)
        assert total is not None
        return total.map(lambda values: values.add_(_beside(self.weights[0], values)).log_().add_(self.offset))


def _ratio(weight: Tensor, values: Tensor) -> Tensor:
    """The weighted ratio."""
    return values.exp().mul_(_beside(weight, values))


def _beside(weight: Tensor, values: Tensor) -> Tensor:
    """(folds,) with as many dimensions as the values."""
    return weight.view(-1, *[1] * (values.ndim - 1))


def combine(function: Callable[[Tensor, Tensor], Tensor], one: Scores, other: Scores) -> Scores:
    """A function of two scores of the same pairs."""
    return replace(one, joint=function(one.joint, other.joint), marginal=function(one.marginal, other.marginal))


def read_part(question: Question, part: Part, *rows: Tensor, block: int) -> Scores:
    """A part's scores within its limits."""
    return part.limits.apply(question.score(part.ratio, *rows, block=block))


@torch.no_grad()
def fit(question: Question, rows: Sequence[Tensor], plan: Plan, kept: Sequence[bool] | None = None) -> list[Part]:
    """The density ratios in closed form of these rows (folds, n) of each sample, or those of them that are kept."""
    rows = [spread(part, FITTED) for part in rows]
    folds = [question.ratios(*(part[fold] for part in rows)) for fold in range(plan.folds)]
    kinds = list(zip(*folds, strict=True))
    ratios = [ByFold([one() for one in kind]) for kind in (kinds if kept is None else compress(kinds, kept))]
    return [Part(ratio, limits(question, ratio, rows, plan)) for ratio in ratios]


@torch.no_grad()
def densities(question: Question, parts: Sequence[Part], rows: Sequence[Tensor], plan: Plan) -> tuple[Tensor, list[Tensor]]:
    """What each part says of the joint density of rows (folds, n) that it has not seen, over the product of the marginals.

    A part that is no ratio there, since E_Q[exp T] is above 1, is made one first.

    Returns:
        (parts, folds, n) exp T, and what each part's offset (folds,) is to be raised by.
    """
    ratios, raised = [], []
    for part in parts:
        scores = read_part(question, part, *rows, block=LOOK_BLOCK)
        raised.append(scores.log_mean_exp().clamp_min(0))
        ratios.append(scores.joint - raised[-1].unsqueeze(-1))
    return torch.stack(ratios).double().exp(), raised


@torch.no_grad()
def together(values: Tensor) -> tuple[Tensor, Tensor]:
    """The mixture of largest likelihood of T = 0 and of parts with these densities (parts, folds, n).

    A mixture of density ratios is a density ratio: its likelihood is the mean of T over the joint pairs.

    Returns:
        (1 + parts, folds) weights, T = 0 first, and T (folds, n).

    Source: Smyth and Wolpert (1999).
    """
    values = torch.cat([torch.ones_like(values[:1]), values])
    weights = torch.full(values.shape[:2], 1 / len(values), dtype=values.dtype, device=values.device)
    for _ in range(TURNS):
        shares = weights.unsqueeze(-1) * values
        weights = (shares / shares.sum(0)).mean(-1)
    return weights, (weights.unsqueeze(-1) * values).sum(0).log()


def weigh(question: Question, parts: Sequence[Part], rows: Sequence[Tensor], plan: Plan) -> tuple[Tensor, list[Tensor]]:
    """Weights of largest likelihood on validation rows (folds, n); T = 0 stands alone where nothing is found.

    What counts for little in every fold is left out, but for the last part, and need not be read.

    Returns:
        (1 + parts, folds) weights, T = 0 first, and what each part's offset (folds,) is to be raised by.
    """
    values, raised = densities(question, parts, rows, plan)
    weights, _ = together(values)
    kept = (weights[1:] > NEGLIGIBLE).any(1)
    kept[-1] = True
    weights = torch.zeros_like(weights)
    weights[[True, *kept.tolist()]], gained = together(values[kept])
    found = gained.mean(-1) > SOMETHING * gained.std(-1) / math.sqrt(gained.shape[-1]) + ROUNDING
    nothing = torch.zeros_like(weights)
    nothing[0] = 1
    return torch.where(found, weights, nothing).float(), raised


def mixture(parts: Sequence[Part], weights: Tensor, raised: Sequence[Tensor], plan: Plan) -> Mixture:
    """The parts at their weights, each offset raised."""
    level = [
        replace(part, limits=part.limits._replace(offset=part.limits.offset + more))
        for part, more in zip(parts, raised, strict=True)
    ]
    return Mixture(level, weights, OFFSET.get(plan.family, 0.0))


def alone(part: Part, question: Question, rows: Sequence[Tensor], plan: Plan) -> Mixture:
    """One part at full weight. Its offset is that of validation rows, where it differs by more than its error.

    A critic that has learned its training rows by heart has another offset elsewhere, and pooled folds would pay for it.
    """
    scores = read_part(question, part, *(spread(one, BLOCK) for one in rows), block=LOOK_BLOCK)
    moved = scores.log_mean_exp()
    weights = torch.zeros(2, plan.folds, device=moved.device)
    weights[1] = 1
    return mixture([part], weights, [torch.where(moved.abs() > 2 * second_term(scores)[0], moved, 0.0)], plan)
