"""Table 2 on records made up so that every number says where it comes from."""

import io
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from plants import traces

from remi.paper import claims, experiments, slopes, table2, typeset
from remi.runs.specs import EncoderRun
from remi.runs.store import Record
from remi.theory.closed_forms import clb_infonce, clb_nwj
from remi.training import images

RUN = EncoderRun("mine", 10, 100, "adam", 1e-3, (64, 512))
HALF_WIDTH = 12.706205 * math.sqrt(0.5)  # of two seeds, in units of their difference / sqrt(2): t(0.975, 1) s / sqrt(2)


def record(loss="mine", lam=None, seed=0, mi=1.0, accuracy=0.9, task="clb", dataset="digits", diverged=None, **options):
    run = replace(RUN, loss=loss, lam=lam, seed=seed, task=task, dataset=dataset, options=options)
    scalars = {"mi_heldout": mi + 0.3, "accuracy": accuracy, "accuracy_batch_stats": accuracy - 0.1}
    if loss != "untrained":
        scalars |= {"mi_train": mi, "mi_last_batch": mi + 0.1, "mi_dv": mi + 0.2, "n_skipped": 2.0}
    if diverged is not None:
        scalars = dict.fromkeys(scalars, math.nan) | {"n_skipped": 1.0, "diverged_at": float(diverged)}
    arrays = {} if loss == "untrained" or diverged is not None else traces(mi, steps=run.steps)
    return Record(run, "ok" if diverged is None else "diverged", scalars, arrays, {}, 0.0)


def table(*records):
    return table2.rows({"any": list(records)})


def only(frame, **wanted):
    found = frame[np.logical_and.reduce([frame[name] == value for name, value in wanted.items()])]
    assert len(found) == 1
    return found.iloc[0]


def synthetic_groups():
    """A record for every run of the real plan: regularized and clipped are better, NWJ and TUBA as they are diverge in CLB."""
    groups = experiments.groups(experiments.table2())
    return {key: [synthetic(run) for run in members] for key, members in groups.items()}


def synthetic(run):
    collapsed = run.task == "clb" and run.loss in ("nwj", "tuba") and not run.options
    mi = (1.0 if run.lam is None else 1.5 + (run.lam == 0.01)) + 0.01 * run.seed + 0.05 * ("clip" in run.options)
    accuracy = 0.8 + 0.01 * run.seed + 0.005 * (run.lam is not None)
    return replace(record(run.loss, mi=mi, accuracy=accuracy, diverged=0 if collapsed else None), run=run)


@pytest.fixture(scope="module")
def full():
    return table2.summary(table2.rows(synthetic_groups()))


# A row per run


def test_columns_and_values():
    frame = table(record("renwj", lam=0.01, seed=3, mi=1.23456789, clip="both"))
    names = "task dataset loss regularized clip lam seed mi_train mi_last_batch mi_dv mi_heldout accuracy accuracy_batch_stats"
    assert " ".join(frame.columns) == f"{names} n_skipped status settled"  # design.md, section 4
    expected = ["clb", "digits", "nwj", True, "both", 0.01, 3, 1.234568, 1.334568, 1.434568, 1.534568, 0.9, 0.8, 2, "ok", True]
    assert frame.iloc[0].tolist() == expected


def test_a_diverged_run_counts_as_no_information_and_chance():
    frame = table(record("nwj", diverged=17), record("nwj", dataset="digit-pairs", diverged=0))
    assert frame["status"].tolist() == ["diverged at step 17", "diverged at step 0"]
    assert (frame[list(table2.MI)] == 0).all(axis=None)
    assert frame["accuracy"].tolist() == frame["accuracy_batch_stats"].tolist() == [0.1, 0.01]
    assert frame["n_skipped"].tolist() == [1, 1]


def test_clip_in_force():
    records = (
        record("smile"),
        record("smile", clip="both"),
        record("nwj"),
        record("nwj", clip="both"),
        record("renwj", lam=0.1, clip="both"),
        record("renwj", lam=0.1),
        record("untrained"),
    )
    frame = table2.summary(pd.concat([table(r) for r in records[1:]]))
    assert table(records[0])["clip"].tolist() == ["marginal"]
    assert list(zip(frame["loss"], frame["clip"], frame["variant"], strict=True)) == [
        ("smile", "both", "original"),
        ("nwj", "none", "original"),
        ("nwj", "both", "clip only"),
        ("nwj", "both", "regularized"),
        ("nwj", "none", "regularizer only"),
        ("untrained", "none", "untrained"),
    ]


def test_untrained_rows_have_no_training_mi():
    row = table(record("untrained")).iloc[0]
    assert row[["mi_train", "mi_last_batch", "mi_dv"]].isna().all()
    assert (row["loss"], row["accuracy"], row["n_skipped"]) == ("untrained", 0.9, 0)


def test_a_cell_counts_the_runs_that_have_settled():
    learning = record(seed=1)
    learning.arrays.update(traces(1.0, "learning", RUN.steps))
    frame = table(record(), learning, record(seed=2, diverged=3))
    assert frame["settled"].tolist() == [True, False, True]
    row = table2.summary(frame).iloc[0]
    assert (row["settled"], row["n_ok"], row["n"]) == (2, 2, 3)
    assert table2.by_lambda(table(record("remine", lam=0.1)))["settled"].tolist() == [1]


def test_row_order_does_not_depend_on_the_groups():
    groups = synthetic_groups()
    frame = table2.rows(groups)
    backwards = table2.rows({key: members[::-1] for key, members in reversed(groups.items())})
    pd.testing.assert_frame_equal(frame, backwards)
    assert frame[["task", "loss", "seed"]].iloc[[0, 1, -1]].to_numpy().tolist() == [
        ["slb", "mine", 0],
        ["slb", "mine", 1],
        ["clb", "untrained", 2],
    ]
    assert frame["lam"].iloc[3:12:3].tolist() == [0.1, 0.01, 0.001]


def test_unknown_data_set():
    with pytest.raises(ValueError, match=r"digits, digit-pairs, cifar-10, cifar-100, folder; got 'mnist'"):
        table(record(dataset="mnist"))


# A row per cell


def test_mean_and_half_width_by_hand():
    row = table2.summary(table(record(mi=1.0, accuracy=0.8), record(seed=1, mi=2.0, accuracy=0.9))).iloc[0]
    assert (row["mi_mean"], row["mi_ci95"]) == pytest.approx((1.5, HALF_WIDTH * math.sqrt(0.5)), abs=1e-5)
    assert (row["accuracy_mean"], row["accuracy_ci95"]) == pytest.approx((0.85, 0.1 * HALF_WIDTH * math.sqrt(0.5)), abs=1e-5)
    means = [row[f"{name}_mean"] for name in ("mi_last_batch", "mi_dv", "mi_heldout", "accuracy_batch_stats")]
    assert means == pytest.approx([1.6, 1.7, 1.8, 0.75])


def test_diverged_and_negative_runs_in_the_mean():
    runs = record(mi=2.0), record(seed=1, mi=-4.0), record(seed=2, diverged=5)
    row = table2.summary(table(*runs)).iloc[0]
    assert (row["n_ok"], row["n"]) == (2, 3)
    assert (row["mi_mean"], row["mi_mean_ok"]) == pytest.approx((2 / 3, 1.0), abs=1e-6)
    assert (row["accuracy_mean"], row["accuracy_mean_ok"]) == pytest.approx((1.9 / 3, 0.9), abs=1e-6)
    assert row["mi_dv_mean"] == pytest.approx((2.2 - 3.8) / 3, abs=1e-6)  # only the paper's measure is cut at 0


def test_lambda_is_the_one_nearest_the_true_mi():
    truth = math.log(100)
    weights = {0.1: truth - 0.2, 0.01: truth + 0.1, 0.001: truth + 0.3}
    runs = [record("remine", lam=lam, mi=mi, dataset="digit-pairs") for lam, mi in weights.items()]
    row = table2.summary(table(*runs)).iloc[0]
    assert (row["lam"], row["mi_mean"]) == (0.01, pytest.approx(truth + 0.1, abs=1e-6))


def test_a_tie_takes_the_larger_lambda():
    truth = math.log(100)
    weights = {0.001: truth - 0.1, 0.01: truth + 0.1, 0.1: truth - 0.2}
    runs = [record("remine", lam=lam, mi=mi, dataset="digit-pairs") for lam, mi in weights.items()]
    assert table2.summary(table(*runs))["lam"].tolist() == [0.01]


def test_published_numbers_stand_beside(full):
    row = only(full, task="slb", dataset="digit-pairs", loss="tuba", variant="regularized")
    assert row[["published_mi_mean", "published_mi_ci95"]].tolist() == [4.603, 0.002]
    row = only(full, task="clb", dataset="digits", loss="js", variant="original")
    assert row[["published_accuracy_mean", "published_accuracy_ci95"]].tolist() == [0.837, 0.003]
    has = full["published_mi_mean"].notna()
    assert has.sum() == len(pd.read_csv(table2.PUBLISHED)) == 48
    assert set(full["variant"][~has]) == {"clip only", "regularizer only", "untrained"}


def test_prediction_and_truth_stand_beside(full):
    row = only(full, task="clb", dataset="digit-pairs", loss="nwj", variant="regularized")
    assert (row["closed_form"], row["true_mi"]) == pytest.approx((clb_nwj(100), math.log(100)), abs=1e-6)
    row = only(full, task="clb", dataset="digit-pairs", loss="infonce", variant="original")
    assert row["closed_form"] == pytest.approx(clb_infonce(100, 100), abs=1e-6)
    assert full["closed_form"].isna().sum() == (full["variant"] == "untrained").sum() == 4


def test_summary_of_the_file_is_the_summary(full):
    frame = table2.rows(synthetic_groups())
    read = pd.read_csv(io.StringIO(frame.to_csv(index=False)))
    pd.testing.assert_frame_equal(table2.summary(read), full)


def test_by_lambda_has_every_weight_of_the_contrastive_twins():
    found = table2.by_lambda(table2.rows(synthetic_groups()))
    assert found.groupby("dataset", sort=False).lam.apply(list).to_dict() == {
        "digits": [0.1, 0.01, 0.001] * 6,
        "digit-pairs": [0.001] * 6,
    }
    assert set(found["task"]) == {"clb"}
    assert found.query("loss == 'nwj'")["clip"].unique().tolist() == ["both"]
    row = only(found, dataset="digits", loss="js", lam=0.01)
    assert row["mi_mean"] == pytest.approx(2.51)
    assert row["accuracy_mean"] == pytest.approx(0.815)


# CIFAR


@pytest.fixture(params=["desk", "paper"])
def cifar(request, monkeypatch):
    """Plans of a larger profile and made-up records, without the images."""
    for name, classes in images.CIFAR.items():
        little = images.noise(name, 50 * classes).balanced(classes)
        monkeypatch.setitem(images.DATASETS, name, lambda little=little: little)
    plans = experiments.table2(request.param)
    return plans, {key: [synthetic(run) for run in members] for key, members in experiments.groups(plans).items()}


def test_a_folder_of_images_has_a_table(monkeypatch):
    little = replace(images.noise("cifar-10", 60), classes=12)
    monkeypatch.setitem(images.DATASETS, "folder", lambda: little)
    groups = experiments.groups(experiments.folder("desk"))
    frame = table2.rows({key: [synthetic(run) for run in members] for key, members in groups.items()})
    assert len(frame) == 2 * 3 * (6 + 6 * 3 + 1)  # tasks, seeds; losses, twins at three weights, untrained
    cells = table2.summary(frame)
    assert set(cells.dataset) == {"folder"}
    assert cells.true_mi.unique() == pytest.approx(little.true_mi, abs=1e-6)
    assert cells.filter(like="published").isna().all(axis=None)


def test_cifar_stands_beside_the_published_numbers(cifar):
    plans, groups = cifar
    profile, found = plans["main"].profile, table2.summary(table2.rows(groups))
    cell = only(found, task="clb", dataset="cifar-10", loss="js", variant="original")
    assert (cell.published_mi_mean, cell.true_mi, cell.n) == (1.552, round(math.log(10), 6), {"desk": 3, "paper": 5}[profile])
    assert f"Table 2, profile {profile}: CIFAR-10 and CIFAR-100. Mean" in typeset.table2_markdown(found, profile)
    assert "CIFAR-10 (10 classes, true MI 2.303)" in typeset.table2_tex(found, profile)
    assert found.published_mi_mean.notna().sum() == len(plans["main"].benchmarks) * 2 * 12


def test_what_was_not_trained_is_not_drawn(cifar):
    _, groups = cifar
    cells = table2.summary(table2.rows(groups)).query("task == 'clb' or loss in ('mine', 'untrained')")
    panels = slopes.slopes(cells.query("dataset == 'cifar-10'")).axes
    supervised, contrastive = (len(axes.containers) for axes in panels[:4:2])  # a mark is a container
    assert (supervised, contrastive) == (2, 12)


def test_claims_and_fig6_can_be_had_for_cifar(cifar):
    plans, groups = cifar
    profile = plans["main"].profile
    table, verdicts = table2.rows(groups), pd.concat([claims.judge(name, groups, profile) for name in ("table2", "fig6")])
    untested = set(verdicts.id[verdicts.verdict == "untested"])
    assert untested == ({"lambda-2", "lambda-3-100"} if profile == "desk" else set())  # one weight
    assert "undertrained" not in set(verdicts.verdict)
    rows = 12 * len(plans["main"].benchmarks)
    assert f"{rows} of {rows} rows have settled" in only(verdicts, id="table2-better").measured
    _, drawn = slopes.figure6(plans["main"], table2.by_lambda(table), dict.fromkeys(images.CIFAR, 0.5))
    assert set(drawn.dataset) == {benchmark.dataset for benchmark in plans["main"].benchmarks}
