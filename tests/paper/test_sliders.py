"""A picture that can be moved draws itself again, and is the printed one where nothing runs."""

import base64

import ipywidgets
import pytest
from matplotlib.figure import Figure

from remi.paper import sliders


@pytest.fixture
def shown(monkeypatch):
    """What is displayed: the bundles, and the widgets inside."""
    bundles, boxes = [], []

    class Box(ipywidgets.VBox):
        def __init__(self, children):
            super().__init__(children)
            boxes.append(children)

    monkeypatch.setattr(ipywidgets, "VBox", Box)
    monkeypatch.setattr("IPython.display.display", lambda bundle, **options: bundles.append(bundle))
    return bundles, boxes


def test_moving_a_slider_draws_with_its_value_and_the_others_as_they_are(shown, tmp_path):
    drawn = []

    def draw(batch: int = 32, lam: float = 1.0):
        drawn.append((batch, lam))
        figure = Figure(figsize=(0.5, 0.5))
        figure.text(0, 0, f"{batch} {lam}")
        return figure, None

    draw()[0].savefig(path := tmp_path / "picture.png")
    sliders.explore(str(path), draw, batch=[64, 32, 48], lam=(0.0, 2.0, 0.5))
    (bundle,), ((batch, lam, image),) = shown
    assert base64.b64decode(bundle["image/png"]) == image.value == path.read_bytes()
    assert [label for label, _ in batch.options] == ["32", "48", "64"]
    assert (batch.value, lam.value) == (32, 1.0)
    batch.value = 64
    lam.value = 0.5
    assert drawn == [(32, 1.0), (64, 1.0), (64, 0.5)]
    assert image.value != path.read_bytes()
    batch.value, lam.value = 32, 1.0
    assert len(drawn) == 5
