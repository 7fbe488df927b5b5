"""What a sweep will take, said before it starts: runs, steps, hours and disk."""

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from remi.runs import store
from remi.training import loop
from remi.runs.specs import Run, to_json

STEPS = 10  # that are timed
SLOW = 1.0  # seconds; one step as slow as this is timed alone
SHAPELESS = ("loss", "lam", "options", "seed", "steps")  # what leaves the time of a step as it is


@dataclass(frozen=True)
class Budget:
    """Numbers before the first step; the hours are an upper bound where runs diverge early."""

    runs: int
    steps: int
    hours: float
    processes: int
    bytes: float
    device: str

    def __str__(self) -> str:
        hours = f"{self.hours:,.{self.hours < 10:d}f} hours" if self.hours >= 1 else f"{60 * self.hours:.0f} minutes"
        return (
            f"{self.runs:,} run{'s' * (self.runs != 1)} of {self.steps:,} steps in all, about {hours} with {self.processes} "
            f"process{'es' * (self.processes != 1)} on {self.device}, about {self.bytes / 1e6:,.0f} MB on disk"
        )


def budget(wanted: Iterable[Run], processes: int) -> Budget:
    """The budget of these runs, from a few steps of each shape of stack on this machine; no data set is needed for CIFAR.

    Args:
        wanted: the runs; one that appears twice counts once.
        processes: that share the work.
    """
    distinct = list({json.dumps(to_json(run), sort_keys=True): run for run in wanted}.values())
    torch.set_num_threads(1)
    rates: dict[str, float] = {}
    seconds = 0.0
    for stack in store.stacks(distinct):
        shape = json.dumps([len(stack), {name: value for name, value in to_json(stack[0]).items() if name not in SHAPELESS}])
        if stack[0].steps and shape not in rates:
            rates[shape] = seconds_per_step(stack)
        seconds += rates.get(shape, 0.0) * stack[0].effort
    return Budget(
        runs=len(distinct),
        steps=sum(run.steps for run in distinct),
        hours=seconds / processes / 3600,
        processes=processes,
        bytes=sum(4.0 * run.steps * (len(loop.COLUMNS) + 2) for run in distinct),
        device=store.environment()["device_name"],
    )


def seconds_per_step(stack: Sequence[Run]) -> float:
    """Time of one step of the stack, taken here and now."""

    def seconds(steps: int) -> float:
        started = time.perf_counter()
        type(stack[0]).rehearse(stack, loop.device(), steps)
        return time.perf_counter() - started

    first = seconds(1)
    if first > SLOW:
        return first
    start = seconds(1)
    return max(seconds(1 + STEPS) - start, 0.0) / STEPS
