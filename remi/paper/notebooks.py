"""Executing the notebooks: copies for a profile with papermill, or in place for what is committed."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

import nbformat
import papermill
from nbconvert.preprocessors import CoalesceStreamsPreprocessor
from tqdm import tqdm

import remi
from remi.paper import figures
from remi.runs import Run, store

NOTEBOOKS = Path(remi.__file__).parents[1] / "notebooks"
EXECUTED = Path(remi.__file__).parents[1] / "build" / "notebooks"
AT_ONCE = 2  # kernels of one thread each
LIVE = "application/vnd.jupyter.widget-view+json"  # a slider that needs its kernel; a picture stands beside it
CELL_LIMIT = 1800  # seconds; runs are trained before, so a cell that takes longer hangs
ENVIRONMENT = store.SAME_BITS | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}


class NotebookError(RuntimeError):
    """A notebook that did not run to its end."""


def found(names: Sequence[str] = ()) -> list[Path]:
    """The notebooks, or those whose file name starts with one of `names`.

    Raises:
        ValueError: a name fits none.
    """
    every = sorted(NOTEBOOKS.glob("*.ipynb"))
    for name in names:
        if not any(path.name.startswith(name) for path in every):
            raise ValueError(f"names must be beginnings of {', '.join(path.stem for path in every)}; got {name!r}")
    return [path for path in every if not names or path.name.startswith(tuple(names))]


def parameters(path: Path) -> dict[str, str]:
    """What the notebook's cell tagged `parameters` declares, with papermill's reading of it."""
    return {name: entry["default"] for name, entry in papermill.inspect_notebook(str(path)).items()}


def execute(path: Path, output: Path, chosen: dict[str, object]) -> None:
    """Execute one notebook into `output`, which appears only when every cell ran.

    Raises:
        ValueError: a parameter that the notebook does not declare, or a value that is not a string, number or bool.
        NotebookError: a cell failed; the message has the notebook, the cell and the error.
    """
    declared = parameters(path)
    for name, value in chosen.items():
        if name not in declared:
            raise ValueError(f"{path.stem} declares the parameters {', '.join(declared) or 'none'}; got {name!r}")
        if not isinstance(value, str | int | float | bool):
            raise ValueError(f"parameter {name} must be a string, a number or a bool; got {value!r}")
    output.parent.mkdir(parents=True, exist_ok=True)
    beside = output.with_name(f".{output.stem}.{os.getpid()}.ipynb")
    command = [sys.executable, "-m", "papermill", "--no-progress-bar", "--log-level", "ERROR", "--cwd", str(path.parent)]
    command += ["--execution-timeout", str(CELL_LIMIT)]
    for name, value in chosen.items():
        command += ["--parameters", name, str(value)]
    environment = {**os.environ, **ENVIRONMENT, "REMI_RUNS": str(store.STORE)}
    try:
        done = subprocess.run([*command, str(path), str(beside)], capture_output=True, text=True, env=environment)
        if done.returncode:
            raise NotebookError(f"{path.name} failed:\n{done.stderr[-3000:]}")
        # printed text came in pieces, more or fewer as the machine was busy
        executed, _ = CoalesceStreamsPreprocessor().preprocess(nbformat.read(beside, as_version=4), {})
        figures.write(output, nbformat.writes(executed))
    finally:
        beside.unlink(missing_ok=True)


def execute_all(profile: str, trained: Sequence[Run], names: Sequence[str] = ()) -> None:
    """Execute every notebook at a profile, two at a time, into `build/notebooks/PROFILE`; what is up to date stays.

    Args:
        profile: what the notebooks get.
        trained: the runs that they load.
        names: beginnings of file names; all notebooks when empty.

    Raises:
        NotebookError: at least one failed; the message has all of them.
    """
    inputs = fingerprint(trained)

    def one(path: Path) -> str:
        output = EXECUTED / profile / path.name
        stamp = output.with_suffix(".json")
        if stamp.is_file() and stamp.read_text() == state(path, output, inputs, profile):
            return ""
        try:
            execute(path, output, {"profile": profile} if parameters(path) else {})
        except NotebookError as error:
            return str(error)
        figures.write(stamp, state(path, output, inputs, profile))
        return ""

    _raise(_two_at_a_time(one, found(names)))


def fingerprint(trained: Sequence[Run]) -> str:
    """SHA-256 of what an executed notebook depends on besides itself: our package, what is installed, and the records."""
    package = sorted(path for path in Path(remi.__file__).parent.rglob("*") if path.is_file() and path.suffix != ".pyc")
    records = sorted({store.folder(run) / "record.json" for run in trained})
    installed = sorted(f"{found.name} {found.version}" for found in metadata.distributions())
    digest = hashlib.sha256(json.dumps([sys.version, installed]).encode())
    for path in (*package, *records):
        digest.update(f"{path.name} {path.parent.name} ".encode() + path.read_bytes())
    return digest.hexdigest()


def state(path: Path, output: Path, inputs: str, profile: str) -> str:
    """What is up to date as long as it does not change: a notebook, its executed copy, its products, and their inputs."""
    stem = path.stem.split("_")[0]
    files = [path, output, *sorted(figures.folder(profile).glob(f"{stem}[._]*"))]
    return json.dumps([inputs, [(file.name, hashlib.sha256(file.read_bytes()).hexdigest()) for file in files if file.is_file()]])


def refresh(names: Sequence[str] = ()) -> None:
    """Execute notebooks in place at their own parameters; outputs and counts stay, volatile metadata goes.

    Raises:
        ValueError: a name fits no notebook.
        NotebookError: at least one failed; its file is as it was.
    """

    def one(path: Path) -> str:
        executed = EXECUTED / "refresh" / path.name
        try:
            execute(path, executed, {})
        except NotebookError as error:
            return str(error)
        notebook = nbformat.read(executed, as_version=4)
        notebook.metadata = nbformat.from_dict(
            {
                "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
                "language_info": {"name": "python"},
            }
        )
        for cell in notebook.cells:
            tags = cell.metadata.get("tags", [])
            cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
            for output in cell.get("outputs", []):
                output.get("data", {}).pop(LIVE, None)
        figures.write(path, nbformat.writes(notebook) + "\n")
        return ""

    _raise(_two_at_a_time(one, found(names)))


def _two_at_a_time(one: "object", paths: Sequence[Path]) -> list[str]:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(tqdm(pool.map(one, paths), total=len(paths), unit="notebook", disable=None))  # type: ignore[arg-type]


def _raise(failures: Sequence[str]) -> None:
    if any(failures):
        raise NotebookError("\n".join(filter(None, failures)))
