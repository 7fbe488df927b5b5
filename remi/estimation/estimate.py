"""Mutual information and Kullback-Leibler divergence of your own data, with an interval and with diagnostics in words.

    I(X; Y) = KL(P || Q),   P the joint distribution, Q the product of the marginals

Both are read from critics that have not seen the rows they are read on: the rows are cut into folds, a critic is trained
without each fold, and the folds' scores are pooled. A lower bound read this way cannot overfit upwards; it is low by what the
critics have not learned from so few rows, which is estimated and added.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from remi.estimation import columns
from remi.estimation.columns import Array, Column
from remi.estimation.copies import copies
from remi.estimation.crossfit import Trained, extrapolated, half_width, learned, pool, read, tenths, train
from remi.estimation.diagnostics import diagnose, doubts, hidden, readings, table_reading, unmet
from remi.estimation.limits import spread
from remi.estimation.order import Memory, memory
from remi.estimation.plan import LOSSES, REFUSED, Plan
from remi.estimation.questions import Dependence, Difference, Question
from remi.estimation.rows import Split, split
from remi.estimation.significance import conflict, p_value
from remi.estimation.undisturbed import undisturbed
from remi.extras import extra
from remi.losses import Scores, family
from remi.training import loop

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

LAM = 0.1  # weight of the regularizer where none is given
LEARNED = 20_000  # rows of a fold at most, that trained critics read by themselves
BEYOND = 1.5  # times what critics read more on their training rows: so far may a value be low, as known tasks have shown


@dataclass(frozen=True)
class Estimate:
    """What the data say about a divergence.

    Args:
        value: the held-out bound, `readings["held-out bound"]`, and what more rows would add to it: to the ratios in closed
            form, see `crossfit.extrapolated`, and to the trained critics half of what they read more on rows that they have
            seen (Akaike, 1974), times their weight. With a critic of the caller's, the bound. Slightly negative values are legal.
        interval: nominal 95%. Its lower end is the bound less sampling error, that of the value as extrapolated. Its upper end
            is above the value by sampling error, by one and a half times what the trained critics read more on rows that they
            have seen, and once more by what was added for the closed forms, as if they converged slowly, since an
            extrapolation may be off by as much. Where nothing is shown it
            reaches up to what so few rows could hide among so many features, see `hidden`; it never lies wholly below 0.
        diagnostics: reasons for doubt, each with the number that raised it; empty when there are none.
        history: "step" (looks,), and per fold (folds, looks) "validation", what its critics' mean reads on the validation rows,
            and "normalizer", there too; "best_step" (folds,); per critic "diverged_at" (-1: never) and "fold".
        readings: what else the same held-out scores say: other bounds, and the bound on the training rows.
        features: what was made of each column.
        settings: what was asked for.
        p_value: how often independent data look like this, see `significance`; at least 1 / (1 + permutations), and None without
            any. An interval says how much there is, a p-value whether there is anything.
        unit: "nats" or "bits".
    """

    value: float
    interval: tuple[float, float]
    diagnostics: tuple[str, ...]
    history: Mapping[str, Array] = field(repr=False)
    readings: Mapping[str, float] = field(repr=False)
    features: tuple[str, ...] = field(repr=False)
    settings: Mapping[str, Any] = field(repr=False)
    p_value: float | None = None
    unit: str = "nats"

    @property
    def bits(self) -> "Estimate":
        """The same, in bits; diagnostics stay in nats."""
        if self.unit == "bits":
            return self
        low, high = (end / math.log(2) for end in self.interval)
        readings = {name: value / math.log(2) for name, value in self.readings.items()}
        history = {name: v / math.log(2) if name in ("validation", "normalizer") else v for name, v in self.history.items()}
        return replace(
            self, value=self.value / math.log(2), interval=(low, high), readings=readings, history=history, unit="bits"
        )

    def doubted(self, diagnostics: Iterable[str]) -> "Estimate":
        """The same with more reasons for doubt."""
        return replace(self, diagnostics=(*self.diagnostics, *diagnostics))

    def __float__(self) -> float:
        return self.value

    @property
    def _tail(self) -> str:
        """Interval and p-value, as they are printed."""
        low, high = self.interval
        return f"95% interval {low:z.3f} to {high:z.3f}" + ("" if self.p_value is None else f", p = {self.p_value:.3g}")

    def __str__(self) -> str:
        return "\n".join([f"{self.value:z.3f} {self.unit}, {self._tail}", *(f"* {d}" for d in self.diagnostics)])

    def _repr_html_(self) -> str:
        from html import escape

        notes = "".join(f"<li>{escape(text)}</li>" for text in self.diagnostics)
        return f"<p><b>{self.value:z.3f} {self.unit}</b>, {self._tail}</p>" + (f"<ul>{notes}</ul>" if notes else "")

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the history."""
        return {
            "value": self.value,
            "interval": list(self.interval),
            "p_value": self.p_value,
            "unit": self.unit,
            "diagnostics": list(self.diagnostics),
            "readings": dict(self.readings),
            "features": list(self.features),
            "settings": dict(self.settings),
        }

    def plot(self) -> "Figure":
        """The course of the critics of every fold on its validation rows, and the value with its interval.

        Raises:
            ExtraError: matplotlib is not installed.
        """
        with extra("paper"):
            from matplotlib.figure import Figure

            from remi.style import HUES, MARGINAL

        figure = Figure(figsize=(4.5, 2.7))
        axes = figure.subplots()
        hue = HUES[family(self.settings["bound"])]
        axes.plot(self.history["step"], self.history["validation"].T, color=MARGINAL, lw=0.6)
        axes.plot([], [], color=MARGINAL, label="one fold's critics, validation rows")
        axes.axhspan(*self.interval, color=hue, alpha=0.2, lw=0, label="95% interval")
        axes.axhline(self.value, color=hue, label=f"held-out value {self.value:z.3f}")
        axes.set(xlabel="step", ylabel=self.unit)
        axes.legend()
        return figure


def compare(estimates: Mapping[str, Estimate], truths: Mapping[str, float] | None = None) -> "tuple[Figure, pd.DataFrame]":
    """Values and intervals under each other, and what is drawn, a row per estimate.

    Args:
        estimates: by name.
        truths: of those whose truth is known, in the unit of the estimates.

    Raises:
        ExtraError: matplotlib or pandas is not installed.
    """
    with extra("paper"):
        import pandas as pd
        from matplotlib.figure import Figure

        from remi.style import HUES, TRUTH

    known = truths or {}
    rows = [(name, e.value, *e.interval, len(e.diagnostics), known.get(name, math.nan)) for name, e in estimates.items()]
    figure = Figure(figsize=(5.5, 0.8 + 0.25 * len(rows)))
    axes = figure.subplots()
    axes.axvline(0, color=TRUTH, ls=":", lw=1.2)
    for place, (name, value, low, high, count, truth) in enumerate(rows):
        hue = HUES[family(estimates[name].settings["bound"])]
        axes.plot([low, high], [place, place], color=hue, lw=1.2)
        axes.plot(value, place, color=hue, marker="o", ms=4, mfc="white" if count else hue)
        axes.plot(truth, place, color=TRUTH, marker="x", ms=5)
    words = "dotted: 0; hollow: has diagnostics" + "; ×: the truth" * bool(known)
    axes.set(xlabel=f"{next(iter(estimates.values())).unit}\n{words}", ylim=(len(rows) - 0.5, -0.5))
    axes.set_yticks(range(len(rows)), list(estimates))
    return figure, pd.DataFrame(rows, columns=["name", "value", "low", "high", "diagnostics", "truth"])


def estimate_mi(
    x: object,
    y: object,
    *,
    bound: str = "remine",
    critic: nn.Module | Sequence[nn.Module] | None = None,
    seed: int = 0,
    discrete: str | Sequence[str] = (),
    transform: str = "rank",
    folds: int = 5,
    restarts: int = 2,
    batch: int = 64,
    steps: int = 2000,
    lr: float = 3e-3,
    device: str = "cpu",
    series: bool = False,
    permutations: int = 999,
    **options: Any,
) -> Estimate:
    """Mutual information of x and y, in nats, from paired rows.

    Deterministic for a seed. A lower bound read on rows that the critics have not seen.

    Args:
        x: (n,) or (n, features): a NumPy array, a tensor, a pandas DataFrame or Series. Numbers, integers too, are
            continuous; truth values, strings and categories are discrete. Nothing is guessed, and nothing transposed.
        y: the same, with as many rows.
        bound: one of the twelve losses; "remine" holds the offset, which pooling over folds needs (Theorem 6). Or a later loss
            that trains the critics, "infonce_anchor", "sigmoid" or "fdime": of their scores Donsker-Varadhan's value is reported.
        critic: an `nn.Module` that maps n pairs, (n, features of x) and (n, features of y), to n scores; or a pair of
            encoders, whose inner product is the score. The features are those that `Estimate.features` lists.
        seed: of the folds, the batches and the critics' starts.
        discrete: columns of numbers that are codes: their names ("x0", "x1", ... in an array), or "x" or "y" for all.
        transform: of continuous columns: "rank" (normal scores, tames heavy tails), "standardize" or "none".
        folds: parts of the data; each is read by critics trained on the others.
        restarts: critics per fold, whose scores are averaged.
        batch: rows per step; all their batch * (batch - 1) unpaired combinations are used.
        steps: at most so many; training ends when what is read of the validation rows has not grown for 250 steps, or
            for 500 where rows are many.
        lr: Adam's.
        device: "cpu", "cuda" or "auto".
        series: rows follow each other in time: folds are stretches with gaps between them, as long as rows remember each
            other, and the interval is that of stretches; for the p-value y is shifted.
        permutations: of the held-out rows, for the p-value; 0 for none.
        **options: of the bound, as in `estimators.get`; lam is 0.1 for the regularized ones.

    Raises:
        ValueError: an argument is not what it must be; the message names it, its value, and what is allowed.
    """
    tables = columns.paired(x, y)
    plan = plan_of(bound, seed, folds, restarts, batch, steps, lr, options, series, permutations)
    with undisturbed(where := device_called(device), plan.seed, critic):
        described = columns.read(tables, discrete)
        return between(described["x"], described["y"], transform, plan, critic, where)


def between(x: list[Column], y: list[Column], transform: str, plan: Plan, critic: object, where: torch.device) -> Estimate:
    """`estimate_mi` of columns that have been read."""
    rows = [columns.features(side, transform, where) for side in (x, y)]
    numbers = not any(column.discrete for column in [*x, *y])
    question = Dependence(rows[0], rows[1], _levels(x, y, where), numbers, numbers and transform == "rank")
    remembered, limit = memory(x, y), min(columns.entropy(x), columns.entropy(y))
    found = _estimate(question, plan, critic, [*x, *y], transform, remembered, limit)
    return found.doubted(doubts([*x, *y], transform, remembered, plan))


def kl(
    p: object,
    q: object,
    *,
    bound: str = "remine",
    critic: nn.Module | None = None,
    seed: int = 0,
    discrete: str | Sequence[str] = (),
    transform: str = "rank",
    folds: int = 5,
    restarts: int = 4,
    batch: int = 256,
    steps: int = 2000,
    lr: float = 1e-3,
    device: str = "cpu",
    series: bool = False,
    permutations: int = 999,
    **options: Any,
) -> Estimate:
    """Kullback-Leibler divergence KL(P || Q), in nats, from a sample of each.

    The same estimate as `estimate_mi`, for any two populations. Columns of p and q mean the same thing, and are transformed
    together, which leaves the divergence as it is.

    Args:
        p: (n,) or (n, features) rows drawn from P, of the types that `estimate_mi` takes.
        q: (m,) or (m, features) rows drawn from Q.
        bound: any loss but InfoNCE, which needs pairs.
        critic: an `nn.Module` that maps (n, features) to n scores.
        seed: as in `estimate_mi`; so are the others.
        discrete: names of columns of numbers that are codes, or "p" for all ("p0", "p1", ... in an array).
        transform: of continuous columns.
        folds: parts of the data.
        restarts: critics per fold.
        batch: rows of each sample per step.
        steps: at most so many.
        lr: Adam's.
        device: "cpu", "cuda" or "auto".
        series: both samples follow their time.
        permutations: of the labels P and Q, for the p-value; 0 for none.
        **options: of the bound.

    Raises:
        ValueError: an argument is not what it must be.
    """
    tables = columns.tables(("p", p), ("q", q), "nm")
    names = [[label.removeprefix(argument) for label, _ in table] for argument, table in tables.items()]
    if names[0] != names[1]:
        raise ValueError(f"p and q must have the same columns; got {', '.join(names[0])} and {', '.join(names[1])}")
    sizes = [len(table[0][1]) for table in tables.values()]
    plan = plan_of(bound, seed, folds, restarts, batch, steps, lr, options, series, permutations)
    if plan.family == "infonce":
        raise ValueError(f"bound must be one without rows of pairs for two samples, for example 'remine'; got {bound!r}")
    with undisturbed(where := device_called(device), plan.seed, critic):
        pooled = [(name, columns.joined(name, a, b)) for (name, a), (_, b) in zip(tables["p"], tables["q"], strict=True)]
        described = columns.read({"p": pooled}, discrete)["p"]
        rows = columns.features(described, transform, where)
        question = Difference(rows[: sizes[0]], rows[sizes[0] :])
        samples = [column.parted(sizes[0]) for column in described]
        remembered = max(memory([one for one, _ in samples]), memory([other for _, other in samples]))
        found = _estimate(question, plan, critic, described, transform, remembered, math.inf)
    return found.doubted([*doubts(described, transform, remembered, plan), *unmet(samples)])


def plan_of(
    bound: Any,
    seed: int,
    folds: int,
    restarts: int,
    batch: int,
    steps: int,
    lr: float,
    options: Mapping[str, Any],
    series: bool,
    permutations: int,
) -> Plan:
    """The plan; a loss may be written as it is printed."""
    name = bound.lower() if isinstance(bound, str) and bound.lower() in (*LOSSES, *REFUSED) else bound
    return Plan(name, seed, folds, restarts, batch, steps, lr, _with_lam(name, options), series, permutations)


def _with_lam(bound: object, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options, lam among them where the bound is regularized."""
    regularized = isinstance(bound, str) and bound.startswith("re")
    return {"lam": LAM, **options} if regularized else dict(options)


def _levels(x: Sequence[Column], y: Sequence[Column], device: torch.device) -> tuple[Tensor, Tensor] | None:
    """The levels of two discrete columns, where x and y are one each."""
    if len(x) > 1 or len(y) > 1 or not (x[0].discrete and y[0].discrete):
        return None
    return torch.from_numpy(x[0].values).to(device), torch.from_numpy(y[0].values).to(device)


def device_called(name: object) -> torch.device:
    """The device of that name, or one error."""
    try:
        found = loop.device(name) if isinstance(name, str) else torch.device("none")
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError):
        raise ValueError(f"device must be 'cpu', 'auto' or a device that is present, such as 'cuda'; got {name!r}") from None
    return found


@dataclass(frozen=True)
class Term:
    """What the critics of one question read.

    Args:
        held_out: scores of the rows that they have not seen.
        trained: the critics.
        found: readings of these scores.
        added: to the held-out bound, for what more rows would show.
        beyond: that; so much more could they show.
        gained: what the trained critics read more on rows that they have seen, times their weight.
        values: (mixtures, 1 + groups, folds) with its closed forms fitted to all rows, and to fewer, see `crossfit.tenths`.
        reported: (mixtures, ...) such values -> (...) the bound, and what is added for the closed forms.
    """

    held_out: Scores
    trained: Trained
    found: Mapping[str, float]
    added: float
    beyond: float
    gained: float
    values: Tensor
    reported: Callable[[Tensor], Tensor]

    @property
    def bound(self) -> float:
        """The held-out bound."""
        return self.found["held-out bound"]

    def within(self, limit: float) -> Callable[[Tensor], Tensor]:
        """What is reported of such values where the bound leaves room for more; elsewhere, the bound."""
        return self.reported if self.bound < limit else itemgetter(0)


def term(question: Question, plan: Plan, critic: object, splits: Sequence[Split], gap: int) -> Term:
    """Train and read; of a series, rows forget each other after a gap."""
    device = question.samples[0].device
    network = question.network(plan.runs).to(device) if critic is None else copies(critic, question.samples, plan.runs)
    trained = train(question, network, splits, plan)
    unseen = [part.held_out for part in splits]
    held_out = read(question, trained.mixture, unseen, plan)
    found = readings(held_out, plan) | table_reading(question)
    for name, rows in (
        ("training rows", [spread(part.train, min(LEARNED, part.held_out.shape[1])) for part in splits]),
        ("trained critics", [spread(part, LEARNED) for part in unseen]),
    ):
        found[name] = learned(question, trained.mixture, rows, plan)
    gained = float(trained.mixture.weights[-1].mean()) * max(0.0, found["training rows"] - found["trained critics"])
    fewer = [read(question, one, unseen, plan) for one in trained.fewer]
    bounds = [found["held-out bound"], *(pool(plan.report(scores), plan.pooled) for scores in fewer)]
    pooled = torch.tensor(bounds, dtype=torch.float64)
    fitted, wide = min(part.rest.shape[1] for part in splits), sum(sample.shape[1] for sample in question.samples)

    def grown(values: Tensor, slowest: float = question.slowest) -> Tensor:
        return extrapolated(values, fitted, wide, slowest)

    added = float(grown(pooled)) + (gained / 2 if critic is None else 0.0)
    beyond = BEYOND * gained + float(grown(pooled, min(Question.slowest, question.slowest)))
    values = torch.stack([tenths(question, scores, plan, gap) for scores in (held_out, *fewer)])
    return Term(held_out, trained, found, added, beyond, gained, values, lambda values: values[0] + grown(values))


def answer(
    question: Question,
    plan: Plan,
    term: Term,
    half: float,
    described: Sequence[Column],
    remembered: Memory,
    limit: float,
    p: float | None,
    settings: Mapping[str, Any],
) -> Estimate:
    """An estimate of what a term reads, with so much sampling error, no larger than a limit."""
    gained, least = term.gained, min(question.sizes)
    bound, value = min(term.bound, limit), min(term.bound + term.added, limit)
    half = max(half, 1.92 / least)  # no likelihood ratio resolves less
    low, high = min(bound, value) - half + min(0.0, term.beyond), max(bound, value) + half + max(0.0, term.beyond)
    shown = low > 0
    high = max(high, term.found.get("table", 0.0), 0.0 if shown else hidden(question) * remembered.inflation)
    unseen = 0.0 if shown else high
    return Estimate(
        value,
        (low, high),
        (*diagnose(value, bound, half, gained, term.found, term.trained, plan, described, least, unseen), *conflict(p, low)),
        term.trained.history,
        term.found,
        tuple(column.words(settings["transform"]) for column in described),
        {name: value for name, value in vars(plan).items() if name != "options"} | dict(plan.options) | dict(settings),
        p,
    )


def _estimate(
    question: Question, plan: Plan, critic: object, described: Sequence[Column], transform: str, remembered: Memory, limit: float
) -> Estimate:
    """Split, train, read."""
    question.series = plan.series
    generator = torch.Generator().manual_seed(plan.seed)
    gap = remembered.length if plan.series else 0
    splits = [split(n, plan, generator, gap).to(question.samples[0].device) for n in question.sizes]
    found = term(question, plan, critic, splits, gap)
    settings = {"critic": "default" if critic is None else type(critic).__name__, "transform": transform}
    half, p = half_width(found.values, found.within(limit)), p_value(question, found.held_out, splits, plan, gap)
    return answer(question, plan, found, half, described, remembered, limit, p, settings)
