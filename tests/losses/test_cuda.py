"""On a GPU every loss says what it says on a CPU: in chunks, under autocast and compiled, too; and nothing waits for the host."""

import pytest
import torch
from test_estimators import CASES
from torch.nn.functional import normalize
from torch.testing import assert_close

from remi.losses import Loss, Queue, Scores
from remi.losses.estimators import get

pytestmark = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
each_case = pytest.mark.parametrize(("name", "chosen"), CASES, ids=[f"{name}{chosen or ''}" for name, chosen in CASES])
N, D = 40, 8
LABELS = torch.arange(N) // 4


def views(where, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return [normalize(torch.randn(N, D, generator=generator), dim=-1).to(where, dtype).requires_grad_() for _ in "12"]


def answer(function, where, **kinds):
    """Value and gradients, on the CPU."""
    tensors = views(where, **kinds)
    value = function(*tensors)
    gradients = torch.autograd.grad(value, tensors, allow_unused=True)
    return [value.detach().cpu(), *(part.float().cpu() for part in gradients if part is not None)]


SETTINGS = {
    "views": lambda loss: lambda a, b: loss(a, b),
    "labels": lambda loss: lambda a, b: loss(a, labels=LABELS.to(a.device)),
    "negatives": lambda loss: lambda a, b: loss(a, b, negatives=a.detach().flip(-1)),
}


@each_case
@pytest.mark.parametrize("setting", SETTINGS)
def test_the_devices_agree(name, chosen, setting):
    loss = Loss(name, temperature=0.5, learn_temperature=True, **chosen)
    here, there = (answer(SETTINGS[setting](loss.to(where)), where) for where in ("cpu", "cuda"))
    for mine, theirs in zip(here, there, strict=True):
        assert_close(theirs, mine, rtol=1e-4, atol=1e-5)


@each_case
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_does_not_reach_the_loss(name, chosen, dtype):
    loss = Loss(name, temperature=0.5, **chosen)
    plain = answer(loss, "cuda")
    with torch.autocast("cuda", dtype):
        inside = answer(loss, "cuda")
    for mine, theirs in zip(plain, inside, strict=True):
        assert_close(theirs, mine, rtol=1e-6, atol=1e-7)


@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
@each_case
def test_a_loss_waits_for_no_host(name, chosen):
    a, b = views("cuda")
    labels, loss = LABELS.cuda(), get(name, **chosen)
    for scores in (Scores.from_views(a, b, temperature=0.5), Scores.from_embeddings(a, labels)):
        loss(scores)
        torch.cuda.set_sync_debug_mode("error")
        try:
            loss(scores).objective.sum().backward(retain_graph=True)
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the compiler
@pytest.mark.parametrize("name", ["remine", "infonce", "renwj"])
def test_in_chunks_and_compiled(name):
    whole = answer(Loss(name, temperature=0.5), "cuda")
    for other in (Loss(name, temperature=0.5, rows=7), torch.compile(Loss(name, temperature=0.5))):
        for mine, theirs in zip(whole, answer(other, "cuda"), strict=True):
            assert_close(theirs, mine, rtol=1e-4, atol=1e-5)


def test_a_queue_lives_where_its_keys_are():
    queue = Queue(2 * N).cuda()
    a, b = views("cuda")
    loss = Loss("reinfonce", temperature=0.5).cuda()
    for _ in range(3):
        value = loss(a, b, negatives=queue(b))
    assert value.isfinite()
    assert value.is_cuda
