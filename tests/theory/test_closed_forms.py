"""The closed forms against printed numbers, against brute force, and against the critics that they claim to be best."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from remi.losses import estimators
from remi.losses.scores import Scores
from remi.theory import closed_forms

PRINTED = {  # closed_forms.md 9.5: C = B = 10, C = B = 100; three digits
    ("slb", "mine"): (2.303, 4.605),
    ("slb", "smile"): (2.303, 4.605),
    ("slb", "infonce"): (2.303, 4.605),
    ("slb", "nwj"): (2.303, 4.605),
    ("slb", "tuba"): (2.303, 4.605),
    ("slb", "js"): (1.935, 4.237),
    ("clb", "nwj"): (1.971, 4.241),
    ("clb", "tuba"): (1.403, 3.615),
    ("clb", "js"): (1.604, 3.873),
    ("clb", "infonce"): (1.840, 4.047),  # closed_forms.md simulated these two: hence the tolerance
    ("clb", "mine"): (2.401, 4.615),
    ("clb", "smile"): (2.401, 4.615),
}


@pytest.mark.parametrize(("task", "loss"), PRINTED)
def test_printed_numbers(task, loss):
    values = [closed_forms.closed_form(task, loss, size, size) for size in (10, 100)]
    simulated = task == "clb" and loss in ("mine", "smile", "infonce")
    assert values == pytest.approx(PRINTED[task, loss], abs=1.5e-3 if simulated else 5e-4)
    assert values == [closed_forms.closed_form(task, f"re{loss}", size, size) for size in (10, 100)]


def test_every_bound_has_a_form_and_nothing_else_has():
    assert set(closed_forms.CLOSED_FORMS) == set(itertools.product(("slb", "clb"), estimators.BOUNDS))
    assert closed_forms.closed_form("clb", "untrained", 10, 10) is None


def saturated(labels):
    """InfoNCE and DV of a critic that is 40 on equal labels and 0 elsewhere, from the definitions in `scores`."""
    labels = torch.tensor(labels)
    embeddings = math.sqrt(40) * torch.nn.functional.one_hot(labels).double()
    scores = Scores.from_embeddings(embeddings, labels)
    return [float(estimators.get(name)(scores).estimate) for name in ("infonce", "mine")]


@pytest.mark.parametrize(("classes", "batch"), [(3, 4), (2, 6), (5, 4), (1, 3)])
def test_batch_averages_by_enumeration(classes, batch):
    values = [saturated(labels) for labels in itertools.product(range(classes), repeat=batch)]
    expected = np.nanmean(values, axis=0)  # nan: no joint pair
    found = [closed_forms.clb_infonce(classes, batch), closed_forms.clb_dv(classes, batch)]
    assert found == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize(("classes", "batch"), [(10, 10), (10, 100)])
def test_batch_averages_by_simulation(classes, batch):
    counts = np.random.default_rng(0).multinomial(batch, np.full(classes, 1 / classes), size=40000)
    pairs = counts * (counts - 1)
    counts, pairs = counts[pairs.sum(1) > 0], pairs[pairs.sum(1) > 0]
    infonce = (pairs * np.log((batch - 1) / np.maximum(counts - 1, 1))).sum(1) / pairs.sum(1)
    dv = np.log(batch * (batch - 1) / pairs.sum(1))
    for form, values in ((closed_forms.clb_infonce, infonce), (closed_forms.clb_dv, dv)):
        assert abs(form(classes, batch) - values.mean()) < 4 * values.std() / math.sqrt(len(values))


def population(same, other, classes):
    """Scores of a critic with two levels: a joint pair, and a pair of independent labels."""
    return Scores(same.reshape(1), torch.cat([same.reshape(1), other.expand(classes - 1)]).reshape(1, classes))


@pytest.mark.parametrize("classes", [2, 10, 100])
@pytest.mark.parametrize("loss", ["nwj", "tuba", "js"])
@pytest.mark.parametrize(("task", "smallest"), [("slb", -40.0), ("clb", 0.0)])
def test_best_two_level_critic(task, smallest, loss, classes):
    """The estimate at the maximum of the objective, where CLB has T >= 0 and SLB any T."""
    estimator = estimators.get(loss, **({"evaluate": "nwj"} if loss == "js" else {}))

    def reading(levels):
        same, other = torch.tensor(levels, dtype=torch.float64)
        return estimator(population(same, other, classes))

    best = minimize(lambda levels: -float(reading(levels).objective), [1.0, 0.0], bounds=[(0, 20), (smallest, 20)], tol=1e-13)
    assert float(reading(best.x).estimate) == pytest.approx(closed_forms.closed_form(task, loss, classes, 10), abs=1e-5)
