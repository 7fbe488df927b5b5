"""One loop for every figure: updates are PyTorch's, runs in a stack never meet, and divergence is data."""

import math
import shutil
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from remi.losses import estimators
from remi.losses.scores import Scores
from remi.paper import table2
from remi.runs import store
from remi.runs.specs import CriticRun, EncoderRun, EncoderStack
from remi.training.checkpoints import Checkpoints
from remi.training.critics import Linear, initialize, mlp
from remi.training.images import DATASETS, noise
from remi.training.loop import COLUMNS, LOOK_EVERY, SGD, Adam, Captured, FlatParameters, Keeper, Loop, Stream, fit
from remi.training.problems import GaussianStaircase, OneHot

CPU = torch.device("cpu")
ONE_HOT = CriticRun("mine", 32, 50, "sgd", 0.1, (64,), problem=OneHot(), output_bias=False)
GAUSSIAN = CriticRun("mine", 64, 6, "adam", 5e-4, (128, 128), problem=GaussianStaircase(2), init_std=0.05)
ENCODER = EncoderRun("mine", 10, 30, "adam", 1e-3, (64, 512))
CONV = EncoderRun("mine", 10, 8, "adam", 1e-3, (16, 32, 64, 512), dataset="cifar-10", network="conv")
RESNET = replace(CONV, steps=2, network="resnet18", hidden=(), side=32)
OPTIMIZERS = {"sgd": lambda: SGD(0.1), "adam": lambda: Adam(0.01)}
each_optimizer = pytest.mark.parametrize("optimizer", OPTIMIZERS)


@pytest.fixture(autouse=True)
def little_cifar(monkeypatch):
    """30 random photographs in place of CIFAR-10."""
    monkeypatch.setitem(DATASETS, "cifar-10", lambda: noise("cifar-10", 30))


def toy(optimizer="sgd", steps=12, hurt=None, runs=3, drop=(), where=CPU, capture=False):
    """A stack of small critics trained with MINE on random vectors; `hurt(step, joint, marginal)` makes the scores."""
    network = mlp([3, 16, 1], runs=runs)
    initialize(network, [torch.Generator().manual_seed(run) for run in range(runs)])
    network.to(where)
    generator = torch.Generator().manual_seed(9)
    batches = [(torch.tensor(step), torch.randn(runs, 8, 3, generator=generator).to(where)) for step in range(steps)]

    def score(step, x):
        joint, marginal = network(x).squeeze(-1), network(x.flip(-1)).squeeze(-1)
        return hurt(step, joint, marginal.unsqueeze(-2)) if hurt else Scores(joint, marginal.unsqueeze(-2))

    rule = OPTIMIZERS[optimizer]()
    kept = [batch for batch in batches if batch[0] not in drop]
    loop = Loop(network, score, estimators.get("mine"), rule, runs=runs, steps=len(kept))
    history = fit(loop, kept, capture=capture)
    return torch.cat([p.data.reshape(runs, -1) for p in network.parameters()], 1), history, rule


def same(one, other):
    """Equal bits in every scalar and array of two outcomes."""
    return (
        (one.status, repr(one.scalars)) == (other.status, repr(other.scalars))
        and one.arrays.keys() == other.arrays.keys()
        and all(np.array_equal(values, other.arrays[name], equal_nan=True) for name, values in one.arrays.items())
    )


def close(one, other):
    """Equal up to rounding in every array of two outcomes."""
    return one.status == other.status and all(
        np.allclose(values, other.arrays[name], rtol=1e-3, atol=1e-3, equal_nan=True) for name, values in one.arrays.items()
    )


@each_optimizer
def test_updates_are_those_of_torch_on_the_steps_that_the_mask_keeps(optimizer):
    network, generator = Linear(4, 3, runs=2), torch.Generator().manual_seed(0)
    initialize(network, [generator, generator])
    flat, rule = FlatParameters(network, 2), OPTIMIZERS[optimizer]()
    theirs = [torch.nn.Parameter(row.clone()) for row in flat.values]
    torch_class = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[optimizer]
    torch_rules = [torch_class([row], lr=rule.lr, foreach=False) for row in theirs]
    for step in range(30):
        flat.gradient.normal_(generator=generator)
        mask = torch.tensor([True, step % 3 != 1])
        for row, torch_rule, gradient, keep in zip(theirs, torch_rules, flat.gradient.clone(), mask, strict=True):
            row.grad = gradient
            if keep:
                torch_rule.step()
        flat.gradient[~mask] = torch.nan
        rule.update(flat, mask)
    assert_close(flat.values, torch.stack([row.data for row in theirs]), rtol=0, atol=1e-6)  # float32, 30 steps below 0.4
    assert torch.equal(network.weight.data.reshape(2, -1), flat.values[:, :12])  # the network sees every update


def test_gradient_is_that_of_autograd():
    network = mlp([3, 4, 1], runs=2)
    initialize(network, [torch.Generator().manual_seed(run) for run in range(2)])
    flat, x = FlatParameters(network, 2), torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    flat.differentiate(network(x).square().sum())
    network(x).square().sum().backward()
    assert torch.equal(flat.gradient, torch.cat([p.grad.reshape(2, -1) for p in network.parameters()], 1))


def test_stream_draws_chunks_from_each_runs_own_generator():
    asked = []

    def draw(generator, first, steps):
        asked.append((first, steps))
        return torch.rand(steps, 2, generator=generator), torch.arange(first, first + steps)

    together = list(Stream(draw, [torch.Generator().manual_seed(seed) for seed in (3, 4)], 7, 3))
    assert asked == [(0, 3), (0, 3), (3, 3), (3, 3), (6, 1), (6, 1)]
    alone = list(Stream(draw, [torch.Generator().manual_seed(4)], 7, 3))
    assert [batch[1].tolist() for batch in together] == [[step, step] for step in range(7)]
    assert all(torch.equal(stacked[1], single[0]) for (stacked, _), (single, _) in zip(together, alone, strict=True))


@pytest.mark.parametrize(
    ("run", "lam"),
    [
        (ONE_HOT, None),
        (replace(ONE_HOT, loss="nwj", lr=1.0), None),  # these diverge
        (replace(ONE_HOT, loss="remine"), 0.1),
        (GAUSSIAN, None),
        (replace(GAUSSIAN, loss="reinfonce"), 1.0),
        (ENCODER, None),
        (replace(ENCODER, task="slb", loss="resmile", options={"clip": "both"}), 0.1),
        (replace(ENCODER, task="slb", dataset="digit-pairs", batch=100, steps=3, loss="rejs"), 0.01),
        (CONV, None),
        (replace(CONV, task="slb", loss="rejs"), 0.1),
    ],
    ids=lambda value: value.words if hasattr(value, "words") else "",
)
def test_numbers_of_a_run_do_not_depend_on_its_stack(run, lam):
    def train(*seeds):
        stack = [replace(run, seed=seed, lam=None if lam is None else lam * (1 + seed)) for seed in seeds]
        return dict(zip(seeds, run.train(stack, CPU), strict=True))

    # oneDNN adds a grouped convolution by blocks of groups on processors without AVX-512
    equal = close if getattr(run, "network", "") == "conv" else same
    five, reverse, two, alone = train(5, 1, 0, 2, 7), train(2, 1, 0), train(0, 1), train(1)
    assert equal(five[1], reverse[1])
    assert equal(five[2], reverse[2])
    assert equal(five[0], reverse[0])
    assert equal(five[0], two[0])
    assert equal(five[1], two[1])
    assert equal(five[1], alone[1])
    assert not equal(five[0], five[1])


@pytest.mark.parametrize(
    "cell", [replace(ENCODER, steps=600), replace(ENCODER, task="slb", steps=40), replace(GAUSSIAN, batch=8)]
)
def test_losses_side_by_side_in_a_stack_are_the_losses_alone(cell):
    names = [name for name in estimators.NAMES if name not in ("nwj", "tuba") or not isinstance(cell, EncoderRun)]
    clip = {name: {"clip": "both"} for name in ("smile", "resmile", "renwj", "retuba")}
    stack = []
    for name in names:
        for lam in (0.1, 0.01) if name not in estimators.BOUNDS else (None,):
            stack.append(replace(cell, loss=name, options=clip.get(name, {}), lam=lam, seed=len(stack)))
    for run, outcome in zip(stack, cell.train(stack, CPU), strict=True):
        assert same(outcome, run.train([run], CPU)[0]), run


def test_a_stack_is_weeded_once_of_what_diverges_at_its_start(empty_store, monkeypatch):
    trained, plain = [], EncoderRun.train

    def train(stack, *rest):
        if stack[0].steps == 600:  # not a fingerprint's miniature
            trained.append([run.loss for run in stack])
        return plain(stack, *rest)

    monkeypatch.setattr(EncoderRun, "train", staticmethod(train))
    stack = [replace(ENCODER, loss=loss, steps=600, seed=3) for loss in ("mine", "nwj", "infonce", "tuba")]
    store.train(stack)
    assert trained == [["mine", "nwj", "infonce", "tuba"], ["mine", "infonce"]]
    found = [store.load(run) for run in stack]
    assert [record.status for record in found] == ["ok", "diverged", "ok", "diverged"]
    for run, record in zip(stack, found, strict=True):
        alone = plain([run], CPU)[0]
        scalars = {name: float(value) for name, value in alone.scalars.items()}
        assert same(replace(record, scalars={name: record.scalars[name] for name in scalars}), alone._replace(scalars=scalars))
        assert record.arrays["estimate"].shape == (600,)


def infinite_objective(joint, marginal):
    return joint + torch.tensor([[0], [torch.inf], [0]]), marginal


def nan_scores(joint, marginal):
    return joint, marginal + torch.tensor([[[0]], [[torch.nan]], [[0]]])


def nan_gradient(joint, marginal):
    root = (joint[1] - joint[1].detach()).abs().sqrt()  # 0, with derivative inf * 0
    return torch.stack([joint[0], joint[1] + root, joint[2]]), marginal


@each_optimizer
@pytest.mark.parametrize("hurt", [infinite_objective, nan_scores, nan_gradient])
def test_a_run_that_diverges_is_frozen_at_the_step_before(optimizer, hurt):
    healthy, undisturbed, _ = toy(optimizer)
    values, history, _ = toy(optimizer, hurt=lambda step, *scores: Scores(*(hurt(*scores) if step == 5 else scores)))
    assert torch.equal(values[1], toy(optimizer, steps=5)[0][1])
    assert torch.equal(values[::2], healthy[::2])
    assert (history.diverged_at.tolist(), [history.status(run) for run in range(3)]) == ([-1, 5, -1], ["ok", "diverged", "ok"])
    for name in COLUMNS:
        assert torch.equal(history.traces[name][::2], undisturbed.traces[name][::2])
        assert torch.equal(history.traces[name][1, :5], undisturbed.traces[name][1, :5])
        assert history.traces[name][1, 6:].isnan().all()
    assert history.traces["objective"][1, 5].isfinite() == (hurt is nan_gradient)  # the step that broke it is in the trace


POISONED = EncoderRun("remine", 10, 6, "adam", 1e-3, (16, 16), lam=0.1)


def poison(monkeypatch, what, victim, when):
    """From now on one run of a stack gets a nan into its data, scores or gradient in one step."""
    scores, differentiate, calls = EncoderStack.scores, FlatParameters.differentiate, []

    def poisoned_scores(stack, images, labels):
        calls.append(images.ndim > 2)  # the test split comes without a dimension of runs
        hit = images.ndim > 2 and sum(calls) == when + 1
        if hit and what == "data":
            images = images.clone()
            images[victim, 3, 5] = torch.nan
        found = scores(stack, images, labels)
        if hit and what == "scores":
            spot = torch.zeros_like(found.marginal)
            spot[victim, 0, 1] = torch.nan
            found = replace(found, marginal=found.marginal + spot)
        return found

    def poisoned_gradient(parameters, loss):
        differentiate(parameters, loss)
        if what == "gradient" and sum(calls) == when + 1:
            parameters.gradient[victim, 7] = torch.nan

    monkeypatch.setattr(EncoderStack, "scores", poisoned_scores)
    monkeypatch.setattr(FlatParameters, "differentiate", poisoned_gradient)


@pytest.mark.verify
@pytest.mark.parametrize("what", ["data", "scores", "gradient"])
def test_a_nan_freezes_its_own_run_within_the_step_and_the_tables_count_it(what, empty_store, monkeypatch, long, tally):
    rng, tries, lost, stack = np.random.default_rng(0), 30 if long else 3, [], [replace(POISONED, seed=seed) for seed in range(4)]
    healthy, step = POISONED.train(stack, CPU), Loop.step
    for _ in range(tries):
        (victim, when), frozen, reads = rng.integers((len(stack), POISONED.steps)), [], []

        def watched(loop, *batch, frozen=frozen, reads=reads):
            with HostReads() as found:
                step(loop, *batch)
            reads.append(found.count)
            frozen.append(~loop.alive.clone())

        with monkeypatch.context() as patch:
            poison(patch, what, victim, when)
            patch.setattr(Loop, "step", watched)
            outcomes = POISONED.train(stack, CPU)
        expected = torch.zeros(POISONED.steps, len(stack), dtype=torch.bool)
        expected[when:, victim] = True
        for run, outcome in zip(stack, outcomes, strict=True):
            store.save(run, outcome, 1.0)
        records = [store.load(run) for run in stack]
        table = table2.rows({"all": records})
        row, hurt = table2.summary(table).iloc[0], records[victim]
        reason = (hurt.status, hurt.scalars["diverged_at"], table["status"][victim])
        if not (
            torch.equal(torch.stack(frozen), expected)
            and not any(reads)
            and all(same(outcomes[run], healthy[run]) for run in range(len(stack)) if run != victim)
            and reason == ("diverged", when, f"diverged at step {when}")
            and (row["n_ok"], row["n"]) == (len(stack) - 1, len(stack))
            and np.isfinite(hurt.scalars["diverged_joint_term"]) == (what != "data")
        ):
            lost.append(f"run {victim}, step {when}: {reason}, {row['n_ok']} of {row['n']}")
        shutil.rmtree(store.STORE)
    tally(f"a nan in the {what} of one run", "training of a stack", tries, lost)


@each_optimizer
def test_a_batch_without_a_joint_pair_changes_nothing_and_is_counted(optimizer):
    def hurt(step, joint, marginal):
        return Scores(joint, marginal, joint_mask=torch.full((3, 1), step not in (4, 7)).expand(3, 8))

    values, history, rule = toy(optimizer, hurt=hurt)
    expected, without, expected_rule = toy(optimizer, drop=(4, 7))
    assert torch.equal(values, expected)
    assert (history.skipped.tolist(), without.skipped.tolist()) == ([2, 2, 2], [0, 0, 0])
    assert (history.diverged_at == -1).all()
    assert history.traces["estimate"][:, [4, 7]].isnan().all()
    assert history.traces["pairs"][0].tolist() == [0 if step in (4, 7) else 8 for step in range(12)]
    if optimizer == "adam":
        for mine, theirs in zip(rule.state, expected_rule.state, strict=True):  # moments and step count
            assert all(map(torch.equal, mine, theirs))


def test_digits_without_two_of_a_kind_are_skipped():
    outcome = EncoderRun.train([replace(ENCODER, batch=3, steps=50)], CPU)[0]
    assert outcome.scalars["n_skipped"] == (outcome.arrays["pairs"] == 0).sum() > 25  # 3 digits differ 72 times in 100
    assert outcome.status == "ok"


HOST_READS = {"_local_scalar_dense", "item", "is_nonzero", "nonzero", "masked_select", "equal", "unique_dim"}


class HostReads(TorchDispatchMode):
    """Counts operations whose result the host has to wait for, on whatever device."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function.name().removeprefix("aten::").split(".")[0] in HOST_READS
        return function(*args, **(kwargs or {}))


class KilledError(Exception):
    """What a test does to a training."""


def interrupted(run, stack, tmp_path, monkeypatch, after):
    """Outcomes of a training that is killed after every `after` steps and taken up again, and the number of steps it took."""
    taken, step, steps = 0, Loop.step, 0

    def limited(loop, *batch):
        nonlocal taken, steps
        if taken == after:
            raise KilledError
        taken, steps = taken + 1, steps + 1
        step(loop, *batch)

    monkeypatch.setattr(Loop, "step", limited)
    for _ in range(100):
        taken = 0
        try:
            return run.train(stack, CPU, Checkpoints(tmp_path / "checkpoints", seconds=0)), steps
        except KilledError:
            pass
    pytest.fail("it makes no progress")


@pytest.mark.parametrize(
    ("run", "after", "taken"),
    [
        (replace(ONE_HOT, steps=450), 130, 450 + 4 * 30),  # chunks of 100 steps
        (replace(ONE_HOT, loss="nwj", lr=1.0, steps=450), 130, None),  # these diverge
        (replace(GAUSSIAN, steps=210, problem=GaussianStaircase(50), hidden=(16, 16)), 110, 210 + 10),
        (replace(ENCODER, steps=400), 200, 400 + 2 * 57),  # epochs of 143
        (replace(CONV, steps=11), 4, 11 + 3 * 1),  # epochs of 3
        (replace(CONV, steps=11, task="slb", loss="resmile", lam=0.1), 7, 11 + 1),
        (replace(RESNET, steps=4), 3, 4),
    ],
    ids=lambda value: value.words if hasattr(value, "words") else "",
)
def test_a_training_that_is_killed_and_taken_up_again_ends_bit_by_bit_as_if_it_had_not_been(
    run, after, taken, tmp_path, monkeypatch
):
    stack = [run] if run.alone else [replace(run, seed=seed) for seed in range(3)]
    expected = run.train(stack, CPU)
    found, steps = interrupted(run, stack, tmp_path, monkeypatch, after)
    assert all(map(same, found, expected))
    assert taken is None or steps == taken  # it repeats what came after the last checkpoint, and nothing else


def test_a_checkpoint_holds_all_that_a_step_changes(tmp_path):
    """No tensor that the network or the optimizer remembers is missing: the state decides the next step alone."""
    encoder = EncoderStack([CONV], DATASETS["cifar-10"](), CPU)
    optimizer = Adam(1e-3)
    loop = Loop(encoder.network, None, None, optimizer, runs=1, steps=3, observe={})
    held = {tensor.data_ptr() for tensor in loop.tensors.values()}
    assert {buffer.data_ptr() for buffer in encoder.network.buffers()} <= held
    assert {tensor.data_ptr() for row in optimizer.state for tensor in row} <= held
    assert next(encoder.network.parameters()).data_ptr() == loop.tensors["parameters"].data_ptr()


def test_a_keeper_writes_between_chunks_only_and_when_it_is_time(tmp_path):
    stream = Stream(lambda g, first, steps: (torch.rand(steps, generator=g),), [torch.Generator()], 10, 4)
    loop = Loop(mlp([3, 1], runs=1), None, None, SGD(0.1), runs=1, steps=10)
    for seconds, written in ((3600, []), (0, [8, 4])):
        keeper = Keeper(Checkpoints(tmp_path, seconds), stream)
        for step in range(1, 11):
            keeper.put_down(loop, step)
        assert [int(path.stem.split("-")[0]) for path in keeper.checkpoints._files()] == written


def test_bf16_is_near_fp32_and_not_the_same():
    data = DATASETS["cifar-10"]()
    stacks = [EncoderStack([replace(RESNET, precision=precision)], data, CPU) for precision in ("fp32", "bf16")]
    exact, rounded = (stack.outputs(data.test_images[:10]) for stack in stacks)
    assert rounded.dtype == torch.float32
    assert 1e-4 < (rounded - exact).norm() / exact.norm() < 0.1  # 8 bits, 18 layers, 10 images in a batch


def test_a_critic_in_bf16_is_near_fp32_and_not_the_same():
    exact, rounded = (GAUSSIAN.train([replace(GAUSSIAN, precision=precision)], CPU)[0] for precision in ("fp32", "bf16"))
    for term in ("joint_term", "marginal_term", "estimate"):
        gap = np.abs(rounded.arrays[term] - exact.arrays[term]).max()
        assert 0 < gap < 0.02, term  # 8 bits, scores below 1
    assert rounded.arrays["estimate"].dtype == np.float32


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(torch._dynamo.config, "trace_autograd_ops"), reason="this PyTorch cannot")
@pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="inductor needs a C++ compiler")
def test_the_compiled_step_is_the_plain_one_up_to_rounding():
    stack = [replace(ONE_HOT, loss="renwj", seed=seed, lam=lam, steps=60) for seed, lam in enumerate((0.1, 1.0))]
    plain, compiled = (ONE_HOT.train([replace(run, compiled=how) for run in stack], CPU) for how in (False, True))
    for one, other in zip(plain, compiled, strict=True):
        assert one.status == other.status == "ok"
        for name, values in one.arrays.items():
            assert_close(other.arrays[name], values, rtol=1e-4, atol=1e-5)  # float32, 60 steps


def test_a_compiler_that_cannot_is_named(monkeypatch):
    monkeypatch.delattr("torch._dynamo.config.trace_autograd_ops", raising=False)
    with pytest.raises(RuntimeError, match="compiled=True needs a PyTorch whose compiler follows"):
        ONE_HOT.train([replace(ONE_HOT, compiled=True)], CPU)


class Replayed:
    """Stands for a CUDA graph here: it does again what was done while it was captured."""

    def __init__(self, seen):
        self.seen = seen

    def replay(self):
        self.seen["step"]()


@pytest.fixture
def graphs_without_a_device(monkeypatch):
    """Streams and graphs of this CPU; counts the steps that were really computed."""
    seen = {"steps": 0}
    plain = Loop.step

    def step(loop, *batch):
        seen["steps"] += 1
        seen["step"] = lambda: plain(loop, *batch)
        plain(loop, *batch)

    stream = SimpleNamespace(wait_stream=lambda other: None)
    for name, stand_in in {
        "Stream": lambda: stream,
        "current_stream": lambda: stream,
        "stream": lambda chosen: nullcontext(),
        "CUDAGraph": lambda: Replayed(seen),
        "graph": lambda graph: nullcontext(),
    }.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    monkeypatch.setattr(Loop, "step", step)
    return seen


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_capturing_leaves_no_trace_in_the_training(optimizer, graphs_without_a_device):
    plain = toy(optimizer, steps=7)
    assert graphs_without_a_device["steps"] == 7
    captured = toy(optimizer, steps=7, capture=True)
    assert graphs_without_a_device["steps"] == 7 + Captured.WARM_UP + 1  # the rest are replays
    assert torch.equal(captured[0], plain[0])
    assert all(torch.equal(captured[1].traces[name], values) for name, values in plain[1].traces.items())


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@each_optimizer
def test_captured_is_eager_on_cuda(optimizer):
    eager, captured = (toy(optimizer, where=torch.device("cuda"), capture=capture) for capture in (False, True))
    assert torch.equal(captured[0], eager[0])
    assert all(torch.equal(captured[1].traces[name], values) for name, values in eager[1].traces.items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"network": "mlp", "hidden": (8,)}, "network must be an 'mlp' for flat images and another for photographs; got 'mlp'"),
        ({"batch": 31}, "batch must be at most 30, the training images of noise; got 31"),
        ({"train_size": 55}, "train_size must be a multiple of 10"),
    ],
)
def test_a_run_that_does_not_fit_its_images_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        CONV.train([replace(CONV, **change)], CPU)


@pytest.mark.parametrize("loss", estimators.BOUNDS)
def test_weight_zero_trains_the_original(loss):
    run = replace(GAUSSIAN, loss=loss, batch=16, hidden=(16,), steps=40)
    twin = replace(run, loss="re" + loss, lam=0.0)
    assert same(run.train([run], CPU)[0], twin.train([twin], CPU)[0])


def test_loop_stops_soon_after_the_last_run_has_diverged():
    seen = []

    def hurt(step, joint, marginal):
        seen.append(step)
        return Scores(joint * math.inf, marginal)

    _, history, _ = toy(steps=5 * LOOK_EVERY, hurt=hurt)
    assert (len(seen), history.diverged_at.tolist()) == (LOOK_EVERY, [0, 0, 0])
    assert history.traces["objective"].shape == (3, 5 * LOOK_EVERY)


def test_observed_values_are_traced():
    outcome = ONE_HOT.train([replace(ONE_HOT, steps=40)], CPU)[0]
    on, output = outcome.arrays["on_diagonal"], outcome.arrays["marginal_output"]
    assert set(on) == {0, 1}
    assert output.shape == outcome.arrays["joint_output"].shape == (40,)
    assert outcome.arrays["table"].shape == (16, 16)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("batch", "lr", "column", "statistic"),
    [
        (100, 0.3, "marginal_term", lambda values: abs(values.mean())),  # it drifts: Fig. 1, with larger steps
        (32, 0.1, "estimate", lambda values: values.std()),  # it explodes: Fig. 3, early
    ],
    ids=["drift", "explosion"],
)
def test_the_regularizer_holds_what_mine_lets_go(batch, lr, column, statistic):
    run = replace(ONE_HOT, batch=batch, lr=lr, steps=600)
    ends = {}
    for loss, lam in (("mine", None), ("remine", 1.0)):
        outcomes = run.train([replace(run, loss=loss, lam=lam, seed=seed) for seed in range(2)], CPU)
        ends[loss] = [statistic(outcome.arrays[column][-200:]) for outcome in outcomes]
    assert max(ends["remine"]) < min(ends["mine"])


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@each_optimizer
def test_devices_agree(optimizer):
    (here, cpu, _), (there, cuda, _) = (toy(optimizer, where=torch.device(name)) for name in ("cpu", "cuda"))
    if optimizer == "sgd":  # Adam makes a whole step of a gradient that is rounding alone
        assert_close(there.cpu(), here, rtol=0, atol=1e-4)  # float32, 12 steps
    assert torch.equal(cuda.diverged_at, cpu.diverged_at)
    near = {"rtol": 1e-4, "atol": 1e-4} if optimizer == "sgd" else {"rtol": 0.05, "atol": 1e-3}
    for name in COLUMNS:
        assert_close(cuda.traces[name], cpu.traces[name], **near, equal_nan=True)


def loop_of(run, where):
    """The loop of a stack of one, and a batch for it."""
    encoder = EncoderStack([run], DATASETS[run.dataset](), where)
    return encoder.loop(), next(iter(encoder.batches(1)))


STEPS = [
    pytest.param(replace(cell, task=task, loss=loss, options=options), id=f"{cell.network}-{task}-{loss}")
    for cell in (CONV, RESNET)
    for task in ("slb", "clb")
    for loss in ((*estimators.NAMES, *estimators.RIVALS) if cell is CONV else ("resmile", "infonce"))
    if (loss, task) != ("dcl", "slb")  # whose logits do not say which of a row is the label's
    for options in [{"clip": "both"} if loss in ("smile", "resmile") else {}]
]


@pytest.mark.parametrize("run", STEPS)
def test_a_step_waits_for_no_host(run):
    loop, batch = loop_of(run, CPU)
    with HostReads() as reads:
        loop.read(*batch)
        loop.read(*batch)
        assert reads.count == 0  # on the CPU the update looks which runs it changes
        loop.alive.any().item()
        assert reads.count == 1  # it does count


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
@pytest.mark.parametrize("run", STEPS)
def test_a_step_on_cuda_does_not_synchronise_and_agrees_with_the_cpu(run):
    traces = {}
    for where in (CPU, torch.device("cuda")):
        loop, batch = loop_of(run, where)
        batch = [torch.arange(10, device=where).unsqueeze(0) for _ in batch]  # the generators of two devices differ
        loop.step(*batch)  # memory and kernels are ready after the first
        if where.type == "cuda":
            torch.cuda.set_sync_debug_mode("error")
        try:
            loop.step(*batch)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        traces[where.type] = loop.history().traces
    for name, values in traces["cpu"].items():  # float32, scores near 200, and some values are their exponentials
        mine, theirs = (part[:, 0].double().abs().log1p() * part[:, 0].sign() for part in (values, traces["cuda"][name]))
        assert_close(theirs, mine, rtol=1e-3, atol=2e-2, equal_nan=True)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(
    "cell", [ENCODER, replace(ENCODER, task="slb"), CONV, replace(GAUSSIAN, batch=16)], ids=lambda cell: cell.words
)
def test_a_captured_stack_of_losses_is_each_of_them_alone(cell):
    cell, where = replace(cell, steps=30), torch.device("cuda")
    stack = [
        replace(cell, loss=loss, lam=lam) for loss, lam in (("mine", None), ("infonce", None), ("remine", 0.1), ("remine", 0.01))
    ]
    for run, outcome in zip(stack, cell.train(stack, where), strict=True):
        alone = cell.train([run], where)[0]
        assert outcome.status == alone.status
        assert_close(outcome.arrays["estimate"][:3], alone.arrays["estimate"][:3], rtol=1e-3, atol=2e-2)  # scores near 200


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_stack_on_cuda_is_weeded(empty_store):
    stack = [replace(ENCODER, loss=loss, steps=600) for loss in ("mine", "nwj", "tuba")]
    store.train(stack)
    assert [store.load(run).status for run in stack] == ["ok", "diverged", "diverged"]
