"""Table 2 on 1,000 photographs of CIFAR-10: both benchmarks, the twelve losses, the twins at weight 0.001.

`python benchmarks/photographs.py` trains what is missing of three seeds with the small network at 32 pixels, an hour and a half
on 2 cores; these are runs of `python -m remi sweep table2 --profile desk`, which goes on from them. With `--profile paper` it is
CLB with the losses of the rescue, one seed of ResNet-18 at 224 pixels, minutes on a GPU. It writes photographs.{csv,md,png,pdf,
json} and the verdicts that these runs can give.
"""

import argparse
from dataclasses import asdict, replace

import pandas as pd

from remi.paper import experiments, figures, slopes, table2, typeset
from remi.paper.checks_images import CLAIMS
from remi.paper.plans import Benchmark, BenchmarkPlan
from remi.paper.verdicts import Seeds, judge
from remi.runs import load_or_run

RESCUE = ("mine", "remine", "smile", "resmile", "infonce", "nwj", "renwj", "tuba", "retuba")
JUDGED = ("table2-collapse-10", "table2-accuracy-10", "table2-slb-10", "table2-closed-10")

RESNET18 = Benchmark("cifar-10", 10, 10, {"clb": 12_000}, (), "resnet18", train_size=1000, side=224, lams=(0.001,))


def plan(profile: str) -> BenchmarkPlan:
    """Some of what `experiments.table2("desk")` trains; at "paper" the paper's network and image size on as few images."""
    curves = experiments.TABLE2.curves
    if profile == "paper":
        return BenchmarkPlan(profile, 1, (RESNET18,), ("clb",), tuple(curve for curve in curves if curve.key in RESCUE))
    return BenchmarkPlan(profile, 3, (replace(experiments.SMALL_CIFAR[0], lams=(0.001,)),), curves=curves)


def main() -> None:
    """Train, tabulate, draw and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="desk", choices=["desk", "paper"])
    chosen = plan(parser.parse_args().profile)
    records = load_or_run(chosen.runs())
    table = table2.rows(records)
    cells = table2.summary(table)
    caption = (
        f"Table 2 on 1,000 images of CIFAR-10, network {chosen.benchmarks[0].network}, weight 0.001. Mean and Student-t 95% "
        "interval over seeds. " + figures.stamp(chosen, records)
    )
    print(figures.save("photographs", slopes.slopes(cells), table, caption, {"main": chosen}, records))
    figures.write(figures.folder(chosen.profile) / "photographs.md", typeset.table2_markdown(cells, chosen.profile))
    seeds = Seeds(records)
    verdicts = pd.DataFrame([asdict(judge(claim, seeds, chosen.profile)) for claim in CLAIMS if claim.id in JUDGED])
    figures.write(figures.folder(chosen.profile) / "claims.csv", verdicts.to_csv(index=False, lineterminator="\n"))
    print(verdicts[["id", "measured", "verdict"]].to_string(index=False))


if __name__ == "__main__":
    main()
