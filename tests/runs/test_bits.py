"""The same bits on every x86-64 processor with AVX2, in the environment that trains: hashes of short trainings of every kind.

They were made on an AMD processor with AVX-512; 99 trainings of Table 2 agree to the last digit with one without. An Intel
processor has not been seen yet, so one that differs there is expected, and said. After a new PyTorch this file, executed, prints
them anew.
"""

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from remi.paper import experiments
from remi.runs import store

TORCH = "2.15.0"
HASHES = Path(__file__).with_name("bits.json")
STEPS = {"onehot": 300, "gaussian": 20, "digits": 600, "digit-pairs": 20}


def trainings():
    """A stack of two losses for each kind of run, cut short."""
    table2, fig7 = experiments.table2("quick")["main"].runs(), experiments.figure7("quick")["main"].runs()
    one_hot = {**experiments.figure3("quick")["main"].runs(), **experiments.figure5("quick")["main"].runs()}
    stacks = {"onehot": (one_hot["mine"], one_hot["remine"]), "gaussian": (fig7["js"], fig7["renwj"])}
    for dataset in ("digits", "digit-pairs"):
        for task in ("slb", "clb"):
            stacks[f"{task}-{dataset}"] = [table2[f"{task}/{dataset}/{curve}"] for curve in ("mine/None", "resmile/0.001")]
    for name, cells in stacks.items():
        steps = STEPS[name.removeprefix("slb-").removeprefix("clb-")]
        runs = [replace(cell[0], steps=steps) for cell in cells]
        if name == "gaussian":
            runs = [replace(run, problem=replace(run.problem, steps_per_level=steps // 5)) for run in runs]
        yield name, runs


def hashes():
    """SHA-256 of all that each training leaves behind."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    found = {}
    for name, runs in trainings():
        digest = hashlib.sha256()
        for outcome in runs[0].train(runs, torch.device("cpu")):
            for array in outcome.arrays.values():
                digest.update(array.tobytes())
        found[name] = digest.hexdigest()
    return found


def in_a_worker():
    """The hashes, from a process with the environment of those that train."""
    environment = {**os.environ, **store.WORKER_ENVIRONMENT}
    done = subprocess.run([sys.executable, __file__, "json"], env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(not store.SAME_BITS, reason="not an x86-64 processor with AVX2")
@pytest.mark.skipif(not torch.__version__.startswith(TORCH), reason=f"the hashes are of PyTorch {TORCH}")
def test_short_trainings_have_the_bits_that_they_had_elsewhere():
    found, committed = in_a_worker(), json.loads(HASHES.read_text())
    different = [name for name in committed if found[name] != committed[name]]
    if different and "AuthenticAMD" not in Path("/proc/cpuinfo").read_text():
        pytest.xfail(f"other bits than on AMD: {', '.join(different)}")
    assert found == committed


if __name__ == "__main__":
    print(json.dumps(hashes() if "json" in sys.argv else in_a_worker(), indent=1))
