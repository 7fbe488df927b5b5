"""What the tables look like: emphasis, layout, and three renderings that say the same."""

import math

import pytest
from matplotlib.colors import same_color
from test_table2 import synthetic_groups

from remi.paper import table1, table2, typeset
from remi.training.evaluation import Interval


@pytest.fixture(scope="module")
def full():
    return table2.summary(table2.rows(synthetic_groups()))


@pytest.mark.parametrize(
    ("original", "regularized", "truth", "marks"),
    [
        ((2.0, 0.1), (2.2, 0.2), 2.3, ("", "bold")),  # overlap
        ((2.0, 0.05), (2.2, 0.1), 2.3, ("", "blue")),  # disjoint
        ((2.2, 0.05), (2.5, 0.1), 2.3, ("blue", "")),  # too much is no better than too little
        ((0.8, 0.01), (0.9, 0.02), None, ("", "blue")),  # accuracy: the larger one
        ((0.91, 0.01), (0.9, 0.02), None, ("bold", "")),
        ((0.9001, 0.01), (0.9004, 0.02), None, ("", "")),  # both are printed as 0.900
        ((0.0, 0.0), (1.5, 0.3), 2.3, ("", "blue")),  # a collapsed loss
        ((0.8, math.nan), (0.9, math.nan), None, ("", "bold")),  # one seed has no interval
        ((0.8, 0.01), (math.nan, math.nan), None, ("", "")),
    ],
)
def test_emphasis(original, regularized, truth, marks):
    assert typeset.emphasis(Interval(*original), Interval(*regularized), truth) == marks


def test_emphasis_on_published_numbers():
    """The paper's own cells: bold where intervals overlap, blue where they do not."""
    assert typeset.emphasis(Interval(2.300, 0.003), Interval(2.298, 0.005), math.log(10)) == ("bold", "")
    assert typeset.emphasis(Interval(0, 0), Interval(2.065, 0.842), math.log(10)) == ("", "blue")


def test_layout(full):
    blocks = typeset.layout(full)
    losses = ["MINE", "SMILE", "InfoNCE", "NWJ", "TUBA", "JS"]
    ablation = ["NWJ, both clipped", "NWJ, no clip", "TUBA, both clipped", "TUBA, no clip"]
    assert [[row.label for row in rows] for rows in blocks.values()] == [
        [*losses, "untrained"],
        [*losses, "untrained"],
        [*losses, *ablation, "untrained"],
        [*losses, "untrained"],
    ]
    assert [title.split(" (")[0].split(", ")[1] for title in blocks] == ["digits", "digit pairs"] * 2
    rows = {row.label: row for row in list(blocks.values())[2]}
    assert rows["NWJ"].cells[0] == ("0.000 ± 0.000 (0/3)", "")
    assert rows["NWJ"].cells[1].emphasis == rows["NWJ"].cells[3].emphasis == "blue"
    assert [cell.text for cell in rows["MINE"].cells] == ["1.010 ± 0.025", "2.510 ± 0.025", "0.810 ± 0.025", "0.815 ± 0.025"]
    assert [cell.emphasis for cell in rows["MINE"].cells] == ["", "blue", "", "bold"]
    assert [cell.text for cell in rows["NWJ, both clipped"].cells[:2]] == ["1.060 ± 0.025", rows["NWJ"].cells[1].text]
    assert [cell.text for cell in rows["NWJ, no clip"].cells[:2]] == [rows["NWJ"].cells[0].text, "2.510 ± 0.025"]
    assert [cell.text for cell in rows["untrained"].cells] == ["–", "–", "0.810 ± 0.025", "–"]
    assert (rows["MINE"].lam, rows["untrained"].lam) == ("0.01", "–")


def test_a_cell_that_still_learns_is_marked_and_its_pair_not_compared(full):
    learning = full.copy()
    here = (full.task == "clb") & (full.dataset == "digits") & (full.loss == "mine") & (full.variant == "regularized")
    learning.loc[here, "settled"] = 2
    rows = {row.label: row for row in list(typeset.layout(learning).values())[2]}
    texts = ["1.010 ± 0.025", "2.510 ± 0.025 …", "0.810 ± 0.025", "0.815 ± 0.025 …"]
    assert [cell.text for cell in rows["MINE"].cells] == texts
    assert {cell.emphasis for cell in rows["MINE"].cells} == {""}
    assert rows["SMILE"] == {row.label: row for row in list(typeset.layout(full).values())[2]}["SMILE"]
    assert "2.510 ± 0.025 …" in typeset.table2_markdown(learning)
    assert r"2.510 $\pm$ 0.025 \dots" in typeset.table2_tex(learning)
    assert "…: still learning" in typeset.caption(full)


def shown(figure):
    """Every text of the image: of the cells, and the note."""
    (table,) = figure.axes[0].tables
    return [*(cell.get_text() for cell in table.get_celld().values() if cell.get_text().get_text()), *figure.axes[0].texts]


def test_renderings_say_the_same(full):
    markdown, tex = typeset.table2_markdown(full), typeset.table2_tex(full)
    figure = typeset.table2_image(full, profile="desk")
    texts = shown(figure)
    cells = [cell for rows in typeset.layout(full).values() for row in rows for cell in row.cells]
    for mark, in_markdown, in_tex, in_figure in (
        ("bold", markdown.count("**") / 2 - 4, tex.count(r"\textbf"), [t for t in texts if t.get_fontweight() == "bold"]),
        (
            "blue",
            markdown.count("<span"),
            tex.count(r"\textcolor"),
            [t for t in texts if same_color(t.get_color(), typeset.BLUE)],
        ),
    ):
        expected = sum(cell.emphasis == mark for cell in cells)
        assert (in_markdown, in_tex, len(in_figure)) == (expected, expected, expected)
    for text in (markdown, tex):
        assert "profile quick" in text
        assert "over 3 seeds" in text
    assert "profile desk" in texts[-1].get_text()
    assert tex.count(r"\\") == 2 + 4 + 4 * 7 + 4  # header, block titles, rows, ablation
    assert not set("±–−λ“”") & set(tex)


def test_image_has_the_column_width_and_nothing_leaves_it(full):
    figure = typeset.table2_image(full)
    assert figure.get_figwidth() == 7.2
    figure.draw_without_rendering()
    canvas = figure.bbox
    for text in shown(figure):
        box = text.get_window_extent()
        assert canvas.x0 <= box.x0 < box.x1 <= canvas.x1
        assert canvas.y0 <= box.y0 < box.y1 <= canvas.y1


def test_table1_renderings():
    frame = table1.rows()
    markdown, tex = typeset.table1_markdown(frame), typeset.table1_tex(frame)
    assert len(markdown.splitlines()) == 2 + 6
    assert {line.count(" | ") for line in markdown.splitlines() if "---" not in line} == {5}
    assert tex.count(r" \\") == 1 + 6
    assert not set("±–−λτ²*") & set(tex.replace("table*", "").replace("$C^*$", ""))
