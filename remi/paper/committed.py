"""What `make paper` has left in the work tree beside the committed products: the same verdicts, and which digits differ."""

import io
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd

import remi

ROOT = Path(remi.__file__).parents[1]


def compare(where: Path) -> str:
    """The products in a folder against those of the last commit, in words; empty outside a git checkout.

    Verdicts are compared one by one. Of a table that differs it says by how much, relative to the largest value of the column.
    """
    changed = _git("diff", "--name-only", "HEAD", "--", str(where)) if where.is_relative_to(ROOT) else None
    if changed is None:
        return ""
    names = sorted(Path(line).relative_to(where.relative_to(ROOT)) for line in changed.decode().splitlines())
    if not names:
        return "Every product is byte for byte the committed one."
    tables = [name for name in names if name.suffix == ".csv" and name.name != "claims.csv"]
    others = [str(name) for name in names if name.suffix != ".csv"]
    lines = [_verdicts(where), *(f"{name}: {_difference(where / name)}" for name in tables)]
    return "\n".join([*lines, *([f"other products that differ: {', '.join(others)}"] if others else [])])


def _verdicts(where: Path) -> str:
    """Whether a claim is judged otherwise."""
    path = where / "claims.csv"
    new, old = (_table(content).set_index("id").verdict.to_dict() for content in (path.read_bytes(), _before(path)))
    flipped = [f"{name} {old[name]} -> {new[name]}" for name in old.keys() & new.keys() if old[name] != new[name]]
    if old.keys() != new.keys():
        flipped.append(f"{len(new)} claims in place of {len(old)}")
    return f"Verdicts differ from the committed ones: {', '.join(sorted(flipped))}" if flipped else "The committed verdicts."


def _difference(path: Path) -> str:
    """The largest difference of two numbers in one place."""
    before = _before(path)
    if not before:
        return "new"
    new, old = _table(path.read_bytes()), _table(before)
    if new.shape != old.shape or list(new) != list(old):
        return f"{old.shape[0]} rows of {old.shape[1]} columns have become {new.shape[0]} of {new.shape[1]}"
    shares = {}
    for name in old.select_dtypes("number"):
        a, b = (pd.to_numeric(table[name], errors="coerce").to_numpy(float) for table in (new, old))
        shares[name] = np.nanmax(np.abs(a - b), initial=0) / (np.nanmax(np.abs(b), initial=0) or 1)
    if not any(shares.values()):
        return "words differ"
    worst = max(shares, key=lambda name: shares[name])
    return f"numbers differ by at most {shares[worst]:.1g} of the largest in their column ({worst})"


def _table(content: bytes) -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(content))


def _before(path: Path) -> bytes:
    return _git("show", f"HEAD:{path.relative_to(ROOT).as_posix()}") or b""


def _git(*words: str) -> bytes | None:
    """What git says in the checkout; None where there is none."""
    try:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True)
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None
