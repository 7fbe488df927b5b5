"""Runs of FLO, whose critic has a second output: a kind of their own, so that they share no stack with critics of one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from remi.losses import Estimator, Reading, Scores, TwoScores, flo
from remi.runs import specs


@dataclass(frozen=True)
class FloRun(specs.CriticRun):
    """FLO in a setting of `CriticRun`: one network gives T and u."""

    outputs: ClassVar[int] = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lam is not None or self.options:
            raise ValueError(f"FLO has no options; got lam={self.lam!r}, options={self.options!r}")

    def estimator(self, stack: Sequence[specs.Run], where: torch.device) -> Estimator:
        """See `Run`."""

        def read(scores: Scores) -> Reading:
            assert isinstance(scores, TwoScores)
            return flo(scores, scores.second)

        return read


specs.KINDS["FloRun"] = FloRun
