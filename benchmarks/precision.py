"""What bfloat16 costs in Fig. 7 at full length: ReMINE in both precisions on the same batches, and another seed as a yardstick.

    python benchmarks/precision.py

Three runs of 20,000 steps, which stay in the run store. Written: `figures/bench_precision.csv`.
"""

from dataclasses import replace

from remi import experiments, runs
from remi.figures import PRODUCTS, write
from remi.measures import levels


def main() -> None:
    """Train what is missing, print and write."""
    plan = experiments.figure7("desk")["main"]
    run = plan.runs()["remine"][0]
    wanted = {"fp32": run, "bf16": replace(run, precision="bf16"), "other_seed": replace(run, seed=1)}
    records = runs.load_or_run({name: [one] for name, one in wanted.items()})
    bias = levels(plan, records).pivot(index="level", columns="curve", values="bias")[list(wanted)]
    table = bias.assign(bf16_moves=bias.bf16 - bias.fp32, seed_moves=bias.other_seed - bias.fp32).reset_index()
    print(table.round(4).to_string(index=False))
    write(PRODUCTS / "bench_precision.csv", table.to_csv(index=False, float_format="%.5f", lineterminator="\n"))


if __name__ == "__main__":
    main()
