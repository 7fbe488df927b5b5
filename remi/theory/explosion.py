"""Propositions A, B and C (derivation5): on batches MINE's objective has no maximum, and the regularizer gives it one."""

import math
from functools import partial
from typing import Any

import torch
from scipy.stats import binom
from torch import Tensor

from remi.losses import Scores, estimators
from remi.theory import closed_forms
from remi.theory.comparison import Comparison, every_pair
from remi.training import problems


def _batches(joint: float, marginal: float, batch: int, on: Tensor | float, off: Tensor | float) -> tuple[Tensor, Scores]:
    """Every kind of batch for a critic that is `on` on a set A and `off` elsewhere: its probability, and its scores.

    A kind is the number of marginal pairs in A. The first term is exact: one score, the mean under P.
    """
    k = torch.arange(batch + 1)
    chance = torch.as_tensor(binom.pmf(k.numpy(), batch, marginal))
    levels = torch.as_tensor(on, dtype=torch.float64), torch.as_tensor(off, dtype=torch.float64)
    first = (joint * levels[0] + (1 - joint) * levels[1]).expand(batch + 1, 1)
    return chance, Scores(first, torch.where(torch.arange(batch) < k[:, None], *levels).unsqueeze(1))


def _mean(estimator: estimators.Estimator, *critic: Any, of: str = "estimate") -> float:
    """A field of the reading on average over batches, exact; `critic` is what `_batches` takes."""
    chance, every = _batches(*critic)
    return float(chance @ getattr(estimator(every), of))


def _best(joint: float, marginal: float, batch: int, estimator: estimators.Estimator) -> Tensor:
    """The two levels with the largest mean objective over batches."""
    levels = torch.tensor([1.0, -1.0], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([levels], max_iter=300, tolerance_grad=1e-10, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        chance, every = _batches(joint, marginal, batch, *levels)
        value = -(chance @ estimator(every).objective)
        value.backward()
        return value

    optimizer.step(loss)
    return levels.detach()


def proposition_a() -> list[Comparison]:
    """MINE's mean over batches has no maximum where batches miss a set too often for P, and is at most log B elsewhere."""
    found, mine = [], partial(_mean, estimators.mine)
    exact = 1e-9  # identities in double precision
    for batch in (10, 32, 100):
        slope = closed_forms.explosion_slope(1.0, 1 / 16, batch)
        measured = (mine(1.0, 1 / 16, batch, 0.0, -300.0) - mine(1.0, 1 / 16, batch, 0.0, -200.0)) / 100
        found.append(Comparison(f"one-hot, B = {batch}: slope per nat of separation", slope, measured, exact))
    mean, _ = closed_forms.two_level_batch(1.0, 1 / 16, 32, 4.0)
    found.append(Comparison("one-hot, B = 32, separation 4: mean", mean, mine(1.0, 1 / 16, 32, 0.0, -4.0), exact))
    slope, value = closed_forms.explosion_slope(1.0, 1 / 16, 32), mine(1.0, 1 / 16, 32, 0.0, -300.0)
    found.append(Comparison("one-hot, B = 32, separation 300: at least slope times 300", 300 * slope, value, exact, ">="))
    ceiling = 300 * slope + (1 - closed_forms.miss(1 / 16, 32)) * math.log(32)
    found.append(Comparison("one-hot, B = 32, separation 300: at most nu_B log B more", ceiling, value, exact, "<="))

    chance = closed_forms.miss(1 / 16, 32)
    four_errors = 4 * math.sqrt(chance * (1 - chance) / 20_000)
    for stratified, expected, tolerance in ((False, chance, four_errors), (True, 0.0, 0.0)):
        problem = problems.OneHot(stratified=stratified)
        _, u, v = problem.draw(torch.Generator().manual_seed(0), 0, 20_000, 32)
        share = float((u != v).all(1).double().mean())
        what = "with two diagonal pairs in each" if stratified else "as drawn"
        found.append(Comparison(f"share of misses in 20,000 batches of 32, {what}", expected, share, tolerance))

    slope = closed_forms.explosion_slope(0.8, 0.5, 2)
    measured = (mine(0.8, 0.5, 2, 0.0, -300.0) - mine(0.8, 0.5, 2, 0.0, -200.0)) / 100
    found.append(Comparison("two symbols, noise 0.2, B = 2: slope", slope, measured, exact))
    highest = mine(0.8, 0.5, 3, *_best(0.8, 0.5, 3, estimators.mine))
    found.append(Comparison("two symbols, noise 0.2, B = 3: maximum, at most log B", math.log(3), highest, 0.0, "<="))

    value = _mean(estimators.nwj, 1.0, 1 / 16, 32, 1 + math.log(16), 1 + math.log(16) - 300)
    found.append(Comparison("NWJ, one-hot, B = 32, separation 300: the truth", math.log(16), value, exact))
    return found


def proposition_b() -> list[Comparison]:
    """ReMINE at its best offset is MINE minus lam times the variance of its second term; the target moves the offset only."""
    found = []
    joint, marginal, batch, on, off, lam = 0.8, 1 / 16, 32, 2.0, -3.0, 0.1  # any critic will do
    mean, spread = closed_forms.two_level_batch(joint, marginal, batch, on - off)
    for target in (2.0, -5.0):
        where = f"B = {batch}, lam = {lam}, C* = {target:g}"
        remine = estimators.get("remine", lam=lam, target=target)
        best = target - _mean(estimators.mine, joint, marginal, batch, on, off, of="marginal_term")
        for beside in (0.0, 0.5):  # an offset loses lam times the square of its distance from the best one
            shifted = joint, marginal, batch, on + best + beside, off + best + beside
            expected, measured = mean - lam * (spread**2 + beside**2), _mean(remine, *shifted, of="objective")
            found.append(Comparison(f"{where}: objective {beside:g} from the best offset", expected, measured, 1e-9))  # exact
        found.append(Comparison(f"{where}: reported", mean, _mean(remine, *shifted), 1e-9))
    return found


def proposition_c() -> list[Comparison]:
    """MINE's excess over InfoNCE is a covariance, and ReMINE is at most min(D, log B) + chi^2 / (4 lam B)."""
    found = []
    for joint, marginal, batch, on, off in ((1.0, 1 / 16, 32, 3.0, -9.0), (0.8, 0.5, 3, -1.0, 2.0)):
        chance, every = _batches(joint, marginal, batch, on, off)
        reading = estimators.mine(every)
        k = torch.arange(batch + 1, dtype=torch.float64)
        ratio = (k * joint / marginal + (batch - k) * (1 - joint) / (1 - marginal)) / batch  # mean of dP/dQ over the batch
        covariance = float(chance @ ((ratio - 1) * reading.marginal_term))
        infonce = 0.0
        for weight, level in ((joint, on), (1 - joint, off)):
            others, rest = _batches(joint, marginal, batch - 1, on, off)
            positive = torch.full((batch, 1), level, dtype=torch.float64)
            row = torch.cat([positive.unsqueeze(1), rest.marginal], dim=2)
            infonce += weight * float(others @ estimators.infonce(Scores(positive, row, rowwise=True)).estimate)
        what = f"P(A) = {joint:g}, Q(A) = {marginal:g}, B = {batch}: MINE is InfoNCE plus a covariance"
        found.append(Comparison(what, infonce + covariance, float(chance @ reading.estimate), 1e-9))  # exact identity

    for batch, lam in ((1, 0.1), (10, 0.1), (32, 1.0), (32, 0.1), (32, 0.01), (100, 0.1)):
        remine = estimators.get("remine", lam=lam)
        value = _mean(remine, 1.0, 1 / 16, batch, *_best(1.0, 1 / 16, batch, remine), of="objective")
        bound = closed_forms.remine_bound(math.log(16), 15.0, batch, lam)
        found.append(Comparison(f"one-hot, B = {batch}, lam = {lam}: maximum", bound, value, 1e-9, "=" if batch == 1 else "<="))
    return found


def finite_optimum() -> list[Comparison]:
    """Where ReMINE ends on the one-hot problem: levels found by ascent on the package's loss, beside the closed forms."""
    found = []
    for batch, lam in ((32, 1.0), (32, 0.1), (32, 0.01), (100, 1.0), (100, 0.1)):
        best = closed_forms.finite_optimum(1.0, 1 / 16, batch, lam)
        remine = estimators.get("remine", lam=lam)
        on, off = _best(1.0, 1 / 16, batch, remine).tolist()
        table = torch.full((16, 16), off, dtype=torch.float64).fill_diagonal_(on)
        pooled = estimators.mine(every_pair(table)).estimate
        where = f"B = {batch}, lam = {lam}"
        # the ascent stops where the objective is flat to 1e-12: levels within 1e-3, values closer
        found.append(Comparison(f"{where}: T_off", best.off, off, 1e-3))
        found.append(Comparison(f"{where}: mean over batches", best.estimate, _mean(remine, 1.0, 1 / 16, batch, on, off), 1e-3))
        found.append(Comparison(f"{where}: all pairs", best.pooled, float(pooled), 1e-4))
    return found


def step_size() -> list[Comparison]:
    """Curvature of the batch objective along T_diag, with 8 of 32 pairs on the diagonal: NWJ at its best, MINE at its most."""

    def curvature(estimator: estimators.Estimator, on: float, off: float) -> float:
        shift = torch.zeros((), dtype=torch.float64, requires_grad=True)
        _, every = _batches(1.0, 1 / 16, 32, shift + on, off)
        (slope,) = torch.autograd.grad(estimator(every).marginal_term[8], shift, create_graph=True)
        return float(torch.autograd.grad(slope, shift)[0])

    best = 1 + math.log(16)
    nwj, mine = closed_forms.nwj_curvature(16, 32, 8), 0.25  # w (1 - w) at w = 1/2, where T_diag = T_off + log 3
    return [
        Comparison("NWJ at its best critic", nwj, curvature(estimators.nwj, best, -4.0), 1e-9),  # exact
        Comparison("NWJ three nats above", nwj * math.exp(3), curvature(estimators.nwj, best + 3, -4.0), 1e-9),
        Comparison("MINE where half of the weight is on the diagonal", mine, curvature(estimators.mine, math.log(3), 0.0), 1e-9),
        Comparison("MINE at NWJ's best critic", mine, curvature(estimators.mine, best, -4.0), 0.0, "<="),
    ]
