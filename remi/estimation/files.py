"""A CSV file as a frame, or an error that names the option: nothing is shifted, taken for text, or dropped without a word."""

import csv
import io
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from remi.extras import extra

if TYPE_CHECKING:
    import pandas as pd

MISSING = ("", "NA", "N/A", "NaN", "nan", "NULL", "null", "None")  # what a cell without a value says, unless `na` says it
MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb\xbf": "utf-8-sig"}
SEPARATORS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar"}
LOOK = 100  # rows from which a hint is taken


def read_csv(
    file: str | Path | IO[str] | IO[bytes],
    *,
    sep: str = ",",
    decimal: str = ".",
    encoding: str = "utf-8",
    na: Sequence[str] | None = None,
) -> "pd.DataFrame":
    """The columns of a CSV file with one line of names: numbers where all cells of a column are numbers, else strings.

    Blanks around cells and names are left out, and letters with accents are composed, so that what looks alike is alike.

    Args:
        file: a path, or an open file.
        sep: one character between cells.
        decimal: "." or ",".
        encoding: as Python names them: "utf-8", "utf-16", "latin-1", "cp1252", ...
        na: what a cell without a value says; default: nothing, NA, N/A, NaN, NULL or None. A column with such cells is read,
            and refused by what needs its values.

    Raises:
        ValueError: an option is not what it must be; a line has more or fewer cells than there are names; two columns have one
            name; or a column of strings holds what looks like numbers. The message names the line or column and the option.
    """
    with extra("paper"):
        import pandas as pd

    for name, value, allowed in (("sep", sep, "one character"), ("decimal", decimal, "'.' or ','")):
        if not isinstance(value, str) or len(value) != 1 or (name == "decimal" and value not in ".,"):
            raise ValueError(f"{name} must be {allowed}; got {value!r}")
    if sep == decimal or sep in "\"'\r\n" or sep.isalnum():
        raise ValueError(f"sep must be a character that no number or name has, and not decimal, {decimal!r}; got {sep!r}")
    if na is not None and (isinstance(na, str) or not all(isinstance(one, str) for one in na)):
        raise ValueError(f"na must be a list of strings; got {na!r}")
    missing = {_plain(one) for one in (MISSING if na is None else ("", *na))}
    where, text = _text(file, encoding)
    names, rows = _cells(where, text, sep)
    columns = zip(*rows, strict=True)
    return pd.DataFrame({name: _column(where, name, cells, decimal, missing) for name, cells in zip(names, columns, strict=True)})


def _text(file: str | Path | IO[str] | IO[bytes], encoding: str) -> tuple[str, str]:
    """What to call the file, and what it says."""
    if isinstance(file, str | Path):
        where, content = str(file), Path(file).read_bytes()
    else:
        where, raw = str(getattr(file, "name", "file")), getattr(file, "buffer", file).read()
        if isinstance(raw, str):
            return where, raw
        content = raw
    mark = next((name for start, name in MARKS.items() if content.startswith(start)), None)
    chosen = mark if mark and encoding.lower().replace("_", "-") in ("utf-8", "utf-16") else encoding
    try:
        text = content.decode(chosen)
    except LookupError:
        raise ValueError(f"encoding must be one that Python knows, for example utf-8 or latin-1; got {encoding!r}") from None
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{where}: line {line} is not {chosen}; choose encoding, for example latin-1, cp1252 or utf-16 (--encoding); "
            f"got {encoding!r}"
        ) from None
    if "\0" in text:
        raise ValueError(f"{where}: is not text in {chosen}; choose encoding, for example utf-16 (--encoding); got {encoding!r}")
    return where, text


def _plain(cell: str) -> str:
    """Without blanks around it, accents composed."""
    return cell.strip(" \t") if cell.isascii() else unicodedata.normalize("NFC", cell).strip(" \t\xa0\ufeff")


def _cells(where: str, text: str, sep: str) -> tuple[list[str], list[list[str]]]:
    """Names, and as many cells in every line."""
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=sep, skipinitialspace=sep != " ", strict=True)
    rows: list[list[str]] = []
    numbers: list[int] = []
    try:
        for row in lines:
            if row and (len(row) > 1 or row[0].strip()):
                rows.append([_plain(cell) for cell in row])
                numbers.append(lines.line_num)
    except csv.Error as error:
        raise ValueError(f"{where}: line {lines.line_num} is not CSV: {error}") from None
    if not rows:
        raise ValueError(f"{where}: must be CSV with a line of names; it is empty")
    if rows[0][0].startswith("#") or rows[0][0].startswith("%"):
        raise ValueError(f"{where}: must begin with the line of names; line {numbers[0]} is a comment, {rows[0][0]!r}: delete it")
    names, other = rows[0], _separator(text, sep, len(rows[0]))
    if other:
        raise ValueError(f"{where}: has {SEPARATORS[other]} between cells; choose sep={other!r} (--sep); got {sep!r}")
    for row, number in zip(rows[1:], numbers[1:], strict=True):
        if len(row) != len(names):
            if row[0].startswith(("#", "%")):
                remedy = "delete this comment"
            elif len(row) == len(names) + 1 and not row[-1]:
                remedy = f"it ends with {sep!r}, and the line of names does not"
            else:
                remedy = "put quotes around cells that hold the separator, or choose sep (--sep)"
            raise ValueError(f"{where}: line {number} has {len(row)} cells for {len(names)} names: {remedy}")
    if names[-1] == "" and all(not row[-1] for row in rows[1:]):  # a separator at the end of every line
        names, rows = names[:-1], [row[:-1] for row in rows]
    if len(rows) < 2:
        raise ValueError(f"{where}: must have lines below the line of names; it has none")
    if "" in names:
        raise ValueError(f"{where}: must have a name for every column; column {names.index('') + 1} of {len(names)} has none")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"{where}: must have a name for every column; {twice[0]!r} names {Counter(names)[twice[0]]} of them")
    if all(_number(name, ".") is not None for name in names):
        raise ValueError(f"{where}: must begin with a line of names; line {numbers[0]} has numbers alone: {', '.join(names[:3])}")
    return names, rows[1:]


def _separator(text: str, sep: str, cells: int) -> str | None:
    """Another separator that every one of the first lines has equally often, where the chosen one makes one cell."""
    first = [line for line in text.splitlines()[:LOOK] if line.strip()]
    for other in SEPARATORS:
        counts = {line.count(other) for line in first}
        if other != sep and cells <= counts.pop() and not counts:
            return other
    return None


def _number(cell: str, decimal: str) -> float | None:
    """The number that a cell says, or None."""
    plain = cell if decimal == "." else cell.replace(",", ".") if "." not in cell else ""
    if "," in plain or "_" in plain or not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|Infinity)", plain):
        return None
    return float(plain)


def _column(where: str, name: str, cells: Sequence[str], decimal: str, missing: set[str]) -> list[Any]:
    """Numbers, integers among them exactly, or strings; nan or None where there is none."""
    values = [cell for cell in cells if cell not in missing]
    found = [_number(cell, decimal) for cell in values]
    strings = Counter(cell for cell, number in zip(values, found, strict=True) if number is None)
    if values and not strings:
        if len(values) == len(cells) and all(re.fullmatch(r"[+-]?\d{1,18}", cell) for cell in values):
            return [int(cell) for cell in values]
        numbers = iter(found)
        return [math.nan if cell in missing else next(numbers) for cell in cells]
    for cell in strings:
        if remedy := _written(cell, decimal):
            raise ValueError(f"{where}: column {name!r} has {cell!r}, which looks like a number: {remedy}")
    if sum(strings.values()) < len(values) / 2:
        cell, count = strings.most_common(1)[0]
        rest = len(values) - sum(strings.values())
        raise ValueError(
            f"{where}: column {name!r} has {rest} numbers, and strings such as {cell!r}, {count} times: if that "
            f" is a cell without a value, choose na=[{cell!r}] (--na {cell!r})"
        )
    return [None if cell in missing else cell for cell in cells]


def _written(cell: str, decimal: str) -> str:
    """How to write, or to read, a string that looks like a number; empty for others."""
    other = "," if decimal == "." else "."
    bare = re.sub(r"(?<=\d)[ ,.'\u2019\xa0\u202f](?=\d{3}(\D|$))", "", cell)
    remedies = []
    if re.search(r"\d", cell) and _number(cell, other) is not None:
        remedies.append(f"choose decimal={other!r} (--decimal)")
    if bare != cell and (_number(bare, decimal) is not None or _number(bare, other) is not None):
        remedies.append("write it without separators of thousands")
    if not remedies and re.fullmatch(r"[$\u20ac\u00a3]?\s*[+-]?[\d.,]*\d[\d.,]*\s*[%$\u20ac\u00a3]?", cell):
        remedies.append("write it without a unit")
    return ", or ".join(remedies)
