"""Floor 2: networks, data, and the one loop that trains a stack of them; what evaluates them lives here, too."""

from remi.training import checkpoints, critics, encoders, evaluation, images, loop, problems
from remi.training.checkpoints import Checkpoints, write
from remi.training.critics import ConcatCritic, initialize
from remi.training.evaluation import Interval, auc, in_batches, macro_average, micro_average, retrieve, student_t
from remi.training.images import CIFAR, CIFAR_SIZES, DATASETS, Images, noise
from remi.training.loop import (
    PRECISIONS,
    SGD,
    Adam,
    History,
    Keeper,
    Loop,
    Observers,
    Optimizer,
    Stream,
    fit,
    in_precision,
    tf32,
)
from remi.training.problems import GaussianStaircase, OneHot

__all__ = [
    "CIFAR",
    "CIFAR_SIZES",
    "DATASETS",
    "PRECISIONS",
    "SGD",
    "Adam",
    "Checkpoints",
    "ConcatCritic",
    "GaussianStaircase",
    "History",
    "Images",
    "Interval",
    "Keeper",
    "Loop",
    "Observers",
    "OneHot",
    "Optimizer",
    "Stream",
    "auc",
    "checkpoints",
    "critics",
    "encoders",
    "evaluation",
    "fit",
    "images",
    "in_batches",
    "in_precision",
    "initialize",
    "loop",
    "macro_average",
    "micro_average",
    "noise",
    "problems",
    "retrieve",
    "student_t",
    "tf32",
    "write",
]
