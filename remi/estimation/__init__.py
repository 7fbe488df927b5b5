"""Floor 3: your own data. From two tables, or two samples, to a value in nats with an interval and a word of warning."""

from remi.estimation.columns import Array, normal_scores, standardize
from remi.estimation.conditional import estimate_cmi
from remi.estimation.estimate import Estimate, compare, estimate_mi, kl
from remi.estimation.files import read_csv
from remi.estimation.screening import Screening, screen

__all__ = [
    "Array",
    "Estimate",
    "Screening",
    "compare",
    "estimate_cmi",
    "estimate_mi",
    "kl",
    "normal_scores",
    "read_csv",
    "screen",
    "standardize",
]
