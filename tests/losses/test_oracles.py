"""The losses on problems whose answer is known: the exact critic reads it."""

import math

import pytest
import torch

from remi.losses.estimators import get
from remi.losses.scores import Scores
from remi.training.problems import GaussianStaircase, OneHot


@pytest.mark.parametrize(("name", "offset"), [("mine", 0), ("mine", 3), ("nwj", 1), ("tuba", 0), ("js", 0)])
@pytest.mark.parametrize("mi", [0.5, 1.0])
def test_the_exact_critic_reads_the_true_value_on_gaussians(name, offset, mi):
    problem = GaussianStaircase(1, dim=5, levels=(mi,))
    x, y = problem.draw(torch.Generator().manual_seed(0), 0, 1, 100_000)  # chi^2 = exp(2 mi) - 1: standard error < .01
    joint, marginal = problem.log_ratio(x, y, mi), problem.log_ratio(x, y.roll(1, 1), mi)
    reading = get("re" + name)(Scores(joint, marginal.unsqueeze(-2)).map(lambda t: t + offset))
    assert reading.estimate.item() == pytest.approx(mi, abs=0.03)
    assert reading.normalizer.item() == pytest.approx(offset - (name == "nwj"), abs=0.03)


def one_hot(offset=0.0):
    """All pairs of 16 symbols once: the populations themselves, with a finite substitute for log 0."""
    problem, x = OneHot(16), torch.arange(16)
    T = problem.log_ratio(x[:, None], x).double().clamp_min(-60) + offset
    return Scores(T.diagonal(dim1=-2, dim2=-1), T)


@pytest.mark.parametrize(
    ("name", "chosen", "offset", "estimate"),
    [
        ("mine", {}, -2.0, math.log(16)),
        ("nwj", {}, 1.0, math.log(16)),
        ("tuba", {}, 0.0, math.log(16)),
        ("js", {}, 0.0, math.log(16)),
        ("js", {"evaluate": "nwj"}, 0.0, math.log(16) - 1 / math.e),
    ],
)
def test_the_exact_critic_reads_the_closed_form_on_one_hot(name, chosen, offset, estimate):
    for loss in (name, "re" + name):
        assert get(loss, **chosen)(one_hot(offset)).estimate.item() == pytest.approx(estimate, abs=1e-6)


@pytest.mark.parametrize(("name", "offset"), [("mine", 0.0), ("smile", 0.0), ("nwj", 1.0), ("tuba", 0.0), ("js", 0.0)])
def test_the_normalizer_is_zero_at_the_optimum(name, offset):
    assert get("re" + name)(one_hot(offset)).normalizer.item() == pytest.approx(0, abs=1e-6)


def test_js_objective_at_its_best_on_one_hot():
    # r = 16 on the 16 diagonal pairs, 0 elsewhere: E_P[log r / (1 + r)] - E_Q[log(1 + r)]
    assert get("js")(one_hot()).objective.item() == pytest.approx(math.log(16 / 17) - math.log(17) / 16, abs=1e-6)


@pytest.mark.parametrize(("name", "value", "tolerance"), [("infonce", 1.840, 0.01), ("mine", 2.401, 0.01)])
def test_saturated_contrastive_batch_of_ten_images_and_classes(name, value, tolerance):
    labels = torch.randint(10, (20_000, 10), generator=torch.Generator().manual_seed(0))  # standard error .003
    estimate = get(name)(Scores.from_embeddings(10 * torch.nn.functional.one_hot(labels, 10).float(), labels)).estimate
    assert estimate.nanmean().item() == pytest.approx(value, abs=tolerance)
    assert 0 < estimate.isnan().sum() < 30  # 20,000 x 3.6e-4 = 7 batches have no joint pair


@pytest.mark.parametrize(
    ("target_of", "lam", "objective", "estimate"),
    [
        ("released", 1.0, -0.2847, -0.2165),
        ("released", 0.1, -0.0825, -0.0152),
        ("released", 0.01, -0.0098, -0.0002),
        ("eq15", 1.0, 0.0, 0.0),
    ],
)
def test_optimum_of_renwj_over_the_offset(target_of, lam, objective, estimate):
    offsets = torch.linspace(0, 1.2, 2401).double()
    T = one_hot().marginal + offsets[:, None, None]
    reading = get("renwj", target_of=target_of, lam=lam)(Scores(T.diagonal(dim1=-2, dim2=-1), T))
    best = reading.objective.argmax()
    assert reading.objective[best].item() - math.log(16) == pytest.approx(objective, abs=1e-4)
    assert reading.estimate[best].item() - math.log(16) == pytest.approx(estimate, abs=1e-3)
