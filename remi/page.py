"""The report as one self-contained HTML page, built from a folder of products and nothing else.

Text in products and in `deviations.md` is a subset of Markdown: headings, lists, pipe tables, code, bold, italic, links, and
mathematics between dollars, which becomes MathML. Everything else is escaped.
"""

import base64
import csv
import io
import json
import re
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from latex2mathml.converter import convert
from markupsafe import Markup, escape

from remi.estimators import LABELS
from remi.tables import TASKS

ROOM = Path(__file__).parent
Row = dict[str, str]

VERDICTS = {"holds": "✓", "fails": "✗", "untested": "–"}
SECTIONS = {
    "Section 3: instability": ("drift", "explode"),
    "Section 4: regularization": ("target", "stable", "smile"),
    "Theorems": ("thm", "average"),
    "Section 5: experiments": ("gauss", "table2", "lambda"),
    "Other": (),
}
PLACES = {  # where a claim is shown again: by id, else by the part of its id before the first dash
    "drift-4": "fig2",
    "drift": "fig1",
    "explode": "fig3",
    "target": "fig4",
    "stable": "fig5",
    "smile": "fig5",
    "lambda": "fig6",
    "gauss": "fig7",
    "thm": "theorems",
    "average": "theorems",
    "table2": "table2",
}
SCALES = {
    "quick": "small enough for any laptop: the paper's settings in Figs. 1 to 5, a shorter Fig. 7, and handwritten digits in "
    "place of CIFAR in Fig. 6 and Table 2",
    "desk": "the paper's settings in Figs. 1 to 5 and 7, and 10,000 images of CIFAR-10 in Fig. 6 and Table 2",
    "paper": "the size of the paper",
}


@dataclass(frozen=True)
class Figure:
    """What the page says about a figure before it has seen ours."""

    stem: str
    title: str
    published: str  # what the paper's figure shows


FIGURES = (
    Figure(
        "fig1",
        "The terms of the loss at batch 100",
        "MINE stays at the true 2.77 nats while its two terms sink together, the first from 4 to 0.7, the second from 1 to −2.5. "
        "NWJ's first term stays near 3.7; its second, drawn by another formula than its label says "
        "([deviation 2](#deviation-2)), scatters between −1 and 9.",
    ),
    Figure(
        "fig2",
        "The critic's outputs at batch 100",
        "the critic keeps pairs on and off the diagonal apart under both losses. Under MINE both clouds sink, from 4 to 0.7 and "
        "from 0 to −10; under NWJ they level at 3.6 and −4.",
    ),
    Figure(
        "fig3",
        "Batch 32: the losses explode",
        "at batch 32 MINE's estimate fills the whole panel from step 400 on and its outputs fall to −40 and −100, still apart. "
        "NWJ spikes throughout and ends near step 2,300 with values that are not finite ([deviation 19](#deviation-19)).",
    ),
    Figure(
        "fig4",
        "ReMINE goes where its target says",
        "for each of five targets from −5 to 5 the second term lies on the target, and the estimate on the true value.",
    ),
    Figure(
        "fig5",
        "Batch 32, regularized",
        "ReMINE and ReNWJ stay in level bands where Fig. 3 exploded, outputs between −6 and 7; ReNWJ's second term still spikes "
        "to 10 now and then.",
    ),
    Figure(
        "fig6",
        "The weight of the regularizer",
        "in the contrastive benchmark, on CIFAR-10 and CIFAR-100, the estimate and the test accuracy of each regularized loss "
        "for the weights 0.1, 0.01 and 0.001.",
    ),
    Figure(
        "fig7",
        "The Gaussian staircase",
        "original MINE and SMILE blow up after about 8,000 steps, InfoNCE saturates at log 64 = 4.16, NWJ and TUBA get noisier "
        "with every level, and JS lies near 0, where another quantity is drawn ([deviation 5](#deviation-5)). The regularized "
        "losses follow the truth.",
    ),
)


def build(products: Path, profile: str) -> str:
    """The page as HTML: no script, no request, the same bytes for the same products.

    Args:
        products: the folder with `figN.png`, `figN.json`, the tables and `claims.csv`.
        profile: the scale that the page says it shows.

    Raises:
        ValueError: a product is missing or cannot be read, a verdict is unknown, or a formula cannot be converted.
    """
    claims = [_claim(row) for row in _rows(products / "claims.csv")]
    figures = [(figure, _record(products / f"{figure.stem}.json"), _image(products / f"{figure.stem}.png")) for figure in FIGURES]
    table2, record2 = _text(products / "table2.md"), _record(products / "table2.json")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ROOM / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["inline"] = inline
    page: str = environment.get_template("report.html.j2").render(
        profile=profile,
        scale=SCALES.get(profile, ""),
        verdicts=VERDICTS,
        count=count(claims),
        sections={title: members for title in SECTIONS if (members := [c for c in claims if _section(c["id"]) == title])},
        claims_of=lambda place: [claim for claim in claims if _place(claim["id"]) == place],
        figures=figures,
        table1=markdown(_text(products / "table1.md")),
        table2=markdown(table2),
        caption2="" if (caption := str(record2.get("caption", "")))[:40] in table2.replace("\\", "") else caption,
        blocks=_blocks(_rows(products / "table2_summary.csv")),
        deviations=_linked(markdown(_text(ROOM / "deviations.md"), anchor="deviation"), claims),
        made=[_made(name, record) for name, record in (*((f.stem, r) for f, r, _ in figures), ("table2", record2))],
    )
    return page


def count(claims: Sequence[Row]) -> str:
    """The verdicts in one sentence."""
    found = Counter(claim["verdict"] for claim in claims)
    verbs = {"holds": ("holds", "hold"), "fails": ("fails", "fail"), "untested": ("is untested", "are untested")}
    parts = [f"{found[name]} {verb[found[name] != 1]}" for name, verb in verbs.items()]
    return f"Of {len(claims)} statements, {parts[0]}, {parts[1]} and {parts[2]}."


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


def _image(path: Path) -> dict[str, Any]:
    """A PNG file as a data URI, with its size in pixels."""
    content = _bytes(path)
    if content[:8] != b"\x89PNG\r\n\x1a\n" or len(content) < 24:
        raise ValueError(f"{path} is no PNG image")
    width, height = struct.unpack(">II", content[16:24])
    return {"uri": f"data:image/png;base64,{base64.b64encode(content).decode()}", "width": width, "height": height}


def _claim(row: Row) -> Row:
    claim = {key: row.get(key, "") for key in ("id", "source", "statement", "expected", "measured", "verdict", "profile")}
    if claim["verdict"] not in VERDICTS:
        allowed = ", ".join(VERDICTS)
        raise ValueError(f"claims.csv: the verdict of {claim['id']!r} must be one of {allowed}; got {claim['verdict']!r}")
    return claim


def _section(claim: str) -> str:
    return next((title for title, kinds in SECTIONS.items() if claim.split("-")[0] in kinds), "Other")


def _place(claim: str) -> str:
    return PLACES.get(claim) or PLACES.get(claim.split("-")[0], "")


def _linked(html: Markup, claims: Sequence[Row]) -> Markup:
    """The same text, with every mention of a claim linked to its row."""
    if not claims:
        return html
    names = "|".join(sorted((re.escape(claim["id"]) for claim in claims), key=len, reverse=True))
    return Markup(re.sub(rf"(?<![\w-])({names})(?![\w-])", r'<a href="#claim-\1">\1</a>', str(html)))


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
    found = record.get("environment", [])
    environments = [found] if isinstance(found, dict) else list(found)
    devices = [" ".join(dict.fromkeys(str(e[key]) for key in ("device", "device_name") if key in e)) for e in environments]
    versions = [f"{key} {e[key]}" for e in environments for key in ("python", "torch") if key in e]
    stated = record.get("versions", {})
    versions += [f"{key} {value}" for key, value in stated.items()] if isinstance(stated, dict) else [str(stated)]
    versions += [f"remi {record['version']}"] if "version" in record else []
    values = {
        "profile": record.get("profile", ""),
        "seeds": record.get("seeds", ""),
        "runs": record.get("runs", ""),
        "device": record.get("device") or devices,
        "versions": versions,
        "data": [f"{key} {str(value)[:12]}" for key, value in dict(record.get("data") or {}).items()],
    }
    return {"name": name} | {
        key: ", ".join(dict.fromkeys(map(str, value))) if isinstance(value, list) else str(value) for key, value in values.items()
    }


# Markdown

INLINE = re.compile(
    r"\\(?P<literal>[\\`*_$|#.\[\]])"
    r"|`(?P<code>[^`]+)`"
    r"|\$\$(?P<display>[^$]+)\$\$"
    r"|\$(?P<math>[^$\s](?:[^$]*[^$\s\\])?)\$"
    r"|\*\*(?P<bold>.+?)\*\*"
    r"|(?<![\w*])\*(?P<italic>[^*\s](?:[^*]*[^*\s])?)\*(?![\w*])"
    r"|\[(?P<label>[^\]]+)\]\((?P<url>(?:https://|#)[^)\s]+)\)"
    r"|<span style=\"color:\#[0-9A-Fa-f]{6}\">(?P<blue>[^<]*)</span>",
    re.DOTALL,
)
FUNCTION = re.compile(r"(</m[in]>)?<mi>(log|exp|max|min)</mi>(<mo[^>]*>&#x000(?:28|5B|7B);)?")  # the last is an open bracket
ITEM = re.compile(r"(?P<mark>-|(?P<number>\d+)\.) +")


def mathematics(latex: str, display: bool = False) -> Markup:
    """A formula as MathML.

    Raises:
        ValueError: it is no LaTeX that the converter knows.
    """
    try:
        element = convert(latex, display="block" if display else "inline")
    except Exception as error:  # the converter has a class per mistake
        raise ValueError(f"no formula: ${latex}$ ({type(error).__name__})") from None
    if "\\" in element:
        raise ValueError(f"no formula: ${latex}$ (unknown command)")
    element = re.sub(r' xmlns="[^"]*"', "", element)
    return Markup(FUNCTION.sub(_spaced, element))


def _spaced(found: re.Match[str]) -> str:
    """A thin space on each side of a function's name, which the converter leaves out; none before a bracket."""
    before, name, bracket = found.groups(default="")
    thin = "\N{THIN SPACE}"
    return f"{before}<mi>{thin * bool(before)}{name}{thin * (not bracket)}</mi>{bracket}"


def inline(text: str) -> Markup:
    """One run of Markdown text as HTML; what is no markup is escaped."""
    parts, end = [], 0
    for found in INLINE.finditer(text):
        kind, content = found.lastgroup or "", found.group(found.lastgroup or 0)
        parts += [escape(text[end : found.start()]), RENDER[kind](found, content)]
        end = found.end()
    return Markup("").join([*parts, escape(text[end:])])


RENDER: dict[str, Callable[[re.Match[str], str], Markup]] = {
    "literal": lambda found, text: escape(text),
    "code": lambda found, text: Markup("<code>{}</code>").format(text),
    "display": lambda found, text: mathematics(text, display=True),
    "math": lambda found, text: mathematics(text),
    "bold": lambda found, text: Markup("<strong>{}</strong>").format(inline(text)),
    "italic": lambda found, text: Markup("<em>{}</em>").format(inline(text)),
    "url": lambda found, text: Markup('<a href="{}">{}</a>').format(text, inline(found["label"])),
    "blue": lambda found, text: Markup('<span class="blue">{}</span>').format(text),
}


def markdown(text: str, *, anchor: str = "") -> Markup:
    """Markdown as HTML; the first heading is left out, the page has its own.

    Args:
        text: the source.
        anchor: gives item n of a top-level numbered list the id "anchor-n".
    """
    return _render(re.sub(r"\A\s*# .*\n", "", text).splitlines(), anchor)


def _render(lines: Sequence[str], anchor: str = "") -> Markup:
    parts: list[Markup] = []
    i = 0
    while i < len(lines):
        line = lines[i]
        if not line.strip():
            i += 1
        elif heading := re.match(r"#+ +", line):
            parts.append(Markup("<h3>{}</h3>").format(inline(line[heading.end() :])))
            i += 1
        elif line.startswith("|"):
            end = _end(lines, i, lambda later: later.startswith("|"))
            parts.append(_table(lines[i:end]))
            i = end
        elif found := ITEM.match(line):
            end = _end(lines, i + 1, lambda later: not later.strip() or later[:1] == " " or _same_list(found, later))
            parts.append(_list(lines[i:end], anchor))
            i = end
        else:
            end = _end(
                lines, i + 1, lambda later: bool(later.strip()) and not later.startswith(("|", "#")) and not ITEM.match(later)
            )
            parts.append(Markup("<p>{}</p>").format(inline(" ".join(line.strip() for line in lines[i:end]))))
            i = end
    return Markup("\n").join(parts)


def _end(lines: Sequence[str], start: int, belongs: Callable[[str], bool]) -> int:
    return next((i for i in range(start, len(lines)) if not belongs(lines[i])), len(lines))


def _same_list(one: re.Match[str], line: str) -> bool:
    other = ITEM.match(line)
    return other is not None and (one["number"] is None) == (other["number"] is None)


def _list(lines: Sequence[str], anchor: str) -> Markup:
    starts = [i for i, line in enumerate(lines) if ITEM.match(line)]
    items = []
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        mark = ITEM.match(lines[start])
        assert mark is not None
        inside = [lines[start][mark.end() :], *(re.sub(rf"^ {{1,{mark.end()}}}", "", line) for line in lines[start + 1 : end])]
        body = _render(inside)
        name = Markup(' id="{}-{}"').format(anchor, mark["number"]) if anchor and mark["number"] else ""
        single = body.count("<p>") == 1 and body.startswith("<p>") and body.endswith("</p>")
        items.append(Markup("<li{}>{}</li>").format(name, body[3:-4] if single else body))
    first = ITEM.match(lines[0])
    tag = Markup('<ol start="{0}">\n{1}\n</ol>') if first and first["number"] else Markup("<ul>\n{1}\n</ul>")
    return tag.format(first and first["number"], Markup("\n").join(items))


def _table(lines: Sequence[str]) -> Markup:
    rows = [[cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))] for line in lines]
    head, body = rows[0], [row for row in rows[1:] if not all(re.fullmatch(r":?-+:?", cell) for cell in row)]
    table = Markup("<table><thead>{}</thead><tbody>{}</tbody></table>")
    content = table.format(_cells("th", head), Markup("\n").join(_cells("td", row) for row in body))
    return Markup('<div class="scroll" tabindex="0" role="region" aria-label="Table">{}</div>').format(content)


def _cells(tag: str, row: Iterable[str]) -> Markup:
    scope = Markup(' scope="col"') if tag == "th" else ""
    cell = Markup("<{0}{1}>{2}</{0}>")
    return Markup("<tr>{}</tr>").format(Markup("").join(cell.format(Markup(tag), scope, inline(text)) for text in row))
