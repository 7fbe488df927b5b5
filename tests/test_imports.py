"""Imports among our modules run one way, and a module is imported only by those who need it."""

import ast
import os
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import remi
from remi import runs

PACKAGE = Path(remi.__file__).parent
ORDER = (
    *("scores", "estimators", "critics", "problems", "images", "encoders", "evaluation", "checkpoints"),
    *("training", "specs", "journal", "runs", "experiments"),
)  # a core module imports earlier ones only; all others come later
MODULES = {path.stem for path in PACKAGE.glob("*.py")}
SIBLINGS = ("critics", "problems", "images", "encoders", "evaluation")
ALLOWED = {  # where the order says too little
    "scores": set(),
    "estimators": {"scores"},
    "critics": set(),
    "problems": set(),
    "evaluation": set(),
    "images": set(),
    "encoders": {"critics", "images"},
    "checkpoints": set(),
    "journal": set(),
    "training": {"scores", "estimators", "checkpoints", *SIBLINGS},
    "experiments": {"estimators", "problems", "images", "specs"},
}


def imported(module):
    """Our modules that a module imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.removeprefix("remi.") for alias in node.names if alias.name.startswith("remi.")}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module} imports relatively"
            if node.module == "remi":
                found |= {alias.name for alias in node.names} & MODULES
            elif (node.module or "").startswith("remi."):
                found.add(node.module.removeprefix("remi.").split(".")[0])
    return found


IMPORTS = {module: imported(module) for module in sorted(MODULES)}


@pytest.mark.parametrize("module", ORDER)
def test_core_imports_run_one_way(module):
    assert IMPORTS[module] <= set(ORDER[: ORDER.index(module)])
    assert IMPORTS[module] <= ALLOWED.get(module, set(ORDER))


def test_there_is_no_circle():
    assert list(TopologicalSorter(IMPORTS).static_order())


def test_nothing_imports_the_command_line():
    assert not [module for module, found in IMPORTS.items() if "__main__" in found]


def test_hash_of_the_sources_covers_all_that_trains():
    reached, todo = set(), {"specs"}
    while todo:
        reached |= todo
        todo = set().union(*(IMPORTS[module] for module in todo)) - reached
    assert set(runs.TRAINING_MODULES) == reached


def test_imports_are_light():
    script = "import sys, remi; print(*sys.modules); import remi.experiments, remi.runs; print(*sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    command = [sys.executable, "-W", "error", "-c", script]
    found = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.splitlines()
    package, training = (set(line.split()) for line in found)
    assert not package & {"torchvision", "matplotlib", "sklearn", "pandas", "remi.__main__"}
    assert not training & {"torchvision", "matplotlib", "papermill", "jinja2", "remi.__main__"}
