"""The benchmark compares like with like, and says "missed" when a target is missed."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import alternatives
import designs
import precision
import speed

from remi.paper import experiments
from remi.runs import store


@pytest.mark.parametrize("start", [alternatives.one_hot_plain, alternatives.one_hot_released], ids=["plain", "released"])
def test_the_loops_of_others_train_the_same_problem(start):
    torch.manual_seed(0)
    history = start(batch=64)(400)
    estimates = history.estimate if hasattr(history, "estimate") else [float(value) for value in history]
    assert len(estimates) == 400
    assert np.mean(estimates[:20]) < 0.5
    assert 1.5 < np.mean(estimates[-100:]) < 4  # log 16 is 2.77, and MINE on small batches is above


def test_the_script_of_others_trains_photographs():
    data = speed.images.noise("cifar-10", 40)
    pictures = data.train_images.permute(0, 2, 3, 1).numpy()
    train = alternatives.photographs_plain(pictures, data.train_labels.numpy(), device="cpu", batch=10, side=32, workers=0)
    assert np.isfinite(train(2)).all()


@pytest.mark.parametrize("work", [speed.one_hot, speed.staircase, lambda: speed.encoders("digits", "clb", 4)])
def test_our_contenders_train(work):
    for contender in work().contenders:
        if contender.name.startswith("remi") and "compiled" not in contender.name:
            contender.start()(2)
    assert all({target.fast, target.slow} <= {one.name for one in work().contenders} for target in work().targets)


@pytest.mark.parametrize("change", [designs.LAST, designs.BIAS, (designs.ConcatCritic, "matrix", designs.eight_blocks)])
def test_designs_are_the_same_critic(change, monkeypatch):
    critic = designs.ConcatCritic(3, 2, (8, 8), runs=2)
    for parameter in critic.parameters():
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(0))
    x, y = (torch.randn(2, 16, dim, generator=torch.Generator().manual_seed(1)) for dim in (3, 2))
    plain, (owner, name, method) = critic.matrix(x, y), change
    monkeypatch.setattr(owner, name, method)
    torch.testing.assert_close(critic.matrix(x, y), plain)


def test_comparison_is_one_hot():
    problem, symbols = designs.OneHot(5), torch.arange(10).view(2, 5) % 5
    assert torch.equal(designs.comparison(problem, symbols), problem.encode(symbols))


def test_ratios_are_per_run_and_judged(monkeypatch):
    monkeypatch.setattr(speed, "seconds", lambda train, steps: train(steps))  # a training that says how long it took
    contenders = (
        speed.Contender("plain", lambda: lambda steps: 2e-3 * steps),
        speed.Contender("remi", lambda: lambda steps: 4e-3 * steps, runs=4),
    )
    work = speed.Work("said", contenders, (speed.Target("remi", "plain", 1.5), speed.Target("remi", "plain", 2.5)))
    table = speed.measure(work, repeats=3)
    assert table.set_index("contender").median_us.to_dict() == pytest.approx({"plain": 2000, "remi": 1000})
    assert list(speed.ratios(work, table).verdict) == ["met", "missed"]
    assert {"threads", "torch", "python", "processor"} <= set(table)
    assert len(speed.draw(table).axes) == 1


def test_an_import_is_judged_by_a_difference(monkeypatch):
    monkeypatch.setattr(speed, "seconds", lambda train, steps: steps * {"import torch": 2.0, "import torch, remi": 2.4}[train])
    monkeypatch.setattr(speed, "process", lambda statement: lambda: statement)
    work = speed.imports()
    (row,) = speed.ratios(work, speed.measure(work)).to_dict("records")
    assert row["difference"] == pytest.approx(0.4)
    assert (row["at_most"], row["verdict"]) == (0.3, "missed")


def test_a_step_of_an_import_is_a_process(tmp_path):
    speed.process(f"open({str(tmp_path / 'steps')!r}, 'a').write('.')")()(3)
    assert (tmp_path / "steps").read_text() == "..."


def test_growth_is_drawn_with_its_exponent():
    machine = {"device": "cpu", "processor": "a processor", "threads": 1}
    sizes = [{"against": name, "size": n, "ms": 0.1 * n**2} for name in "abcde" for n in (1, 2, 4, 8)]
    table = speed.pd.DataFrame([row | machine for row in sizes])
    texts = [text.get_text() for axes in speed.draw_scaling(table).axes for text in axes.texts]
    assert texts == ["exponent 2.00"] * 5


def test_precisions_are_compared_on_the_same_batches(empty_store, tmp_path, monkeypatch):
    plan = replace(experiments.figure7("quick")["main"], steps_per_level=20, hidden=(64, 64))
    monkeypatch.setattr(experiments, "figure7", lambda profile: {"main": plan})
    monkeypatch.setattr(precision, "PRODUCTS", tmp_path)
    monkeypatch.setattr(store, "fill", lambda wanted: [store.train([run]) for run in wanted])
    precision.main([])
    table = speed.pd.read_csv(tmp_path / "bench_precision.csv")
    assert list(table.level) == [2, 4, 6, 8, 10]
    assert (table.bf16_moves.abs() < 0.2).all()  # nats, at the start of a training
    assert table.bf16_moves.abs().max() > 0
    assert 0 < table["rounding"].abs().max() < 0.01
