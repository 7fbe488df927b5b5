"""The house: which floor stands on which, and what an import may reach.

`python tests/test_floors.py` prints the plan as the imports have it.
"""

import ast
import importlib
import os
import re
import shutil
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "remi"
HEIGHT = {"extras": 0, "style": 0, "losses": 1, "training": 2, "estimation": 3, "theory": 3, "runs": 3, "paper": 4, "": 5}
FLOORS = sorted(name for name, height in HEIGHT.items() if 0 < height < HEIGHT[""])  # "" is the roof
LONGEST = 520  # lines of a file


def rooms(package):
    """Every file by its dotted name below the package; a face is its floor."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def arrows(path):
    """What a file imports of ours, inside functions too: (module, name)."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} imports relatively"
            if (node.module or "").split(".")[0] == "remi":
                yield from ((node.module.partition(".")[2], alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name.partition(".")[2], "") for alias in node.names if alias.name.split(".")[0] == "remi")


def target(floor, module, name, every):
    """The room that an import reaches."""
    return f"{module}.{name}".strip(".") if f"{module}.{name}".strip(".") in every else module


def faults(package):
    """What breaks the plan, a sentence each."""
    every, found, inside = rooms(package), [], {}
    for room, path in every.items():
        floor = "" if room in ("", "__main__") else room.split(".")[0]
        face = room == floor
        for module, name in arrows(path):
            reached = target(floor, module, name, every)
            other = reached.split(".")[0]
            if reached == "" and (name == "" or name in ("__version__",)):
                continue  # the package itself: where it lies, its version
            if other == floor and floor:
                if not face and reached == floor:
                    found.append(f"{room} enters its own floor by the face, for {name}")
                inside.setdefault(room, set()).add(reached)
            elif other not in HEIGHT or HEIGHT[other] >= HEIGHT[floor]:
                found.append(f"{room} imports {reached or name}, which is not below it")
            elif floor and "." in module:
                found.append(f"{room} enters {other} by a window, {module}, and not by its face")
    try:
        list(TopologicalSorter(inside).static_order())
    except CycleError as error:
        found.append(f"a circle: {' -> '.join(error.args[1])}")
    return found


def plan(package=PACKAGE):
    """The floors from the roof down, with what each one says of itself and its rooms."""
    every, lines = rooms(package), []
    for floor in sorted(set(HEIGHT) - {""}, key=lambda name: (-HEIGHT[name], name)):
        text = ast.get_docstring(ast.parse(every[floor].read_text())).splitlines()[0]
        mine = [room.split(".")[1] for room in every if room.startswith(f"{floor}.")]
        below = {
            target(floor, *arrow, every).split(".")[0]
            for room in every
            if room.split(".")[0] == floor
            for arrow in arrows(every[room])
        }
        lines.append(f"{floor:<11} {text}")
        lines.append(
            f"{'':<11} rooms: {', '.join(mine) or 'none'}; stands on {', '.join(sorted(below - {floor, ''})) or 'nothing'}"
        )
    return "\n".join(lines)


def test_imports_go_down_and_a_floor_is_entered_by_its_face():
    assert not faults(PACKAGE)


PLANTED = {  # where, what, and a word of the complaint
    "up": ("losses/scores.py", "from remi.paper import experiments", "not below it"),
    "beside": ("estimation/columns.py", "from remi.runs import store", "not below it"),
    "by the window": ("runs/specs.py", "from remi.losses.scores import Scores", "by a window"),
    "inside a function": ("theory/closed_forms.py", "def f():\n    from remi.estimation import kl", "not below it"),
    "a circle": ("training/critics.py", "from remi.training.encoders import build", "a circle"),
    "its own face": ("paper/page.py", "from remi.paper import __doc__", "its own floor by the face"),
    "the roof": ("runs/store.py", "from remi import Scores", "not below it"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_arrow_is_found(name, tmp_path):
    where, line, word = PLANTED[name]
    copy = tmp_path / "remi"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / where).write_text((copy / where).read_text() + f"\n{line}\n")
    assert [complaint for complaint in faults(copy) if word in complaint]


@pytest.mark.parametrize("floor", FLOORS)
def test_a_face_says_who_lives_there_and_defines_nothing(floor):
    tree = ast.parse((PACKAGE / floor / "__init__.py").read_text())
    assert ast.get_docstring(tree).startswith(f"Floor {HEIGHT[floor]}: ")
    assert all(isinstance(node, ast.Expr | ast.ImportFrom | ast.Assign) for node in tree.body)
    module = importlib.import_module(f"remi.{floor}")
    assert all(hasattr(module, name) for name in getattr(module, "__all__", ()))


@pytest.mark.parametrize("room", rooms(PACKAGE))
def test_a_file_is_one_room(room):
    assert len(rooms(PACKAGE)[room].read_text().splitlines()) <= LONGEST


def test_tests_have_the_same_floors():
    floors = {path.name for path in (PACKAGE.parent / "tests").iterdir() if path.is_dir() and path.name[0] not in "._"}
    assert floors == set(FLOORS)


def test_imports_are_light():
    script = "import sys, remi; print(*sys.modules); import remi.paper.experiments, remi.runs; print(*sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    command = [sys.executable, "-W", "error", "-c", script]
    found = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.splitlines()
    package, training = (set(line.split()) for line in found)
    assert not package & {"torchvision", "matplotlib", "sklearn", "pandas", "remi.runs", "remi.__main__"}
    assert not training & {"torchvision", "matplotlib", "papermill", "jinja2", "remi.__main__"}


def test_the_picture_in_contributing_has_these_floors_in_this_order():
    picture = re.search(r"```\n(.*?)```", (PACKAGE.parent / "CONTRIBUTING.md").read_text(), flags=re.DOTALL)[1]
    lines = [[word for word in re.findall(r"\w+", line) if word in HEIGHT] for line in picture.splitlines()]
    heights = [{HEIGHT[word] for word in line} for line in lines if line]
    assert [height for found in heights for height in found] == sorted({*HEIGHT.values()} - {HEIGHT[""]}, reverse=True)
    assert {word for line in lines for word in line} == set(HEIGHT) - {""}


if __name__ == "__main__":
    print(plan())
