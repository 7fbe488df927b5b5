"""The report as one self-contained HTML page: what was found, then every figure and table with its reading and its verdicts.

Built from a folder of products, the notebooks' text and `deviations.md`; all of it is Markdown, which `prose` reads.
"""

import base64
import io
import json
import math
import re
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup
from nbformat import NotebookNode
from PIL import Image

from remi.losses import LABELS
from remi.paper.claims import CLAIMS, committed, of_the_paper
from remi.paper.experiments import PROFILES
from remi.paper.prose import inline, markdown
from remi.paper.table2 import TASKS, readable
from remi.paper.typeset import printed, remarks
from remi.paper.verdicts import OURS, VERDICTS, Verdict

ROOM = Path(__file__).parent
Row = dict[str, str]

MARKS = {"holds": "✓", "fails": "✗", "inconclusive": "≈", "undertrained": "…", "identity": "=", "untested": "–"}
FIRST = ("fig1", "fig3", "fig5", "table2", "derivation5")  # the pictures of the first screen
SUFFIXES = ("csv", "pdf", "json")  # of the files beside a picture
SCALES = {
    "quick": "small enough for any laptop: the paper's settings in Figs. 1 to 5, a shorter Fig. 7, and handwritten digits in "
    "place of CIFAR in Fig. 6 and Table 2",
    "desk": "the paper's settings in Figs. 1 to 5 and 7, and a part of CIFAR-10 in Fig. 6 and Table 2",
    "paper": "the size of the paper",
}


@dataclass(frozen=True)
class Place:
    """A figure, a table or a chapter of theorems: what is said of it before ours has been seen."""

    notebook: str  # the name of the product is its part before the first underscore
    says: str  # what the paper claims with it
    also: tuple[str, ...] = ()  # claims of another place that it judges as well

    @property
    def stem(self) -> str:
        """The name of its product."""
        return self.notebook.split("_")[0]

    @property
    def label(self) -> str:
        """Derivation 2 for derivation2, Fig. 3 for fig3, Beyond for beyond."""
        return re.sub(r"^(fig)?\D*", lambda found: "Fig. " if found[1] else f"{found[0].capitalize()} ", self.stem).strip()

    @property
    def picture(self) -> str:
        """The product that shows it."""
        return "table2_slopes" if self.stem == "table2" else self.stem


PLACES = (
    Place("fig1_drift", "MINE drifts, NWJ does not"),
    Place("fig2_critic_outputs", "the critic separates the pairs and keeps moving"),
    Place("fig3_explosion", "both explode at batch 32"),
    Place("fig4_target", "ReMINE goes where C* says"),
    Place("fig5_regularized", "the twins stay put at batch 32"),
    Place("fig6_lambda", "what the weight lambda does"),
    Place("fig7_staircase", "the twins follow a staircase of true values"),
    Place("table2_benchmarks", "better losses, and rescued ones"),
    Place("derivation1_dual_representations", "the regularizer costs nothing (Theorem 1)"),
    Place("derivation2_samples", "how many samples (Theorems 2 to 4)"),
    Place("derivation3_drift", "variance and averages under drift (Theorems 5 and 6)"),
    Place("derivation4_benchmarks", "the benchmarks' true values (Theorems 7 and 8)"),
    Place("derivation5_explosion", "left open: why the losses explode", also=("explode-4", "explode-5")),
    Place("derivation6_ceilings", "ours: where each loss of Table 2 has to end", also=("table2-closed-10", "table2-closed-100")),
    Place("remedies_brake", "left open: why lambda costs MI, and what to do about it"),
    Place("beyond_offsets", "ours: later losses, who holds the constant and what it costs"),
)


def build(products: Path, profile: str, notebooks: Mapping[str, NotebookNode]) -> str:
    """The page as HTML: no script, no request, the same bytes for the same products.

    Args:
        products: the folder with `figN.png`, `figN.json`, the tables and `claims.csv`.
        profile: the scale that the page says it shows.
        notebooks: by name, one for each of `PLACES`.

    Raises:
        ValueError: a product or a notebook is missing or cannot be read, a verdict is unknown, a notebook has no title, or a
            formula cannot be converted.
    """
    _bytes(products / "claims.csv")  # the profile's own must be there
    _bytes(products / "table2_summary.csv")
    root = products.parent if products.name == profile else products
    judged = committed(root)
    claims = [_claim(row) for row in judged.to_dict("records")]
    sections = [_section(place, notebooks, products) for place in PLACES]
    homes = {claim.id: claim.figure for claim in CLAIMS if claim.figure in {place.stem for place in PLACES}}
    verdicts, numbers = _every(root, "claims.csv"), _every(root, "table2_summary.csv")
    loader = jinja2.FileSystemLoader(ROOM / "templates")
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters["inline"] = inline
    page: str = environment.get_template("report.html.j2").render(
        profile=profile,
        scale=SCALES.get(profile, ""),
        font=base64.b64encode(_bytes(ROOM / "templates" / "mathematics.woff")).decode(),
        marks=MARKS,
        ours=OURS,
        count=count(judged),
        judged={name: rows.set_index("id").verdict for name, rows in verdicts.items()},
        papers=[claim for claim in claims if claim["source"] not in OURS],
        reasons=VERDICTS,
        known={claim["id"] for claim in claims},
        claims_of=lambda stem: [claim for claim in claims if homes.get(claim["id"], "") == stem],
        sections=sections,
        first=[(place, _png(products / f"{place.picture}.png", width=360)) for place in PLACES if place.stem in FIRST],
        table1=markdown(_text(products / "table1.md")),
        table2=markdown(_text(products / "table2.md")),
        columns=[*numbers, "published"],
        blocks=_blocks(numbers),
        deviations=_linked(markdown(_text(ROOM / "deviations.md"), anchor="deviation"), claims),
        made=[_made(section["place"].stem, section["record"]) for section in sections],
    )
    return page


VERBS = {"holds": ("holds", "hold"), "fails": ("fails", "fail"), "identity": ("is an identity", "are identities")}


def count(judged: pd.DataFrame) -> str:
    """The verdicts on the paper's claims in one sentence."""
    found = Counter(of_the_paper(judged).verdict)
    verbs = {name: VERBS.get(name, (f"is {name}", f"are {name}")) for name in MARKS if found[name] or name in ("holds", "fails")}
    parts = [f"{found[name]} {one if found[name] == 1 else many}" for name, (one, many) in verbs.items()]
    others = len(judged) - found.total()
    rest = f" {others} more {'is' if others == 1 else 'are'} about the released code or our own." if others else ""
    return f"Of {found.total()} statements of the paper, {', '.join(parts[:-1])} and {parts[-1]}.{rest}"


# Notebooks


def _section(place: Place, notebooks: Mapping[str, NotebookNode], products: Path) -> dict[str, Any]:
    """A place as the page shows it; the texts are the notebook's."""
    if place.notebook not in notebooks:
        raise ValueError(f"the report needs the notebook {place.notebook}; got {', '.join(notebooks) or 'none'}")
    cells = notebooks[place.notebook].cells
    title, _, lead = cells[0].source.partition("\n")
    if cells[0].cell_type != "markdown" or not title.startswith("# "):
        raise ValueError(f"{place.notebook}: the first cell must begin with a title, '# ...'")
    stems = {other.stem for other in PLACES}
    try:
        read, differs = _reading(cells)
        told = {"lead": lead.partition("*Cost")[0], "reading": read, "differs": differs}
        linked = {name: re.sub(r"\b(deviation (\d+))", r"[\1](#deviation-\2)", text) for name, text in told.items()}
        return {
            "place": place,
            "title": inline(title[2:]),
            **{name: markdown(text, places=stems) for name, text in linked.items()},
            "picture": _png(products / f"{place.picture}.png"),
            "record": _record(products / f"{place.stem}.json"),
            "files": [name for suffix in SUFFIXES if (products / (name := f"{place.stem}.{suffix}")).is_file()],
        }
    except ValueError as error:
        raise ValueError(f"{place.notebook}: {error}") from None


def _reading(cells: Sequence[NotebookNode]) -> tuple[str, str]:
    """What the notebook says right below its picture, and in its section on the differences from the paper.

    A last paragraph that ends in a colon belongs to the cell below it, which the page does not show.
    """
    saves = [k for k, cell in enumerate(cells) if cell.cell_type == "code" and "figures.save" in cell.source]
    texts = [cell.source for cell in cells[saves[0] + 1 :] if cell.cell_type == "markdown"] if saves else []
    differs = re.search(r"^## Where this differs from the paper\n(.*?)(?=^## |^\*\*Try next|\Z)", "\n\n".join(texts), re.S | re.M)
    reading = re.split(r"^## ", texts[0], flags=re.M)[0] if texts else ""
    return re.sub(r"\n\n[^\n]*:\s*\Z", "", reading), differs[1] if differs else ""


# Products


def _text(path: Path) -> str:
    return _bytes(path).decode()


def _bytes(path: Path) -> bytes:
    if not path.is_file():
        raise ValueError(f"the report needs {path.name}, and there is none in {path.parent}; `make paper` writes it")
    return path.read_bytes()


def _record(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(_text(path)))
    except (json.JSONDecodeError, TypeError) as error:
        raise ValueError(f"{path} is no JSON object: {error}") from None


def _png(path: Path, width: int | None = None) -> dict[str, Any]:
    """A PNG image as a data URI, with its size in pixels; made smaller when a width is given."""
    content = _bytes(path)
    try:
        image: Image.Image = Image.open(io.BytesIO(content), formats=["PNG"])
    except OSError:
        raise ValueError(f"{path} is no PNG image") from None
    if width and image.width > width:
        image = image.convert("RGB").resize((width, round(image.height * width / image.width)), Image.Resampling.LANCZOS)
        image.quantize(64).save(smaller := io.BytesIO(), "PNG", optimize=True)
        content = smaller.getvalue()
    uri = f"data:image/png;base64,{base64.b64encode(content).decode()}"
    return {"uri": uri, "width": image.width, "height": image.height}


def _claim(row: Mapping[Hashable, Any]) -> Row:
    claim = {field.name: str(row.get(field.name, "")) for field in fields(Verdict)}
    if claim["verdict"] not in MARKS:
        allowed = ", ".join(MARKS)
        raise ValueError(f"claims.csv: the verdict of {claim['id']!r} must be one of {allowed}; got {claim['verdict']!r}")
    return claim


def _every(root: Path, name: str) -> dict[str, pd.DataFrame]:
    """The tables of one name, by profile, of the profiles that have one."""
    paths = {profile: root / ("" if profile == "quick" else profile) / name for profile in PROFILES}
    return {profile: pd.read_csv(path) for profile, path in paths.items() if path.is_file()}


def _linked(page: Markup, claims: Sequence[Row]) -> Markup:
    """The same text, with every mention of a claim linked to its row; tags stay as they are."""
    names = "|".join(sorted((re.escape(claim["id"]) for claim in claims), key=len, reverse=True)) or "(?!)"
    link = r'<a href="#claim-{0}">{0}</a>'
    return Markup(re.sub(rf"<[^>]*>|(?<![\w-])({names})(?![\w-])", lambda m: link.format(m[1]) if m[1] else m[0], str(page)))


# Table 2, of every profile


def _blocks(numbers: Mapping[str, pd.DataFrame]) -> dict[str, dict[str, Row]]:
    """Table 2 beside the published numbers: by task and number of classes, a row of printed values per loss and variant.

    Args:
        numbers: `table2_summary.csv`, by profile.
    """
    blocks: dict[str, dict[str, Row]] = {}
    names: dict[str, dict[str, None]] = {}  # the data sets of a block, in the order of the profiles
    for profile, cells in numbers.items():
        for cell in cells.to_dict("records"):
            classes = round(math.exp(cell["true_mi"]))
            title = f"{TASKS.get(cell['task'], cell['task'])}, {classes} classes: the truth is {math.log(classes):.3f}"
            names.setdefault(title, {})[f"{profile}: {readable(cell['dataset'])}"] = None
            line = blocks.setdefault(title, {}).setdefault(_label(cell["loss"], cell["variant"]), {})
            line["closed form"] = printed(cell["closed_form"])
            for what in ("mi", "accuracy"):
                line[f"{profile} {what}"] = printed(cell[f"{what}_mean"], cell[f"{what}_ci95"]) + remarks(cell, what)
                line[f"published {what}"] = printed(cell[f"published_{what}_mean"], cell[f"published_{what}_ci95"])
    return {f"{title} ({'; '.join(names[title])})": lines for title, lines in blocks.items()}


def _label(loss: str, variant: str) -> str:
    name = LABELS.get(loss, loss)
    names = {"regularized": f"Re{name}", "clip only": f"{name}, clip only", "regularizer only": f"Re{name}, no clip"}
    return names.get(variant, name)


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
