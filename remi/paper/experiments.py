"""What every figure and table trains, at every profile: beside the paper's values in `plans`, the only place for constants.

Every value says where it is from: "paper", "code" (the authors' released code, where the paper is silent) or "ours".
A profile changes the size, never the meaning.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from remi.losses import BOUNDS, LABELS
from remi.paper.plans import AveragesPlan, Benchmark, BenchmarkPlan, Curve, GaussianPlan, Groups, OneHotPlan, Plan
from remi.runs import Run
from remi.training import images

PROFILES = ("quick", "desk", "paper")

CLIP = {"clip": "both"}  # tau is 10 by default, as in Table 1
RELEASED = {"target_of": "released"}

# Table 1 as each experiment uses it: the released code clips only the regularized NWJ and TUBA, and in the image
# benchmarks both terms of SMILE; it pins the E_Q[softplus T] of JS, to 0 for the Gaussians and to 1 for images, where it
# evaluates JS with NWJ.
CLIPPED: dict[str, dict[str, Any]] = {"renwj": CLIP, "retuba": CLIP}
GAUSSIAN_OPTIONS = {**CLIPPED, "rejs": {"penalty": "softplus"}}
IMAGE_OPTIONS: dict[str, dict[str, Any]] = {
    "smile": CLIP,
    "resmile": CLIP,
    **CLIPPED,
    "js": {"evaluate": "nwj"},
    "rejs": {"evaluate": "nwj", "penalty": "softplus", "target": 1.0},
}


def _pairs(options: dict[str, dict[str, Any]], lam: float | None) -> tuple[Curve, ...]:
    """The six bounds, each followed by its regularized twin."""
    return tuple(
        Curve(loss, LABELS[loss], loss, lam if loss.startswith("re") else None, options.get(loss, {}))
        for name in BOUNDS
        for loss in (name, "re" + name)
    )


def _ablation(lam: float | None) -> tuple[Curve, ...]:
    """What Table 1 confounds: the clip alone and the regularizer alone."""
    return tuple(
        curve
        for name, label in (("nwj", "NWJ"), ("tuba", "TUBA"))
        for curve in (
            Curve(f"{name}-clip", f"{label}, clip only", name, None, CLIP),
            Curve(f"re{name}-noclip", f"Re{label}, no clip", "re" + name, lam),
        )
    )


MINE, NWJ = Curve("mine", "MINE", "mine"), Curve("nwj", "NWJ", "nwj")
TARGETS = (-5.0, -2.0, 0.0, 2.0, 5.0)  # code: C* of Fig. 4

FIGURE1 = OneHotPlan("paper", 20, (MINE, NWJ))
FIGURE3 = OneHotPlan("paper", 20, (MINE, NWJ), batch=32)
FIGURE3_STRATIFIED = replace(FIGURE3, stratified=True)
FIGURE3_SMALL_STEPS = replace(FIGURE3, curves=(NWJ,), lr=0.03, steps=6000)
FIGURE4 = OneHotPlan(
    "paper",
    20,
    tuple(Curve(f"remine-target{c:g}", f"ReMINE, C* = {c:g}", "remine", 0.1, {"target": c}) for c in TARGETS),
    steps=1500,
)
FIGURE5 = OneHotPlan(
    "paper",
    20,
    (
        Curve("remine", "ReMINE", "remine", 1.0),
        Curve("renwj-eq15", "ReNWJ, target of eq. 15", "renwj", 1.0),
        Curve("renwj-released", "ReNWJ, released target", "renwj", 1.0, RELEASED),
    ),
    batch=32,
)
FIGURE5_GENTLE = replace(FIGURE5, curves=(Curve("renwj-gentle", "ReNWJ, eq. 15, lam 0.1", "renwj", 0.1),))  # ours
REJS_LOG = Curve("rejs-log", "ReJS, log penalty", "rejs", 1.0)  # ours: a penalty that vanishes at JS's optimum
FIGURE7 = GaussianPlan("paper", 5, (*_pairs(GAUSSIAN_OPTIONS, 1.0), REJS_LOG, *_ablation(1.0)))
DERIVATION3 = AveragesPlan("paper", 10, _pairs(CLIPPED, 1.0))

RIVALS = (  # ours: later losses that need the scores alone
    Curve("infonce_anchor", "InfoNCE-anchor", "infonce_anchor"),
    Curve("sigmoid", "sigmoid", "sigmoid"),
    Curve("fdime", "GAN-DIME", "fdime"),
)
DCL = Curve("dcl", "DCL", "dcl")
HELLINGER = Curve("fdime-hd", "HD-DIME", "fdime", options={"divergence": "hd"})
FLO = Curve("flo", "FLO", "flo")
LATER = (*RIVALS, HELLINGER, DCL, FLO)
ROWLESS = (RIVALS[0], RIVALS[2], HELLINGER, FLO)  # on the one-hot problem the sigmoid loss is JS, and DCL has no rows
BEYOND = replace(  # ours: Fig. 7's staircase for who holds the constant, without clips
    FIGURE7,
    curves=(
        MINE,
        Curve("remine", "ReMINE", "remine", 1.0),
        NWJ,
        Curve("renwj", "ReNWJ, no clip", "renwj", 1.0),
        Curve("infonce", "InfoNCE", "infonce"),
        DCL,
        *RIVALS,
        HELLINGER,
        FLO,
    ),
    lr=1e-3,
)
SURVIVAL = replace(FIGURE3, curves=(MINE, FIGURE5.curves[0], NWJ, FIGURE5.curves[1], *ROWLESS))  # ours: the batches of Fig. 3

# code: CIFAR-10 in batches of 10, 40 epochs (SLB) and 100 (CLB); CIFAR-100 in batches of 100, 100 and 150 epochs
TABLE2 = BenchmarkPlan(
    "paper",
    5,
    (
        Benchmark("cifar-10", 10, 10, {"slb": 40 * 5000, "clb": 100 * 5000}, (), "resnet18", side=224),
        Benchmark("cifar-100", 100, 100, {"slb": 100 * 500, "clb": 150 * 500}, (), "resnet18", side=224),
    ),
    curves=_pairs(IMAGE_OPTIONS, None),
    ablation=_ablation(None),
)
# ours: lengths from figures/lengths_*.csv. With 100 classes the smallest weight alone, the best one in the search: the larger
# ones learn more slowly than these lengths allow. ReNWJ and ReTUBA still rose after 40,000 steps on CIFAR-10, and they and MINE
# after 25,000 on CIFAR-100: they have four times as many, and MINE twice, a guess.
DIGITS = (
    Benchmark("digits", 10, 10, {"slb": 300 * 143, "clb": 300 * 143}, (64, 512)),  # epochs of 143 batches
    Benchmark("digit-pairs", 100, 100, {"slb": 3000, "clb": 8000}, (64, 512), lams=(0.001,)),
)
SMALL_CIFAR = (
    Benchmark(
        "cifar-10",
        10,
        10,
        {"slb": 20_000, "clb": 40_000},
        (16, 32, 64, 512),
        "conv",
        train_size=1000,
        longer={"clb/renwj": 160_000, "clb/retuba": 160_000},
    ),
    Benchmark(
        "cifar-100",
        100,
        100,
        {"slb": 6000, "clb": 25_000},
        (16, 32, 64, 512),
        "conv",
        train_size=5000,
        lams=(0.001,),
        longer={"clb/mine": 50_000, "clb/remine": 50_000, "clb/renwj": 100_000, "clb/retuba": 100_000},
    ),
)


def _on_digits(curves: tuple[Curve, ...], lams: tuple[float, ...], network: str = "mlp") -> BenchmarkPlan:
    """Ours: CLB on digits at every profile, beside the cells of Table 2."""
    benchmark = replace(DIGITS[0], network=network, lams=lams)
    return BenchmarkPlan("paper", 5, (benchmark,), tasks=("clb",), curves=curves)


def _chosen(*losses: str) -> tuple[Curve, ...]:
    return tuple(curve for curve in TABLE2.curves if curve.key in losses)


ABOVE = (3.0, 10.0)  # targets; at 10 the best critic with non-negative scores lacks a ten-thousandth of a nat
REMEDIES: dict[str, Plan] = {
    "main": _on_digits(_chosen("mine", "remine", "smile", "resmile", "infonce", "nwj", "renwj", "tuba", "retuba"), (0.1, 0.01)),
    "targets": _on_digits(
        tuple(
            replace(
                curve, key=f"{curve.key}-target{c:g}", label=f"{curve.label}, C* {c:g}", options={**curve.options, "target": c}
            )
            for curve in _chosen("remine", "resmile")
            for c in ABOVE
        ),
        (0.01,),
    ),
    "variance": _on_digits((Curve("remine", "ReMINE, variance", "remine", options={"penalty": "variance"}),), (0.1, 0.01)),
    "signed": _on_digits(_chosen("mine", "remine", "nwj", "renwj"), (0.1,), "mlp-signed"),
    "unit": _on_digits(_chosen("smile", "infonce", "nwj", "tuba", "js"), (), "mlp-unit"),
    "later": _on_digits((*RIVALS, DCL), ()),
}

BENCHMARKS = (*DIGITS, *TABLE2.benchmarks)  # a line per data set: what its tables need, whatever the profile

SIZES: dict[str, dict[str, Any]] = {
    "onehot": {"quick": {}, "desk": {}, "paper": {}},
    "gaussian": {
        "quick": {"seeds": 3, "steps_per_level": 500, "hidden": (128, 128)},
        "desk": {"seeds": 3},
        "paper": {},
    },
    "averages": {"quick": {"seeds": 3}, "desk": {}, "paper": {}},
    "remedies": {"quick": {"seeds": 3}, "desk": {"seeds": 3}, "paper": {}},
    "beyond": {"quick": {"seeds": 3, "steps_per_level": 400, "hidden": (64, 64)}, "desk": {"seeds": 3}, "paper": {}},
    "images": {
        "quick": {"seeds": 3, "benchmarks": DIGITS},
        "desk": {"seeds": 3, "benchmarks": SMALL_CIFAR},
        "paper": {},
    },
}


FOLDER: dict[str, tuple[dict[str, int], str, tuple[int, ...], int]] = {  # ours: epochs, network, its sizes, side in pixels
    "quick": ({"slb": 2, "clb": 2}, "conv", SMALL_CIFAR[0].hidden, 32),
    "desk": ({"slb": 10, "clb": 10}, "conv", SMALL_CIFAR[0].hidden, 32),
    "paper": ({"slb": 40, "clb": 100}, "resnet18", (), 224),  # as CIFAR-10
}


def _sized(plans: dict[str, Plan], profile: str, kind: str) -> dict[str, Plan]:
    check_profile(profile)
    return {name: replace(plan, profile=profile, **SIZES[kind][profile]) for name, plan in plans.items()}


def check_profile(profile: str) -> str:
    """The profile itself.

    Raises:
        ValueError: it is unknown.
    """
    if profile not in PROFILES:
        raise ValueError(f"profile must be one of {', '.join(PROFILES)}; got {profile!r}")
    return profile


def figure1(profile: str = "quick") -> dict[str, Plan]:
    """Fig. 1: MINE drifts, NWJ does not; and later losses in the same setting."""
    return _sized({"main": FIGURE1, "later": replace(FIGURE1, curves=ROWLESS)}, profile, "onehot")


def figure2(profile: str = "quick") -> dict[str, Plan]:
    """Fig. 2: the critics of Fig. 1."""
    return _sized({"main": FIGURE1}, profile, "onehot")


def figure3(profile: str = "quick") -> dict[str, Plan]:
    """Fig. 3: both explode at batch 32; two controls for the cause; and later losses in the same setting."""
    return {**_explosions(profile), **_sized({"later": replace(FIGURE3, curves=ROWLESS)}, profile, "onehot")}


def _explosions(profile: str) -> dict[str, Plan]:
    """The paper's losses in Fig. 3."""
    plans: dict[str, Plan] = {"main": FIGURE3, "stratified": FIGURE3_STRATIFIED, "small-steps": FIGURE3_SMALL_STEPS}
    return _sized(plans, profile, "onehot")


def figure4(profile: str = "quick") -> dict[str, Plan]:
    """Fig. 4: ReMINE's second term goes where C* says."""
    return _sized({"main": FIGURE4}, profile, "onehot")


def figure5(profile: str = "quick") -> dict[str, Plan]:
    """Fig. 5: the regularized twins at batch 32, ReNWJ with a smaller weight, and later losses in the same setting."""
    plans: dict[str, Plan] = {"main": FIGURE5, "gentle": FIGURE5_GENTLE, "later": replace(FIGURE5, curves=ROWLESS)}
    return _sized(plans, profile, "onehot")


def figure7(profile: str = "quick") -> dict[str, Plan]:
    """Fig. 7: the staircase, for the paper's losses and for later ones."""
    return _sized({"main": FIGURE7, "later": replace(FIGURE7, curves=LATER)}, profile, "gaussian")


def table2(profile: str = "quick") -> dict[str, Plan]:
    """Table 2 and Fig. 6: the image benchmarks."""
    return _sized({"main": TABLE2}, profile, "images")


def folder(profile: str = "quick") -> dict[str, Plan]:
    """Table 2's losses on the folder of images that `--data` or REMI_DATA names; see `folder_benchmark`."""
    return {"main": replace(table2(profile)["main"], benchmarks=(folder_benchmark(profile),))}  # type: ignore[call-arg]


def folder_benchmark(profile: str = "quick") -> Benchmark:
    """The folder of images that `--data` or REMI_DATA names, whatever its classes, with what its training takes.

    A batch has as many images as there are classes, as the paper's two have, and at least 10.

    Raises:
        OSError: there is no such folder, or a file is not an image.
        ValueError: its two splits have different classes, or one is smaller than a batch.
    """
    data = images.DATASETS["folder"]()
    batch = max(10, data.classes)
    if min(data.sizes) < batch:
        raise ValueError(f"a split must hold at least {batch} images, a batch; {images.data_root()} has {data.sizes}")
    epochs, network, hidden, side = FOLDER[profile]
    steps = {task: count * (data.sizes[0] // batch) for task, count in epochs.items()}
    return Benchmark("folder", data.classes, batch, steps, hidden, network, side=side)


def derivation3(profile: str = "quick") -> dict[str, Plan]:
    """Averages over batches, on the traces of real trainings."""
    return _sized({"main": DERIVATION3}, profile, "averages")


def beyond(profile: str = "quick") -> dict[str, Plan]:
    """The later losses beside the paper's: error against the true value at batch 64, and which seeds survive batch 32."""
    return {**_sized({"main": BEYOND}, profile, "beyond"), **_sized({"survival": SURVIVAL}, profile, "onehot")}


def remedies(profile: str = "quick") -> dict[str, Plan]:
    """What is better than a target of 0 where features are never negative; digits at every profile."""
    return _sized(REMEDIES, profile, "remedies")


def derivation(profile: str = "quick") -> dict[str, Plan]:
    """A derivation that trains nothing: the same at every profile."""
    return {"main": Plan(check_profile(profile), seeds=0)}


def derivation5(profile: str = "quick") -> dict[str, Plan]:
    """The runs of Fig. 3, and beside them those of Fig. 5: the same batches, regularized."""
    return {**_explosions(profile), "regularized": figure5(profile)["main"]}


PLANS: dict[str, Callable[[str], dict[str, Plan]]] = {
    "fig1": figure1,
    "fig2": figure2,
    "fig3": figure3,
    "fig4": figure4,
    "fig5": figure5,
    "fig6": table2,
    "fig7": figure7,
    "table2": table2,
    "derivation1": derivation,
    "derivation2": derivation,
    "derivation3": derivation3,
    "derivation4": derivation,
    "derivation5": derivation5,
    "derivation6": derivation,
    "beyond": beyond,
    "remedies": remedies,
}

OWN: dict[str, Callable[[str], dict[str, Plan]]] = {"folder": folder}  # of one's own data: part of no product

MOVED: dict[str, tuple[str, tuple[float, ...]]] = {  # ours: what a slider of the figure moves, and where to beside its own value
    "fig1": ("batch", (32, 48, 64)),
    "fig3": ("batch", (48, 64)),
    "fig4": ("lam", (0.01, 1.0)),
    "fig5": ("lam", (0.01, 0.1, 10.0)),
}


def moved(name: str, profile: str = "quick") -> dict[str, Plan]:
    """The plans of a figure at the other values of its slider, as "batch 48" or "batch 48/stratified"; none without one.

    A weight moves in the main plan alone: the others are controls with a weight of their own.
    """
    field, values = MOVED.get(name, ("", ()))
    return {
        f"{field} {value:g}" + f"/{part}" * (part != "main"): _at(plan, field, value)
        for value in values
        for part, plan in PLANS[name](profile).items()
        if field == "batch" or part == "main"
    }


def _at(plan: Any, field: str, value: float) -> Plan:
    """A plan with another batch, or with another weight in all its curves."""
    change = {"curves": tuple(replace(c, lam=value) for c in plan.curves)} if field == "lam" else {field: value}
    moved_plan: Plan = replace(plan, **change)
    return moved_plan


def groups(plans: dict[str, Plan]) -> Groups:
    """The runs of all plans; a group keeps its key in "main" and is "plan/key" elsewhere."""
    return {
        key if name == "main" else f"{name}/{key}": members
        for name, plan in plans.items()
        for key, members in plan.runs().items()
    }


def runs_of(name: str, profile: str) -> list[Run]:
    """Every run that a figure or table needs, its slider's too, or for "all" that any of `PLANS` needs; duplicates stay."""
    names = PLANS if name == "all" else [name]
    plans = [{**{**PLANS, **OWN}[each](profile), **moved(each, profile)} for each in names]
    return [run for every in plans for members in groups(every).values() for run in members]
