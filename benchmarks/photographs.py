"""The contrastive benchmark on photographs, as far as a laptop gets in an hour: CIFAR-10 at `desk`.

`python benchmarks/photographs.py` trains what is missing of MINE, SMILE, InfoNCE, NWJ, TUBA and their twins at the weight 0.001,
three seeds each on 1,000 images, and writes figures/desk/photographs.{csv,md,png,pdf,json} and the verdicts that they can give.
They are runs of `python -m remi sweep table2 --profile desk`, which goes on from them.
"""

from dataclasses import asdict, replace

import pandas as pd

from remi.paper import experiments, figures, slopes, table2, typeset
from remi.paper.checks_images import CLAIMS
from remi.paper.verdicts import Seeds, judge
from remi.runs import load_or_run

LOSSES = ("mine", "remine", "smile", "resmile", "infonce", "nwj", "renwj", "tuba", "retuba")
JUDGED = ("table2-collapse-10", "table2-accuracy-10")


def plan() -> experiments.BenchmarkPlan:
    """Some of what `experiments.table2("desk")` trains."""
    benchmark = replace(experiments.SMALL_CIFAR[0], lams=(0.001,))
    curves = tuple(curve for curve in experiments.TABLE2.curves if curve.key in LOSSES)
    return replace(
        experiments.TABLE2, profile="desk", seeds=3, benchmarks=(benchmark,), tasks=("clb",), curves=curves, ablation=()
    )


def main() -> None:
    """Train, tabulate, draw and judge."""
    chosen = plan()
    records = load_or_run(chosen.runs())
    table = table2.rows(records)
    cells = table2.summary(table)
    caption = (
        "The contrastive benchmark on CIFAR-10, 1,000 training images, small convolutional network, weight 0.001. Mean and "
        "Student-t 95% interval over seeds. " + figures.stamp(chosen, records)
    )
    print(figures.save("photographs", slopes.slopes(cells), table, caption, {"main": chosen}, records))
    figures.write(figures.folder("desk") / "photographs.md", typeset.table2_markdown(cells, "desk"))
    seeds = Seeds(records)
    verdicts = pd.DataFrame([asdict(judge(claim, seeds, "desk")) for claim in CLAIMS if claim.id in JUDGED])
    figures.write(figures.folder("desk") / "claims.csv", verdicts.to_csv(index=False, lineterminator="\n"))
    print(verdicts[["id", "measured", "verdict"]].to_string(index=False))


if __name__ == "__main__":
    main()
