"""The ground: palette, line widths and the one matplotlib style. Whoever draws, draws with it.

Hue is the family of losses, line style the treatment: dashed original, solid regularized. Truth is black and dotted.
The parts of a loss are greys, its estimate has the family's hue.
"""

import io
from pathlib import Path

import matplotlib.style
from matplotlib.figure import Figure

PALETTE = {"mine": "#0077BB", "smile": "#EE6677", "infonce": "#999933", "nwj": "#882255", "tuba": "#CC79A7", "js": "#332288"}
MARKERS = {"mine": "o", "smile": "s", "infonce": "D", "nwj": "^", "tuba": "v", "js": "P"}  # hues alike in grey differ here
RIVALS = {"infonce_anchor": "#117733", "sigmoid": "#CC5500", "fdime": "#009988", "dcl": "#666633", "flo": "#8855DD"}
HUES = PALETTE | RIVALS  # where later losses stand beside the six
JOINT, MARGINAL, TRUTH = "#555555", "#AAAAAA", "#000000"

matplotlib.style.use(Path(__file__).with_name("remi.mplstyle"))


def render(figure: Figure) -> dict[str, bytes]:
    """The figure as .pdf and .png: the same bytes whenever it is drawn."""
    contents = {}
    for suffix, metadata in ((".pdf", {"CreationDate": None}), (".png", {"Software": None})):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=suffix[1:], metadata=metadata)
        contents[suffix] = buffer.getvalue()
    return contents
