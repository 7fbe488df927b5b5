"""Plans hold the paper's values, and a profile changes their size only."""

import math
from dataclasses import fields, replace

import pytest

from remi.paper import experiments
from remi.paper.experiments import PLANS, PROFILES, TABLE2, groups
from remi.runs.specs import EncoderRun
from remi.training import images
from remi.training.loop import device

LATER = "later/infonce_anchor later/fdime later/fdime-hd later/flo"
KEYS = {  # what a figure or table trains: its groups
    "fig1": f"mine nwj {LATER}",
    "fig2": "mine nwj",
    "fig3": f"mine nwj stratified/mine stratified/nwj small-steps/nwj {LATER}",
    "fig4": "remine-target-5 remine-target-2 remine-target0 remine-target2 remine-target5",
    "fig5": f"remine renwj-eq15 renwj-released gentle/renwj-gentle {LATER}",
    "fig7": "mine remine smile resmile infonce reinfonce nwj renwj tuba retuba js rejs rejs-log "
    "nwj-clip renwj-noclip tuba-clip retuba-noclip "
    "later/infonce_anchor later/sigmoid later/fdime later/fdime-hd later/dcl later/flo",
}
ONE_HOT = {  # paper/settings.md, one-hot: the first run of a group at "paper"
    ("fig1", "mine"): {"batch": 100, "steps": 3000, "loss": "mine"},
    ("fig1", "nwj"): {"batch": 100, "steps": 3000, "loss": "nwj", "options": {}},
    ("fig1", "later/flo"): {"batch": 100, "steps": 3000, "loss": "flo", "lr": 0.1, "options": {}},
    ("fig3", "later/infonce_anchor"): {"batch": 32, "steps": 3000, "loss": "infonce_anchor", "lam": None, "options": {}},
    ("fig5", "later/fdime-hd"): {"batch": 32, "steps": 3000, "loss": "fdime", "options": {"divergence": "hd"}},
    ("fig3", "mine"): {"batch": 32, "steps": 3000, "loss": "mine"},
    ("fig3", "nwj"): {"batch": 32, "steps": 3000, "loss": "nwj", "lr": 0.1},
    ("fig3", "small-steps/nwj"): {"batch": 32, "steps": 6000, "lr": 0.03},
    ("fig4", "remine-target-5"): {"batch": 100, "steps": 1500, "loss": "remine", "lam": 0.1, "options": {"target": -5}},
    ("fig4", "remine-target2"): {"batch": 100, "steps": 1500, "loss": "remine", "lam": 0.1, "options": {"target": 2}},
    ("fig5", "remine"): {"batch": 32, "steps": 3000, "loss": "remine", "lam": 1.0, "options": {}},
    ("fig5", "renwj-eq15"): {"batch": 32, "steps": 3000, "loss": "renwj", "lam": 1.0, "options": {}},
    ("fig5", "renwj-released"): {"batch": 32, "loss": "renwj", "lam": 1.0, "options": {"target_of": "released"}},
    ("fig5", "gentle/renwj-gentle"): {"batch": 32, "loss": "renwj", "lam": 0.1, "options": {}},
}
CLIP = {"clip": "both"}  # at tau = 10, the default
CLIPPED = {"renwj": CLIP, "retuba": CLIP}
GAUSSIAN_OPTIONS = CLIPPED | {"nwj-clip": CLIP, "tuba-clip": CLIP, "rejs": {"penalty": "softplus"}}
GAUSSIAN_OPTIONS |= {"later/fdime-hd": {"divergence": "hd"}}
IMAGE_OPTIONS = {
    "smile": CLIP,
    "resmile": CLIP,
    "renwj": CLIP,
    "retuba": CLIP,
    "js": {"evaluate": "nwj"},
    "rejs": {"evaluate": "nwj", "penalty": "softplus", "target": 1},
    "nwj-clip": CLIP,
    "tuba-clip": CLIP,
}


def holds(run, values):
    return {name: getattr(run, name) for name in values} == values


@pytest.mark.parametrize(("figure", "keys"), KEYS.items())
@pytest.mark.parametrize("profile", PROFILES)
def test_groups(figure, keys, profile):
    assert list(groups(PLANS[figure](profile))) == keys.split()


@pytest.mark.parametrize(("place", "values"), ONE_HOT.items(), ids=map("-".join, ONE_HOT))
def test_onehot_settings(place, values):
    figure, key = place
    run = groups(PLANS[figure]("paper"))[key][0]
    assert holds(run, {"optimizer": "sgd", "hidden": (64,), "output_bias": False, "init_std": None} | values)
    assert run.problem.symbols == 16
    assert run.problem.true_mi() == math.log(16)
    assert run.lr == values.get("lr", 0.1)


def test_only_the_control_is_stratified():
    stratified = {key for key, members in groups(PLANS["fig3"]("paper")).items() if members[0].problem.stratified}
    assert stratified == {"stratified/mine", "stratified/nwj"}


@pytest.mark.parametrize("key", KEYS["fig7"].split())
def test_gaussian_settings(key):
    run = groups(PLANS["fig7"]("paper"))[key][0]
    assert holds(run, {"batch": 64, "steps": 20_000, "hidden": (256, 256), "optimizer": "adam", "lr": 5e-4, "init_std": 0.05})
    assert (run.problem.dim, run.problem.steps_per_level, run.problem.levels) == (20, 4000, (2, 4, 6, 8, 10))
    assert run.loss == key.removeprefix("later/").split("-")[0]
    assert (run.lam, run.options) == (1.0 if key.startswith("re") else None, GAUSSIAN_OPTIONS.get(key, {}))
    assert run.output_bias


@pytest.mark.parametrize("profile", PROFILES)
def test_derivation3_trains_small_batches_of_one_level(profile):
    found = groups(PLANS["derivation3"](profile))
    assert list(found) == KEYS["fig7"].split()[:12]
    for key, members in found.items():
        assert [run.seed for run in members] == list(range(3 if profile == "quick" else 10))
        for run in members:
            assert holds(run, {"loss": key, "batch": 8, "steps": 3000, "lr": 5e-3, "hidden": (64,), "output_bias": False})
            assert (run.lam, run.options) == (1.0 if key.startswith("re") else None, CLIPPED.get(key, {}))
            assert {run.problem.true_mi(step) for step in (0, 2999)} == {2.0}


def test_span_of_the_drawn_average():
    assert PLANS["fig7"]("paper")["main"].smoothing == 200


SMALL = {"network": "mlp", "hidden": (64, 512), "side": None, "train_size": None}
CONV = {"network": "conv", "hidden": (16, 32, 64, 512), "side": None}
RESNET = {"network": "resnet18", "hidden": (), "side": 224, "train_size": None}  # paper/settings.md
IMAGES = {  # profile, data set: batch, steps in SLB and CLB, and what sees the images
    ("quick", "digits"): (10, 300 * (1437 // 10), 300 * (1437 // 10), SMALL),
    ("quick", "digit-pairs"): (100, 3000, 8000, SMALL),
    ("desk", "cifar-10"): (10, 20_000, 40_000, CONV | {"train_size": 1000}),
    ("desk", "cifar-100"): (100, 6000, 25_000, CONV | {"train_size": 5000}),
    ("paper", "cifar-10"): (10, 40 * 5000, 100 * 5000, RESNET),
    ("paper", "cifar-100"): (100, 100 * 500, 150 * 500, RESNET),
}
LONGER = {
    ("desk", "clb/cifar-10/renwj"): 160_000,
    ("desk", "clb/cifar-10/retuba"): 160_000,
    ("desk", "clb/cifar-100/mine"): 50_000,
    ("desk", "clb/cifar-100/remine"): 50_000,
    ("desk", "clb/cifar-100/renwj"): 100_000,
    ("desk", "clb/cifar-100/retuba"): 100_000,
}


@pytest.mark.parametrize("task", ["slb", "clb"])
@pytest.mark.parametrize(("profile", "dataset"), IMAGES)
def test_image_settings(task, profile, dataset):
    cells = {key: members for key, members in groups(PLANS["table2"](profile)).items() if key.startswith(f"{task}/{dataset}/")}
    batch, slb, clb, seen_by = IMAGES[profile, dataset]
    for key, members in cells.items():
        _, _, curve, lam = key.split("/")
        untrained = curve == "untrained"
        for seed, run in enumerate(members):
            assert holds(
                run, {"task": task, "dataset": dataset, "seed": seed, "optimizer": "adam", "precision": "fp32"} | seen_by
            )
            steps = LONGER.get((profile, f"{task}/{dataset}/{run.loss}"), {"slb": slb, "clb": clb}[task])
            assert (run.lr, run.batch, run.steps) == (1e-3, batch, 0 if untrained else steps)
            assert (run.loss, run.options) == (curve.split("-")[0], IMAGE_OPTIONS.get(curve, {}))
            assert str(run.lam) == lam
        assert (lam == "None") == (not curve.startswith("re"))


@pytest.mark.parametrize(("profile", "ten", "seeds"), [("quick", "digits", 3), ("desk", "cifar-10", 3), ("paper", "cifar-10", 5)])
def test_table2_counts(profile, ten, seeds):
    cells = {key: len(members) for key, members in groups(PLANS["table2"](profile)).items()}
    curves = [key.split("/")[2] for key in cells]
    grid = sum(count for count, curve in zip(cells.values(), curves, strict=True) if "-" not in curve and curve != "untrained")
    blocks = 4  # two tasks, two data sets
    losses = 2 * 24 + 2 * (24 if profile == "paper" else 12)  # 6 originals and 6 twins at 3 weights, or at 1
    assert grid == losses * seeds  # 480 in the paper
    assert curves.count("untrained") == blocks
    twins = {f"re{name}-noclip/{lam}" for name in ("nwj", "tuba") for lam in (0.1, 0.01, 0.001)}
    ablation = {f"clb/{ten}/{curve}" for curve in twins | {"nwj-clip/None", "tuba-clip/None"}}
    assert {key for key in cells if "clip" in key} == ablation
    assert sum(cells.values()) == (losses + blocks + 8) * seeds
    assert {key.rpartition("/")[2] for key in cells if "100" in key or "pairs" in key} == (
        {"None", "0.1", "0.01", "0.001"} if profile == "paper" else {"None", "0.001"}
    )
    assert TABLE2.lams == (0.1, 0.01, 0.001)


def test_quick_sizes():
    assert {len(members) for figure in KEYS if figure != "fig7" for members in groups(PLANS[figure]("quick")).values()} == {20}
    run = groups(PLANS["fig7"]("quick"))["mine"]
    assert len(run) == 3
    assert holds(run[0], {"steps": 2500, "hidden": (128, 128)})


@pytest.mark.parametrize(
    ("figure", "seeds"), [("fig1", 20), ("fig3", 20), ("fig4", 20), ("fig5", 20), ("fig7", 5), ("table2", 5)]
)
def test_paper_seeds(figure, seeds):
    for members in groups(PLANS[figure]("paper")).values():
        assert [run.seed for run in members] == list(range(seeds))


@pytest.mark.parametrize("figure", [*KEYS, "table2"])
@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_changes_the_size_only(figure, profile):
    size = {"profile", "seeds"} | {"fig7": {"steps_per_level", "hidden"}, "table2": {"benchmarks"}}.get(figure, set())
    for name, plan in PLANS[figure](profile).items():
        paper = PLANS[figure]("paper")[name]
        assert {f.name for f in fields(plan) if getattr(plan, f.name) != getattr(paper, f.name)} <= size
        assert plan.profile == profile


@pytest.mark.parametrize("figure", PLANS)
def test_an_unknown_profile_names_the_allowed(figure):
    with pytest.raises(ValueError, match="quick, desk, paper; got 'huge'"):
        PLANS[figure]("huge")


@pytest.mark.parametrize(("figure", "twin"), [("fig1", "fig2"), ("fig6", "table2"), ("fig3", "derivation5")])
def test_figures_that_share_runs_train_them_once(figure, twin):
    one, other = (groups(PLANS[name]("quick")) for name in (figure, twin))
    shared = [key for key in one if not key.startswith("later")]  # what is ours stays with its figure
    assert {key: one[key] for key in shared} == {key: runs for key, runs in other.items() if not key.startswith("regularized")}


def test_every_needed_run_is_in_the_sweep():
    wanted = experiments.runs_of("all", "quick")
    for plan in PLANS.values():
        for members in groups(plan("quick")).values():
            assert all(run in wanted for run in members[:1] + members[-1:])


@pytest.mark.parametrize("figure", experiments.MOVED)
def test_a_slider_moves_one_setting_of_the_figures_own_runs(figure):
    field, values = experiments.MOVED[figure]
    own, moved = groups(PLANS[figure]("quick")), groups(experiments.moved(figure))
    assert {key.partition("/")[0] for key in moved} == {f"{field} {value:g}" for value in values}
    for key, members in moved.items():
        to, _, name = key.partition("/")
        for run, was in zip(members, own[name], strict=True):
            assert getattr(run, field) == float(to.split()[1]) != getattr(was, field)
            assert replace(run, **{field: getattr(was, field)}) == was
    wanted = experiments.runs_of(figure, "quick")
    assert all(run in wanted for members in moved.values() for run in members[:1])


def test_every_run_has_a_loss_that_exists():
    where = device("cpu")
    for run in experiments.runs_of("all", "quick"):
        if not (isinstance(run, EncoderRun) and run.steps == 0):
            run.estimator([run], where)


def test_a_plan_prints_one_field_per_line():
    plan = PLANS["fig7"]("quick")["main"]
    lines = str(plan).splitlines()
    assert [line.split(" = ")[0].strip() for line in lines] == [f.name for f in fields(plan)]
    assert str(replace(plan, batch=65)) != str(plan)


def test_a_plan_says_where_the_tasks_differ_in_length():
    text = "cifar-10 (batch 10, 200000 SLB and 500000 CLB steps), cifar-100 (batch 100, 50000 SLB and 75000 CLB steps)"
    assert text in str(PLANS["table2"]("paper")["main"])
    assert "digits (batch 10, 42900 steps)" in str(PLANS["table2"]("quick")["main"])


@pytest.mark.parametrize(
    ("profile", "steps", "seen_by"),
    [
        ("quick", {"slb": 2, "clb": 2}, ("conv", (16, 32, 64, 512), 32)),
        ("desk", {"slb": 10, "clb": 10}, ("conv", (16, 32, 64, 512), 32)),
        ("paper", {"slb": 40, "clb": 100}, ("resnet18", (), 224)),
    ],
)
@pytest.mark.parametrize(("classes", "batch"), [(3, 10), (10, 10), (25, 25)])
def test_a_folder_of_images_is_trained_as_table_2_is(profile, steps, seen_by, classes, batch, monkeypatch):
    little = replace(images.noise("cifar-10", 60), classes=classes)
    monkeypatch.setitem(images.DATASETS, "folder", lambda: little)
    found, of_table2 = (groups(plan(profile)) for plan in (experiments.folder, experiments.table2))
    losses = {
        task: dict.fromkeys(
            key.split("/", 2)[2] for key in of_table2 if key.startswith(task) and (classes == 10 or "clip" not in key)
        )
        for task in steps
    }
    assert list(found) == [f"{task}/folder/{loss}" for task in steps for loss in losses[task]]
    for key, members in found.items():
        for run in members:
            assert (run.dataset, run.batch, run.train_size) == ("folder", batch, None)
            assert (run.network, run.hidden, run.side) == seen_by
            assert run.steps == (0 if "untrained" in key else steps[run.task] * (60 // batch))


def test_a_folder_smaller_than_a_batch_is_refused(monkeypatch):
    monkeypatch.setitem(images.DATASETS, "folder", lambda: images.noise("cifar-10", 9))
    with pytest.raises(ValueError, match=r"a split must hold at least 10 images, a batch; .* has \(9, 9\)"):
        experiments.folder()
