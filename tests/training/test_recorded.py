"""The fast step of an encoder is the plain one: its layers are the formula, and a recorded step has the same bits."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import batch_norm

from remi.losses import estimators
from remi.runs.specs import EncoderRun, EncoderStack
from remi.training import encoders
from remi.training.checkpoints import Checkpoints
from remi.training.images import DATASETS, noise
from remi.training.loop import Keeper, fit
from remi.training.recorded import recorded

CPU = torch.device("cpu")
MLP = EncoderRun("mine", 10, 8, "adam", 1e-3, (16, 32))
CONV = EncoderRun("mine", 10, 8, "adam", 1e-3, (8, 16, 32), dataset="cifar-10", network="conv")
CLIPPED = ("smile", "resmile", "renwj", "retuba")


def stack_of(cell, task, loss, runs=3, steps=8):
    """A small stack as Table 2 trains it."""
    lam = 0.1 if loss.startswith("re") else None
    run = replace(cell, task=task, loss=loss, lam=lam, steps=steps, options={"clip": "both"} if loss in CLIPPED else {})
    data = noise("cifar-10", 40) if cell is CONV else DATASETS["digits"]()
    if cell is MLP:
        data = replace(data, train_images=data.train_images.to(torch.get_default_dtype()))
    return EncoderStack([replace(run, seed=seed) for seed in range(runs)], data, CPU)


def plain(layer, x):
    """ReLU(BatchNorm(x W + b)) as a formula, for autograd, each run by itself."""
    weight, bias, gain, shift = layer.parameters()
    runs, features = gain.shape
    mean, variance = (buffer.view(runs, features) for buffer in layer.norm.buffers())
    x = x.expand(runs, -1, -1)
    return torch.stack(
        [
            batch_norm(x[r] @ weight[r] + bias[r], mean[r], variance[r], gain[r], shift[r], training=True).relu()
            for r in range(runs)
        ]
    )


def in_double(monkeypatch):
    """What PyTorch makes single precision, it makes double."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    return before


@pytest.mark.parametrize("task", ["slb", "clb"])
@pytest.mark.parametrize("cell", [MLP, CONV], ids=["mlp", "conv"])
@pytest.mark.parametrize("loss", estimators.NAMES)
def test_a_layer_is_its_formula(loss, cell, task, monkeypatch):
    before, found = in_double(monkeypatch), []
    try:
        for forward in (encoders.Layer.forward, plain):
            monkeypatch.setattr(encoders.Layer, "forward", forward)
            stack = stack_of(cell, task, loss)
            loop = stack.loop()
            loop.parameters.values += 0.1 * torch.randn(loop.parameters.values.shape, generator=torch.Generator().manual_seed(0))
            loop.read(*next(iter(stack.batches(1))))
            found.append({**loop.tensors, "gradient": loop.parameters.gradient})
    finally:
        torch.set_default_dtype(before)
    for name, values in found[1].items():
        scale = float(values.double().nan_to_num(0, 0, 0).abs().max())
        torch.testing.assert_close(found[0][name], values, rtol=1e-9, atol=1e-11 * scale, equal_nan=True)


def state(loop):
    """All that a step changes."""
    return {name: tensor.clone() for name, tensor in loop.tensors.items()}


def assert_equal_bits(found, expected):
    for name, tensor in expected.items():
        assert torch.equal(found[name].nan_to_num(12345.0), tensor.nan_to_num(12345.0)), name


def cells():
    """All losses on the small perceptron, and what is different for photographs."""
    for task in ("slb", "clb"):
        losses = [*estimators.NAMES, *(loss for loss in estimators.RIVALS if (loss, task) != ("dcl", "slb"))]
        yield from (pytest.param(MLP, task, loss, id=f"mlp-{task}-{loss}") for loss in losses)
        yield from (pytest.param(CONV, task, loss, id=f"conv-{task}-{loss}") for loss in ("nwj", "resmile"))


@pytest.mark.parametrize(("cell", "task", "loss"), list(cells()))
def test_a_recorded_step_has_the_bits_of_the_plain_one(cell, task, loss):
    found = []
    for record in (False, True):
        stack = stack_of(cell, task, loss)
        loop = stack.loop()
        fit(loop, stack.batches(8), record=record)
        found.append(state(loop))
    assert_equal_bits(found[1], found[0])


def test_a_recorded_step_freezes_and_skips_as_the_plain_one():
    """A run that diverges, and a batch of one run without a joint pair."""
    found = []
    for record in (False, True):
        stack = stack_of(MLP, "clb", "remine")
        labels, loop = stack.data.train_labels, stack.loop()
        loop.parameters.values[1, 0] = torch.nan
        batches = [batch.clone() for (batch,) in stack.batches(8)]
        batches[3][0] = torch.stack([(labels == digit).nonzero()[0, 0] for digit in range(10)])  # one of each class
        fit(loop, [(batch,) for batch in batches], record=record)
        assert loop.alive.tolist() == [True, False, True]
        assert loop.skipped.tolist()[0] == 1
        found.append(state(loop))
    assert_equal_bits(found[1], found[0])


def test_a_recorded_training_goes_on_from_a_checkpoint(tmp_path):
    whole = stack_of(MLP, "clb", "remine", steps=8)
    loop = whole.loop()
    fit(loop, replace(whole.batches(8), chunk=2), record=True)
    for first in (True, False):
        stack = stack_of(MLP, "clb", "remine", steps=8)
        again, batches = stack.loop(), replace(stack.batches(8), chunk=2)
        keeper = Keeper(Checkpoints(tmp_path, seconds=0), batches)
        fit(again, (batch for _, batch in zip(range(5 if first else 8), batches, strict=False)), keeper=keeper, record=True)
    assert keeper.checkpoints.latest() is not None
    assert_equal_bits(state(again), state(loop))


def test_what_is_recorded_is_called_on_the_tensors_of_the_step():
    held = torch.zeros(3)

    def step(x):
        held.add_(x)
        held.mul_(held > 1)

    again = recorded(step, torch.ones(3))
    held.zero_()
    for _ in range(2):
        again(torch.tensor([1.0, 2.0, 3.0]))
    assert held.tolist() == [0.0, 4.0, 6.0]


def test_a_number_that_python_sees_is_refused():
    held = torch.zeros(3)

    def step(x):
        if float(x.sum()) > 0:
            held.add_(x)

    with pytest.raises(RuntimeError, match="must not depend on values that Python sees; aten::_local_scalar_dense"):
        recorded(step, torch.ones(3))


def test_parts_of_a_tensor_and_lists_of_tensors_are_recorded():
    held = torch.zeros(2, 4)

    def step(x):
        first, second = (x * 2).split(2)
        held.copy_(torch.cat(torch.stack([first, second]).unbind(1)[::-1]).expand(2, 4))

    again = recorded(step, torch.arange(4.0))
    held.zero_()
    again(torch.arange(4.0))
    assert held.tolist() == [[2.0, 6.0, 0.0, 4.0]] * 2
