"""Every claim, chapter by chapter; the verdicts on them, and which of several profiles a verdict is taken from."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from remi.paper import checks_beyond, checks_gaussian, checks_images, checks_onehot, checks_remedies, checks_theorems
from remi.paper.experiments import PROFILES
from remi.paper.verdicts import OURS, Records, Seeds
from remi.paper.verdicts import judge as judge_claim

CLAIMS = (
    *checks_onehot.CLAIMS,
    *checks_gaussian.CLAIMS,
    *checks_images.CLAIMS,
    *checks_theorems.CLAIMS,
    *checks_beyond.CLAIMS,
    *checks_remedies.CLAIMS,
)
SAYS_NOTHING = ("untested", "undertrained")


def judge(figure: str, records: Records, profile: str) -> pd.DataFrame:
    """The verdicts on every claim that belongs to a figure or table."""
    seeds = Seeds(records)
    return pd.DataFrame([asdict(judge_claim(claim, seeds, profile)) for claim in CLAIMS if claim.figure == figure])


def all_verdicts(records: Mapping[str, Records], profile: str) -> pd.DataFrame:
    """Every row of claims.csv; `records` by figure."""
    shared = {id(runs): Seeds(runs) for runs in records.values()}  # Table 2 and Fig. 6 have the same
    seeds = {figure: shared[id(runs)] for figure, runs in records.items()}
    return pd.DataFrame([asdict(judge_claim(claim, seeds.get(claim.figure), profile)) for claim in CLAIMS])


def of_the_paper(verdicts: pd.DataFrame) -> pd.DataFrame:
    """The paper's own claims: neither ours nor about its released code."""
    return verdicts[~verdicts.source.isin(OURS)]


def committed(products: Path) -> pd.DataFrame:
    """Each claim at the largest profile that could judge it, of those that have a claims.csv; the `profile` column says which.

    A verdict that says nothing (untested, undertrained) gives way to one of a smaller profile, and stays where there is none.
    What is alike at two profiles (a theorem) is stated for the smaller.

    Args:
        products: the folder with the products of quick; the others are in folders of their own.
    """
    places = {profile: products / ("" if profile == "quick" else profile) / "claims.csv" for profile in PROFILES}
    found = [pd.read_csv(path, keep_default_na=False) for path in places.values() if path.is_file()]
    if not found:
        raise ValueError(f"there is no claims.csv in {products}; `make paper` writes it")
    rows = pd.concat(found, ignore_index=True).fillna("")
    says = rows.verdict.map(lambda word: SAYS_NOTHING.index(word) if word in SAYS_NOTHING else len(SAYS_NOTHING))
    best = rows.assign(says=says).sort_values("says", kind="stable").groupby("id", sort=False).tail(1)
    alike = ["id", "verdict", "measured"]
    first = rows.drop_duplicates(alike).merge(best[alike])
    return first.set_index("id").loc[rows.id.drop_duplicates()].reset_index()[list(rows)]


def lines(verdicts: pd.DataFrame) -> str:
    """A line per verdict, without the numbers that may differ in the last digits from machine to machine."""
    return "\n".join(f"{row.verdict:>12}  {row.id}: {row.statement}" for row in verdicts.itertuples())


def table(verdicts: pd.DataFrame) -> str:
    """What was measured, as an HTML table."""
    return verdicts[["id", "expected", "measured", "verdict", "why"]].to_html(index=False, border=0)
