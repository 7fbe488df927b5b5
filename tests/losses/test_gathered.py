"""Several processes read what one process reads on the whole batch, and train as it does."""

import socket

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.testing import assert_close

from remi.losses import Loss, Scores, gathered
from remi.losses.estimators import NAMES, RIVALS, get

SHARES = {2: [5, 3], 3: [4, 1, 6]}  # rows of every process: a last batch is not equal
NEGATIVES = {2: [3, 4], 3: [1, 2, 0]}


def batch(processes):
    generator = torch.Generator().manual_seed(processes)
    n, m = sum(SHARES[processes]), sum(NEGATIVES[processes])
    z1, z2 = (torch.randn(n, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    labels = torch.randint(0, n // 2, (n,), generator=generator)
    labels[0] = 99  # has no partner
    return z1, z2, labels, torch.randn(m, 4, generator=generator, dtype=torch.float64)


def modules():
    """The losses, and how each is called with embeddings, other embeddings, labels and negatives."""
    views, labelled = (lambda loss, z, other, y, n: loss(z, other)), (lambda loss, z, other, y, n: loss(z, labels=y))
    more, several = (
        (lambda loss, z, other, y, n: loss(z, other, negatives=n)),
        (lambda loss, z, other, y, n: loss(z, torch.stack([z + other, other], 1))),
    )
    for name in ("remine", "reinfonce", "rejs", "renwj", "resmile"):
        yield f"{name} views", name, {}, views
        yield f"{name} labels", name, {}, labelled
    yield "negatives", "remine", {}, more
    yield "several positives", "reinfonce", {}, several
    yield "chunks", "reinfonce", {"rows": 2}, views
    yield "chunks of labels", "remine", {"rows": 2}, labelled
    yield (
        "nobody has a partner",
        "remine",
        {},
        (lambda loss, z, other, y, n: loss(z, labels=y + 100 * torch.arange(len(y)) + 10**6 * len(y))),
    )


class Whole(nn.Module):
    """An encoder and its loss in one module, as data-parallel training wants them."""

    def __init__(self, name, call, gather, **options):
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)).double()
        self.loss = Loss(
            name, temperature=0.5, learn_temperature=True, learn_bias=True, bias=0.3, gather=gather, **options
        ).double()
        self.call = call

    def forward(self, z1, z2, labels, negatives):
        return self.call(self.loss, self.encoder(z1), self.encoder(z2), labels, self.encoder(negatives))


def trained(module, inputs):
    value = module(*inputs)
    value.backward()
    inner = getattr(module, "module", module)
    gradients = {key: p.grad for key, p in inner.named_parameters()}
    return value.detach(), gradients, torch.stack(inner.loss.reading), inner.loss.skipped_anchors


def work(rank, processes, port):
    """One process of several; what differs from one process on the whole batch raises."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=processes)
    shares = SHARES[processes], SHARES[processes], SHARES[processes], NEGATIVES[processes]
    whole = batch(processes)
    mine = [part.split(share)[rank] for part, share in zip(whole, shares, strict=True)]
    for title, name, options, call in modules():
        expected = trained(Whole(name, call, gather=False, **options), whole)
        found = trained(DistributedDataParallel(Whole(name, call, gather=True, **options), broadcast_buffers=False), mine)
        assert_close(found, expected, rtol=1e-6, atol=1e-9, equal_nan=True, msg=lambda text, title=title: f"{title}: {text}")
    for name in (*NAMES, *RIVALS):  # leaves: the sum over processes is differentiated, R times the whole batch's gradient
        leaves, own = [z.clone().requires_grad_() for z in whole[:2]], [z.clone().requires_grad_() for z in mine[:2]]
        for build, joined in (
            (gathered.from_views, Scores.from_views),
            (lambda a, b: gathered.from_embeddings(a + b, mine[2]), lambda a, b: Scores.from_embeddings(a + b, whole[2])),
        ):
            found, expected = get(name)(build(*own)), get(name)(joined(*leaves))
            assert_close(tuple(found), tuple(expected), rtol=1e-6, atol=1e-9)
            gradients = torch.autograd.grad(found.objective, own), torch.autograd.grad(expected.objective, leaves)
            for value, wanted in zip(*gradients, strict=True):
                assert_close(value, processes * wanted.split(SHARES[processes])[rank], rtol=1e-6, atol=1e-9)
    scores = gathered.from_views(*mine[:2])
    assert scores._local.marginal.shape == (len(mine[0]), len(whole[0]))  # n N scores, not N N
    assert [scores.pairs.item(), scores.marginal_pairs.item()] == [len(whole[0]), len(whole[0]) * (len(whole[0]) - 1)]
    dist.destroy_process_group()


@pytest.mark.skipif(not dist.is_available(), reason="this PyTorch has no torch.distributed")
@pytest.mark.parametrize("processes", SHARES)
def test_processes_train_as_one_does_on_the_whole_batch(processes):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(work, (processes, port), processes)


@pytest.mark.parametrize("name", ["remine", "reinfonce"])
def test_without_processes_it_is_the_batch(name):
    z1, z2, labels, _ = (part.requires_grad_() if part.is_floating_point() else part for part in batch(2))
    assert_close(tuple(get(name)(gathered.from_views(z1, z2))), tuple(get(name)(Scores.from_views(z1, z2))))
    assert_close(tuple(get(name)(gathered.from_embeddings(z1, labels))), tuple(get(name)(Scores.from_embeddings(z1, labels))))
    assert_close(Loss(name, gather=True)(z1, z2), Loss(name)(z1, z2))
