"""The eight theorems by number: the check of each, in the chapter that proves what holds of it."""

from collections.abc import Callable

from remi.theory import drift, duality, labels, samples
from remi.theory.comparison import Comparison

CHECKS: dict[int, Callable[[], list[Comparison]]] = {
    1: duality.theorem1,
    2: samples.theorem2,
    3: samples.theorem3,
    4: samples.theorem4,
    5: drift.theorem5,
    6: drift.theorem6,
    7: labels.theorem7,
    8: labels.theorem8,
}
