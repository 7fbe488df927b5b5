"""A CSV file is read as its writer meant it, or refused with the line or column and the option that reads it."""

import io

import numpy as np
import pandas as pd
import pytest

from remi.__main__ import main
from remi.estimation import read_csv

A, B = np.round(np.random.default_rng(0).normal(size=(2, 40)), 3).tolist()
WORDS = ["né", "up", "Ångström", "NA"] * 10


def written(names="a,b,w", sep=",", decimal=".", end="", comment=""):
    """Forty lines below the names."""
    lines = [names] + [
        sep.join([str(a).replace(".", decimal), str(b).replace(".", decimal), w]) + end
        for a, b, w in zip(A, B, WORDS, strict=True)
    ]
    return "\n".join([*lines[:3], *([comment] if comment else []), *lines[3:]]) + "\n"


RIGHT = {
    "plain": (written().encode(), {}),
    "windows lines": (written().replace("\n", "\r\n").encode(), {}),
    "no last line end": (written().rstrip("\n").encode(), {}),
    "empty lines": (written().replace("\n", "\n\n").encode(), {}),
    "quoted": (written('"a","b","w"').encode(), {}),
    "semicolons": (written("a;b;w", ";").encode(), {"sep": ";"}),
    "tabs": (written("a\tb\tw", "\t").encode(), {"sep": "\t"}),
    "bars": (written("a|b|w", "|").encode(), {"sep": "|"}),
    "decimal commas": (written("a;b;w", ";", ",").encode(), {"sep": ";", "decimal": ","}),
    "decimal commas in quotes": (written("a,b,w").replace(str(A[0]), f'"{A[0]}"'.replace(".", ",")).encode(), None),
    "utf-16": (written().encode("utf-16"), {"encoding": "utf-16"}),
    "utf-16, known by its mark": (written().encode("utf-16"), {}),
    "utf-8 with a mark": (written().encode("utf-8-sig"), {}),
    "latin-1": (written().encode("latin-1"), {"encoding": "latin-1"}),
    "blanks after separators": (written("a, b, w", ", ").encode(), {}),
    "blanks around": (written("a , b , w", " , ").encode(), {}),
    "hard blanks": (written("a,b,w", "\xa0,").encode(), {}),
    "a separator at the end of every line": (written("a,b,w,", end=",").encode(), {}),
    "combining accents": (written().replace("é", "e\u0301").replace("Å", "A\u030a").encode(), {}),
}
RIGHT = {name: case for name, case in RIGHT.items() if case[1] is not None}


@pytest.mark.parametrize(("content", "chosen"), RIGHT.values(), ids=RIGHT)
def test_what_is_written_is_read(tmp_path, content, chosen):
    (tmp_path / "data.csv").write_bytes(content)
    for table in (read_csv(tmp_path / "data.csv", **chosen), read_csv(io.BytesIO(content), **chosen)):
        assert list(table) == ["a", "b", "w"]
        assert table["a"].tolist() == A
        assert table["b"].tolist() == B
        assert table["w"].isna().sum() == 10
        assert table["w"].dropna().unique().tolist() == ["né", "up", "Ångström"]


def test_what_is_missing_is_what_one_says():
    assert read_csv(io.StringIO(written()), na=[])["w"].tolist() == WORDS
    table = read_csv(io.StringIO(written().replace(str(A[3]), "?")), na=["?"])
    assert table["a"].isna().tolist() == [a == A[3] for a in A]
    assert table["w"].tolist() == WORDS


def test_integers_keep_their_digits_and_codes_their_letters():
    table = read_csv(io.StringIO("n,c,e\n" + "\n".join(f"{2**53 + i},{'AB'[i % 2]}{i},{i}e-3" for i in range(30))))
    assert table["n"].tolist() == [2**53 + i for i in range(30)]
    assert table["c"][3] == "B3"
    assert table["e"].tolist() == [float(f"{i}e-3") for i in range(30)]


WRONG = {
    "a separator at the end of the lines alone": (written(end=","), {}, r"line 2 has 4 cells for 3 names: it ends with ','"),
    "surplus cells": (written().replace("up", "up,1", 1), {}, "line 3 has 4 cells for 3 names: put quotes .* sep"),
    "too few cells": (written().replace(",up", "", 1), {}, "line 3 has 2 cells for 3 names"),
    "semicolons": (written("a;b;w", ";"), {}, "a semicolon between cells; choose sep=';'.*--sep"),
    "semicolons and decimal commas": (written("a;b;w", ";", ","), {}, "choose sep=';'"),
    "tabs": (written("a\tb\tw", "\t"), {}, r"a tab between cells; choose sep='\\t'"),
    "bars": (written("a|b|w", "|"), {}, "a bar between cells"),
    "decimal commas": (written("a;b;w", ";", ","), {"sep": ";"}, "column 'a' has '.*,.*', which looks like .*choose decimal=','"),
    "decimal commas in quotes": (
        written().replace(f"\n{A[5]},", f'\n"{A[5]}",'.replace(".", ",")),
        {},
        "column 'a' has .*choose decimal=','.*--decimal",
    ),
    "decimal points": (written("a;b;w", ";"), {"sep": ";", "decimal": ","}, r"choose decimal='\.'"),
    "thousands": ('n\n"12,345,678"\n' + "1\n" * 30, {}, "column 'n' has '12,345,678', .* without separators of thousands"),
    "thousands with blanks": ("n\n12 345\n" + "1\n" * 30, {}, "without separators of thousands"),
    "Swiss thousands": ("n\n12'345.5\n" + "1\n" * 30, {}, "without separators of thousands"),
    "percent": ("n\n" + "12%\n3.5%\n" * 20, {}, "column 'n' has '12%', which looks like a number: write it without a unit"),
    "money": ("n\n" + "$12\n$3.5\n" * 20, {}, "write it without a unit"),
    "utf-16 without a mark": (
        written().encode("utf-16-le"),
        {},
        "choose encoding, for .*utf-16.*--encoding.*got 'utf-8'",
    ),
    "latin-1": (written().encode("latin-1"), {}, "line 2 is not utf-8; choose encoding"),
    "a comment above": ("# from the lab\n" + written(), {}, "line 1 is a comment"),
    "a comment between": (written(comment="# a pause"), {}, "line 4 has 1 cells for 3 names: delete this comment"),
    "a question mark": (
        written().replace(str(A[3]), "?"),
        {},
        r"column 'a' has 39 numbers, .* 1 times: .*na=\['\?'\].*--na",
    ),
    "a hyphen": (written().replace(str(A[3]), "-"), {}, r"na=\['-'\]"),
    "a word": (written().replace(str(A[3]), "unknown"), {}, r"na=\['unknown'\]"),
    "one name twice": (written("a,a,w"), {}, "must have a name for every column; 'a' names 2 of them"),
    "one name twice but for blanks": (written("a,a ,w"), {}, "'a' names 2"),
    "no name": (written("a,,w"), {}, "column 2 of 3 has none"),
    "no names": (written("1,2,3"), {}, "line 1 has numbers alone"),
    "nothing": ("", {}, "it is empty"),
    "names alone": ("a,b\n", {}, "must have lines below"),
    "an open quote": (written() + '"1,2,up\n', {}, "is not CSV"),
    "two separators": (written(), {"sep": ", "}, "sep must be one character; got ', '"),
    "a letter as separator": (written(), {"sep": "e"}, "sep must be a character that no number"),
    "sep is decimal": (written(), {"decimal": ","}, "sep must be a character .* not decimal"),
    "decimal of two": (written(), {"decimal": ".."}, "decimal must be '.' or ','"),
    "unknown encoding": (written().encode(), {"encoding": "klingon"}, "encoding must be one that Python knows"),
    "na of one string": (written(), {"na": "NA"}, "na must be a list of strings; got 'NA'"),
}


@pytest.mark.parametrize(("content", "chosen", "message"), WRONG.values(), ids=WRONG)
def test_what_would_be_misread_is_one_error(content, chosen, message):
    file = io.StringIO(content) if isinstance(content, str) and "encoding" not in chosen else io.BytesIO(content)
    with pytest.raises(ValueError, match=message):
        read_csv(file, **chosen)


def test_numbers_come_back_as_pandas_writes_them():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"f": rng.normal(size=200) * 10.0 ** rng.integers(-9, 9, 200), "i": rng.integers(-(10**9), 10**9, 200)})
    pd.testing.assert_frame_equal(read_csv(io.StringIO(frame.to_csv(index=False))), frame)


def test_command_line_passes_the_options_on(tmp_path, capsys, monkeypatch):
    import remi

    seen = []

    def instead(x, y, **chosen):
        seen.append((x, y, chosen))
        raise ValueError("enough")

    monkeypatch.setattr(remi.estimation, "estimate_mi", instead)
    path = tmp_path / "data.csv"
    path.write_bytes(written("a\tb\tw", "\t", ",").encode("latin-1"))
    options = ["--sep", "tab", "--decimal", ",", "--encoding", "latin-1", "--na", "--series"]
    assert main(["estimate", str(path), "--x", "a", "--y", "w", *options]) == 1
    assert capsys.readouterr().err == "remi estimate: enough\n"
    (x, y, chosen) = seen[0]
    assert x["a"].tolist() == A
    assert y["w"].tolist() == WORDS
    assert chosen["series"] is True
    assert main(["estimate", str(path), "--x", "a", "--y", "w", *options[:6]]) == 1
    assert "column 'w' has no value in 10 of 40 rows" in capsys.readouterr().err
