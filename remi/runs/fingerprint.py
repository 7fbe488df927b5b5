"""What the code computes for a run, however it is written: the identity of its record.

A run has a miniature: the smallest sizes that pass every branch. The very code that trains the run trains its miniature, in
double precision on the CPU, once to its end and once into a divergence; the run's own loss then reads the scores that came by,
as they are and far beyond every clip. What is left behind becomes a few sums, rounded to six digits. Another order of
additions, another CPU or a faster equal path moves a sum by 1e-12 or less; a formula, a default, an initialisation, an order of
draws or a step that changes moves it by 1e-6 or more.

The training of a miniature follows the Donsker-Varadhan value of its scores, whatever the run's loss: so its cost is shared by
all losses. Not seen: what `precision`, `compiled`, a captured step and single precision do to the bits, and a training that goes
on from a checkpoint. Whoever changes a miniature gives all records another identity.
"""

import hashlib
import json
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

import remi
from remi.losses import Estimator, Reading, Scores
from remi.runs.specs import CHUNK, CriticRun, EncoderRun, Run, from_json, to_json
from remi.training import Images, OneHot

UNIT = 1e-5  # of the objective: Adam's epsilon counts beside such gradients, and swallows those that are rounding alone
FAR = 30.0  # how far scores are spread around what they were
KEPT = 6  # batches whose scores the loss reads


def sources(*places: str) -> str:
    """SHA-256 of our code in these folders and files of the package."""
    package = Path(remi.__file__).parent
    files = [file for place in places for file in sorted(package.glob(f"{place}/**/*.py")) or [package / place]]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


SOURCES = sources("losses", "training", "runs/specs.py", "runs/fingerprint.py")  # of the code that trains, as imported
_known: dict[str, str] = {}  # digests by specification of a miniature
_lock = threading.Lock()  # PyTorch's default type is the whole process's


def computes(run: Run, cache: Path) -> str:
    """A digest of what the code computes for runs of this kind.

    Args:
        run: one of them.
        cache: a folder with the digests that some process has found, in a file per version of the code and of PyTorch.
    """
    small = miniature(run)
    text = _text(small)
    with _lock:
        if text not in _known:
            file = cache / f"{hashlib.sha256((SOURCES + torch.__version__).encode()).hexdigest()[:16]}.json"
            _known.update(_read(file))
            if text not in _known:
                _known[text] = hashlib.sha256("\n".join(numbers(small)).encode()).hexdigest()[:16]
                _write(file, _known)
        return _known[text]


def miniature(run: Run) -> Run:
    """The run in small; runs that differ in size, seed, rate or weight alone share it."""
    rate = 1e-6 if run.alone else 0.02  # at larger ones a deep network makes much of rounding
    small: dict[str, Any] = {
        "batch": 4,
        "lr": rate if run.optimizer == "adam" else rate / UNIT,  # Adam does not notice the unit
        "hidden": tuple(range(6, 6 + len(run.hidden))),
        "lam": None if run.lam is None else 0.5,
        "seed": 1,
        "precision": "fp32",
        "compiled": False,
    }
    if isinstance(run, CriticRun):
        sizes = {"symbols": 4} if isinstance(run.problem, OneHot) else {"steps_per_level": 40, "dim": 3, "levels": (0.5, 1.0)}
        small |= {"steps": CHUNK + 2, "problem": replace(run.problem, **sizes), "init_std": run.init_std and 0.3}
    elif isinstance(run, EncoderRun):
        small |= {"steps": run.steps and 7, "dataset": "digits", "train_size": run.train_size and 10, "side": run.side and 6}
    else:
        raise TypeError(f"a {type(run).__name__} has no miniature")
    return replace(run, **small)


def numbers(small: Run) -> list[str]:
    """What a miniature leaves behind: a line for each array."""
    with _double_precision():
        lines, seen = _trainings(_text(replace(small, loss="mine", lam=None, options={})))
        if not small.steps:
            return lines
        try:
            return lines + list(_readings(small, seen))
        except ValueError as error:  # what the code does with such a run is to refuse it
            return [*lines, str(error)]


@lru_cache
def _trainings(text: str) -> tuple[list[str], list[Scores]]:
    """What all losses share: the lines of a training to its end and of one into a divergence, and the scores of the first."""
    small: Run = from_json(json.loads(text))
    lines, seen = _training(small)
    if small.steps:
        lines = lines + _training(replace(small, steps=4), end=2)[0]
    return lines, seen[:KEPT]


def _training(small: Run, end: int | None = None) -> tuple[list[str], list[Scores]]:
    kind: Any = type("Miniature", (_Miniature, type(small)), {"end": end, "seen": []})
    members = [kind(**vars(replace(small, seed=seed))) for seed in (1, 2)]
    outcomes = small.train(members[:1] if small.alone else members, torch.device("cpu"))
    arrays: list[dict[str, Any]] = [
        {"ok": [found.status == "ok"], **found.scalars, **found.arrays} for found in outcomes if found is not None
    ]
    return [_line(name, [found[name] for found in arrays]) for name in sorted(arrays[0])], kind.seen


def _readings(small: Run, seen: Sequence[Scores]) -> Iterator[str]:
    """What the run's own loss says of these scores, and its gradient; as they are, and far beyond every clip."""
    members = [small, replace(small, lam=small.lam and small.lam / 2)]
    estimator = small.estimator(members[: len(seen[0].joint)], torch.device("cpu"))
    for far in (0.0, FAR):
        rows = []
        for scores in seen:
            moved = replace(scores, joint=_spread(scores.joint, far), marginal=_spread(scores.marginal, far))
            reading = estimator(moved)
            rows.append((*reading, *torch.autograd.grad(reading.objective.sum(), (moved.joint, moved.marginal))))
        for name, column in zip((*Reading._fields, "by joint", "by marginal"), zip(*rows, strict=True), strict=True):
            yield _line(name, [part.detach() for part in column])


def _spread(values: Tensor, far: float) -> Tensor:
    return (values + far * torch.arange(1.0, values[0].numel() + 1).sin().view_as(values[0])).requires_grad_()


def _line(name: str, parts: Sequence[ArrayLike]) -> str:
    """A weighted sum of all values in six digits, and what is not finite with its place."""
    values = np.concatenate([np.asarray(part, float).ravel() for part in parts])
    finite = np.isfinite(values)
    total = float(np.cos(np.arange(len(values)))[finite] @ values[finite])
    rest = [f"{index}: {values[index]}" for index in np.flatnonzero(~finite)]
    return f"{name} {round(total, 12) + 0.0:.5e} {rest}"  # 12 decimals: zero, where rounding alone makes it another number


class _Miniature(Run):
    """Mixed into a kind of run: its images need no disk, its loss is Donsker-Varadhan, and its scores are kept."""

    network: str
    end: int | None  # the step whose scores are infinite
    seen: list[Scores]

    @property
    def data(self) -> Images:
        """14 images to train on and 10 to test, in 5 classes."""
        generator = torch.Generator().manual_seed(0)
        if self.network.startswith("mlp"):
            pixels = 2 * torch.rand(24, 6, generator=generator) - 1
        else:
            pixels = torch.randint(256, (24, 3, 8, 8), generator=generator, dtype=torch.uint8)
        labels = torch.arange(24) // 2 % 5
        return Images("noise", 5, pixels[:14], labels[:14], pixels[14:], labels[14:])

    def estimator(self, stack: Sequence[Run], where: torch.device) -> Estimator:
        """Of the means that every training traces."""

        def value(scores: Scores) -> Reading:
            if len(self.seen) == self.end:
                scores = scores.map(lambda t: t + torch.inf)
            self.seen.append(scores.map(Tensor.detach))
            joint, marginal = scores.joint_mean(), scores.log_mean_exp()
            return Reading(joint - marginal, UNIT * (joint - marginal), joint, marginal, marginal)

        return value


@contextmanager
def _double_precision() -> Iterator[None]:
    """On one thread, and without what else the caller may have set."""
    before = torch.get_default_dtype(), torch.get_num_threads()
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    try:
        with torch.inference_mode(False), torch.device("cpu"), torch.autocast("cpu", enabled=False):
            yield
    finally:
        torch.set_default_dtype(before[0])
        torch.set_num_threads(before[1])


def _text(run: Run) -> str:
    return json.dumps(to_json(run), sort_keys=True)


def _read(file: Path) -> dict[str, str]:
    """What some process has written; nothing where it is not there or damaged."""
    with suppress(OSError, ValueError):
        digest, _, text = file.read_text().partition("\n")
        if hashlib.sha256(text.encode()).hexdigest() == digest:
            return dict(json.loads(text))
    return {}


def _write(file: Path, known: dict[str, str]) -> None:
    """Beside, then renamed; who cannot write, or is overtaken, computes again."""
    text = json.dumps(known, indent=1)
    beside = file.with_name(f".writing-{uuid.uuid4().hex}")
    with suppress(OSError):
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            beside.write_text(f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}")
            beside.replace(file)
        finally:
            beside.unlink(missing_ok=True)
