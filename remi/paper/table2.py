"""Table 2: from records to a row per run, and from these to a row per cell; numbers in nats."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from remi.losses import BOUNDS, LABELS, estimators
from remi.paper import experiments
from remi.paper.measures import settled
from remi.paper.plans import Benchmark
from remi.runs import Record
from remi.theory import closed_form
from remi.training import images, student_t

MI = ("mi_train", "mi_last_batch", "mi_dv", "mi_heldout")
ACCURACY = ("accuracy", "accuracy_batch_stats")
CELL = ["task", "dataset", "loss", "regularized", "clip", "variant"]
COLUMNS = ["task", "dataset", "loss", "regularized", "clip", "lam", "seed", *MI, *ACCURACY, "n_skipped", "status", "settled"]
TASKS = {"slb": "Supervised learning benchmark", "clb": "Contrastive learning benchmark"}
VARIANTS = ("original", "regularized", "clip only", "regularizer only", "untrained")
BENCHMARKS: dict[str, Benchmark] = {benchmark.dataset: benchmark for benchmark in experiments.BENCHMARKS}
PAPER = {10: "CIFAR-10", 100: "CIFAR-100"}  # the paper's data set with as many classes
PUBLISHED = Path(__file__).with_name("published_table2.csv")


# From records to rows


def rows(groups: Mapping[str, Sequence[Record]]) -> pd.DataFrame:
    """One row per run of Table 2, in a fixed order whatever the order of the groups; MI in nats, 6 digits.

    A diverged run says at which step in `status` and counts as in the paper: MI 0, accuracy 1 / C. `lam` is nan without a
    regularizer, `clip` is what the loss clips ("both", "marginal" or "none"), and an untrained encoder has no training MI.
    `settled`: whether the training had the time that its loss takes, see `measures.settled`.

    Args:
        groups: the records of `experiments.table2` or `experiments.folder`; a record says itself to which row it belongs.

    Raises:
        ValueError: a data set is not in `experiments.BENCHMARKS`.
    """
    found = sorted((run_row(record) for records in groups.values() for record in records), key=_order)
    return pd.DataFrame(found, columns=COLUMNS).round(6)


def run_row(record: Record) -> dict[str, Any]:
    """The row of one run."""
    run: Any = record.run
    chance = 1 / benchmark(run.dataset).classes
    if record.ok:
        values, status = {name: record.scalars.get(name, np.nan) for name in (*MI, *ACCURACY)}, record.status
    else:
        values = dict.fromkeys(MI, 0.0) | dict.fromkeys(ACCURACY, chance)
        status = f"diverged at step {record.scalars['diverged_at']:.0f}"
    untrained = run.loss == "untrained"
    allowed = {} if untrained else estimators.options(run.loss)
    clip = run.options.get("clip", allowed["clip"].default) if "clip" in allowed else None
    return {
        "task": run.task,
        "dataset": run.dataset,
        "loss": run.loss if untrained else estimators.family(run.loss),
        "regularized": run.lam is not None,
        "clip": clip or "none",
        "lam": np.nan if run.lam is None else run.lam,
        "seed": run.seed,
        **values,
        "n_skipped": int(record.scalars.get("n_skipped", 0)),
        "status": status,
        "settled": settled(record, true_mi(run.dataset)),
    }


def benchmark(dataset: str) -> Benchmark:
    """The benchmark on a data set, by its name; its classes and batch are the same in every profile."""
    if dataset == "folder":
        return experiments.folder_benchmark()
    if dataset not in BENCHMARKS:
        raise ValueError(f"dataset must be one of {', '.join(BENCHMARKS)}; got {dataset!r}")
    return BENCHMARKS[dataset]


def _variant(row: Mapping[Any, Any]) -> str:
    if row["loss"] == "untrained":
        return "untrained"
    clipped = row["clip"] == "both"  # Table 1 clips NWJ and TUBA with the regularizer only
    if row["loss"] in estimators.SELF_NORMALIZED and clipped != row["regularized"]:
        return "regularizer only" if row["regularized"] else "clip only"
    return "regularized" if row["regularized"] else "original"


def _order(row: Mapping[str, Any]) -> tuple[float, ...]:
    places = zip(
        (tuple(TASKS), (*BENCHMARKS, "folder"), (*BOUNDS, "untrained"), VARIANTS),
        (row["task"], row["dataset"], row["loss"], _variant(row)),
        strict=True,
    )
    return (*(names.index(name) for names, name in places), -np.nan_to_num(row["lam"]), row["seed"])


# From rows to cells


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """One row per cell of Table 2: over seeds, mean and half width of the Student-t 95% interval; nats, 6 digits.

    * `variant`: original, regularized, clip only and regularizer only (NWJ and TUBA, ours), untrained.
    * `<measure>_mean`, `<measure>_ci95`: every run, a diverged one as MI 0 and chance accuracy. `mi` is `mi_train`; in it and
      in `mi_last_batch` a negative value of a run counts as 0, as in the paper. `<measure>_mean_ok`: finite runs only.
    * `settled`: how many of the `n` runs had the time that their loss takes; only a cell of which all had is judged.
    * `lam`: of a regularized cell the weight whose `mi_mean` is nearest the true MI, the larger one of a tie.
    * `published_*`: the paper's numbers on the CIFAR data set with as many classes. `closed_form`: `theory.closed_form`.

    Args:
        table: of `rows`, or read back from its CSV file.
    """
    cells = _cells(table)
    cells["error"] = (cells["mi_mean"] - cells["true_mi"]).abs().round(6)
    best = cells.sort_values(["error", "lam"], ascending=[True, False], kind="stable").groupby(CELL, sort=False).head(1)
    best = best.sort_index().drop(columns="error")
    columns = zip(best["task"], best["loss"], map(benchmark, best["dataset"]), strict=True)
    best["closed_form"] = np.array([closed_form(task, loss, b.classes, b.batch) for task, loss, b in columns], dtype=float)
    return best.merge(_published(), how="left", on=["task", "dataset", "loss", "variant"], validate="one_to_one").round(6)


def by_lambda(table: pd.DataFrame) -> pd.DataFrame:
    """Fig. 6: the CLB cells of every regularized loss (as in Table 1) and weight, columns as in `summary`; nats."""
    cells = _cells(table)
    chosen = cells[(cells["task"] == "clb") & (cells["variant"] == "regularized")]
    counts = ["n_ok", "settled", "n"]
    return chosen[[*CELL, "lam", "true_mi", *_statistics("mi"), *_statistics("accuracy"), *counts]].reset_index(drop=True)


def _statistics(measure: str) -> list[str]:
    return [f"{measure}_{statistic}" for statistic in ("mean", "ci95", "mean_ok")]


def _cells(table: pd.DataFrame) -> pd.DataFrame:
    """A row per task, data set, loss, clip and weight, in the order of `table`."""
    runs = table.assign(variant=[_variant(row) for row in table.to_dict("records")])
    rows = []
    for key, cell in runs.groupby([*CELL, "lam"], sort=False, dropna=False):
        row = dict(zip([*CELL, "lam"], key, strict=True))
        ok = cell["status"] == "ok"
        row |= {"true_mi": true_mi(str(row["dataset"])), "n_ok": int(ok.sum())}
        row |= {"settled": int(cell["settled"].sum()), "n": len(cell)}
        for column in (*MI, *ACCURACY):
            values = cell[column].clip(lower=0) if column in ("mi_train", "mi_last_batch") else cell[column]
            measure = "mi" if column == "mi_train" else column
            row |= dict(zip(_statistics(measure), (*student_t(values), values[ok].mean()), strict=True))
        rows.append(row)
    return pd.DataFrame(rows).round(6)


def true_mi(dataset: str) -> float:
    """Of a data set, in nats."""
    return images.DATASETS[dataset]().true_mi


def _published() -> pd.DataFrame:
    """The paper's Table 2 under our names: beside CIFAR itself, and beside what stands in for it."""
    ours = {name: [b.dataset for b in BENCHMARKS.values() if b.classes == classes] for classes, name in PAPER.items()}
    table = pd.read_csv(PUBLISHED).rename(columns=lambda name: f"published_{name}" if name.endswith(("_mean", "_ci95")) else name)
    table["task"] = table["task"].str.lower()
    table["dataset"] = table["dataset"].map(ours)
    table["loss"] = table["loss"].map({LABELS[name]: name for name in BOUNDS})
    return table.explode("dataset", ignore_index=True)


def readable(dataset: str) -> str:
    """The data set for readers: "digit pairs", "CIFAR-10"."""
    return dataset.upper() if dataset.startswith("cifar") else dataset.replace("-", " ")
