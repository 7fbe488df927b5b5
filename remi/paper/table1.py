"""Table 1 from the code: the six losses, their regularizers, and what each experiment changes."""

from collections.abc import Iterable, Sequence

import pandas as pd

from remi.losses import BOUNDS, LABELS, estimators
from remi.paper import experiments
from remi.paper.plans import Curve

NOTHING = "–"
PINNED = {  # loss and the value of the option that decides: normalizer, name of its squared difference to the target
    ("mine", "log"): ("log E_Q[exp T]", "Euclidean"),
    ("mine", "variance"): ("the difference of log E_Q[exp T] between halves of the batch", "Euclidean"),
    ("smile", None): ("log E_Q[exp T]", "Euclidean"),
    ("infonce", None): ("mean over pairs of log mean exp of the row", "Euclidean"),
    ("nwj", "eq15"): ("log E_Q[exp(T − 1)]", "log-Euclidean"),
    ("nwj", "released"): ("log E_Q[exp T]", "log-Euclidean"),
    ("tuba", None): ("log E_Q[exp T]", "log-Euclidean"),
    ("js", "log"): ("log E_Q[exp T]", "Euclidean"),
    ("js", "softplus"): ("E_Q[softplus T]", "Euclidean"),
}
DECIDES = {"mine": "penalty", "nwj": "target_of", "js": "penalty"}
WORDS = {
    ("clip", None): "no clip",
    ("clip", "marginal"): "second term clipped at τ = {tau:g}",
    ("clip", "both"): "both terms clipped at τ = {tau:g}",
    ("evaluate", "eq8"): "estimate by eq. 8",
    ("evaluate", "nwj"): "estimate by NWJ",
}
REMARKS = {"mine": ["no gradient moving average"], "tuba": ["a(y) = 1"]}  # settings that are no option
EARLY = {
    "Figs. 1 to 3": experiments.FIGURE1.curves + experiments.FIGURE3.curves,
    "Fig. 4": experiments.FIGURE4.curves,
    "Fig. 5": experiments.FIGURE5.curves,
}
GAUSSIAN = tuple(curve for curve in experiments.FIGURE7.curves if curve.key in estimators.NAMES)  # without the ablation


def rows() -> pd.DataFrame:
    """The paper's Table 1 from the code: a row per loss; its settings, its regularizer, and what each experiment changes.

    The first columns are the defaults of `estimators.options`, the others where `experiments` departs from them. A squared
    difference is the Euclidean distance of a normalizer to its target, or, on a normalizer that is the logarithm of a
    quantity to be pinned to 1, the log-Euclidean distance of that quantity to 1.
    """
    gaussian = f"Fig. 7 (λ = {_numbers(curve.lam for curve in GAUSSIAN)})"
    benchmarks = f"Table 2, Fig. 6 (λ = {_numbers(experiments.TABLE2.lams)})"
    found = []
    for loss in BOUNDS:
        early = [f"{figure}: {use}" for figure, curves in EARLY.items() if (use := _changes(loss, curves, state_lam=True))]
        found.append(
            {
                "Loss": LABELS[loss],
                "Loss settings": _loss_settings(loss),
                "Regularizer settings": _regularizer_settings(loss),
                "Figs. 1 to 5": "; ".join(early) or NOTHING,
                gaussian: _changes(loss, GAUSSIAN),
                benchmarks: _changes(loss, experiments.TABLE2.curves),
            }
        )
    return pd.DataFrame(found)


def _loss_settings(loss: str) -> str:
    allowed = estimators.options(loss)
    defaults = {name: option.default for name, option in allowed.items()}
    words = [WORDS[setting].format(**defaults) for setting in defaults.items() if setting in WORDS]
    return ", ".join([*REMARKS.get(loss, []), *words]) or NOTHING


def _regularizer_settings(loss: str) -> str:
    allowed = estimators.options("re" + loss)
    quantity, distance = PINNED[loss, allowed[DECIDES[loss]].default if loss in DECIDES else None]
    if "target" not in allowed:
        return f"λ ({quantity})², {distance}"
    return f"λ ({quantity} − C*)², {distance}, C* = {allowed['target'].default:g}"


def _changes(loss: str, curves: Sequence[Curve], state_lam: bool = False) -> str:
    """What the curves of a loss and of its twin set, where it is not the default; "" without such curves."""
    members = {name: [curve for curve in curves if curve.loss == name] for name in (loss, "re" + loss)}
    if not any(members.values()):
        return ""
    both = _set_options(loss, members[loss])
    twin = [words for words in _set_options("re" + loss, members["re" + loss]) if words not in both]
    if state_lam and members["re" + loss]:
        twin.insert(0, f"λ = {_numbers(curve.lam for curve in members['re' + loss])}")
    return "; ".join([*both, *([f"{LABELS['re' + loss]}: {', '.join(twin)}"] if twin else [])]) or "default"


def _set_options(name: str, curves: Sequence[Curve]) -> list[str]:
    loss, words = estimators.family(name), []
    defaults = {option: parameter.default for option, parameter in estimators.options(name).items()}
    settings = [defaults | curve.options for curve in curves]
    for option, default in defaults.items():
        values = list(dict.fromkeys(setting[option] for setting in settings))
        if option == "lam" or values in ([], [default]):
            continue
        if option in ("target", "tau"):
            words.append(f"{'C*' if option == 'target' else 'τ'} = {_numbers(values)}")
        elif option == DECIDES.get(loss):
            words.append("pins " + " or ".join(PINNED[loss, value][0] for value in values))
        else:
            words.append(" or ".join(dict.fromkeys(WORDS[option, setting[option]].format(**setting) for setting in settings)))
    return words


def _numbers(values: Iterable[float | None]) -> str:
    return ", ".join(f"{value:g}".replace("-", "−") for value in dict.fromkeys(values) if value is not None)
