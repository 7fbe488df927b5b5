"""How critics are trained, and what is reported of them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any

import numpy as np
from torch import Tensor

from remi.losses import Scores, estimators

LATER = ("infonce_anchor", "sigmoid", "fdime")  # later losses whose best critic is the log ratio
LOSSES = (*estimators.NAMES, *LATER)
REFUSED = {
    "dcl": "; DCL leaves every row an offset of its own and has no ceiling, so that what it reads is no lower bound",
    "club": "; CLUB is an upper reading, and has no maximum",
    "flo": "; FLO needs a critic of two outputs",
}


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
    series: bool = False
    permutations: int = 0  # of the held-out rows, for a p-value

    def __post_init__(self) -> None:
        if not isinstance(self.bound, str) or self.bound not in LOSSES:
            why = REFUSED.get(self.bound, "") if isinstance(self.bound, str) else ""
            raise ValueError(f"bound must be one of {', '.join(LOSSES)}; got {self.bound!r}{why}")
        limits = {
            "seed": (0, 2**40), "folds": (2, 100), "restarts": (1, 100), "batch": (8, 2**16), "steps": (0, 10**9),
            "permutations": (0, 10**6),
        }  # fmt: skip
        for name, (low, high) in limits.items():
            number = getattr(self, name)
            if not isinstance(number, Integral) or isinstance(number, bool) or not low <= int(number) <= high:
                raise ValueError(f"{name} must be a whole number from {low} to {high}; got {number!r}")
            object.__setattr__(self, name, int(number))
        if not isinstance(self.lr, Real) or isinstance(self.lr, bool) or not 0 < self.lr < math.inf:
            raise ValueError(f"lr must be a positive number; got {self.lr!r}")
        object.__setattr__(self, "lr", float(self.lr))
        if not isinstance(self.series, bool | np.bool_):
            raise ValueError(f"series must be True or False; got {self.series!r}")
        object.__setattr__(self, "series", bool(self.series))
        if isinstance(lam := self.options.get("lam"), Tensor):
            raise ValueError(f"lam must be one number; got {lam!r}")
        plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in self.options.items()}
        object.__setattr__(self, "options", plain)
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
        """What is trained: the bound's reading. The sigmoid loss reads T - log m, so that its best T is the log ratio, too."""
        if self.bound == "sigmoid":
            log_m = (scores.marginal_pairs / scores.pairs).log()
            scores = scores.map(lambda t: t - log_m.view(-1, *[1] * (t.ndim - 1)))
        return estimators.get(self.bound, **self.options)(scores)

    def report(self, scores: Scores) -> estimators.Reading:
        """What is reported, always a lower bound: the bound's reading, and of SMILE's and of later scores Donsker-Varadhan's.

        SMILE clips its second term alone, so that its own value has no bound above; what later losses read is a plug-in.
        """
        return estimators.mine(scores) if self.pooled else self.read(scores)

    @property
    def pooled(self) -> bool:
        """Whether the value is Donsker-Varadhan's, whose folds are read together."""
        return self.family in ("mine", "smile", *LATER)
