"""The losses against their formulas (design, section 5) and their laws."""

import math
from dataclasses import fields

import numpy as np
import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from remi.losses import estimators
from remi.losses.estimators import BOUNDS, LABELS, NAMES, Reading, get, options, regularized
from remi.losses.scores import Scores

PLAIN = {  # the options that change a bound; at tau = 1 the clip bites on both sides
    "mine": [{}],
    "smile": [{}, {"tau": 1.0}, {"tau": 1.0, "clip": "both"}],
    "infonce": [{}],
    "nwj": [{}, {"tau": 1.0}, {"tau": 1.0, "clip": "both"}, {"target_of": "released"}],
    "tuba": [{}, {"tau": 1.0}, {"tau": 1.0, "clip": "both"}],
    "js": [{}, {"evaluate": "nwj"}, {"penalty": "softplus"}],
}
CASES = [(name, chosen) for name, found in PLAIN.items() for chosen in found]
CASES += [("re" + name, chosen | {"lam": 0.3} | ({} if name in ("nwj", "tuba") else {"target": 0.7})) for name, chosen in CASES]
each_case = pytest.mark.parametrize(("name", "chosen"), CASES, ids=[f"{name}{chosen or ''}" for name, chosen in CASES])
each_loss = pytest.mark.parametrize("name", NAMES)
each_bound = pytest.mark.parametrize("name", BOUNDS)


# Each setting: how it is built, its inputs for one run ("labels" are integers), and by loops over one run's arrays
# the joint scores, the marginal scores and the InfoNCE row of each joint score.


def loop_unpaired(joint, marginal):
    return list(joint), list(marginal.flat), None


def loop_matrix(T):
    n = len(T)
    return [T[i, i] for i in range(n)], [T[i, j] for i in range(n) for j in range(n) if i != j], list(T)


def loop_logits(logits, labels):
    return [row[y] for row, y in zip(logits, labels, strict=True)], list(logits.flat), list(logits)


def loop_embeddings(z, labels):
    n = len(z)
    T = [[sum(a * b for a, b in zip(z[i], z[j], strict=True)) for j in range(n)] for i in range(n)]
    others = [[T[i][j] for j in range(n) if j != i] for i in range(n)]
    pairs = [(i, j) for i in range(n) for j in range(n) if i != j and labels[i] == labels[j]]
    return [T[i][j] for i, j in pairs], [t for row in others for t in row], [others[i] for i, _ in pairs]


def loop_views(z1, z2):
    return loop_matrix(np.array([[sum(a * b for a, b in zip(x, y, strict=True)) / 0.5 for y in z2] for x in z1]))


SETTINGS = {
    "unpaired": (Scores, loop_unpaired, [(6,), (6, 2)]),
    "matrix": (Scores.from_matrix, loop_matrix, [(6, 6)]),
    "logits": (Scores.from_logits, loop_logits, [(6, 3), "labels"]),
    "embeddings": (Scores.from_embeddings, loop_embeddings, [(6, 2), "labels"]),
    "views": (lambda z1, z2: Scores.from_views(z1, z2, 0.5), loop_views, [(6, 2), (6, 2)]),
}
each_setting = pytest.mark.parametrize("setting", SETTINGS)


def draw(setting, leading=(), dtype=torch.float64, scale=1.5):
    generator = torch.Generator().manual_seed(len(leading))
    labels = tensor([0, 0, 0, 1, 1, 2])  # three positives, two, none
    return [
        labels[torch.rand(*leading, 6, generator=generator).argsort(-1)]
        if shape == "labels"
        else (scale * torch.randn(*leading, *shape, generator=generator, dtype=torch.float64)).to(dtype)
        for shape in SETTINGS[setting][2]
    ]


def scores_of(setting="embeddings", leading=(), **kwargs):
    return SETTINGS[setting][0](*draw(setting, leading, **kwargs))


def settings_of(name):
    return [setting for setting in SETTINGS if not (setting == "unpaired" and name.endswith("infonce"))]  # no rows


def mean(values):
    return sum(values) / len(values)


def lme(values):
    return math.log(mean([math.exp(t) for t in values]))


def softplus(t):
    return math.log(1 + math.exp(t))


def formula(name, j, m, rows, lam=1.0, target=0.0, tau=10.0, clip=None, target_of="eq15", evaluate="eq8", penalty="log"):
    clipped = [min(max(t, -tau), tau) for t in m]
    seen_j = [min(max(t, -tau), tau) for t in j] if clip == "both" else j
    seen_m = clipped if clip == "both" else m
    joint = mean(seen_j)
    match name.removeprefix("re"):
        case "mine":
            marginal, normalizer = lme(m), lme(m)
        case "smile":
            marginal, normalizer = lme(clipped), lme(m)
        case "infonce":
            marginal = normalizer = mean([lme(row) for row in rows])
        case "nwj":
            marginal = mean([math.exp(t - 1) for t in seen_m])
            normalizer = lme([t - 1 for t in m]) if target_of == "eq15" else lme(m)
        case "tuba":
            marginal, normalizer = mean([math.exp(t) for t in seen_m]) - 1, lme(m)
        case "js":
            joint, marginal = -mean([softplus(-t) for t in j]), mean([softplus(t) for t in m])
            normalizer = lme(m) if penalty == "log" else marginal
    estimate = joint - marginal
    if name.endswith("js"):
        estimate = mean(j) - (mean([math.exp(t) for t in m]) - 1 if evaluate == "eq8" else mean([math.exp(t - 1) for t in m]))
    penalised = lam * (normalizer - target) ** 2 if name.startswith("re") else 0
    return Reading(estimate, joint - marginal - penalised, joint, marginal, normalizer)


# 1. Hand numbers: exp T = [[4, 1], [3, 2]], so that mean j = (log 4 + log 2) / 2 = 3/2 log 2 and exp m = {1, 3}.
LOG2, MATRIX = math.log(2), tensor([[4.0, 1.0], [3.0, 2.0]], dtype=torch.float64).log()


@pytest.mark.parametrize(
    ("name", "chosen", "estimate", "objective", "normalizer"),
    [
        # mean exp m = 2
        ("mine", {}, LOG2 / 2, LOG2 / 2, LOG2),
        # clip at log 2: exp m = {1, 2}, mean 3/2; the joint {4, 2} becomes {2, 2} under "both"; the normalizer is not clipped
        ("smile", {"tau": LOG2}, 1.5 * LOG2 - math.log(1.5), 1.5 * LOG2 - math.log(1.5), LOG2),
        ("smile", {"tau": LOG2, "clip": "both"}, LOG2 - math.log(1.5), LOG2 - math.log(1.5), LOG2),
        # rows {4, 1} and {3, 2}, positive included: mean 5/2 each
        ("infonce", {}, 1.5 * LOG2 - math.log(2.5), 1.5 * LOG2 - math.log(2.5), math.log(2.5)),
        # mean exp(m - 1) = 2 / e, its log is log 2 - 1; clipped: joint log 2, mean exp m = 3/2
        ("nwj", {}, 1.5 * LOG2 - 2 / math.e, 1.5 * LOG2 - 2 / math.e, LOG2 - 1),
        ("nwj", {"target_of": "released"}, 1.5 * LOG2 - 2 / math.e, 1.5 * LOG2 - 2 / math.e, LOG2),
        ("nwj", {"tau": LOG2, "clip": "both"}, LOG2 - 1.5 / math.e, LOG2 - 1.5 / math.e, LOG2 - 1),
        # mean exp m - 1 = 1
        ("tuba", {}, 1.5 * LOG2 - 1, 1.5 * LOG2 - 1, LOG2),
        ("tuba", {"tau": LOG2, "clip": "both"}, LOG2 - 0.5, LOG2 - 0.5, LOG2),
        # softplus(-log a) = log(1 + 1/a): {log 5/4, log 3/2} on the joint; softplus(log a) = log(1 + a): {log 2, log 4}
        ("js", {}, 1.5 * LOG2 - 1, -(math.log(1.25) + math.log(1.5)) / 2 - 1.5 * LOG2, LOG2),
        ("js", {"evaluate": "nwj"}, 1.5 * LOG2 - 2 / math.e, -(math.log(1.25) + math.log(1.5)) / 2 - 1.5 * LOG2, LOG2),
        ("js", {"penalty": "softplus"}, 1.5 * LOG2 - 1, -(math.log(1.25) + math.log(1.5)) / 2 - 1.5 * LOG2, 1.5 * LOG2),
        # the twins at lam 1 and target 0 subtract the square of the normalizer
        ("remine", {}, LOG2 / 2, LOG2 / 2 - LOG2**2, LOG2),
        (
            "reinfonce",
            {"lam": 0.1, "target": 2.0},
            1.5 * LOG2 - math.log(2.5),
            1.5 * LOG2 - math.log(2.5) - 0.1 * (math.log(2.5) - 2) ** 2,
            math.log(2.5),
        ),
        ("renwj", {}, 1.5 * LOG2 - 2 / math.e, 1.5 * LOG2 - 2 / math.e - (LOG2 - 1) ** 2, LOG2 - 1),
        ("retuba", {"lam": 2}, 1.5 * LOG2 - 1, 1.5 * LOG2 - 1 - 2 * LOG2**2, LOG2),
    ],
)
def test_hand_numbers(name, chosen, estimate, objective, normalizer):
    reading = get(name, **chosen)(Scores.from_matrix(MATRIX))
    assert [reading.estimate.item(), reading.objective.item()] == pytest.approx([estimate, objective], abs=1e-8)
    assert reading.normalizer.item() == pytest.approx(normalizer, abs=1e-8)


# 2. Naive twin
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-7)], ids=["float32", "float64"])
@pytest.mark.parametrize("leading", [(), (3,), (2, 3)], ids=str)
@each_case
def test_formula(name, chosen, leading, dtype, tolerance):
    for setting in settings_of(name):
        build, loop, _ = SETTINGS[setting]
        inputs = draw(setting, leading, dtype)
        reading = get(name, **chosen)(build(*inputs))
        arrays = [x.double().numpy() if x.is_floating_point() else x.numpy() for x in inputs]
        expected = [formula(name, *loop(*(x[run] for x in arrays)), **chosen) for run in np.ndindex(leading)]
        for field, value, wanted in zip(Reading._fields, reading, zip(*expected, strict=True), strict=True):
            assert (value.shape, value.dtype) == (leading, dtype), (setting, field)
            assert value.flatten().tolist() == pytest.approx(wanted, rel=tolerance, abs=tolerance), (setting, field)


@each_case
def test_gradient_is_that_of_the_objective(name, chosen):
    for setting in settings_of(name):
        inputs = [x.requires_grad_(x.is_floating_point()) for x in draw(setting, scale=1.0)]
        assert torch.autograd.gradcheck(lambda *x, build=SETTINGS[setting][0]: get(name, **chosen)(build(*x)).objective, inputs)


# 3. Laws
@pytest.mark.parametrize("constant", [-7.0, 0.3, 50.0])
@pytest.mark.parametrize("name", ["mine", "infonce"])
def test_a_constant_changes_nothing_but_the_two_terms(name, constant):
    scores = scores_of(leading=(3,))
    before, after = get(name)(scores), get(name)(scores.map(lambda t: t + constant))
    for field, moved in zip(Reading._fields, (0, 0, constant, constant, constant), strict=True):
        assert_close(getattr(after, field), getattr(before, field) + moved)


def test_infonce_does_not_see_the_offset_of_a_row():
    matrix, offsets = torch.randn(6, 6, generator=torch.Generator().manual_seed(0)).double(), torch.arange(6.0).double()
    before, rows, columns = (
        get("infonce")(Scores.from_matrix(t)).estimate for t in (matrix, matrix + offsets[:, None], matrix + offsets)
    )
    assert_close(rows, before)
    assert (columns - before).abs() > 0.1


@pytest.mark.parametrize("scale", [0.1, 1.0, 5.0])
@each_setting
def test_linear_bounds_stay_below_donsker_varadhan(setting, scale):
    scores = scores_of(setting, (50,), scale=scale)
    dv = get("mine")(scores).estimate
    assert (get("nwj")(scores).estimate <= dv).all()
    assert (get("tuba")(scores).estimate <= dv).all()


@each_setting
def test_linear_bounds_meet_donsker_varadhan_at_their_normalizer(setting):
    scores = scores_of(setting)
    dv = get("mine")(scores)
    normalised = scores.map(lambda t: t - dv.normalizer)
    assert_close(get("nwj")(normalised.map(lambda t: t + 1)).estimate, dv.estimate)
    assert_close(get("tuba")(normalised).estimate, dv.estimate)


@each_setting
def test_tuba_is_nwj_of_the_scores_plus_one(setting):
    scores = scores_of(setting, (4,))
    tuba, nwj = get("tuba")(scores), get("nwj")(scores.map(lambda t: t + 1))
    assert_close((tuba.estimate, tuba.objective, tuba.normalizer), (nwj.estimate, nwj.objective, nwj.normalizer))


@pytest.mark.parametrize("scale", [1.0, 10.0, 100.0])
@pytest.mark.parametrize(("setting", "k"), [("matrix", 6), ("views", 6), ("logits", 3)])
def test_infonce_stays_below_log_k(setting, k, scale):
    assert (get("infonce")(scores_of(setting, (100,), scale=scale)).estimate <= math.log(k) + 1e-12).all()


def test_infonce_saturates_at_log_k():
    reading = get("infonce")(Scores.from_matrix(100 * torch.eye(6).double()))
    assert reading.estimate.item() == pytest.approx(math.log(6), abs=1e-12)


@pytest.mark.parametrize("chosen", [{"lam": 0}, {"lam": 0.0}, {"lam": torch.zeros(3)}], ids=str)
@each_bound
def test_no_weight_no_change(name, chosen):
    scores = scores_of(leading=(3,), dtype=torch.float32)
    for plain, twin in zip(get(name)(scores), get("re" + name, **chosen)(scores), strict=True):
        assert torch.equal(plain, twin)


@each_bound
def test_only_the_objective_knows_the_regularizer(name):
    scores = scores_of(leading=(3,))
    plain = get(name)(scores)
    for lam, target in [(0.1, 0.0), (5.0, 0.0), (5.0, 3.0)]:
        twin = regularized(BOUNDS[name], lam, target)(scores)
        assert_close(twin.objective, plain.objective - lam * (plain.normalizer - target) ** 2)
        for field in ("estimate", "joint_term", "marginal_term", "normalizer"):
            assert torch.equal(getattr(twin, field), getattr(plain, field))


@pytest.mark.parametrize(
    "penalty",
    [lambda value, target: (value - target).abs(), lambda value, target: (value - target).cosh() - 1],
    ids=["abs", "cosh"],
)
@each_bound
def test_penalty_may_be_any_function(name, penalty):
    scores = scores_of(leading=(3,))
    plain = BOUNDS[name](scores)
    twin = regularized(BOUNDS[name], 2.0, 0.5, penalty)(scores)
    assert_close(twin.objective, plain.objective - 2 * penalty(plain.normalizer, 0.5))
    assert torch.equal(twin.estimate, plain.estimate)


@each_bound
def test_every_run_may_have_its_own_weight(name):
    inputs, weights = draw("embeddings", (3,)), (0.0, 0.1, 2.0)
    stack = get("re" + name, lam=tensor(weights).double())(Scores.from_embeddings(*inputs))
    for run, lam in enumerate(weights):
        alone = get("re" + name, lam=lam)(Scores.from_embeddings(*(x[run] for x in inputs)))
        assert_close(tuple(value[run] for value in stack), tuple(alone))


@each_loss
def test_a_stack_is_its_runs(name):
    for setting in settings_of(name):
        build, inputs = SETTINGS[setting][0], draw(setting, (2, 3))
        stack = get(name)(build(*inputs))
        for run in np.ndindex(2, 3):
            assert_close(tuple(value[run] for value in stack), tuple(get(name)(build(*(x[run] for x in inputs)))))


@each_loss
def test_order_does_not_matter(name):
    order = tensor([3, 5, 0, 1, 4, 2])
    for setting in settings_of(name):
        build, inputs = SETTINGS[setting][0], draw(setting)
        moved = [x[order][:, order] if setting == "matrix" else x[order] for x in inputs]
        assert_close(tuple(get(name)(build(*moved))), tuple(get(name)(build(*inputs))))


@each_case
def test_inputs_are_left_alone(name, chosen):
    for setting in settings_of(name):
        inputs = draw(setting)
        scores = SETTINGS[setting][0](*inputs)
        tensors = [*inputs, *(value for f in fields(scores) if isinstance(value := getattr(scores, f.name), torch.Tensor))]
        before = [x.clone() for x in tensors]
        get(name, **chosen)(scores)
        assert all(torch.equal(x, y) for x, y in zip(tensors, before, strict=True)), setting


# 4. Extremes
LARGE = {
    "high": torch.full((4, 4), 1e3),
    "low": torch.full((4, 4), -1e3),
    "right": 2e3 * torch.eye(4) - 1e3,
    "wrong": 1e3 - 2e3 * torch.eye(4),
    "mixed": 2e3 * torch.ones(4, 4).triu() - 1e3,
}
each_large = pytest.mark.parametrize("matrix", LARGE.values(), ids=LARGE)


@pytest.mark.parametrize(
    ("name", "chosen"),
    [(name, chosen) for name, chosen in CASES if name.removeprefix("re") not in ("nwj", "tuba") or chosen.get("clip") == "both"],
    ids=str,
)
@each_large
def test_objective_is_finite_at_any_score(name, chosen, matrix):
    matrix = matrix.clone().requires_grad_()
    reading = get(name, **chosen)(Scores.from_matrix(matrix))
    reading.objective.backward()
    assert reading.objective.isfinite()
    assert matrix.grad.isfinite().all()
    assert reading.estimate.isfinite() or name.endswith("js")


HALVES = {  # by loops: the marginal scores of either half
    "unpaired": (lambda m: ([t for row in m[: len(m) // 2] for t in row], [t for row in m[-(len(m) // 2) :] for t in row])),
    "square": lambda m: tuple(
        [m[i][k] for i in part for k in part if i != k] for part in (range(len(m) // 2), range(len(m) - len(m) // 2, len(m)))
    ),
}


@pytest.mark.parametrize(
    ("kind", "build"),
    [
        ("unpaired", lambda m: Scores(m[..., 0], m)),
        ("unpaired", lambda m: Scores.from_logits(m, torch.arange(5))),
        ("square", lambda m: Scores.from_matrix(m[:, :5] + m[:, 1:6] ** 2)),
        ("square", lambda m: Scores.from_embeddings(m, tensor([0, 0, 1, 1, 0]))),
    ],
)
def test_the_variance_penalty_compares_two_halves(kind, build):
    scores = build(torch.randn(5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    one, other = (lme(part) for part in HALVES[kind](scores.marginal.tolist()))
    plain, reading = get("mine")(scores), get("remine", penalty="variance", lam=0.5)(scores)
    assert reading.normalizer.item() == pytest.approx((one - other) / math.sqrt(2))
    assert reading.objective.item() == pytest.approx(plain.objective.item() - 0.5 * (one - other) ** 2 / 2)
    shifted = get("remine", penalty="variance", lam=0.5)(scores.map(lambda t: t + 3))
    assert_close(shifted.objective, reading.objective)


def test_the_variance_penalty_is_the_variance_of_the_second_term():
    marginal = torch.randn(4000, 16, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    squared = get("mine", penalty="variance")(Scores(marginal[..., 0], marginal)).normalizer.square().mean()
    halves = marginal[:, :8].flatten(1).logsumexp(1)
    assert squared.item() == pytest.approx(halves.var().item(), rel=0.1)


@pytest.mark.parametrize("shape", [(1, 7), (3, 3)])
def test_too_few_rows_for_halves_are_refused(shape):
    with pytest.raises(ValueError, match=rf"two halves need at least \d rows of marginal pairs, got marginal \({shape[0]}"):
        Scores(torch.randn(3), torch.randn(shape)).halves()


@each_large
@each_case
def test_readings_are_never_nan(name, chosen, matrix):
    reading = get(name, **chosen)(Scores.from_matrix(matrix))
    assert not any(value.isnan() for value in reading)


@pytest.mark.parametrize(
    ("name", "chosen", "high", "low"),  # estimate of T = 1000 and of T = -1000 everywhere
    [
        ("mine", {}, 0, 0),
        ("smile", {}, 990, -990),
        ("smile", {"clip": "both"}, 0, 0),
        ("infonce", {}, 0, 0),
        ("nwj", {}, -math.inf, -1000),
        ("nwj", {"clip": "both"}, 10 - math.exp(9), -10 - math.exp(-11)),
        ("tuba", {}, -math.inf, -999),
        ("tuba", {"clip": "both"}, 11 - math.exp(10), -9 - math.exp(-10)),
        ("js", {}, -math.inf, -999),
        ("js", {"evaluate": "nwj"}, -math.inf, -1000),
    ],
)
def test_estimate_of_extreme_scores(name, chosen, high, low):
    for loss in (name, "re" + name):
        estimates = [get(loss, **chosen)(Scores.from_matrix(LARGE[size])).estimate.item() for size in ("high", "low")]
        assert estimates == pytest.approx([high, low], rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("name", ["nwj", "tuba", "renwj", "retuba"])
def test_overflow_is_an_infinite_second_term(name):
    reading = get(name)(Scores.from_matrix(LARGE["high"]))
    assert [value.item() for value in reading[:4]] == [-math.inf, -math.inf, 1000, math.inf]


@pytest.mark.parametrize(("name", "frozen"), [("smile", True), ("resmile", False)])
def test_smile_with_both_terms_clipped_is_frozen_and_its_twin_is_not(name, frozen):
    matrix = torch.linspace(20, 260, 36).view(6, 6).requires_grad_()  # scores of ResNet-18 features at initialisation
    reading = get(name, clip="both")(Scores.from_matrix(matrix))
    reading.objective.backward()
    assert reading.estimate == 0
    assert (matrix.grad == 0).all() == frozen


@each_loss
def test_bfloat16(name):
    for setting in settings_of(name):
        inputs = draw(setting, dtype=torch.bfloat16, scale=0.7)
        wide = [x.double() if x.is_floating_point() else x for x in inputs]
        for value, wanted in zip(*(get(name)(SETTINGS[setting][0](*x)) for x in (inputs, wide)), strict=True):
            assert value.dtype == torch.float32  # scores in half precision are read in single
            assert_close(value.double(), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["InfoNCE", "ReMINE", "TUBA", "resmile", "REJS", "Nwj"])
def test_a_name_is_understood_in_any_case(name):
    scores = scores_of("matrix")
    assert get(name)(scores) == get(name.lower())(scores)
    assert options(name) == options(name.lower())


@pytest.mark.parametrize(
    "lam", [np.float32(0.5), np.float64(0.5), np.array(0.5), np.array([0.5, 0.5]), torch.tensor(0.5)], ids=repr
)
def test_lam_may_be_anyones_number(lam):
    scores = scores_of("matrix", (2,), dtype=torch.float32)
    found, wanted = get("remine", lam=lam)(scores), get("remine", lam=0.5)(scores)
    assert found.objective.dtype == torch.float32
    assert torch.equal(found.objective, wanted.objective)


@pytest.mark.parametrize(
    "lam", [np.float32(-1), np.array(math.nan), np.array([1.0, -1.0]), np.array("a"), "1", [1.0], np.bool_(True)]
)
def test_lam_out_of_range_is_refused_whoevers_it_is(lam):
    with pytest.raises(ValueError, match="lam must be"):
        get("remine", lam=lam)


# 5. Batches without a joint pair
@pytest.mark.parametrize("size", [1.0, pytest.param(20.0, id="overflow")])
@each_loss
def test_an_empty_batch_is_skipped_and_disturbs_no_other(name, size):
    z = (size * torch.rand(3, 4, 2, generator=torch.Generator().manual_seed(0)) + size).requires_grad_()
    labels = tensor([[0, 1, 0, 2], [3, 0, 1, 2], [1, 1, 1, 0]])  # the second run has four classes
    reading = get(name)(Scores.from_embeddings(z, labels))
    (gradient,) = torch.autograd.grad(reading.objective.sum(), z)
    assert reading.estimate.isnan().tolist() == [False, True, False]
    assert reading.objective[1] == 0
    assert (gradient[1] == 0).all()
    for run in (0, 2):
        alone = get(name)(Scores.from_embeddings(z[run], labels[run]))
        assert_close(tuple(value[run] for value in reading), tuple(alone))
        assert_close(gradient[run], torch.autograd.grad(alone.objective, z)[0][run], equal_nan=size > 1)


@each_loss
def test_a_run_of_its_own_may_be_empty(name):
    z = torch.eye(4).requires_grad_()
    reading = get(name)(Scores.from_embeddings(z, torch.arange(4)))
    reading.objective.backward()
    assert reading.estimate.isnan()
    assert reading.objective == 0
    assert (z.grad == 0).all()


# 6. Errors
@pytest.mark.parametrize(
    ("name", "chosen", "message"),
    [
        ("cpc", {}, "name must be one of mine, smile, infonce, nwj, tuba, js, remine, .*, rejs, infonce_anchor, .*; got 'cpc'"),
        ("mime", {}, "name must be one of .* got 'mime'"),
        ("reremine", {}, "name must be one of .* got 'reremine'"),
        ("infonce", {"lam": 1.0}, "infonce has no option 'lam'; it has none"),
        ("smile", {"target": 0.0}, "smile has no option 'target'; it has tau, clip"),
        ("nwj", {"lamda": 1.0}, "nwj has no option 'lamda'; it has clip, tau, target_of"),
        ("tuba", {"target_of": "eq15"}, "tuba has no option 'target_of'; it has clip, tau"),
        ("remine", {"clip": "both"}, "remine has no option 'clip'; it has penalty, lam, target"),
        ("renwj", {"target": 1.0}, "renwj has no option 'target'; it has clip, tau, target_of, lam"),
        ("retuba", {"target": 0.0}, "retuba has no option 'target'; it has clip, tau, lam"),
        ("rejs", {"tau": 1.0}, "rejs has no option 'tau'; it has evaluate, penalty, lam, target"),
        ("remine", {"penalty": abs}, "penalty must be one of 'log', 'variance'; got <built-in function abs>"),
        ("mine", {"tau": 1.0}, "mine has no option 'tau'; it has penalty"),
        ("smile", {"clip": "joint"}, "clip must be one of 'marginal', 'both'; got 'joint'"),
        ("smile", {"clip": None}, "clip must be one of 'marginal', 'both'; got None"),
        ("nwj", {"clip": "marginal"}, "clip must be one of 'both', None; got 'marginal'"),
        ("tuba", {"clip": True}, "clip must be one of 'both', None; got True"),
        ("renwj", {"target_of": "code"}, "target_of must be one of 'eq15', 'released'; got 'code'"),
        ("js", {"evaluate": "eq9"}, "evaluate must be one of 'eq8', 'nwj'; got 'eq9'"),
        ("rejs", {"penalty": "exp"}, "penalty must be one of 'log', 'softplus'; got 'exp'"),
        *(
            ("smile", {"tau": value}, f"tau must be a finite number > 0; got {value!r}")
            for value in (0, -1.0, math.nan, math.inf, True, None, "10")
        ),
        *(
            ("remine", {"target": value}, f"target must be a finite number; got {value}")
            for value in (math.nan, -math.inf, True, None)
        ),
        *(
            ("remine", {"lam": value}, f"lam must be .* >= 0.*; got {value!r}")
            for value in (-0.1, math.nan, math.inf, True, None, "1")
        ),
        ("renwj", {"lam": [0.1, 1.0]}, r"lam must be .* >= 0.*; got \[0.1, 1.0\]"),
        ("remine", {"lam": tensor([0.1, -0.5])}, r"lam must be .* >= 0.*; got tensor\(\[ 0.1000, -0.5000\]\)"),
        ("remine", {"lam": tensor([0.1, math.nan])}, r"lam must be .* >= 0.*; got tensor\(\[0.1000,    nan\]\)"),
        ("remine", {"lam": tensor([0.1, math.inf])}, r"lam must be .* >= 0.*; got tensor\(\[0.1000,    inf\]\)"),
        ("remine", {"lam": tensor(True)}, r"lam must be .* >= 0.*; got tensor\(True\)"),
    ],
    ids=str,
)
def test_errors_list_what_is_allowed(name, chosen, message):
    with pytest.raises(ValueError, match=message):
        get(name, **chosen)


def test_options_of_an_unknown_loss():
    with pytest.raises(ValueError, match=r"name must be one of mine, .* got 'club'"):
        options("club")


@pytest.mark.parametrize("name", ["infonce", "reinfonce"])
def test_infonce_refuses_pairs_without_rows(name):
    with pytest.raises(ValueError, match="build the scores with from_matrix, from_views, from_logits or from_embeddings"):
        get(name)(Scores(torch.zeros(4), torch.zeros(4, 1)))


# 7. Registry: design, section 5
CONTRACT = {
    "mine": {"penalty": "log"},
    "smile": {"tau": 10.0, "clip": "marginal"},
    "infonce": {},
    "nwj": {"clip": None, "tau": 10.0, "target_of": "eq15"},
    "tuba": {"clip": None, "tau": 10.0},
    "js": {"evaluate": "eq8", "penalty": "log"},
    "remine": {"penalty": "log", "lam": 1.0, "target": 0.0},
    "resmile": {"tau": 10.0, "clip": "marginal", "lam": 1.0, "target": 0.0},
    "reinfonce": {"lam": 1.0, "target": 0.0},
    "renwj": {"clip": None, "tau": 10.0, "target_of": "eq15", "lam": 1.0},
    "retuba": {"clip": None, "tau": 10.0, "lam": 1.0},
    "rejs": {"evaluate": "eq8", "penalty": "log", "lam": 1.0, "target": 0.0},
}


def test_registry():
    assert tuple(CONTRACT) == NAMES == tuple(LABELS)
    assert {name: {key: option.default for key, option in options(name).items()} for name in NAMES} == CONTRACT
    assert " ".join(LABELS.values()) == "MINE SMILE InfoNCE NWJ TUBA JS ReMINE ReSMILE ReInfoNCE ReNWJ ReTUBA ReJS"
    assert [estimators.family(name) for name in NAMES] == 2 * list(BOUNDS)


@each_loss
def test_defaults_are_what_the_contract_says(name):
    scores = scores_of(leading=(3,), scale=4.0)  # beyond tau
    for default, spelled in zip(get(name)(scores), get(name, **CONTRACT[name])(scores), strict=True):
        assert torch.equal(default, spelled)
