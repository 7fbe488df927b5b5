"""README is true: its links exist, its commands are targets, its table is the products' own; `test_core` runs its Python."""

import io
import re
import subprocess
import tarfile
from pathlib import Path

import pandas as pd
import pytest

from remi.paper import claims, figures, report
from remi.paper.verdicts import VERDICTS

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL)


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\((?!http)([^)#]+)\)", TEXT))))
def test_links_exist(target):
    assert (ROOT / target).exists()


def test_commands_are_targets():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", "\n".join(blocks("")), flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE)


def test_is_short():
    assert len(TEXT.splitlines()) <= 150


@pytest.fixture
def committed(tmp_path, monkeypatch):
    """The tables as they are committed: `make paper` on another kind of CPU leaves other digits in the work tree."""
    archive = subprocess.run(["git", "archive", "HEAD", "figures/*.csv"], cwd=ROOT, capture_output=True)
    if archive.returncode:
        pytest.skip("README is held against the committed products, and this is no git checkout")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tables:
        tables.extractall(tmp_path, filter="data")
    monkeypatch.setattr(figures, "PRODUCTS", tmp_path / "figures")
    return tmp_path / "figures"


def test_verdicts_are_those_of_the_products(committed):
    verdicts = claims.of_the_paper(claims.committed(committed))
    rows = re.findall(r"^\| (fig\d|table2|derivation\d) .*\| (\d+) of (\d+)((?:; [^|]+)?) \|$", TEXT, flags=re.MULTILINE)
    assert len(rows) == 12
    assert sum(int(holds) for _, holds, _, _ in rows) == (verdicts.verdict == "holds").sum()
    assert sum(int(count) for _, _, count, _ in rows) == len(verdicts)
    named = [part.strip().partition(": ") for *_, parts in rows for part in parts.split(";")]
    for word in VERDICTS:
        found = {name for verdict, _, names in named if verdict == word for name in names.split(", ")}
        assert found == (set(verdicts.id[verdicts.verdict == word]) if word != "holds" else set())


def test_a_score_names_what_does_not_hold_and_what_a_larger_profile_says():
    def score(**words):
        parts = [value.split() for value in words.values()]
        rows = zip(words, (part[0] for part in parts), (part[1] for part in parts), strict=True)
        return report.score(pd.DataFrame(rows, columns=["id", "verdict", "profile"]))

    assert score(a="holds quick", b="holds quick") == "2 of 2"
    assert score(a="identity quick", b="fails quick", c="holds quick", d="fails quick") == "1 of 4; fails: b, d; identity: a"
    assert score(a="holds desk", b="undertrained quick") == "1 of 2; undertrained: b; at desk: a"
    assert score(a="inconclusive paper") == "0 of 1; inconclusive: a; at paper"
    assert report.score(pd.DataFrame(columns=["id", "verdict", "profile"])) == "–"


def test_make_readme_refreshes_both_tables(committed, tmp_path, monkeypatch):
    start, end = report.MARKERS
    emptied = re.sub(f"{start}.*?{end}", f"{start}\nold\n{end}", TEXT, flags=re.DOTALL)
    monkeypatch.setattr(report, "README", tmp_path / "README.md")
    monkeypatch.setattr(report, "_minutes", lambda stem: "1 s")
    report.README.write_text(emptied)
    report.readme()
    found, there = (
        re.sub(r"\| [^|]* \| ([^|]* \|)$", r"| \1", text, flags=re.MULTILINE) for text in (report.README.read_text(), TEXT)
    )
    assert found == there  # all but the times
    report.README.write_text(emptied.replace(end, ""))
    with pytest.raises(ValueError, match=r"README.md must contain the markers .* twice; they are there 0 times"):
        report.readme()
