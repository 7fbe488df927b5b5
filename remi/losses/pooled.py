"""Scores in parts: whole rows of one matrix that are not all in one place, or not all there at once.

A part is ordinary `Scores`, and so are its means; here they are pooled.
"""

from collections.abc import Callable
from typing import NoReturn

import torch
from torch import Tensor

from remi.losses.scores import OfRow, Row, Scores

Quantity = Callable[[Scores], Tensor]


class Pooled(Scores):
    """What a bound asks of scores, pooled over their parts; the scores themselves cannot be had, nor replaced.

    Args:
        valid: (...) whether a batch has a joint pair; None means that every batch has.
    """

    def __init__(self, valid: Tensor | None) -> None:
        self._valid = valid

    def each(self, *quantities: Quantity) -> Tensor:
        """(parts, quantities, ...) the quantities of every part."""
        raise NotImplementedError

    @property
    def complete(self) -> bool:
        """Whether every batch has a joint pair, whatever its labels."""
        return self._valid is None

    @property
    def valid(self) -> Tensor:
        """(...) as in `Scores`; from the labels alone."""
        return torch.ones_like(self.pairs, dtype=torch.bool) if self._valid is None else self._valid

    @property
    def pairs(self) -> Tensor:
        """(...) the number of joint pairs."""
        return self.each(_pairs).sum((0, 1))

    @property
    def marginal_pairs(self) -> Tensor:
        """(...) the number of marginal pairs."""
        return self.each(_marginal_pairs).sum((0, 1))

    def joint_mean(self) -> Tensor:
        """E_P[T]."""
        return self._mean(lambda part: part.joint_mean(), _pairs)

    def marginal_mean(self) -> Tensor:
        """E_Q[T]."""
        return self._mean(lambda part: part.marginal_mean(), _marginal_pairs)

    def marginal_min(self) -> Tensor:
        """(...) the lowest T on a marginal pair."""
        return self.each(lambda part: part.marginal_min()).amin((0, 1))

    def marginal_max(self) -> Tensor:
        """(...) the highest T on a marginal pair."""
        return self.each(lambda part: part.marginal_max()).amax((0, 1))

    def log_mean_exp(self) -> Tensor:
        """Logarithm of E_Q[exp T]."""
        values, pairs = self.each(lambda part: part.log_mean_exp(), _marginal_pairs).unbind(1)
        return (values + (pairs / pairs.sum(0)).log()).logsumexp(0)

    def joint_log_mean_exp(self) -> Tensor:
        """Logarithm of E_P[exp T]."""
        values, pairs = self.each(lambda part: part.joint_log_mean_exp(), _pairs).unbind(1)
        return (values + (pairs / pairs.sum(0).clamp_min(1)).log()).logsumexp(0)

    def row_mean(self, of: OfRow, row: Row = "all") -> Tensor:
        """Mean over joint pairs of a function of the pair and its own row; a row is whole in its part."""
        return self._mean(lambda part: part.row_mean(of, row), lambda part: part.row_pairs(row))

    def row_pairs(self, row: Row = "all") -> Tensor:
        """(...) the number of joint pairs in `row_mean`."""
        return self.each(lambda part: part.row_pairs(row)).sum((0, 1))

    def _mean(self, quantity: Quantity, number: Quantity) -> Tensor:
        """The parts' means, weighed by the number of their pairs; 0 where there is none."""
        values, pairs = self.each(quantity, number).unbind(1)
        return (values * (pairs / pairs.sum(0).clamp_min(1))).sum(0)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(...)"

    def _nowhere(self) -> NoReturn:
        raise AttributeError(
            "these scores are in parts and never all there: ask for joint_mean(), marginal_mean(), log_mean_exp(), "
            "joint_log_mean_exp(), row_log_mean_exp(), row_mean(), marginal_min(), marginal_max(), pairs, valid or map(), "
            "or build Scores"
        )

    # where `Scores` has fields, and what reads them: nothing is read there by mistake, by `dataclasses.replace` neither
    runs = halves = property(_nowhere)
    joint = marginal = joint_mask = marginal_mask = row_mask = rowwise = property(_nowhere)


def _pairs(part: Scores) -> Tensor:
    return part.pairs


def _marginal_pairs(part: Scores) -> Tensor:
    return part.marginal_pairs
