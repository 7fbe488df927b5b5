"""Sections 5.1 and 5.2: the image benchmarks (Table 2 and Fig. 6), for each data set apart.

A claim reads the seeds of a cell as Table 2 counts them, and of a regularized cell those of the weight whose mean estimate is
nearest the truth, chosen anew in every draw. What was still learning when its training ended is not judged.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from remi.losses import BOUNDS, LABELS
from remi.paper import table2
from remi.paper.verdicts import Array, Claim, Finding, Seeds, above, every
from remi.runs import Record
from remi.theory import closed_form
from remi.training import student_t

HEAVY = ("smile", "nwj", "tuba")  # what the paper reports as failing in CLB
NOTHING = 0.1  # nats: less is no information
CLASSES = (10, 100)


class Cell(NamedTuple):
    """Seeds of one setting for every draw, (draws, seeds); `settled`: all of its runs had the time that their loss takes."""

    mi: Array  # nats
    accuracy: Array
    settled: bool


def counted(record: Record) -> tuple[float, float, float]:
    """Estimate and accuracy of a run as Table 2 counts them, negative and diverged ones as 0, and whether it has settled."""
    row = table2.run_row(record)
    return max(0.0, row["mi_train"]), row["accuracy"], row["settled"]


class Block:
    """One task on the data set with so many classes."""

    def __init__(self, seeds: Seeds, task: str, classes: int) -> None:
        self.seeds, self.task, self.classes = seeds, task, classes
        keys = [key.split("/") for key in seeds.records]
        places = [dataset for where, dataset, *_ in keys if where == task and table2.BENCHMARKS[dataset].classes == classes]
        self.dataset = places[0] if places else ""  # "": these records have none
        self.truth = table2.true_mi(self.dataset) if places else np.nan

    def __bool__(self) -> bool:
        return bool(self.dataset)

    def weights(self, curve: str) -> list[Cell]:
        """A cell for each weight of a twin, from the largest on; one for another loss."""
        keys = [key for key in self.seeds.records if key.startswith(f"{self.task}/{self.dataset}/{curve}/")]
        found = [np.moveaxis(self.seeds.each(key, counted), 2, 0) for key in keys]
        return [Cell(mi, accuracy, bool(settled[0].all())) for mi, accuracy, settled in found]

    def cell(self, curve: str) -> Cell:
        """The cell of Table 2."""
        cells = self.weights(curve)
        mi, accuracy = (np.stack([getattr(cell, name) for cell in cells], 1) for name in ("mi", "accuracy"))
        best = abs(mi.mean(2) - self.truth).round(6).argmin(1)  # the larger weight of a tie
        draws = np.arange(len(best))
        return Cell(mi[draws, best], accuracy[draws, best], cells[best[0]].settled)


# ---- Table 2 ----------------------------------------------------------------------------------------------------------------


class Pair(NamedTuple):
    """What a twin gains over its original in one row of Table 2, for every draw; negative where it loses."""

    mi: Array  # nats of error
    accuracy: Array
    share: Array  # of the truth, the gain in `mi`
    settled: bool


def pairs(seeds: Seeds) -> list[Pair]:
    """Every row of Table 2."""
    rows = []
    for block in (Block(seeds, task, classes) for task in table2.TASKS for classes in CLASSES):
        for name in BOUNDS if block else ():
            cells = [block.cell(curve) for curve in (name, "re" + name)]
            errors = [abs(cell.mi.mean(1) - block.truth) for cell in cells]
            gain = errors[0] - errors[1]
            accuracy = cells[1].accuracy.mean(1) - cells[0].accuracy.mean(1)
            rows.append(Pair(gain, accuracy, gain / block.truth, all(cell.settled for cell in cells)))
    return rows


def over_rows(check: Callable[[Sequence[Pair]], Finding]) -> Callable[[Seeds], Finding]:
    """A check of the rows that can be compared, when they are at least half of the table."""

    def checked(seeds: Seeds) -> Finding:
        rows = pairs(seeds)
        settled = [row for row in rows if row.settled]
        count = f"{len(settled)} of {len(rows)} rows have settled"
        if 2 * len(settled) < len(rows):
            return Finding(count, None, settled=False)
        found = check(settled)
        return found._replace(measured=f"{found.measured}; {count}")

    return checked


def better(rows: Sequence[Pair]) -> Finding:
    texts, holds = [], []
    for label, column in (("MI", "mi"), ("accuracy", "accuracy")):
        gains = np.array([getattr(row, column) for row in rows])
        more, less = (gains > 0.0005).sum(0), (gains < -0.0005).sum(0)  # in printed digits
        texts.append(f"{label} better in {more[0]}, worse in {less[0]}")
        holds.append(more > less)
    return Finding(", ".join(texts), np.all(holds, axis=0))


def minimal(rows: Sequence[Pair]) -> Finding:
    mi, accuracy = (-np.min([getattr(row, column) for row in rows], axis=0) for column in ("share", "accuracy"))
    text = f"largest loss {max(mi[0], 0):.1%} of the true MI and {max(accuracy[0], 0):.3f} in accuracy"
    return Finding(text, (mi < 0.05) & (accuracy < 0.02))


def per_classes(task: str, check: Callable[[Block], Finding | None], classes: int) -> Callable[[Seeds], Finding | None]:
    """A check of one task on the data set with so many classes, where there is one."""

    def checked(seeds: Seeds) -> Finding | None:
        block = Block(seeds, task, classes)
        found = check(block) if block else None
        return found and found._replace(measured=f"{table2.readable(block.dataset)}: {found.measured}")

    return checked


def collapse(block: Block) -> Finding:
    texts, holds, settled = [], [], True
    for name in HEAVY:
        before, after = block.cell(name), block.cell("re" + name)
        means = before.mi.mean(1), after.mi.mean(1)
        texts.append(f"{LABELS[name]} {means[0][0]:.2f} -> {means[1][0]:.2f}")
        holds.append((means[0] < NOTHING) & (means[1] > NOTHING))
        settled &= before.settled and after.settled
    return Finding("MI " + ", ".join(texts), np.all(holds, axis=0), settled)


def rescued(block: Block) -> Finding:
    base, twins = block.cell("untrained"), {name: block.cell("re" + name) for name in HEAVY}
    gains = {name: cell.accuracy - base.accuracy for name, cell in twins.items()}
    text = f"accuracy {base.accuracy[0].mean():.3f} untrained, " + ", ".join(
        f"{LABELS['re' + name]} {interval(gain)}" for name, gain in gains.items()
    )
    return Finding(text, every(above(gain) for gain in gains.values()), all(cell.settled for cell in twins.values()))


def interval(differences: Array) -> str:
    """Mean and 95% interval of a difference."""
    return "{:+.3f} ± {:.3f}".format(*student_t(differences[0]))


def supervised(block: Block) -> Finding:
    published = pd.read_csv(table2.PUBLISHED).set_index(["task", "dataset", "loss", "variant"]).accuracy_mean.sort_index()
    printed = published.loc["SLB", table2.PAPER[block.classes]]
    rival = block.cell("infonce")
    texts, answers, settled = [], [], rival.settled
    for name, variant in (("mine", "original"), ("mine", "regularized"), ("tuba", "regularized")):
        curve = name if variant == "original" else "re" + name
        cell = block.cell(curve)
        gain = cell.accuracy - rival.accuracy
        advantage = float(printed[LABELS[name], variant] - printed["InfoNCE", "original"])
        excluded = above(gain, advantage) is False  # the paper's advantage lies above the interval
        answers.append(above(gain) or (False if excluded else None))
        texts.append(f"{LABELS[curve]} {interval(gain)} (published {advantage:+.3f})")
        settled &= cell.settled
    return Finding("accuracy minus InfoNCE's: " + ", ".join(texts), every(answers), settled)


def clip(block: Block) -> Finding:
    texts, holds, settled = [], [], True
    for name in ("nwj", "tuba"):
        curves = {"neither": name, "clip": f"{name}-clip", "regularizer": f"re{name}-noclip", "both": f"re{name}"}
        cells = {word: block.cell(curve) for word, curve in curves.items()}
        means = {word: cell.mi.mean(1) for word, cell in cells.items()}
        texts.append(f"{LABELS[name]}: " + ", ".join(f"{word} {mean[0]:.2f}" for word, mean in means.items()))
        holds.append((means["clip"] < NOTHING) & (means["regularizer"] > NOTHING))
        settled &= all(cell.settled for cell in cells.values())
    return Finding("MI of " + "; ".join(texts), np.all(holds, axis=0), settled)


def closed(classes: int) -> Callable[[Seeds], Finding | None]:
    def check(seeds: Seeds) -> Finding | None:
        slb, clb = (Block(seeds, task, classes) for task in ("slb", "clb"))
        if not (slb and clb):
            return None
        texts, holds, settled = [], [], True
        for block, curve, words in ((slb, "js", ""), (clb, "renwj", "at most "), (clb, "retuba", "at most ")):
            cell, batch = block.cell(curve), table2.BENCHMARKS[block.dataset].batch
            form = closed_form(block.task, curve, classes, batch)
            assert form is not None
            error = cell.mi.mean(1) - form
            texts.append(f"{block.task.upper()} {LABELS[curve]} {error[0] + form:.3f} (predicted {words}{form:.3f})")
            holds.append((error if words else abs(error)) < 0.05)
            settled &= cell.settled
        return Finding(f"{table2.readable(slb.dataset)}: {', '.join(texts)}", np.all(holds, axis=0), settled)

    return check


# ---- Fig. 6 -----------------------------------------------------------------------------------------------------------------


def slopes(block: Block, name: str) -> tuple[Array, Array] | None:
    """By how much MI quality and accuracy rise per tenfold weight, (draws, seeds) each; None while a run still learns.

    The least-squares slopes of each seed over the three weights, which are its differences between the ends; the quality of an
    estimate is minus its distance to the truth.
    """
    cells = block.weights("re" + name)
    if not all(cell.settled for cell in cells):
        return None
    large, small = cells[0], cells[-1]
    nearer = abs(small.mi - block.truth) - abs(large.mi - block.truth)
    return nearer / (len(cells) - 1), (large.accuracy - small.accuracy) / (len(cells) - 1)


def tried(block: Block) -> int:
    """How many weights a twin has."""
    return len(block.weights("remine"))


def trade_off(against: bool) -> Callable[[Block], Finding | None]:
    """Whether, for at least 4 of the 6 losses, the weight moves MI quality and accuracy against each other, or together."""

    def check(block: Block) -> Finding | None:
        if tried(block) < 2:
            return None
        found = {name: pair for name in BOUNDS if (pair := slopes(block, name)) is not None}
        signs = [(above(quality), above(accuracy)) for quality, accuracy in found.values()]
        known = [pair for pair in signs if None not in pair]
        opposite = sum(quality != accuracy for quality, accuracy in known)
        yes, no = (opposite, len(known) - opposite) if against else (len(known) - opposite, opposite)
        holds = True if yes >= 4 else False if no > len(BOUNDS) - 4 else None
        text = f"{opposite} against each other, {len(known) - opposite} together, of {len(found)} settled"
        text += "".join(f"; Re{LABELS[name]} MI {interval(q)}, accuracy {interval(a)}" for name, (q, a) in found.items())
        return Finding(f"{text} (per tenfold weight)", holds, len(found) >= 4)

    return check


def steady(block: Block) -> Finding | None:
    if tried(block) < 2:
        return None
    cells = {name: block.weights("re" + name) for name in BOUNDS}
    ready = [name for name in BOUNDS if all(cell.settled for cell in cells[name])]
    others = [name for name in ready if name != "infonce"]
    spread = {name: np.ptp([cell.accuracy.mean(1) for cell in cells[name]], axis=0) for name in BOUNDS}
    error = {name: np.min([abs(cell.mi.mean(1) - block.truth) for cell in cells[name]], axis=0) for name in BOUNDS}
    if "infonce" not in ready or len(others) < 3:
        return Finding(f"{len(ready)} of {len(BOUNDS)} losses have settled", None, settled=False)
    rivals = [np.median([values[name] for name in others], axis=0) for values in (spread, error)]
    text = (
        f"accuracy varies by {spread['infonce'][0]:.3f} (median of {len(others)} others {rivals[0][0]:.3f}), MI error "
        f"{error['infonce'][0]:.2f} ({rivals[1][0]:.2f})"
    )
    return Finding(text, (spread["infonce"] <= rivals[0]) & (error["infonce"] >= rivals[1]))


CLAIMS = (
    Claim(
        "table2-better",
        "table2",
        "Section 5.2",
        "Regularization “generally induces better performance on both the MI estimation task and the downstream task”",
        "more settled rows better than worse, in MI error and in accuracy; half of the rows have settled",
        over_rows(better),
        "More rows gain than lose; a twin has three weights to choose from with the truth in hand, its original one try.",
        "No more rows gain than lose, although a twin has three weights to choose from with the truth in hand.",
    ),
    Claim(
        "table2-minimal",
        "table2",
        "Section 5.2",
        "“Even when the performance of the regularized loss slightly degrades, its negative impact is minimal”",
        "in no settled row is the MI error larger by 5% of the truth, or the accuracy lower by 0.02; half of the rows have "
        "settled",
        over_rows(minimal),
        "Where a twin is worse than its original, it is so by a little.",
        "In some row the twin is a good deal worse than its original.",
    ),
    *(
        claim
        for classes in CLASSES
        for claim in (
            Claim(
                f"table2-collapse-{classes}",
                "table2",
                "Section 5.2",
                "SMILE, NWJ and TUBA “fail to converge in CLB, where simply adding a regularization term solves the issue”, "
                f"{classes} classes",
                "MI below 0.1 nat without, above with",
                per_classes("clb", collapse, classes),
                "The originals overflow, or sit where the clip leaves no gradient, and the twins learn; Table 1 clips the twins "
                "of NWJ and TUBA as well (table2-clip).",
                "An original learns as well, or a twin does not learn either.",
            ),
            Claim(
                f"table2-accuracy-{classes}",
                "table2",
                "Section 5.2",
                f"These twins yield “a competitive or even better performance”: they beat an untrained encoder, {classes} "
                "classes",
                "95% interval of the difference in accuracy above 0 for all three",
                per_classes("clb", rescued, classes),
                "What the rescued twins learn helps to recognise the class of an image.",
                "A rescued twin recognises classes less well than an encoder that was never trained.",
            ),
            Claim(
                f"table2-slb-{classes}",
                "table2",
                "Section 5.2",
                f"“It is intriguing that” MINE, ReMINE and ReTUBA “are better than InfoNCE in SLB”, {classes} classes",
                "95% interval of the difference in accuracy above 0 for all three; it fails where one excludes the published "
                "gain",
                per_classes("slb", supervised, classes),
                "All three classify better than InfoNCE, which is the usual cross entropy.",
                "On these images one of them shows no gain over InfoNCE, and the gain that the paper reports can be excluded.",
            ),
            Claim(
                f"table2-closed-{classes}",
                "table2",
                "ours",
                f"The MI column is consistent with closed forms, {classes} classes",
                "SLB JS within 0.05 of log C - 1/e; CLB NWJ and TUBA at most 0.05 above their caps",
                closed(classes),
                "A perfectly trained network with these scores would read just these values, so they say which part of the "
                "truth a loss can reach.",
                "A value differs from what a perfectly trained network would read.",
            ),
        )
    ),
    Claim(
        "table2-clip",
        "table2",
        "ours",
        "Of the two things that Table 1 lists for ReNWJ and ReTUBA, the regularizer and the clip, the regularizer rescues them "
        "in CLB",
        "MI below 0.1 nat with the clip only, above with the regularizer only, on 10 classes",
        per_classes("clb", clip, 10),
        "The regularizer alone makes them learn, the clip alone does not.",
        "The regularizer alone does not make them learn, or the clip alone does; see the four numbers.",
    ),
    Claim(
        "lambda-1",
        "fig6",
        "Fig. 6",
        "On CIFAR-10, or what stands in for it, “lambda acts as a trade-off parameter between test accuracy and MI estimation "
        "quality”",
        "the slopes of both over the weights have opposite signs, their 95% intervals without 0, for at least 4 of 6 losses",
        per_classes("clb", trade_off(against=True), 10),
        "For most losses a larger weight buys one of the two with the other.",
        "For too many losses a larger weight makes both better, or both worse.",
    ),
    Claim(
        "lambda-2",
        "fig6",
        "Fig. 6",
        "On CIFAR-100, or what stands in for it, “test accuracy and MI estimation quality align well”",
        "the slopes of both over the weights have the same sign, their 95% intervals without 0, for at least 4 of 6 losses",
        per_classes("clb", trade_off(against=False), 100),
        "For most losses a larger weight makes both better, or both worse.",
        "For too many losses a larger weight buys one of the two with the other.",
    ),
    *(
        Claim(
            f"lambda-3-{classes}",
            "fig6",
            "Fig. 6",
            f"ReInfoNCE “shows stable performance in the downstream task, sacrificing the MI estimation quality”, {classes} "
            "classes",
            "over the weights its accuracy varies no more, and at its best its MI error is no less, than the median of the "
            "others",
            per_classes("clb", steady, classes),
            "Its accuracy depends little on the weight; its value is capped by the logarithm of the batch size.",
            "Its accuracy depends on the weight more than that of the others, or its estimate is better than theirs.",
        )
        for classes in CLASSES
    ),
)
