"""Floor 3: what a run is, where its record lies, and who trains what is missing."""

from remi.runs import specs, store
from remi.runs.specs import CriticRun, EncoderRun, Run, from_json, to_json
from remi.runs.store import Local, Record, RunError, Runner, environment, fill, load, load_or_run, missing, stacks, train

__all__ = [
    "CriticRun",
    "EncoderRun",
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
    "specs",
    "stacks",
    "store",
    "to_json",
    "train",
]
