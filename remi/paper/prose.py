"""Markdown and its formulas as HTML that asks for nothing: no request, no script, and mathematics as MathML."""

import html
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, tostring

import mistune
from latex2mathml.converter import convert_to_element
from markupsafe import Markup
from mistune.plugins.math import math, math_in_list, math_in_quote
from mistune.plugins.table import table

THIN = "0.167em"
SCRIPTS = ("msub", "msup", "msubsup", "munder")
BLUE = r'<span style="color:#[0-9A-Fa-f]{6}">(?P<blue_text>[^<]*)</span>'
SCROLL = '<div class="scroll" tabindex="0" role="region" aria-label="Table">{}</div>\n'


def mathematics(latex: str, display: bool = False) -> Markup:
    """A formula as MathML.

    Raises:
        ValueError: it is no LaTeX that the converter knows, or it would do more than show mathematics.
    """
    try:
        tree = convert_to_element(latex.replace(r"\tag", r"\qquad\tag"), display="block" if display else "inline")
    except Exception as error:  # the converter has a class per mistake
        raise ValueError(f"no formula: ${latex}$ ({type(error).__name__})") from None
    for element in tree.iter():
        if re.search(r"\\|\$|^&$", element.text or "") or {"href", "style", "class", "id"} & set(element.attrib):
            raise ValueError(f"no formula: ${latex}$ (unknown command)")
        element.text = html.unescape(element.text or "")  # the converter writes a character as its entity
        if element.text == ";":  # which is a letter to it
            element.tag = "mo"
    for row in tree.iter():
        if row.tag not in SCRIPTS:
            _space(row)
    del tree.attrib["xmlns"]
    return Markup(tostring(tree, encoding="unicode"))


def _space(row: Element) -> None:
    """Spaces as TeX sets them, which the converter does not: thin ones around the name of a function, none behind a sign."""
    for before, element, after in zip((None, *row), row, (*row[1:], None), strict=False):
        name = element[0] if element.tag in SCRIPTS else element
        operator = before is None or (before.tag == "mo" and before.text not in (*")]}",))
        if name.text in (*"\N{MINUS SIGN}+",) and operator and (before is None or before.text not in (*"|‖∞",)):
            name.attrib["form"] = "prefix"
        if name.tag in ("mi", "mo") and re.fullmatch("[A-Za-z]{2,}", name.text or ""):
            bracket = after is None or next((part.text for part in after.iter() if part.tag != "mrow"), "") in (*"([{",)
            name.tag, name.attrib = "mo", {"lspace": "0" if operator else THIN, "rspace": "0" if bracket else THIN}


class _Html(mistune.HTMLRenderer):
    """HTML that asks for nothing: links lead to https or into the page, images are their text, raw HTML is escaped."""

    def __init__(self, anchor: str = "", places: Collection[str] = ()) -> None:
        super().__init__()
        self.anchor, self.places = anchor, places

    def inline_math(self, text: str) -> str:
        return mathematics(text)

    def block_math(self, text: str) -> str:
        return f'<span class="formula">{mathematics(text, display=True)}</span>\n'

    def blue(self, text: str) -> str:
        return f'<span class="blue">{self.text(text)}</span>'

    def heading(self, text: str, level: int, **attrs: Any) -> str:
        return super().heading(text, min(level + 1, 6))

    def link(self, text: str, url: str, title: str | None = None) -> str:
        if url.endswith(".ipynb"):
            stem = Path(url).name.split("_")[0]
            url = f"#{stem}" if stem in self.places else ""
        return super().link(text, url) if url.startswith(("https://", "#")) else text

    def image(self, text: str, url: str, title: str | None = None) -> str:
        return text

    def render_token(self, token: dict[str, Any], state: mistune.BlockState) -> str:
        if self.anchor and token["type"] == "list" and token["attrs"]["ordered"] and not token["attrs"]["depth"]:
            for n, item in enumerate(token["children"], token["attrs"].get("start", 1)):
                item["attrs"] = {"id": f"{self.anchor}-{n}"}
        return super().render_token(token, state)

    def list_item(self, text: str, **attrs: Any) -> str:
        return f"<li{self.render_attrs(attrs)}>{text}</li>\n"

    def table(self, text: str) -> str:
        return SCROLL.format(f"<table>{text}</table>")

    def table_cell(self, text: str, align: str | None = None, head: bool = False) -> str:
        return f'<th scope="col">{text}</th>' if head else f"<td>{text}</td>"


def _reader(renderer: _Html) -> mistune.Markdown:
    return mistune.create_markdown(renderer=renderer, plugins=[table, math, math_in_list, math_in_quote, _blue])


def _blue(md: mistune.Markdown) -> None:
    """The one piece of HTML that the tables use."""

    def parse(inline: mistune.InlineParser, found: re.Match[str], state: mistune.InlineState) -> int:
        state.append_token({"type": "blue", "raw": found["blue_text"]})
        return found.end()

    md.inline.register("blue", BLUE, parse, before="inline_html")


def inline(text: str) -> Markup:
    """One run of Markdown text as HTML; what is no markup is escaped."""
    renderer = _Html()
    reader = _reader(renderer)
    return Markup(renderer(reader.inline(text, {}), reader.block.state_cls()))


def markdown(text: str, *, anchor: str = "", places: Collection[str] = ()) -> Markup:
    """Markdown as HTML; a title is left out, the page has its own.

    Args:
        text: the source.
        anchor: gives item n of a top-level numbered list the id "anchor-n".
        places: products whose section a link to their notebook leads to; without one only the link's text stays.
    """
    return Markup(_reader(_Html(anchor, places))(re.sub(r"\A\s*# .*\n", "", text)))
