"""A draw function per derivation: its parameters are what a slider moves, its defaults what is printed."""

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
        draw: a function of this module.
        sliders: (low, high, step) of a parameter; it starts at its default.
    """
    from IPython.display import Image, display
    from ipywidgets import FloatSlider, interactive

    def redraw(**values: float) -> None:
        buffer = io.BytesIO()
        draw(**values)[0].savefig(buffer, format="png")
        display(Image(buffer.getvalue(), width=700))

    starts = {name: parameter.default for name, parameter in inspect.signature(draw).parameters.items()}
    controls = {
        name: FloatSlider(starts[name], min=low, max=high, step=step, continuous_update=False)
        for name, (low, high, step) in sliders.items()
    }
    bundle = interactive(redraw, **controls)._repr_mimebundle_()
    static = {"image/png": base64.b64encode(Path(path).read_bytes()).decode(), "text/plain": "<derivation picture>"}
    display(bundle | static, metadata={"image/png": {"width": 700}}, raw=True)
