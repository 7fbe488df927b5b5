"""From an array, a tensor or a frame to the float32 features that a critic sees; nothing is guessed, cast or dropped."""

import math
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from remi.extras import extra

Array = np.ndarray[Any, Any]
FEW = 12  # numbers with so few different values may be codes


@dataclass(frozen=True)
class Column:
    """One column of the input."""

    name: str
    values: Array  # (n,); of a discrete column the index of the level
    discrete: bool

    def words(self, transform: str) -> str:
        """What `features` makes of it."""
        if self.discrete:
            return f"{self.name}: discrete, {int(self.values.max()) + 1} levels, one-hot"
        return f"{self.name}: continuous, {WORDS[transform]}"

    def parted(self, rows: int) -> "tuple[Column, Column]":
        """The first rows, and the others."""
        return replace(self, values=self.values[:rows]), replace(self, values=self.values[rows:])


def tables(first: tuple[str, object], second: tuple[str, object], rows: str) -> dict[str, list[tuple[str, Array]]]:
    """Named columns of two arguments, by argument; `rows` has the letter that each one's shape is written with.

    Raises:
        ValueError: what `table` raises, or two devices.
    """
    found = {name: table(name, data, letter) for (name, data), letter in zip((first, second), rows, strict=True)}
    (one, x), (other, y) = first, second
    if isinstance(x, Tensor) and isinstance(y, Tensor) and x.device != y.device:
        raise ValueError(f"{one} and {other} must be on one device; got {one} on {x.device} and {other} on {y.device}")
    return found


def paired(x: object, y: object, other: str = "y") -> dict[str, list[tuple[str, Array]]]:
    """Named columns of x and of another argument whose rows go with those of x, by argument.

    Raises:
        ValueError: what `tables` and `same_order` raise, or another number of rows.
    """
    found = tables(("x", x), (other, y), "nn")
    sizes = [len(table[0][1]) for table in found.values()]
    if sizes[0] != sizes[1]:
        raise ValueError(f"x and {other} must have as many rows; got {sizes[0]} and {sizes[1]}")
    same_order(x, y, other)
    return found


def same_order(x: object, y: object, other: str) -> None:
    """Rows of two frames are paired by position, which is what their index says, too.

    Raises:
        ValueError: the indexes differ.
    """
    first, second = (getattr(data, "index", None) if hasattr(data, "iloc") else None for data in (x, y))
    if first is None or second is None or first.equals(second):
        return
    row = next((i for i, pair in enumerate(zip(first, second, strict=True)) if pair[0] != pair[1]), 0)
    raise ValueError(
        f"x and {other} must have the same index, so that rows are paired as it says; row {row} is {first[row]!r} in x and "
        f"{second[row]!r} in {other}: give {other}.loc[x.index], or {other}.to_numpy() to pair rows by position"
    )


def table(name: str, data: object, rows: str = "n") -> list[tuple[str, Array]]:
    """Named columns of an array, tensor, frame or series.

    Raises:
        ValueError: another type, not one- or two-dimensional, empty, a dtype without a meaning here, or fewer than 20 rows.
    """
    kinds = "a NumPy array, a tensor, a pandas DataFrame or Series"
    if isinstance(data, Tensor):
        if data.is_meta or data.is_sparse or data.is_complex():
            raise ValueError(f"{name} must be a dense tensor of real numbers; got {data.dtype}, {data.layout}, on {data.device}")
        data = data.detach().cpu()
        data = (data.double() if data.is_floating_point() else data).numpy()
    if isinstance(data, np.ma.MaskedArray):
        raise ValueError(f"{name} must have no missing values, so that rows stay paired; got a masked array")
    if isinstance(data, np.ndarray):
        if data.ndim not in (1, 2):
            raise ValueError(f"{name} must be ({rows},) or ({rows}, features); got shape {data.shape}")
        columns = [(name, data)] if data.ndim == 1 else [(f"{name}{i}", column) for i, column in enumerate(data.T)]
    elif hasattr(data, "to_frame") and hasattr(data, "index"):  # a Series, without importing pandas
        columns = [(name if data.name is None else str(data.name), data)]  # type: ignore[attr-defined]
    elif hasattr(data, "iloc") and hasattr(data, "columns"):
        columns = [(str(label), data.iloc[:, i]) for i, label in enumerate(data.columns)]
    else:
        raise ValueError(f"{name} must be {kinds}; got {type(data).__name__}")
    if not columns:
        raise ValueError(f"{name} must have at least one column; got shape {getattr(data, 'shape', ())}")
    names = [label for label, _ in columns]
    if len(set(names)) < len(names):
        raise ValueError(f"{name} must have different column names; got {names}")
    if len(columns[0][1]) < 20:
        raise ValueError(f"{name} must have at least 20 rows; got {len(columns[0][1])}")
    return columns


def _column(argument: str, name: str, values: Any, asked: bool) -> Column:
    """Numbers are continuous; truth values, strings and categories are discrete, and so is what was asked for."""
    where = argument if name == argument else f"{argument} column {name!r}"
    kind = _kind(values)
    if kind not in ("f", "i", "u", "b", "U", "category"):
        types = sorted({type(value).__name__ for value in np.asarray(values, dtype=object)})[:3] if kind == "O" else []
        holding = f" that holds {', '.join(types)}" if types else ""
        raise ValueError(f"{where} must be of numbers, truth values, strings or categories; got dtype {values.dtype}{holding}")
    if hasattr(values, "isna") and bool(values.isna().any()):
        raise ValueError(f"{where} must have no missing values; got {int(values.isna().sum())} in {len(values)} rows")
    if kind in ("category", "U", "b") or asked:
        array = np.asarray(values, dtype=str) if kind in ("category", "U") else np.asarray(values)
        if kind == "f" and not np.isfinite(array.astype(float)).all():
            raise ValueError(f"{where} must be finite; got NaN or inf in {int((~np.isfinite(array)).sum())} of {len(array)} rows")
        known, indices = np.unique(array, return_inverse=True)
        if len(known) > max(2, len(array) // 5):
            raise ValueError(
                f"{where} must have at most a level per 5 rows to be discrete; got {len(known)} in {len(array)} rows"
            )
        if kind in ("category", "U"):
            _look_alike(where, known)
        column = Column(name, indices, True)
    else:
        column = Column(name, _numbers(where, values, kind), False)
    if column.values.min() == column.values.max():
        raise ValueError(f"{where} must not be constant; got {np.asarray(values)[0]} in every row")
    return column


def _kind(values: Any) -> str:
    """NumPy's letter of the dtype, "category", or "U" for strings, in a column of objects too."""
    dtype = values.dtype
    if str(dtype) == "category":
        return "category"
    kind = getattr(dtype, "kind", "O")
    if kind == "O" and (str(dtype).startswith("str") or (len(values) and all(isinstance(one, str) for one in values))):
        return "U"
    return kind


def _numbers(where: str, values: Any, kind: str) -> Array:
    """(n,) finite numbers that differ where the given ones do; beyond 2^53, where float64 has gaps, counted from the least."""
    given = np.asarray(
        values, dtype=None if isinstance(values, np.ndarray) else {"i": np.int64, "u": np.uint64, "f": float}[kind]
    )
    found = given.astype(float)
    bad = ~np.isfinite(found)
    if bad.any():
        raise ValueError(f"{where} must be finite; got {found[bad][0]} in row {int(bad.argmax())}")
    exact = given.dtype.itemsize < 8 or given.dtype == float or bool((np.abs(found) < 2**53).all() and kind != "f")
    if exact:
        return found
    from_least = (
        given - given.min() if kind != "i" else given.astype(np.int64).view(np.uint64) - np.uint64(int(given.min()) % 2**64)
    )
    found = from_least.astype(float)
    if len(np.unique(found)) < len(np.unique(given)):
        raise ValueError(
            f"{where} must be of numbers that float64 tells apart; got {given.dtype} with {len(np.unique(given))} different "
            f"values, and {len(np.unique(found))} of them stay different: give their ranks, or name it in discrete"
        )
    return found


def _look_alike(where: str, levels: Array) -> None:
    """Refuse levels that a reader cannot tell apart: blanks around them, or accents composed and combining."""
    plain: dict[str, str] = {}
    for level in map(str, levels):
        other = plain.setdefault(unicodedata.normalize("NFC", level).strip(), level)
        if other != level:
            raise ValueError(f"{where} must have levels that can be told apart; got {other!a} and {level!a}")


def read(tables: Mapping[str, list[tuple[str, Array]]], discrete: object) -> dict[str, list[Column]]:
    """Columns of each argument; `discrete` names columns, or arguments for all of theirs."""
    asked = [discrete] if isinstance(discrete, str) else discrete
    names = [name for table in tables.values() for name, _ in table]
    if not isinstance(asked, Sequence) or not all(isinstance(name, str) for name in asked):
        raise ValueError(f"discrete must be a column name or a list of them; got {discrete!r}")
    for name in asked:
        if name not in names and name not in tables:
            raise ValueError(f"discrete must be among {', '.join(dict.fromkeys([*tables, *names]))}; got {name!r}")
    whole = set(asked) - set(names)
    return {
        argument: [_column(argument, name, values, name in asked or argument in whole) for name, values in table]
        for argument, table in tables.items()
    }


def joined(name: str, first: Any, second: Any) -> Any:
    """One column of both samples, p above q.

    Raises:
        ValueError: they are of different types.
    """
    kinds = [_kind(values) for values in (first, second)]
    numbers = all(kind in "iuf" for kind in kinds)
    if isinstance(first, np.ndarray) != isinstance(second, np.ndarray) or not (numbers or kinds[0] == kinds[1]):
        raise ValueError(f"p and q column {name!r} must be of one type; got dtypes {first.dtype} and {second.dtype}")
    if numbers and kinds[0] != kinds[1]:
        parts = [np.asarray(values, dtype=float) for values in (first, second)]
        beyond = [kind != "f" and bool((np.abs(part) >= 2**53).any()) for kind, part in zip(kinds, parts, strict=True)]
        if any(beyond):
            raise ValueError(f"p and q column {name!r} must be of one type beyond 2**53; got {first.dtype} and {second.dtype}")
        return np.concatenate(parts)
    if isinstance(first, np.ndarray):
        return np.concatenate([first, second])
    with extra("paper"):
        import pandas as pd

    return pd.concat([first, second], ignore_index=True)


def entropy(columns: Sequence[Column]) -> float:
    """Of the rows that were seen, in nats: no row tells more about anything."""
    n, rows = len(columns[0].values), np.zeros(len(columns[0].values), dtype=np.int64)
    for column in columns:
        known, values = np.unique(column.values, return_inverse=True)
        if len(known) == n:
            return math.log(n)
        rows = np.unique(rows * len(known) + values, return_inverse=True)[1]
    shares = np.bincount(rows) / n
    return float(-(shares * np.log(shares)).sum())


def normal_scores(values: Array) -> Array:
    """Standard normal quantiles of the ranks; ties share their mean rank."""
    from scipy.special import ndtri  # here: two thirds of `import remi`, which a loss does without

    _, level, count = np.unique(values, return_inverse=True, return_counts=True)
    middle = count.cumsum() - count / 2  # of a level's ranks, less one half
    return np.asarray(ndtri(middle[level] / len(values)))


def standardize(values: Array) -> Array:
    """Mean 0, standard deviation 1; safe for any finite numbers."""
    centred = values / np.abs(values).max()
    centred = centred - centred.mean()
    return centred / centred.std()


def one_hot(levels: Array) -> Array:
    """(n, levels - 1) standardized indicators of all levels but the first: it would be what the others leave."""
    hot = (levels[:, None] == np.arange(1, int(levels.max()) + 1)).astype(float)
    return (hot - hot.mean(0)) / hot.std(0)


TRANSFORMS: dict[str, Callable[[Array], Array]] = {
    "rank": normal_scores,
    "standardize": standardize,
    "none": lambda values: values,
}
WORDS = {"rank": "normal scores of the ranks", "standardize": "standardized", "none": "as given"}


def features(columns: Sequence[Column], transform: str, device: torch.device) -> Tensor:
    """(n, d) float32 features on a device.

    Mutual information does not change under an invertible map of x alone or of y alone, so any of these is allowed: ranks to
    normal scores, standardized numbers, and for a discrete column the standardized indicators of all levels but the first.

    Raises:
        ValueError: there is no such transform, or "none" leaves numbers that float32 does not hold.
    """
    if transform not in TRANSFORMS:
        raise ValueError(f"transform must be one of {', '.join(TRANSFORMS)}; got {transform!r}")
    parts = [one_hot(c.values) if c.discrete else TRANSFORMS[transform](c.values)[:, None] for c in columns]
    for column, part in zip(columns, parts, strict=True):
        single = part.astype(np.float32)
        known = len(np.unique(column.values)) if transform == "none" and not column.discrete else 0
        if known and (not np.isfinite(single).all() or 2 * len(np.unique(single)) < known):
            raise ValueError(
                f"transform must be 'rank' or 'standardize' for column {column.name!r}: its values, {part.min():g} to "
                f"{part.max():g}, do not stay apart in float32; got 'none'"
            )
    return torch.from_numpy(np.concatenate(parts, 1).astype(np.float32)).to(device)
