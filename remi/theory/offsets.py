"""Who holds the constant, and how hard (beyond_offsets): one identity for the losses of the paper and the later ones.

    objective(T)  =  DV(T) - E[h(L)]        L = log E_Q[exp T], of all pairs or of a row;  h >= 0, h(0) = 0

An offset c of the best critic costs h(c). Losses of another divergence have no such h for every T, but they too charge the best
critic for its offset. On the one-hot problem of 16 symbols both can be written down, and computed with the losses themselves.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from scipy.stats import binom
from torch import Tensor

from remi.losses import Scores, flo, get
from remi.theory import closed_forms
from remi.theory.comparison import Comparison, every_pair

SYMBOLS = 16
LN = math.log(SYMBOLS)
CEILING = (4, 4)  # symbols and samples of the counterexample: D = 2 bits


@dataclass(frozen=True)
class Holder:
    """A loss, what holds its offset, and what an offset c of its best critic costs there."""

    loss: str
    who: str
    cost: Callable[[float], float]  # in nats
    options: dict[str, object] = field(default_factory=dict)
    best: float = LN  # its best critic on the diagonal; minus infinity off it
    every_t: bool = False  # the cost is h of the identity, for every critic


def anchor_cost(c: float, b: float) -> float:
    """What the anchor of weight b = nu / K charges: between 0 (b = 0) and `closed_forms.offset_cost` (b infinite)."""
    return (1 + b) * math.log((b + math.exp(c)) / (1 + b)) - c


def _nothing(c: float) -> float:
    return 0.0


def _gan(c: float) -> float:
    """Of a classifier with as many pairs of either kind."""
    return sum(weight * (_softplus(sign * (LN + c)) - _softplus(sign * LN)) for sign, weight in ((-1, 1.0), (1, 1 / SYMBOLS)))


def _softplus(t: float) -> float:
    return math.log1p(math.exp(t))


HOLDERS = {
    "MINE": Holder("mine", "nobody", _nothing, every_t=True),
    "InfoNCE": Holder("infonce", "cancelled, row by row", _nothing, every_t=True),
    "ReMINE, lam 1": Holder("remine", "a penalty", lambda c: c**2, {"lam": 1.0}, every_t=True),
    "NWJ": Holder("nwj", "the missing logarithm", closed_forms.offset_cost, best=LN + 1, every_t=True),
    "TUBA, KL-DIME": Holder("tuba", "the missing logarithm", closed_forms.offset_cost, every_t=True),
    "ReNWJ, lam 1": Holder(
        "renwj", "both", lambda c: closed_forms.offset_cost(c) + c**2, {"lam": 1.0}, best=LN + 1, every_t=True
    ),
    "InfoNCE-anchor": Holder("infonce_anchor", "an anchor class", lambda c: anchor_cost(c, 1 / SYMBOLS), every_t=True),
    "InfoNCE-anchor, nu 16": Holder(
        "infonce_anchor", "an anchor class", lambda c: anchor_cost(c, 1.0), {"nu": 16.0}, every_t=True
    ),
    "sigmoid": Holder("sigmoid", "the bias of a classifier", lambda c: 2 * math.log(math.cosh(c / 2)), best=0.0),
    "JS, GAN-DIME": Holder("fdime", "another divergence", _gan, {"divergence": "gan"}),
    "HD-DIME": Holder("fdime", "another divergence", lambda c: (math.cosh(c / 2) - 1) / 2, {"divergence": "hd"}),
}


def best_critic(holder: Holder, c: float) -> Scores:
    """All 16 joint and 256 marginal pairs of the one-hot problem under the loss's best critic, moved by c."""
    T = torch.full((SYMBOLS, SYMBOLS), -torch.inf, dtype=torch.float64).fill_diagonal_(holder.best)
    return every_pair(T + c)


def cost(holder: Holder, c: float) -> float:
    """What an offset costs, by the loss itself, in nats."""
    estimator = get(holder.loss, **holder.options)
    return float(estimator(best_critic(holder, 0.0)).objective - estimator(best_critic(holder, c)).objective)


def hold(holder: Holder, step: float = 1e-3) -> float:
    """How hard the best offset is held: the second derivative of the cost there, per nat squared."""
    return (holder.cost(step) + holder.cost(-step)) / step**2


def held() -> list[Comparison]:
    """The cost of an offset as written down, beside what the losses say; and the identity for critics that are not the best."""
    found = []
    for name, holder in HOLDERS.items():
        for c in (-2.0, 1.0):
            found.append(Comparison(f"{name}: an offset of {c:g} costs", holder.cost(c), cost(holder, c), 1e-9))  # exact
    T = 2 * torch.randn(SYMBOLS, SYMBOLS, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    scores, rows = every_pair(T), T.logsumexp(-1) - math.log(SYMBOLS)
    for name, holder in HOLDERS.items():
        if holder.every_t:
            by_row = holder.loss.startswith("infonce")
            L = rows if by_row else scores.log_mean_exp()
            L = L - (holder.best - LN)  # NWJ's critic is one nat higher
            charged = sum(map(holder.cost, L.reshape(-1).tolist())) / L.numel()
            dv = get("infonce" if by_row else "mine")(scores).estimate
            measured = float(dv - get(holder.loss, **holder.options)(scores).objective)
            found.append(Comparison(f"{name}: below Donsker-Varadhan at some critic by", charged, measured, 1e-9))
    u = -torch.full((SYMBOLS,), LN, dtype=torch.float64)
    best = best_critic(HOLDERS["TUBA, KL-DIME"], 0.0)
    for what, moved in (("T", flo(best.map(lambda t: t + 1), u)), ("u", flo(best, u + 1))):
        expected = closed_forms.offset_cost(-1) if what == "u" else 0.0
        lost = float(flo(best, u).objective - moved.objective)
        found.append(Comparison(f"FLO: an offset of 1 of {what} costs", expected, lost, 1e-9))
    return found


# ---- The ceiling of InfoNCE ------------------------------------------------------------------------------------------------


def quoted_ceiling(mi: float, k: int) -> float:
    """Log K - log(1 + (K - 1) e^-D): InfoNCE where r is e^D on P and the other K - 1 samples' r have a mean of exactly 1."""
    return math.log(k) - math.log1p((k - 1) * math.exp(-mi))


def ceiling(mi: float, reverse: float, k: int) -> float:
    """Log K - log(1 + (K - 1) e^-(D + D')): above InfoNCE of every critic; D' is the divergence of Q from P."""
    return quoted_ceiling(mi + reverse, k)


def hits(symbols: int, k: int, counts: Tensor) -> Tensor:
    """InfoNCE at the best critic on rows of a positive and k - 1 symbols, so many of which are the same as the positive."""
    equal = torch.arange(k - 1) < counts.unsqueeze(-1)
    others = torch.where(equal, torch.tensor(math.log(symbols), dtype=torch.float64), -torch.inf)
    positive = torch.full((*counts.shape, 1), math.log(symbols), dtype=torch.float64)
    return get("infonce")(Scores(positive, torch.cat([positive, others], -1).unsqueeze(-2), rowwise=True)).estimate


def best_infonce(symbols: int, k: int) -> float:
    """InfoNCE's largest mean over batches on the one-hot problem: exact, over how many of k - 1 symbols are the positive's."""
    counts = torch.arange(k)
    return float(torch.tensor(binom.pmf(counts, k - 1, 1 / symbols)) @ hits(symbols, k, counts))


def ceilings() -> list[Comparison]:
    """The quoted ceiling against exact values: below the best one where samples are drawn, met where they are dealt out."""
    symbols, k = CEILING
    found = [
        Comparison(
            f"one-hot, {symbols} symbols, K = {k}", quoted_ceiling(math.log(symbols), k), best_infonce(symbols, k), 1e-12, "<=",
            printed=True,
        )
    ]  # fmt: skip
    for symbols, k in ((4, 4), (16, 64), (1000, 64)):
        value, quoted = best_infonce(symbols, k), quoted_ceiling(math.log(symbols), k)
        by_hand = math.log(k) - sum(binom.pmf(n, k - 1, 1 / symbols) * math.log1p(n) for n in range(k))
        found.append(Comparison(f"one-hot, {symbols} symbols, K = {k}: log K - E log(1 + N)", by_hand, value, 1e-9))
        found.append(Comparison(f"one-hot, {symbols} symbols, K = {k}: above the quoted", quoted, value, 0.0, ">="))
    dealt = float(hits(16, 65, torch.tensor([4])))  # 64 samples, each of 16 symbols four times
    found.append(Comparison("one-hot, 64 samples dealt out evenly", quoted_ceiling(math.log(16), 65), dealt, 1e-9))
    value, _, _ = gaussian_infonce(2.0)
    found.append(Comparison("Gaussians of 2 nats, K = 8", quoted_ceiling(2.0, 8), value, 0.0, "<=", printed=True))
    for mi in (0.5, 1.0, 2.0):
        value, lower, upper = gaussian_infonce(mi)
        found.append(Comparison(f"Gaussians of {mi:g} nats, K = 8: InfoNCE below the proven ceiling", upper, value, 0.0, "<="))
        found.append(
            Comparison(f"Gaussians of {mi:g} nats, K = 8: and above log K - E log(1 + (K - 1) / r)", lower, value, 0.0, ">=")
        )
    return found


def gaussian_infonce(mi: float, k: int = 8, batches: int = 4000) -> tuple[float, float, float]:
    """Two Gaussians, best critic: mean of InfoNCE over batches, and its floor and ceiling by Jensen's inequality."""
    rho = math.sqrt(1 - math.exp(-2 * mi))
    x, e = torch.randn(2, batches, k, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = rho * x + math.sqrt(1 - rho**2) * e
    log_r = mi + (
        2 * rho * x.unsqueeze(-1) * y.unsqueeze(-2) - rho**2 * (x.square().unsqueeze(-1) + y.square().unsqueeze(-2))
    ) / (2 * (1 - rho**2))
    scores = Scores.from_matrix(log_r)
    floor = math.log(k) - float(((k - 1) * (-scores.joint).exp()).log1p().mean())
    reverse = rho**2 / (1 - rho**2) - mi  # D + D' = rho^2 / (1 - rho^2)
    return float(get("infonce")(scores).estimate.mean()), floor, ceiling(mi, reverse, k)
