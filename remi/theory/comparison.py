"""What a statement predicts beside what the package's own functions give: how every chapter confronts its theorems.

A check takes no argument, runs in seconds, and returns comparisons. Those about the printed statement of a theorem decide its
verdict; those about the corrected one must all hold. Predictions come from `closed_forms`, measurements from `estimators`,
`Scores` and `evaluation`, always by their module's name, so that a test can plant an error in any of them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from remi.losses import Scores


@dataclass(frozen=True)
class Comparison:
    """A predicted and a measured number, in nats unless `what` says otherwise.

    Args:
        what: the quantity, in words.
        predicted: what the statement says.
        measured: what the package's functions give.
        tolerance: how far `measured` may be on the wrong side of `predicted`; its origin stands beside it in the code.
        relation: "=", "<=" or ">=": how `measured` relates to `predicted`.
        printed: whether the paper prints this; False for the corrected statement.
    """

    what: str
    predicted: float
    measured: float
    tolerance: float = 0.0
    relation: Literal["=", "<=", ">="] = "="
    printed: bool = False

    @property
    def holds(self) -> bool:
        """False also where either number is nan."""
        above = self.measured >= self.predicted - self.tolerance
        below = self.measured <= self.predicted + self.tolerance
        return {"=": above and below, ">=": above, "<=": below}[self.relation]


def verdict(comparisons: Iterable[Comparison], instead: str = "") -> tuple[str, bool]:
    """What was measured about the printed statement, and whether it holds; how many checks of the corrected one do.

    Args:
        comparisons: of one theorem.
        instead: the corrected statement, in words.
    """
    found = list(comparisons)
    printed, corrected = [c for c in found if c.printed], [c for c in found if not c.printed]
    parts = [f"{c.what}: {c.measured:.4g} ({'' if c.relation == '=' else c.relation + ' '}{c.predicted:.4g})" for c in printed]
    name = f"corrected statement ({instead})" if instead else "corrected statement"
    parts.append(f"{name}: {sum(c.holds for c in corrected)} of {len(corrected)} comparisons hold")
    return "; ".join(parts), all(c.holds for c in printed)


def lines(comparisons: Iterable[Comparison]) -> str:
    """A line per comparison: verdict, quantity, measured value; in brackets the predicted one, and how near it should be."""
    found = list(comparisons)
    expected = [
        f"{c.predicted:.4g} ± {c.tolerance:.1g}" if c.relation == "=" else f"{c.relation} {c.predicted:.4g}" for c in found
    ]
    return "\n".join(
        f"{'holds' if c.holds else 'fails':>5}  {c.what}: {c.measured:.4g} ({near})" + (" as printed" if c.printed else "")
        for c, near in zip(found, expected, strict=True)
    )


def every_pair(T: Tensor) -> Scores:
    """Critics (..., n, n): the diagonal is joint and every pair marginal, as in the whole population of a one-hot problem."""
    return Scores(T.diagonal(dim1=-2, dim2=-1), T, rowwise=True)
