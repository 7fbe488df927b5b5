"""A run's identity is what the code computes: edits that change no number keep it, edits that do change that of their kinds."""

import json
import math
import os
import random
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from remi.paper import experiments
from remi.runs import FloRun, fingerprint
from remi.runs.specs import CriticRun, EncoderRun, Run, to_json
from remi.training.problems import GaussianStaircase, OneHot

HERE = Path(__file__).parent
PACKAGE = Path(fingerprint.__file__).parents[1]
ONE_HOT = CriticRun("mine", 8, 3, "sgd", 0.1, (4,), problem=OneHot(4), output_bias=False)
GAUSSIAN = CriticRun("nwj", 4, 3, "adam", 1e-3, (4, 4), problem=GaussianStaircase(2), init_std=0.05)
ENCODER = EncoderRun("infonce", 10, 2, "adam", 1e-3, (16, 16), task="slb")
CLIP = {"clip": "both"}
KINDS = {
    "onehot mine": ONE_HOT,
    "onehot remine": replace(ONE_HOT, loss="remine", lam=0.1),
    "gaussian nwj": GAUSSIAN,
    "gaussian renwj": replace(GAUSSIAN, loss="renwj", lam=1.0, options=CLIP),
    "gaussian resmile": replace(GAUSSIAN, loss="resmile", lam=1.0),
    "gaussian retuba": replace(GAUSSIAN, loss="retuba", lam=1.0),
    "onehot flo": FloRun("flo", 8, 3, "sgd", 0.1, (4,), problem=OneHot(4), output_bias=False),
    "gaussian flo": FloRun("flo", 4, 3, "adam", 1e-3, (4, 4), problem=GaussianStaircase(2), init_std=0.05),
    "slb infonce": ENCODER,
    "clb rejs": replace(ENCODER, task="clb", loss="rejs", lam=0.1, train_size=100),
    "clb untrained": replace(ENCODER, task="clb", loss="untrained", steps=0),
    "conv tuba": replace(ENCODER, loss="tuba", dataset="cifar-10", network="conv", side=16),
    "resnet18 js": replace(ENCODER, loss="js", dataset="cifar-10", network="resnet18", hidden=(), side=224),
}
LARGE = "resnet18 js"  # seconds: where it matters only


def kinds(*words):
    """Those whose name has one of the words."""
    return {name for name in KINDS if any(word in name for word in words)}


TRAINED, ENCODERS = set(KINDS) - {"clb untrained"}, kinds("slb", "clb", "conv", "resnet18")
SCORES, ESTIMATORS, CRITICS, SPECS = "losses/scores.py", "losses/estimators.py", "training/critics.py", "runs/specs.py"
LOOP, IMAGES, PROBLEMS, NETWORKS = "training/loop.py", "training/images.py", "training/problems.py", "training/encoders.py"

MOVED = """def _where(mask: Tensor | None, values: Tensor, otherwise: float) -> Tensor:
    return values if mask is None else values.masked_fill(~mask, otherwise)


"""
SAME = {  # file, and pairs of a text that is there once and what takes its place
    "a local variable has another name": (
        SCORES,
        ("total = _where(self", "whole = _where(self"),
        ("return total - _log", "return whole - _log"),
    ),
    "a comment": (
        LOOP,
        ("            valid = scores.valid\n", "            valid = scores.valid  # not every batch has a pair\n"),
    ),
    "a docstring": (
        CRITICS,
        ("Draw every linear layer, run r from generator r", "Fill all the layers, a generator for each run"),
    ),
    "a function at another place": (SCORES, (MOVED, ""), ("def _mean(", MOVED + "def _mean(")),
    "a helper inlined": (SCORES, ("_where(mask, values, 0.0).flatten", "values.masked_fill(~mask, 0.0).flatten")),
    "an import moved": (
        ESTIMATORS,
        ("from torch.nn.functional import logsigmoid\n", ""),
        (
            "    # softplus(t) = -logsigmoid(-t)",
            "    from torch.nn.functional import logsigmoid\n\n    # softplus(t) = -logsigmoid(-t)",
        ),
    ),
    "an equal formula for TUBA": (ESTIMATORS, ("seen.log_mean_exp().exp() - 1\n", "seen.log_mean_exp().expm1()\n")),
    "an equal formula for the penalty": (ESTIMATORS, ("(normalizer - target).square()", "(target - normalizer) ** 2")),
    "additions in another order": (
        CRITICS,
        ("self.dim_x, :] + bias, y @", "self.dim_x, :], y @"),
        ("weight[..., self.dim_x :, :]\n", "weight[..., self.dim_x :, :] + bias\n"),
    ),
    "a faster equal path": (
        CRITICS,
        ("else product + self.bias", "else torch.baddbmm(self.bias, x.expand(len(self.weight), *x.shape[-2:]), self.weight)"),
    ),
    "an update written as a sum": (
        LOOP,
        (".sub_(parameters", ".add_(parameters"),
        ("0.0), alpha=self.lr)", "0.0), alpha=-self.lr)"),
    ),
}
OTHER = {  # the kinds that they touch, and the same
    "a sign": (kinds(" re"), ESTIMATORS, ("reading.objective - lam * penalty", "reading.objective + lam * penalty")),
    "a default": (
        kinds("resmile"),
        ESTIMATORS,
        ("def smile(scores: Scores, *, tau: float = 10.0", "def smile(scores: Scores, *, tau: float = 9.0"),
    ),
    "an initialisation": (
        kinds("onehot", "slb", "clb", "conv"),
        CRITICS,
        ("bound = 1 / math.sqrt(", "bound = 1.01 / math.sqrt("),
    ),
    "an initialisation with a given deviation": (
        kinds("gaussian"),
        CRITICS,
        ("values.normal_(0, std,", "values.normal_(0, 1.01 * std,"),
    ),
    "the order of two draws": (kinds("onehot"), PROBLEMS, ("x, u, v = torch.randint", "x, v, u = torch.randint")),
    "the order of two other draws": (kinds("gaussian"), PROBLEMS, ("x, noise = torch.randn", "noise, x = torch.randn")),
    "Adam's epsilon": (TRAINED - kinds("onehot"), LOOP, ("eps=1e-8", "eps=1e-7")),
    "a second function with another weight": (
        kinds("flo"),
        "losses/rivals.py",
        ("joint = -replace(scores", "joint = -1.01 * replace(scores"),
    ),
    "a second output of a marginal pair": (
        kinds("flo"),
        "losses/rivals.py",
        ("second=both.joint[1]", "second=both.marginal[1, ..., 0, :] * 1"),
    ),
    "a clip of one term": (
        kinds("renwj"),
        ESTIMATORS,
        (
            "joint, marginal = seen.joint_mean(), (seen.log_mean_exp() - 1).exp()",
            "joint, marginal = scores.joint_mean(), (seen.log_mean_exp() - 1).exp()",
        ),
    ),
    "a clip that lets the gradient through": (
        kinds("resmile"),
        ESTIMATORS,
        (
            "clipped = scores.map(lambda t: t.clamp(-tau, tau))",
            "clipped = scores.map(lambda t: t + (t.clamp(-tau, tau) - t).detach())",
        ),
    ),
    "a target": (kinds("nwj"), ESTIMATORS, ('(1 if target_of == "eq15" else 0)', '(1.001 if target_of == "eq15" else 0)')),
    "a normalisation": (kinds("conv", "resnet18"), IMAGES, ("values / 127.5 - 1", "values / 128 - 1")),
    "a learning rate": (TRAINED, SPECS, ("OPTIMIZERS[self.optimizer](self.lr)", "OPTIMIZERS[self.optimizer](1.001 * self.lr)")),
    "a step of the staircase": (
        kinds("gaussian"),
        PROBLEMS,
        ("step // self.steps_per_level", "(step + 1) // self.steps_per_level"),
    ),
    "one step fewer ahead": (kinds("onehot", "gaussian"), SPECS, ("CHUNK = 100", "CHUNK = 99")),
    "another draw of some images": (
        kinds("clb rejs"),
        IMAGES,
        ("manual_seed(0))\n        labels = self", "manual_seed(1))\n        labels = self"),
    ),
    "a last epoch without its first step": (TRAINED & ENCODERS, SPECS, ("trace[member, -epoch:]", "trace[member, 1 - epoch :]")),
    "an image paired with itself": (
        kinds("clb"),
        SCORES,
        ("others = _others(matrix, first)\n", "others = _others(matrix, first) | True\n"),
    ),
    "an update by a batch without a pair": (kinds("clb rejs"), LOOP, ("self.alive & valid & finite", "self.alive & finite")),
    "a diverged run that goes on": (TRAINED, LOOP, ("            self.alive &= finite\n", "")),
    "an evaluation in training mode": (ENCODERS, SPECS, ("        self.network.eval()\n", "")),
    "a seed": (kinds("resnet18"), NETWORKS, ("manual_seed(seed)\n            self", "manual_seed(seed + 1)\n            self")),
}

EDITS = SAME | {name: tuple(edit) for name, (_, *edit) in OTHER.items()}

DRIVER = """
import json, os, sys
import numpy, scipy.special, torch, torch.optim.adam, torch.utils.checkpoint, torchvision, tqdm  # once for all copies

for name, copy, runs in json.load(sys.stdin):
    sys.stdout.flush()
    if os.fork():
        os.wait()
        continue
    sys.path.insert(0, copy)
    from remi.runs import fingerprint, from_json
    assert fingerprint.__file__.startswith(copy)
    found = {kind: fingerprint.numbers(fingerprint.miniature(from_json(plain))) for kind, plain in runs.items()}
    print(json.dumps([name, found]), flush=True)
    os._exit(0)
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """The fingerprints of the kinds in the package as it is, "", and after each edit of a copy."""
    asked, lost = [], {}
    for name, (file, *changes) in {"": (IMAGES,), **EDITS}.items():
        copy = tmp_path_factory.mktemp("copy")
        shutil.copytree(PACKAGE, copy / "remi", ignore=shutil.ignore_patterns("__pycache__", "paper"))
        text = (copy / "remi" / file).read_text()
        for old, new in changes:
            if text.count(old) != 1:
                lost[name] = f"the edit's text must be once in {file}: {old!r}"
            text = text.replace(old, new)
        (copy / "remi" / file).write_text(text)
        runs = {kind: to_json(run) for kind, run in KINDS.items() if kind != LARGE or file in (IMAGES, NETWORKS)}
        asked += [[name, str(copy), runs]] * (name not in lost)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", DRIVER], input=json.dumps(asked), env=environment, stdout=subprocess.PIPE, text=True
    )
    return lost | dict(map(json.loads, done.stdout.splitlines()))


def touched(found, name):
    """The kinds that an edit gives another fingerprint."""
    assert isinstance(found[name], dict), found[name]
    return {kind for kind, lines in found[name].items() if lines != found[""][kind]}


@pytest.mark.slow
@pytest.mark.parametrize("name", SAME)
def test_an_edit_that_changes_no_number_keeps_every_record(name, found):
    assert touched(found, name) == set()


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHER)
def test_an_edit_that_changes_numbers_invalidates_what_it_touches_and_only_this(name, found):
    assert touched(found, name) == OTHER[name][0] & found[name].keys()


def every():
    """What all miniatures of the quick and desk profiles leave behind, and that of the large network; by specification."""
    wanted = [run for profile in ("quick", "desk") for run in experiments.runs_of("all", profile)]
    small = {json.dumps(to_json(run)): run for run in map(fingerprint.miniature, [*wanted, KINDS[LARGE]])}
    return {text: fingerprint.numbers(run) for text, run in small.items()}


@pytest.fixture(scope="module")
def here():
    """The same, in this process."""
    return every()


@pytest.mark.slow
def test_every_kind_of_run_has_a_fingerprint_of_its_own(here):
    assert len(here) > 90
    assert len(set(map(tuple, here.values()))) == len(here) - 1  # Fig. 4 names a target that is the default
    for text, lines in here.items():
        assert all(re.fullmatch(r"[a-z_ ]+ -?\d\.\d{5}e[+-]\d\d \[.*\]", line) for line in lines), text  # none is refused


@pytest.mark.slow
def test_miniatures_pass_every_branch(here):
    for text, lines in here.items():
        run = json.loads(text)
        both = 0 if run.get("network") == "resnet18" else math.cos(1)  # one miniature, or two
        if run["steps"]:
            assert f"ok {1 + both:.5e} []" in lines
            assert f"diverged_at {2 + 2 * both:.5e} []" in lines
        if run["steps"] and run.get("task") == "clb":
            assert "n_skipped 0.00000e+00 []" not in lines


KINDS_OF_CPU = {
    "an old one": {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE", "ONEDNN_MAX_CPU_ISA": "SSE41"},
    "one with AVX2": {"ATEN_CPU_CAPABILITY": "avx2", "MKL_CBWR": "AVX2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS_OF_CPU)
def test_another_kind_of_cpu_finds_the_same(kind, here):
    script = "import json, test_fingerprint; print(json.dumps(test_fingerprint.every()))"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=HERE,
        env=os.environ | KINDS_OF_CPU[kind],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == here


WIDE = EncoderRun("mine", 64, 900, "adam", 0.1, (64, 512), dataset="digit-pairs", precision="bf16", task="slb", seed=7)
SHARED = {
    "sizes, seed, rate and precision": (
        ONE_HOT,
        replace(ONE_HOT, batch=9, steps=99, hidden=(7,), seed=5, lr=0.3, precision="tf32"),
    ),
    "a compiled step": (ONE_HOT, replace(ONE_HOT, compiled=True)),
    "weight": (KINDS["onehot remine"], replace(KINDS["onehot remine"], lam=0.0)),
    "sizes of the problem": (GAUSSIAN, replace(GAUSSIAN, problem=GaussianStaircase(9, 20, (3.0,)), init_std=0.5)),
    "data set and sizes of layers": (replace(ENCODER, loss="mine"), WIDE),
    "number of images, and their size": (KINDS["clb rejs"], replace(KINDS["clb rejs"], train_size=200)),
}
APART = {
    "depth": replace(ENCODER, hidden=(8, 8, 8)),
    "network": replace(ENCODER, network="conv"),
    "task": replace(ENCODER, task="clb"),
    "some images": replace(ENCODER, train_size=100),
    "size of images": replace(ENCODER, side=8),
    "optimizer": replace(ENCODER, optimizer="sgd"),
    "loss": replace(ENCODER, loss="mine"),
    "no training": replace(ENCODER, steps=0),
}


@pytest.mark.parametrize("what", SHARED)
def test_size_alone_gives_no_other_fingerprint(what):
    one, other = SHARED[what]
    assert one != other
    assert fingerprint.miniature(one) == fingerprint.miniature(other)


@pytest.mark.parametrize("what", APART)
def test_what_another_code_computes_has_another_miniature(what):
    assert fingerprint.miniature(APART[what]) != fingerprint.miniature(ENCODER)


def test_a_kind_without_a_miniature_is_named():
    other = type("Other", (Run,), dict.fromkeys(("words", "cost", "data_checksum", "train", "rehearse")))
    with pytest.raises(TypeError, match="a Other has no miniature"):
        fingerprint.miniature(other("mine", 1, 1, "sgd", 0.1, ()))


@pytest.mark.parametrize(
    ("run", "why"),
    [
        (replace(ONE_HOT, options={"tau": 3.0}), "mine has no option 'tau'"),
        (replace(ENCODER, loss="nonsense"), "got 'nonsense'"),
        (replace(ONE_HOT, loss="infonce"), "InfoNCE compares a joint pair with its own row"),
    ],
)
def test_what_the_code_refuses_has_a_fingerprint_too(run, why):
    *shared, last = fingerprint.numbers(fingerprint.miniature(run))
    assert why in last
    assert len(shared) > 20


def computes(folder, forget=True):
    """The fingerprints of two kinds, as a process finds them that knows nothing yet, or some."""
    if forget:
        fingerprint._known.clear()
        fingerprint._trainings.cache_clear()
    return [fingerprint.computes(KINDS[name], folder) for name in ("onehot remine", "clb rejs")]


def state():
    """What a computation must not leave otherwise."""
    seeds = torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002 - the global one
    return seeds, torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled(), torch.is_inference_mode_enabled()


@pytest.mark.parametrize(
    "setting",
    [torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu"), lambda: torch.device("meta")],
    ids=["no gradients", "inference", "autocast", "another device"],
)
def test_what_the_caller_has_set_counts_for_nothing_and_stays(setting, tmp_path):
    expected = computes(tmp_path / "one")
    torch.set_flush_denormal(True)
    torch.set_default_dtype(torch.float16)
    try:
        with setting():
            before = state()
            assert computes(tmp_path / "other") == expected
            assert state() == before
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_flush_denormal(False)


def test_an_error_leaves_the_default_type(monkeypatch):
    monkeypatch.setattr(CriticRun, "train", None)
    fingerprint._trainings.cache_clear()
    with pytest.raises(TypeError):
        fingerprint.numbers(fingerprint.miniature(ONE_HOT))
    assert torch.get_default_dtype() == torch.float32


def test_threads_do_not_disturb_each_other(tmp_path, at_once):
    expected, found = computes(tmp_path / "one"), []
    fingerprint._known.clear()
    at_once(lambda: found.append(computes(tmp_path / "other", forget=False)))
    assert found == [expected] * 4
    assert torch.get_default_dtype() == torch.float32


@pytest.fixture
def asked(monkeypatch):
    """The miniatures that are trained."""
    numbers, trained = fingerprint.numbers, []
    monkeypatch.setattr(fingerprint, "numbers", lambda small: trained.append(small) or numbers(small))
    return trained


def test_a_process_reads_what_another_has_found(tmp_path, asked):
    expected = computes(tmp_path)
    assert computes(tmp_path) == expected
    assert len(asked) == 2
    assert len(list(tmp_path.iterdir())) == 1  # nothing beside it


def test_a_process_that_knows_something_else_adds_to_the_file(tmp_path, asked):
    expected = computes(tmp_path)
    fingerprint._known.clear()
    fingerprint.computes(KINDS["onehot mine"], tmp_path)
    assert computes(tmp_path) == expected
    assert len(asked) == 3


@pytest.mark.parametrize(
    "damage", [lambda b: b"", lambda b: b[:-1], lambda b: b + b" ", lambda b: b.replace(b"1", b"2", 1), lambda b: b"\xff" + b]
)
def test_a_damaged_file_counts_for_nothing_and_is_mended(damage, tmp_path, asked):
    expected = computes(tmp_path)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    assert computes(tmp_path) == expected
    assert len(asked) == 4
    assert file.read_bytes() == whole


@pytest.mark.parametrize("what", ["sources", "torch"])
def test_another_version_has_a_file_of_its_own(what, tmp_path, asked, monkeypatch):
    computes(tmp_path)
    monkeypatch.setattr(*((fingerprint, "SOURCES") if what == "sources" else (torch, "__version__")), "other")
    computes(tmp_path)
    assert len(asked) == 4
    assert len(list(tmp_path.iterdir())) == 2


def test_a_file_that_cannot_be_written_is_done_without(tmp_path, full_disk):
    (tmp_path / "file").write_text("")
    expected = computes(tmp_path / "file")
    with full_disk(100):
        assert computes(tmp_path / "full") == expected
    assert not list((tmp_path / "full").iterdir())
