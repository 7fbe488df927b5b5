"""Every command explains itself, and every mistake is one line that names it."""

import json
import re
import runpy
import sys
from dataclasses import replace

import pandas as pd
import pytest
import torch

from remi.__main__ import COMMANDS, main
from remi.paper import claims, experiments, figures, notebooks, report
from remi.paper.experiments import PLANS, PROFILES
from remi.runs import budget, store
from remi.runs.specs import CriticRun, EncoderRun, Outcome, to_json
from remi.training import images, loop
from remi.training.problems import OneHot

ONE_HOT = CriticRun("mine", 8, 3, "sgd", 0.1, (4,), problem=OneHot(4))
PLAIN, ENCODER = to_json(ONE_HOT), to_json(EncoderRun("mine", 10, 2, "adam", 1e-3, (16,)))


def written(tmp_path, content):
    path = tmp_path / "spec.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def test_help_lists_every_command(capsys):
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["--help"])
    assert set(COMMANDS) <= set(capsys.readouterr().out.split())


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit, match=r"^0$"):
        main([command, "--help"])
    assert f"python -m remi {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["dance"], "dance"),
        ([], "COMMAND"),
        (["sweep", "fig9"], "fig9"),
        (["status", "fig9"], "fig9"),
        (["sweep", "fig1", "--profile", "huge"], "huge"),
        (["status", "--profile", "huge"], "huge"),
        (["paper", "--profile", "huge"], "huge"),
        (["sweep", "--processes", "two"], "two"),
        (["sweep", "--processes", "0"], "--processes: must be a whole number of at least 1; got '0'"),
        (["status", "--processes", "0"], "--processes: must be a whole number of at least 1; got '0'"),
        (["sweep", "--gpus", "0", "--runs-per-gpu", "0"], "--runs-per-gpu: must be a whole number of at least 1; got '0'"),
        (["sweep", "--gpus", "0", "first"], "--gpus: must be numbers such as 0 1 3 or 0,1,3; got 'first'"),
        (["sweep", "--gpus"], "--gpus"),
        (["sweep", "--gpus", "0", "--processes", "2"], "--processes: not allowed with argument --gpus"),
        (["sweep", "--ray", "auto", "--gpus", "0"], "--gpus: not allowed with argument --ray"),
        (["run"], "spec"),
    ],
)
def test_a_wrong_argument_is_named(arguments, named, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert named in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ("{", "spec.json"),
        ("", "spec.json"),
        ([PLAIN], "specification"),
        ("3", "specification"),
        ({"kind": "Fancy"}, "Fancy"),
        (PLAIN["problem"], "OneHot"),
        (PLAIN | {"colour": 1}, "colour"),
        ({name: value for name, value in PLAIN.items() if name != "batch"}, "batch"),
        (PLAIN | {"loss": "nonsense"}, "nonsense"),
        (PLAIN | {"options": {"tau": 3}}, "tau"),
        (PLAIN | {"loss": "remine", "lam": -1}, "lam"),
        (PLAIN | {"optimizer": "magic"}, "magic"),
        (PLAIN | {"batch": "many"}, "batch"),
        (PLAIN | {"steps": 0}, "steps"),
        (PLAIN | {"precision": "fp8"}, "precision must be one of fp32, tf32, bf16; got 'fp8'"),
        (PLAIN | {"compiled": 1}, "compiled must be true or false; got 1"),
        (ENCODER | {"compiled": True}, "compiled must be false with optimizer 'adam'"),
        (PLAIN | {"problem": None}, "problem"),
        (ENCODER | {"dataset": "faces"}, "faces"),
        (ENCODER | {"task": "sorting"}, "sorting"),
        (ENCODER | {"network": "vgg"}, "mlp, mlp-signed, mlp-unit, conv, resnet18; got 'vgg'"),
        (ENCODER | {"network": "conv"}, "hidden must hold at least 2 sizes for network 'conv'"),
        (ENCODER | {"precision": "fp8"}, "fp8"),
        (ENCODER | {"side": -1}, "side must be a positive whole number or None; got -1"),
        (ENCODER | {"train_size": "all"}, "train_size"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_malformed_specification_is_one_line(spec, named, tmp_path, empty_store, capsys):
    assert main(["run", written(tmp_path, spec)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("remi run: ")
    assert captured.err.count("\n") == 1
    assert named in captured.err
    assert not empty_store.exists() or not list(empty_store.iterdir())


def test_a_missing_specification_is_one_line(empty_store, capsys):
    assert main(["run", "nowhere.json"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_run_trains_once_and_prints_its_folder(tmp_path, empty_store, capsys):
    seconds = []
    for _ in range(2):
        assert main(["run", written(tmp_path, PLAIN)]) == 0
        assert capsys.readouterr().out == f"{store.folder(ONE_HOT)}\n"
        seconds.append(store.load(ONE_HOT).seconds)
    assert seconds[0] == seconds[1]


def test_run_into_a_store_that_cannot_be_written_is_one_line(tmp_path, monkeypatch, capsys):
    spec = written(tmp_path, PLAIN)
    monkeypatch.setattr(store, "STORE", tmp_path / "spec.json" / "runs")
    assert main(["run", spec]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "spec.json/runs" in error


def test_a_broken_line_ends_a_worker_with_one_line(empty_store, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", iter([json.dumps([PLAIN]) + "\n", json.dumps([PLAIN | {"loss": "nonsense"}]) + "\n"]))
    assert main(["run", "-"]) == 1
    captured = capsys.readouterr()
    assert captured.out == "done\n"
    assert "nonsense" in captured.err


@pytest.mark.parametrize(("what", "count"), [("fig1", 480), ("fig2", 40), ("fig7", 69)])
def test_status_counts(what, count, empty_store, capsys):
    assert main(["status", what]) == 0
    assert capsys.readouterr().out.startswith(f"0 of {count} runs done")


def test_status_counts_what_is_done_and_what_diverged(empty_store, monkeypatch, capsys):
    wanted = [replace(ONE_HOT, seed=seed) for seed in range(4)]
    monkeypatch.setattr(experiments, "runs_of", lambda name, profile: wanted + wanted)
    for run, status in zip(wanted, ("ok", "diverged", "ok"), strict=False):
        store.save(run, Outcome(status, {}, {}), 0.0)
    store.journal().fail([store.folder(run).name for run in wanted[2:]], "Traceback\nMemoryError: too small\n")
    assert main(["status"]) == 0
    first, *rest = capsys.readouterr().out.splitlines()
    assert first == f"3 of 4 runs done in {empty_store}, 1 of them diverged"
    assert rest[0] == "0 in training now"
    assert re.match("missing: 1 run of 3 steps in all, about .* with 2 processes on ", rest[1])
    assert rest[2:] == [f"failed: {wanted[3].words}: MemoryError: too small"]  # the other one has been trained since


@pytest.mark.parametrize("command", ["sweep", "status"])
def test_data_that_are_not_there_are_one_line(command, empty_store, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("REMI_DATA", "")  # to be restored: --data sets it
    (tmp_path / "train/cat").mkdir(parents=True)
    assert main([command, "table2", "--profile", "desk", "--data", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"{tmp_path}/train" in error


@pytest.fixture
def little_cifar(monkeypatch):
    """A few random photographs in place of CIFAR."""
    for name, classes in images.CIFAR.items():
        little = images.noise(name, 6 * classes)
        monkeypatch.setitem(images.DATASETS, name, lambda little=little: little)


def test_a_sweep_states_its_cost_before_it_starts(empty_store, little_cifar, monkeypatch, capsys):
    asked = []

    def fill(wanted, runner):
        asked.append((capsys.readouterr().out, len(wanted), runner.processes))

    monkeypatch.setattr(store, "fill", fill)
    assert main(["sweep", "table2", "--profile", "desk"]) == 0
    ((text, count, processes),) = asked
    assert text.startswith("252 runs of 11,316,000 steps in all, about ")
    assert re.search(r"about [0-9.]+ (hours|minutes) with 2 processes on .*, about 136 MB on disk\n$", text)
    assert (count, processes) == (252, 2)


@pytest.mark.parametrize("gpus", [["3", "1"], ["3,1"]])
def test_a_sweep_on_gpus_has_so_many_processes_on_each(gpus, empty_store, monkeypatch, capsys):
    found = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(budget, "seconds_per_step", lambda stacks, place: found.append(place) or [1.0] * len(stacks))
    monkeypatch.setattr(store, "fill", lambda wanted, runner: found.append(runner.processes))
    assert main(["sweep", "fig1", "--gpus", *gpus, "--runs-per-gpu", "3"]) == 0
    assert found == [{"CUDA_VISIBLE_DEVICES": "3"}, 6]
    assert "with 6 processes on" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--gpus", "0", "2"], "gpus must be different ones of the 2 that PyTorch sees, counted from 0; got [0, 2]"),
        (["--gpus", "1,1"], "got [1, 1]"),
        (["--runs-per-gpu", "2"], "--runs-per-gpu needs --gpus or --ray"),
        (["--ray", "here"], "address must be local, auto or host:port; got 'here'"),
        (["--ray", "local", "--runs-per-gpu", "20000"], "runs_per_gpu must be from 1 to 10000; got 20000"),
    ],
)
def test_a_place_that_is_not_there_is_one_line(arguments, named, empty_store, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert main(["sweep", "fig1", *arguments]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert named in captured.err
    assert not empty_store.exists()


def test_a_folder_of_images_can_be_swept(empty_store, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(figures, "PRODUCTS", tmp_path / "figures")
    little = replace(images.noise("cifar-10", 60), classes=12)
    monkeypatch.setitem(images.DATASETS, "folder", lambda: little)
    monkeypatch.setattr(
        budget, "seconds_per_step", lambda stacks, place: [1.0] * len(stacks)
    )  # another process has no such folder
    assert main(["status", "folder", "--profile", "desk"]) == 0
    assert capsys.readouterr().out.startswith("0 of 150 runs done")
    monkeypatch.setattr(store, "fill", lambda wanted, runner: store.train(wanted[:2]))
    assert main(["sweep", "folder", "--profile", "desk"]) == 0
    where = tmp_path / "figures/desk/folder"
    said = capsys.readouterr().out
    assert "Table 2, profile desk: a folder of images" in said
    assert "benchmark, folder (12 classes, true MI" in said
    assert said.endswith(f"in {where}\n")
    names = {"table2.csv", "table2_summary.csv", "table2.md", "table2.tex", "table2.png", "table2.pdf"}
    assert {path.name for path in where.iterdir()} == names
    assert len((where / "table2.csv").read_text().splitlines()) == 3
    assert main(["status", "folder", "--profile", "desk"]) == 0
    assert "2 of 150 runs done" in capsys.readouterr().out


def test_a_sweep_with_nothing_to_do_says_nothing(empty_store, little_cifar, monkeypatch, capsys):
    monkeypatch.setattr(store, "missing", lambda wanted: [])
    assert main(["sweep", "table2", "--profile", "desk"]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("force", [False, True])
def test_the_paper_profile_without_cuda_prints_its_cost_and_stops_unless_forced(force, empty_store, monkeypatch, capsys):
    monkeypatch.setattr(loop, "device", lambda: torch.device("cpu"))
    monkeypatch.setattr(budget, "seconds_per_step", lambda stacks, place: [1.0] * len(stacks))  # ResNet-18 is slow here
    started = []
    for module, step in ((store, "fill"), (notebooks, "execute_all"), (report, "judge"), (report, "assemble")):
        monkeypatch.setattr(module, step, lambda *arguments: started.append(arguments))
    assert main(["paper", "--profile", "paper", *["--force"] * force]) == 1 - force
    captured = capsys.readouterr()
    assert len(started) == 4 * force
    assert ("hours" in captured.out) == (not force)
    assert ("make paper PROFILE=paper FORCE=1" in captured.err) == (not force)


def test_a_part_of_the_paper_is_judged_and_the_rest_stays(empty_store, tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(figures, "PRODUCTS", tmp_path)
    monkeypatch.setattr(store, "fill", lambda wanted: made.append({run.words.split("-")[0] for run in wanted}))
    monkeypatch.setattr(store, "load_or_run", lambda groups: {})
    monkeypatch.setattr(notebooks, "execute_all", lambda profile, every, names: made.append((profile, names)))

    def verdicts(records, profile):
        found = [(f"{name}-1", "holds" if name in records else "untested") for name in ("fig2", "fig3", "fig4")]
        return pd.DataFrame(found, columns=["id", "verdict"])

    monkeypatch.setattr(claims, "all_verdicts", verdicts)
    assert main(["paper", "fig3"]) == 0
    assert made == [{"onehot"}, ("quick", ["fig3"])]
    assert [path.name for path in tmp_path.iterdir()] == ["claims.csv"]
    assert pd.read_csv(tmp_path / "claims.csv").verdict.tolist() == ["untested", "holds", "untested"]
    (tmp_path / "claims.csv").write_text("id,verdict\nfig3-1,fails\nfig2-1,fails\ngone-1,holds\n")
    assert main(["paper", "fig3"]) == 0
    assert pd.read_csv(tmp_path / "claims.csv").verdict.tolist() == ["fails", "holds", "untested"]


def test_an_unknown_figure_is_one_line(capsys):
    assert main(["paper", "fig9"]) == 1
    assert "FIGURE must be among fig1, fig2" in capsys.readouterr().err


def test_choices_are_the_plans_and_profiles(capsys):
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["sweep", "--help"])
    text = capsys.readouterr().out
    assert all(name in text for name in (*PLANS, *PROFILES))


def test_doctor_reports_versions_and_data(empty_store, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("REMI_DATA", str(tmp_path))
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert all(
        word in text for word in ("python", "torch", "device", str(empty_store), "1437 + 360 images", "5000 + 2000 images")
    )
    assert "cifar-10: not here; downloaded when it is needed" in text
    assert f"folder: not here: {tmp_path}/train must hold a folder of images per class" in text


@pytest.mark.parametrize(("arguments", "code"), [(["status", "fig1"], 0), (["status", "fig9"], 2), (["run", "nowhere.json"], 1)])
def test_exit_status_is_that_of_the_command(arguments, code, empty_store, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["remi", *arguments])
    monkeypatch.delitem(sys.modules, "remi.__main__")
    with pytest.raises(SystemExit) as stopped:
        runpy.run_module("remi", run_name="__main__")
    assert stopped.value.code == code
