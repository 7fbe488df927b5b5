"""The ground: palette, line widths and the one matplotlib style. Whoever draws, draws with it.

Hue is the family of losses, line style the treatment: dashed original, solid regularized. Truth is black and dotted.
The parts of a loss are greys, its estimate has the family's hue.
"""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.style
from matplotlib.figure import Figure, SubFigure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox
from PIL import Image

PALETTE = {"mine": "#0077BB", "smile": "#EE6677", "infonce": "#999933", "nwj": "#882255", "tuba": "#CC79A7", "js": "#332288"}
MARKERS = {"mine": "o", "smile": "s", "infonce": "D", "nwj": "^", "tuba": "v", "js": "P"}  # hues alike in grey differ here
RIVALS = {"infonce_anchor": "#117733", "sigmoid": "#CC5500", "fdime": "#009988", "dcl": "#666633", "flo": "#8855DD"}
HUES = PALETTE | RIVALS  # where later losses stand beside the six
JOINT, MARGINAL, TRUTH = "#555555", "#AAAAAA", "#000000"

matplotlib.style.use(Path(__file__).with_name("remi.mplstyle"))


class Rounded(ConstrainedLayoutEngine):
    """The constrained layout to nine digits: the last bits of its solver depend on where its variables lie in memory."""

    def execute(self, fig: Any) -> None:
        """Lay out, and round."""
        super().execute(fig)
        for part in fig.subfigs:
            part._redo_transform_rel_fig(bbox=rounded(part.bbox_relative))
        for axes in fig.axes:
            axes._set_position(rounded(axes.get_position(original=True)), which="original")


def rounded(box: Any) -> Bbox:
    """The box in whole billionths of its figure."""
    return Bbox(box.get_points().round(9))


def legend(figure: Figure | SubFigure, looks: Mapping[str, Mapping[str, Any]], columns: int | None = None) -> None:
    """A legend above, a line per name as its look says; a look with several colours shows each of them."""
    hues = [[look["color"]] if isinstance(look["color"], str) else look["color"] for look in looks.values()]
    lines: Any = [
        tuple(Line2D([], [], **{**look, "color": hue}) for hue in own) for look, own in zip(looks.values(), hues, strict=True)
    ]
    beside = {tuple: HandlerTuple(ndivide=None)}
    figure.legend(lines, list(looks), loc="outside upper center", ncols=columns or len(looks), handler_map=beside)


def render(figure: Figure) -> dict[str, bytes]:
    """The figure as .pdf and .png: the same bytes whenever it is drawn."""
    engine = figure.get_layout_engine()
    if isinstance(engine, ConstrainedLayoutEngine):
        figure.set_layout_engine(Rounded(**engine.get()))
    pdf, png = io.BytesIO(), io.BytesIO()
    figure.savefig(pdf, format="pdf", metadata={"CreationDate": None})
    figure.savefig(png, format="png")
    return {".pdf": pdf.getvalue(), ".png": small(png.getvalue())}


def small(png: bytes) -> bytes:
    """The picture in 256 colours, which no eye tells from all of them: a third of the bytes."""
    image = Image.open(io.BytesIO(png))
    few = image.convert("RGB").quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    few.save(buffer := io.BytesIO(), "PNG", optimize=True, dpi=image.info["dpi"])
    return buffer.getvalue()
