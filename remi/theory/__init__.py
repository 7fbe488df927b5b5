"""Floor 3: what can be proved. Closed forms, and every theorem confronted with the package's own functions."""

from remi.theory import closed_forms
from remi.theory import samples as theorems
from remi.theory.closed_forms import closed_form

__all__ = ["closed_form", "closed_forms", "theorems"]
