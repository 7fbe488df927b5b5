"""A picture that can be moved: sliders where a notebook runs, the printed picture everywhere else."""

import base64
import inspect
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure


def explore(path: str, draw: Callable[..., tuple[Figure, Any]], **sliders: tuple[float, float, float] | list[float]) -> None:
    """Show a saved picture; where a kernel and a front end run, with a slider for each parameter that `sliders` names.

    Args:
        path: the PNG that `figures.save` wrote of `draw()`, shown wherever nothing can run.
        draw: a picture from its parameters.
        sliders: of a parameter (low, high, step), or the list of values for which there are runs; it starts at its default.
    """
    from IPython.display import display
    from ipywidgets import FloatSlider, Image, SelectionSlider, VBox

    printed = Path(path).read_bytes()
    # an image that sliders replace, not `interactive`: papermill was seen to wait for ever at cells with its Output widget
    image = Image(value=printed, format="png", width=700)
    starts = {name: parameter.default for name, parameter in inspect.signature(draw).parameters.items()}
    controls: dict[str, FloatSlider | SelectionSlider] = {}
    for name, span in sliders.items():
        common = {"value": starts[name], "description": name, "continuous_update": False}
        if isinstance(span, list):
            controls[name] = SelectionSlider(options=[(f"{value:g}", value) for value in sorted(span)], **common)
        else:
            controls[name] = FloatSlider(min=span[0], max=span[1], step=span[2], **common)

    def redraw(change: object) -> None:
        buffer = io.BytesIO()
        draw(**{name: control.value for name, control in controls.items()})[0].savefig(buffer, format="png")
        image.value = buffer.getvalue()

    for control in controls.values():
        control.observe(redraw, "value")
    bundle = VBox([*controls.values(), image])._repr_mimebundle_()
    static = {"image/png": base64.b64encode(printed).decode(), "text/plain": "<picture that moves>"}
    display(bundle | static, metadata={"image/png": {"width": 700}}, raw=True)
