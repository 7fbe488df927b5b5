"""`Loss` computes what `estimators` does of `Scores`, for every way of saying what belongs together."""

import copy
import itertools
import math
import pickle

import numpy as np
import pytest
import torch
from test_estimators import CASES, formula
from torch import tensor
from torch.nn.functional import normalize
from torch.testing import assert_close

from remi.losses import Loss, Queue, Scores
from remi.losses.estimators import NAMES, RIVALS, get

N, D = 6, 3
LABELS = tensor([0, 0, 0, 1, 1, 2])  # three positives, two, none
each_case = pytest.mark.parametrize(("name", "chosen"), CASES, ids=[f"{name}{chosen or ''}" for name, chosen in CASES])
EVERY = (*NAMES, *RIVALS)
each_loss = pytest.mark.parametrize("name", EVERY)


def draw(*shapes, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_() for shape in shapes]


INPUTS = {  # of a call: shapes of what is drawn, and whether there are labels
    "views": ([(N, D), (N, D)], {}),
    "labels": ([(N, D)], {"labels": LABELS}),
    "views with labels": ([(N, D), (N, D)], {"labels": LABELS}),
    "two positives": ([(N, D), (N, 2, D)], {}),
    "one positive in a list": ([(N, D), (N, 1, D)], {}),
    "negatives": ([(N, D), (N, D), (4, D)], {}),
    "negatives of each": ([(N, D), (N, D), (N, 4, D)], {}),
    "two positives and negatives": ([(N, D), (N, 2, D), (4, D)], {}),
    "labels and negatives": ([(N, D), (4, D)], {"labels": LABELS}),
    "one anchor": ([(1, D), (1, D), (4, D)], {}),
}
each_input = pytest.mark.parametrize("kind", INPUTS)


def arguments(kind, tensors):
    names = ["z1", "negatives"] if kind == "labels and negatives" else ["z1", "z2", "negatives"]
    return dict(zip(names, tensors, strict=False)) | INPUTS[kind][1]


def call(loss, kind, tensors):
    return loss(**arguments(kind, tensors))


def loops(kind, tensors, temperature, bias):
    """Joint scores, marginal scores and the row of each joint score, for the anchors of every direction, by loops."""

    def score(x, y):
        unit = [v / math.sqrt(sum(v * v)) for v in (x, y)]
        return sum(a * b for a, b in zip(*unit, strict=True)) / temperature + bias

    z1, *rest = (t.detach().numpy() for t in tensors)
    labels = LABELS.tolist()
    joint, marginal, rows = [], [], []
    if INPUTS[kind][1]:
        more = rest.pop() if kind == "labels and negatives" else []
        if rest:
            z1, labels = np.concatenate([z1, rest[0]]), labels + labels
        for i, x in enumerate(z1):
            others = [j for j in range(len(z1)) if j != i]
            row = [score(x, z1[j]) for j in others] + [score(x, n) for n in more]
            mine = [score(x, z1[j]) for j in others if labels[j] == labels[i]]
            joint, marginal, rows = joint + mine, marginal + row, rows + [row] * len(mine)
        return [(joint, marginal, rows)]
    directions = [(z1, rest[0])] + ([(rest[0], z1)] if kind == "views" else [])
    found = []
    for anchors, others in directions:
        others = others if others.ndim == 3 else others[:, None]
        joint, marginal, rows = [], [], []
        for i, x in enumerate(anchors):
            mine = [score(x, y) for y in others[i]]
            further = [] if len(rest) == 1 else rest[1] if rest[1].ndim == 2 else rest[1][i]
            foreign = [score(x, y) for j, ys in enumerate(others) if j != i for y in ys] + [score(x, n) for n in further]
            joint, marginal, rows = joint + mine, marginal + foreign, rows + [mine + foreign] * len(mine)
        found.append((joint, marginal, rows))
    return found


@each_input
@each_case
def test_every_call_is_the_formula_on_its_pairs(name, chosen, kind):
    tensors = draw(*INPUTS[kind][0])
    expected = [formula(name, *pairs, **chosen) for pairs in loops(kind, tensors, 0.5, 0.2)]
    for rows in (None, 4):
        loss = Loss(name, temperature=0.5, bias=0.2, rows=rows, **chosen)
        value = call(loss, kind, tensors)
        assert value.item() == pytest.approx(-sum(reading.objective for reading in expected) / len(expected), rel=1e-9)
        for field, values in zip(loss.reading, zip(*expected, strict=True), strict=True):
            assert field.item() == pytest.approx(sum(values) / len(values), rel=1e-9)
            assert not field.requires_grad


# exp T = [[4, 1], [3, 2]]: the joint mean is 3/2 log 2, the mean of exp over the others 2, over rows 5/2, over columns 7/2, 3/2
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mine", -0.5 * math.log(2)),
        ("remine", -0.5 * math.log(2) + math.log(2) ** 2),
        ("nwj", 2 / math.e - 1.5 * math.log(2)),
        ("infonce", (2 * math.log(5 / 2) + math.log(7 / 2) + math.log(3 / 2)) / 4 - 1.5 * math.log(2)),
    ],
)
def test_hand_numbers(name, expected):
    scores = tensor([[4.0, 1.0], [3.0, 2.0]], dtype=torch.float64).log()
    loss = Loss(name, temperature=1, normalize=False)
    assert loss(scores, torch.eye(2, dtype=torch.float64)).item() == pytest.approx(expected, rel=1e-12)


@each_loss
def test_extremes_are_finite_or_inf_and_never_nan(name):
    for size, rows in itertools.product((1e4, -1e4), (None, 2)):
        z = torch.full((4, 1), 1.0)
        value = Loss(name, normalize=False, temperature=1, rows=rows)(size * z, z)
        assert not value.isnan()
        if not name.endswith(("nwj", "tuba", "js")):
            assert value.isfinite()


@each_input
@pytest.mark.parametrize("name", ["remine", "reinfonce", "rejs"])
def test_gradients_are_right_down_to_temperature_and_bias(name, kind):
    loss = Loss(name, temperature=0.5, bias=0.2, learn_temperature=True, learn_bias=True).double()
    tensors = draw(*INPUTS[kind][0])

    def value(log_scale, bias, *tensors):
        return torch.func.functional_call(loss, {"log_scale": log_scale, "bias": bias}, (), arguments(kind, tensors))

    assert torch.autograd.gradcheck(value, (loss.log_scale, loss.bias, *tensors))


@each_loss
def test_without_positives_it_is_skipped_and_counted(name):
    (z,) = draw((4, 2))
    for rows in (None, 3):
        loss = Loss(name, rows=rows)
        loss(z, labels=range(4)).backward()
        assert not z.grad.any()
        assert loss.reading.estimate.isnan()
        assert [loss.skipped_anchors, loss.skipped_batches] == [4, 1]
        assert loss(z, labels=[0, 0, 1, 2]).isfinite()
        assert [loss.skipped_anchors, loss.skipped_batches] == [6, 1]
        assert loss(z, z.flip(0)).isfinite()
        assert [loss.skipped_anchors, loss.skipped_batches] == [6, 1]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@each_input
def test_autocast_does_not_reach_it(kind, dtype):
    tensors = draw(*INPUTS[kind][0], dtype=dtype)
    for rows in (None, 4):
        loss = Loss("reinfonce", learn_temperature=True, rows=rows)
        with torch.autocast("cpu", dtype):
            found = call(loss, kind, tensors)
        assert found.dtype == torch.float32
        assert_close(found, call(loss, kind, [t.float() for t in tensors]), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("rows", [None, 4])
@each_input
def test_going_backward_under_autocast_rounds_no_gradient(kind, rows):
    found = []
    for enabled in (False, True):
        tensors, loss = draw(*INPUTS[kind][0], dtype=torch.float32), Loss("reinfonce", rows=rows, normalize=False)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            call(loss, kind, tensors).backward()
        found.append([tensor.grad for tensor in tensors])
    assert_close(*found, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("rows", [None, 4])
@pytest.mark.parametrize("kind", ["views", "labels", "two positives and negatives", "negatives of each"])
def test_compiles_as_one_graph(kind, rows):
    torch._dynamo.reset()
    found = []
    for compiled in (lambda f: f, lambda f: torch.compile(f, fullgraph=True, backend="aot_eager")):
        loss, tensors = Loss("reinfonce", learn_temperature=True, learn_bias=True, rows=rows), draw(*INPUTS[kind][0])
        value = compiled(lambda *tensors, loss=loss: call(loss, kind, tensors))(*tensors)
        value.backward()
        found.append([value.detach(), loss.log_scale.grad, loss.skipped_anchors, *loss.reading, *(t.grad for t in tensors)])
    assert_close(*found)


def test_state_copies_and_devices():
    z1, z2 = draw((N, D), (N, D), dtype=torch.float32)
    loss = Loss("ReMINE", lam=0.5, temperature=0.2, learn_temperature=True)
    loss(z1, z2).backward()
    loss(z1, labels=LABELS)
    with torch.no_grad():
        loss.log_scale += 1
    assert set(loss.state_dict()) == {"log_scale", "skipped_anchors", "skipped_batches"}
    again = Loss("remine", lam=0.5, learn_temperature=True)
    again.load_state_dict(loss.state_dict())
    for other in (again, copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert torch.equal(other(z1, z2), loss(z1, z2))
        assert other.skipped_anchors == 1
    assert repr(loss) == (
        "Loss('ReMINE', lam=0.5, temperature=0.07358 (learned), normalize=True, symmetric=True, gather=False, rows=None)"
    )
    assert loss.to("meta")(z1.to("meta"), z2.to("meta")).device.type == "meta"
    assert list(Loss("remine").parameters()) == []


def test_symmetric_is_clips_and_concerns_infonce_alone():
    z1, z2 = draw((N, D), (N, D))
    matrix = normalize(z1, dim=-1) @ normalize(z2, dim=-1).mT / 0.1
    clip = sum(torch.nn.functional.cross_entropy(m, torch.arange(N)) for m in (matrix, matrix.mT)) / 2
    assert_close(Loss("infonce")(z1, z2), clip - math.log(N))
    for name in EVERY:
        one, both = (Loss(name, symmetric=symmetric)(z1, z2) for symmetric in (False, True))
        assert (abs(one - both) > 1e-3) == (name.endswith("infonce") or name in ("infonce_anchor", "dcl"))
        assert_close(both, Loss(name)(z2, z1))


def test_a_queue_holds_what_came_before():
    queue, batches = Queue(5), [torch.full((2, 1), float(i)).requires_grad_() for i in range(5)]
    seen = [queue(batch) for batch in batches]
    assert [len(past) for past in seen] == [0, 2, 4, 5, 5]
    assert seen[3].flatten().tolist() == [0, 1, 1, 2, 2]
    assert not seen[3].requires_grad
    assert seen[1].flatten().tolist() == [0, 0]  # what was given is not written to
    again = Queue(5)
    again.load_state_dict(queue.state_dict())
    assert torch.equal(again.eval()(batches[0]), queue.eval()(batches[0]))
    assert len(queue(batches[0])) == 5
    assert queue(batches[0]).flatten().tolist() == [2, 3, 3, 4, 4]  # in evaluation mode nothing comes in
    assert repr(queue) == "Queue(size=5, filled=5)"
    with pytest.raises(ValueError, match="size must be a positive integer, got 0"):
        Queue(0)


def test_a_queue_trains():
    loss, queue, (z1, z2) = Loss("remine"), Queue(8), draw((N, D), (N, D))
    assert_close(loss(z1, z2, negatives=queue(z2)), loss(z1, z2))
    loss(z1, z2, negatives=queue(z2)).backward()
    assert z1.grad.isfinite().all()


A, B = torch.ones(3, 2), torch.ones(3, 2)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"z1": A}, "z2 or labels must be given"),
        ({"z1": A[None], "z2": B}, r"z1 must be \(n, d\), got \(1, 3, 2\)"),
        ({"z1": A, "z2": B[:2]}, r"z2 must be \(3, 2\) or \(3, p, 2\) on cpu, got \(2, 2\) on cpu"),
        ({"z1": A, "z2": B[:, None], "labels": [1, 1, 2]}, r"z2 must be \(3, 2\) on cpu, got \(3, 1, 2\)"),
        ({"z1": A, "z2": B.to("meta")}, r"z2 must be .* on cpu, got \(3, 2\) on meta"),
        ({"z1": A, "z2": [[1.0]]}, "z2 must be a floating-point tensor, got list"),
        ({"z1": A.long(), "z2": B}, "z1 must be a floating-point tensor, got torch.int64"),
        ({"z1": A, "z2": B, "negatives": A[:, :1]}, r"negatives must be \(m, 2\) or \(3, m, 2\) on cpu, got \(3, 1\)"),
        ({"z1": A, "z2": B, "negatives": A[:2, None]}, r"negatives must be \(m, 2\) or \(3, m, 2\) on cpu, got \(2, 1, 2\)"),
        ({"z1": A, "labels": [0, 1]}, r"labels must be integers of shape \(3,\), got torch.int64 of shape \(2,\)"),
        ({"z1": A, "labels": ["a", "b", "c"]}, r"labels must be integers of shape \(3,\)"),
        ({"z1": A[:1], "z2": B[:1]}, "at least two items, or negatives, .* got 1 alone"),
        ({"z1": A[:1], "z2": B[:1], "negatives": A[:0]}, "at least two items, or negatives"),
    ],
)
def test_errors_name_the_argument_and_its_value(given, message):
    with pytest.raises(ValueError, match=message):
        Loss("remine")(**given)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "mime"}, "name must be one of mine, .* got 'mime'"),
        ({"temperature": 0}, "temperature must be a positive number, got 0.0"),
        ({"temperature": math.nan}, "temperature must be a positive number, got nan"),
        ({"bias": math.inf}, "bias must be a finite number, got inf"),
        ({"rows": 0}, "rows must be a positive integer, got 0"),
        ({"tau": 1.0}, "remine has no option 'tau'; it has penalty, lam, target"),
        ({"lam": -1.0}, "lam must be a finite number >= 0"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Loss(**{"name": "remine"} | options)


def test_it_is_the_estimator_of_scores_to_the_last_bit():
    z1, z2 = draw((N, D), (N, D), dtype=torch.float32)
    for name in EVERY:
        scores = Scores.from_views(normalize(z1, dim=-1), normalize(z2, dim=-1), 0.1)
        assert torch.equal(Loss(name, symmetric=False)(z1, z2), -get(name)(scores).objective)
