"""The estimate on problems whose answer is known, its interval, its words, and one error for every mistake."""

import json
import math
import re

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import remi
from remi import Scores, estimate_mi, kl
from remi.__main__ import main
from remi.estimation import plan, rows, starts
from remi.estimation.columns import TRANSFORMS
from remi.estimation.estimate import Estimate, compare
from remi.estimation.plan import LOSSES, Plan
from remi.training.critics import SeparableCritic

QUICK = {"steps": 150, "restarts": 1}  # enough where the start is near the answer


def gaussian(n, dim, mi, seed=0):
    x, noise = np.random.default_rng(seed).normal(size=(2, n, dim))
    rho = math.sqrt(1 - math.exp(-2 * mi / dim))
    return x, rho * x + math.sqrt(1 - rho**2) * noise


def independent(n, dim, seed=0):
    return gaussian(n, dim, 0.0, seed)


def channel(n, flipped, seed=0):
    """A uniform bit, and the same bit but for a share of errors."""
    rng = np.random.default_rng(seed)
    sent = rng.integers(2, size=n)
    truth = math.log(2) + flipped * math.log(flipped) + (1 - flipped) * math.log(1 - flipped)
    return sent, np.where(rng.random(n) < flipped, 1 - sent, sent), truth


X, Y = gaussian(200, 2, 1.0)
FRAME = pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "code": np.arange(200) % 3, "word": ["u", "v"] * 100})


# 1. Known answers: a tolerance is 4 standard errors of the sample's own mean log-ratio, sqrt(dim) rho / sqrt(n)
@pytest.mark.slow
@pytest.mark.parametrize(("n", "dim", "mi"), [(2000, 1, 0.5), (2000, 5, 1.0), (2000, 10, 2.0)])
def test_gaussians(n, dim, mi):
    found = estimate_mi(*gaussian(n, dim, mi), **QUICK)
    rho = math.sqrt(1 - math.exp(-2 * mi / dim))
    assert abs(found.value - mi) < 4 * math.sqrt(dim) * rho / math.sqrt(n) + 0.02
    assert found.interval[0] < found.value <= found.interval[1]


def test_independent_rows_show_nothing():
    found = estimate_mi(*independent(500, 3), **QUICK)
    assert found.interval[0] <= 0 <= found.interval[1]
    assert abs(found.value) < 0.02
    assert re.search(f"no dependence(.*) {found.interval[1]:.3f} nats", "\n".join(found.diagnostics)), found


def test_dependence_without_correlation_is_found():
    x = np.random.default_rng(0).normal(size=600)
    found = estimate_mi(x, x**2 + 0.1 * np.random.default_rng(1).normal(size=600), steps=600, restarts=1)
    assert found.interval[0] > 0.5


@pytest.mark.parametrize("kind", ["bool", "str", "category", "asked"])
def test_a_discrete_channel(kind):
    x, y, truth = channel(1000, 0.1)
    asked = {"discrete": ["x", "y"]} if kind == "asked" else {}
    x, y = (pd.Series(values) if kind == "asked" else pd.Series(values).astype(kind) for values in (x, y))
    found = estimate_mi(x, y, **asked, **QUICK)
    assert abs(found.value - truth) < 0.08  # standard deviation of the log-ratio, .66, over sqrt(1000), four times
    assert all("2 levels, one-hot" in text for text in found.features)


def test_mixed_columns():
    rng = np.random.default_rng(0)
    label = rng.integers(3, size=600)
    frame = pd.DataFrame({"number": rng.normal(size=600), "word": np.array(["a", "b", "c"])[label]})
    found = estimate_mi(frame, label, discrete="y", **QUICK)
    assert found.value == pytest.approx(math.log(3), abs=0.1)
    assert found.features == (
        "number: continuous, normal scores of the ranks",
        "word: discrete, 3 levels, one-hot",
        "y: discrete, 3 levels, one-hot",
    )


@pytest.mark.parametrize("dim", [1, 3])
def test_kl_of_gaussians(dim):
    rng = np.random.default_rng(0)
    found = kl(rng.normal(0.5, 1, size=(1000, dim)), rng.normal(0, 1, size=(1500, dim)), **QUICK)
    assert found.value == pytest.approx(dim * 0.5**2 / 2, abs=0.1)


def test_kl_of_a_population_from_itself():
    found = kl(np.random.default_rng(0).normal(size=400), np.random.default_rng(1).normal(size=300), **QUICK)
    assert found.interval[0] <= 0 <= found.interval[1]


def test_kl_is_not_symmetric():
    rng = np.random.default_rng(0)
    narrow, wide = rng.normal(0, 0.5, size=2000), rng.normal(0, 1, size=2000)
    assert kl(narrow, wide, **QUICK).value == pytest.approx(math.log(2) + 1 / 8 - 1 / 2, abs=0.08)
    assert kl(wide, narrow, **QUICK).value > 0.45  # ln(1/2) + 2 - 1/2 = .81, and its second term has no variance


@pytest.mark.slow
@pytest.mark.parametrize("bound", LOSSES)
def test_every_bound_reads_a_gaussian(bound):
    found = estimate_mi(*gaussian(1000, 2, 0.5), bound=bound, steps=300, restarts=1)
    assert found.value == pytest.approx(0.5, abs=0.15)


@pytest.mark.slow
@pytest.mark.parametrize("bound", [name for name in LOSSES if not name.endswith("infonce")])
def test_every_bound_but_infonce_reads_two_samples(bound):
    rng = np.random.default_rng(0)
    found = kl(rng.normal(0.7, 1, size=1000), rng.normal(size=1000), bound=bound, steps=300, restarts=1)
    assert found.value == pytest.approx(0.245, abs=0.15)


@pytest.mark.parametrize(
    ("bound", "options"), [("infonce_anchor", {"nu": 3.0}), ("sigmoid", {}), ("fdime", {"divergence": "hd"})]
)
def test_of_a_later_loss_donsker_varadhans_value_is_reported(bound, options):
    found = estimate_mi(*gaussian(400, 2, 1.0), bound=bound.upper(), steps=50, restarts=1, **options)
    assert found.settings["bound"] == bound
    assert found.readings["held-out bound"] == pytest.approx(found.readings["Donsker-Varadhan"], abs=1e-6)


def test_the_sigmoid_loss_is_trained_where_the_log_ratio_is_its_best_critic():
    """Eight symbols, Y = X nine times in ten, and three pairs from Q to one from P: without a bias its best is log r - log 3."""
    counts = torch.full((8, 8), 8).fill_diagonal_(144)
    log_ratio = (counts.double() / 25).log().requires_grad_()
    joint, marginal = log_ratio.flatten().repeat_interleave(counts.flatten()), log_ratio.repeat(75, 1)
    plan = Plan("sigmoid", 0, 5, 1, 64, 100, 1e-3)
    reading = plan.read(Scores(joint[None], marginal[None]))
    (gradient,) = torch.autograd.grad(reading.objective.sum(), log_ratio)
    assert gradient.abs().max() < 1e-12
    assert reading.estimate.item() == pytest.approx((counts / 1600 * log_ratio).sum().item())


# 2. Laws
def test_the_same_seed_gives_the_same_bits():
    x, y = gaussian(200, 2, 1.0)
    first, second, other = (estimate_mi(x, y, seed=seed, steps=100) for seed in (0, 0, 1))
    assert first.as_dict() == second.as_dict()
    assert all(np.array_equal(first.history[key], second.history[key]) for key in first.history)
    assert first.value != other.value


def test_global_random_state_and_inputs_are_left_alone():
    x, y = (torch.tensor(z) for z in gaussian(100, 2, 1.0))
    before, state = (x.clone(), y.clone()), torch.get_rng_state()
    estimate_mi(x, y, steps=50)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip((x, y), before, strict=True))


def test_an_increasing_map_of_a_column_changes_nothing():
    x, y = gaussian(300, 2, 1.0)
    assert estimate_mi(x, y, steps=50).value == estimate_mi(np.exp(x), y**3, steps=50).value


def test_all_kinds_of_input_are_one():
    x, y = gaussian(200, 2, 1.0)
    kinds = [x, torch.tensor(x), torch.tensor(x, requires_grad=True), np.asfortranarray(x), pd.DataFrame(x)]
    values = {estimate_mi(kind, y, steps=0).value for kind in kinds}
    assert len(values) == 1


def test_one_dimension_is_one_feature():
    x, y = gaussian(200, 1, 0.5)
    kinds = [x, x[:, 0], torch.tensor(x[:, 0]), pd.Series(x[:, 0], name="a"), pd.DataFrame({"a": x[:, 0]})]
    assert len({estimate_mi(kind, y, steps=0).value for kind in kinds}) == 1


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_transforms_agree_where_they_may(transform):
    found = estimate_mi(*gaussian(1000, 2, 0.5), transform=transform, **QUICK)
    assert found.value == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (np.random.default_rng(0).standard_cauchy((200, 2)), np.random.default_rng(1).standard_cauchy(200)),
        (np.round(X[:, 0]), np.round(Y)),
        (np.repeat(X[:100], 2, 0), np.repeat(Y[:100], 2, 0)),
        (X, X),
        (X[:, [0, 0]], Y),
        (X * 1e300, Y * 1e-300),
        (np.eye(20, 1)[:, 0], np.arange(20.0)),
        (np.random.default_rng(0).normal(size=(40, 60)), np.random.default_rng(1).normal(size=(40, 60))),
    ],
    ids=["heavy tails", "ties", "rows twice", "the same", "columns twice", "huge", "one spike", "more columns than rows"],
)
def test_finite_rows_give_finite_numbers(x, y):
    found = estimate_mi(x, y, steps=200, restarts=1)
    assert all(math.isfinite(number) for number in (found.value, *found.interval, *found.readings.values()))
    assert found.interval[0] < found.interval[1]


# 3. Critics of one's own
class Pairs(nn.Module):
    def __init__(self, inputs=4):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(inputs, 16), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, x, y):
        return self.net(torch.cat([x, y], 1)).squeeze(1)


class Wide(Pairs):
    def forward(self, x, y):
        return self.net(torch.cat([x, y], 1))


class Idle(Pairs):
    def __init__(self):
        super().__init__()
        self.unused = nn.Linear(2, 2)


class NoWeights(nn.Module):
    def forward(self, x, y):
        return (x * y).sum(1)


@pytest.mark.parametrize(
    "critic",
    [Pairs(), (nn.Linear(2, 3), nn.Linear(2, 3)), SeparableCritic(nn.Linear(2, 3), nn.Linear(2, 3))],
    ids=["pairs", "encoders", "with a matrix"],
)
def test_a_critic_of_ones_own(critic):
    x, y = gaussian(400, 2, 1.0)
    modules = critic if isinstance(critic, tuple) else (critic,)
    before = [p.clone() for module in modules for p in module.parameters()]
    found = estimate_mi(x, y, critic=critic, steps=300, restarts=1, lr=1e-2)
    assert 0.3 < found.value < 1.2
    assert all(torch.equal(p, q) for p, q in zip((p for m in modules for p in m.parameters()), before, strict=True))


@pytest.fixture(autouse=True)
def seeded():
    """Critics that a test brings along start alike, whatever ran before."""
    torch.manual_seed(0)


class Line(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(1, 1)

    def forward(self, z):
        return self.net(z).squeeze(1)


SHIFTED = np.random.default_rng(0).normal(1, 1, size=500), np.random.default_rng(1).normal(size=500)


@pytest.mark.parametrize("start", [-1.0, 0.0, 0.5])  # of the slope, which has to reach 1; Adam moves by about lr per step
def test_a_critic_of_ones_own_for_two_samples(start):
    line = Line()
    nn.init.constant_(line.net.weight, start)
    found = kl(*SHIFTED, critic=line, transform="standardize", steps=600, restarts=1, lr=1e-2)
    assert found.value == pytest.approx(0.5, abs=0.15)


def test_a_critic_that_had_no_time_is_below_zero_and_said_so():
    line = Line()
    nn.init.constant_(line.net.weight, -1.0)
    found = kl(*SHIFTED, critic=line, steps=50, restarts=1)
    assert found.value < 0 < found.interval[1]
    assert "below 0 by more than its sampling error" in found.diagnostics[0]
    assert any("still improving" in text for text in found.diagnostics)


def test_frozen_parameters_stay_and_batch_statistics_do_not_leak():
    x_part = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    x_part[0].requires_grad_(False)
    estimate_mi(*gaussian(100, 2, 1.0), critic=(x_part, nn.Linear(2, 3)), steps=50, restarts=1)
    assert int(x_part[1].num_batches_tracked) == 0


# 4. What comes back
def test_result_shows_itself():
    found = estimate_mi(*gaussian(200, 2, 1.0), steps=100)
    low, high = found.interval
    assert str(found).startswith(f"{found.value:.3f} nats, 95% interval {low:.3f} to {high:.3f}")
    assert f"{found.value:.3f} nats" in found._repr_html_()
    assert float(found) == found.value
    assert json.loads(json.dumps(found.as_dict()))["settings"]["lam"] == 0.1
    assert found.history["validation"].shape == (5, len(found.history["step"]))
    axes = found.plot().axes[0]
    assert axes.get_ylabel() == "nats"


def test_bits():
    found = estimate_mi(*gaussian(200, 2, 1.0), steps=50)
    assert found.bits.value == found.value / math.log(2)
    assert found.bits.unit == "bits"
    assert found.bits.bits.value == found.bits.value
    assert "bits" in str(found.bits)


def test_no_row_is_read_by_a_critic_that_saw_it():
    chosen = plan.Plan("remine", 0, 5, 2, 128, 100, 1e-3)
    part = rows.split(103, chosen, torch.Generator().manual_seed(0))
    for train, validation, held_out in zip(part.train, part.validation, part.held_out, strict=True):
        together = torch.cat([train, validation, held_out])
        assert sorted(together.tolist()) == list(range(103))
    assert sorted(part.held_out[:5].flatten().tolist()) == sorted(set(part.held_out.flatten().tolist()))


def test_no_row_is_twice_in_a_batch():
    chosen = plan.Plan("remine", 0, 5, 1, 16, 100, 1e-3)
    part = rows.split(100, chosen, torch.Generator().manual_seed(0))
    (drawn,) = rows.batches([part], 16)(torch.Generator().manual_seed(0), 0, 50)
    assert drawn.shape == (50, 16)
    assert all(len(set(rows)) == 16 for rows in drawn.tolist())


def test_the_gaussian_start_is_the_log_ratio():
    x, y = (torch.tensor(z, dtype=torch.float64) for z in gaussian(100_000, 2, 1.0))
    cross, own_x, own_y, *_ = (form.double() for form in starts.gaussian_starts(x, y)[0])
    rho = math.sqrt(1 - math.exp(-1))
    wanted = torch.eye(2).double() * rho / (1 - rho**2), torch.eye(2).double() * -(rho**2) / (1 - rho**2) / 2
    for form, expected in ((cross, wanted[0]), (own_x, wanted[1]), (own_y, wanted[1])):
        assert (form - expected).abs().max() < 0.05  # 100,000 rows: standard errors of about .01


# 5. Words
@pytest.mark.parametrize(
    ("arguments", "chosen", "word"),
    [
        ((X, X), {}, "near log 200 = 5.30"),
        ((X, X), {"bound": "infonce"}, "InfoNCE reads at most log 40"),
        ((FRAME["code"], Y), {}, "if they are codes, name them in discrete"),
        ((np.tile(X[:100], (2, 1)), np.tile(Y[:100], (2, 1))), {}, "100 of 200 rows repeat another"),
        (independent(200, 2), {}, "no dependence"),
        (gaussian(100, 6, 2.0), {"steps": 400, "critic": Pairs(12)}, "rows they have not seen"),
        ((X, Y), {"steps": 50, "critic": Pairs()}, "still improving"),
    ],
)
def test_a_reason_for_doubt_is_said(arguments, chosen, word):
    found = estimate_mi(*arguments, **{**QUICK, **chosen})
    assert re.search(word, "\n".join(found.diagnostics)), found
    assert all(re.search(r"\d", text) for text in found.diagnostics)


def test_a_sound_estimate_has_no_doubt():
    assert estimate_mi(*gaussian(1000, 2, 0.5)).diagnostics == ()


def test_two_samples_that_hardly_meet():
    rng = np.random.default_rng(0)
    found = kl(rng.normal(3, 1, size=200), rng.normal(0, 1, size=200), **QUICK)
    assert re.search("too few rows|hangs on few rows", "\n".join(found.diagnostics)), found
    assert found.interval[0] < 4.5


# 6. Mistakes
def replaced(value, column=0):
    x = X.copy()
    x[3, column] = value
    return x


MALFORMED = {
    "lengths differ": ((X, Y[:-1]), {}, "x and y must have as many rows; got 200 and 199"),
    "nan": ((replaced(np.nan), Y), {}, "x column 'x0' must be finite; got nan in row 3"),
    "inf": ((replaced(np.inf, 1), Y), {}, "x column 'x1' must be finite; got inf in row 3"),
    "minus inf in y": ((X, replaced(-np.inf)), {}, "y column 'y0' must be finite; got -inf in row 3"),
    "nan in a tensor": ((torch.tensor(replaced(np.nan)), Y), {}, "x column 'x0' must be finite"),
    "missing": ((FRAME["a"].where(FRAME["a"] > 0), Y), {}, "x column 'a' must have no missing values"),
    "missing category": ((FRAME["word"].where(FRAME["a"] > 0), Y), {}, "x column 'word' must have no missing values"),
    "nan in codes": ((X, replaced(np.nan)[:, 0]), {"discrete": "y"}, "y must be finite; got NaN or inf in 1 of 200"),
    "few rows": ((X[:19], Y[:19]), {}, "x must have at least 20 rows; got 19"),
    "no rows": ((X[:0], Y[:0]), {}, "x must have at least 20 rows; got 0"),
    "no columns": ((X[:, :0], Y), {}, "x must have at least one column"),
    "empty frame": ((pd.DataFrame(), Y), {}, "x must have at least one column"),
    "3-D": ((X[:, :, None], Y), {}, r"x must be \(n,\) or \(n, features\); got shape \(200, 2, 1\)"),
    "0-D": ((np.float64(1.0), Y), {}, "x must be a NumPy array"),
    "0-D array": ((np.array(1.0), Y), {}, r"x must be .* got shape \(\)"),
    "list": ((X.tolist(), Y), {}, "x must be a NumPy array, a tensor, a pandas DataFrame or Series; got list"),
    "none": ((None, Y), {}, "x must be a NumPy array.*got NoneType"),
    "string": (("a", Y), {}, "x must be a NumPy array.*got str"),
    "object dtype": ((X.astype(object), Y), {}, "x column 'x0' must be of numbers.*got dtype object"),
    "object column": ((pd.Series([{}] * 200, name="a"), Y), {}, "x column 'a' must be of numbers.*got dtype object"),
    "complex": ((X.astype(complex), Y), {}, "x column 'x0' must be of numbers.*got dtype complex"),
    "complex tensor": ((torch.tensor(X.astype(complex)), Y), {}, "x must be a dense tensor of real numbers"),
    "dates": ((X, pd.Series(pd.date_range("2020", periods=200), name="day")), {}, "y column 'day' must be of numbers"),
    "masked": ((np.ma.masked_array(X, X > 0), Y), {}, "x must have no missing values.*masked"),
    "sparse tensor": ((torch.tensor(X).to_sparse(), Y), {}, "x must be a dense tensor"),
    "mixed devices": ((torch.tensor(X), torch.empty(200, 2, device="meta")), {}, "y must be a dense tensor.*meta"),
    "constant": ((np.ones(200), Y), {}, "x must not be constant; got 1.0 in every row"),
    "constant column": ((replaced(0.0) * [0, 1], Y), {}, "x column 'x0' must not be constant; got 0.0"),
    "constant word": ((pd.Series(["a"] * 200, name="w"), Y), {}, "x column 'w' must not be constant; got a"),
    "names twice": ((pd.DataFrame(X, columns=["a", "a"]), Y), {}, "x must have different column names"),
    "too many levels": ((np.array([str(v) for v in X[:, 0]]), Y), {}, "x must have at most a level per 5 rows.*got 200"),
    "unknown discrete": ((FRAME, Y), {"discrete": ["c"]}, "discrete must be among x, y, a, b, code, word, y0, y1; got 'c'"),
    "discrete number": ((FRAME, Y), {"discrete": 3}, "discrete must be a column name or a list of them; got 3"),
    "unknown bound": ((X, Y), {"bound": "mime"}, "bound must be one of mine, .*; got 'mime'"),
    "bound none": ((X, Y), {"bound": None}, "bound must be one of mine, .*; got None"),
    "dcl": ((X, Y), {"bound": "dcl"}, "bound must be one of mine, .*, fdime; got 'dcl'; DCL leaves every row an offset"),
    "club": ((X, Y), {"bound": "CLUB"}, "bound must be one of mine, .*; got 'club'; CLUB is an upper reading"),
    "flo": ((X, Y), {"bound": "flo"}, "bound must be one of mine, .*; got 'flo'; FLO needs a critic of two outputs"),
    "lam of a later loss": ((X, Y), {"bound": "fdime", "lam": 1}, "fdime has no option 'lam'; it has divergence"),
    "negative lam": ((X, Y), {"lam": -1}, "lam must be a finite number >= 0; got -1"),
    "nan lam": ((X, Y), {"lam": math.nan}, "lam must be a finite number >= 0; got nan"),
    "lam of a plain bound": ((X, Y), {"bound": "mine", "lam": 1}, "mine has no option 'lam'"),
    "unknown option": ((X, Y), {"tau": 3}, "remine has no option 'tau'"),
    "unknown transform": ((X, Y), {"transform": "log"}, "transform must be one of rank, standardize, none; got 'log'"),
    "one fold": ((X, Y), {"folds": 1}, "folds must be a whole number from 2 to 100; got 1"),
    "many folds": ((X, Y), {"folds": 100}, "folds must be a whole number from 2 to 50, a quarter of the 200 rows; got 100"),
    "no restarts": ((X, Y), {"restarts": 0}, "restarts must be a whole number from 1 to 100; got 0"),
    "half a batch": ((X, Y), {"batch": 0.5}, "batch must be a whole number.*got 0.5"),
    "negative steps": ((X, Y), {"steps": -1}, "steps must be a whole number.*got -1"),
    "seed of text": ((X, Y), {"seed": "a"}, "seed must be a whole number.*got 'a'"),
    "negative seed": ((X, Y), {"seed": -1}, "seed must be a whole number.*got -1"),
    "seed of truth": ((X, Y), {"seed": True}, "seed must be a whole number.*got True"),
    "lr zero": ((X, Y), {"lr": 0}, "lr must be a positive number; got 0"),
    "lr nan": ((X, Y), {"lr": math.nan}, "lr must be a positive number; got nan"),
    "unknown device": ((X, Y), {"device": "abacus"}, "device must be 'cpu', .*; got 'abacus'"),
    "critic of text": ((X, Y), {"critic": "mlp"}, r"critic must be an nn.Module on pairs .*; got 'mlp'"),
    "three encoders": ((X, Y), {"critic": (nn.Linear(2, 2),) * 3}, "critic must be an nn.Module on pairs"),
    "critic of a wrong size": ((X, Y), {"critic": Pairs(5)}, r"critic must .* on float32 inputs \(3, 2\) and \(3, 2\) it failed"),
    "critic with two axes": ((X, Y), {"critic": Wide()}, r"critic must .* it returned \(3, 1\)"),
    "critic without weights": ((X, Y), {"critic": NoWeights()}, "critic must have parameters to train; got NoWeights"),
    "idle weights": ((X, Y), {"critic": Idle()}, "critic must use every parameter.*unused.weight, unused.bias"),
}


@pytest.mark.parametrize(("arguments", "chosen", "message"), MALFORMED.values(), ids=MALFORMED)
def test_a_mistake_is_one_error(arguments, chosen, message):
    with pytest.raises(ValueError, match=message) as raised:
        estimate_mi(*arguments, **chosen)
    assert raised.value.__suppress_context__ or raised.value.__context__ is None


@pytest.mark.parametrize(
    ("arguments", "chosen", "message"),
    [
        ((X, Y[:, :1]), {}, "p and q must have the same columns"),
        ((FRAME[["a", "b"]], FRAME[["b", "a"]]), {}, "p and q must have the same columns"),
        ((FRAME["a"], FRAME["word"].rename("a")), {}, "p and q column 'a' must be of one type"),
        ((X[:, 0], X[:, 0] > 0), {}, "p and q column 'p' must be of one type; got dtypes float64 and bool"),
        ((FRAME["a"], Y[:, :1]), {}, "p and q must have the same columns"),
        ((X, Y[:10]), {}, "q must have at least 20 rows; got 10"),
        ((X, replaced(np.nan)), {}, "p column 'p0' must be finite; got nan in row 203"),
        ((X, Y), {"bound": "infonce"}, "bound must be one without rows of pairs"),
        ((X, Y), {"critic": Pairs()}, "critic must be an nn.Module on rows"),
    ],
)
def test_a_mistake_with_two_samples_is_one_error(arguments, chosen, message):
    with pytest.raises(ValueError, match=message):
        kl(*arguments, **chosen)


# 7. Command line
@pytest.fixture
def table(tmp_path):
    path = tmp_path / "data.csv"
    pd.DataFrame({"a": X[:100, 0], "b": X[:100, 1], "c": Y[:100, 0], "code": np.arange(100) % 2}).to_csv(path, index=False)
    return str(path)


def test_command_line(table, monkeypatch, capsys):
    monkeypatch.setattr(remi, "estimate_mi", lambda *arguments, **chosen: estimate_mi(*arguments, **chosen, steps=50))
    assert main(["estimate", table, "--x", "a", "b", "--y", "c"]) == 0
    assert " nats, 95% interval " in capsys.readouterr().out
    assert main(["estimate", table, "--x", "a", "b", "--y", "c", "--json", "--bits"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["unit"] == "bits"
    assert found["features"][0] == "a: continuous, normal scores of the ranks"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--x", "a", "--y", "z"], "--y must be among a, b, c, code; got z"),
        (["--x", "a", "--y", "a"], "--x and --y must have no column in common; got a"),
        (["--x", "a", "--y", "c", "--bound", "mime"], "bound must be one of"),
        (["--x", "a", "--y", "c", "--discrete", "d"], "discrete must be among"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(table, arguments, message, capsys):
    assert main(["estimate", table, *arguments]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("remi estimate: ")
    assert message in error


def test_a_file_that_is_not_csv_is_one_line(tmp_path, capsys):
    (tmp_path / "empty.csv").write_text("")
    for name in ("empty.csv", "absent.csv"):
        assert main(["estimate", str(tmp_path / name), "--x", "a", "--y", "b"]) == 1
        assert capsys.readouterr().err.count("\n") == 1


def test_a_comparison_marks_the_truths_that_are_known():
    one = Estimate(0.4, (0.3, 0.6), ("few rows",), {}, {}, (), {"bound": "remine"})
    for truths, marked in (({"b": 0.5}, [0.5]), (None, [])):
        figure, table = compare({"a": one, "b": one}, truths)
        crosses = [line.get_xdata()[0] for line in figure.axes[0].lines if line.get_marker() == "x"]
        assert [x for x in crosses if x == x] == marked == table.truth.dropna().tolist()
        assert ("truth" in figure.axes[0].get_xlabel()) == bool(truths)
