"""What an estimate takes: seconds and memory, from 1,000 rows to a million.

`python benchmarks/sizes.py` asks `estimate_mi`, at its defaults and on one thread, correlated normal columns (0.6), each table in
a fresh process, and writes `figures/sizes.csv`. Goals: 2 s for 1,000 rows of 1 + 1 columns and 5 s for 5,000; 120 s and 2 GB for
a million rows of 2 + 2. `gigabytes` is the most that the process held, PyTorch itself, which is half of one, included; `load` is
how many processes wanted a processor over the last minute.
"""

import math
import os
import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
import pandas as pd
import torch

from remi import estimate_mi
from remi.paper.figures import PRODUCTS, write

RHO = 0.6
TABLES = [(1_000, 1, 2), (5_000, 1, 5), (5_000, 2, None), (5_000, 5, None), (100_000, 1, None), (1_000_000, 2, 120)]  # goal, s
KILOBYTES = 1 if sys.platform == "darwin" else 1024  # of what `ru_maxrss` counts


def taken(n: int, d: int, goal: int | None) -> dict[str, Any]:
    """One table, in a process of its own."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    x, noise = rng.normal(size=(2, n, d))
    y = RHO * x + math.sqrt(1 - RHO**2) * noise
    clock, worked = time.perf_counter(), time.process_time()
    found = estimate_mi(x, y, seed=0)
    row = {"rows": n, "columns": f"{d} + {d}", "seconds": time.perf_counter() - clock, "goal": goal}
    row |= {"processor_seconds": time.process_time() - worked, "load": os.getloadavg()[0]}
    row |= {"gigabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KILOBYTES / 1e9}
    return row | {"steps": int(found.history["step"][-1]), "value": found.value, "truth": -d * math.log(1 - RHO**2) / 2}


def main() -> None:
    """One after the other."""
    rows = []
    for table in TABLES:
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            rows.append(pool.submit(taken, *table).result())
    found = pd.DataFrame(rows)
    print(found.round(3).to_string(index=False))
    write(PRODUCTS / "sizes.csv", found.to_csv(index=False, float_format="%.4g", lineterminator="\n"))


if __name__ == "__main__":
    main()
