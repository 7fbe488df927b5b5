"""Table 2 of a folder of images of one's own."""

from pathlib import Path

from remi.paper import experiments, figures, table2, typeset
from remi.runs import store
from remi.style import render


def folder(profile: str) -> tuple[str, Path]:
    """Table 2 of the folder of images at `data_root` from its finished runs, as Markdown, and where its products were written.

    They are `table2.csv`, a row per run; `table2_summary.csv`, a row per cell; `table2.md`, `.tex`, `.png` and `.pdf`.
    """
    found = [store.load(run) for run in experiments.runs_of("folder", profile)]
    table = table2.rows({"folder": [record for record in found if record]})
    summary = table2.summary(table)
    where = figures.folder(profile) / "folder"
    where.mkdir(parents=True, exist_ok=True)
    figures.write(where / "table2.csv", table.to_csv(index=False, float_format="%.5g", lineterminator="\n"))
    figures.write_cells(where, summary, profile)
    for suffix, content in render(typeset.table2_image(summary, profile)).items():
        figures.write(where / f"table2{suffix}", content)
    return (where / "table2.md").read_text(), where
