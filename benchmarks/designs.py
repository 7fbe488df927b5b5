"""Designs of a step that were tried and dropped, beside the one that stayed, and where the time goes.

    python benchmarks/designs.py

Written: `figures/bench_designs.csv`; printed besides: the share of the costliest operators.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import alternatives
import pandas as pd
import speed
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from remi.paper import experiments
from remi.runs.specs import CriticRun, CriticStack
from remi.training.critics import ConcatCritic, Linear
from remi.training.problems import OneHot

LINEAR = Linear.forward
STEPS = 200  # that are profiled


def last_layer_as_a_product(layer: Linear, x: Tensor) -> Tensor:
    """A product with one row, transposed, in place of a sum of products."""
    if layer.weight.shape[-1] > 1:
        return LINEAR(layer, x)
    product = (layer.weight.transpose(-1, -2) @ x.transpose(-1, -2)).transpose(-1, -2)
    return product if layer.bias is None else product + layer.bias


def bias_inside_the_product(layer: Linear, x: Tensor) -> Tensor:
    """The product starts from the bias."""
    inside = layer.bias is not None and layer.weight.shape[-1] > 1
    return torch.baddbmm(layer.bias, x, layer.weight) if inside else LINEAR(layer, x)


def comparison(problem: OneHot, symbols: Tensor) -> Tensor:
    """One-hot vectors by comparison with all symbols."""
    return (symbols.unsqueeze(-1) == torch.arange(problem.symbols)).float()


def eight_blocks(critic: ConcatCritic, x: Tensor, y: Tensor) -> Tensor:
    """All pairs in eight parts that fit the cache."""
    left, right = critic._halves(x, y)
    parts = []
    for rows in left.chunk(8, -2):
        hidden = (rows.unsqueeze(-2) + right.unsqueeze(-3)).relu_()
        parts.append(critic.rest(hidden.flatten(-3, -2)).squeeze(-1).unflatten(-1, hidden.shape[-3:-1]))
    return torch.cat(parts, -2)


Change = tuple[type, str, Callable[..., Any]]
LAST: Change = (Linear, "forward", last_layer_as_a_product)
BIAS: Change = (Linear, "forward", bias_inside_the_product)


def changed(start: Callable[[], alternatives.Training], *changes: Change) -> Callable[[], alternatives.Training]:
    """The same training, with these methods in place of the package's."""

    def begin() -> alternatives.Training:
        train = start()

        def other(steps: int) -> None:
            with ExitStack() as stack:
                for owner, name, method in changes:
                    stack.enter_context(patch.object(owner, name, method))
                train(steps)

        return other

    return begin


def compiled_in_parts(run: CriticRun) -> Callable[[], alternatives.Training]:
    """PyTorch's compiler on a step with Adam: it stops at the fused update, and goes on behind it."""

    def begin() -> alternatives.Training:
        torch._dynamo.config.trace_autograd_ops = True
        stack = CriticStack([replace(run, steps=speed.STEPS)], torch.device("cpu"))
        step, batches = torch.compile(stack.loop().step), iter(stack.batches(stack.run.steps))

        def train(steps: int) -> None:
            for _ in range(steps):
                step(*next(batches))

        return train

    return begin


def works() -> tuple[speed.Work, ...]:
    """The two trainings whose targets are missed."""
    small, large = experiments.FIGURE3.runs()["mine"][0], experiments.FIGURE7.runs()["nwj"][0]
    twenty, one = speed.stack_of(small, 20), speed.stack_of(large, 1)
    return (
        speed.Work(
            "one-hot, batch 32, 20 runs",
            (
                speed.Contender("as it is", twenty, 20),
                speed.Contender("last layer as a product", changed(twenty, LAST), 20),
                speed.Contender("bias inside the product", changed(twenty, BIAS), 20),
                speed.Contender("comparison, not one_hot", changed(twenty, (OneHot, "encode", comparison)), 20),
            ),
            (),
        ),
        speed.Work(
            "Fig. 7, 64 x 64 pairs",
            (
                speed.Contender("as it is", one),
                speed.Contender("last layer as a product", changed(one, LAST)),
                speed.Contender("bias inside the product", changed(one, BIAS)),
                speed.Contender("eight blocks of rows", changed(one, (ConcatCritic, "matrix", eight_blocks))),
                speed.Contender("compiled in parts", compiled_in_parts(large)),
            ),
            (),
        ),
    )


def shares(start: Callable[[], alternatives.Training]) -> pd.Series:
    """Share of the time of the ten costliest operators, and under "calls" how many operators a step calls."""
    train = start()
    train(20)
    with profile(activities=[ProfilerActivity.CPU]) as found:
        train(STEPS)
    events = found.key_averages()
    spent = pd.Series({event.key[:40]: event.self_cpu_time_total for event in events}, dtype=float)
    calls = sum(event.count for event in events if event.key.startswith("aten::")) / STEPS
    return pd.concat([(spent / spent.sum()).nlargest(10).round(3), pd.Series({"calls": round(calls)})])


def main() -> None:
    """Measure, print and write."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    tables = [speed.measure(work) for work in works()]
    for table in tables:
        print(table.iloc[:, :7].to_string(index=False))
    speed.save("bench_designs", pd.concat(tables))
    run = experiments.FIGURE3.runs()["mine"][0]
    for name, contender in (("eager", run), ("compiled", replace(run, compiled=True))):
        print(f"one-hot, 20 runs, {name}", shares(speed.stack_of(contender, 20)).to_string(), sep="\n")


if __name__ == "__main__":
    speed.as_a_worker()
    main()
