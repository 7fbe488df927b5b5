"""Table 2 on photographs: CIFAR-10 in CLB with the twelve losses and in SLB with those that the claims compare, and CIFAR-100.

`python benchmarks/photographs.py` trains what is missing of three seeds with the small network at 32 pixels, the twins at weight
0.001, two and a half hours on 2 cores; these are runs of `python -m remi sweep table2 --profile desk`, which goes on from
them. Of CIFAR-100 it has, in CLB, what settles soonest (figures/lengths_cifar-100_clb.csv) and what fails at once. With
`--profile paper` it is CLB with the losses of the rescue, one seed of ResNet-18 at 224 pixels, minutes on a GPU. It writes
photographs.{csv,md,png,pdf,json} and the verdicts that these runs can give.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, replace

import pandas as pd

from remi.paper import experiments, figures, slopes, table2, typeset
from remi.paper.checks_images import CLAIMS
from remi.paper.plans import Benchmark, BenchmarkPlan
from remi.paper.verdicts import Seeds, judge
from remi.runs import load_or_run

COMPARED = ("mine", "remine", "infonce", "retuba", "js", "rejs")
SOONEST = ("resmile", "infonce", "reinfonce", "nwj", "tuba")  # to settle with 100 classes, or to fail
RESCUE = ("mine", "remine", "smile", "resmile", "infonce", "nwj", "renwj", "tuba", "retuba")
JUDGED = ("table2-collapse-10", "table2-accuracy-10", "table2-slb-10", "table2-closed-10")

RESNET18 = Benchmark("cifar-10", 10, 10, {"clb": 12_000}, (), "resnet18", train_size=1000, side=224)


def plans(profile: str) -> dict[str, BenchmarkPlan]:
    """Some of what `experiments.table2("desk")` trains; at "paper" the paper's network and image size on as few images."""

    def part(task: str, benchmark: Benchmark, seeds: int, losses: Sequence[str]) -> BenchmarkPlan:
        chosen = tuple(curve for curve in experiments.TABLE2.curves if curve.key in losses)
        return BenchmarkPlan(profile, seeds, (replace(benchmark, lams=(0.001,)),), (task,), chosen)

    if profile == "paper":
        return {"main": part("clb", RESNET18, 1, RESCUE)}
    ten, hundred = experiments.SMALL_CIFAR
    return {
        "slb": part("slb", ten, 3, COMPARED),
        "main": part("clb", ten, 3, [curve.key for curve in experiments.TABLE2.curves]),
        "hundred": part("clb", hundred, 3, SOONEST),
    }


def main() -> None:
    """Train, tabulate, draw and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="desk", choices=["desk", "paper"])
    profile = parser.parse_args().profile
    chosen = plans(profile)
    records = load_or_run({key: runs for plan in chosen.values() for key, runs in plan.runs().items()})
    table = table2.rows(records)
    cells = table2.summary(table)
    whole = chosen["main"]
    seen = {benchmark.dataset: benchmark.train_size for plan in chosen.values() for benchmark in plan.benchmarks}
    images = " and ".join(f"{size:,} images of {table2.readable(dataset)}" for dataset, size in seen.items())
    caption = (
        f"Table 2 on {images}, network {whole.benchmarks[0].network}, weight 0.001. Mean and Student-t 95% interval over seeds. "
        + figures.stamp(whole, records)
    )
    print(figures.save("photographs", slopes.slopes(cells), table, caption, chosen, records))
    figures.write(figures.folder(profile) / "photographs.md", typeset.table2_markdown(cells, profile))
    seeds = Seeds(records)
    verdicts = pd.DataFrame([asdict(judge(claim, seeds, profile)) for claim in CLAIMS if claim.id in JUDGED])
    figures.write(figures.folder(profile) / "claims.csv", verdicts.to_csv(index=False, lineterminator="\n"))
    print(verdicts[["id", "measured", "verdict"]].to_string(index=False))


if __name__ == "__main__":
    main()
