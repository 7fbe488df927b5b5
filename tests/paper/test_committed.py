"""On another machine `make paper` says which digits differ, and whether a verdict does."""

import subprocess

import pytest

from remi.paper import committed

FIRST = {
    "claims.csv": "id,verdict\na,holds\nb,fails\n",
    "fig1.csv": "curve,x,y\nmine,1,2.0\nmine,2,4.0\n",
    "fig1.png": "picture",
}


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout with committed products."""
    where = tmp_path / "figures"
    where.mkdir()
    for name, text in FIRST.items():
        (where / name).write_text(text)
    for words in (("init", "-q"), ("add", "."), ("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "products")):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    monkeypatch.setattr(committed, "ROOT", tmp_path)
    return where


def test_the_same_bytes(checkout):
    assert committed.compare(checkout) == "Every product is byte for byte the committed one."


def test_other_digits_and_the_same_verdicts(checkout):
    (checkout / "fig1.csv").write_text(FIRST["fig1.csv"].replace("2.0", "2.04"))
    (checkout / "fig1.png").write_text("another")
    assert committed.compare(checkout).splitlines() == [
        "The committed verdicts.",
        "fig1.csv: numbers differ by at most 0.01 of the largest in their column (y)",
        "other products that differ: fig1.png",
    ]


def test_a_verdict_that_flips_is_named(checkout):
    (checkout / "claims.csv").write_text(FIRST["claims.csv"].replace("b,fails", "b,holds"))
    assert committed.compare(checkout) == "Verdicts differ from the committed ones: b fails -> holds"


def test_another_shape_is_said(checkout):
    (checkout / "fig1.csv").write_text(FIRST["fig1.csv"] + "mine,3,8.0\n")
    (checkout / "claims.csv").write_text(FIRST["claims.csv"] + "c,holds\n")
    found = committed.compare(checkout)
    assert "fig1.csv: 2 rows of 3 columns have become 3 of 3" in found
    assert "3 claims in place of 2" in found


def test_nothing_is_said_outside_a_checkout(tmp_path, checkout, monkeypatch):
    monkeypatch.setattr(committed, "ROOT", checkout / "elsewhere")
    assert committed.compare(checkout) == ""
