"""Theorems 5 and 6 (derivation3): what an offset of the critic does to a variance, and its drift to two averages."""

import math

import torch
from torch import Tensor

from remi.losses import Scores, club, estimators
from remi.theory import closed_forms
from remi.theory.comparison import Comparison, every_pair
from remi.training import evaluation, problems

SEPARATION = 8.0  # nats between the two levels of the one-hot critic: on all pairs it reads log 16 - 0.005


def two_levels(pairs: Tensor, separation: float = SEPARATION, symbols: int = 16) -> Tensor:
    """Scores of the critic that is `separation` higher where `pairs` is true, normalised to E_Q[exp T] = 1."""
    log_z = math.log((1 + (symbols - 1) * math.exp(-separation)) / symbols)
    return torch.where(pairs, 0.0, -separation).double() - log_z


def all_pairs(offsets: Tensor) -> Scores:
    """A batch per offset C_t, each the whole one-hot population: 16 joint and 256 marginal pairs, critic T + C_t."""
    return every_pair(two_levels(torch.eye(16, dtype=torch.bool)) + offsets.view(-1, 1, 1))


def pool(scores: Scores) -> Scores:
    """All batches as one: what micro-averaging feeds to a loss."""
    mask = scores.marginal_mask
    mask = None if mask is None else mask.expand_as(scores.marginal).flatten(0, 1)
    return Scores(scores.joint.flatten(), scores.marginal.flatten(0, 1), marginal_mask=mask, rowwise=scores.rowwise)


def averages(name: str, scores: Scores) -> tuple[float, float]:
    """Macro- and micro-average of a loss over batches, in nats; NWJ gets its critic one nat higher, where it is tight."""
    seen = scores.map(lambda t: t + 1) if name == "nwj" else scores
    one, pooled = ((club if name == "club" else estimators.get(name))(s).estimate for s in (seen, pool(seen)))
    return evaluation.macro_average(one), float(pooled)


def moved_by_drift(total: float) -> dict[str, tuple[float, float]]:
    """What offsets from 0 to `total` change in macro- and micro-average of the six losses and of CLUB, in nats.

    Each of 200 batches is the whole one-hot population, so that only the drift acts.
    """
    offsets = torch.linspace(0, total, 200, dtype=torch.float64)
    still, moving = all_pairs(0 * offsets), all_pairs(offsets)
    return {name: _difference(averages(name, moving), averages(name, still)) for name in (*estimators.BOUNDS, "club")}


def theorem5() -> list[Comparison]:
    """20,000 batches of 100 one-hot pairs, critic log dP/dQ + C; what the constant does to NWJ, and does not do to MINE."""
    problem, generator = problems.OneHot(), torch.Generator().manual_seed(0)
    _, u, v = problem.draw(generator, 0, 20000, 100)
    best = problem.log_ratio(u, v).double().unsqueeze(1)  # -inf off the diagonal
    joint = torch.full((20000, 1), math.log(16), dtype=torch.float64)
    spread = {c: float(estimators.nwj(Scores(joint + c, best + c)).marginal_term.var()) for c in (-1.0, 0.0, 1.0, 2.0)}
    ratio = spread[1.0] / spread[0.0]
    found = [Comparison("second term's variance at C = 1, in units of that at C = 0", 1, ratio, 0, ">=", printed=True)]
    for c, value in spread.items():  # NWJ's second term is mean exp(T - 1): a constant of C - 1
        expected = closed_forms.second_term_variance(c - 1, 15, 100)  # 4 standard errors of a variance: 4 sqrt(2.2 / 20000)
        found.append(Comparison(f"variance of NWJ's second term, C = {c:g}", expected, value, 0.042 * expected))

    released = closed_forms.released_offset(1.0) - 1
    lower = float(estimators.nwj(Scores(joint + 1 + released, best + 1 + released)).marginal_term.var() / spread[1.0])
    what = "variance left at the released ReNWJ target"
    found.append(Comparison(what, math.exp(2 * released), lower, 1e-9))  # exact: the same draws
    finite = two_levels(u == v).unsqueeze(1)
    readings = {c: estimators.mine(Scores(joint + c, finite + c)) for c in (-1.0, 0.0, 1.0, 2.0)}
    for name in ("marginal_term", "estimate"):
        values = [float(getattr(reading, name).var()) for reading in readings.values()]
        # identities up to rounding
        found.append(Comparison(f"MINE, variance of {name}: range over C", 0, round(max(values) - min(values), 12), 1e-11))

    gaussian = problems.GaussianStaircase(1, 2, (0.1,))  # rho = .31 < 1/3: the variance of a sample variance is finite
    x, _ = gaussian.draw(generator, 0, 4000, 256)
    y, _ = gaussian.draw(generator, 0, 4000, 256)
    ratios = gaussian.log_ratio(x, y, 0.1).double().unsqueeze(1)
    variance = float(estimators.mine(Scores(ratios[..., 0], ratios)).marginal_term.var())
    expected = closed_forms.second_term_variance(0, closed_forms.gaussian_chi_square(0.1), 256)
    # delta method: 4 standard errors, 4 sqrt(2 / 4000), and terms of relative order 1 / 256
    return [*found, Comparison("Gaussians, variance of MINE's second term", expected, variance, 0.1 * expected)]


def theorem6() -> list[Comparison]:
    """Six losses and CLUB under drift, without sampling noise; then MINE with it."""
    return _drift_alone() + _drift_and_noise()


def _drift_alone() -> list[Comparison]:
    """200 batches, each the whole one-hot population, offsets from 0 to -5: what the drift changes, exactly."""
    moving, change = torch.linspace(0, -5, 200, dtype=torch.float64), moved_by_drift(-5)
    found = []
    exact = 1e-9  # identities in double precision
    cost = closed_forms.linear_drift_cost(-5, 200)
    linear = -sum(map(closed_forms.offset_cost, moving.tolist())) / 200
    expected = {"mine": (0, -cost), "infonce": (0, 0), "club": (0, 0)} | dict.fromkeys(("nwj", "tuba", "js"), (linear, linear))
    for name, pair in expected.items():
        for k, average in enumerate(("macro", "micro")):
            label = estimators.LABELS.get(name, "CLUB")
            found.append(Comparison(f"{label}, {average}, drift to -5", pair[k], change[name][k], exact))
    scores = all_pairs(moving)
    micro = evaluation.micro_average(scores.joint_mean(), scores.log_mean_exp())
    macro = evaluation.macro_average(estimators.mine(scores).estimate)
    found.append(Comparison("evaluation.micro_average against MINE of the pool", averages("mine", scores)[1], micro, exact))
    cost = closed_forms.drift_cost(scores.log_mean_exp())
    found.append(Comparison("macro minus micro: the spread of log Z", cost, macro - micro, exact))
    for total in (5.0, 20.0):  # the upper level reaches tau at an offset of 7.2
        up = torch.linspace(0, total, 200, dtype=torch.float64)
        level = float(two_levels(torch.tensor(True)))
        expected_smile = sum(closed_forms.two_level_smile(c + level, SEPARATION, 10.0) for c in up.tolist()) / 200
        measured = averages("smile", all_pairs(up))[0]
        found.append(Comparison(f"SMILE, macro-average, drift to {total:g}", expected_smile, measured, exact))
    return found


def _difference(one: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    """Of two pairs of numbers, without the last digits, which differ from machine to machine."""
    return round(one[0] - other[0], 12) + 0.0, round(one[1] - other[1], 12) + 0.0


def _drift_and_noise() -> list[Comparison]:
    """MINE on 20,000 batches of 32 one-hot pairs, s = 4: all at once, and ten at a time."""
    batches, s, generator = 20000, 4.0, torch.Generator().manual_seed(1)
    _, u, v = problems.OneHot().draw(generator, 0, batches, 32)
    still = two_levels(u == v, s).unsqueeze(1)
    first = two_levels(torch.ones(batches, 1, dtype=torch.bool), s)
    mean, spread = closed_forms.two_level_batch(1, 1 / 16, 32, s)
    truth = closed_forms.two_level_dv(1, 1 / 16, s)
    z = still.exp().mean((1, 2))
    found = []
    for total in (0.0, -5.0):
        offsets = torch.linspace(0, total, batches, dtype=torch.float64)
        scores = Scores(first + offsets[:, None], still + offsets[:, None, None])
        macro = evaluation.macro_average(estimators.mine(scores).estimate)
        micro = evaluation.micro_average(scores.joint_mean(), scores.log_mean_exp())
        weights = offsets.softmax(0)
        error = 4 * float(z.std() * weights.square().sum().sqrt())  # 4 standard errors of log sum w_t Z_t, Z = 1
        end = f"20,000 batches of 32, drift to {total:g}" if total else "20,000 batches of 32, no drift"
        if total:  # the paper's statement, without its cause
            for average, value in (("macro", macro), ("micro", micro)):
                found.append(
                    Comparison(f"bias of MINE's {average}-average, {end}", 0.1, abs(value - truth), 0, ">=", printed=True)
                )
        found.append(Comparison(f"macro, {end}", mean, macro, 4 * spread / math.sqrt(batches)))
        found.append(Comparison(f"micro, {end}", truth - closed_forms.drift_cost(offsets), micro, error))

    relative, repeats = float(z.var()), batches // 10  # of the batch's mean exp T; chi-square / B for the best critic
    for total in (0.0, -5.0):
        offsets = torch.linspace(0, total, 10, dtype=torch.float64)
        tens = zip(first.view(repeats, 10), z.log().view(repeats, 10), strict=True)
        values = torch.tensor([evaluation.micro_average(j + offsets, log_z + offsets) for j, log_z in tens])
        # 4 standard errors, and terms of second order in 1 / B
        error = 4 * float(values.std()) / math.sqrt(repeats) + relative**2
        expected = truth + closed_forms.pooled_bias(offsets, relative, 1)
        found.append(Comparison(f"micro, ten batches of 32 at a time, drift to {total:g}", expected, float(values.mean()), error))
    return found
