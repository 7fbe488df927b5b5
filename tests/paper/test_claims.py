"""The six verdicts and the rules that give them; the list of claims; and the profile from which a verdict is taken."""

from dataclasses import fields, replace

import numpy as np
import pandas as pd
import pytest
from plants import constant, critics

from remi.paper import claims, experiments, verdicts
from remi.paper.verdicts import DRAWS, Claim, Finding, Seeds, Verdict, above, every, redraws

COLUMNS = ["id", "source", "statement", "expected", "measured", "verdict", "profile", "why"]  # design.md, section 4
CLAIM = Claim("c-1", "fig1", "Fig. 1", "It is so", "above 0", lambda seeds: None, "Because.", "Since not.")
RECORDS = critics("fig1", {}, seeds=4, steps=60)


def verdict(finding, records=RECORDS, **changes):
    seeds = None if records is None else Seeds(records)
    return verdicts.judge(replace(CLAIM, check=lambda seeds: finding, **changes), seeds, "quick")


def draws(share):
    """Decisions of which so many agree with the first, which says yes."""
    return np.arange(1 + DRAWS) <= share * DRAWS


@pytest.mark.parametrize(
    ("holds", "settled", "identity", "word", "why"),
    [
        (True, True, False, "holds", "Because."),
        (False, True, False, "fails", "Since not."),
        (draws(0.95), True, False, "holds", "Because."),
        (~draws(0.95), True, False, "fails", "Since not."),
        (draws(0.94), True, False, "inconclusive", verdicts.VERDICTS["inconclusive"]),
        (~draws(0.94), True, False, "inconclusive", verdicts.VERDICTS["inconclusive"]),
        (None, True, False, "inconclusive", verdicts.VERDICTS["inconclusive"]),
        (True, False, False, "undertrained", verdicts.VERDICTS["undertrained"]),
        (draws(0.5), False, False, "undertrained", verdicts.VERDICTS["undertrained"]),
        (True, True, True, "identity", "Because."),
        (draws(0.5), True, True, "identity", "Because."),
        (False, True, True, "fails", "Since not."),
    ],
)
def test_the_rules(holds, settled, identity, word, why):
    found = verdict(Finding("1.00", holds, settled), identity=identity)
    assert found == Verdict("c-1", "Fig. 1", "It is so", "above 0", "1.00", word, "quick", why)


def test_without_records_or_with_others_a_claim_is_untested():
    for found in (verdict(Finding("1.00", True), records=None), verdict(None)):
        assert (found.measured, found.verdict, found.why) == ("", "untested", verdicts.VERDICTS["untested"])


def test_one_seed_decides_only_what_is_certain():
    alone = critics("fig1", {}, seeds=1, steps=60)
    assert verdict(Finding("", draws(1)), alone).verdict == "inconclusive"
    assert verdict(Finding("", True), alone).verdict == "holds"
    assert verdict(Finding("", True), {}).verdict == "holds"  # a theorem


def test_seeds_are_measured_once_and_redrawn_together():
    seen = []

    def measure(record):
        seen.append(record.run.seed)
        return record.run.seed, 10 * record.run.seed

    seeds = Seeds(RECORDS)
    mine, nwj, again = seeds.each("mine", measure), seeds.each("nwj", measure), seeds.each("mine", measure)
    assert again is mine
    assert seen == 2 * [0, 1, 2, 3]
    assert mine.shape == (1 + DRAWS, 4, 2)
    assert mine[0, :, 0].tolist() == [0, 1, 2, 3]
    assert np.array_equal(mine, nwj)
    assert set(mine[1:, :, 0].ravel()) == {0, 1, 2, 3}
    assert 0.8 < mine[1:, :, 0].mean(1).std() / (np.std([0, 1, 2, 3]) / 2) < 1.2  # the standard error of a mean of four
    assert seeds.each("mine", lambda record: record.run.seed, only=lambda record: record.run.seed > 1)[0].tolist() == [2, 3]


def test_another_problem_has_other_redraws_and_the_same_one_the_same_on_every_machine():
    assert not np.array_equal(redraws(5, "clb digits"), redraws(5, "slb digits"))
    redraws.cache_clear()
    assert redraws(5, "clb digits")[1:4].tolist() == [[2, 2, 2, 3, 0], [0, 1, 3, 1, 0], [1, 1, 0, 2, 1]]


def test_intervals_by_hand():
    """Mean 2, sd 1 over four seeds: t(0.975, 3) / 2 = 1.591."""
    values = np.array([[1.0, 1.0, 3.0, 3.0]]) * np.sqrt(0.75) + 2 - 2 * np.sqrt(0.75)
    assert values.std(ddof=1) == pytest.approx(1)
    assert [above(values, threshold) for threshold in (0.40, 0.42, 3.58, 3.60)] == [True, None, None, False]
    assert above(np.array([[5.0]])) is None
    assert [every(found) for found in ([True, True], [True, None], [None, False], [])] == [True, None, False, True]


# ---- The list ---------------------------------------------------------------------------------------------------------------

SERIES = {"drift": 4, "explode": 5, "target": 2, "stable": 3, "thm": 8, "lambda": 2}
LISTED = {
    *(f"{name}-{k}" for name, last in SERIES.items() for k in range(1, last + 1)),
    *(
        f"gauss-{name}"
        for name in ("mine", "smile", "infonce", "nwj", "tuba", "js", "cap", "js-eval", "js-log", "variance", "clip")
    ),
    *(f"table2-{name}-{classes}" for name in ("collapse", "accuracy", "slb", "closed") for classes in (10, 100)),
    *("table2-better", "table2-minimal", "table2-clip", "lambda-3-10", "lambda-3-100"),
    *("drift-later", "stable-2-released", "stable-2-gentle", "smile-1", "thm-6-cause", "average-1"),
    *(
        f"beyond-{name}"
        for name in ("held", "ceiling", "met", "anchor", "sigmoid", "fdime", "flo", "dcl", "survival", "flo-lost")
    ),
    *(f"remedies-{name}" for name in ("target", "variance", "signed", "bounded")),
}


def test_every_listed_claim_is_there_once():
    assert sorted(claim.id for claim in claims.CLAIMS) == sorted(LISTED)


def test_every_claim_says_all_about_itself():
    for claim in claims.CLAIMS:
        assert claim.figure in experiments.PLANS
        texts = (claim.statement, claim.expected, claim.why, claim.otherwise, claim.source)
        assert all(text and not text.endswith(" ") and "  " not in text for text in texts)
        for sentence in (claim.why, claim.otherwise):
            assert sentence[0].isupper()
            assert sentence.endswith(".")


def test_the_papers_claims_are_told_from_ours_and_the_released_codes():
    others = {claim.id for claim in claims.CLAIMS if claim.source in verdicts.OURS}
    ours = {
        "drift-later",
        "stable-2-gentle",
        "gauss-js-log",
        "gauss-clip",
        "table2-clip",
        "table2-closed-10",
        "table2-closed-100",
    }
    ours |= {name for name in LISTED if name.startswith(("beyond-", "remedies-"))}
    assert others == ours | {"stable-2-released"}
    frame = claims.all_verdicts({}, "quick")
    assert set(frame.id) - set(claims.of_the_paper(frame).id) == others


def test_without_records_nothing_is_tested():
    frame = claims.all_verdicts({}, "quick")
    assert set(frame.verdict) == {"untested"}
    assert list(frame) == COLUMNS == [field.name for field in fields(Verdict)]


def test_a_figure_is_judged_by_its_own_claims():
    records = critics("fig1", {"mine": {"estimate": constant(2.77)}}, steps=1200)
    frame = claims.judge("fig1", records, "quick")
    assert list(frame.id) == ["drift-1", "drift-2", "drift-3", "drift-later"]
    assert claims.lines(frame).splitlines()[0] == f"       holds  drift-1: {frame.statement[0]}"
    html = claims.table(frame)
    assert [f"<th>{name}</th>" in html for name in ("id", "expected", "measured", "verdict", "why")] == [True] * 5


# ---- Profiles ---------------------------------------------------------------------------------------------------------------


def product(folder, **words):
    """A claims.csv of these verdicts; a value "word:measured" says what was measured, too."""
    folder.mkdir(exist_ok=True)
    profile = folder.name if folder.name in experiments.PROFILES else "quick"
    rows = [
        (name.replace("_", "-"), "ours", "s", "e", value.partition(":")[2], value.partition(":")[0], profile, "w")
        for name, value in words.items()
    ]
    pd.DataFrame(rows, columns=COLUMNS).to_csv(folder / "claims.csv", index=False)


def test_a_claim_is_shown_at_the_largest_profile_that_could_judge_it(tmp_path):
    product(tmp_path, a_1="holds:1", b_1="holds:1", c_1="undertrained:1", d_1="untested", e_1="holds:1", f_1="fails:1")
    product(tmp_path / "paper", a_1="fails:2", b_1="undertrained:2", c_1="untested", d_1="untested", e_1="inconclusive:2")
    product(
        tmp_path / "desk", a_1="holds:3", b_1="untested", c_1="undertrained:3", d_1="undertrained:3", f_1="fails:1", g_1="holds:3"
    )
    frame = claims.committed(tmp_path)
    assert list(frame) == COLUMNS
    assert list(zip(frame.id, frame.verdict, frame.profile, strict=True)) == [
        ("a-1", "fails", "paper"),
        ("b-1", "holds", "quick"),
        ("c-1", "undertrained", "desk"),
        ("d-1", "undertrained", "desk"),
        ("e-1", "inconclusive", "paper"),
        ("f-1", "fails", "quick"),  # measured alike at desk
        ("g-1", "holds", "desk"),
    ]


def test_one_profile_is_enough_and_none_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"there is no claims.csv in .*; `make paper` writes it"):
        claims.committed(tmp_path)
    product(tmp_path / "desk", a_1="holds")
    assert claims.committed(tmp_path).profile.tolist() == ["desk"]
