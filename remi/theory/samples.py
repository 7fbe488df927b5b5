"""Theorems 2 to 4 (derivation2): with ever more samples the estimates converge, and how many samples are enough."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from remi.losses import Scores, estimators
from remi.theory import closed_forms
from remi.theory.comparison import Comparison, every_pair
from remi.theory.duality import COUNTS, climb, table_kl, table_log_ratio
from remi.training import evaluation, problems


def theorem2() -> list[Comparison]:
    """One sample path of the small problem, all critics allowed; Theorem 1 for the empirical laws gives the maximiser.

    Tolerances are four standard errors of the estimate at the best critic, sqrt((Var_P log r + Var_Q r) / n).
    """
    kl, log_ratio, lam = table_kl(), table_log_ratio(), 0.1
    p, ratio = COUNTS.double() / COUNTS.sum(), log_ratio.exp()
    spread = math.sqrt(float((p * log_ratio.square()).sum() - kl**2 + ratio.square().mean() - 1))
    generator = torch.Generator().manual_seed(0)
    joint = torch.arange(16).repeat_interleave(COUNTS.flatten())[torch.randint(48, (10**6,), generator=generator)]
    marginal = torch.randint(16, (10**6,), generator=generator)
    twins = {
        "ReMINE": (estimators.regularized(estimators.mine, lam), 0.0),
        "ReNWJ": (estimators.regularized(estimators.nwj, lam), 1.0),
    }

    def drawn(n: int) -> Callable[[Tensor], Scores]:
        return lambda T: Scores(T.flatten(-2)[..., joint[:n]], T.flatten(-2)[..., marginal[:n]].unsqueeze(-2))

    def plug_in(n: int) -> Tensor:
        return (torch.bincount(joint[:n], minlength=16) / torch.bincount(marginal[:n], minlength=16)).double().log().view(4, 4)

    comparisons = []
    for name, (estimator, offset) in twins.items():
        for k in range(3, 7):
            n = 10**k
            value = float(estimator(drawn(n)(plug_in(n) + offset)).objective)
            what = f"{name}'s maximum on n = 10^{k} samples"
            comparisons.append(Comparison(what, kl, value, 4 * spread / math.sqrt(n), printed=k == 6))
        best = float(estimator(drawn(1000)(climb(estimator, drawn(1000), steps=200)))[1])
        plugged = float(estimator(drawn(1000)(plug_in(1000) + offset)).objective)
        # the ascent ends 1e-5 below, or less
        comparisons.append(Comparison(f"{name} on n = 1000: plug-in divergence against an ascent", plugged, best, 1e-3))
        log_z = float((plug_in(10**6) + offset).exp().mean().log())
        allowed = 4 * math.sqrt(float(ratio.square().mean() - 1) / 10**6)
        comparisons.append(Comparison(f"{name}: log Z of its maximiser, n = 10^6, under the true Q", offset, log_z, allowed))
    x, y = joint[:1000] // 4, joint[:1000] % 4
    matrix = log_ratio[x][:, y]  # all pairs of 1,000 joint samples, at the best critic
    readings = {"all n^2": every_pair(matrix), "off-diagonal": Scores.from_matrix(matrix)}
    for name, every in readings.items():
        value = float(estimators.get("remine", lam=lam)(every).objective)
        comparisons.append(Comparison(f"ReMINE at T*, n = 1000, {name} pairs", kl, value, 4 * spread / math.sqrt(1000)))
    return comparisons


def rare_event(bound: float, samples: int, trials: int, generator: torch.Generator) -> Scores:
    """Draws of the rare-event law (`closed_forms.rare_event_mi`), scored by its best critic: M in the event, -M outside."""
    joint = torch.rand(trials, samples, generator=generator) < 0.5
    marginal = torch.rand(trials, 1, samples, generator=generator) < closed_forms.rare_event_probability(bound)
    return Scores(bound * (2.0 * joint - 1), bound * (2.0 * marginal - 1))


def rare_event_values(bound: float, samples: int, trials: int, lam: float, radius: float, seed: int = 0) -> Tensor:
    """ReMINE's maxima over the critics T + theta, |theta| <= K, with target log Z: eq. 14 on `trials` samples; a sum in nats.

    A constant in T moves only the penalty, so theta takes up to K off the distance to the target.
    """
    left = lambda u, c: ((u - c).abs() - radius).clamp(min=0).square()  # noqa: E731
    remine = estimators.regularized(estimators.mine, lam, -closed_forms.rare_event_mi(bound), left)
    return remine(rare_event(bound, samples, trials, torch.Generator().manual_seed(seed))).objective


def _share(name: str, expected: float, failures: Tensor) -> Comparison:
    """A share of failures against its probability, to four standard errors, and at least one in the number of trials."""
    trials = len(failures)
    tolerance = max(4 * math.sqrt(expected * (1 - expected) / trials), 1 / trials)
    return Comparison(name, expected, float(failures.double().mean()), tolerance)


def _at_most(name: str, delta: float, failures: Tensor, printed: bool = True) -> Comparison:
    """A share of failures that is promised to be at most delta, with four standard errors of grace."""
    grace = 4 * math.sqrt(delta * (1 - delta) / len(failures))
    return Comparison(name, delta, float(failures.double().mean()), grace, "<=", printed)


def theorem3() -> list[Comparison]:
    """Failures at the printed and at the corrected sample size; delta = 0.1 throughout."""
    return _collisions() + _rare_events() + _averages()


def _collisions() -> list[Comparison]:
    """Counterexample with a million symbols, accuracy 4 of 13.8 nats, under the three readings of the empirical product."""
    symbols, eps, delta, trials = 10**6, 4.0, 0.1, 100
    truth, radius = math.log(symbols), eps / 24
    n = math.ceil(closed_forms.printed_samples(truth + radius, eps, delta, radius))
    x, u, v = problems.OneHot(symbols).draw(torch.Generator().manual_seed(0), 0, trials, n)

    def critic(same: Tensor) -> Tensor:
        return torch.where(same, truth, -truth)

    def fails(scores: Scores) -> Tensor:
        return (estimators.mine(scores).estimate - truth).abs() > eps

    matrices = [critic(row.unsqueeze(1) == row) for row in x]
    failures = {
        "independent pairs": fails(Scores(critic(x == x), critic(u == v).unsqueeze(1))),
        "all n^2 pairs": torch.stack([fails(every_pair(matrix)) for matrix in matrices]),
        "off-diagonal pairs": torch.stack([fails(Scores.from_matrix(matrix)) for matrix in matrices]),
    }
    expected = (1.0, 1.0, closed_forms.no_collision(n, symbols))
    what = f"one-hot, n = {n}, {{}}: failures"
    return [
        *(_at_most(what.format(name), delta, found) for name, found in failures.items()),
        *(_share(f"one-hot, {name}: failures", p, found) for p, (name, found) in zip(expected, failures.items(), strict=True)),
    ]


def _rare_events() -> list[Comparison]:
    """The rare-event law: failures against their exact probability; variance; failures at the corrected size."""
    delta, found = 0.1, []
    for bound, eps, lam, trials in ((3.0, 0.25, 0.0, 400), (6.0, 0.25, 0.0, 50), (1.0, 0.05, 100.0, 200), (1.0, 0.05, 1e4, 200)):
        radius = eps / 24
        n = math.ceil(closed_forms.printed_samples(bound + radius, eps, delta, radius))
        failures = (rare_event_values(bound, n, trials, lam, radius) - closed_forms.rare_event_mi(bound)).abs() > eps
        what = f"rare event, M = {bound:g}, lam = {lam:g}, n = {n}: failures"
        if bound == 6 or lam == 1e4:
            found.append(_at_most(what, delta, failures))
        found.append(_share(f"{what}, exact", closed_forms.rare_event_failure(n, bound, eps, lam, radius), failures))
    for bound in (1.0, 2.0, 3.0):
        drawn = rare_event(bound, 200, 10_000, torch.Generator().manual_seed(1))
        z = estimators.mine(drawn).marginal_term.exp() * math.cosh(bound)  # relative to Z
        wanted = closed_forms.relative_variance(bound)
        # the variance of 10,000 values with an excess kurtosis of at most 2 has a relative error of sqrt(4 / 10,000) = 2%
        found.append(Comparison(f"n Var(Z) / Z^2, M = {bound:g}", wanted, 200 * float(z.var()), 4 * 0.02 * wanted))
    bound, eps, lam, radius = 0.5, 0.5, 0.1, 0.02
    target = closed_forms.rare_event_mi(bound)
    n = math.ceil(closed_forms.remine_samples(bound + radius, eps, delta, radius, lam=lam, target=target))
    failures = (rare_event_values(bound, n, 40, lam, radius) - target).abs() > eps
    found.append(_at_most(f"rare event, M = {bound:g}, corrected n = {n}: failures", delta, failures, printed=False))
    n = math.ceil(closed_forms.remine_samples(6.01, 0.25, delta, 0.01, lam=0))
    chance = closed_forms.rare_event_failure(n, 6.0, 0.25, radius=0.01)
    found.append(Comparison(f"rare event, M = 6, corrected n = {n:.1e}: failures, exact", delta, chance, 0.0, "<="))
    return found


def _averages() -> list[Comparison]:
    """20,000 means of 16 samples: what k is worth depends on how they are averaged."""
    bound, batch, k = 1.0, 16, 20_000
    truth = closed_forms.rare_event_mi(bound)
    reading = estimators.mine(rare_event(bound, batch, k, torch.Generator().manual_seed(2)))
    macro = evaluation.macro_average(reading.estimate)
    micro = evaluation.micro_average(reading.joint_term, reading.marginal_term)
    error = 4 * float(reading.estimate.std()) / math.sqrt(k)
    excess = closed_forms.rare_event_excess(bound, batch)
    return [
        Comparison(f"mean of {k} estimates of {batch} samples", truth + excess, macro, error),
        Comparison("estimate from the same scores, pooled", truth, micro, error),
    ]


def theorem4() -> list[Comparison]:
    """The printed hypotheses and what they exclude; failures at the printed and at the corrected sample size."""
    eps, delta, lam = 0.05, 0.1, 1.0
    radius = eps / 24
    truth = 0.8 * math.log(1.6) + 0.2 * math.log(0.4)  # binary symbols of which a fifth is flipped: dP/dQ is 1.6 or 0.4
    n = math.ceil(closed_forms.printed_samples(1.5, eps, delta, radius))
    generator = torch.Generator().manual_seed(0)
    joint, marginal = torch.rand(100, n, generator=generator) < 0.8, torch.rand(100, 1, n, generator=generator) < 0.5
    on, off = 1 + math.log(1.6), -1 - radius  # 1 <= |T + theta| < 1.5 for every |theta| <= K
    drawn = Scores(torch.where(joint, on, off), torch.where(marginal, on, off))
    failures = (_renwj_values(drawn, lam, radius) - truth).abs() > eps

    levels = torch.linspace(-2, 2, 401, dtype=torch.float64)
    same, other = torch.cartesian_prod(levels[levels.abs() >= 1], levels[levels.abs() >= 1]).T
    flipped = Scores(torch.stack([same, same, same, same, other], -1), torch.stack([same, other], -1).unsqueeze(1))
    allowed = float(estimators.nwj(flipped).estimate.max())
    least = 0.8 * math.log(1.6) - 0.2 - math.exp(-2) / 2

    x = torch.tensor([math.exp(-3), closed_forms.log_penalty_threshold()], dtype=torch.float64)  # exp(-3): the least with |T| < 2
    penalty = estimators.squared_difference(x.log(), 0.0)
    above_one = torch.ones(16, 16, dtype=torch.float64).fill_diagonal_(1 + math.log(16))
    above = float(estimators.nwj(every_pair(above_one)).estimate)
    found = [
        _at_most(f"flipped bits, |T| >= 1, n = {n}: failures", delta, failures),
        Comparison("d(x, 1) at x = exp(-3), against |x - 1|", 1 - math.exp(-3), float(penalty[0]), 0.0, "<=", printed=True),
        # a grid of steps 0.01 misses the best level by 0.005 at most: 1e-5 nats
        Comparison("flipped bits, best NWJ value with |T| >= 1", least, allowed, 1e-4),
        Comparison("d(x, 1) where it crosses |x - 1|", 1 - float(x[1]), float(penalty[1]), 1e-9),
        Comparison("one-hot of 16, best NWJ value with T >= 1", closed_forms.best_nwj_above_one(16), above, 1e-9),
    ]

    bound, eps, lam, radius = 0.5, 0.5, 0.1, 0.02
    highest = 1 + bound + closed_forms.rare_event_mi(bound)  # the best critic of NWJ is 1 + log r, and log r = T - log Z
    n = math.ceil(closed_forms.renwj_samples(highest + radius, eps, delta, radius, lam=lam))
    drawn = rare_event(bound, n, 20, generator).map(lambda t: t + highest - bound)
    failures = (_renwj_values(drawn, lam, radius) - closed_forms.rare_event_mi(bound)).abs() > eps
    return [*found, _at_most(f"rare event, corrected n = {n}: failures", delta, failures, printed=False)]


def _renwj_values(drawn: Scores, lam: float, radius: float) -> Tensor:
    """ReNWJ's maxima over the critics T + theta with theta = -K, 0 or K, in nats."""
    renwj = estimators.get("renwj", lam=lam)
    return torch.stack([renwj(drawn.map(lambda t, a=a: t + a)).objective for a in (-radius, 0.0, radius)]).amax(0)  # type: ignore[misc]
