"""A picture that can be moved: sliders where a notebook runs, the printed picture everywhere else."""

import base64
import inspect
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure


def explore(path: str, draw: Callable[..., tuple[Figure, Any]], **sliders: tuple[float, float, float]) -> None:
    """Show a saved picture; where a kernel and a front end run, with a slider for each parameter that `sliders` names.

    Args:
        path: the PNG that `figures.save` wrote of `draw()`, shown wherever nothing can run.
        draw: a function of `pictures`.
        sliders: (low, high, step) of a parameter; it starts at its default.
    """
    from IPython.display import display
    from ipywidgets import FloatSlider, Image, VBox

    printed = Path(path).read_bytes()
    # an image that sliders replace, not `interactive`: papermill was seen to wait for ever at cells with its Output widget
    image = Image(value=printed, format="png", width=700)
    starts = {name: parameter.default for name, parameter in inspect.signature(draw).parameters.items()}
    controls = {
        name: FloatSlider(starts[name], min=low, max=high, step=step, description=name, continuous_update=False)
        for name, (low, high, step) in sliders.items()
    }

    def redraw(change: object) -> None:
        buffer = io.BytesIO()
        draw(**{name: control.value for name, control in controls.items()})[0].savefig(buffer, format="png")
        image.value = buffer.getvalue()

    for control in controls.values():
        control.observe(redraw, "value")
    bundle = VBox([*controls.values(), image])._repr_mimebundle_()
    static = {"image/png": base64.b64encode(printed).decode(), "text/plain": "<derivation picture>"}
    display(bundle | static, metadata={"image/png": {"width": 700}}, raw=True)
