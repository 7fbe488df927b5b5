"""Every loss in a training step as it is run in practice: compiled as one graph, and in mixed precision."""

import shutil

import pytest
import torch
from torch.testing import assert_close

from remi.losses import chunked
from remi.losses.estimators import NAMES, RIVALS, get
from remi.losses.scores import Scores

N = 12
LABELS = torch.arange(N) % 5
OPTIONS = {  # that of Table 2, where a loss has any: the longest formulas
    **{name: {"clip": "both"} for name in ("smile", "resmile", "renwj", "retuba")},
    "rejs": {"evaluate": "nwj", "penalty": "softplus", "target": 1.0},
}
EVERY = (*NAMES, *RIVALS)
LOSSES = {name: get(name, **OPTIONS.get(name, {})) for name in EVERY}
SETTINGS = {
    "logits": lambda z: Scores.from_logits(z, LABELS),
    "embeddings": lambda z: Scores.from_embeddings(z, LABELS),
    "views": lambda z: Scores.from_views(z, z.roll(1, 0) / 2),
    "chunked embeddings": lambda z: chunked.from_embeddings(z, LABELS, rows=7),
    "chunked views": lambda z: chunked.from_views(z, z.roll(1, 0) / 2, rows=7),
}
DENSE = ("logits", "embeddings", "views")
each_setting = pytest.mark.parametrize("setting", SETTINGS)


def losses(setting):
    """Every loss that the setting's scores can tell apart: logits do not say which of a row is the label's."""
    return [name for name in EVERY if (name, setting) != ("dcl", "logits")]


def features():
    return torch.randn(N, 6, generator=torch.Generator().manual_seed(0))


def compare(step, backend):
    """Readings and gradient of a compiled step are those of the step."""
    found = []
    for function in (step, torch.compile(step, fullgraph=True, backend=backend)):
        z = features().requires_grad_()
        readings = function(z)
        sum(reading.objective for reading in readings).backward()
        found.append(([torch.stack(reading) for reading in readings], z.grad))
    assert_close(found[1], found[0])


@pytest.mark.parametrize(
    ("setting", "names"),
    [
        *((setting, losses(setting)) for setting in DENSE),
        *((setting, ("reinfonce", "resmile", "infonce_anchor")) for setting in SETTINGS if setting not in DENSE),
    ],
)
def test_compiles_as_one_graph(setting, names):
    torch._dynamo.reset()
    build = SETTINGS[setting]
    compare(lambda z: [LOSSES[name](build(z)) for name in names], "aot_eager")


@pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="inductor needs a C++ compiler")
@pytest.mark.filterwarnings("ignore:`torch._prims_common.check` is deprecated:FutureWarning")
def test_compiles_to_machine_code():
    torch._dynamo.reset()
    compare(lambda z: [LOSSES["remine"](SETTINGS["embeddings"](z))], "inductor")


@pytest.mark.parametrize("setting", ["views", "chunked views"])
def test_a_learned_temperature_compiles_as_one_graph(setting):
    torch._dynamo.reset()
    temperature = torch.tensor(0.5, requires_grad=True)
    build = chunked.from_views if setting == "chunked views" else Scores.from_views
    compare(lambda z: [LOSSES["remine"](build(z, z.roll(1, 0), temperature))], "aot_eager")
    assert temperature.grad


@each_setting
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_autocast_does_not_reach_the_loss(setting, dtype, compiled):
    """Embeddings in half precision, as an encoder gives them there, are read as their own values in float32."""
    z = features().to(dtype)

    def step(z):
        with torch.autocast("cpu", dtype):
            return [torch.stack(LOSSES[name](SETTINGS[setting](z))) for name in (["remine"] if compiled else losses(setting))]

    torch._dynamo.reset()
    found = torch.compile(step, fullgraph=True, backend="aot_eager")(z) if compiled else step(z)
    for name, value in zip(losses(setting) if not compiled else ["remine"], found, strict=True):
        assert value.dtype == torch.float32
        assert_close(value, torch.stack(LOSSES[name](SETTINGS[setting](z.float()))), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("setting", "name"), [(setting, name) for setting in SETTINGS for name in losses(setting)])
@pytest.mark.parametrize("outside", [False, True], ids=["inside autocast", "scores in single precision"])
def test_mixed_precision_is_near_single_precision(name, setting, outside):
    found = []
    for enabled in (True, False):
        weight = (torch.eye(6) + 0.1).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            z = torch.nn.functional.linear(features() / 2, weight)
            assert z.dtype == (torch.bfloat16 if enabled else torch.float32)
            if not outside:
                reading = LOSSES[name](SETTINGS[setting](z))
        if outside:
            reading = LOSSES[name](SETTINGS[setting](z.float()))
        reading.objective.backward()
        found.append((torch.stack(reading).float().detach(), weight.grad))
    (values, gradient), (exact, exact_gradient) = found
    # bfloat16 rounds to 1 in 256; a few such roundings of scores near 3, and the terms are read through exp
    limit = 0.02 if outside else 0.05
    assert (values - exact).abs().max() < limit * exact.abs().max().clamp_min(1)
    assert (gradient - exact_gradient).norm() < limit * exact_gradient.norm()
