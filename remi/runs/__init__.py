"""Floor 3: what a run is, where its record lies, and who trains what is missing."""

from remi.runs import reasons, specs, store
from remi.runs.fingerprint import SOURCES, sources
from remi.runs.flo import FloRun
from remi.runs.specs import CriticRun, EncoderRun, Run, from_json, to_json
from remi.runs.store import Local, Record, RunError, Runner, environment, fill, load, load_or_run, missing, stacks, train
from remi.runs.wording import statements

__all__ = [
    "SOURCES",
    "CriticRun",
    "EncoderRun",
    "FloRun",
    "Local",
    "Record",
    "Run",
    "RunError",
    "Runner",
    "environment",
    "fill",
    "from_json",
    "load",
    "load_or_run",
    "missing",
    "reasons",
    "sources",
    "specs",
    "stacks",
    "statements",
    "store",
    "to_json",
    "train",
]
