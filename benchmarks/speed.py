"""How fast the trainings are, beside the alternatives: `make bench`, which writes figures/bench*.

A contender trains for a number of steps; what is compared is the time of one step of one run. All contenders of a work take
turns, `REPEATS` times in one process of one thread, and the medians are compared: the machine's noise hits them alike.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

import alternatives
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator
from torch import Tensor

from remi.losses import LABELS, Loss
from remi.paper import experiments
from remi.paper.figures import PRODUCTS, write
from remi.runs import store
from remi.runs.specs import CriticRun, CriticStack, EncoderRun, EncoderStack
from remi.style import JOINT, PALETTE, TRUTH, render
from remi.training import images
from remi.training.loop import device, program

REPEATS = 5
SECONDS = 0.5  # of one repetition, about
STEPS = 40_000  # that a loop has room for


@dataclass(frozen=True)
class Contender:
    """Who trains, and how many runs at once; `start` is called once, before any time is taken."""

    name: str
    start: Callable[[], alternatives.Training]
    runs: int = 1


@dataclass(frozen=True)
class Target:
    """`fast` must be at least so many times as fast as `slow`."""

    fast: str
    slow: str
    at_least: float

    def judge(self, medians: Mapping[Any, float]) -> dict[str, object]:
        """How many times as fast it is, and whether that is enough."""
        ratio = medians[self.slow] / medians[self.fast]
        return {"ratio": ratio, "verdict": "met" if ratio >= self.at_least else "missed"}


@dataclass(frozen=True)
class Limit:
    """`slow` may take at most so many seconds more than `fast`."""

    fast: str
    slow: str
    at_most: float

    def judge(self, medians: Mapping[Any, float]) -> dict[str, object]:
        """The difference of the medians in seconds, and whether that is little enough."""
        difference = (medians[self.slow] - medians[self.fast]) / 1e6
        return {"difference": difference, "verdict": "met" if difference <= self.at_most else "missed"}


@dataclass(frozen=True)
class Work:
    """One training and who does it."""

    name: str
    contenders: tuple[Contender, ...]
    targets: tuple[Target | Limit, ...]
    least: int = 20  # steps of one repetition


# ---- Ours -----------------------------------------------------------------------------------------------------------------


def stack_of(run: CriticRun | EncoderRun, size: int, *, record: bool = True) -> Callable[[], alternatives.Training]:
    """The package's own loop on a stack of so many seeds."""

    def start() -> alternatives.Training:
        stack, where = [replace(run, seed=seed, steps=STEPS) for seed in range(size)], device()
        trained: CriticStack | EncoderStack
        if isinstance(run, CriticRun):
            trained = CriticStack(stack, where)
        else:
            cifar = run.dataset in images.CIFAR
            trained = EncoderStack(stack, images.noise(run.dataset, 5000) if cifar else images.DATASETS[run.dataset](), where)
        batches = iter(trained.batches(STEPS))
        recorded = record and isinstance(run, EncoderRun) and not run.alone and where.type == "cpu"
        step = program(trained.loop(), compile_step=run.compiled, capture=where.type == "cuda", record=recorded)

        def train(steps: int) -> None:
            for _ in range(steps):
                step(*next(batches))

        return train

    return start


def three_products(run: CriticRun) -> Callable[[], alternatives.Training]:
    """What a step of Fig. 7 cannot do without: its largest product, and the two that give its gradients."""

    def start() -> alternatives.Training:
        rows, (inputs, outputs) = run.batch**2, run.hidden
        x, weight, gradient = torch.randn(rows, inputs), torch.randn(inputs, outputs), torch.randn(rows, outputs)

        def train(steps: int) -> Tensor:
            for _ in range(steps):
                products = x @ weight, gradient @ weight.T, x.T @ gradient
            return products[2]

        return train

    return start


def process(statement: str) -> Callable[[], alternatives.Training]:
    """A step is a fresh process that does this."""

    def start() -> alternatives.Training:
        def train(steps: int) -> None:
            for _ in range(steps):
                subprocess.run([sys.executable, "-c", statement], check=True)

        return train

    return start


# ---- Works ----------------------------------------------------------------------------------------------------------------


def one_hot() -> Work:
    """Section 3 at batch 32."""
    run = experiments.FIGURE3.runs()["mine"][0]
    return Work(
        "one-hot, batch 32",
        (
            Contender("released manner", alternatives.one_hot_released),
            Contender("plain loop", alternatives.one_hot_plain),
            Contender("remi, one run", stack_of(run, 1)),
            Contender("remi, 20 runs", stack_of(run, 20), 20),
            Contender("remi, 20 runs, compiled", stack_of(replace(run, compiled=True), 20), 20),
            Contender("remi, 64 runs, compiled", stack_of(replace(run, compiled=True), 64), 64),
        ),
        (
            Target("remi, 20 runs", "plain loop", 8),
            Target("remi, 20 runs", "released manner", 80),
            Target("remi, 20 runs, compiled", "plain loop", 40),
        ),
    )


def staircase() -> Work:
    """Fig. 7 at full width."""
    run = experiments.FIGURE7.runs()["nwj"][0]
    contenders = [
        Contender("three products alone", three_products(run)),
        Contender("remi", stack_of(run, 1)),
        Contender("remi, bf16", stack_of(replace(run, precision="bf16"), 1)),
    ]
    targets = [Target("remi", "three products alone", 0.7), Target("remi, bf16", "remi", 1.4)]
    try:
        alternatives.gaussian_torch_mist()
    except ImportError as error:
        print(f"torch-mist is not here ({error}); pip install torch-mist", file=sys.stderr)
    else:
        contenders.insert(1, Contender("torch-mist", alternatives.gaussian_torch_mist))
        targets.append(Target("remi", "torch-mist", 1))
    return Work("Fig. 7, 64 x 64 pairs", tuple(contenders), tuple(targets))


def encoder_products(run: EncoderRun, size: int) -> Callable[[], alternatives.Training]:
    """What a step of a perceptron cannot do without: a product per layer the two of its gradients, and those of the scores."""

    def start() -> alternatives.Training:
        inputs = images.DATASETS[run.dataset]().train_images.shape[-1]
        sizes = [inputs, *run.hidden] + [images.DATASETS[run.dataset]().classes] * (run.task == "slb")
        x = [torch.randn(size, run.batch, width) for width in sizes]
        weights = [torch.randn(size, a, b) for a, b in pairwise(sizes)]
        scores = torch.randn(size, run.batch, run.batch)

        def train(steps: int) -> None:
            for _ in range(steps):
                for layer, weight in enumerate(weights):
                    torch.bmm(x[layer], weight)
                    torch.bmm(x[layer].transpose(1, 2), x[layer + 1])
                    if layer:
                        torch.bmm(x[layer + 1], weight.transpose(1, 2))
                if run.task == "clb":
                    torch.bmm(x[-1], x[-1].transpose(1, 2))
                    torch.bmm(scores, x[-1])

        return train

    return start


def encoders(dataset: str, task: str, faster: float) -> Work:
    """A benchmark on images that are small."""
    benchmark = next(benchmark for benchmark in experiments.DIGITS if benchmark.dataset == dataset)
    run = replace(experiments.TABLE2, benchmarks=(benchmark,)).runs()[f"{task}/{dataset}/mine/None"][0]
    return Work(
        f"{dataset}, {task.upper()}, batch {run.batch}",
        (
            Contender("products alone", encoder_products(run, 15), 15),
            Contender("step as it was", alternatives.step_before(stack_of(run, 15, record=False)), 15),
            Contender("remi, not recorded", stack_of(run, 15, record=False), 15),
            Contender("remi", stack_of(run, 15), 15),
        ),
        (Target("remi", "step as it was", faster), Target("remi", "products alone", 0.4)),
    )


def small_photographs(faster: float) -> Work:
    """CLB with the small convolutional network at 32 pixels."""
    run = EncoderRun("mine", 10, 1, "adam", 1e-3, (16, 32, 64, 512), dataset="cifar-10", network="conv")
    few = run.together("cpu")
    return Work(
        "convolutions, CLB, batch 10",
        (
            Contender("step as it was", alternatives.step_before(stack_of(run, 15, record=False)), 15),
            Contender("remi, not recorded", stack_of(run, few, record=False), few),
            Contender("remi", stack_of(run, few), few),
        ),
        (Target("remi", "step as it was", faster),),
    )


def embeddings() -> Work:
    """The losses as modules, on two views of 4,096 items."""
    contenders, targets = [], []
    for name, by_hand in (("remine", alternatives.remine_by_hand), ("infonce", alternatives.clip_by_hand)):
        ours, theirs = f"remi, {LABELS[name]}", f"by hand, {LABELS[name]}"
        contenders += [
            Contender(theirs, lambda by_hand=by_hand: alternatives.views_by_hand(by_hand)),  # type: ignore[misc]
            Contender(ours, lambda name=name: loss_of_views(name)),  # type: ignore[misc]
        ]
        targets.append(Target(ours, theirs, 0.95))
    return Work("loss of 4,096 embeddings", tuple(contenders), tuple(targets))


def loss_of_views(name: str, n: int = 4096, d: int = 128) -> alternatives.Training:
    """What `remi.losses.Loss` makes of two views, and its gradient."""
    loss, views = (
        Loss(name, **({"lam": 0.1} if name.startswith("re") else {})),
        [torch.randn(n, d, requires_grad=True) for _ in "12"],
    )

    def train(steps: int) -> None:
        for _ in range(steps):
            loss(*views).backward()

    return train


def photographs(batch: int, at_least: float) -> Work:
    """CLB with ResNet-18 at 224 pixels, on a GPU."""
    benchmark = replace(experiments.TABLE2.benchmarks[0], batch=batch)
    run = replace(experiments.TABLE2, benchmarks=(benchmark,)).runs()["clb/cifar-10/mine/None"][0]
    data = images.noise("cifar-10", 5000)
    pictures, labels = data.train_images.permute(0, 2, 3, 1).numpy(), data.train_labels.numpy()

    def plain() -> alternatives.Training:
        return alternatives.photographs_plain(pictures, labels, device=str(device()), batch=batch)

    return Work(
        f"ResNet-18 at 224 px, batch {batch}",
        (
            Contender("plain script", plain),
            Contender("remi", stack_of(run, 1)),
            Contender("remi, bf16", stack_of(replace(run, precision="bf16"), 1)),
        ),
        (Target("remi", "plain script", at_least),),
    )


def grid(at_least: float) -> Work:
    """CLB with the small convolutional network, one run and as many as the grid at `desk` has; on a GPU."""
    run = EncoderRun("mine", 10, 1, "adam", 1e-3, (16, 32, 64, 512), dataset="cifar-10", network="conv")
    return Work(
        "a grid of small networks",
        (Contender("remi, one run", stack_of(run, 1)), Contender("remi, 72 runs", stack_of(run, 72), 72)),
        (Target("remi, 72 runs", "remi, one run", at_least),),
    )


def imports() -> Work:
    """What `import remi` takes beyond `import torch`."""
    return Work(
        "import, a process each",
        (Contender("torch", process("import torch")), Contender("remi, torch", process("import torch, remi"))),
        (Limit("torch", "remi, torch", 0.3),),
        least=3,
    )


def works() -> Iterator[Work]:
    """All that this machine can do."""
    if torch.cuda.is_available():
        yield photographs(100, 3)
        yield photographs(10, 5)
        yield grid(8)
    else:
        yield imports()
        yield one_hot()
        yield staircase()
        for task in ("clb", "slb"):
            yield encoders("digits", task, 4)
            yield encoders("digit-pairs", task, 3)
        yield small_photographs(3)
        yield embeddings()


# ---- Measuring ------------------------------------------------------------------------------------------------------------


def seconds(train: alternatives.Training, steps: int) -> float:
    """Of so many steps."""
    started = time.perf_counter()
    train(steps)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def measure(work: Work, repeats: int = REPEATS, length: float = SECONDS) -> pd.DataFrame:
    """A row per contender: microseconds of one step of one run."""
    trainings = [contender.start() for contender in work.contenders]
    steps = []
    for train in trainings:
        seconds(train, work.least)  # compiles, captures, fills caches
        steps.append(max(work.least, int(length * work.least / seconds(train, work.least))))
    rounds = [[seconds(train, count) for train, count in zip(trainings, steps, strict=True)] for _ in range(repeats)]
    rows = []
    for contender, count, times in zip(work.contenders, steps, zip(*rounds, strict=True), strict=True):
        each = [1e6 * one / count / contender.runs for one in times]
        rows.append(
            {
                **{"work": work.name, "contender": contender.name, "runs": contender.runs, "steps": count},
                **{"median_us": statistics.median(each), "lowest_us": min(each), "highest_us": max(each)},
                **{"repeats": repeats, **machine()},
            }
        )
    return pd.DataFrame(rows)


def machine() -> dict[str, Any]:
    """What the measured times depend on."""
    return {"threads": torch.get_num_threads(), **store.environment(), "processor": processor()}


def where(table: pd.DataFrame) -> str:
    """The machine of a table, for its picture."""
    one = table.iloc[0]
    return f"{one.processor if one.device == 'cpu' else one.device_name}, threads: {one.threads}"


def processor() -> str:
    """The CPU in words."""
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def ratios(work: Work, table: pd.DataFrame) -> pd.DataFrame:
    """A row per target."""
    medians = table.set_index("contender").median_us.to_dict()
    return pd.DataFrame([{"work": work.name, **asdict(target), **target.judge(medians)} for target in work.targets])


def scaling(length: float = SECONDS) -> pd.DataFrame:
    """Milliseconds of a step, or of a training, against one size at a time; the others are Fig. 3's or Fig. 7's."""
    small, large = experiments.FIGURE3.runs()["mine"][0], experiments.FIGURE7.runs()["mine"][0]
    symbols = {n: replace(small, problem=replace(small.problem, symbols=n)) for n in (16, 32, 64, 128, 256)}
    families: dict[str, dict[int, tuple[CriticRun, int]]] = {
        "runs in the stack": {n: (small, n) for n in (1, 2, 5, 10, 20, 40, 80, 160)},
        "batch, one-hot": {n: (replace(small, batch=n), 20) for n in (16, 32, 64, 128, 256, 512, 1024)},
        "symbols N": {n: (run, 20) for n, run in symbols.items()},
        "batch, all pairs": {n: (replace(large, batch=n), 1) for n in (8, 16, 32, 64, 128)},
    }
    rows = []
    for name, members in families.items():
        for size, (run, stack) in members.items():
            train = stack_of(run, stack)()
            seconds(train, 5)
            count = max(3, int(length * 5 / seconds(train, 5)))
            rows.append({"against": name, "size": size, "ms": 1e3 * min(seconds(train, count) for _ in range(3)) / count})
    train = stack_of(small, 20)()
    seconds(train, 100)
    for steps in (125, 250, 500, 1000, 2000, 4000):
        rows.append({"against": "steps", "size": steps, "ms": 1e3 * min(seconds(train, steps) for _ in range(3))})
    return pd.DataFrame(rows).assign(**machine())


# ---- Products -------------------------------------------------------------------------------------------------------------


def draw(table: pd.DataFrame) -> Figure:
    """A panel per work, a bar per contender."""
    names = list(table.work.unique())
    heights = [len(table[table.work == name]) for name in names]
    figure = Figure(figsize=(6.0, 0.55 * len(names) + 0.25 * sum(heights)), layout="constrained")
    for axes, name in zip(figure.subplots(len(names), height_ratios=heights, squeeze=False)[:, 0], names, strict=True):
        rows = table[table.work == name][::-1]
        colors = [PALETTE["mine"] if contender.startswith("remi") else JOINT for contender in rows.contender]
        axes.barh(rows.contender, rows.median_us, color=colors, height=0.7)
        axes.hlines(rows.contender, rows.lowest_us, rows.highest_us, color=TRUTH, lw=1)
        for place, value in enumerate(rows.median_us):
            axes.annotate(f"{value:,.0f}", (rows.highest_us.iloc[place], place), (4, 0), textcoords="offset points", va="center")
        axes.set(title=name, xlim=(0, 1.15 * rows.highest_us.max()))
        axes.tick_params(axis="y", length=0)
    axes.set_xlabel(f"microseconds per step of one run; {where(table)}")
    return figure


def draw_scaling(table: pd.DataFrame) -> Figure:
    """A panel per size, with the exponent of the upper half of its points."""
    names = list(table.against.unique())
    figure = Figure(figsize=(7.0, 4.2), layout="constrained")
    for axes, name in zip(figure.subplots(2, 3).flat, [*names, None], strict=True):
        if name is None:
            axes.axis("off")
            continue
        rows = table[table.against == name]
        upper = rows[len(rows) // 2 :]
        exponent, level = np.polyfit(np.log(upper["size"]), np.log(upper.ms), 1)
        axes.loglog(rows["size"], rows.ms, "o-", ms=4, color=PALETTE["mine"])
        axes.loglog(upper["size"], np.exp(level) * upper["size"] ** exponent, ":", color=TRUTH)
        axes.set(title=name, ylabel="ms per training" if name == "steps" else "ms per step", xticks=rows["size"])
        axes.xaxis.set(major_formatter="{x:g}", minor_locator=NullLocator())
        axes.yaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), major_formatter="{x:g}", minor_locator=NullLocator())
        axes.text(0.05, 0.9, f"exponent {exponent:.2f}", transform=axes.transAxes, va="top")
    figure.supxlabel(f"Time against one size, dotted: a power law through the upper half; {where(table)}", fontsize=8)
    return figure


def save(stem: str, table: pd.DataFrame, figure: Figure | None = None) -> None:
    """Write the table, and the figure as PNG."""
    write(PRODUCTS / f"{stem}.csv", table.to_csv(index=False, float_format="%.4g", lineterminator="\n"))
    if figure is not None:
        write(PRODUCTS / f"{stem}.png", render(figure)[".png"])


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="print the works whose name starts like this, and write nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    tables, compared = [], []
    for work in works():
        if work.name.startswith(options.only or ""):
            tables.append(measure(work))
            compared.append(ratios(work, tables[-1]))
            print(tables[-1].iloc[:, :7].to_string(index=False), compared[-1].to_string(index=False), sep="\n", flush=True)
    if options.only:
        return
    suffix = "_cuda" if torch.cuda.is_available() else ""
    table = pd.concat(tables)
    save(f"bench{suffix}", table, draw(table))
    save(f"bench{suffix}_ratios", pd.concat(compared))
    if not suffix:
        grown = scaling()
        save("bench_scaling", grown, draw_scaling(grown))


def as_a_worker() -> None:
    """Start again with a worker's environment, which the C library reads when a process starts."""
    if not store.WORKER_ENVIRONMENT.items() <= os.environ.items():
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **store.WORKER_ENVIRONMENT})


if __name__ == "__main__":
    as_a_worker()
    main()
