"""Theorems 7 and 8 (derivation4): what an image tells about its label and its classmate; where Table 2 ends (derivation6)."""

import math

import torch
from torch import Tensor

from remi.losses import Scores, estimators
from remi.theory import closed_forms
from remi.theory.comparison import Comparison, every_pair

FAR = -60.0  # stands for minus infinity: exp(-60) is lost beside 1 in double precision


def reads(scores: Scores) -> float:
    """Mutual information in nats: Donsker-Varadhan at the exact log-density ratio, on a whole population."""
    return float(estimators.mine(scores).estimate)


def population(T: Tensor, x: Tensor, y: Tensor) -> Scores:
    """The critic T[x, y] on pairs (x_i, y_i), equally likely, against every x with every y."""
    return Scores(T[x, y], T[x[:, None], y])


def on_labels(same: Tensor | float, classes: int, other: float = FAR) -> Tensor:
    """A critic of two labels, (C, C): `same` where they agree, `other` elsewhere."""
    agreeing = torch.as_tensor(same, dtype=torch.float64).expand(classes)
    return torch.full((classes, classes), other, dtype=torch.float64).diagonal_scatter(agreeing)


def noisy_labels(classes: int = 10, right: int = 81) -> tuple[Tensor, Tensor, Tensor]:
    """True class and label of every image, `right` of a class right and one of each wrong kind; and log dP/dQ (C, C)."""
    counts = torch.ones(classes, classes, dtype=torch.long).fill_diagonal_(right)
    cells = torch.arange(classes**2).repeat_interleave(counts.flatten())
    return cells // classes, cells % classes, (counts.double() * classes / counts[0].sum()).log()


def theorem7() -> list[Comparison]:
    """I(X; Y) of finite data sets, every pair counted."""
    exact = 1e-9  # identities in double precision
    x, y, log_ratio = noisy_labels()
    noisy = Scores.from_logits(log_ratio[x], y)
    sides = torch.arange(8)  # eight labels, and four images that show only half of what the label says
    halves = torch.where(torch.arange(4)[:, None] == sides // 2, math.log(4), FAR).double()
    backwards = reads(population(halves, sides // 2, sides))
    found = [
        Comparison("8 labels determine 4 images: H(X)", math.log(4), backwards, exact),
    ]
    for name, bound, offset in (("MINE", estimators.mine, 0), ("InfoNCE", estimators.infonce, 0), ("NWJ", estimators.nwj, 1)):
        value = float(bound(noisy.map(lambda t, a=offset: t + a)).estimate)  # type: ignore[misc]
        found.append(Comparison(f"a tenth of 10 labels wrong, {name}", closed_forms.noisy_label_mi(10, 0.1), value, exact))

    even, counts = torch.arange(10).repeat(7), torch.tensor([5, 3, 2])
    uneven = torch.arange(3).repeat_interleave(counts)
    best = on_labels(-(counts.double() / 10).log(), 3)
    clean = reads(Scores.from_logits(on_labels(math.log(10), 10)[even], even))
    in_full = reads(population(best, uneven, uneven))
    in_slb = reads(Scores.from_logits(on_labels(0, 3)[uneven], uneven))
    return [
        *found,
        Comparison("I(X; Y), 10 even classes", closed_forms.true_mi(10), clean, exact, printed=True),
        Comparison("I(X; Y), 5, 3 and 2 images of 3 classes", closed_forms.entropy(counts), in_full, exact, printed=True),
        Comparison("the same in SLB: log 3, its second term takes labels as even", closed_forms.true_mi(3), in_slb, exact),
    ]


def theorem8() -> list[Comparison]:
    """I(X1; X2) of finite data sets, every pair counted."""
    exact = 1e-9  # identities in double precision
    images = torch.arange(20)  # of 4 classes; the joint pairs are two views of one image
    augmented = reads(population(on_labels(math.log(20), 20), images, images))
    views = torch.eye(20, dtype=torch.float64) * math.sqrt(-FAR)
    simclr = float(estimators.infonce(Scores.from_views(views, views)).estimate)
    classes, labels, _ = noisy_labels()
    pairs = classes[(labels[:, None] == labels).nonzero()]  # true classes of two images with the same label
    agree = (pairs[:, 0] == pairs[:, 1]).double().mean()
    log_ratio = on_labels((10 * agree).log(), 10, other=math.log(10 / 9 * (1 - agree)))
    noisy = reads(Scores(log_ratio[pairs[:, 0], pairs[:, 1]], log_ratio))
    found = [
        Comparison("two views of each of 20 images in 4 classes: log 20, not log 4", math.log(20), augmented, exact),
        Comparison("and InfoNCE on their features, saturated", math.log(20), simclr, exact),
        Comparison("a tenth of 10 labels wrong: twice the noise", closed_forms.noisy_pair_mi(10, 0.1), noisy, exact),
        Comparison("and below I(X; Y)", closed_forms.noisy_label_mi(10, 0.1), noisy, 0, "<="),
    ]
    counts = torch.tensor([5, 3, 2])
    labels = torch.arange(3).repeat_interleave(counts)
    x, y = (labels[:, None] == labels).nonzero().T
    weights = 30 // counts[labels[x]]  # X1 is uniform, and so is X2 in its class
    x, y = x.repeat_interleave(weights), y.repeat_interleave(weights)
    best = on_labels(-(counts.double() / 10).log(), 3)
    value = reads(population(best, labels[x], labels[y]))
    what = "I(X1; X2), 5, 3 and 2 images of 3 classes"
    found.append(Comparison(what, closed_forms.entropy(counts), value, exact, printed=True))
    labels = torch.arange(4).repeat_interleave(5)
    others = (labels[:, None] == labels) & ~torch.eye(20, dtype=torch.bool)
    x, y = others.nonzero().T
    distinct = reads(population(torch.where(others, math.log(20 / 4), FAR).double(), x, y))
    in_clb = reads(Scores.from_embeddings(torch.nn.functional.one_hot(labels).double() * math.sqrt(-FAR), labels))
    return [
        *found,
        Comparison("another image of the class, 5 a class", math.log(4) + closed_forms.distinct_pair_excess(5), distinct, exact),
        Comparison("the same in CLB, all 20 images in a batch", closed_forms.distinct_pair_ceiling(4, 5), in_clb, exact),
    ]


def table2_forms() -> list[Comparison]:
    """Where Table 2 has to end up: best critics, critics that are not better, and batches of a saturated critic."""
    exact, generator, found = 1e-9, torch.Generator().manual_seed(0), []
    even = torch.arange(10)
    js = Scores.from_logits(on_labels(math.log(10), 10), even)
    value = float(estimators.js(js, evaluate="nwj").estimate)
    found.append(Comparison("SLB, JS at its best critic", closed_forms.slb_js(10), value, exact))

    size = torch.logspace(-3, 0, 4000, dtype=torch.float64).view(-1, 1, 1)  # how far from the best critic the others are
    floor = size * torch.rand(4000, 10, 10, dtype=torch.float64, generator=generator)
    for name, bound, top, cap in (
        ("NWJ", estimators.nwj, 1 + math.log(10), closed_forms.clb_nwj(10)),
        ("TUBA", estimators.tuba, math.log(10), closed_forms.clb_tuba(10)),
    ):
        best = on_labels(top, 10, other=0.0)
        noise = size * torch.randn(4000, 10, 10, dtype=torch.float64, generator=generator).clamp(-1, 1)
        others = torch.where(best > 0, best + noise, floor)
        value = float(bound(every_pair(best)).estimate)
        most = float(bound(every_pair(others)).estimate.max())
        found.append(Comparison(f"CLB, {name} at its best critic with T >= 0", cap, value, exact))
        found.append(Comparison(f"CLB, {name}, best of 4,000 other critics with T >= 0", cap, most, exact, "<="))
    best = on_labels(math.log(10), 10, other=0.0)
    value = float(estimators.js(every_pair(best), evaluate="nwj").estimate)
    found.append(Comparison("CLB, JS at its best critic with T >= 0", closed_forms.clb_js(10), value, exact))

    levels = torch.linspace(0, 12, 12001, dtype=torch.float64)
    ladder = torch.where(torch.eye(10, dtype=torch.bool), levels.view(-1, 1, 1), 0.0)
    reading = estimators.get("remine", lam=0.1)(every_pair(ladder))
    value = float(reading.estimate[reading.objective.argmax()])  # a grid of 0.001 nat
    found.append(Comparison("CLB, ReMINE's best critic with T >= 0, weight 0.1", closed_forms.clb_remine(10, 0.1), value, 1e-3))

    for classes, batches in ((10, 20000), (100, 200)):
        labels = torch.randint(classes, (batches, classes), generator=generator)
        scores = Scores.from_embeddings(torch.nn.functional.one_hot(labels, classes).float() * math.sqrt(-FAR), labels)
        for name, label, form in (("infonce", "InfoNCE", closed_forms.clb_infonce), ("mine", "MINE", closed_forms.clb_dv)):
            values = estimators.get(name)(scores).estimate.double()
            values = values[values.isfinite()]  # a batch without a joint pair says nan
            error = 4 * float(values.std()) / math.sqrt(len(values))  # 4 standard errors
            what = f"CLB, saturated {label}, batches of {classes} from {classes} classes"
            found.append(Comparison(what, form(classes, classes), float(values.mean()), error))
    return found
