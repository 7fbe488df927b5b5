"""Why a record that is there is not used, in words."""

from collections import defaultdict
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from remi.runs import store
from remi.runs.specs import Run

SHOWN = 10  # reasons, and losses of a kind of run; more are counted


def unused(missing: Iterable[Run], used: Collection[str]) -> list[str]:
    """A sentence for each reason, that of most records first.

    What a run could have used are the folders that have its words; the one that differs least counts.

    Args:
        missing: runs without a record.
        used: names of the folders that are other runs' records.
    """
    named: dict[str, list[Path]] = defaultdict(list)
    for path in store.STORE.glob("[!.]*-*"):
        if path.name not in used:
            named[path.name.rpartition("-")[0]].append(path)
    found: dict[str, list[Run]] = defaultdict(list)
    for run in missing:
        if run.words in named:
            nearest = min((_differences(path, run) for path in named[run.words]), key=lambda parts: (len(parts), parts))
            found[", ".join(nearest)].append(run)
    ordered = sorted(found.items(), key=lambda item: -len(item[1]))
    lines = [f"{_records(len(runs))} not used: {reason} ({_kinds(runs)})" for reason, runs in ordered[:SHOWN]]
    rest = [run for _, runs in ordered[SHOWN:] for run in runs]
    return lines + [f"{_records(len(rest))} not used for {len(ordered) - SHOWN} other reasons"] * bool(rest)


def _differences(path: Path, run: Run) -> list[str]:
    """What keeps the record in this folder from being the run's."""
    try:
        theirs, ours = store.statement(path)["identity"], store.identity(run)
        if theirs.keys() != ours.keys():
            return ["made by an older version of the store"]
        before, now = _flat(theirs["run"]), _flat(ours["run"])
    except store.DAMAGED:
        return ["damaged"]
    parts = [
        f"{name} {before.get(name)} instead of {now.get(name)}" for name in now | before if before.get(name) != now.get(name)
    ]
    if not parts and theirs["computes"] != ours["computes"]:
        parts.append("what the code computes has changed")
    if theirs["data"] != ours["data"]:
        parts.append("other data")
    for name, made in (("torch", "made with PyTorch"), ("device", "made on")):
        if theirs[name] != ours[name]:
            parts.append(f"{made} {theirs[name]} instead of {ours[name]}")
    return parts or ["damaged"]


def _flat(specification: dict[str, Any]) -> dict[str, Any]:
    """Without its nesting."""
    flat: dict[str, Any] = {}
    for name, value in specification.items():
        flat |= {f"{name}.{inner}": part for inner, part in value.items()} if isinstance(value, dict) else {name: value}
    return flat


def _records(count: int) -> str:
    return f"{count} record{'s are' if count > 1 else ' is'}"


def _kinds(runs: Iterable[Run]) -> str:
    losses: dict[str, set[str]] = defaultdict(set)
    for run in runs:
        losses[run.words.partition("-")[0]].add(run.loss)
    return "; ".join(
        f"{kind}: {', '.join(sorted(names)) if len(names) <= SHOWN else f'{len(names)} losses'}"
        for kind, names in sorted(losses.items())
    )
