"""The digest of what code says: blind to comments, docstrings and layout, and to nothing else."""

import pytest

import remi
from remi.runs import statements

CODE = '"""A module."""\n\nX = (1, 2)\n\n\ndef f(a):\n    """Half of it."""\n    return a / 2\n'
SAME = {
    "a comment": CODE.replace("X =", "# of importance\nX ="),
    "a docstring": CODE.replace("Half of it.", "The half."),
    "no docstring": CODE.replace('    """Half of it."""\n', ""),
    "layout": CODE.replace("(1, 2)", "(\n    1,\n    2,\n)"),
}
OTHER = {
    "a number": CODE.replace("/ 2", "/ 3"),
    "an order": CODE.replace("1, 2", "2, 1"),
    "a text": CODE + "Y = 'docstring of nothing'\n",
    "a default": CODE.replace("f(a)", "f(a=1)"),
    "a line less": CODE.replace("X = (1, 2)\n", ""),
}


@pytest.fixture
def digest(tmp_path, monkeypatch):
    monkeypatch.setattr(remi, "__file__", str(tmp_path / "__init__.py"))
    (tmp_path / "floor").mkdir()

    def of(text):
        (tmp_path / "floor" / "room.py").write_text(text)
        return statements("floor")

    return of


@pytest.mark.parametrize("name", SAME)
def test_the_same_words(name, digest):
    assert digest(SAME[name]) == digest(CODE)


@pytest.mark.parametrize("name", OTHER)
def test_other_words(name, digest):
    assert digest(OTHER[name]) != digest(CODE)


def test_every_file_of_a_folder_counts(digest, tmp_path):
    before = digest(CODE)
    (tmp_path / "floor" / "another.py").write_text("Z = 1\n")
    assert statements("floor") != before
    assert statements("floor/another.py") not in (before, statements("floor"))
    with pytest.raises(FileNotFoundError):
        statements("nowhere.py")
