"""The scoreboard's estimates: which there are, who makes them, and their records.

A cell is one estimate on one drawing of one task. Its record is written when it is done, and known by what was estimated.
"""

import hashlib
import json
import os
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from remi.estimation import Array, estimate_mi
from remi.paper.neighbours import nearest_neighbours
from remi.runs import statements, store
from remi.theory import further, known
from remi.training import critics, write

SEEDS = 5
FORTY = frozenset(task.name for task in known.TASKS)
TASKS = {task.name: task for task in (*known.TASKS, *further.TASKS)}
FAMILIES = tuple(dict.fromkeys(task.family for task in TASKS.values()))
DEFAULT, NEIGHBOURS, ALONE = "default", "neighbours", "alone"
BOARD = (DEFAULT, NEIGHBOURS)  # what `make scoreboard` asks
COLUMNS = ("task", "n", "seed", "method", "mi", "value", "low", "high", "p_value", "seconds", "refused", "diagnostics")

# ---- Methods ------------------------------------------------------------------------------------------------------------


def _default(task: known.Task, x: Array, y: Array, seed: int, **chosen: Any) -> dict[str, Any]:
    found = estimate_mi(x, y, seed=seed, discrete=list(task.discrete), **chosen)
    low, high = found.interval
    return {
        **{"value": found.value, "low": low, "high": high, "p_value": found.p_value, "diagnostics": list(found.diagnostics)},
        **{"readings": dict(found.readings), "diverged": int((found.history["diverged_at"] >= 0).sum())},
    }


def _alone(
    task: known.Task, x: Array, y: Array, seed: int, *, hidden: Sequence[int], outputs: int, **chosen: Any
) -> dict[str, Any]:
    """A plain critic without any ratio in closed form: the inner product of two networks, from which every fold starts."""
    encoders = [critics.mlp([side.shape[1], *hidden, outputs]) for side in (x, y)]
    critic = critics.SeparableCritic(*encoders)
    critics.initialize(critic, [torch.Generator().manual_seed(seed)])
    return _default(task, x, y, seed, critic=critic, **chosen)


def _neighbours(task: known.Task, x: Array, y: Array, seed: int, **chosen: Any) -> dict[str, Any]:
    return {"value": nearest_neighbours(x, y)}


METHODS: dict[str, Callable[..., dict[str, Any]]] = {DEFAULT: _default, NEIGHBOURS: _neighbours, ALONE: _alone}
ESTIMATION = ("losses", "training", "estimation")
CODE = {  # what the method computes, and what the tasks are, as imported
    (method, forty): statements(*places, "theory/known.py", *(() if forty else ("theory/further.py",)))
    for method, places in {DEFAULT: ESTIMATION, NEIGHBOURS: ("paper/neighbours.py",), ALONE: ESTIMATION}.items()
    for forty in (True, False)
}


# ---- Cells and their records --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """One estimate."""

    task: str
    n: int
    seed: int
    method: str = DEFAULT


def grid() -> list[Cell]:
    """All cells, a seed after the other; nearest neighbours on the forty, as a check that these are the field's tasks."""
    return [
        Cell(task.name, n, seed, method)
        for seed in range(SEEDS)
        for task in TASKS.values()
        for n in task.sizes
        for method in (BOARD if task.name in FORTY else [DEFAULT])
    ]


def identity(cell: Cell, **chosen: Any) -> dict[str, Any]:
    """Every value that can change what is estimated."""
    code = CODE[cell.method, cell.task in FORTY]
    return {**asdict(cell), "chosen": chosen, "code": code, "torch": torch.__version__}


def path(cell: Cell, **chosen: Any) -> Path:
    """Where the cell's record lies in the run store."""
    digest = hashlib.sha256(json.dumps(identity(cell, **chosen), sort_keys=True).encode()).hexdigest()
    return store.STORE / ".scoreboard" / f"{cell.task}-{cell.n}-{cell.method}-{cell.seed}-{digest[:16]}.json"


def load(cell: Cell, **chosen: Any) -> dict[str, Any] | None:
    """The cell's record; None where there is none, or a damaged one."""
    try:
        record = json.loads(path(cell, **chosen).read_text())
        return dict(record) if record["identity"] == identity(cell, **chosen) else None
    except store.DAMAGED:
        return None


def rows(cell: Cell) -> known.Pair:
    """What is drawn for the cell: the same for every method, other rows for every task, seed and number of them."""
    return TASKS[cell.task].draw(np.random.default_rng([cell.seed, cell.n, zlib.crc32(cell.task.encode())]), cell.n)


def solve(cell: Cell, **chosen: Any) -> dict[str, Any]:
    """The cell's record, estimated and written if it is not there; what the estimate refuses is recorded with its reason.

    Args:
        cell: what is asked.
        **chosen: options of `estimate_mi` other than its defaults, and of the method; such a record is another one.
    """
    if (there := load(cell, **chosen)) is not None:
        return there
    x, y = rows(cell)
    start, worked = time.perf_counter(), time.process_time()
    try:
        found = METHODS[cell.method](TASKS[cell.task], x, y, cell.seed, **chosen)
    except ValueError as error:
        found = {"refused": str(error)}
    record = {
        "identity": identity(cell, **chosen),
        "environment": store.environment(),
        "mi": TASKS[cell.task].mi,
        "seconds": time.perf_counter() - start,
        "processor": time.process_time() - worked,
        **found,
    }
    where = path(cell, **chosen)
    where.parent.mkdir(parents=True, exist_ok=True)
    beside = where.with_name(f".writing-{os.getpid()}-{where.name}")
    write(beside, json.dumps(record, indent=1, sort_keys=True).encode())
    beside.replace(where)
    return record


def table(records: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """A row per record: `COLUMNS`; diagnostics are counted."""
    rows = [{**record["identity"], **record, "diagnostics": len(record.get("diagnostics", ()))} for record in records]
    numbers = ("mi", "value", "low", "high", "p_value", "seconds")
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(dict.fromkeys(numbers, float))
