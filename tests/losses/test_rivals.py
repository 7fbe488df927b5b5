"""The later losses against their published formulas, in plain loops, and their laws."""

import math
from dataclasses import replace
from itertools import pairwise

import mpmath
import numpy as np
import pytest
import torch
from test_estimators import LOG2, MATRIX, SETTINGS, draw
from torch import tensor
from torch.nn.functional import logsigmoid
from torch.testing import assert_close

from remi.losses import RIVALS, Loss, Reading, Scores, club, estimators, flo, get, with_second
from remi.theory.comparison import every_pair

CASES = [
    ("infonce_anchor", {}),
    ("infonce_anchor", {"nu": 0.3}),
    ("infonce_anchor", {"nu": 20.0}),
    ("sigmoid", {}),
    *(("fdime", {"divergence": divergence}) for divergence in ("kl", "gan", "hd")),
    ("dcl", {}),
]
each_case = pytest.mark.parametrize(("name", "chosen"), CASES, ids=[f"{name}{chosen or ''}" for name, chosen in CASES])
each_setting = pytest.mark.parametrize("setting", SETTINGS)
ROWLESS = ("unpaired", "logits")  # nothing says which entries of a row are joint pairs


# ---- The twin: the published formulas by loops, in numbers of any type -----------------------------------------------------


def loops(setting, inputs):
    """Of one run: all marginal scores, and for every joint pair its score, its pairs from Q, K of which one is itself, and
    those that are no joint pair."""
    if setting == "unpaired":
        joint, marginal = inputs[0], list(inputs[1].flat)
        return marginal, [(j, marginal, [j, *marginal[1:]], None) for j in joint]
    if setting == "logits":
        logits, labels = inputs
        return list(logits.flat), [(row[y], list(row), list(row), None) for row, y in zip(logits, labels, strict=True)]
    if setting == "embeddings":
        z, labels = inputs
        n, T = len(z), np.array([[sum(a * b for a, b in zip(x, y, strict=True)) for y in z] for x in z])
        rows = [[T[i, k] for k in range(n) if k != i] for i in range(n)]
        strangers = [[T[i, k] for k in range(n) if labels[k] != labels[i]] for i in range(n)]
        pairs = [(i, k) for i in range(n) for k in range(n) if i != k and labels[i] == labels[k]]
        return [t for row in rows for t in row], [(T[i, k], rows[i], rows[i], strangers[i]) for i, k in pairs]
    T = inputs[0]
    if setting == "views":
        T = np.array([[sum(a * b for a, b in zip(x, y, strict=True)) / 0.5 for y in inputs[1]] for x in inputs[0]])
    rows = [[T[i, k] for k in range(len(T)) if k != i] for i in range(len(T))]
    return [t for row in rows for t in row], [(T[i, i], row, [T[i, i], *row[1:]], row) for i, row in enumerate(rows)]


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def formula(name, marginal, pairs, nu=1.0, divergence="gan", exp=math.exp, log=math.log):
    """Estimate, objective and normalizer."""
    joint = [j for j, *_ in pairs]
    log_z = log(mean(map(exp, marginal)))
    match name:
        case "infonce_anchor":
            k = len(pairs[0][1])
            positive = mean(log(exp(j) / (nu + sum(map(exp, swapped)))) for j, _, swapped, _ in pairs)
            anchor = mean(log(nu / (nu + sum(map(exp, drawn)))) for _, drawn, _, _ in pairs)
            likelihood = (k * positive + nu * anchor) / (k + nu)  # minus L_K,nu, the published cross-entropy
            constant = (k * log(1 / (nu + k)) + nu * log(nu / (nu + k))) / (k + nu)
            return mean(joint), (likelihood - constant) * (k + nu) / k, log_z
        case "sigmoid":
            m = len(marginal) / len(joint)
            total = -sum(log(1 + exp(-j)) for j in joint) - sum(log(1 + exp(t)) for t in marginal)
            return mean(j + log(m) for j in joint) + 1 - m * exp(log_z), total / len(joint), log_z + log(m)
        case "fdime":
            first, second = {
                "kl": (lambda t: t, lambda t: exp(t) - 1),
                "gan": (lambda t: -log(1 + exp(-t)), lambda t: log(1 + exp(t))),
                "hd": (lambda t: 1 - exp(-t / 2), lambda t: exp(t / 2) - 1),
            }[divergence]
            return mean(joint), mean(map(first, joint)) - mean(map(second, marginal)), log_z
        case "dcl":
            with_others = [(j, others) for j, _, _, others in pairs if others]
            row = mean(log(mean(map(exp, others))) for _, others in with_others)
            value = mean(j for j, _ in with_others) - row
            return value, value, row


def read(name, chosen, setting, inputs):
    return get(name, **chosen)(SETTINGS[setting][0](*inputs))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-9)], ids=["float32", "float64"])
@pytest.mark.parametrize("leading", [(), (3,), (2, 3)], ids=str)
@each_setting
@each_case
def test_formula(name, chosen, setting, leading, dtype, tolerance):
    if name == "dcl" and setting in ROWLESS:
        pytest.skip("DCL has nothing to leave out")
    inputs = draw(setting, leading, dtype)
    reading = read(name, chosen, setting, inputs)
    arrays = [x.double().numpy() if x.is_floating_point() else x.numpy() for x in inputs]
    wanted = [formula(name, *loops(setting, [x[run] for x in arrays]), **chosen) for run in np.ndindex(leading)]
    found = zip(reading.estimate.flatten(), reading.objective.flatten(), reading.normalizer.flatten(), strict=True)
    for values, expected in zip(found, wanted, strict=True):
        assert [value.item() for value in values] == pytest.approx(expected, rel=tolerance, abs=tolerance)
    assert_close(reading.joint_term - reading.marginal_term, reading.objective)
    assert {(value.shape, value.dtype) for value in reading} == {(leading, dtype)}


@each_setting
@each_case
def test_gradient_is_that_of_the_objective(name, chosen, setting):
    if name == "dcl" and setting in ROWLESS:
        pytest.skip("DCL has nothing to leave out")
    inputs = [x.requires_grad_(x.is_floating_point()) for x in draw(setting, scale=1.0)]
    assert torch.autograd.gradcheck(lambda *x: read(name, chosen, setting, x).objective, inputs)


# ---- Hand numbers: exp T = [[4, 1], [3, 2]], mean j = 3/2 log 2, exp m = {1, 3} ---------------------------------------------


@pytest.mark.parametrize(
    ("name", "chosen", "estimate", "objective", "normalizer"),
    [
        # K = 1: S_1 = {4, 2}, S_0 = {1, 3}
        (
            "infonce_anchor",
            {},
            1.5 * LOG2,
            1.5 * LOG2 - (math.log(5 / 2) + math.log(3 / 2)) / 2 - (math.log(2 / 2) + math.log(4 / 2)) / 2,
            LOG2,
        ),
        (
            "infonce_anchor",
            {"nu": 2.0},
            1.5 * LOG2,
            1.5 * LOG2 - (math.log(6 / 3) + math.log(4 / 3)) / 2 - 2 * (math.log(3 / 3) + math.log(5 / 3)) / 2,
            LOG2,
        ),
        # one marginal pair per joint one: JS
        ("sigmoid", {}, 1.5 * LOG2 - 1, -(math.log(1.25) + math.log(1.5)) / 2 - 1.5 * LOG2, LOG2),
        ("fdime", {"divergence": "kl"}, 1.5 * LOG2, 1.5 * LOG2 - 1, LOG2),
        ("fdime", {"divergence": "gan"}, 1.5 * LOG2, -(math.log(1.25) + math.log(1.5)) / 2 - 1.5 * LOG2, LOG2),
        # exp(-T/2) = {1/2, 1/sqrt 2}, exp(T/2) = {1, sqrt 3}
        ("fdime", {"divergence": "hd"}, 1.5 * LOG2, 2 - (0.5 + 0.5**0.5) / 2 - (1 + 3**0.5) / 2, LOG2),
        ("dcl", {}, 1.5 * LOG2 - math.log(3) / 2, 1.5 * LOG2 - math.log(3) / 2, math.log(3) / 2),
    ],
)
def test_hand_numbers(name, chosen, estimate, objective, normalizer):
    reading = get(name, **chosen)(Scores.from_matrix(MATRIX))
    found = [reading.estimate.item(), reading.objective.item(), reading.normalizer.item()]
    assert found == pytest.approx([estimate, objective, normalizer], abs=1e-12)


def test_hand_numbers_of_what_is_no_loss():
    scores = Scores.from_matrix(MATRIX)
    assert [value.item() for value in club(scores)] == pytest.approx(
        [1.5 * LOG2 - math.log(3) / 2] * 2 + [1.5 * LOG2] + [math.log(3) / 2] * 2, abs=1e-12
    )
    # u = {0, log 2}: 1 - (0 + 1/4 + log 2 + 1/2 * 3/2) / 2
    reading = flo(scores, tensor([0.0, LOG2], dtype=torch.float64))
    assert reading.objective.item() == pytest.approx(1 - (1 + LOG2) / 2, abs=1e-12)
    assert [reading.joint_term.item(), reading.marginal_term.item()] == pytest.approx([-LOG2 / 2, -1 / 2], abs=1e-12)
    assert reading.estimate == reading.objective
    assert reading.normalizer.item() == pytest.approx(LOG2, abs=1e-12)


# ---- The two that are functions of their own: FLO of two scores, CLUB, which has no maximum --------------------------------


def functions(setting, inputs, exp=math.exp):
    """Objectives of FLO and of CLUB by loops; the last input is u, for every joint pair."""
    *inputs, u = inputs
    marginal, pairs = loops(setting, inputs)
    if setting == "embeddings":  # its u has a value for every entry of the matrix
        labels = inputs[1]
        u = [u[i * len(labels) + k] for i in range(len(labels)) for k in range(len(labels)) if i != k and labels[i] == labels[k]]
    terms = [v + exp(-v) * mean(exp(t - j) for t in row) for v, (j, row, *_) in zip(u, pairs, strict=True)]
    return 1 - mean(terms), mean(j for j, *_ in pairs) - mean(marginal)


def with_u(setting, leading=(), dtype=torch.float64, scale=1.0):
    inputs = draw(setting, leading, dtype, scale=scale)
    shape = SETTINGS[setting][0](*inputs).joint.shape
    return [*inputs, scale * torch.randn(shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64).to(dtype)]


def both(setting, inputs):
    *inputs, u = inputs
    scores = SETTINGS[setting][0](*inputs)
    return [flo(scores, u), club(scores)]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-9)], ids=["float32", "float64"])
@pytest.mark.parametrize("leading", [(), (3,)], ids=str)
@each_setting
def test_formula_of_the_functions(setting, leading, dtype, tolerance):
    inputs = with_u(setting, leading, dtype)
    arrays = [x.double().numpy() if x.is_floating_point() else x.numpy() for x in inputs]
    wanted = [functions(setting, [x[run] for x in arrays]) for run in np.ndindex(leading)]
    for reading, expected in zip(both(setting, inputs), zip(*wanted, strict=True), strict=True):
        assert reading.objective.flatten().tolist() == pytest.approx(expected, rel=tolerance, abs=tolerance)
        assert torch.equal(reading.estimate, reading.objective)
        assert_close(reading.joint_term - reading.marginal_term, reading.objective)
        assert {(value.shape, value.dtype) for value in reading} == {(leading, dtype)}


@pytest.mark.parametrize("scale", [1e-3, 1.0, 60.0, 800.0, 1e4])
@pytest.mark.parametrize("setting", ["unpaired", "matrix", "logits"])
def test_extreme_scores_of_the_functions(setting, scale):
    mpmath.mp.dps = 40
    for kind in (lambda t: t, torch.sign, torch.ones_like, lambda t: -torch.ones_like(t)):
        inputs = [(scale * kind(x)).float().requires_grad_() if x.is_floating_point() else x for x in with_u(setting)]
        arrays = [
            np.vectorize(mpmath.mpf, otypes=[object])(x.detach().double().numpy()) if x.is_floating_point() else x.numpy()
            for x in inputs
        ]
        for reading, expected in zip(both(setting, inputs), functions(setting, arrays, mpmath.exp), strict=True):
            assert not any(value.isnan() for value in reading)
            if abs(expected) > torch.finfo(torch.float32).max:
                assert reading.objective.item() == -math.inf
                continue
            # an exponential of e has the rounding of e: some 4 scale in float32
            close = {"rel": max(1e-5, 1e-6 * scale), "abs": 1e-6 * max(1.0, 4 * scale)}
            assert reading.objective.item() == pytest.approx(float(expected), **close)
            gradients = torch.autograd.grad(
                reading.objective, [x for x in inputs if x.is_floating_point()], retain_graph=True, allow_unused=True
            )
            assert all(gradient is None or gradient.isfinite().all() for gradient in gradients)


@each_setting
def test_gradient_of_the_functions(setting):
    inputs = [x.requires_grad_(x.is_floating_point()) for x in with_u(setting)]
    for which in (0, 1):
        assert torch.autograd.gradcheck(lambda *x, which=which: both(setting, x)[which].objective, inputs)


@each_setting
def test_functions_compile_as_one_graph_and_take_half_precision(setting):
    inputs = with_u(setting, dtype=torch.float32)
    compiled = torch.compile(lambda *x: [r.objective for r in both(setting, x)], fullgraph=True, backend="aot_eager")
    for value, reading in zip(compiled(*inputs), both(setting, inputs), strict=True):
        assert_close(value, reading.objective)
    half = [x.bfloat16() if x.is_floating_point() else x for x in inputs]
    again = [x.float() if x.is_floating_point() else x for x in half]
    for reading, wanted in zip(both(setting, half), both(setting, again), strict=True):
        assert reading.objective.dtype == torch.float32
        assert_close(reading.objective, wanted.objective)


# ---- Laws -----------------------------------------------------------------------------------------------------------------


def test_one_sample_and_an_anchor_are_js():
    scores = Scores.from_matrix(torch.randn(50, 2, 2, generator=torch.Generator().manual_seed(0)).double())
    assert_close(get("infonce_anchor")(scores).objective, get("js")(scores).objective + 2 * LOG2)


def test_without_weight_the_anchor_is_infonce_with_the_pair_in_place_of_one():
    matrix = torch.randn(6, 6, generator=torch.Generator().manual_seed(0)).double()
    kept = ~torch.eye(6, dtype=torch.bool)
    kept[:, 0] = False
    kept[0, 1] = False
    infonce = get("infonce")(Scores(matrix.diagonal(), matrix, row_mask=kept | torch.eye(6, dtype=torch.bool), rowwise=True))
    assert_close(get("infonce_anchor", nu=1e-12)(Scores.from_matrix(matrix)).objective, infonce.objective)


@pytest.mark.parametrize("setting", ["logits", "embeddings"])
def test_where_q_is_exact_the_anchor_falls_with_its_weight_from_infonce_to_tuba(setting):
    """A row that holds all of Q is what K is for large K: with weight, Donsker-Varadhan of the row comes down to TUBA."""
    scores = SETTINGS[setting][0](*draw(setting, (50,), scale=0.7))
    values = [get("infonce_anchor", nu=nu)(scores).objective for nu in (1e-3, 0.1, 1.0, 10.0, 1e3, 1e7)]
    for higher, lower in pairwise([get("infonce")(scores).objective, *values]):
        assert (higher > lower).all()
    assert_close(values[0], get("infonce")(scores).objective, rtol=0, atol=1e-2)
    total = scores.joint_mean() - scores.row_mean(lambda t, total, log_n: (total - log_n).exp() - 1, "marginal")
    assert (values[-1] > total - 1e-8).all()
    assert_close(values[-1], total, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("nu", [0.1, 1.0, 10.0])
def test_with_many_samples_the_anchor_lies_between_donsker_varadhan_and_tuba(nu):
    T = 0.5 + torch.randn(20, 1, 1000, generator=torch.Generator().manual_seed(0)).double()
    scores = Scores(T[:, 0, :30] / 10, T)  # no joint pair counts among a thousand
    dv, anchored, tuba = (
        get(name, **chosen)(scores).objective
        for name, chosen in (("mine", {}), ("infonce_anchor", {"nu": 1000 * nu}), ("tuba", {}))
    )
    assert (dv > anchored).all()
    assert (anchored > tuba).all()
    z = scores.log_mean_exp().exp()
    assert_close(anchored, scores.joint_mean() - (1 + nu) * ((nu + z) / (1 + nu)).log(), rtol=0, atol=0.02)


@pytest.mark.parametrize(("name", "chosen"), [case for case in CASES if case[0] not in ("dcl", "sigmoid")], ids=str)
def test_the_ratio_itself_is_best_where_the_offset_is_held(name, chosen):
    """Eight symbols, Y = X nine times in ten: every offset lowers the mean objective, and so does another critic."""
    best = RATIO.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(population(name, chosen, best), best)
    assert gradient.abs().max() < 1e-12
    for move in (0.3, -0.3, torch.randn(8, 8, generator=torch.Generator().manual_seed(0)).double() / 3):
        assert population(name, chosen, RATIO + move) < population(name, chosen, RATIO) - 1e-4


COUNTS = torch.full((8, 8), 8).fill_diagonal_(144)  # pairs of P among 1,600
RATIO = (COUNTS.double() / 25).log()


def population(name, chosen, T):
    """The mean objective of a critic T[x, y]; of the anchor with K = 3, over all 8^3 samples from Q of every x."""
    if name != "infonce_anchor":
        return get(name, **chosen)(Scores(T.flatten().repeat_interleave(COUNTS.flatten()), T)).objective
    joint = T.view(8, 8, 1, 1).expand(8, 8, 512, 1)
    marginal = T[:, torch.cartesian_prod(*[torch.arange(8)] * 3)].view(8, 1, 512, 1, 3).expand(8, 8, 512, 1, 3)
    return (get(name, **chosen)(Scores(joint, marginal)).objective.mean(-1) * COUNTS / 1600).sum()


@pytest.mark.parametrize("m", [1, 3])
def test_the_sigmoid_loss_is_best_at_the_ratio_less_log_m(m):
    def reading(T):
        return get("sigmoid")(Scores(T.flatten().repeat_interleave(COUNTS.flatten()), T.repeat(25 * m, 1)))

    best = (RATIO - math.log(m)).requires_grad_()
    (gradient,) = torch.autograd.grad(reading(best).objective, best)
    assert gradient.abs().max() < 1e-12
    for move in (0.3, -0.3, torch.randn(8, 8, generator=torch.Generator().manual_seed(0)).double() / 3):
        assert reading(best + move).objective < reading(best).objective - 1e-4
    assert_close(reading(best).estimate, (COUNTS / 1600 * RATIO).sum())
    assert_close(reading(best).normalizer, torch.zeros((), dtype=torch.float64), rtol=0, atol=1e-12)


def test_the_sigmoid_loss_is_siglips():
    z1, z2, bias = *draw("views"), -3.0
    logits = z1 @ z2.mT / 0.1 + bias
    signs = 2 * torch.eye(6) - 1
    assert_close(Loss("sigmoid", bias=bias, normalize=False)(z1, z2), -logsigmoid(signs * logits).sum() / 6)


@pytest.mark.parametrize("setting", ["matrix", "views"])
def test_a_row_of_dcl_has_no_offset_no_positive_and_no_ceiling(setting):
    scores = SETTINGS[setting][0](*draw(setting, (50,)))
    dcl, infonce = get("dcl")(scores).estimate, get("infonce")(scores)
    assert (dcl > infonce.estimate).sum() > 25
    high = Scores.from_matrix(100 * torch.eye(6).double())
    assert get("dcl")(high).estimate.item() == 100 > math.log(6)
    moved = Scores.from_matrix(MATRIX + tensor([[3.0], [-7.0]]))
    assert_close(get("dcl")(moved).estimate, get("dcl")(Scores.from_matrix(MATRIX)).estimate)


def test_dcl_has_infonces_gradient_but_for_the_positives_own_push():
    """log(e^j + N) - j falls by N / (e^j + N); without the positive in the sum, by 1: the coupling that they take away."""
    matrix = (2 * torch.randn(5, 5, generator=torch.Generator().manual_seed(0))).double().requires_grad_()
    infonce, dcl = (
        torch.autograd.grad(get(name)(Scores.from_matrix(matrix)).objective, matrix)[0] for name in ("infonce", "dcl")
    )
    assert_close(dcl.diagonal(), torch.full((5,), 0.2).double())
    assert_close(infonce, dcl * (5 * infonce.diagonal()).unsqueeze(1))


def test_an_anchor_whose_whole_batch_is_its_class_counts_for_nothing_in_dcl():
    z, labels = draw("embeddings")
    alike = torch.zeros(6, dtype=torch.long)
    z = z.requires_grad_()
    reading = get("dcl")(Scores.from_embeddings(torch.stack([z, z]), torch.stack([alike, labels])))
    (gradient,) = torch.autograd.grad(reading.objective.sum(), z)
    (alone,) = torch.autograd.grad(get("dcl")(Scores.from_embeddings(z, labels)).objective, z)
    assert_close(gradient, alone)
    assert reading.objective[0] == 0


def test_flo_is_tuba_where_its_functions_are_one_and_tight_at_its_best():
    matrix = torch.randn(20, 6, 6, generator=torch.Generator().manual_seed(0)).double()
    scores = Scores.from_matrix(matrix)
    assert_close(flo(scores, -scores.joint)[:2], get("tuba")(scores)[:2])
    total, log_n, _ = scores.row("marginal")
    best = total - log_n - scores.joint
    assert_close(flo(scores, best).estimate, get("dcl")(scores).estimate)
    for move in (0.5, -0.5, torch.randn(20, 6, generator=torch.Generator().manual_seed(1)).double()):
        assert (flo(scores, best + move).estimate < get("dcl")(scores).estimate).all()
    offsets = torch.arange(6.0).double().unsqueeze(1)
    assert_close(
        flo(scores.map(lambda t: t + offsets if t.ndim == 3 else t + offsets[:, 0]), best).estimate, flo(scores, best).estimate
    )


def test_flo_has_the_gradient_of_its_two_functions():
    inputs = [x.requires_grad_() for x in (*draw("matrix"), torch.randn(6, generator=torch.Generator().manual_seed(0)).double())]
    assert torch.autograd.gradcheck(lambda T, u: flo(Scores.from_matrix(T), u).objective, inputs)
    with pytest.raises(ValueError, match=r"u must have a value per joint pair, \(6,\); got \(5,\)"):
        flo(Scores.from_matrix(inputs[0]), inputs[1][:5])


@pytest.mark.parametrize("setting", ["unpaired", "matrix", "embeddings"])
def test_a_second_output_goes_where_its_scores_go(setting):
    inputs = [draw(setting), draw(setting, scale=0.5)]
    T, u = (SETTINGS[setting][0](*one) for one in inputs)
    if setting == "embeddings":
        u = replace(u, joint_mask=T.joint_mask)
    both = replace(T, joint=torch.stack([T.joint, u.joint]), marginal=torch.stack([T.marginal, u.marginal]))
    scores = with_second(lambda scores: scores)(both)
    assert torch.equal(scores.second, u.joint)
    assert torch.equal(scores.joint, T.joint)
    assert torch.equal(scores.marginal, T.marginal)
    assert torch.equal(scores.map(lambda t: t + 1).second, u.joint)
    assert flo(scores, scores.second) == flo(T, u.joint)


def test_the_upper_readings_are_above_and_the_lower_one_below():
    """Two Gaussians of 1 nat; T = log p(y|x), rows anchored at y. Means over 4,000 batches of 8."""
    rho = math.sqrt(1 - math.exp(-2))
    x, e = torch.randn(2, 4000, 8, generator=torch.Generator().manual_seed(0)).double()
    y = rho * x + math.sqrt(1 - rho**2) * e
    scores = Scores.from_matrix(-((y.unsqueeze(-1) - rho * x.unsqueeze(-2)) ** 2) / 2 / (1 - rho**2))
    assert club(scores).estimate.mean() > get("dcl")(scores).estimate.mean() > 1 > get("infonce")(scores).estimate.mean()
    assert club(scores).estimate.mean().item() == pytest.approx(rho**2 / (1 - rho**2), rel=0.05)  # D plus its reverse


def test_the_estimate_is_the_plug_in_where_no_bound_is_meant():
    scores = Scores.from_matrix(MATRIX)
    for name, chosen in CASES[:3] + CASES[4:7]:
        assert torch.equal(get(name, **chosen)(scores).estimate, scores.joint_mean())
    for divergence, same in (("kl", "tuba"), ("gan", "js")):
        assert get("fdime", divergence=divergence)(scores)[1:] == get(same)(scores)[1:]


def test_order_does_not_matter_but_for_the_sample_that_the_anchor_leaves_out():
    order = tensor([3, 5, 0, 1, 4, 2])
    for name, chosen in CASES:
        moved = (
            tensor([0, 1, 5, 3, 4, 2]) if name == "infonce_anchor" else order
        )  # it leaves out item 0, and 1 where that is its own
        for setting in SETTINGS:
            if (name, setting) in {("dcl", "unpaired"), ("dcl", "logits")}:
                continue
            inputs = draw(setting)
            again = [x[moved][:, moved] if setting == "matrix" else x[moved] for x in inputs]
            assert_close(tuple(read(name, chosen, setting, again)), tuple(read(name, chosen, setting, inputs)))


# ---- Extremes ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-3, 1.0, 60.0, 800.0, 1e4])
@pytest.mark.parametrize("setting", ["unpaired", "matrix", "logits"])
@each_case
def test_extreme_scores_are_read_as_the_formula_says(name, chosen, setting, scale):
    if name == "dcl" and setting in ROWLESS:
        pytest.skip("DCL has nothing to leave out")
    mpmath.mp.dps = 40
    for kind in (lambda t: t, torch.sign, torch.ones_like, lambda t: -torch.ones_like(t)):
        inputs = [(scale * kind(x)).float().requires_grad_() if x.is_floating_point() else x for x in draw(setting, scale=1.0)]
        reading = read(name, chosen, setting, inputs)
        arrays = [
            np.vectorize(mpmath.mpf, otypes=[object])(x.detach().double().numpy()) if x.is_floating_point() else x.numpy()
            for x in inputs
        ]
        wanted = formula(name, *loops(setting, arrays), **chosen, exp=mpmath.exp, log=mpmath.log)
        for value, expected in zip((reading.estimate, reading.objective, reading.normalizer), wanted, strict=True):
            if abs(expected) > torch.finfo(torch.float32).max:
                assert value.item() == math.copysign(math.inf, expected)
            else:
                largest = max(1.0, 4 * scale, abs(float(expected)))
                assert value.item() == pytest.approx(float(expected), rel=1e-5, abs=1e-6 * largest)
        gradients = torch.autograd.grad(reading.objective, [x for x in inputs if x.is_floating_point()])
        if reading.objective.isfinite():
            assert all(gradient.isfinite().all() for gradient in gradients)
        else:
            assert name == "fdime"
            assert chosen["divergence"] in ("kl", "hd")


@each_case
def test_labels_at_extreme_scores_have_no_nan(name, chosen):
    for sign in (1, -1):
        z = torch.full((4, 1), 100.0).requires_grad_()  # scores of 1e4
        reading = get(name, **chosen)(Scores.from_embeddings(z, tensor([0, 0, 1, 1])).map(lambda t, sign=sign: sign * t))
        assert not any(value.isnan() for value in reading)
        if reading.objective.isfinite():
            assert torch.autograd.grad(reading.objective, z)[0].isfinite().all()


# ---- Registry ---------------------------------------------------------------------------------------------------------------


def test_registry():
    assert estimators.RIVALS == RIVALS
    assert {name: {key: option.default for key, option in estimators.options(name).items()} for name in RIVALS} == {
        "infonce_anchor": {"nu": 1.0},
        "sigmoid": {},
        "fdime": {"divergence": "gan"},
        "dcl": {},
    }
    assert [estimators.family(name) for name in RIVALS] == list(RIVALS)
    assert not set(RIVALS) & set(estimators.NAMES)
    for name, chosen in CASES:
        scores = Scores.from_matrix(MATRIX)
        assert get(name.upper(), **chosen)(scores) == RIVALS[name](scores, **chosen) == Reading(*get(name, **chosen)(scores))
    for name, default in (("infonce_anchor", {"nu": 1.0}), ("fdime", {"divergence": "gan"})):
        assert get(name)(Scores.from_matrix(MATRIX)) == get(name, **default)(Scores.from_matrix(MATRIX))


@pytest.mark.parametrize(
    ("name", "chosen", "message"),
    [
        ("redcl", {}, "name must be one of mine, .*, rejs, infonce_anchor, sigmoid, fdime, dcl; got 'redcl'"),
        ("dcl", {"lam": 1.0}, "dcl has no option 'lam'; it has none"),
        ("infonce_anchor", {"lam": 1.0}, "infonce_anchor has no option 'lam'; it has nu"),
        ("infonce_anchor", {"nu": 0}, "nu must be a finite number > 0; got 0"),
        ("infonce_anchor", {"nu": math.inf}, "nu must be a finite number > 0; got inf"),
        ("fdime", {"divergence": "js"}, "divergence must be one of 'kl', 'gan', 'hd'; got 'js'"),
    ],
)
def test_errors_list_what_is_allowed(name, chosen, message):
    with pytest.raises(ValueError, match=message):
        get(name, **chosen)


@pytest.mark.parametrize("setting", ROWLESS)
def test_dcl_refuses_rows_that_do_not_say_what_is_joint(setting):
    with pytest.raises(ValueError, match=r"build (the scores|them) with from_matrix, from_views"):
        read("dcl", {}, setting, draw(setting))
    masked = every_pair(MATRIX)
    with pytest.raises(ValueError, match="these scores do not say which entries of a row are joint pairs"):
        get("dcl")(masked)
