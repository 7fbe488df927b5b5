"""How long a screen of 100 columns of 1,000 rows takes, and what it finds.

`python benchmarks/screening.py [--processes 2]` asks 100 columns, of which ten depend on the target, at the defaults of `screen`,
and writes what it took to `figures/screening.csv`. Goal: at most 300 s on two cores. Seconds of the processors stand beside those
of the clock, since other work may share them; `load` is how many processes wanted one, on average over the last minute.
"""

import argparse
import os
import time

import numpy as np
import pandas as pd

from remi.estimation import screen
from remi.estimation.screening import LEVEL
from remi.paper.figures import PRODUCTS, write

ROWS, COLUMNS, GOAL = 1000, 100, 300


def table() -> tuple[pd.DataFrame, pd.Series]:
    """Lines, squares, waves, scales and codes, two of each, among columns that tell nothing; of these every fifth is of codes."""
    rng = np.random.default_rng(0)
    y = rng.normal(size=ROWS)
    frame = pd.DataFrame(rng.normal(size=(ROWS, COLUMNS)), columns=[f"column {i}" for i in range(COLUMNS)])
    for i in range(0, COLUMNS, 5):
        frame[f"column {i}"] = rng.integers(4, size=ROWS).astype(str)
    shapes = {
        "line": 0.4 * y, "weak line": 0.25 * y, "square": y**2, "weak square": 0.5 * y**2,
        "wave": np.sin(3 * y), "fast wave": 1.5 * np.sin(5 * y),
    }  # fmt: skip
    told = {name: shape + rng.normal(size=ROWS) for name, shape in shapes.items()}
    told |= {name: np.exp(slope * y) * rng.normal(size=ROWS) for name, slope in (("scale", 0.5), ("weak scale", 0.3))}
    told |= {
        name: np.digitize(y + size * rng.normal(size=ROWS), [-0.5, 0.5]).astype(str)
        for name, size in (("code", 1), ("noisy code", 3))
    }
    for place, (name, values) in enumerate(told.items()):
        frame = frame.drop(columns=f"column {10 * place + 3}").assign(**{name: values})
    return frame, pd.Series(y, name="target")


def main() -> None:
    """Ask, and count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    x, y = table()
    clock, before = time.perf_counter(), os.times()
    found = screen(x, y, processes=options.processes).table
    seconds, after = time.perf_counter() - clock, os.times()
    worked = sum(after[:4]) - sum(before[:4])
    told = ~found.column.str.startswith("column ")
    small = found.holm <= LEVEL
    row = {"columns": COLUMNS, "rows": ROWS, "processes": options.processes, "seconds": seconds, "processor_seconds": worked}
    row |= {"load": os.getloadavg()[0], "goal": GOAL, "told": told.sum(), "found": (told & small).sum()}
    row |= {"found_by_chance": (~told & small).sum(), "p_at_most_5%_by_chance": (~told & (found.p <= LEVEL)).sum()}
    print(found[told | (found.p <= LEVEL)].round(3).to_string(index=False))
    print(pd.Series(row).to_string())
    write(PRODUCTS / "screening.csv", pd.DataFrame([row]).to_csv(index=False, float_format="%.4g", lineterminator="\n"))


if __name__ == "__main__":
    main()
