"""What a sweep will take, said before it starts: runs, steps, hours and disk."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch

from remi.runs import store
from remi.runs.specs import TRACED, EncoderRun, Run, from_json, to_json
from remi.training import loop

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


def budget(wanted: Iterable[Run], processes: int, place: Mapping[str, str] | None = None) -> Budget:
    """The budget of these runs, from a few steps of each shape of stack on this machine; no data set is needed for CIFAR.

    Args:
        wanted: the runs; one that appears twice counts once.
        processes: that share the work.
        place: see `seconds_per_step`.
    """
    distinct = list({json.dumps(to_json(run), sort_keys=True): run for run in wanted}.values())
    stacks = store.stacks(distinct)
    shapes = {_shape(stack): stack for stack in reversed(stacks) if stack[0].steps}
    rates = dict(zip(shapes, seconds_per_step(list(shapes.values()), place), strict=True))
    return Budget(
        runs=len(distinct),
        steps=sum(run.steps for run in distinct),
        hours=sum(rates.get(_shape(stack), 0.0) * stack[0].effort for stack in stacks) / processes / 3600,
        processes=processes,
        bytes=sum(4.0 * run.steps * (len(TRACED) if isinstance(run, EncoderRun) else len(loop.COLUMNS) + 2) for run in distinct),
        device=store.environment()["device_name"],
    )


def _shape(stack: Sequence[Run]) -> str:
    """What the time of a step depends on."""
    return json.dumps([len(stack), {name: value for name, value in to_json(stack[0]).items() if name not in SHAPELESS}])


def seconds_per_step(stacks: Sequence[Sequence[Run]], place: Mapping[str, str] | None = None) -> list[float]:
    """Time of one step of each stack, taken here and now by a process such as those that train.

    Args:
        stacks: what is timed.
        place: what the process's environment says beside ours and a worker's.

    Raises:
        RuntimeError: the process died; the message is the end of what it wrote to its standard error.
    """
    if not stacks:
        return []
    done = subprocess.run(
        [sys.executable, "-m", "remi.runs.budget"],
        input=json.dumps([[to_json(run) for run in stack] for stack in stacks]),
        env={**os.environ, **store.WORKER_ENVIRONMENT, **(place or {})},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return list(json.loads(done.stdout))


def time_step(stack: Sequence[Run]) -> float:
    """Seconds of one step of the stack in this process."""

    def seconds(steps: int) -> float:
        started = time.perf_counter()
        type(stack[0]).rehearse(stack, loop.device(), steps)
        return time.perf_counter() - started

    seconds(1)  # imports, images, caches
    start = seconds(1)
    if start > SLOW:
        return start
    return max(seconds(1 + STEPS) - start, 0.0) / STEPS


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # as a worker does
    print(json.dumps([time_step([from_json(run) for run in stack]) for stack in json.load(sys.stdin)]))
