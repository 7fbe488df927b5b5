"""How critics are trained, and what is reported of them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any

import numpy as np
from torch import Tensor

from remi.losses import Scores, estimators


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

    def __post_init__(self) -> None:
        if not isinstance(self.bound, str) or self.bound not in estimators.NAMES:
            raise ValueError(f"bound must be one of {', '.join(estimators.NAMES)}; got {self.bound!r}")
        limits = {"seed": (0, 2**40), "folds": (2, 100), "restarts": (1, 100), "batch": (8, 2**16), "steps": (0, 10**9)}
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
        """What is trained: the bound's reading."""
        return estimators.get(self.bound, **self.options)(scores)

    def report(self, scores: Scores) -> estimators.Reading:
        """What is reported, always a lower bound: the bound's reading, and of SMILE's scores Donsker-Varadhan's.

        SMILE clips its second term alone, so that its own value has no bound above.
        """
        return estimators.mine(scores) if self.pooled else self.read(scores)

    @property
    def pooled(self) -> bool:
        """Whether the value is Donsker-Varadhan's, whose folds are read together."""
        return self.family in ("mine", "smile")
