"""Drawing is deterministic, complete and says where it is from."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from remi.losses.estimators import BOUNDS
from remi.paper import experiments, figures
from remi.runs.store import Record
from remi.style import PALETTE, render
from remi.training.loop import COLUMNS

ENVIRONMENT = {"python": "3", "torch": "2", "device": "cpu", "device_name": "x"}


def synthetic(plan, diverge=(), beside=None):
    """Records with the shape of real ones: noise around a level, the runs of `diverge` cut at step 60."""
    records = {}
    for key, group in experiments.groups({"main": plan, **(beside or {})}).items():
        records[key] = []
        for run in group:
            rng = np.random.default_rng(run.seed)
            names = (*COLUMNS, "joint_output", "marginal_output")
            arrays = {name: rng.normal(size=run.steps) + 2 for name in names}
            arrays |= {"on_diagonal": (rng.random(run.steps) < 0.1).astype(float), "table": np.eye(16)}
            cut = key in diverge
            if cut:
                arrays |= {
                    name: np.where(np.arange(run.steps) < 60, values, np.nan)
                    for name, values in arrays.items()
                    if name != "table"
                }
            scalars = {"diverged_at": 60.0} if cut else {}
            records[key].append(Record(run, "diverged" if cut else "ok", scalars, arrays, ENVIRONMENT, 1.0))
    return records


SMALL = {"profile": "quick", "seeds": 2, "steps": 400}
ONE_HOT = {
    "figure1": replace(experiments.FIGURE1, **SMALL),
    "figure2": replace(experiments.FIGURE1, **SMALL),
    "figure3": replace(experiments.FIGURE3, **SMALL),
    "figure4": replace(experiments.FIGURE4, **SMALL),
    "figure5": replace(experiments.FIGURE5, **SMALL),
    "figure7": replace(experiments.FIGURE7, profile="quick", seeds=1, steps_per_level=80),
}
BESIDE = {
    "figure1": {"later": replace(experiments.FIGURE1, curves=experiments.ROWLESS)},
    "figure3": {
        "stratified": experiments.FIGURE3_STRATIFIED,
        "small-steps": experiments.FIGURE3_SMALL_STEPS,
        "later": replace(experiments.FIGURE3, curves=experiments.ROWLESS),
    },
    "figure5": {"gentle": experiments.FIGURE5_GENTLE, "later": replace(experiments.FIGURE5, curves=experiments.ROWLESS)},
    "figure7": {"later": replace(experiments.FIGURE7, curves=experiments.LATER)},
}


def beside(name):
    """The other plans of a figure, small."""
    small = {
        key: getattr(ONE_HOT[name], key) for key in ("profile", "seeds", "steps" if name != "figure7" else "steps_per_level")
    }
    return {key: replace(other, **small) for key, other in BESIDE.get(name, {}).items()}


def test_every_family_has_its_own_hue():
    assert list(PALETTE) == list(BOUNDS)
    assert len(set(PALETTE.values())) == len(BOUNDS)


def test_the_layout_is_rounded():
    figure, _ = figures.figure5(ONE_HOT["figure5"], synthetic(ONE_HOT["figure5"], (), beside("figure5")))
    render(figure)
    for part in (*figure.subfigs, *figure.axes):
        box = part.bbox_relative if part in figure.subfigs else part.get_position(original=True)
        assert (box.get_points() == box.get_points().round(9)).all()


@pytest.mark.parametrize("name", ONE_HOT)
def test_draws_and_saves_the_same_bytes_twice(name, tmp_path, monkeypatch):
    plan = ONE_HOT[name]
    records = synthetic(plan, ("nwj", "later/flo"), beside(name))
    seen = []
    for place in ("one", "two"):
        monkeypatch.setattr(figures, "PRODUCTS", tmp_path / place)
        figure, table = getattr(figures, name)(plan, records)
        figures.save("figx", figure, table, "A caption.", {"main": plan}, records)
        seen.append({p.name: p.read_bytes() for p in sorted((tmp_path / place).iterdir())})
    assert list(seen[0]) == ["figx.csv", "figx.json", "figx.pdf", "figx.png"]
    assert seen[0] == seen[1]
    provenance = json.loads(seen[0]["figx.json"])
    assert (provenance["profile"], provenance["seeds"], provenance["caption"]) == ("quick", plan.seeds, "A caption.")
    assert pd.read_csv(tmp_path / "one" / "figx.csv").shape == table.shape


def test_the_drawn_curve_is_the_trace_and_its_band_holds_it():
    plan = ONE_HOT["figure1"]
    records = synthetic(plan)
    table = figures.traces(records)
    mine = table[table.curve == "mine"]
    assert np.allclose(mine.estimate, records["mine"][0].arrays["estimate"][:: figures.EVERY])
    pooled = np.concatenate([record.arrays["estimate"][188:213] for record in records["mine"]])
    at = mine[mine.step == 200].iloc[0]
    assert np.allclose([at.estimate_low, at.estimate_high], np.quantile(pooled, [0.1, 0.9]))


def test_the_drawn_seed_lasts_as_long_as_the_median_and_the_table_counts_who_is_alive():
    records = synthetic(replace(experiments.FIGURE1, profile="quick", seeds=5, steps=400))["nwj"]
    assert figures.typical(records) == 0
    ends = (60, 300, 20, 100, None)
    records = [
        replace(r, scalars={} if end is None else {"diverged_at": float(end)}) for r, end in zip(records, ends, strict=True)
    ]
    assert figures.typical(records) == 3
    alive = figures.traces({"nwj": records}).set_index("step").alive
    assert alive[[0, 15, 20, 60, 100, 300, 395]].tolist() == [5, 5, 4, 3, 2, 1, 1]


def test_figure_7_draws_every_seed_and_says_what_lies_beyond_its_frame():
    small = {"profile": "quick", "seeds": 2, "steps_per_level": 80}
    plan = replace(experiments.FIGURE7, **small)
    records = synthetic(plan, beside={"later": replace(experiments.FIGURE7, curves=experiments.LATER, **small)})
    records["smile"][1].arrays["estimate"][:] = 1e4
    figure, table = figures.figure7(plan, records)
    smile = table[(table.curve == "smile") & (table.seed == 1)]
    assert smile.error.dropna().gt(9000).all()  # the table has the number, the picture its edge
    panel = figure.axes[2 * len(PALETTE) + 1]
    assert max(line.get_ydata().max() for line in panel.lines if len(line.get_ydata())) <= figures.LARGEST
    assert panel.get_ylim()[1] > figures.LARGEST
    assert set(table.curve) == {*records, "js-as-published"}
    assert table.dropna(subset="mse").groupby("curve").size().eq(len(plan.problem.levels)).all()


def test_figure_7_averages_errors_and_not_their_logarithms_in_every_column():
    small = {"profile": "quick", "seeds": 2, "steps_per_level": 80}
    plan = replace(experiments.FIGURE7, **small)
    records = synthetic(plan, beside={"later": replace(experiments.FIGURE7, curves=experiments.LATER, **small)})
    for group in records.values():
        group[1].arrays["estimate"] += 15.0
    figure, table = figures.figure7(plan, records)
    means = table.dropna(subset="error").groupby(["curve", "level"]).error.mean()
    panels = figure.axes[-len(experiments.LATER) :]
    for axes, curve in zip(panels, experiments.LATER, strict=True):
        assert np.allclose(axes.lines[0].get_ydata(), means[f"later/{curve.key}"])
        assert axes.get_yscale() == "log"


LATER_PANELS = {"figure1": (3, 4), "figure3": (12, 8), "figure5": (12, 4), "figure7": (18, 12)}


@pytest.mark.parametrize("name", LATER_PANELS)
def test_later_losses_stand_on_grey_below_and_change_nothing_above(name):
    plan, (paper, ours) = ONE_HOT[name], LATER_PANELS[name]
    records = synthetic(plan, beside=beside(name))
    figure, table = getattr(figures, name)(plan, records)
    _, other = getattr(figures, name)(plan, records | {"later/flo": records["later/fdime"]})
    drawn, changed = (one[~one.curve.str.startswith("later/")] for one in (table, other))
    assert drawn.equals(changed)
    extra = {"figure1": {"nwj-as-published"}, "figure7": {"js-as-published"}}.get(name, set())
    unseen = {"stratified/nwj", "small-steps/mine"} if name == "figure3" else set()
    assert set(table.curve) == {*records} - unseen | extra
    grey = [tuple(np.round(axes.get_facecolor()[:3], 2)) != (1, 1, 1) for axes in figure.axes]
    assert grey == [False] * paper + [True] * ours
    titles = [axes.get_title(loc="left") for axes in figure.axes[paper:]]
    names = [curve.label for curve in (experiments.LATER if name == "figure7" else experiments.ROWLESS)]
    assert [title for title in titles if title] == names


def test_half_as_many_points_of_later_losses():
    records = {"mine": synthetic(ONE_HOT["figure1"])["mine"]}
    once, twice = (figures.traces(records, thin=thin).set_index("step") for thin in (1, 2))
    assert twice.index.tolist() == once.index.tolist()[::2]
    assert np.array_equal(twice.estimate, once.estimate[twice.index])


def test_stamp_is_the_records_own():
    plan = ONE_HOT["figure1"]
    assert figures.stamp(plan, synthetic(plan)) == "Profile quick, 2 seeds, cpu."


def test_larger_profiles_have_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "PRODUCTS", tmp_path)
    assert figures.folder("quick") == tmp_path
    assert figures.folder("desk") == tmp_path / "desk"
