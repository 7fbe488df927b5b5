"""The site is built without a warning, from what is committed; every link in it leads somewhere, and it asks for nothing."""

import re
import shutil
import subprocess
import sys
from functools import cache
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parents[2]


class Page(HTMLParser):
    """The links of a page, what it loads, and the places in it that a link can lead to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.loads: set[str] = set()
        self.places: set[str] = set()
        self.feed(path.read_text())

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.places |= {found[name] for name in ("id", "name") if found.get(name)}
        if tag == "a" and found.get("href"):
            self.links.add(found["href"])
        elif found.get("src") or (tag == "link" and found.get("href")):
            self.loads.add(found.get("src") or found["href"])


page_of = cache(Page)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `make site` makes it."""
    pytest.importorskip("myst_nb")
    pytest.importorskip("furo")
    room = tmp_path_factory.mktemp("site")
    source, site = room / "source", room / "html"
    shutil.copytree(ROOT / "docs", source)
    for name in ("notebooks", "figures"):
        shutil.copytree(ROOT / name, source / name)
    shutil.copy(ROOT / "remi" / "paper" / "deviations.md", source)
    command = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "-b", "html", "-c", str(ROOT / "docs")]
    command += ["-d", str(room / "doctrees")]
    done = subprocess.run([*command, str(source), str(site)], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    shutil.copytree(ROOT / "figures", site / "figures")
    return site


def test_every_notebook_has_a_line_in_the_contents():
    named = re.findall(r"<notebooks/(\w+)>", (ROOT / "docs" / "index.md").read_text())
    assert sorted(named) == sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.slow
def test_every_link_leads_somewhere_and_nothing_is_requested(site):
    pages = [path for path in site.rglob("*.html") if "figures" not in path.parts]
    assert len(pages) > 100
    broken = []
    for path in pages:
        page = page_of(path)
        for link in page.links | page.loads:
            if re.match(r"https?:", link):
                assert link not in page.loads, f"{path.name} loads {link}"
                continue
            name, _, anchor = link.partition("#")
            target = (path.parent / unquote(name.partition("?")[0])).resolve() if name else path
            if not target.is_file() or (anchor and target.suffix == ".html" and unquote(anchor) not in page_of(target).places):
                broken.append(f"{path.relative_to(site)}: {link}")
    assert not broken


@pytest.mark.slow
def test_notebooks_are_shown_as_they_are_committed_with_formulas_that_need_no_script(site):
    names = {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert names == {path.stem for path in (site / "notebooks").glob("*.html")}
    text = (site / "notebooks" / "fig4_target.html").read_text()
    assert "C* = -5: largest objective 1.9608" in text  # a printed output
    assert '<div class="formula"><math display="block">' in text
    assert not re.search(r"<script[^>]*(mathjax|katex)", text, re.IGNORECASE)
    assert "Remi Math" in (site / "_static" / "site.css").read_text()
    assert (site / "_static" / "mathematics.woff").is_file()


@pytest.mark.slow
def test_the_reference_is_the_docstrings(site):
    text = (site / "reference" / "remi.losses.estimators.html").read_text()
    formulas = [unescape(re.sub("<[^>]*>", "", found)).strip() for found in re.findall("<pre>.*?</pre>", text, re.DOTALL)]
    assert "I(X; Y)  >=  E_P[T] - log E_Q[exp T]" in formulas
    assert "dP/dQ + C for every constant C." in text
    assert "searchindex.js" in (site / "search.html").read_text()
