"""How long the encoders of Table 2 must train: every loss once, for long, and from which length on it has settled.

`python benchmarks/lengths.py digits 45000 --tasks clb` trains what is missing with one seed and writes
figures/lengths_digits_clb.csv. The lengths of the profiles in `experiments` were chosen from such tables, before the grids ran.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from remi.paper import experiments, figures, measures
from remi.paper.plans import Benchmark, Groups
from remi.runs import Record, load_or_run, store

CUTS = 24  # lengths that are judged, in equal parts of the whole
SHOWN = 6  # of the estimate's course


def cut(record: Record, steps: int) -> Record:
    """What the run would have left behind had it been this long."""
    steps = int(steps)
    ended = record.scalars.get("diverged_at", np.inf) < steps
    arrays = {name: values[:steps] for name, values in record.arrays.items()}
    return replace(record, run=replace(record.run, steps=steps), arrays=arrays, status="diverged" if ended else "ok")


def settles_at(record: Record, truth: float) -> float:
    """The shortest length from which on the run counts as settled; inf where it does not."""
    lengths = np.linspace(0, record.run.steps, CUTS + 1).astype(int)[1:]
    late = [length for length in lengths if not measures.settled(cut(record, length), truth)]
    return float(lengths[0] if not late else np.inf if late[-1] == lengths[-1] else lengths[list(lengths).index(late[-1]) + 1])


def row(key: str, record: Record, truth: float) -> dict[str, object]:
    """One training: where its estimate was, and when it settled."""
    task, dataset, curve, lam = key.split("/")
    span = max(1, record.run.steps // (4 * SHOWN))
    ends = np.linspace(0, record.run.steps, SHOWN + 1).astype(int)[1:]
    estimate = measures.trace(record, "estimate")
    course = {f"mi_{part}of{SHOWN}": np.nanmean(estimate[end - span : end]) for part, end in enumerate(ends, 1) if record.ok}
    kept = {"accuracy": record.scalars.get("accuracy"), "settles_at": settles_at(record, truth), "status": record.status}
    return {"task": task, "dataset": dataset, "curve": curve, "lam": lam, "steps": record.run.steps, **course, **kept}


def searched(benchmark: Benchmark, steps: int, tasks: Sequence[str], curves: Sequence[str] = ()) -> Groups:
    """One seed of every loss at that length, whatever the profile's; of those `curves`, or of all."""
    benchmark = replace(benchmark, steps=dict.fromkeys(tasks, steps), longer={})
    plan = replace(experiments.TABLE2, seeds=1, benchmarks=(benchmark,), tasks=tuple(tasks), ablation=())
    return {key: runs for key, runs in plan.runs().items() if runs[0].steps and (not curves or key.split("/")[2] in curves)}


def main() -> None:
    """Train and tabulate."""
    known = {benchmark.dataset: benchmark for benchmark in (*experiments.DIGITS, *experiments.SMALL_CIFAR)}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", choices=known)
    parser.add_argument("steps", type=int)
    parser.add_argument("--tasks", nargs="+", default=["slb", "clb"], choices=["slb", "clb"])
    parser.add_argument("--curves", nargs="+", default=[], help="losses; default: all")
    parser.add_argument("--size", type=int, help="training images")
    options = parser.parse_args()
    benchmark = known[options.dataset]
    if options.size:
        benchmark = replace(benchmark, train_size=options.size)
    print(store.environment())
    records = load_or_run(searched(benchmark, options.steps, options.tasks, options.curves))
    truth = float(np.log(benchmark.classes))
    table = pd.DataFrame([row(key, *group, truth) for key, group in records.items()])
    name = "_".join(["lengths", options.dataset, *options.tasks])
    figures.write(figures.PRODUCTS / f"{name}.csv", table.to_csv(index=False, float_format="%.4g", lineterminator="\n"))
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
