"""What bfloat16 costs in Fig. 7: ReMINE in both precisions on the same batches, another seed, and one critic read in both.

    python benchmarks/precision.py [--profile desk]

Three runs, of 2,500 steps at `quick` and 20,000 at `desk`, which stay in the run store, and a fourth here. Written:
`figures/bench_precision.csv`, with the bias of the estimate over the second half of every level, and in the column `rounding`
what reading the finished fp32 critic in bfloat16 changes.
"""

import argparse
from dataclasses import replace

import torch

from remi.losses.estimators import mine
from remi.losses.scores import Scores
from remi.paper import experiments
from remi.paper.figures import PRODUCTS, write
from remi.paper.measures import levels
from remi.runs import store
from remi.runs.specs import CriticRun, CriticStack
from remi.training.loop import fit, in_precision

BATCHES = 50  # that a finished critic reads at every level


def rounding(run: CriticRun) -> list[float]:
    """Estimate in bf16 minus estimate in fp32 of the critic that the run leaves behind, on fresh batches of every level."""
    where, problem = torch.device("cpu"), run.problem
    stack = CriticStack([run], where)
    fit(stack.loop(), stack.batches(stack.run.steps))

    @torch.no_grad()
    def read(precision: str, level: int) -> float:
        first = level * problem.steps_per_level
        x, y = problem.draw(torch.Generator().manual_seed(level), first, BATCHES, run.batch)
        matrix = in_precision(stack.critic.matrix, where, precision)
        return float(mine(Scores.from_matrix(matrix(x.unsqueeze(1), y.unsqueeze(1)))).estimate.mean())

    return [read("bf16", level) - read("fp32", level) for level in range(len(problem.levels))]


def main(arguments: list[str] | None = None) -> None:
    """Train what is missing, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="quick", choices=experiments.PROFILES)
    profile = parser.parse_args(arguments).profile
    plan = experiments.figure7(profile)["main"]
    run = plan.runs()["remine"][0]
    wanted = {"fp32": run, "bf16": replace(run, precision="bf16"), "other_seed": replace(run, seed=1)}
    records = store.load_or_run({name: [one] for name, one in wanted.items()})
    bias = levels(records).pivot(index="level", columns="curve", values="bias")[list(wanted)]
    moves = {"bf16_moves": bias.bf16 - bias.fp32, "seed_moves": bias.other_seed - bias.fp32, "rounding": rounding(run)}
    table = bias.assign(profile=profile, **moves).reset_index()
    print(table.round(4).to_string(index=False))
    write(PRODUCTS / "bench_precision.csv", table.to_csv(index=False, float_format="%.5f", lineterminator="\n"))


if __name__ == "__main__":
    main()
