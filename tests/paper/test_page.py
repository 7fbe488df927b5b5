import csv
import json
import re
import shutil
from collections import Counter
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from fontTools.ttLib import TTFont
from markupsafe import Markup
from matplotlib.figure import Figure
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from remi.paper import notebooks, page, prose
from remi.paper.claims import CLAIMS
from remi.paper.verdicts import OURS, VERDICTS

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
SUMMARY = """task,dataset,loss,regularized,clip,variant,lam,true_mi,n_ok,settled,n,mi_mean,mi_ci95,accuracy_mean,accuracy_ci95,\
closed_form,published_mi_mean,published_mi_ci95,published_accuracy_mean,published_accuracy_ci95
clb,digits,nwj,False,none,original,,2.302,0,5,5,0.0,0.0,0.1,0.0,1.971,0.0,0.0,0.1,0.0
clb,digits,nwj,True,both,regularized,0.01,2.302,5,5,5,0.8412,0.1,0.91,0.02,1.971,1.91,0.662,0.831,0.005
clb,digits,nwj,True,none,regularizer only,0.01,2.302,4,3,5,-0.5,0.1,0.91,0.02,1.971,,,,
clb,digits,untrained,False,none,untrained,,2.302,5,5,5,,,0.83,0.02,,,,,
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
    for n, place in enumerate(page.PLACES):
        png(tmp_path / f"{place.picture}.png", 8, 2, n)
        caption = {"caption": f"Caption {n}: the term $E_Q[e^{{T-1}}]$ & its <target>."}
        (tmp_path / f"{place.stem}.json").write_text(json.dumps(record | caption if n else {}))
        (tmp_path / f"{place.stem}.csv").write_text("step\n1\n")
    (tmp_path / "table1.md").write_text("| Loss | Settings |\n|---|---|\n| MINE | λ (log E\\_Q[exp T] − C\\*)², $\\tau=10$ |\n")
    (tmp_path / "table2.md").write_text(TABLE2)
    (tmp_path / "table2_summary.csv").write_text(SUMMARY)
    with (tmp_path / "claims.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        writer.writerows((*claim[:-1], "quick", claim[-1]) for claim in ROWS)
    return tmp_path


def told(place: page.Place):
    """A notebook with everything that the page takes from one, and what it leaves there."""
    return new_notebook(
        cells=[
            new_markdown_cell(f"# {place.stem}: $n$ of them\n\nWhy <script>alert(1)</script> of {place.stem}?\n\n*Cost: none.*"),
            new_markdown_cell("## Proof\n\nToo long $a_{b_c}$."),
            new_code_cell(f"hidden = 1\nfigures.save('{place.stem}')"),
            new_markdown_cell("**Left.** As [Fig. 3](fig3_a.ipynb) and [x](x.html), deviation 2.\n\n## Verdicts\n\nThresholds."),
            new_markdown_cell("## Where this differs from the paper\n\nIn $\\tau$.\n\n**Try next.** The sea."),
        ]
    )


TOLD = {place.notebook: told(place) for place in page.PLACES}


@pytest.fixture(scope="module")
def html(pristine: Path) -> str:
    return page.build(pristine, "quick", TOLD)


@pytest.fixture
def products(pristine: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return shutil.copytree(pristine, tmp_path / "products")


class Reader(HTMLParser):
    """What a browser would see: tags with attributes, and text outside of styles."""

    VOID = ("meta", "img", "br", "link", "input")
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
    assert {"claim-drift-1", "claim-explode-4", "deviation-2", "fig7", "table2", "numbers", "made"} <= inside


def test_links_lead_to_the_files_beside_the_page(html, pristine):
    outside = {a["href"] for tag, a in Reader(html).tags if tag == "a" and not a["href"].startswith("#")}
    files = outside - {"https://arxiv.org/abs/2011.07932"}
    assert len(files) == 2 * len(page.PLACES)
    assert all((pristine / name).is_file() for name in files)


def test_nothing_is_requested_and_nothing_runs(html):
    tags = Reader(html).tags
    assert not {"script", "link", "iframe", "object", "embed", "base"} & {tag for tag, _ in tags}
    assert not [name for _, attributes in tags for name in attributes if name.startswith("on") or name == "srcset"]
    assert all(attributes["src"].startswith("data:image/png;base64,") for _, attributes in tags if "src" in attributes)
    assert re.findall(r"https?://[^\"< ]+", html) == ["https://arxiv.org/abs/2011.07932"]  # a plain link
    assert re.findall(r"url\(([^;)]*)|(@import)", html) == [("data:font/woff", "")]  # the letters of formulas
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:"
    assert f'content="{policy}"' in html  # a browser enforces it, too


def test_images_have_a_size_and_become_larger_on_a_tap(html):
    images = [attributes for tag, attributes in Reader(html).tags if tag == "img"]
    small, large = images[: len(page.FIRST)], images[len(page.FIRST) :]
    assert {(image["width"], image["height"]) for image in small} == {("360", "90")}  # their links say what they are
    assert {(image["width"], image["height"]) for image in large} == {("400", "100")}
    assert [image["alt"] for image in large] == [place.label for place in page.PLACES]
    boxes = re.findall(r'<label class="card"><input type="checkbox" aria-label="Enlarge ([^"]*)"><img ', html)
    assert boxes == [image["alt"] for image in large]
    assert "input:checked + img { max-width: none;" in html


def test_the_font_has_every_letter_of_every_formula():
    """Also those that a browser puts in the place of a single letter: x becomes an italic x of the mathematical alphabet."""
    font = TTFont(page.ROOM / "templates" / "mathematics.woff")
    texts = [(page.ROOM / "deviations.md").read_text()]
    for path in notebooks.found():
        texts += [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown"]
    formulas = re.findall(r"<math.*?</math>", "".join(map(prose.markdown, texts)), flags=re.DOTALL)
    assert len(formulas) > 1500
    used = {letter for formula in formulas for letter in unescape(re.sub("<[^>]*>", "", formula))}
    italic = {chr(0x1D434 + ord(x) - ord("A")) for x in map(chr, range(65, 91))} | {chr(c) for c in range(0x1D44E, 0x1D468)}
    wanted = {x for x in used | italic if not x.isspace()} - {chr(0x1D455)}  # italic h is Planck's
    assert wanted <= set(map(chr, font.getBestCmap()))
    assert "MATH" in font
    assert "STIX" not in font["name"].getDebugName(1)  # its licence reserves the name


def test_text_of_products_is_escaped(html):
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; more" in html
    assert "its &lt;target&gt;." in html
    assert "Why &lt;script&gt;alert(1)&lt;/script&gt; of fig1?" in html


def test_whatever_a_product_says_is_escaped(products):
    """Names of runs, claims, data sets and devices may come from somebody else's machine."""
    evil = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    environment = {"python": evil, "torch": evil, "device": evil, "device_name": evil}
    record = dict.fromkeys(("profile", "seeds", "runs", "version", "caption"), evil)
    record |= {"environment": [environment], "data": {evil: evil}}
    for name in ("fig2", "table2"):
        (products / f"{name}.json").write_text(json.dumps(record))
    summary = products / "table2_summary.csv"
    summary.write_text(SUMMARY + f"{evil},{evil},{evil},True,{evil},{evil},{evil},2.302,{evil},1,5,1.0,,,,,,,,\n")
    with (products / "claims.csv").open("a", newline="") as file:
        csv.writer(file).writerow([evil] * 5 + ["holds", evil, evil])
    page_with_it = page.build(products, "quick", TOLD)
    test_nothing_is_requested_and_nothing_runs(page_with_it)
    assert page_with_it.count("&lt;script&gt;alert(1)") > 15


def test_verdicts_on_the_papers_claims_are_counted(pristine, html):
    claims = pd.read_csv(pristine / "claims.csv", keep_default_na=False)
    words = "3 hold, 1 fails, 1 is inconclusive, 1 is undertrained, 1 is an identity and 1 is untested"
    assert page.count(claims) == f"Of 8 statements of the paper, {words}. 1 more is about the released code or our own."
    assert page.count(claims[:2]) == "Of 2 statements of the paper, 2 hold and 0 fail."
    assert page.count(claims) in html
    found = Counter(row[5] for row in ROWS)
    assert set(found) == set(page.MARKS)
    for word, number in found.items():
        assert (
            html.count(f'<span class="verdict {word}"><span aria-hidden="true">{page.MARKS[word]}</span> {word}</span>') == number
        )


def test_the_first_screen_says_what_holds_what_does_not_and_what_is_undecided_and_why(html):
    text = text_of(html[: html.index("<nav")])
    assert page.count(pd.DataFrame(ROWS, columns=(*HEADER[:6], "why"))) in text
    assert "the paper says quick Fig. 1 MINE drifts, NWJ does not ✓ Fig. 2" in text
    assert "What does not hold explode-4: It is another. What is undecided" in text  # table2-clip is ours
    reasons = ("undertrained", "lambda-1"), ("inconclusive", "lambda-2"), ("untested", "thm-3")
    for word, claim in reasons:
        assert f"1 {word}: {VERDICTS[word]} {claim}" in text
    assert "quick published NWJ 0.000 → 0.841 0.000 → 1.910 Contrastive" in text
    assert html[: html.index("<nav")].count("<img ") == 5


def test_what_the_paper_does_not_claim_is_marked_on_grey(html):
    marks = [tag for name, tag in Reader(html[: html.index("<nav")]).tags if name == "a" and "mark" in (tag.get("class") or "")]
    grey = {tag["href"] for tag in marks if "ours" in tag["class"].split()}
    assert grey == {f"#claim-{row[0]}" for row in ROWS if row[1] in OURS}
    assert 0 < len(grey) < len(marks)


def test_a_claim_of_no_known_kind_is_still_in_the_table(products):
    with (products / "claims.csv").open("a") as file:
        file.write("new-1,ours,Something else,x,y,holds,desk,Because it is.\n")
    text = text_of(page.build(products, "quick", TOLD))
    assert "Other statements ✓ holds Something else Because it is. Expected: x. Measured: y. new-1 · ours · profile desk" in text


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
    page_with_it = page.build(where, profile, TOLD)
    text = text_of(page_with_it)
    where = " · profile desk" * (profile == "quick")
    assert f"✓ holds Anything At desk. Expected: x. Measured: 6. lambda-1 · Fig. 6{where} " in text
    assert "✓ holds MINE converges It" in text
    assert "✗ fails Anything At desk. Expected: x. Measured: 0.5. drift-4" in text
    assert "the paper says quick desk Fig. 1 MINE drifts, NWJ does not ✓ … Fig. 2" in text


def test_the_reason_stands_beside_the_statement_and_the_measured_value(html):
    row = html[html.index('<li id="claim-drift-1">') :]
    row = row[: row.index("</li>")]
    assert '<p class="why">It <math' in row
    assert "Expected: within 0.1 nat. Measured: 2.749 against 2.773." in text_of(row)


@pytest.mark.parametrize("verdict", ["", "perhaps"])
def test_an_unknown_verdict_is_an_error(products, verdict):
    with (products / "claims.csv").open("a") as file:
        file.write(f"new-1,ours,Something else,x,y,{verdict},quick,w\n")
    with pytest.raises(
        ValueError, match=r"verdict of 'new-1' must be one of holds, fails, inconclusive, undertrained, identity, "
    ):
        page.build(products, "quick", TOLD)


@pytest.mark.parametrize(
    "name",
    ["fig1.png", "fig7.json", "claims.csv", "table1.md", "table2.md", "table2_slopes.png", "table2.json", "table2_summary.csv"],
)
def test_a_missing_product_is_named(products, name):
    (products / name).unlink()
    with pytest.raises(ValueError, match=rf"needs {re.escape(name)}"):
        page.build(products, "quick", TOLD)


@pytest.mark.parametrize(("name", "content"), [("fig1.png", b"no image"), ("fig2.json", b"{"), ("fig3.json", b"3")])
def test_a_broken_product_is_named(products, name, content):
    (products / name).write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(name)):
        page.build(products, "quick", TOLD)


def test_table2_stands_beside_the_published_numbers_and_the_other_profiles(products, html):
    text = text_of(re.search('<table class="numbers">.*?</table>', html, re.DOTALL)[0])
    title = "Contrastive learning benchmark, 10 classes: the truth is 2.303 (quick: digits{})"
    assert title.format("") + " NWJ 0.000 ± 0.000 (0/5) 0.000 ± 0.000 1.971 0.100 ± 0.000 0.100 ± 0.000" in text
    assert "ReNWJ 0.841 ± 0.100 1.910 ± 0.662 1.971 0.910 ± 0.020 0.831 ± 0.005" in text
    assert "ReNWJ, no clip −0.500 ± 0.100 (4/5) … 1.971 0.910 ± 0.020" in text
    assert "untrained 0.830 ± 0.020" in text
    (products / "desk").mkdir()
    (products / "desk" / "table2_summary.csv").write_text(SUMMARY.replace("digits", "cifar-10").replace("0.8412", "0.5"))
    with_desk = page.build(products, "quick", TOLD)
    text = text_of(re.search('<table class="numbers">.*?</table>', with_desk, re.DOTALL)[0])
    assert title.format("; desk: CIFAR-10") in text
    assert "ReNWJ 0.841 ± 0.100 0.500 ± 0.100 1.910 ± 0.662 1.971 0.910 ± 0.020 0.910 ± 0.020 0.831 ± 0.005" in text
    assert "quick desk published NWJ 0.000 → 0.841 0.000 → 0.500 0.000 → 1.910 Contrastive" in text_of(with_desk)


def test_the_page_says_how_it_was_made(pristine):
    text = text_of(page.build(pristine, "desk", TOLD))
    assert "make paper PROFILE=desk" in text
    assert "fig2 quick 5 10 cpu x86_64 python 3.11.2, torch 2.15.0, remi 0.1.0" in text
    assert "fig1 fig2" in text  # an empty record leaves its cells empty


def test_the_page_is_the_same_every_time(products, html):
    assert page.build(products, "quick", TOLD) == html


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
    assert {claim.figure for claim in CLAIMS if claim.source not in OURS} <= {place.stem for place in page.PLACES}


def test_a_section_has_the_texts_of_its_notebook(html):
    section = html[html.index('<section id="derivation2"') : html.index('<section id="derivation3"')]
    text = text_of(section)
    assert "Derivation 2. derivation2: n of them Why <script>alert(1)</script> of derivation2? Caption 9: the term" in text
    assert "Left. As Fig. 3 and x, deviation 2. … Sample complexity No runs." in text.replace("– untested", "…")
    assert '<a href="#fig3">Fig. 3</a> and x, <a href="#deviation-2">deviation 2</a>.' in section
    assert "Where this differs from the paper In τ ." in text
    assert not [word for word in ("Cost", "Proof", "hidden", "Verdicts", "Thresholds", "Try next") if word in text]


@pytest.mark.parametrize(("source", "message"), [("No title", "begin with a title"), ("# T\n$a_b_c$", r"no formula: \$a_b_c\$")])
def test_a_broken_notebook_is_named(pristine, source, message):
    broken = new_notebook(cells=[new_markdown_cell(source)])
    with pytest.raises(ValueError, match=f"derivation1_dual_representations: .*{message}"):
        page.build(pristine, "quick", TOLD | {"derivation1_dual_representations": broken})


def test_a_missing_notebook_is_named(pristine):
    with pytest.raises(ValueError, match="needs the notebook fig2_critic_outputs; got fig1_drift"):
        page.build(pristine, "quick", {"fig1_drift": TOLD["fig1_drift"]})


def test_every_notebook_tells_its_picture():
    """The rule by which the page finds the reading finds one in each."""
    for place in page.PLACES:
        cells = nbformat.read(notebooks.NOTEBOOKS / f"{place.notebook}.ipynb", as_version=4).cells
        reading, differs = page._reading(cells)
        assert len(reading) > 200, place.notebook
        assert not reading.rstrip().endswith(":"), place.notebook
        assert differs or place.stem in ("beyond", "remedies"), place.notebook  # these go on where the paper ends
