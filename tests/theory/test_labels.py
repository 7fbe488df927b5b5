"""Theorems 7 and 8 and Table 2's closed forms: their checks hold where they should, and notice a planted error."""

import math

import numpy as np
import pandas as pd
import planted
import pytest

from remi.losses import Scores, estimators
from remi.paper import figures, pictures
from remi.theory import closed_forms, labels

CHECKS = {"7": labels.theorem7, "8": labels.theorem8, "table 2": labels.table2_forms}


@pytest.mark.parametrize("name", CHECKS)
def test_the_statement_holds_under_the_papers_assumption_and_corrected(name):
    found = CHECKS[name]()
    assert [c.what for c in found if not c.holds] == []
    assert any(c.printed for c in found) == (name != "table 2")
    assert len({c.what for c in found}) == len(found)


def _with_itself(embeddings, labels):
    matrix = embeddings @ embeddings.transpose(-1, -2)
    same = labels.unsqueeze(-1) == labels.unsqueeze(-2)
    return Scores(matrix.flatten(-2), matrix, same.flatten(-2), rowwise=True)


FROM_LOGITS, SLB_JS = Scores.from_logits, closed_forms.slb_js
ERRORS = {  # the check: where, what, planted
    "7: joint pairs with another label": (
        Scores,
        "from_logits",
        lambda logits, labels: FROM_LOGITS(logits, (labels + 1) % logits.shape[-1]),
    ),
    "7: sum for mean": (Scores, "log_mean_exp", planted.without_count),
    "7: NWJ of T + 1": (estimators, "nwj", planted.without_logarithm),
    "7: noise without its second term": (
        closed_forms,
        "noisy_label_mi",
        lambda classes, e: math.log(classes) - closed_forms.entropy([e, 1 - e]),
    ),
    "7: labels taken as even": (closed_forms, "entropy", lambda counts: math.log(len(counts))),
    "8: an image paired with itself": (Scores, "from_embeddings", _with_itself),
    "8: noise counted once": (closed_forms, "noisy_pair_mi", closed_forms.noisy_label_mi),
    "8: log(m + 1) for log(m - 1)": (closed_forms, "distinct_pair_excess", lambda m: math.log(m / (m + 1))),
    "8: sum for mean": (Scores, "log_mean_exp", planted.without_count),
    "table 2: JS above log C": (closed_forms, "slb_js", lambda classes: SLB_JS(classes) + 2 / math.e),
    "table 2: NWJ's floor on all pairs": (closed_forms, "clb_nwj", lambda classes: math.log(classes) - 1 / math.e),
    "table 2: NWJ of T + 1": (estimators, "nwj", planted.without_logarithm),
    "table 2: DV without Jensen": (closed_forms, "clb_dv", lambda classes, batch: math.log(classes)),
    "table 2: an image paired with itself": (Scores, "from_embeddings", _with_itself),
    "table 2: rows of InfoNCE pooled": (estimators.BOUNDS, "infonce", planted.rows_pooled),
}


@pytest.mark.parametrize("error", ERRORS)
def test_a_planted_error_is_noticed(error, monkeypatch):
    assert planted.notices(CHECKS[error.split(":")[0]], *ERRORS[error], monkeypatch)


def test_noise_by_hand():
    assert closed_forms.entropy([1, 1, 2]) == pytest.approx(1.5 * math.log(2))
    assert closed_forms.noisy_label_mi(10, 0.0) == math.log(10)
    assert closed_forms.noisy_label_mi(10, 0.9) == pytest.approx(0, abs=1e-12)  # labels at random
    assert closed_forms.noisy_label_mi(2, 0.5) == pytest.approx(0, abs=1e-12)
    assert closed_forms.noisy_pair_mi(2, 0.5) == pytest.approx(0, abs=1e-12)
    # closed_forms.md section 8: five classes, a fifth of the labels wrong
    assert (closed_forms.noisy_pair_mi(5, 0.2), closed_forms.noisy_label_mi(5, 0.2)) == pytest.approx((0.477, 0.832), abs=5e-4)


def test_pairs_of_distinct_images_by_hand():
    assert closed_forms.distinct_pair_excess(2) == pytest.approx(math.log(2))
    assert closed_forms.distinct_pair_ceiling(3, 2) == pytest.approx(math.log(5))
    assert [round(closed_forms.distinct_pair_excess(m), 4) for m in (5000, 500)] == [0.0002, 0.0020]


def test_remine_against_its_floor():
    found = [closed_forms.clb_remine(classes, lam) for classes in (10, 100) for lam in (0.1, 0.01, 0.001)]
    assert found == pytest.approx([2.054, 2.248, 2.293, 4.347, 4.549, 4.596], abs=5e-4)  # closed_forms.md 9.5


@pytest.mark.parametrize("classes", [2, 10])
def test_losses_on_wrong_labels_lie_on_the_line_of_the_picture(classes):
    _, table = pictures.derivation4(classes)
    line, dots = (table[table.curve == curve] for curve in ("image and label", "MINE at the best critic"))
    assert len(dots) == 4
    assert np.interp(dots.x, line.x, line.y) == pytest.approx(dots.y.to_numpy(), abs=2e-3)  # between the points of the line
    assert line.y.iloc[[0, -1]].tolist() == pytest.approx([math.log(classes), 0])


def test_the_picture_has_every_pair_of_table_2():
    _, table = pictures.derivation6(pd.read_csv(figures.PRODUCTS / "table2_summary.csv"))
    assert len(table) == 48
    assert table.closed_form.notna().all()
