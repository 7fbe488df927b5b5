"""Floor 3: what can be proved. Closed forms, and a file per chapter that confronts its theorems with the package's functions."""

from remi.theory import closed_forms, comparison, drift, duality, explosion, further, known, labels, offsets, samples, theorems
from remi.theory.closed_forms import closed_form

__all__ = [
    "closed_form",
    "closed_forms",
    "comparison",
    "drift",
    "duality",
    "explosion",
    "further",
    "known",
    "labels",
    "offsets",
    "samples",
    "theorems",
]
