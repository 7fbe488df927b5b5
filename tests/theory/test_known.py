"""The tasks with known mutual information against their published definitions: truths, marginals, maps, oracles."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
from scipy import integrate, stats
from scipy.special import ndtr

from remi.theory import known

ROWS = 20_000
NAMES = [task.name for task in known.TASKS]
LAWS = {id(task.law): task for task in known.TASKS}.values()  # a task per base law
TASK = {task.name: task for task in known.TASKS}


def drawn(task, seed=0, n=ROWS):
    return task.law.draw(np.random.default_rng(seed), n)


def parts(name):
    """The published name, read: the numbers at its end and what stands before them."""
    words = name.split("-")
    numbers = [float(word) for word in words if word.replace(".", "").isdecimal()]
    return [word for word in words if not word.replace(".", "").isdecimal()], numbers


# ---- Truths, by other formulas than the module's ------------------------------------------------------------------------


def equicorrelated(dim, rho):
    """log det of the matrix with 1 on the diagonal and rho elsewhere."""
    return (dim - 1) * math.log(1 - rho) + math.log(1 + (dim - 1) * rho)


def truth(name):
    words, numbers = parts(name)
    if "additive" in words:
        width = numbers[0]
        density = lambda y: max(0, min(1, y + width) - max(0, y - width)) / (2 * width)  # noqa: E731
        entropy = lambda y: -density(y) * math.log(density(y)) if density(y) else 0.0  # noqa: E731
        bends = sorted({-width, width, 1 - width, 1 + width})
        return sum(integrate.quad(entropy, a, b)[0] for a, b in itertools.pairwise(bends)) - math.log(2 * width)
    if "student" in words:
        dim, _, dof = map(int, numbers)
        h = lambda d: stats.multivariate_t(np.zeros(d), np.eye(d), df=dof).entropy()  # noqa: E731
        return 2 * h(dim) - h(2 * dim)
    if "sparse" in words:
        strength = numbers[-1]  # of the shared part against noise of 1 on either side
        return -math.log(1 - (strength**2 / (1 + strength**2)) ** 2)
    if "dense" in words:
        return equicorrelated(int(numbers[0]), 0.5) - equicorrelated(2 * int(numbers[0]), 0.5) / 2
    return -math.log(1 - 0.75**2) / 2


def test_the_forty_names():
    assert len(set(NAMES)) == len(NAMES) == 40
    assert "spiral-normal_cdf-multinormal-sparse-25-25-2-2.0" in NAMES
    assert sum(task.gaussian for task in known.TASKS) == 20


@pytest.mark.parametrize("name", NAMES)
def test_truth(name):
    assert TASK[name].mi == pytest.approx(truth(name), abs=1e-6)


# ---- Base laws ----------------------------------------------------------------------------------------------------------


def oracle_holds(law, mi, base):
    """The best critic's mean is the truth, to five standard errors; over unpaired rows the mean of its ratio is 1."""
    ratios = law.log_ratio(*base)
    if not np.isfinite(ratios).all():  # a pair that cannot occur
        return False
    joint = abs(ratios.mean() - mi) <= 5 * ratios.std() / math.sqrt(len(ratios))
    unpaired = np.exp(law.log_ratio(base[0], np.roll(base[1], 1, axis=0)))
    return joint and (mi > 1.1 or abs(unpaired.mean() - 1) <= 5 * unpaired.std() / math.sqrt(len(unpaired)))  # above: heavy


@pytest.mark.parametrize("task", LAWS, ids=lambda task: task.name)
def test_oracle(task):
    assert oracle_holds(task.law, truth(task.name), drawn(task))


def trapezoid(y, width):
    """P(Y <= y) of the uniform noise task."""
    ramp = lambda z: np.maximum(z, 0) ** 2 / 2  # noqa: E731
    return (ramp(y + width) - ramp(y - width) - ramp(y + width - 1) + ramp(y - width - 1)) / (2 * width)


def marginals_hold(name, base):
    """Every column has its published law (Kolmogorov and Smirnov), and every pair of columns its correlation."""
    words, numbers = parts(name)
    columns = np.hstack(base)
    n, dim = len(columns), base[0].shape[1]
    if "additive" in words:
        noise = (base[1] - base[0] + numbers[0]) / (2 * numbers[0])
        ranks = np.hstack([base[0], trapezoid(base[1], numbers[0]), noise])
        scores, wanted = None, None
    elif "student" in words:
        ranks = stats.t.cdf(columns, numbers[-1])
        scores, wanted = None, None
        angle = np.abs(columns[:, 0] - columns[:, -1]) / math.sqrt(2)  # a rotation of independent columns has the same law
        ranks = np.column_stack([ranks, 2 * stats.t.cdf(angle, numbers[-1]) - 1])
    else:
        ranks, scores, wanted = ndtr(columns), columns, np.eye(2 * dim)
        if "sparse" in words:
            wanted[[0, 1, dim, dim + 1], [dim, dim + 1, 0, 1]] = 0.8
        else:
            rho = 0.5 if "dense" in words else 0.75
            wanted = rho + (1 - rho) * wanted
    levels = [stats.kstest(column, "uniform").pvalue for column in ranks.T]
    right = min(levels) > 1e-5
    return right and (scores is None or np.abs(np.corrcoef(scores.T) - wanted).max() < 5 / math.sqrt(n))


@pytest.mark.parametrize("task", LAWS, ids=lambda task: task.name)
def test_marginals(task):
    assert marginals_hold(task.name, drawn(task))


BROKEN = {
    "1v1-normal-0.75": known.dense(1, 0.7),
    "multinormal-dense-5-5-0.5": known.dense(5, 0.45),
    "multinormal-dense-50-50-0.5": known.dense(50, 0.45),
    "multinormal-sparse-5-5-2-2.0": known.paired(5, 1),
    "multinormal-sparse-25-25-2-2.0": known.paired(25, correlation=0.75),
    "student-identity-1-1-1": known.student(1, 2),
    "student-identity-5-5-3": known.student(5, 2),
    "1v1-additive-0.1": known.uniform_noise(0.11),
    "1v1-additive-0.75": known.uniform_noise(0.6),
}


@pytest.mark.parametrize("name", BROKEN)
def test_another_parameter_is_seen(name):
    law = BROKEN[name]
    base = drawn(dataclasses.replace(TASK[name], law=law))
    assert law.mi != pytest.approx(truth(name), abs=1e-3)
    assert not marginals_hold(name, base)
    assert not oracle_holds(law, truth(name), base)  # its rows and its critic against the published truth
    assert not oracle_holds(TASK[name].law, truth(name), base)  # its rows alone


# ---- Maps ---------------------------------------------------------------------------------------------------------------


def unturned(x, i, j):
    """A spiral run backwards: by |row|^2 over the number of columns, as complex numbers."""
    back = (x[:, i] + 1j * x[:, j]) * np.exp(-1j * (x**2).sum(1) / x.shape[1])
    x = x.copy()
    x[:, i], x[:, j] = back.real, back.imag
    return x


def uniform(z):
    return stats.norm.cdf(z)


def ranks_of(name, x, y):
    """What is seen, brought back: to the columns of the base law or, where it went through them, to their ranks."""
    words, _ = parts(name)
    if "swissroll_x" in words:
        assert np.allclose(np.arctan2(x[:, 1], x[:, 0]), np.angle(np.exp(1j * 21 * np.hypot(*x.T))))  # on the roll
        return (21 * np.hypot(*x.T)[:, None] / (1.5 * np.pi) - 1) / 2, y
    if "spiral" in words:
        return unturned(x, 0, 1), unturned(y, 1, 2)
    if "half_cube" in words:
        return tuple(np.sign(z) * np.cbrt(z) ** 2 for z in (x, y))
    if "asinh" in words:
        return np.sinh(x), np.sinh(y)
    if "bimodal" in words:
        return 0.3 * uniform(x) + 0.7 * uniform(x - 5), 0.5 * uniform(y + 1) + 0.5 * uniform(y - 3)
    return x, y


def maps_hold(task, n=2000):
    words, _ = parts(task.name)
    base = drawn(task, n=n)
    wanted = [uniform(z) for z in base] if {"normal_cdf", "bimodal"} & set(words) else base
    return all(np.allclose(found, z, atol=1e-9) for found, z in zip(ranks_of(task.name, *task.seen(base)), wanted, strict=True))


@pytest.mark.parametrize("name", [name for name in NAMES if "wiggly" not in name])
def test_maps_lead_back_to_the_base_law(name):
    assert maps_hold(TASK[name])


def test_wiggly_maps_increase_and_have_the_published_slopes():
    z = np.linspace(-6, 6, 24_001)
    slopes = [np.gradient(bend(z), z) for bend in (known.wiggly_x, known.wiggly_y)]
    published = (
        1 + 0.4 * np.cos(z) + 0.34 * np.cos(1.7 * z + 1) + 0.099 * np.cos(3.3 * z - 2.5),
        1 - 0.16 * np.cos(0.4 * z) + 0.221 * np.cos(1.3 * z + 3.5) + 0.086 * np.cos(4.3 * z - 2.5),
    )
    for slope, wanted in zip(slopes, published, strict=True):
        assert slope.min() > 0.1
        assert np.abs(slope - wanted)[1:-1].max() < 1e-6
    assert known.wiggly_x(np.zeros(1)) == pytest.approx(0.2 * math.sin(1) + 0.03 * math.sin(-2.5))
    assert known.wiggly_y(np.zeros(1)) == pytest.approx(0.17 * math.sin(3.5) + 0.02 * math.sin(-2.5))


@pytest.mark.parametrize(
    ("name", "x_map"),
    [
        ("half_cube-1v1-normal-0.75", lambda z: z * np.abs(z) ** 0.45),
        ("spiral-multinormal-sparse-5-5-2-2.0", lambda z: known.spiral(z, plane=(0, 2))),
        ("1v1-bimodal-0.75", lambda z: known.two_humps(z, first=0.35, centres=(0.0, 5.0))),
        ("swissroll_x-normal_cdf-1v1-normal-0.75", lambda z: known.swiss_roll(0.9 * ndtr(z))),
        ("asinh-student-identity-3-3-2", np.tanh),
    ],
)
def test_another_map_is_seen(name, x_map):
    assert not maps_hold(dataclasses.replace(TASK[name], x_map=x_map))


@pytest.mark.parametrize("name", NAMES)
def test_draws_are_the_seed_s_and_have_their_shape(name):
    task = TASK[name]
    first, second, other = (task.draw(np.random.default_rng(seed), 50) for seed in (0, 0, 1))
    assert all(z.shape[0] == 50 and z.ndim == 2 and np.isfinite(z).all() for z in first)
    assert all((a == b).all() for a, b in zip(first, second, strict=True))
    assert not (first[0] == other[0]).any()
