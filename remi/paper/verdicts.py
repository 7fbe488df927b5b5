"""What a verdict is: six words, and the rules by which a check of one claim comes to one of them.

A check measures every run once and decides many times: on the seeds as they are, and on 1,000 redraws of them. What another
draw of the seeds would turn round is no verdict. Where a check compares means by their Student-t intervals, these decide.
"""

import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from remi.runs import Record
from remi.training import student_t

Array = np.ndarray
Records = Mapping[str, Sequence[Record]]
DRAWS = 1000  # redraws of the seeds
AGREE = 0.95  # share of them that must come to the same verdict

VERDICTS = {
    "holds": "",
    "fails": "",
    "undertrained": "The runs that it reads were still learning when they ended, so they say nothing.",
    "inconclusive": "The effect is within its uncertainty over the seeds: others could have said the opposite.",
    "identity": "",
    "untested": "There are no runs here that could tell.",
}  # word, and the reason where it is the same for every claim


class Finding(NamedTuple):
    """What a check found.

    `holds` is True or False where that is certain (a theorem, an interval that excludes the other answer), None where an
    interval leaves it open, and an array where it depends on which seeds one has: for the seeds as they are, then for each
    redraw. `settled` is False when runs that it reads were still learning.
    """

    measured: str
    holds: bool | Array | None
    settled: bool = True


@dataclass(frozen=True)
class Claim:
    """A statement and the check that judges it; a source other than `OURS` is a place in the paper."""

    id: str
    figure: str  # whose records the check reads; "" for a statement that no figure tests
    source: str
    statement: str
    expected: str  # the threshold, in words
    check: "Callable[[Seeds], Finding | None]"  # None: these records cannot tell
    why: str  # one plain sentence for who reads that it holds
    otherwise: str  # and that it fails
    identity: bool = False  # true by construction: shown, not tested


@dataclass(frozen=True)
class Verdict:
    """A judged claim, a row of claims.csv."""

    id: str
    source: str
    statement: str
    expected: str
    measured: str
    verdict: str
    profile: str
    why: str


OURS = ("ours", "released code")  # sources that are not counted with the paper's claims


class Seeds:
    """The runs of a figure as arrays over their seeds: as they are, and redrawn with replacement.

    Args:
        records: by curve.
    """

    def __init__(self, records: Records) -> None:
        self.records = records
        self._measured: dict[tuple[Any, ...], Array] = {}  # claims of one figure share what is costly

    def each(self, curve: str, measure: Callable[[Record], ArrayLike], only: Callable[[Record], bool] | None = None) -> Array:
        """What every run of a curve measures, (1 + DRAWS, seeds, ...): first the seeds as they are, then redraws of them.

        Curves of one problem are redrawn together: seed k gives them the same first weights and the same batches.

        Args:
            curve: a key of the records.
            measure: from a record to a number or an array; called once for each run.
            only: which of the runs to look at; all by default.
        """
        key = curve, measure, only
        if key not in self._measured:
            group = [record for record in self.records[curve] if only is None or only(record)]
            values = np.array([measure(record) for record in group], dtype=float)
            run: Any = group[0].run
            self._measured[key] = values[redraws(len(group), f"{getattr(run, 'task', '')} {getattr(run, 'dataset', '')}")]
        return self._measured[key]

    @property
    def alone(self) -> bool:
        """True when a curve has one seed, which says nothing about others."""
        return any(len(group) == 1 for group in self.records.values())


@lru_cache
def redraws(seeds: int, problem: str) -> Array:
    """Indices of the seeds, (1 + DRAWS, seeds); the first row leaves them as they are. The same on every machine."""
    drawn = np.random.default_rng(zlib.crc32(problem.encode())).integers(seeds, size=(DRAWS, seeds))
    return np.concatenate([np.arange(seeds)[None], drawn])


def above(values: Array, threshold: float = 0.0) -> bool | None:
    """Whether the mean over the seeds is above a threshold; None where its 95% Student-t interval has the threshold in it.

    Args:
        values: of `Seeds.each`, whose redraws it does not look at: the interval says how uncertain the mean is.
        threshold: in the units of the values.
    """
    mean, half_width = student_t(values[0] - threshold)
    return bool(mean > 0) if abs(mean) > half_width else None  # a single seed has no interval


def every(answers: Iterable[bool | None]) -> bool | None:
    """True when all are, False when one is, None when that is open."""
    found = list(answers)
    return False if False in found else None if None in found else True


def judge(claim: Claim, seeds: Seeds | None, profile: str) -> Verdict:
    """The verdict on one claim; without runs it is untested."""
    found = claim.check(seeds) if seeds else None
    word = _word(claim, bool(seeds and seeds.alone), found)
    reason = VERDICTS[word] or (claim.otherwise if word == "fails" else claim.why)
    measured = found.measured if found else ""
    return Verdict(claim.id, claim.source, claim.statement, claim.expected, measured, word, profile, reason)


def _word(claim: Claim, alone: bool, found: Finding | None) -> str:
    if found is None:
        return "untested"
    if not found.settled:
        return "undertrained"
    holds = found.holds
    if isinstance(holds, np.ndarray):
        sure = not alone and np.mean(holds[1:] == holds[0]) >= AGREE
        holds = bool(holds[0]) if sure or claim.identity else None
    if holds is None:
        return "inconclusive"
    return "fails" if not holds else "identity" if claim.identity else "holds"
