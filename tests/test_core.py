"""`pip install .` brings the core, and with it alone the losses and the estimate work; the rest names the extra that it needs.

The wheel is built and installed without an extra into an empty environment, whose other files are links to those of exactly
the distributions that the wheel's own metadata require.
"""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from functools import cache
from importlib import metadata
from pathlib import Path

import nbformat
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from test_floors import PACKAGE, rooms, target

from remi import extras
from remi.extras import extra

ROOT = PACKAGE.parent
provides = cache(metadata.packages_distributions)  # by module
SNIPPETS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)


def run(*command, **options):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)
    assert not done.returncode, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The package, built from the working tree."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "--isolated", "wheel", "--no-index", "--no-deps", "--no-build-isolation")
    run(*pip, "-w", folder, ".", cwd=ROOT)
    (path,) = folder.iterdir()
    return path


@pytest.fixture(scope="module")
def required(wheel):
    """What the wheel says it needs, a requirement as text each."""
    (inside,) = (path for path in zipfile.Path(wheel).iterdir() if path.name.endswith(".dist-info"))
    return metadata.PathDistribution(inside).requires


def applies(text, named=()):
    """The requirement, where it holds on this machine with no extra or with one of those `named`."""
    one = Requirement(text)
    return one if one.marker is None or any(one.marker.evaluate({"extra": name}) for name in ("", *named)) else None


def closure(texts):
    """Installed distributions, by name, that requirements bring with all that these bring."""
    found, asked, waiting = {}, set(), [one for text in texts if (one := applies(text))]
    while waiting:
        one = waiting.pop()
        if str(one) not in asked:
            asked.add(str(one))
            found[canonicalize_name(one.name)] = there = metadata.distribution(one.name)
            waiting += [more for text in there.requires or () if (more := applies(text, one.extras))]
    return found


@pytest.fixture(scope="module")
def core(wheel, required, tmp_path_factory):
    """A function that runs a script in the empty environment."""
    home = tmp_path_factory.mktemp("core")
    venv.create(home / "venv")
    python = home / "venv" / "bin" / "python"
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    for there in closure(required).values():
        for file in there.files:
            if file.parts[0] != "..":  # a command
                (site / file).parent.mkdir(parents=True, exist_ok=True)
                (site / file).symlink_to(file.locate())
    run(sys.executable, "-m", "pip", "--isolated", "--python", python, "install", "--no-index", wheel)  # needs all to be there
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "REMI_DATA")}
    places = {"REMI_RUNS": str(home / "runs"), "REMI_DATA": str(home / "data")}

    def script(text, **more):
        return run(python, "-W", "error", "-c", text, cwd=home, env=kept | places | more)

    script.site = site
    return script


def test_the_wheel_has_every_file_of_the_package(wheel):
    there = {str(path.relative_to(ROOT)) for path in PACKAGE.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert there == {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("remi/")}


def test_the_core_is_four_distributions(required):
    assert {one.name for text in required if (one := applies(text))} == {"torch", "numpy", "scipy", "tqdm"}


def test_readme_runs_with_the_core(core):
    assert len(SNIPPETS) == 3
    after = "assert loss.reading.estimate.isfinite() and z1.grad.isfinite().all()"
    assert "95% interval" in core("\n".join([*SNIPPETS, after]))


USES = """
import io, json, sys
from dataclasses import replace
import numpy as np, torch
from remi import Scores, estimators, estimate_mi, kl
from remi.__main__ import main
from remi.paper import experiments
from remi.runs import to_json

scores = Scores.from_matrix(torch.randn(8, 8, generator=torch.Generator().manual_seed(0)))
print(*(f"{name} {estimators.get(name)(scores).objective.item():.3f}" for name in estimators.NAMES), sep="\\n")
x, y = np.random.default_rng(0).normal(size=(2, 200, 1))
for found in (estimate_mi(x, x + y, steps=20), estimate_mi(torch.tensor(x), torch.tensor(y > 0), steps=20), kl(x, y, steps=20)):
    print(found, found.bits, found._repr_html_(), json.dumps(found.as_dict()))
little = replace(experiments.FIGURE1, steps=3, seeds=1)
experiments.PLANS["fig2"] = lambda profile: {"main": little}  # a figure without a slider
with open("spec.json", "w") as file:
    json.dump(to_json(little.runs()["mine"][0]), file)
codes = [main(words.split()) for words in ("run spec.json", "sweep fig2", "status fig2", "doctor")]
assert codes == [0, 0, 0, 0], codes
"""


def test_the_core_does_what_it_is_for(core):
    text = core(USES)
    assert text.count("95% interval") == 9
    assert "2 of 2 runs done" in text
    assert re.search(r"\[paper\]: not here: .*matplotlib.*, pandas", text)
    assert "digits: not here: sklearn is not installed; it comes with the extra 'paper'" in text


MISSING = {  # what a user does, what is not there, and the extra that has it
    "estimate_mi(x, x, steps=20).plot()": ("matplotlib", "paper"),
    "compare({})": ("pandas", "paper"),
    "DATASETS['digits']()": ("sklearn", "paper"),
    "DATASETS['cifar-10']()": ("torchvision", "paper"),
    "DATASETS['folder']()": ("PIL", "paper"),
    "encoders.build('resnet18', (), inputs=32, classes=2, seeds=[0])": ("torchvision", "paper"),
    "main(['estimate', 'file.csv', '--x', 'a', '--y', 'b'])": ("pandas", "paper"),
    "main(['paper'])": ("nbformat", "paper"),
    "main(['notebooks'])": ("nbformat", "paper"),
    "main(['readme'])": ("nbformat", "paper"),
    "main(['scoreboard'])": ("pandas", "paper"),
    "main(['status', 'table2'])": ("sklearn", "paper"),
    "main(['sweep', 'fig1', '--ray', 'local'])": ("ray", "cluster"),
}

ASKS = """
import contextlib, io, json, sys
import numpy as np
from remi import estimate_mi
from remi.__main__ import main
from remi.estimation import compare
from remi.training import DATASETS, encoders

x, said = np.arange(40.0), {}
for action in json.loads(sys.stdin.read()):
    with contextlib.redirect_stderr(io.StringIO()) as stderr:
        try:
            eval(action)
        except ImportError as error:
            print(error, file=stderr)
    said[action] = stderr.getvalue()
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def said(core):
    """What is said to each of `MISSING`."""
    return json.loads(core(ASKS.replace("sys.stdin.read()", repr(json.dumps(list(MISSING))))))


@pytest.mark.parametrize("action", MISSING)
def test_what_needs_an_extra_says_which(action, said):
    module, name = MISSING[action]
    sentence = f"{module} is not installed; it comes with the extra '{name}': pip install 'remi-losses[{name}]'\n"
    assert re.fullmatch(rf"(remi \w+: )?{re.escape(sentence)}", said[action])


def test_an_import_hidden_in_the_core_is_found(core, tmp_path):
    shutil.copytree(core.site / "remi", tmp_path / "remi")
    room = tmp_path / "remi" / "losses" / "scores.py"
    room.write_text(f"{room.read_text()}\nimport pandas\n")
    with pytest.raises(AssertionError, match="No module named 'pandas'"):
        core(SNIPPETS[0], PYTHONPATH=str(tmp_path))


# ---- Every import against the metadata --------------------------------------------------------------------------------------


def imports(node, inside="", runs=True):
    """Every import of a syntax tree: module, name, the extra that it stands in, whether importing the file runs it."""
    if isinstance(node, ast.Import):
        yield from ((alias.name, "", inside, runs) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield from ((node.module, alias.name, inside, runs) for alias in node.names)
    elif isinstance(node, ast.With) and ast.unparse(node.items[0]).startswith("extra("):
        inside = node.items[0].context_expr.args[0].value
    body = node.orelse if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" else ast.iter_child_nodes(node)
    for child in body:
        yield from imports(child, inside, runs and not isinstance(node, ast.FunctionDef))


def undeclared(package, brings):
    """Imports that need more than the core, and than the extra that they stand in, a sentence each.

    The floor `paper` stands in the extra of its name, but for what the command line needs of it; so does `style`.
    """
    every, found = rooms(package), []
    read = {room: list(imports(ast.parse(path.read_text()))) for room, path in every.items()}

    def needs(module, name, seen):
        """Modules of others that an import brings in, through rooms of ours, too."""
        first, _, rest = module.partition(".")
        if first != "remi":
            return {first} - sys.stdlib_module_names
        room = target("", rest, name, every)
        new = {room, room.partition(".")[0]} - seen  # and its floor's face
        seen |= new
        return {other for one in new for *more, _, runs in read[one] if runs for other in needs(*more, seen)}

    for room in every:
        whole = "paper" if room.split(".")[0] in ("paper", "style") and room not in ("paper", "paper.experiments") else ""
        for module, name, inside, _ in read[room]:
            allowed = brings[""] | brings[inside or whole]
            for other in sorted(needs(module, name, set())):
                if not {canonicalize_name(one) for one in provides().get(other, ())} & allowed:
                    found.append(f"{room} imports {module}, which needs {other}; of the extra {inside or whole or 'none'}")
    return found


@pytest.fixture(scope="module")
def brings(required):
    """By extra, the distributions that the wheel itself names; those of the core have the empty name."""
    found = {"": {canonicalize_name(one.name) for text in required if (one := applies(text))}}
    for name in ("paper", "cluster"):
        asked = (applies(text, [name]) for text in required)
        found[name] = {canonicalize_name(one.name) for one in asked if one} - found[""]
    return found


def test_every_import_is_declared(brings):
    assert not undeclared(PACKAGE, brings)


PLANTED = {  # where, what, and a word of the complaint
    "in the core": ("losses/scores.py", "import pandas", "losses.scores imports pandas"),
    "inside a function": ("runs/budget.py", "def f():\n    import sklearn", "runs.budget imports sklearn"),
    "through a room": ("estimation/ratios.py", "from remi.style import PALETTE", "needs matplotlib; of the extra none"),
    "through a floor": ("__main__.py", "from remi.paper import table2", "needs pandas; of the extra none"),
    "in another extra": ("training/loop.py", 'with extra("cluster"):\n    import PIL', "of the extra cluster"),
    "in no extra": ("paper/page.py", "import yaml", "needs yaml; of the extra paper"),
    "where the command line enters": ("paper/experiments.py", "import pandas", "paper.experiments imports pandas"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_import_is_found(name, brings, tmp_path):
    where, line, word = PLANTED[name]
    shutil.copytree(PACKAGE, tmp_path / "remi", ignore=shutil.ignore_patterns("__pycache__"))
    room = tmp_path / "remi" / where
    room.write_text(f"{room.read_text()}\n{line}\n")
    assert [complaint for complaint in undeclared(tmp_path / "remi", brings) if word in complaint]


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_need_what_paper_brings(path, brings):
    code = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")
    others = {module.split(".")[0] for module, *_ in imports(ast.parse(code))} - sys.stdlib_module_names - {"remi"}
    assert all({canonicalize_name(one) for one in provides()[other]} & (brings[""] | brings["paper"]) for other in others)


# ---- The mechanism ----------------------------------------------------------------------------------------------------------


def test_a_module_of_ours_that_is_missing_is_no_extra():
    with pytest.raises(ModuleNotFoundError, match=r"^No module named 'remi.nowhere'$"), extra("paper"):
        import remi.nowhere  # noqa: F401


def test_other_errors_of_an_import_pass(tmp_path, monkeypatch):
    (tmp_path / "broken.py").write_text("import math\nmath.nothing")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(AttributeError), extra("paper"):
        import broken  # noqa: F401


def test_what_is_not_installed_is_listed_by_extra(monkeypatch):
    required = ["torch>=2", "pytest>=8; extra == 'paper'", "no-such-thing[more]>=1; extra == 'paper'", "Ruff; extra == 'dev'"]
    monkeypatch.setattr(metadata, "requires", lambda name: required)
    assert extras.missing() == {"paper": ["no-such-thing"], "dev": []}

    def absent(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", absent)
    assert extras.missing() == {}
