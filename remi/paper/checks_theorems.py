"""The theorems (derivations 1 to 4), each under the assumptions that the paper states; what lies outside them is a remark."""

from collections.abc import Callable

import numpy as np

from remi.losses import LABELS
from remi.paper.experiments import DERIVATION3
from remi.paper.measures import offsets
from remi.paper.verdicts import Claim, Finding, Seeds
from remi.runs import Record
from remi.theory import closed_forms, comparison, drift, theorems

FREE = ("mine", "smile")  # losses that do not see a constant added to the critic


def theorem(k: int, instead: str) -> Callable[[Seeds], Finding]:
    """The numbers of a theorem: certain, whatever the seeds."""
    return lambda seeds: Finding(*comparison.verdict(theorems.CHECKS[k](), instead))


def cause(seeds: Seeds) -> Finding:
    macro, micro = (abs(change) for change in drift.moved_by_drift(-5)["mine"])
    text = f"a drift from 0 to -5 moves MINE's macro-average by {macro:.2f} and its micro-average by {micro:.2f}"
    return Finding(text, min(macro, micro) >= 0.1)


def upper_hand(seeds: Seeds) -> Finding:
    def cost(record: Record) -> float:
        return closed_forms.drift_cost(offsets(record, DERIVATION3.pooled))

    costs = {curve: seeds.each(curve, cost).mean(1) for curve in seeds.records if curve in FREE or curve.startswith("re")}
    original = np.min([costs.pop(curve) for curve in FREE], axis=0)
    twin = np.max(list(costs.values()), axis=0)
    worst = max(costs, key=lambda curve: costs[curve][0])
    text = (
        f"pooling the scores of trained critics costs MINE and SMILE at least {original[0]:.3f} nat, a twin at most {twin[0]:.3f}"
    )
    return Finding(f"{text} ({LABELS[worst]})", twin < original)


SINGLE_LABEL = "where no sample violates “the single-label assumption” (Section 5.1)"

CLAIMS = (
    Claim(
        "thm-1",
        "derivation1",
        "Theorem 1",
        "ReDV and ReNWJ are dual representations of the KL divergence",
        "best objectives of an ascent over all critics within 1e-4 of the divergence, for three penalties and targets",
        theorem(1, "any penalty, no compact domain; critics closed under adding constants"),
        "A constant that is added to the critic satisfies the penalty and costs the first two terms nothing.",
        "The penalty costs something at the best critic.",
    ),
    Claim(
        "thm-2",
        "derivation2",
        "Theorem 2",
        "ReMINE and ReNWJ are strongly consistent",
        "within four standard errors of the truth after a million samples",
        theorem(2, "for a maximum over the whole sample; the critic is normalised, at a rate"),
        "With more samples the averages in the formula go to their means, and the best value to the truth.",
        "After a million samples the best value is still elsewhere.",
    ),
    Claim(
        "thm-3",
        "derivation2",
        "Theorem 3",
        "Sample complexity of ReMINE, eq. 17",
        "share of failures at the printed sample size at most delta = 0.1",
        theorem(3, "critics bounded on both sides and good enough; n of the order of exp(2 M)"),
        "At the printed sample size the estimate is as accurate as promised.",
        "The second term averages exponentials, whose range grows like exp(M), and the printed size is made for a range of M.",
    ),
    Claim(
        "thm-4",
        "derivation2",
        "Theorem 4",
        "Sample complexity of ReNWJ, eq. 19",
        "share of failures at the printed sample size at most delta = 0.1; (log x)^2 <= |x - 1| for all |T| < 2",
        theorem(4, "|T| at most M; n of the order of exp(2 M), and of lam^2"),
        "At the printed sample size the estimate is as accurate as promised.",
        "The assumption |T| >= 1 excludes the best critic, so no number of samples reaches the truth.",
    ),
    Claim(
        "thm-5",
        "derivation3",
        "Theorem 5",
        "The variance of the second term grows with its constant, which “may lead to worse MI estimation quality”",
        "not smaller at C = 1 than at C = 0",
        theorem(5, "as printed; but MINE takes the logarithm, whose variance does not depend on C"),
        "A constant C multiplies the mean of exponentials by exp(C); it does nothing to its logarithm, which is what MINE "
        "takes, so for MINE nothing gets worse.",
        "The variance does not grow with the constant.",
    ),
    Claim(
        "thm-6",
        "derivation3",
        "Theorem 6",
        "“Both macro- and micro-averaging strategies produce a biased MI estimate when the drifting problem occurs”, for MINE",
        "both averages of 20,000 batches of 32 under a drift of 5 nats are away from the truth by at least 0.1",
        theorem(6, "only pooled Donsker-Varadhan is moved by drift, by log mean exp C_t - mean C_t"),
        "The macro-average is too high, as every mean of small batches is, and the micro-average is too low; “biased estimators "
        "like” InfoNCE and CLUB are off under both, with drift and without.",
        "One of the two averages is right under drift.",
    ),
    Claim(
        "thm-6-cause",
        "derivation3",
        "Theorem 6",
        "Both biases of MINE's averages are “caused by drifting”",
        "a drift of 5 nats moves each of them by at least 0.1",
        cause,
        "Without the drift both averages would be elsewhere.",
        "A drift cancels in every batch's estimate and so in their mean; only the pooled estimate is moved by it.",
    ),
    Claim(
        "thm-7",
        "derivation4",
        "Theorem 7",
        f"I(X; Y) = H(Y) in the supervised benchmark, {SINGLE_LABEL}",
        "exact for even and for uneven classes",
        theorem(7, "if and only if the image determines its label"),
        "Where every image has one label, the image says all about the label; the text puts it the other way round (“Y "
        "implicitly determines X”), and with a tenth of the labels wrong 1.76 nats of 2.30 are left.",
        "The information differs from the entropy of the labels although every image has one label.",
    ),
    Claim(
        "thm-8",
        "derivation4",
        "Theorem 8",
        f"I(X1; X2) = H(Y) in the contrastive benchmark, {SINGLE_LABEL}",
        "exact for uneven classes, the second image drawn anew from the class of the first",
        theorem(8, "if and only if, besides, the images are independent given the label"),
        "Two images that share nothing but their label tell each other just that label; two views of one image share more, and "
        "there the value is larger.",
        "The information differs from the entropy of the labels although the images share nothing else.",
    ),
    Claim(
        "average-1",
        "derivation3",
        "Section 4",
        "When scores of several batches are pooled, “self-normalizing or regularized MI estimators have the upper hand”",
        "the trained offsets of every twin cost a pooled estimate less than those of MINE and of SMILE",
        upper_hand,
        "A twin's constant is held in place, so that scores of different batches can be pooled; for critics as small as these "
        "MINE and SMILE lose little, too.",
        "The constant of some twin wanders as far as MINE's.",
    ),
)
