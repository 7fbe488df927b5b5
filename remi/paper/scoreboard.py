"""How good `estimate_mi` is where the truth is known: `make scoreboard`.

A board that is interrupted, or asked for in parts, goes on from the records that are there, and its products say what is
missing. One default serves all tasks and sizes.
"""

import multiprocessing
import os
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any

import pandas as pd
import torch
from tqdm import tqdm

from remi.paper import figures, standings
from remi.paper.cells import DEFAULT, FAMILIES, NEIGHBOURS, TASKS, Cell, grid, load, solve
from remi.runs import store


def part(seeds: Collection[int] | None, sizes: Collection[int] | None, tasks: Collection[str] | None) -> list[Cell]:
    """The cells with these seeds, numbers of rows, and tasks or families of tasks; None stands for all.

    Raises:
        ValueError: one of them has no cell.
    """
    every = grid()
    asked: dict[str, tuple[Collection[Any] | None, Callable[[Cell], set[Any]]]] = {
        "seeds": (seeds, lambda cell: {cell.seed}),
        "sizes": (sizes, lambda cell: {cell.n}),
        "tasks": (tasks, lambda cell: {cell.task, TASKS[cell.task].family}),
    }
    given = {name: (chosen, labels) for name, (chosen, labels) in asked.items() if chosen is not None}
    for name, (chosen, labels) in given.items():
        allowed = set().union(*map(labels, grid()))
        if unknown := [value for value in chosen if value not in allowed]:
            words = [*FAMILIES, "or a task's name"] if name == "tasks" else map(str, sorted(allowed))
            raise ValueError(f"--{name} must be among {', '.join(words)}; got {unknown[0]}")
        every = [cell for cell in every if labels(cell) & set(chosen)]
    if not every:
        got = "; ".join(", ".join(map(str, chosen)) for chosen, _ in given.values())
        raise ValueError(f"{' and '.join(f'--{name}' for name in given)} must have an estimate in common; got {got}")
    return every


def hours(cells: Sequence[Cell], processes: int) -> float:
    """What the cells will take: by the seconds of the committed board where it has them, by the number of rows otherwise."""
    before: dict[Any, float] = {}
    if (committed := figures.PRODUCTS / "scoreboard.csv").is_file():
        before = pd.read_csv(committed).set_index(["task", "n", "method"]).seconds.to_dict()
    guess = {DEFAULT: lambda n: 10 + n / 500, NEIGHBOURS: lambda n: (n / 5000) ** 2}
    return sum(before.get((c.task, c.n, c.method), guess[c.method](c.n)) for c in cells) / processes / 3600


def run(cells: Sequence[Cell], processes: int = 2, **chosen: Any) -> None:
    """Solve the cells in so many processes of one thread each; what fails does not hold up the others.

    Raises:
        RuntimeError: cells failed; the message has the first of them.
    """
    os.environ |= store.WORKER_ENVIRONMENT
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        asked = {pool.submit(solve, cell, **chosen): cell for cell in cells}
        try:
            for _ in tqdm(as_completed(asked), total=len(asked), unit="estimate", disable=None):
                pass
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    failed = [f"{cell}: {error!r}" for done, cell in asked.items() if (error := done.exception())]
    if failed:
        raise RuntimeError(f"{len(failed)} of {len(cells)} estimates failed; the first: {failed[0]}")


def scoreboard(
    seeds: Collection[int] | None = None,
    sizes: Collection[int] | None = None,
    tasks: Collection[str] | None = None,
    processes: int = 2,
    **chosen: Any,
) -> None:
    """Solve what is missing of a part of the board, and write the products of all that is there, however it ends.

    Args:
        seeds: which of the seeds; all when None, as with the other two.
        sizes: numbers of rows.
        tasks: names of tasks or of families.
        processes: that share the work.
        **chosen: options of `estimate_mi` other than its defaults.

    Raises:
        ValueError: there is no such part.
    """
    todo = [cell for cell in part(seeds, sizes, tasks) if load(cell, **chosen) is None]
    took = f"about {hours(todo, processes):.1f} hours with {processes} process{'es' * (processes != 1)}"
    print(f"{len(todo):,} estimates to make: {took if todo else 'all are there'}", flush=True)
    try:
        run(todo, processes, **chosen)
    finally:
        found = [record for cell in grid() if (record := load(cell, **chosen)) is not None]
        if found:
            print(standings.save(found))
