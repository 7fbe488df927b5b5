"""The notebooks are what nbval can compare, and executing them fails loudly."""

import json
import os
import re
import shutil
from pathlib import Path

import nbformat
import pytest

from remi.__main__ import main
from remi.paper import figures, notebooks
from remi.runs import store
from remi.runs.specs import CriticRun, Outcome
from remi.training.problems import OneHot

PATHS = notebooks.found()
FIGURES = Path(__file__).parents[2] / "figures"


def code(path):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


each = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def test_all_are_there():
    stems = [path.stem.split("_")[0] for path in PATHS]
    assert stems == [
        "00",
        "beyond",
        *(f"derivation{n}" for n in range(1, 7)),
        *(f"fig{n}" for n in range(1, 8)),
        "remedies",
        "table2",
        "tutorial1",
        "tutorial2",
        "tutorial3",
    ]


@each
def test_counts_run_from_one_without_a_gap(path):
    cells = code(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))


@each
def test_nothing_on_stderr_and_no_error(path):
    outputs = [output for cell in code(path) for output in cell.outputs]
    assert not [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"]


@each
def test_something_is_left_for_nbval_to_compare(path):
    compared = [c for c in code(path) if c.outputs and "nbval-ignore-output" not in c.metadata.get("tags", [])]
    assert len(compared) >= 3


@each
def test_small_clean_and_without_machine_paths(path):
    text = path.read_text()
    assert len(text) <= 400_000
    assert "injected-parameters" not in text
    assert "widget-view" not in text  # it would show an error where no kernel runs
    assert "papermill" not in json.loads(text)["metadata"]
    assert not [part for part in ("/home/", "/Users/", "/root/", "/tmp/", "site-packages") if part in text]


@each
def test_one_parameters_cell_of_literals_and_a_product(path):
    if path.stem.startswith("00"):
        return
    tagged = [c for c in code(path) if "parameters" in c.metadata.get("tags", [])]
    assert [c.source.split("  # ")[0] for c in tagged] == ['profile: str = "quick"']
    stem = path.stem.split("_")[0]
    assert {f"{stem}{suffix}" for suffix in (".csv", ".json", ".png", ".pdf")} <= {p.name for p in FIGURES.iterdir()}


def test_products_are_small():
    assert sum(p.stat().st_size for p in FIGURES.rglob("*") if p.is_file()) <= 12_000_000
    assert not [p.name for p in FIGURES.glob("fig*.csv") if p.stat().st_size > 300_000]


@pytest.fixture
def small(tmp_path):
    """A notebook with one parameter and a cell that fails for a negative one."""
    cells = [
        nbformat.v4.new_code_cell("size: int = 1"),
        nbformat.v4.new_code_cell("assert size > 0, 'size is negative'\nprint(size)"),
    ]
    cells[0].metadata["tags"] = ["parameters"]
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    path = tmp_path / "small.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)
    return path


def test_a_run_notebook_appears_with_its_parameter(small, tmp_path):
    notebooks.execute(small, tmp_path / "out.ipynb", {"size": 7})
    assert code(tmp_path / "out.ipynb")[-1].outputs[0].text == "7\n"


def test_printed_text_is_one_however_many_pieces_it_came_in(small, tmp_path):
    notebook = nbformat.read(small, as_version=4)
    pause = "import time\nprint('  a = 1', flush=True)\ntime.sleep(0.5)\nprint('long = 2', flush=True)"
    picture = "\nfrom IPython.display import display\ndisplay('a picture')\nprint('the end')"
    notebook.cells.append(nbformat.v4.new_code_cell(pause + picture))
    nbformat.write(notebook, small)
    notebooks.execute(small, tmp_path / "out.ipynb", {})
    outputs = code(tmp_path / "out.ipynb")[-1].outputs
    assert [output.get("text") for output in outputs] == ["  a = 1\nlong = 2\n", None, "the end\n"]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_failing_cell_leaves_no_notebook(small, tmp_path):
    with pytest.raises(notebooks.NotebookError, match=r"small.ipynb failed(.|\n)*size is negative"):
        notebooks.execute(small, tmp_path / "out" / "out.ipynb", {"size": -1})
    assert list((tmp_path / "out").iterdir()) == []


FULL = "No space left on device"
PROBLEMS = {  # what the cell does; where the executed notebook is written to; what the error says
    "a killed kernel": ("import os\nos.kill(os.getpid(), 9)", None, "[Kk]ernel died"),
    "a disk that is full": ("print(size)", "/dev/full", FULL),
    "a product on a disk that is full": ("import pathlib\npathlib.Path('/dev/full').write_text('1')", None, FULL),
}


@pytest.mark.verify
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a full disk")
@pytest.mark.parametrize("problem", PROBLEMS)
def test_a_problem_is_an_exit_status_and_leaves_no_notebook(problem, small, tmp_path, monkeypatch, capsys, tally):
    cell, target, message = PROBLEMS[problem]
    notebook = nbformat.read(small, as_version=4)
    notebook.cells[1].source = cell
    nbformat.write(notebook, small)
    monkeypatch.setattr(notebooks, "NOTEBOOKS", tmp_path)
    monkeypatch.setattr(notebooks, "EXECUTED", tmp_path / "build")
    output, before = tmp_path / "build/refresh/small.ipynb", small.read_bytes()
    output.parent.mkdir(parents=True)
    if target:
        output.with_name(f".small.{os.getpid()}.ipynb").symlink_to(target)  # where it is written before it has its name
    assert main(["notebooks"]) == 1
    error = capsys.readouterr().err
    assert "small.ipynb failed" in error
    assert re.search(message, error)
    left = list(output.parent.iterdir())
    tally(f"a notebook and {problem}", "execution", 1, left + [small] * (small.read_bytes() != before))


def test_only_what_changed_is_executed_again(small, tmp_path, empty_store, monkeypatch):
    run = CriticRun("mine", 8, 3, "sgd", 0.1, (4,), problem=OneHot(4))
    outcome = Outcome("ok", {}, {})
    store.save(run, outcome, 1.0)
    monkeypatch.setattr(notebooks, "NOTEBOOKS", tmp_path)
    monkeypatch.setattr(notebooks, "EXECUTED", tmp_path / "build")
    monkeypatch.setattr(figures, "PRODUCTS", tmp_path)
    product, copy, executed = tmp_path / "small.csv", tmp_path / "build" / "quick" / "small.ipynb", []

    def execute(path, output, chosen):
        executed.append(path.name)
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text("executed")
        product.write_text("1")

    monkeypatch.setattr(notebooks, "execute", execute)

    def again(change=lambda: None):
        change()
        executed.clear()
        notebooks.execute_all("quick", [run])
        return executed == ["small.ipynb"]

    assert again()
    assert not again()
    assert again(product.unlink)
    assert again(lambda: product.write_text("2"))
    assert again(lambda: copy.write_text("half"))
    assert again(lambda: small.write_text(small.read_text().replace("print(size)", "print(-size)")))
    assert again(lambda: (shutil.rmtree(store.folder(run)), store.save(run, outcome, 2.0)))  # the same run, trained anew
    assert again(lambda: monkeypatch.setattr(notebooks.metadata, "distributions", list))  # other versions installed
    assert not again()


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"sise": 1}, "small declares the parameters size; got 'sise'"),
        ({"size": (1, 2)}, r"size must be a string, a number or a bool; got \(1, 2\)"),
    ],
)
def test_bad_parameters_are_refused(small, tmp_path, chosen, message):
    with pytest.raises(ValueError, match=message):
        notebooks.execute(small, tmp_path / "out.ipynb", chosen)
    assert not (tmp_path / "out.ipynb").exists()


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match=r"names must be beginnings of 00_start_here.*got 'fig9'"):
        notebooks.found(["fig9"])
