"""How long a level of `beyond_offsets` must be: the losses that its claims compare, once at each of some lengths.

`python benchmarks/lengths_staircase.py` trains what is missing, with a seed that no claim reads at `quick`, and writes
figures/lengths_staircase.csv. The length of `quick` was chosen from it before the grid ran: the shortest at which none of the
losses climbs by a tenth of the truth in the last fifth of a level.
"""

from dataclasses import replace

import pandas as pd

from remi.paper import experiments, figures, measures
from remi.paper.checks_gaussian import LEARNING
from remi.runs import Record, load_or_run

LENGTHS = (200, 300, 400, 500)  # steps of a level
COMPARED = ("remine", "infonce_anchor", "sigmoid", "fdime", "flo")
SEED = 3


def row(curve: str, length: int, record: Record) -> dict[str, object]:
    """One training: how far it still climbs at the end of every level, and whether that says that it has learnt."""
    climbs = dict(zip(record.run.problem.levels, measures.climbs(record), strict=True))  # type: ignore[attr-defined]
    found = {f"climbs_{level:g}": climb for level, climb in climbs.items()}
    return {"curve": curve, "steps_per_level": length, **found, "learnt": all(climb <= LEARNING for climb in climbs.values())}


def main() -> None:
    """Train and tabulate."""
    plan = experiments.beyond("quick")["main"]
    curves = tuple(curve for curve in plan.curves if curve.key in COMPARED)  # type: ignore[attr-defined]
    plans = {length: replace(plan, curves=curves, seeds=SEED + 1, steps_per_level=length) for length in LENGTHS}  # type: ignore[call-arg]
    groups = {(key, length): runs[SEED:] for length, sized in plans.items() for key, runs in sized.runs().items()}
    records = load_or_run(groups)  # type: ignore[arg-type]
    table = pd.DataFrame([row(*key, *group) for key, group in records.items()])  # type: ignore[misc]
    figures.write(figures.PRODUCTS / "lengths_staircase.csv", table.to_csv(index=False, float_format="%.3g", lineterminator="\n"))
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
