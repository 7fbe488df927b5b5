"""The report as one self-contained HTML page, built from a folder of products and the executed derivations.

Text in products, notebooks and `deviations.md` is Markdown, which `prose` reads.
"""

import base64
import csv
import io
import json
import re
import struct
import textwrap
from collections import Counter
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from bs4 import BeautifulSoup, Tag
from markupsafe import Markup
from nbformat import NotebookNode

from remi.losses import LABELS
from remi.paper.claims import CLAIMS, committed, of_the_paper
from remi.paper.prose import SCROLL, inline, markdown
from remi.paper.table2 import TASKS
from remi.paper.verdicts import Verdict

ROOM = Path(__file__).parent
Row = dict[str, str]

VERDICTS = {"holds": "✓", "fails": "✗", "inconclusive": "≈", "undertrained": "…", "identity": "=", "untested": "–"}
SECTIONS = {
    "Section 3: instability": ("drift", "explode"),
    "Section 4: regularization": ("target", "stable", "smile"),
    "Theorems": ("thm", "average"),
    "Section 5: experiments": ("gauss", "table2", "lambda"),
    "Other": (),
}
PLACES = {claim.id: claim.figure for claim in CLAIMS}  # where a claim is shown again: a figure, a table or a derivation
CHAPTERS = dict.fromkeys(("explode-4", "explode-5"), "derivation5")  # claims of a figure that a derivation judges as well
SCALES = {
    "quick": "small enough for any laptop: the paper's settings in Figs. 1 to 5, a shorter Fig. 7, and handwritten digits in "
    "place of CIFAR in Fig. 6 and Table 2",
    "desk": "the paper's settings in Figs. 1 to 5 and 7, and 10,000 images of CIFAR-10 in Fig. 6 and Table 2",
    "paper": "the size of the paper",
}


@dataclass(frozen=True)
class Figure:
    """What the page says about a figure before it has seen ours."""

    notebook: str  # the name of the product is its part before the first underscore
    title: str
    published: str  # what the paper's figure shows

    @property
    def stem(self) -> str:
        """The name of its product."""
        return self.notebook.split("_")[0]


FIGURES = (
    Figure(
        "fig1_drift",
        "The terms of the loss at batch 100",
        "MINE stays at the true 2.77 nats while its two terms sink together, the first from 4 to 0.7, the second from 1 to −2.5. "
        "NWJ's first term stays near 3.7; its second, drawn by another formula than its label says "
        "([deviation 2](#deviation-2)), scatters between −1 and 9.",
    ),
    Figure(
        "fig2_critic_outputs",
        "The critic's outputs at batch 100",
        "the critic keeps pairs on and off the diagonal apart under both losses. Under MINE both clouds sink, from 4 to 0.7 and "
        "from 0 to −10; under NWJ they level at 3.6 and −4.",
    ),
    Figure(
        "fig3_explosion",
        "Batch 32: the losses explode",
        "at batch 32 MINE's estimate fills the whole panel from step 400 on and its outputs fall to −40 and −100, still apart. "
        "NWJ spikes throughout and ends near step 2,300 with values that are not finite ([deviation 19](#deviation-19)).",
    ),
    Figure(
        "fig4_target",
        "ReMINE goes where its target says",
        "for each of five targets from −5 to 5 the second term lies on the target, and the estimate on the true value.",
    ),
    Figure(
        "fig5_regularized",
        "Batch 32, regularized",
        "ReMINE and ReNWJ stay in level bands where Fig. 3 exploded, outputs between −6 and 7; ReNWJ's second term still spikes "
        "to 10 now and then.",
    ),
    Figure(
        "fig6_lambda",
        "The weight of the regularizer",
        "in the contrastive benchmark, on CIFAR-10 and CIFAR-100, the estimate and the test accuracy of each regularized loss "
        "for the weights 0.1, 0.01 and 0.001.",
    ),
    Figure(
        "fig7_staircase",
        "The Gaussian staircase",
        "original MINE and SMILE blow up after about 8,000 steps, InfoNCE saturates at log 64 = 4.16, NWJ and TUBA get noisier "
        "with every level, and JS lies near 0, where another quantity is drawn ([deviation 5](#deviation-5)). The regularized "
        "losses follow the truth.",
    ),
)


@dataclass(frozen=True)
class Chapter:
    """An executed derivation as the page shows it: its text and what its cells print, without their code."""

    notebook: str
    stem: str
    title: Markup
    parts: Sequence[Markup]

    @property
    def label(self) -> str:
        """How the page refers to it."""
        return _label_of(self.stem)


def build(products: Path, profile: str, derivations: Mapping[str, NotebookNode] | None = None) -> str:
    """The page as HTML: no script, no request, the same bytes for the same products.

    Args:
        products: the folder with `figN.png`, `figN.json`, the tables and `claims.csv`.
        profile: the scale that the page says it shows.
        derivations: the executed notebooks that become chapters, by name and in order.

    Raises:
        ValueError: a product is missing or cannot be read, a verdict is unknown, a notebook has no title, or a formula cannot
            be converted.
    """
    judged = _judged(products, profile)
    claims = [_claim(row) for row in judged.to_dict("records")]
    figures = [
        (figure, _record(products / f"{figure.stem}.json"), _png(_bytes(path := products / f"{figure.stem}.png"), str(path)))
        for figure in FIGURES
    ]
    table2, record2 = _text(products / "table2.md"), _record(products / "table2.json")
    shown = {image["uri"]: figure.stem for figure, _, image in figures}
    places = {*shown.values(), "table2", *(name.split("_")[0] for name in derivations or {})}
    chapters = [_chapter(name, notebook, products, places, shown) for name, notebook in (derivations or {}).items()]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ROOM / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["inline"] = inline
    made = [
        *((figure.stem, record) for figure, record, _ in figures),
        ("table2", record2),
        *((chapter.stem, _record(products / f"{chapter.stem}.json")) for chapter in chapters),
    ]
    page: str = environment.get_template("report.html.j2").render(
        profile=profile,
        scale=SCALES.get(profile, ""),
        verdicts=VERDICTS,
        count=count(judged),
        sections={title: members for title in SECTIONS if (members := [c for c in claims if _section(c["id"]) == title])},
        claims_of=lambda place: [claim for claim in claims if PLACES.get(claim["id"], "").startswith(place)],
        chapter_of=lambda claim: next((chapter for chapter in chapters if _judges(chapter, claim["id"])), None),
        figures=figures,
        table1=markdown(_text(products / "table1.md")),
        table2=markdown(table2),
        caption2="" if (caption := str(record2.get("caption", "")))[:40] in table2.replace("\\", "") else caption,
        blocks=_blocks(_rows(products / "table2_summary.csv")),
        deviations=markdown(_text(ROOM / "deviations.md"), anchor="deviation"),
        chapters=chapters,
        linked=lambda part: _linked(part, claims),
        made=[_made(name, record) for name, record in made],
    )
    return page


VERBS = {"holds": ("holds", "hold"), "fails": ("fails", "fail"), "identity": ("is an identity", "are identities")}


def count(judged: pd.DataFrame) -> str:
    """The verdicts on the paper's claims in one sentence."""
    found = Counter(of_the_paper(judged).verdict)
    parts = []
    for name in (name for name in VERDICTS if found[name] or name in ("holds", "fails")):
        one, many = VERBS.get(name, (f"is {name}", f"are {name}"))
        parts.append(f"{found[name]} {one if found[name] == 1 else many}")
    others = len(judged) - found.total()
    rest = f" {others} more {'is' if others == 1 else 'are'} about the released code or our own." if others else ""
    return f"Of {found.total()} statements of the paper, {', '.join(parts[:-1])} and {parts[-1]}.{rest}"


# Products


def _text(path: Path) -> str:
    return _bytes(path).decode()


def _bytes(path: Path) -> bytes:
    if not path.is_file():
        raise ValueError(f"the report needs {path.name}, and there is none in {path.parent}; `make paper` writes it")
    return path.read_bytes()


def _rows(path: Path) -> list[Row]:
    rows = csv.DictReader(io.StringIO(_text(path), newline=""))
    return [{key: value or "" for key, value in row.items() if key} for row in rows]


def _record(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(_text(path)))
    except (json.JSONDecodeError, TypeError) as error:
        raise ValueError(f"{path} is no JSON object: {error}") from None


def _png(content: bytes, name: str) -> dict[str, Any]:
    """A PNG image as a data URI, with its size in pixels."""
    if content[:8] != b"\x89PNG\r\n\x1a\n" or len(content) < 24:
        raise ValueError(f"{name} is no PNG image")
    width, height = struct.unpack(">II", content[16:24])
    return {"uri": f"data:image/png;base64,{base64.b64encode(content).decode()}", "width": width, "height": height}


def _judged(products: Path, profile: str) -> pd.DataFrame:
    """The verdicts from the largest profile that could judge, of those beside the products."""
    _bytes(products / "claims.csv")  # the profile's own must be there
    return committed(products.parent if products.name == profile else products)


def _claim(row: Mapping[Hashable, Any]) -> Row:
    claim = {field.name: str(row.get(field.name, "")) for field in fields(Verdict)}
    if claim["verdict"] not in VERDICTS:
        allowed = ", ".join(VERDICTS)
        raise ValueError(f"claims.csv: the verdict of {claim['id']!r} must be one of {allowed}; got {claim['verdict']!r}")
    return claim


def _section(claim: str) -> str:
    return next((title for title, kinds in SECTIONS.items() if claim.split("-")[0] in kinds), "Other")


def _judges(chapter: Chapter, claim: str) -> bool:
    return chapter.stem in (PLACES.get(claim), CHAPTERS.get(claim))


def _linked(page: Markup, claims: Collection[Row]) -> Markup:
    """The same text, with every mention of a claim linked to its row; tags stay as they are."""
    if not claims:
        return page
    names = "|".join(sorted((re.escape(claim["id"]) for claim in claims), key=len, reverse=True))
    link = r'<a href="#claim-{0}">{0}</a>'
    return Markup(re.sub(rf"<[^>]*>|(?<![\w-])({names})(?![\w-])", lambda m: link.format(m[1]) if m[1] else m[0], str(page)))


def _blocks(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Table 2 beside the published numbers: by task and data set, a row of printed values per cell."""
    blocks: dict[str, list[Row]] = {}
    for row in rows:
        title = f"{TASKS.get(row.get('task', ''), row.get('task', ''))}, {row.get('dataset', '').replace('-', ' ')}"
        title += f": the truth is {_number(row['true_mi'])}" if row.get("true_mi") else ""
        blocks.setdefault(title, []).append(
            {
                "label": _label(row.get("loss", ""), row.get("variant", "")),
                "lam": row.get("lam", ""),
                "finite": f"{row['n_ok']}/{row['n']}" if row.get("n_ok") and row.get("n") else "",
                "closed_form": _number(row.get("closed_form", "")),
                **{
                    f"{who}{what}": _interval(row.get(f"{who}{what}_mean", ""), row.get(f"{who}{what}_ci95", ""))
                    for who in ("", "published_")
                    for what in ("mi", "accuracy")
                },
            }
        )
    return blocks


def _label(loss: str, variant: str) -> str:
    name = LABELS.get(loss, loss)
    names = {"regularized": f"Re{name}", "clip only": f"{name}, clip only", "regularizer only": f"Re{name}, no clip"}
    return names.get(variant, name)


def _number(text: str) -> str:
    return f"{float(text):.3f}".replace("-", "−") if text else ""


def _interval(mean: str, half_width: str) -> str:
    return _number(mean) + (f" ± {_number(half_width)}" if mean and half_width else "")


def _made(name: str, record: dict[str, Any]) -> Row:
    """Where a product is from, as its own record says."""
    machines = record.get("environment", [])
    found = {
        **{key: [record.get(key, "")] for key in ("profile", "seeds", "runs")},
        "device": [" ".join(dict.fromkeys((machine["device"], machine["device_name"]))) for machine in machines],
        "versions": [f"{key} {machine[key]}" for machine in machines for key in ("python", "torch")],
        "data": [f"{key} {value[:12]}" for key, value in record.get("data", {}).items()],
    }
    found["versions"] += [f"remi {record['version']}"] if "version" in record else []
    return {"name": name} | {key: ", ".join(dict.fromkeys(map(str, values))) for key, values in found.items()}


# Derivations

PRE = Markup("<pre>{}</pre>\n")
CELL, ROW = Markup("<{0}>{1}</{0}>"), Markup("<tr>{}</tr>")
TABLE = Markup("<table><thead>{thead}</thead><tbody>{tbody}</tbody></table>")
FIGURE = Markup(
    '<figure>\n<div class="card"><img src="{uri}" width="{width}" height="{height}" alt="{alt}"></div>\n{caption}</figure>\n'
)


def _chapter(name: str, notebook: NotebookNode, products: Path, places: Collection[str], shown: dict[str, str]) -> Chapter:
    """A notebook without its code; a picture that `shown` has already is only named."""
    stem = name.split("_")[0]
    first, *rest = notebook.cells
    title, _, text = first.source.partition("\n")
    if first.cell_type != "markdown" or not title.startswith("# "):
        raise ValueError(f"{name}: the first cell must begin with a title, '# ...'")
    try:
        parts = [markdown(text, places=places)]
        for cell in rest:
            if cell.cell_type == "markdown":
                parts.append(markdown(cell.source, places=places))
            parts += [_output(output, stem, products, shown) for output in cell.get("outputs", ())]
        return Chapter(name, stem, inline(title[2:]), parts)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _output(output: NotebookNode, stem: str, products: Path, shown: dict[str, str]) -> Markup:
    """What a cell shows: printed text, a picture, or the text of its tables."""
    data = output.get("data", {})
    if "image/png" in data:
        return _picture(base64.b64decode(data["image/png"]), stem, products, shown)
    tables = [_table(found) for found in BeautifulSoup(data.get("text/html", ""), "html.parser").find_all("table")]
    if tables:
        return Markup("").join(tables)
    text = output.text if output.get("name") == "stdout" else data.get("text/plain", "")
    return PRE.format(textwrap.dedent(text.rstrip())) if text.strip() else Markup("")


def _table(table: Tag) -> Markup:
    """The text of an HTML table, and nothing else of it, as a table of ours."""
    parts = {"thead": Markup(""), "tbody": Markup("")}
    for row in table.find_all("tr"):
        cells = [CELL.format(cell.name, cell.get_text(" ", strip=True)) for cell in row.find_all(("th", "td"))]
        parts["thead" if row.find_parent("thead") else "tbody"] += ROW.format(Markup("").join(cells))
    return Markup(SCROLL).format(TABLE.format(**parts))


def _picture(content: bytes, stem: str, products: Path, shown: dict[str, str]) -> Markup:
    image = _png(content, "a picture")
    if where := shown.get(image["uri"]):
        return Markup('<p>The picture is in <a href="#{}">{}</a>.</p>\n').format(where, _label_of(where))
    shown[image["uri"]] = stem
    own = content == _bytes(products / f"{stem}.png")
    caption = _record(products / f"{stem}.json").get("caption", "") if own else ""
    return FIGURE.format(
        **image,
        alt=f"Picture of {_label_of(stem)}",
        caption=caption and Markup("<figcaption>{}</figcaption>\n").format(inline(caption)),
    )


def _label_of(stem: str) -> str:
    """Derivation 2 for derivation2, Fig. 3 for fig3."""
    return re.sub(r"^(fig)?\D*", lambda found: "Fig. " if found[1] else f"{found[0].capitalize()} ", stem)
