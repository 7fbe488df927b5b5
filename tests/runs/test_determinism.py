"""The same numbers and the same bytes in every process, whatever its hash seed and its stacks."""

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from test_store import contents

from remi.paper import experiments
from remi.runs import store

PLAN = replace(experiments.FIGURE1, profile="quick", seeds=2, steps=60)
COMPOSITIONS = {
    "all of a kind": store.stacks,
    "each alone": lambda wanted: [[run] for run in wanted],
    "with others, in another order": lambda wanted: [
        [replace(run, seed=9) for run in stack[:1]] + stack[::-1] for stack in reversed(store.stacks(wanted))
    ],
}


def produce(folder, composition):
    """Train the runs of a figure, draw it, and print what all of it is: a digest per file and record."""
    from remi.paper import figures

    store.STORE, figures.PRODUCTS = Path(folder) / "runs", Path(folder) / "figures"
    groups = experiments.groups({"main": PLAN})
    for stack in COMPOSITIONS[composition]([run for group in groups.values() for run in group]):
        store.train(stack)
    records = {name: [store.load(run) for run in group] for name, group in groups.items()}
    figures.save("fig2", *figures.figure2(PLAN, records), "A caption.", {"main": PLAN}, records)
    made = {path.name: path.read_bytes() for path in figures.PRODUCTS.iterdir()}
    made |= {store.folder(run).name: repr(contents(run)).encode() for group in groups.values() for run in group}
    print(json.dumps({name: hashlib.sha256(data).hexdigest() for name, data in made.items()}))


@pytest.mark.slow
@pytest.mark.verify
def test_fresh_processes_make_the_same_records_and_products(tmp_path, long, tally):
    made = []
    for number in range(9 if long else 3):
        composition = list(COMPOSITIONS)[number % 3]
        script = f"import test_determinism; test_determinism.produce({str(tmp_path / str(number))!r}, {composition!r})"
        environment = os.environ | store.WORKER_ENVIRONMENT | {"PYTHONHASHSEED": str(number)}
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=Path(__file__).parent, env=environment, stdout=subprocess.PIPE, check=True
        )
        made.append(json.loads(done.stdout))
    assert {"fig2.csv", "fig2.json", "fig2.pdf", "fig2.png"} < made[0].keys()
    assert len(made[0]) == 4 + 2 * 2  # two losses, two seeds
    lost = [number for number, found in enumerate(made) if found != made[0]]
    tally("a fresh process with another hash seed and other stacks", "process", len(made), lost)
