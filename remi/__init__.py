"""Mutual-information losses that train: six bounds, their regularized twins, and the paper they come from, reproduced.

Everything is in nats. Start with `Scores`, `estimators.get` and the notebook `00_start_here`; for your own data, `estimate_mi`.
"""

import sys

from remi import losses
from remi.estimation import estimate_cmi, estimate_mi, kl
from remi.losses import Scores, chunked, estimators

sys.modules |= {"remi.estimators": estimators, "remi.chunked": chunked}  # under the names that people know

__all__ = ["Scores", "chunked", "estimate_cmi", "estimate_mi", "estimators", "kl", "losses"]
__version__ = "0.1.0"
