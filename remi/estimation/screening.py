"""Many columns against one target: which of them tell something about it, how much, and how many of these would be chance."""

import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm import tqdm

from remi.estimation import columns
from remi.estimation.closed import CLOSE
from remi.estimation.columns import Array, Column
from remi.estimation.estimate import Estimate, between, compare, device_called, plan_of
from remi.estimation.plan import Plan
from remi.estimation.undisturbed import undisturbed
from remi.extras import extra

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

LEVEL = 0.05
FEWEST, EACH = 999, 40  # permutations: at least so many, and so many per column, so that a p-value can be below LEVEL / columns
SHOWN = 20  # columns that are printed, and drawn


@dataclass(frozen=True)
class Screening:
    """What each column tells about a target.

    Args:
        table: a row per column, as they were given: "column", "value", "low", "high" in nats, "p", "holm", "fdr" and
            "diagnostics", how many there are. Of the columns with "holm" at most 5%, any is chance in at most 5 of 100
            such tables (Holm, 1979); of those with "fdr" at most 5%, about 5 of 100 are chance (Benjamini and Hochberg, 1995).
        estimates: by column.
    """

    table: "pd.DataFrame"
    estimates: Mapping[str, Estimate] = field(repr=False)

    @property
    def ranked(self) -> "pd.DataFrame":
        """The rows of smallest p first, and among these of the largest value."""
        return self.table.sort_values(["p", "value"], ascending=[True, False], ignore_index=True)

    def __str__(self) -> str:
        found = int((self.table.holm <= LEVEL).sum())
        head = f"{found} of {len(self.table)} columns tell something, each beyond chance among so many"
        shown = (
            self.ranked.head(SHOWN).round({"value": 3, "low": 3, "high": 3}).to_string(index=False, float_format="{:.3g}".format)
        )
        return f"{head}\n{shown}"

    def _repr_html_(self) -> str:
        return self.ranked.to_html(index=False, float_format="{:.3g}".format)

    def plot(self) -> "Figure":
        """Values and intervals of the first columns of `ranked`; a line below those with "holm" at most 5%.

        Raises:
            ExtraError: matplotlib is not installed.
        """
        with extra("paper"):
            from remi.style import MARGINAL
        shown = self.ranked.head(SHOWN)
        figure, _ = compare({name: self.estimates[name] for name in shown.column})
        axes, found = figure.axes[0], int((shown.holm <= LEVEL).sum())
        axes.axhline(found - 0.5, color=MARGINAL, lw=0.8)
        axes.set_xlabel(f"{axes.get_xlabel()}; above the line: beyond chance among {len(self.table)}")
        return figure


def screen(
    x: object,
    y: object,
    *,
    bound: str = "remine",
    seed: int = 0,
    discrete: str | Sequence[str] = (),
    transform: str = "rank",
    folds: int = 5,
    restarts: int = 1,
    batch: int = 64,
    steps: int = 2000,
    lr: float = 3e-3,
    device: str = "cpu",
    series: bool = False,
    permutations: int | None = None,
    processes: int = 1,
    **options: Any,
) -> Screening:
    """Mutual information of every column of x with y, with p-values corrected for their number.

    Each column is asked as `estimate_mi` would be; what columns tell only together is not seen. Density ratios in closed form
    come first, among them smoothed densities or, for codes, tables. Critics are trained for the columns in which these show
    something, p at most 5%, and are asked instead of them. Such p-values are valid: with p' and p'' those of the two, independent
    data have

        P(p <= a) = P(p' <= 5%, p'' <= a) <= a,    a <= 5%;        P(p <= a) <= P(p' <= a) <= a,    a > 5%.

    Where the features are too many for smoothed densities, critics are trained for every column.

    Args:
        x: (n, features), as in `estimate_mi`: each column by itself.
        y: the target, (n,) or (n, features).
        bound: one of the losses; this and the others as in `estimate_mi`.
        seed: the same for all columns, and so are the folds.
        discrete: columns of numbers that are codes: their names, or "x" or "y" for all of theirs.
        transform: of continuous columns.
        folds: parts of the data.
        restarts: critics per fold; one, since there are many columns.
        batch: rows per step.
        steps: at most so many.
        lr: Adam's.
        device: "cpu", "cuda" or "auto".
        series: rows follow each other in time.
        permutations: for the p-values; without it 999, or 40 per column where that is more: 1 / (1 + permutations) is the
            smallest, and its product with the number of columns has to be below 5%.
        processes: that ask at the same time, of one thread each. They are new Python processes: a script that asks for more than
            one needs `if __name__ == "__main__":`.
        **options: of the bound.

    Raises:
        ValueError: an argument is not what it must be; the message names it, its value, and what is allowed.
        ExtraError: pandas is not installed.
    """
    with extra("paper"):
        import pandas as pd

    if not isinstance(processes, Integral) or isinstance(processes, bool) or not 1 <= int(processes) <= 1000:
        raise ValueError(f"processes must be a whole number from 1 to 1000; got {processes!r}")
    tables = columns.paired(x, y)
    many = len(tables["x"])
    chosen = max(FEWEST, EACH * many) if permutations is None else permutations
    plan = plan_of(bound, seed, folds, restarts, batch, steps, lr, options, series, chosen)
    if not plan.permutations:
        raise ValueError("permutations must be a whole number from 1 to 1000000, since columns are judged by p; got 0")
    device_called(device)
    described = columns.read(tables, discrete)
    columns.features(described["y"], transform, torch.device("cpu"))
    ask = partial(_ask, described["y"], transform, plan, device)
    found = list(tqdm(_all(ask, described["x"], int(processes)), "columns", many, False, unit="column", disable=None))
    p = np.array([one.p_value for one in found])
    names = [column.name for column in described["x"]]
    rows = [(name, one.value, *one.interval) for name, one in zip(names, found, strict=True)]
    table = pd.DataFrame(rows, columns=["column", "value", "low", "high"])
    table = table.assign(p=p, holm=holm(p), fdr=fdr(p), diagnostics=[len(one.diagnostics) for one in found])
    return Screening(table, dict(zip(names, found, strict=True)))


def _ask(y: list[Column], transform: str, plan: Plan, device: str, x: Column) -> Estimate:
    """One column; without critics, where there is nothing for them."""
    with undisturbed(where := device_called(device), plan.seed, None):
        if plan.steps and _followed(x, y):
            found = between([x], y, transform, replace(plan, steps=0), None, where)
            if found.p_value is not None and found.p_value > LEVEL:
                return found
        return between([x], y, transform, plan, None, where)


def _followed(x: Column, y: Sequence[Column]) -> bool:
    """Whether a ratio in closed form follows any dependence: a table, or smoothed densities of few features."""
    table = len(y) == 1 and x.discrete and y[0].discrete
    return table or sum(int(column.values.max()) if column.discrete else 1 for column in (x, *y)) <= CLOSE


def _all(ask: Callable[[Column], Estimate], asked: Sequence[Column], processes: int) -> Iterator[Estimate]:
    """Every answer, in order."""
    if processes == 1:
        yield from map(ask, asked)
        return
    start = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(processes, len(asked)), start, torch.set_num_threads, (1,)) as pool:
        yield from pool.map(ask, asked)


def holm(p: Array) -> Array:
    """The smallest level at which Holm's procedure rejects each."""
    order = np.argsort(p)
    steps = np.maximum.accumulate(np.sort(p) * np.arange(len(p), 0, -1)).clip(max=1)
    return steps[np.argsort(order)]


def fdr(p: Array) -> Array:
    """The smallest false discovery rate at which Benjamini and Hochberg's procedure rejects each."""
    from scipy.stats import false_discovery_control  # here: `import remi` does without

    return np.asarray(false_discovery_control(p))
