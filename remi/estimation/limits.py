"""Between what a critic's scores are read: no farther than the rows that it was fitted to allow."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from remi.estimation.plan import Plan
from remi.estimation.questions import BLOCK, LOOK_BLOCK, Question
from remi.losses import Scores

WITNESSES = 10  # draws from Q that a density ratio needs to be believed
HIGHEST = 2**10  # training rows among whose scores the largest is sought


class Limits(NamedTuple):
    """Between what T is read, and what is subtracted from it; (runs,) each.

    No score is above the largest that a training pair has, for what lies beyond is extrapolation, and exp T would magnify
    it. And none is farther from the offset than log(N/10), where N draws from Q were seen: of a region with a larger density
    ratio, less than 10 of them are expected. Without the second, one row outside the others' range makes the bound as
    large, or as small, as one likes (Proposition A).
    """

    low: Tensor
    high: Tensor
    offset: Tensor
    by_row: bool = False  # each row has its own offset, too

    def apply(self, scores: Scores) -> Scores:
        """The scores as they are read."""

        def one(values: Tensor) -> Tensor:
            low, high, offset = (limit.view(-1, *[1] * (values.ndim - 1)) for limit in (self.low, self.high, self.offset))
            return values.clamp(low, high).sub_(offset)

        scores = scores.map(one)
        if not self.by_row:
            return scores
        total, log_n, _ = scores.row()
        own = total - log_n
        return replace(scores, joint=scores.joint - own, marginal=scores.marginal - own.unsqueeze(-1))


def spread(rows: Tensor, count: int) -> Tensor:
    """(runs, at most `count`) of these rows, evenly from first to last: rows of a series lie in its order."""
    n = rows.shape[1]
    return rows if n <= count else rows[:, torch.arange(count, device=rows.device) * n // count]


@torch.no_grad()
def limits(question: Question, critic: Any, rows: Sequence[Tensor], plan: Plan) -> Limits:
    """What these training rows (runs, n) of each sample allow.

    The offset is that of the scores as they are read, so that a critic which only extrapolates, and is one number everywhere,
    reads 0.
    """
    scores = question.score(critic, *(spread(part, BLOCK) for part in rows), block=LOOK_BLOCK)
    offset = scores.log_mean_exp()
    nothing = torch.zeros_like(offset)
    far = math.log(max(WITNESSES, question.combinations(*(part.shape[1] for part in rows)) / WITNESSES))
    within = Limits(
        offset - far,
        torch.minimum(question.joint(critic, *(spread(part, HIGHEST) for part in rows)).amax(-1), offset + far),
        nothing,
    )
    if plan.family == "infonce":
        within = Limits(nothing - torch.inf, nothing + torch.inf, nothing, by_row=True)
    return within._replace(offset=within.apply(scores).log_mean_exp())


def second_term(scores: Scores) -> tuple[Tensor, Tensor]:
    """Standard deviation (runs,) of log mean exp, and the largest share of one pair in it.

    The pairs of a matrix are as good as independent at the best critic, up to the swap of the two members (factor 2).
    """
    values = scores.marginal if scores.marginal_mask is None else scores.marginal.masked_fill(~scores.marginal_mask, -torch.inf)
    weights = values.flatten(1).double().softmax(-1)
    squares = weights.square().sum(-1) - 1 / weights.shape[-1]
    return ((2 if scores.rowwise else 1) * squares).clamp_min(0).sqrt().to(scores.joint), weights.amax(-1)
