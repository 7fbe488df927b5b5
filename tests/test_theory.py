"""Every check of a theorem holds, and notices an error planted in the functions it uses."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from remi import estimators, evaluation, pictures, problems, theorems, theory
from remi.scores import Scores

# ---- Dual representations and sample sizes (derivation1, derivation2) ---------------------------------------------

SAMPLES = {1: theorems.theorem1, 2: theorems.theorem2, 3: theorems.theorem3, 4: theorems.theorem4}


@pytest.mark.parametrize("number", SAMPLES)
def test_theorems_1_to_4_corrected_hold(number):
    assert theorems.CHECKS[number] is SAMPLES[number]
    found = SAMPLES[number]()
    assert [c.what for c in found if not c.holds and not c.printed] == []
    assert theorems.verdict(found)[1] == (number in (1, 2))  # the printed statement
    assert not any(c.holds for c in found if c.printed and number in (3, 4))


def _nwj_released(scores, *, target_of="released"):
    return NWJ(scores, target_of="released")


def _nwj_unshifted(scores, *, target_of="eq15"):
    return NWJ(scores.map(lambda t: t + 1), target_of=target_of)


def _rewarded(bound, lam=1.0, target=0.0, penalty=estimators.squared_difference):
    return REGULARIZED(bound, -lam, target, penalty)


def _charged_twice(bound, lam=1.0, target=0.0, penalty=estimators.squared_difference):
    return lambda scores: (lambda r: r._replace(estimate=r.objective))(REGULARIZED(bound, lam, target, penalty)(scores))


def _without_count(scores):
    return LOG_MEAN_EXP(scores) + math.log(scores.marginal.shape[-1])


def _of_the_mean(scores):
    return scores.marginal_mean()


def _printed_samples(bound, eps, delta, radius, **rest):
    return theory.printed_samples(bound, eps, delta, radius)


NWJ, REGULARIZED, LOG_MEAN_EXP = estimators.nwj, estimators.regularized, Scores.log_mean_exp
SAMPLE_MUTANTS = {  # number of the theorem, where, what, planted
    "1: penalty with the wrong sign": (1, estimators, "regularized", _rewarded),
    "1: wrong target": (1, estimators, "squared_difference", lambda u, c: (u - c - 1).square()),
    "1: released target": (1, estimators, "nwj", _nwj_released),
    "1: NWJ of T + 1": (1, estimators, "nwj", _nwj_unshifted),
    "1: sum for mean": (1, Scores, "log_mean_exp", _without_count),
    "1: estimate with its penalty": (1, estimators, "regularized", _charged_twice),
    "1: released cost without its factor 2": (1, theory, "released_offset", lambda lam: RELEASED_OFFSET(lam / 2)),
    "2: released target": (2, estimators, "nwj", _nwj_released),
    "2: wrong target": (2, estimators, "regularized", lambda bound, lam=1.0, target=0.0: REGULARIZED(bound, lam, target + 1)),
    "2: mean of T for log mean exp": (2, Scores, "log_mean_exp", _of_the_mean),
    "3: averages not pooled": (3, evaluation, "micro_average", lambda joint, log_z: float((joint - log_z).mean())),
    "3: a mean without its bias": (3, evaluation, "macro_average", lambda e: float(e.mean()) - 0.043),
    "3: sum for mean": (3, Scores, "log_mean_exp", _without_count),
    "3: no penalty": (3, estimators, "regularized", lambda bound, *_: bound),
    "3: variance of the order exp(M)": (3, theory, "relative_variance", lambda m: math.sinh(m / 2) ** 2),
    "3: corrected size without exp(2 M)": (3, theory, "remine_samples", _printed_samples),
    "4: |log x| for its square": (4, estimators, "squared_difference", lambda u, c: (u - c).abs()),
    "4: sum for mean": (4, Scores, "log_mean_exp", _without_count),
    "4: NWJ of T + 1": (4, estimators, "nwj", _nwj_unshifted),
}
RELEASED_OFFSET = theory.released_offset


@pytest.mark.parametrize("error", SAMPLE_MUTANTS)
def test_theorems_1_to_4_notice_a_planted_error(error, monkeypatch):
    number, place, name, planted = SAMPLE_MUTANTS[error]
    monkeypatch.setattr(place, name, planted)
    assert [c.what for c in SAMPLES[number]() if not c.printed and not c.holds]


def test_offsets_by_hand():
    assert [theory.value_at_offset(loss, 1.0) for loss in ("mine", "remine", "nwj", "renwj")] == [0, -1, 0, 0]
    assert theory.value_at_offset("renwj-released", 0.0) == pytest.approx(-1 / math.e)  # only NWJ pays: exp(-1)
    assert theory.released_offset(0.0) == 1
    assert theory.released_cost(1.0) == pytest.approx(0.2165, abs=1e-4)
    # very heavy: a = (1 - 1/e) / (2 lam) to first order, and the cost 1/e
    assert theory.released_offset(1e6) == pytest.approx((1 - 1 / math.e) / 2e6, rel=1e-5)
    assert theory.released_cost(1e6) == pytest.approx(1 / math.e, abs=1e-6)


def test_one_hot_levels_by_hand():
    assert theory.one_hot_dv(0.0) == pytest.approx(0)  # a constant critic
    assert theory.one_hot_dv(math.log(15), 16) == pytest.approx(math.log(8))  # 1 + 15/15 = 2
    assert theory.best_nwj_above_one(2) == pytest.approx(math.log(2) - 0.5)


def test_the_printed_size_by_hand():
    # 24 K L / eps = 1, M = 1, eps = 1, delta = 2/e: (0 + 2 + 1) * 2
    assert theory.printed_samples(1.0, 1.0, 2 / math.e, 1 / 24) == pytest.approx(6)
    assert theory.printed_samples(1.0, 1.0, 2 / math.e, 1 / 24, averages=3) == pytest.approx(2)
    # theory of the counterexample with N = 10^6 and an accuracy of 1
    assert math.ceil(theory.printed_samples(math.log(10**6) + 1 / 24, 1.0, 0.1, 1 / 24)) == 11_794


def test_the_corrected_sizes_by_hand():
    # G = 1, 16 K L (1 + G) / eps = e, delta = 4/e: 768 exp(2 M) * 2
    assert theory.remine_samples(0.5, 1.0, 4 / math.e, math.e / 32, lam=0) == pytest.approx(768 * 2 * math.e)
    # lam = 1/2, M = 1, C* = -1: G = 3; a small cube needs one centre
    assert theory.remine_samples(1.0, 1.0, 4 / math.e, 0.0, lam=0.5, target=-1) == pytest.approx(768 * 9 * math.e**2)
    # lam = 0, M = 1: max(288, 72) with one centre and delta = 6/e
    assert theory.renwj_samples(1.0, 1.0, 6 / math.e, 0.0, lam=0) == pytest.approx(288)
    assert theory.renwj_samples(1.0, 1.0, 6 / math.e, 0.0, lam=1) == pytest.approx(6912 * 4 * math.e**2)


def test_the_rare_event_by_hand():
    bound = math.log(3) / 2  # exp(2 M) = 3: Q(event) = 1/4, exp(M) = sqrt 3
    assert theory.rare_event_mi(bound) == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3))
    assert theory.relative_variance(bound) == pytest.approx((1 / 4) * (3 / 4) * (2 * 3 - 2) ** 2 / 4 / 3 * (4 / 3))
    # one sample of each: off by more than 0.3 unless both scores agree, whose estimate 0 is off by 0.144 = log(2 / sqrt 3)
    assert theory.rare_event_failure(1, bound, 0.3) == pytest.approx(0.5)
    assert theory.rare_event_failure(1, bound, 0.1) == pytest.approx(1)
    # a batch of one: E[-T] under Q = M / 2, minus the divergence
    assert theory.rare_event_excess(bound, 1) == pytest.approx(bound / 2 - theory.rare_event_mi(bound))


def test_the_least_size_is_below_what_the_law_needs():
    for bound, eps in ((1.0, 0.1), (3.0, 0.25), (6.0, 0.25)):
        assert theory.least_samples(bound, eps, 0.1) < theory.rare_event_samples(bound, eps, 0.1)
        needed = theory.rare_event_samples(bound, eps, 0.1)
        assert theory.rare_event_failure(needed, bound, eps) <= 0.1
    assert theory.least_samples(0.5, 0.25, 0.1) == 0  # two such laws that differ by 2 eps do not exist


def test_birthdays():
    assert theory.no_collision(23, 365) == pytest.approx(0.4927, abs=1e-4)


@pytest.mark.parametrize("draw", [pictures.derivation1, pictures.derivation2])
def test_derivations_1_and_2_draw_at_both_ends_of_their_sliders(draw):
    for lam in (0.05, 3.0):
        _, table = draw(lam=lam)
        values = table.value[~table.curve.str.contains("estimator")]  # its bound is empty where no two laws differ enough
        assert np.isfinite(values).all()


# ---- Propositions A, B and C: the explosion (derivation5) ---------------------------------------------

PROPOSITIONS = {
    check.__name__: check
    for check in (
        theorems.proposition_a,
        theorems.proposition_b,
        theorems.proposition_c,
        theorems.finite_optimum,
        theorems.step_size,
    )
}


@pytest.mark.parametrize("name", PROPOSITIONS)
def test_a_proposition_holds(name):
    found = PROPOSITIONS[name]()
    assert [c.what for c in found if not c.holds] == []
    assert len({c.what for c in found}) == len(found)
    assert not [c for c in found if c.printed]  # the paper prints none of them


def _second_term(change):
    """MINE with another second term."""

    def planted(scores):
        joint, marginal = scores.joint_mean(), change(scores)
        return estimators.Reading(joint - marginal, joint - marginal, joint, marginal, marginal)

    return planted


def _penalty(change):
    """`regularized` with another objective or estimate; `change` gets reading, weight and target."""
    return lambda bound, lam=1.0, target=0.0: lambda scores: change(bound(scores), lam, target)


def _charged(reading, lam, target):
    return reading._replace(objective=reading.objective - lam * (reading.normalizer - target) ** 2)


def _nwj_without_shift(scores):
    joint, marginal = scores.joint_mean(), scores.log_mean_exp().exp()
    return estimators.Reading(joint - marginal, joint - marginal, joint, marginal, marginal)


def _infonce_of_the_sum(scores):
    reading, row = INFONCE(scores), math.log(scores.marginal.shape[-1])  # log sum exp in place of log mean exp
    return reading._replace(estimate=reading.estimate - row)


def _independent(self, generator, first_step, steps, batch):
    return torch.randint(self.symbols, (3, steps, batch), generator=generator)


INFONCE, BATCH = estimators.infonce, theory.two_level_batch
EXPLOSION_MUTANTS = {
    "a batch of one less": ("proposition_a", theory, "miss", lambda q, batch: (1 - q) ** (batch - 1)),
    "P(A) minus the chance of a miss": ("proposition_a", theory, "explosion_slope", lambda p, q, batch: p - (1 - q) ** batch),
    "mean of T for log mean exp": ("proposition_a", estimators, "mine", _second_term(lambda s: s.marginal_mean())),
    "largest score for log mean exp": ("proposition_a", estimators, "mine", _second_term(lambda s: s.marginal.amax((-2, -1)))),
    "a stratified batch that is not": ("proposition_a", problems.OneHot, "draw", _independent),
    "NWJ with a logarithm": ("proposition_a", estimators, "nwj", estimators.mine),
    "penalty with the wrong sign": ("proposition_b", estimators, "regularized", _penalty(lambda r, lam, c: _charged(r, -lam, c))),
    "target 0, whatever is asked": ("proposition_b", estimators, "regularized", _penalty(lambda r, lam, c: _charged(r, lam, 0))),
    "an estimate that pays the penalty": (
        "proposition_b",
        estimators,
        "regularized",
        _penalty(lambda r, lam, c: (paid := _charged(r, lam, c))._replace(estimate=paid.objective)),
    ),
    "half the penalty": ("proposition_c", estimators, "regularized", _penalty(lambda r, lam, c: _charged(r, lam / 2, c))),
    "an eighth for a quarter": (
        "proposition_c",
        theory,
        "remine_bound",
        lambda d, chi_square, batch, lam: min(d, math.log(batch)) + chi_square / (8 * lam * batch),
    ),
    "InfoNCE with log sum exp": ("proposition_c", estimators, "infonce", _infonce_of_the_sum),
    "a diagonal of 1/17": ("finite_optimum", theory, "two_level_batch", lambda p, q, batch, s: BATCH(p, 1 / 17, batch, s)),
    "log N without its correction": ("finite_optimum", theory, "two_level_dv", lambda p, q, s: math.log(1 / q)),
    "a penalty of 1.1 lam": ("finite_optimum", estimators, "regularized", _penalty(lambda r, lam, c: _charged(r, 1.1 * lam, c))),
    "NWJ with e^T": ("step_size", estimators, "nwj", _nwj_without_shift),
    "curvature k / B": ("step_size", theory, "nwj_curvature", lambda symbols, batch, k: k / batch),
}


@pytest.mark.parametrize("error", EXPLOSION_MUTANTS)
def test_a_proposition_notices_a_planted_error(error, monkeypatch):
    name, module, attribute, planted = EXPLOSION_MUTANTS[error]
    monkeypatch.setattr(module, attribute, planted)
    if module is estimators and attribute in estimators.BOUNDS:
        monkeypatch.setitem(estimators.BOUNDS, attribute, planted)
    assert not all(c.holds for c in PROPOSITIONS[name]())


def test_a_miss_and_its_slope_by_hand():
    assert theory.miss(0.5, 2) == 0.25
    assert theory.explosion_slope(0.8, 0.5, 2) == pytest.approx(0.8 - 0.75)
    assert theory.explosion_slope(0.8, 0.5, 3) == pytest.approx(0.8 - 0.875)


def test_a_batch_of_two_by_hand():
    """k = 0, 1, 2 of 2 with chance 1/4, 1/2, 1/4 and s = log 3: readings log 3, -log((1 + 1/3) / 2) and 0."""
    mean, spread = theory.two_level_batch(1.0, 0.5, 2, math.log(3))
    readings = np.array([math.log(3), math.log(1.5), 0.0])
    chance = np.array([0.25, 0.5, 0.25])
    assert mean == pytest.approx(chance @ readings)
    assert spread**2 == pytest.approx(chance @ readings**2 - (chance @ readings) ** 2)


def test_two_levels_at_the_log_ratio_reach_the_divergence():
    s = math.log(0.8 / 0.5) - math.log(0.2 / 0.5)
    assert theory.two_level_dv(0.8, 0.5, s) == pytest.approx(0.8 * math.log(1.6) + 0.2 * math.log(0.4))
    assert theory.two_level_dv(1.0, 1 / 16, 4.0) == pytest.approx(math.log(16) - math.log(1 + 15 * math.exp(-4)))


@pytest.mark.parametrize(("joint", "marginal", "batch"), [(1.0, 1 / 16, 32), (0.8, 0.5, 2), (0.8, 0.5, 3)])
def test_far_out_the_mean_over_batches_is_a_line(joint, marginal, batch):
    rise = theory.two_level_batch(joint, marginal, batch, 400.0)[0] - theory.two_level_batch(joint, marginal, batch, 300.0)[0]
    assert rise / 100 == pytest.approx(theory.explosion_slope(joint, marginal, batch))


def test_the_optimum_of_one_pair_is_a_parabola():
    """B = 1: T_off = -1 / (2 lam), T_diag = (N - 1) / (2 lam), objective chi^2 / (4 lam)."""
    best = theory.finite_optimum(1.0, 1 / 16, 1, 0.1)
    assert (best.on, best.off, best.objective) == pytest.approx((75.0, -5.0, 37.5), rel=1e-6)
    assert theory.remine_bound(math.log(16), 15.0, 1, 0.1) == pytest.approx(37.5)


def test_the_table_of_finite_optima():
    """theory.md 9.3: separation, mean, all pairs, sd, T_diag, T_off; computed there by other code."""
    expected = {
        (32, 1.0): (4.02, 2.70, 2.533, 0.63, 2.70, -1.31),
        (32, 0.1): (8.63, 3.52, 2.770, 2.01, 3.52, -5.12),
        (100, 1.0): (6.77, 2.84, 2.756, 0.46, 2.84, -3.93),
        (100, 0.1): (10.1, 2.87, 2.772, 0.53, 2.87, -7.25),
    }
    for (batch, lam), row in expected.items():
        best = theory.finite_optimum(1.0, 1 / 16, batch, lam)
        assert (best.separation, best.estimate, best.pooled, best.spread, best.on, best.off) == pytest.approx(row, abs=0.02)


def test_the_floor_of_a_small_weight():
    assert theory.finite_optimum(1.0, 1 / 16, 32, 0.01).off == pytest.approx(-1 / (2 * 0.01), abs=0.01)
    assert theory.finite_optimum(1.0, 1 / 16, 32, 0.01, target=3.0).off == pytest.approx(3 - 50, abs=0.01)


def test_the_last_critic_is_valued_on_all_pairs():
    table = np.full((16, 16), -1.0) + 4 * np.eye(16)
    record = SimpleNamespace(ok=True, arrays={"table": table})
    assert pictures.population_value(record) == pytest.approx(theory.two_level_dv(1.0, 1 / 16, 4.0))
    assert math.isnan(pictures.population_value(SimpleNamespace(ok=False, arrays={"table": table})))
