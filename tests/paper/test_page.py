import base64
import csv
import json
import re
import shutil
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from markupsafe import Markup
from matplotlib.figure import Figure
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from remi.paper import notebooks, page, prose
from remi.paper.claims import CLAIMS

ROWS = (
    ("drift-1", "Fig. 1", "MINE converges", "within 0.1 nat", "2.749 against 2.773", "holds", "It $= 2.77$ arrives."),
    ("drift-4", "Fig. 2", "The critic keeps moving", "AUC above 0.99", "0.999", "holds", "Nothing holds it."),
    ("explode-4", "Section 3", "The cause <script>alert(1)</script> & more", "stays", "sd 0.4", "fails", "It is another."),
    ("target-1", "Fig. 4", "Settles at C* = -5, or C* = 5", "within 0.2", "$C^* = -5.01$", "holds", "It is pinned."),
    ("thm-3", "Theorem 3", "Sample complexity", "the notebook's check", "", "untested", "No runs."),
    ("lambda-1", "Fig. 6", "Lambda trades", "4 of 6", "0", "undertrained", "Still learning."),
    ("lambda-2", "Fig. 6", "They align", "4 of 6", "3", "inconclusive", "Within its uncertainty."),
    ("smile-1", "Section 4", "Frozen", "gradient 0", "0", "identity", "The derivative is zero."),
    ("table2-clip", "ours", "It is the regularizer", "MI below 0.1", "0.3", "fails", "It needs both."),
)
HEADER = ("id", "source", "statement", "expected", "measured", "verdict", "profile", "why")
SUMMARY = """task,dataset,loss,regularized,clip,variant,lam,true_mi,n_ok,n,mi_mean,mi_ci95,accuracy_mean,accuracy_ci95,\
closed_form,published_mi_mean,published_mi_ci95,published_accuracy_mean,published_accuracy_ci95
clb,digits,nwj,False,none,original,,2.302,0,5,0.0,0.0,0.1,0.0,1.971,0.0,0.0,0.1,0.0
clb,digits,nwj,True,both,regularized,0.01,2.302,5,5,0.8412,0.1,0.91,0.02,1.971,1.91,0.662,0.831,0.005
clb,digits,nwj,True,none,regularizer only,0.01,2.302,4,5,-0.5,0.1,0.91,0.02,1.971,,,,
clb,digits,untrained,False,none,untrained,,2.302,5,5,,,0.83,0.02,,,,,
"""
TABLE2 = """Table 2, profile quick: digits. C\\* is no emphasis.

**Contrastive learning benchmark, digits**

| Loss | MI original | MI regularized |
|---|---|---|
| NWJ | 0.000 | <span style="color:#0077BB">0.841</span> ◆ |
| JS | **1.09** | 1.15 |
"""


def png(path: Path, width: float, height: float, seed: int) -> None:
    figure = Figure(figsize=(width, height), dpi=50)
    figure.subplots().plot(np.random.default_rng(seed).normal(size=20).cumsum())
    figure.savefig(path, dpi=50)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tmp_path = tmp_path_factory.mktemp("products")
    environment = {"python": "3.11.2", "torch": "2.15.0", "device": "cpu", "device_name": "x86_64"}
    record = {"profile": "quick", "seeds": 5, "runs": 10, "environment": [environment], "version": "0.1.0", "configuration": {}}
    for n in range(1, 8):
        png(tmp_path / f"fig{n}.png", 4, 2, n)
        caption = {"caption": f"Caption {n}: the term $E_Q[e^{{T-1}}]$ & its <target>."}
        (tmp_path / f"fig{n}.json").write_text(json.dumps(record | caption if n > 1 else {}))
        (tmp_path / f"fig{n}.csv").write_text("step\n1\n")
    (tmp_path / "table1.md").write_text("| Loss | Settings |\n|---|---|\n| MINE | λ (log E\\_Q[exp T] − C\\*)², $\\tau=10$ |\n")
    (tmp_path / "table2.md").write_text(TABLE2)
    (tmp_path / "table2.json").write_text(json.dumps(record | {"caption": "Table 2, profile quick: digits. C* is no emphasis."}))
    (tmp_path / "table2_summary.csv").write_text(SUMMARY)
    with (tmp_path / "claims.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        writer.writerows((*claim[:-1], "quick", claim[-1]) for claim in ROWS)
    return tmp_path


@pytest.fixture(scope="module")
def html(pristine: Path) -> str:
    return page.build(pristine, "quick")


@pytest.fixture
def products(pristine: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return shutil.copytree(pristine, tmp_path / "products")


class Reader(HTMLParser):
    """What a browser would see: tags with attributes, and text outside of styles."""

    VOID = ("meta", "img", "br", "link")
    INLINE = ("a", "strong", "em", "code", "span")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.text += " " * (tag not in self.INLINE)
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        self.text += " " * (tag not in self.INLINE)

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.text += data


def text_of(html: str) -> str:
    return " ".join(Reader(html).text.split())


def test_every_tag_is_closed_and_every_link_inside_has_a_target(html):
    reader = Reader(html)
    assert reader.open == []
    ids = [attributes["id"] for _, attributes in reader.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    inside = {attributes["href"][1:] for tag, attributes in reader.tags if tag == "a" and attributes["href"].startswith("#")}
    assert inside <= set(ids)
    assert {"claim-drift-1", "deviation-2", "fig7", "table2", "made"} <= inside


def test_nothing_is_requested_and_nothing_runs(html):
    tags = Reader(html).tags
    assert not {"script", "link", "iframe", "object", "embed", "base"} & {tag for tag, _ in tags}
    assert not [name for _, attributes in tags for name in attributes if name.startswith("on") or name == "srcset"]
    assert all(attributes["src"].startswith("data:image/png;base64,") for _, attributes in tags if "src" in attributes)
    assert re.findall(r"https?://[^\"< ]+", html) == ["https://arxiv.org/abs/2011.07932"]  # a plain link
    assert not re.search(r"url\(|@import|@font-face", html)
    assert """content="default-src 'none'; style-src 'unsafe-inline'; img-src data:\"""" in html  # a browser enforces it, too


def test_images_have_a_size_and_a_text(html):
    images = [attributes for tag, attributes in Reader(html).tags if tag == "img"]
    assert len(images) == 7
    assert {(image["width"], image["height"]) for image in images} == {("200", "100")}
    assert all(image["alt"] for image in images)


def test_text_of_products_is_escaped(html):
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; more" in html
    assert "its &lt;target&gt;." in html


def test_whatever_a_product_says_is_escaped(products):
    """Names of runs, claims, data sets and devices may come from somebody else's machine."""
    evil = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    environment = {"python": evil, "torch": evil, "device": evil, "device_name": evil}
    record = dict.fromkeys(("profile", "seeds", "runs", "version", "caption"), evil)
    record |= {"environment": [environment], "data": {evil: evil}}
    for name in ("fig2", "table2"):
        (products / f"{name}.json").write_text(json.dumps(record))
    summary = products / "table2_summary.csv"
    summary.write_text(SUMMARY + f"{evil},{evil},{evil},True,{evil},{evil},{evil},2.302,{evil},{evil},1.0,,,,,,,,\n")
    with (products / "claims.csv").open("a", newline="") as file:
        csv.writer(file).writerow([evil] * 5 + ["holds", evil, evil])
    page_with_it = page.build(products, "quick")
    test_nothing_is_requested_and_nothing_runs(page_with_it)
    assert page_with_it.count("&lt;script&gt;alert(1)") > 15


def test_verdicts_on_the_papers_claims_are_counted(pristine, html):
    claims = pd.read_csv(pristine / "claims.csv", keep_default_na=False)
    words = "3 hold, 1 fails, 1 is inconclusive, 1 is undertrained, 1 is an identity and 1 is untested"
    assert page.count(claims) == f"Of 8 statements of the paper, {words}. 1 more is about the released code or our own."
    assert page.count(claims[:2]) == "Of 2 statements of the paper, 2 hold and 0 fail."
    assert page.count(claims) in html
    table = html[html.index('<table class="judged">') : html.index('<section id="figures">')]
    found = Counter(row[5] for row in ROWS)
    assert set(found) == set(page.VERDICTS)
    for word, number in found.items():
        assert len(re.findall(rf'<span class="verdict {word}"><span aria-hidden="true">.</span> {word}</span>', table)) == number


def test_a_claim_of_no_known_kind_is_still_in_the_table(products):
    with (products / "claims.csv").open("a") as file:
        file.write("new-1,ours,Something else,x,y,holds,desk,Because it is.\n")
    text = text_of(page.build(products, "quick"))
    assert "Other ✓ holds Something else Because it is. new-1 · ours · profile desk" in text


@pytest.mark.parametrize("profile", ["quick", "desk"])
def test_a_claim_is_shown_at_the_largest_profile_that_could_judge_it(products, profile):
    (products / "desk").mkdir()
    rows = ("lambda-1", "holds", "6"), ("drift-1", "undertrained", ""), ("drift-4", "fails", "0.5")
    lines = [f"{name},Fig. 6,Anything,x,{measured},{word},desk,At desk." for name, word, measured in rows]
    (products / "desk" / "claims.csv").write_text("\n".join([",".join(HEADER), *lines]))
    if profile == "desk":
        for path in products.iterdir():
            if path.is_file() and path.name != "claims.csv":
                shutil.copy(path, products / "desk")
    where = products if profile == "quick" else products / "desk"
    page_with_it = page.build(where, profile)
    text = text_of(page_with_it)
    assert ("Anything At desk. lambda-1 · Fig. 6 · profile desk" in text) == (profile == "quick")
    assert "✓ holds Anything At desk. lambda-1" in text
    assert "✓ holds MINE converges It" in text
    assert "✗ fails Anything At desk. drift-4" in text


def test_the_reason_stands_beside_the_statement_and_the_measured_value(html):
    assert text_of(html).count("It is another.") == 2  # in the list of all, and at Fig. 3
    assert '<p class="why">It <math' in html


@pytest.mark.parametrize("verdict", ["", "perhaps"])
def test_an_unknown_verdict_is_an_error(products, verdict):
    with (products / "claims.csv").open("a") as file:
        file.write(f"new-1,ours,Something else,x,y,{verdict},quick,w\n")
    with pytest.raises(
        ValueError, match=r"verdict of 'new-1' must be one of holds, fails, inconclusive, undertrained, identity, "
    ):
        page.build(products, "quick")


@pytest.mark.parametrize(
    "name", ["fig1.png", "fig7.json", "claims.csv", "table1.md", "table2.md", "table2.json", "table2_summary.csv"]
)
def test_a_missing_product_is_named(products, name):
    (products / name).unlink()
    with pytest.raises(ValueError, match=rf"needs {re.escape(name)}"):
        page.build(products, "quick")


@pytest.mark.parametrize(("name", "content"), [("fig1.png", b"no image"), ("fig2.json", b"{"), ("fig3.json", b"3")])
def test_a_broken_product_is_named(products, name, content):
    (products / name).write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(name)):
        page.build(products, "quick")


def test_table2_stands_beside_the_published_numbers(html):
    text = text_of(html)
    assert (
        "Contrastive learning benchmark, digits: the truth is 2.302 NWJ 0.000 ± 0.000 0.000 ± 0.000 1.971 0.100 ± 0.000" in text
    )
    assert "ReNWJ 0.01 0.841 ± 0.100 1.910 ± 0.662 1.971 0.910 ± 0.020 0.831 ± 0.005 5/5" in text
    assert "ReNWJ, no clip 0.01 −0.500 ± 0.100 1.971 0.910 ± 0.020 4/5" in text
    assert "untrained 0.830 ± 0.020 5/5" in text


def test_the_page_says_how_it_was_made(pristine):
    text = text_of(page.build(pristine, "desk"))
    assert "make paper PROFILE=desk" in text
    assert "fig2 quick 5 10 cpu x86_64 python 3.11.2, torch 2.15.0, remi 0.1.0" in text
    assert "fig1 fig2" in text  # an empty record leaves its cells empty


def test_a_caption_is_not_printed_twice(html):
    assert text_of(html).count("C* is no emphasis") == 1


def test_the_page_is_the_same_every_time(products, html):
    assert page.build(products, "quick") == html


def test_mathematics_becomes_mathml_and_no_dollar_is_left(html):
    assert html.count("<math ") > 80
    assert html.count("<math ") == html.count("</math>")
    assert "$" not in html
    assert "\\" not in Reader(html).text
    assert "<msup><mi>e</mi><mrow><mi>T</mi><mo>−</mo><mn>1</mn></mrow></msup>" in html
    assert "xmlns" not in html


def test_deviations_are_numbered_and_complete():
    text = (page.ROOM / "deviations.md").read_text()
    items = re.split(r"(?m)^\d+\. ", text)[1:]
    assert re.findall(r"(?m)^(\d+)\. \*\*", text) == [str(n) for n in range(1, len(items) + 1)]
    assert all("*Effect:*" in item for item in items)
    code = text[: text.index("## Statements")]
    assert all(f"*{who}:*" in item for item in re.split(r"(?m)^\d+\. ", code)[1:] for who in ("Paper", "Released code", "remi"))
    assert text.count("$") % 2 == 0
    html = prose.markdown(text, anchor="deviation")
    assert [int(n) for n in re.findall(r'id="deviation-(\d+)"', html)] == list(range(1, len(items) + 1))


def test_mentions_of_claims_are_links(html):
    assert 'claim <a href="#claim-table2-clip">table2-clip</a>, not table2-clipped' in page._linked(
        Markup("claim table2-clip, not table2-clipped"), [{"id": "table2-clip"}, {"id": "table2"}]
    )
    assert '<a href="#claim-table2-clip">table2-clip</a>' in html[html.index('id="deviation-8"') : html.index('id="deviation-9"')]


def test_deviations_name_claims_that_exist():
    known = {claim.id for claim in CLAIMS}
    kinds = {claim.split("-")[0] for claim in known}
    named = set(re.findall(r"\b([a-z0-9]+(?:-[a-z0-9]+)+)\b", (page.ROOM / "deviations.md").read_text()))
    assert {name for name in named if name.split("-")[0] in kinds} <= known
    assert "stable-2-released" in named
    assert all(page._section(name) != "Other" for name in known)


@pytest.fixture(scope="module")
def derivation(pristine: Path):
    """An executed notebook with everything that a chapter may hold; its product lies beside the others."""
    for name, seed in (("derivation2", 8), ("other", 9)):
        png(pristine / f"{name}.png", 4, 2, seed)
    (pristine / "derivation2.json").write_text(json.dumps({"profile": "quick", "caption": "The constant $C_t$ & what it costs."}))
    pictures = [
        new_output(
            "display_data",
            {"image/png": base64.encodebytes((pristine / f"{name}.png").read_bytes()).decode(), "text/plain": "<i>"},
        )
        for name in ("derivation2", "fig1", "other", "other")
    ]
    first = "<td onclick='x'>thm-3<script>alert(2)</script></td>"
    rows = f"<thead><tr><th>id</th></tr></thead><tbody><tr>{first}<td><b>1 &lt; 2</b></td></tr></tbody>"
    html = f"<style>a</style><iframe src='https://a.b'></iframe><table class='dataframe'>{rows}</table>"
    return new_notebook(
        cells=[
            new_markdown_cell("# Samples: $n$ of them\n\nWhy <script>alert(1)</script> thm-3, and\n$$E_P[T] \\le \\log 2.$$"),
            new_markdown_cell(
                "## Links\n[a](fig3_explosion.ipynb) [b](derivation2_samples.ipynb) [c](derivation9_x.ipynb) [d](x.html)"
            ),
            new_markdown_cell("### Proof"),
            new_code_cell(
                "hidden = 1", outputs=[new_output("stream", name="stdout", text="    def f():\n        return '<b>'\n")]
            ),
            new_code_cell("", outputs=[new_output("stream", name="stderr", text="a warning"), *pictures]),
            new_code_cell(
                "", outputs=[new_output("execute_result", {"text/html": html, "text/plain": "a table"}, execution_count=1)]
            ),
            new_code_cell("", outputs=[new_output("execute_result", {"text/plain": "0.25 & more"}, execution_count=2)]),
        ]
    )


@pytest.fixture(scope="module")
def chapter(pristine: Path, derivation) -> str:
    """The page with that derivation."""
    return page.build(pristine, "quick", {"derivation2_samples": derivation})


def test_a_derivation_becomes_a_chapter_without_its_code(chapter):
    text = text_of(chapter[chapter.index('<section id="derivation2"') : chapter.index('<section id="cite">')])
    assert "Derivation 2. Samples: n of them" in text
    assert "notebooks/derivation2_samples.ipynb" in text
    assert "hidden" not in text
    assert "a warning" not in text
    assert "<pre>def f():\n    return &#39;&lt;b&gt;&#39;</pre>" in chapter
    assert "<pre>0.25 &amp; more</pre>" in chapter
    assert "<h3>Links</h3>" in chapter
    assert "<h4>Proof</h4>" in chapter


def test_what_a_derivation_holds_is_safe(chapter):
    test_nothing_is_requested_and_nothing_runs(chapter)
    test_every_tag_is_closed_and_every_link_inside_has_a_target(chapter)
    assert "Why &lt;script&gt;alert(1)&lt;/script&gt;" in chapter
    cells = '<td><a href="#claim-thm-3">thm-3</a></td><td>1 &lt; 2</td>'
    assert f"<table><thead><tr><th>id</th></tr></thead><tbody><tr>{cells}</tr></tbody></table>" in chapter
    assert '<a href="#fig3">a</a> <a href="#derivation2">b</a> c d' in chapter


def test_each_picture_is_shown_once(chapter):
    sources = [attributes["src"] for tag, attributes in Reader(chapter).tags if tag == "img"]
    assert len(sources) == len(set(sources)) == 7 + 2
    assert chapter.count('The picture is in <a href="#fig1">Fig. 1</a>.') == 1
    assert chapter.count('The picture is in <a href="#derivation2">Derivation 2</a>.') == 1
    assert chapter.count("&amp; what it costs.</figcaption>") == 1


def test_theorems_lead_to_the_chapter_that_judges_them(chapter, html):
    link = '<a href="#derivation2">Derivation 2</a>'
    theorems = chapter[chapter.index('<section id="theorems">') : chapter.index('<section id="table1">')]
    assert f'<a class="id" href="#claim-thm-3">thm-3</a> · {link}' in theorems
    row = chapter[chapter.index('<tr id="claim-thm-3">') :]
    assert link in row[: row.index("</tr>")]
    assert f"<li>{link}</li>" in chapter[: chapter.index("</nav>")]
    assert "Derivation" not in html


@pytest.mark.parametrize(("source", "message"), [("No title", "begin with a title"), ("# T\n$a_b_c$", r"no formula: \$a_b_c\$")])
def test_a_broken_derivation_is_named(pristine, source, message):
    with pytest.raises(ValueError, match=f"derivation1_x: .*{message}"):
        page.build(pristine, "quick", {"derivation1_x": new_notebook(cells=[new_markdown_cell(source)])})


def test_figures_name_notebooks_that_exist(html):
    named = re.findall(r"Notebook: <code>notebooks/(\w+)\.ipynb</code>", html)
    assert len(named) == 8
    assert set(named) <= {path.stem for path in notebooks.NOTEBOOKS.glob("*.ipynb")}
