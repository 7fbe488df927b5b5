"""torch-mist's estimators on the 40 tasks of `make scoreboard`, each with the seconds that the default of `estimate_mi` took.

    pip install torch-mist
    python benchmarks/estimates_torch_mist.py [--seeds 0 1] [--estimators smile js] [--patient]

Both get the same rows and the same features. torch-mist trains on 80% of the rows, 10% of those decide when to stop, and it is
read on the other 20%; all its settings but the number of iterations are its own. It usually stops long before its time is over;
`--patient` lets it go on to the end, and read the best network it had. Written: `figures/scoreboard_torch_mist.csv`, where the
rows of other estimators stay; `--estimators` without a name only judges what is there.
"""

import argparse
import contextlib
import io
import time
import warnings

import numpy as np
import pandas as pd
import torch

from remi.estimation import columns
from remi.paper import cells
from remi.paper.figures import PRODUCTS, write
from remi.theory import known

PILOT = 100  # iterations that say how long one takes
ESTIMATORS = ("smile", "js", "nwj", "infonce", "mine")


def torch_mist(x: torch.Tensor, y: torch.Tensor, name: str, seed: int, iterations: int, patience: int | None = None) -> float:
    """Its estimate on held-out rows, in nats."""
    from torch_mist import estimate_mi

    torch.manual_seed(seed)
    order = torch.randperm(len(x))
    train, test = order[: len(x) * 4 // 5], order[len(x) * 4 // 5 :]
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it prints and warns at every call
        found = estimate_mi(
            (x[train], y[train]),
            estimator=name,
            test_data=(x[test], y[test]),
            max_iterations=iterations,
            patience=patience,
            verbose=False,
            logger=False,
        )
    return float(found[0] if isinstance(found, tuple) else found)


def solve(cell: cells.Cell, name: str, *, patient: bool = False) -> dict[str, object]:
    """One estimate in the time of ours."""
    ours, drawn = cells.solve(cell), cells.rows(cell)
    described = columns.read(columns.tables(("x", drawn[0]), ("y", drawn[1]), "nn"), [])
    x, y = (columns.features(described[key], "rank", torch.device("cpu")) for key in ("x", "y"))
    start = time.perf_counter()
    torch_mist(x, y, name, cell.seed, PILOT)
    each = (time.perf_counter() - start) / PILOT
    start = time.perf_counter()
    iterations = max(PILOT, int(ours["seconds"] / each))
    value = torch_mist(x, y, name, cell.seed, iterations, iterations if patient else None)
    seconds = time.perf_counter() - start
    return {
        **{"task": cell.task, "n": cell.n, "estimator": name + ", patient" * patient, "seed": cell.seed},
        **{"mi": ours["mi"], "value": value, "seconds": seconds},
        **{"default_value": ours["value"], "default_seconds": ours["seconds"]},
    }


def ahead(found: pd.DataFrame) -> str:
    """On how many tasks the default's mean absolute error is smaller: than each estimator's, than the best's of each task."""
    errors = found.assign(theirs=(found.value - found.mi).abs().fillna(np.inf), ours=(found.default_value - found.mi).abs())
    means = errors.groupby(["estimator", "task", "n"])[["theirs", "ours"]].mean()
    rivals = {**dict(list(means.groupby("estimator"))), "the best, afterwards": means.groupby(["task", "n"]).min()}
    return "\n".join(f"{name}: {(rows.ours < rows.theirs).sum()} of {len(rows)}" for name, rows in rivals.items())


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=list(known.SIZES))
    parser.add_argument("--estimators", nargs="*", default=list(ESTIMATORS))
    parser.add_argument("--patient", action="store_true", help="no early stopping")
    options = parser.parse_args()
    if unknown := set(options.estimators) - set(ESTIMATORS):
        parser.error(f"--estimators must be among {', '.join(ESTIMATORS)}; got {', '.join(sorted(unknown))}")
    torch.set_num_threads(1)
    asked = [cells.Cell(task.name, n, seed) for seed in options.seeds for task in known.TASKS for n in options.sizes]
    found = []
    for name in options.estimators:
        for cell in asked:
            found.append(solve(cell, name, patient=options.patient))
            print(*found[-1].values(), flush=True)
    path = PRODUCTS / "scoreboard_torch_mist.csv"
    table = pd.DataFrame(found)
    if path.exists():
        before = pd.read_csv(path)
        table = pd.concat([before[~before.estimator.isin(table.get("estimator", []))], table])
    write(path, table.to_csv(index=False, float_format="%.4g", lineterminator="\n"))
    print(ahead(table))


if __name__ == "__main__":
    main()
