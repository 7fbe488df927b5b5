"""Command line: `python -m remi COMMAND`."""

import argparse
import json
import os
import sys
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

from remi.extras import ExtraError, extra, missing

if TYPE_CHECKING:
    from remi.runs import Runner


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit status is 0 only when all of it worked."""
    from remi.paper import experiments

    parser = argparse.ArgumentParser(prog="python -m remi", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    reads = argparse.ArgumentParser(add_help=False)
    reads.add_argument(
        "--data", metavar="PATH", help="CIFAR, or a folder of images with train and test; default: $REMI_DATA or data"
    )
    run_help = "train one specification: a JSON file, or - for a stack per line on standard input"
    run = commands.add_parser("run", help=run_help, parents=[reads])
    run.add_argument("spec")
    for name, text in (
        ("sweep", "train every missing run of a figure or table"),
        ("status", "what is done, what is missing, and why a record is not used"),
    ):
        command = commands.add_parser(name, help=text, parents=[reads])
        command.add_argument("what", nargs="?", default="all", choices=["all", *experiments.PLANS, *experiments.OWN])
        command.add_argument("--profile", default="quick", choices=experiments.PROFILES)
        where = command.add_mutually_exclusive_group()
        where.add_argument("--processes", type=_positive, help="processes of one thread each; 2 without this")
        if name == "sweep":
            where.add_argument("--gpus", nargs="+", type=_numbers, metavar="GPU", help="GPUs of this machine: 0 1 3 or 0,1,3")
            address = "a Ray cluster: local (started here), auto (this machine is a node of it), or host:port"
            where.add_argument("--ray", metavar="ADDRESS", help=address)
            command.add_argument("--runs-per-gpu", type=_positive, help="processes that share a GPU; 1 without this")
    paper = commands.add_parser("paper", help="sweep, notebooks, tables, claims and report", parents=[reads])
    paper.add_argument("--profile", default="quick", choices=experiments.PROFILES)
    paper.add_argument("only", nargs="*", metavar="FIGURE", help="figures and tables to make; default: all, and the report")
    paper.add_argument("--force", action="store_true", help="train the paper profile even without CUDA")
    commands.add_parser("notebooks", help="execute the notebooks in place at quick").add_argument("names", nargs="*")
    estimate = commands.add_parser("estimate", help="mutual information of columns of a CSV file, in nats, given others or not")
    estimate.add_argument("file", help="CSV with a header, or - for standard input")
    for name in ("x", "y"):
        estimate.add_argument(f"--{name}", nargs="+", required=True, metavar="COLUMN")
    estimate.add_argument("--given", nargs="+", default=[], metavar="COLUMN", help="known already: what x tells of y beyond it")
    estimate.add_argument("--each", action="store_true", help="every column of x by itself, with p-values for so many")
    estimate.add_argument("--discrete", nargs="+", default=[], metavar="COLUMN", help="columns of numbers that are codes")
    estimate.add_argument("--series", action="store_true", help="rows follow each other in time")
    estimate.add_argument("--sep", default=",", help="between cells, for example ';' or tab; a comma without this")
    estimate.add_argument("--decimal", default=".", help="'.' or ','")
    estimate.add_argument("--encoding", default="utf-8", help="for example utf-16 or latin-1")
    estimate.add_argument("--na", nargs="*", metavar="WORD", help="what a cell without a value says; default: NA, NaN, NULL, ...")
    estimate.add_argument("--bound", default="remine", help="one of the losses")
    estimate.add_argument("--seed", type=int, default=0)
    estimate.add_argument("--permutations", type=int, help="for the p-value; 0 for none, 999 without this")
    estimate.add_argument("--bits", action="store_true", help="in bits")
    estimate.add_argument("--json", action="store_true", help="everything, as one JSON object")
    board = commands.add_parser("scoreboard", help="the estimate on the field's tasks with known mutual information")
    board.add_argument("--seeds", type=_numbers, nargs="+", metavar="N", help="some of the seeds, such as 0 1; all by default")
    board.add_argument("--sizes", type=_numbers, nargs="+", metavar="N", help="some of the numbers of rows, such as 1000")
    board.add_argument("--tasks", nargs="+", metavar="TASK", help="some of the tasks, or families of tasks, such as spiral")
    board.add_argument("--processes", type=_positive, default=2, help="processes of one thread each")
    commands.add_parser("readme", help="refresh the generated part of README from the products")
    commands.add_parser("doctor", help="versions, extras, devices and data found", parents=[reads])
    options = parser.parse_args(arguments)
    if getattr(options, "data", None):
        os.environ["REMI_DATA"] = str(Path(options.data).absolute())  # workers read it, too
    try:
        return COMMANDS[options.command](options) or 0
    except (ValueError, RuntimeError, OSError, ExtraError) as error:
        print(f"remi {options.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            f"remi {options.command}: interrupted; finished runs are stored, the same command goes on from them", file=sys.stderr
        )
        return 130


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1; got {text!r}")
    return int(text)


def _numbers(text: str) -> list[int]:
    if not all(part.isdecimal() for part in text.split(",")):
        raise argparse.ArgumentTypeError(f"must be numbers such as 0 1 3 or 0,1,3; got {text!r}")
    return [int(part) for part in text.split(",")]


def _run(options: argparse.Namespace) -> None:
    from remi.runs import Run, from_json, store

    if options.spec == "-":
        store.serve(sys.stdin)
        return
    try:
        specification = from_json(json.loads(Path(options.spec).read_text()))
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(f"SPEC must be a JSON file with one specification; {options.spec}: {error}") from None
    if not isinstance(specification, Run):
        raise ValueError(f"SPEC must be a CriticRun or an EncoderRun; got {specification!r}")
    if store.load(specification) is None:
        store.train([specification])
    print(store.folder(specification))


def _sweep(options: argparse.Namespace) -> None:
    from remi.paper import experiments
    from remi.runs import budget, store

    todo = store.missing(experiments.runs_of(options.what, options.profile))
    runner = _runner(options)
    if todo:
        print(budget.budget(todo, runner.processes, runner.place), flush=True)
    store.fill(todo, runner)
    if options.what in experiments.OWN:
        with extra("paper"):
            from remi.paper import own
        table, where = own.folder(options.profile)
        print(f"{table}\nin {where}")


def _runner(options: argparse.Namespace) -> "Runner":
    """Who trains the sweep."""
    from remi.runs import cluster, store

    if options.ray is not None:
        return cluster.Ray(options.ray, options.runs_per_gpu or 1)
    if options.gpus is not None:
        gpus = [number for part in options.gpus for number in part]
        return store.Local(options.runs_per_gpu or 1, gpus)
    if options.runs_per_gpu:
        raise ValueError("--runs-per-gpu needs --gpus or --ray")
    return store.Local(options.processes or 2)


def _status(options: argparse.Namespace) -> None:
    from remi.paper import experiments
    from remi.runs import budget, reasons, store

    wanted = {store.folder(run): run for run in experiments.runs_of(options.what, options.profile)}
    loaded = {folder.name: store.load(run) for folder, run in wanted.items()}
    found = [record for record in loaded.values() if record]
    print(f"{len(found)} of {len(wanted)} runs done in {store.STORE}, {sum(not record.ok for record in found)} of them diverged")
    missing = {folder.name: run for folder, run in wanted.items() if loaded[folder.name] is None}
    for sentence in reasons.unused(missing.values(), loaded.keys() - missing.keys()):
        print(sentence)
    if missing:
        print(f"{len(store.journal().running() & missing.keys())} in training now")
        print(f"missing: {budget.budget(missing.values(), options.processes or 2)}")
    for name, reason in store.journal().failures().items():
        if name in missing:
            print(f"failed: {missing[name].words}: {(reason.strip().splitlines() or ['the process died'])[-1]}")


def _doctor(options: argparse.Namespace) -> None:
    from remi.runs import store
    from remi.training import images

    for key, value in store.environment().items():
        print(f"{key:>12}: {value}")
    for name, absent in missing().items():
        print(f"{f'[{name}]':>12}: {'not here: ' if absent else 'here'}{', '.join(absent)}")
    print(f"{'runs':>12}: {store.STORE}")
    print(f"{'data':>12}: {images.data_root()}")
    for name in images.DATASETS:
        print(f"{name:>12}: {_found(name)}")


def _found(name: str) -> str:
    """What there is of a data set."""
    from remi.training import images

    if not images.at_hand(name):
        return "not here; downloaded when it is needed"
    try:
        data = images.DATASETS[name]()
    except (OSError, ValueError, ExtraError) as error:
        return f"not here: {error}"
    train, test = data.sizes
    return f"{train} + {test} images, H(Y) = {data.true_mi:.4f} nats"


def _paper(options: argparse.Namespace) -> None:
    from remi.paper import experiments

    for name in options.only:
        if name not in experiments.PLANS:
            raise ValueError(f"FIGURE must be among {', '.join(experiments.PLANS)}; got {name!r}")
    with extra("paper"):
        from remi.paper import report
    report.paper(options.profile, options.only, force=options.force)


def _notebooks(options: argparse.Namespace) -> None:
    with extra("paper"):
        from remi.paper import notebooks
    notebooks.refresh(options.names)


def _readme(options: argparse.Namespace) -> None:
    with extra("paper"):
        from remi.paper import report
    report.readme()


def _estimate(options: argparse.Namespace) -> None:
    from remi.estimation import estimate_cmi, estimate_mi, read_csv, screen

    written = {"\\t": "\t", "tab": "\t"}  # as a shell passes it
    table = read_csv(
        sys.stdin if options.file == "-" else options.file,
        sep=written.get(options.sep, options.sep),
        decimal=options.decimal,
        encoding=options.encoding,
        na=options.na,
    )
    sides = {name: getattr(options, name) for name in ("x", "y", "given")}
    for name, asked in sides.items():
        unknown = [column for column in asked if column not in table]
        if unknown:
            raise ValueError(f"--{name} must be among {', '.join(map(str, table))}; got {', '.join(unknown)}")
    for one, other in combinations(sides, 2):
        both = set(sides[one]) & set(sides[other])
        if both:
            raise ValueError(f"--{one} and --{other} must have no column in common; got {', '.join(sorted(both))}")
    for column in (*options.x, *options.y, *options.given):
        if count := int(table[column].isna().sum()):
            raise ValueError(
                f"column {column!r} has no value in {count} of {len(table)} rows: leave these rows out; or, where such a cell "
                f"is a level, name with --na what else says that there is no value (nothing: --na alone)"
            )
    frames = [table[asked] for asked in sides.values() if asked]
    chosen = {name: getattr(options, name) for name in ("bound", "seed", "discrete", "series", "permutations")}
    if options.each:
        if options.given or options.bits:
            raise ValueError("--each asks without --given, and in nats")
        screened = screen(*frames, **chosen)
        print(screened.table.to_json(orient="records", indent=1) if options.json else screened)
        return
    chosen["permutations"] = 999 if options.permutations is None else options.permutations
    found = (estimate_cmi if options.given else estimate_mi)(*frames, **chosen)
    found = found.bits if options.bits else found
    print(json.dumps(found.as_dict(), indent=1) if options.json else found)


def _scoreboard(options: argparse.Namespace) -> None:
    with extra("paper"):
        from remi.paper.scoreboard import scoreboard
    seeds, sizes = (asked and [number for part in asked for number in part] for asked in (options.seeds, options.sizes))
    scoreboard(seeds, sizes, options.tasks, options.processes)


COMMANDS = {
    "run": _run,
    "sweep": _sweep,
    "status": _status,
    "paper": _paper,
    "notebooks": _notebooks,
    "readme": _readme,
    "doctor": _doctor,
    "estimate": _estimate,
    "scoreboard": _scoreboard,
}

if __name__ == "__main__":
    sys.exit(main())
