"""Mutual-information losses that train: six bounds, their regularized twins, and the paper they come from, reproduced.

Everything is in nats. Start with `Scores`, `estimators.get` and the notebook `00_start_here`; for your own data, `estimate_mi`.
"""

from remi import estimators
from remi.estimate import estimate_mi, kl
from remi.scores import Scores

__all__ = ["Scores", "estimate_mi", "estimators", "kl"]
__version__ = "0.1.0"
