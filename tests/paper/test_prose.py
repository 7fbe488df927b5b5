"""Markdown becomes HTML that asks for nothing, and a formula MathML or an error."""

import re

import pytest

from remi.paper import prose


def test_inline_markdown():
    assert prose.inline("a *b* **c** `d*e*` <f>") == "a <em>b</em> <strong>c</strong> <code>d*e*</code> &lt;f&gt;"
    assert prose.inline("C* = -5, -2; C* = 2") == "C* = -5, -2; C* = 2"
    assert prose.inline(r"C\* and E\_Q cost \$5") == "C* and E_Q cost $5"
    assert prose.inline("5$ is no formula, 6$ neither") == "5$ is no formula, 6$ neither"
    assert prose.inline("[x](https://a.b/c) [y](javascript:z)") == '<a href="https://a.b/c">x</a> y'
    assert prose.inline("![x](https://a.b/c.png) <https://a.b> <a@b.c>") == 'x <a href="https://a.b">https://a.b</a> a@b.c'
    assert prose.inline('<span style="color:#0077BB">1 & 2</span>') == '<span class="blue">1 &amp; 2</span>'
    assert prose.inline('<span style="color:url(x)">1</span>').count("<") == 0


def test_block_markdown():
    items = "3. **a** b\n   - c\n     d\n   - e\n\n4. f\n"
    html = prose.markdown(f"# Title\n\nOne\ntwo.\n\n## Part\n\n{items}\n| x | y |\n|---|--:|\n| 1 | p \\| q |\n", anchor="item")
    assert html.replace("\n", "") == (
        "<p>Onetwo.</p><h3>Part</h3>"
        '<ol start="3"><li id="item-3"><p><strong>a</strong> b</p><ul><li>cd</li><li>e</li></ul></li>'
        '<li id="item-4"><p>f</p></li></ol>'
        '<div class="scroll" tabindex="0" role="region" aria-label="Table">'
        '<table><thead><tr><th scope="col">x</th><th scope="col">y</th></tr></thead>'
        "<tbody><tr><td>1</td><td>p | q</td></tr></tbody></table></div>"
    )


@pytest.mark.parametrize(
    "latex",
    [
        r"\undefined x",
        "a_b_c",
        "a & b",
        r"\text{$a$}",
        r"\href{javascript:x}{y}",
        r"\style{background:url(x)}{y}",
        r"\class{a}{b}",
    ],
)
def test_a_formula_that_cannot_be_converted_is_an_error(latex):
    with pytest.raises(ValueError, match=re.escape(f"no formula: ${latex}$")):
        prose.mathematics(latex)


def test_mathematics():
    assert prose.mathematics(r"a < \text{<b> & c}").endswith(
        "<mo>&lt;</mo><mtext>&lt;b&gt;\N{NO-BREAK SPACE}&amp;\N{NO-BREAK SPACE}c</mtext></mrow></math>"
    )
    assert "<mi>X</mi><mo>;</mo><mi>Y</mi>" in prose.mathematics("I(X; Y)")
    assert '<mspace width="2em" /><mtext>(8)</mtext>' in prose.mathematics(r"a \tag{8}", display=True)


@pytest.mark.parametrize(
    ("latex", "name", "before", "after"),
    [
        (r"\log r", "log", "0", "0.167em"),
        (r"\log(r)", "log", "0", "0"),
        (r"\log\left(r\right)", "log", "0", "0"),
        (r"2\log 2", "log", "0.167em", "0.167em"),
        (r"(a)\exp a", "exp", "0.167em", "0.167em"),
        (r"a = \max_j b", "max", "0", "0.167em"),
        (r"\operatorname{Var}[a]", "Var", "0", "0"),
        (r"\frac{\log}{2}", "log", "0", "0"),
    ],
)
def test_names_of_functions_are_spaced(latex, name, before, after):
    assert f'<mo lspace="{before}" rspace="{after}">{name}</mo>' in prose.mathematics(latex)


@pytest.mark.parametrize(
    ("latex", "signs"),
    [("a = -1", 1), ("-a - b", 1), ("E[-a] - (b)-c", 1), ("a - b", 0), ("|a| - \\infty - b", 0), ("e^{-s}", 1)],
)
def test_a_sign_is_no_difference(latex, signs):
    assert prose.mathematics(latex).count('<mo form="prefix">\N{MINUS SIGN}</mo>') == signs


@pytest.mark.parametrize(
    "source", ["$$a$$", "$$\na\n$$", "one\n$$a$$\ntwo", "one $$a$$", "> one\n> $$\n> a\n> $$", "1. one\n\n   $$a$$"]
)
def test_display_mathematics_stands_in_a_box_that_scrolls(source):
    formula = '<span class="formula"><math display="block"><mrow><mi>a</mi></mrow></math></span>'
    assert prose.markdown(source).count(formula) == 1
