"""Floor 1: critic values in, a reading out. Here live the bounds, their regularized twins and the populations they compare."""

from remi.losses import adapters, chunked, estimators, gathered, rivals
from remi.losses.estimators import BOUNDS, LABELS, NAMES, Estimator, Reading, family, get, mine, nwj, regularized
from remi.losses.modules import Loss, Queue
from remi.losses.rivals import RIVALS, TwoScores, club, flo, with_second
from remi.losses.scores import Scores

__all__ = [
    "BOUNDS",
    "LABELS",
    "NAMES",
    "RIVALS",
    "Estimator",
    "Loss",
    "Queue",
    "Reading",
    "Scores",
    "TwoScores",
    "adapters",
    "chunked",
    "club",
    "estimators",
    "family",
    "flo",
    "gathered",
    "get",
    "mine",
    "nwj",
    "regularized",
    "rivals",
    "with_second",
]
