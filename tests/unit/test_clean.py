"""Cleaning: each rule by example, then properties, then hostile texts."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.model import CleanStep
from worker.clean import clean

ALL = tuple(CleanStep)
PLAIN = (CleanStep.MOJIBAKE, CleanStep.CONTROL, CleanStep.NFKC, CleanStep.WHITESPACE)


def by(step: CleanStep, text: str) -> str:
    cleaned, changed = clean(text, [step])
    assert changed == ((step,) if cleaned != text else ())
    return cleaned


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<p>one</p><p>two</p>", "one\ntwo"),
        ("<h1>Title</h1>text<br>more<br/>end", "Title\ntext\nmore\nend"),
        ("<ul>\n  <li>one\n  <li>two\n</ul>", "one\ntwo"),
        ("<table><tr><th>a</th> <th>b</th></tr><tr><td>c<td>d</table>", "a\tb\nc\td"),
        ("a<br><br>b", "a\n\nb"),
        ("un<b>break</b>able, <a href='x'>a</a> <span class=y>b</span>", "unbreakable, a b"),
        ("<DIV CLASS='a > b'>x</DIV>", "x"),
        ("x<!-- <p>gone</p> -->y", "xy"),
        ("<!DOCTYPE html>\nx", "x"),
        ("<?xml version='1.0'?><p>x</p>", "x"),
        ("<p>a<script>if (a<b) { '<p>' }</script>b<style>p > a {}</style></p>", "ab"),
        ("<html><head><title>T</title><meta name=x></head><body>text</body></html>", "text"),
        ("<noscript><img src=x> no</noscript><template><p>no</p></template><p>yes", "yes"),
        ("<p>a <svg><path d='M0'/><text>no</text></svg>b", "a b"),
        ("<p>&lt;b&gt; &amp;amp; &eacute; &#8217; AT&T", "<b> &amp; é ’ AT&T"),
        ("<pre>\ndef f():\n    return <b>1</b>\n</pre>", "def f():\n    return 1"),
        ("# Title\n\n<img src=x>\n- one\n- <b>two</b>\n", "# Title\n\n\n- one\n- two"),
        ("a piece</span> of a page</div>", "a piece of a page"),
        ('<div class="page">a piece of a page', "a piece of a page"),
        ("<p>a <my-widget x=1>b</my-widget> <o:p></o:p>c", "a b c"),
    ],
)
def test_html_becomes_text(text: str, expected: str) -> None:
    assert by(CleanStep.HTML, text) == expected


NOT_HTML = [
    "a < b and c > d",
    "if x<y: return",
    "x<5 && y>3",
    "x<a && y>3",
    "2 <p and q> 1",
    "List<String> list",
    "Map<String, List<Integer>> of vector<std::string>",
    "<Document>: foo",
    "<foo>bar</foo>",
    "write to <a@b.com> or <https://example.org/a?b=c>",
    "the <script> tag, the <title> tag and the <b> tag",
    "copy <source> <target>",
    "<!doctype and <?xml begin a file",
    "I <3 you </3 <- -> <> </> <!> <? ?> <!-- open",
    "&lt;p&gt; is no tag yet",
]


@pytest.mark.parametrize("text", NOT_HTML)
def test_what_is_not_html_stays(text: str) -> None:
    assert by(CleanStep.HTML, text) == text


@pytest.mark.parametrize("text", [t for t in NOT_HTML if "&lt;" not in t and "<foo>" not in t])
def test_what_is_no_tag_stays_inside_html_too(text: str) -> None:
    assert by(CleanStep.HTML, f"<p>{text}<p>end") == f"{text}\nend"


def test_the_content_of_an_unknown_element_stays() -> None:
    assert by(CleanStep.HTML, "<p><foo>bar</foo>") == "bar"


@pytest.mark.parametrize(
    "text", ["<p title='it>the rest", "<b title='it>the rest</b>", '<p>a <b class=">b</b> rest']
)
def test_an_attribute_that_never_ends_costs_no_text(text: str) -> None:
    assert by(CleanStep.HTML, text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Q&amp;A", "Q&A"),
        ("it&#8217;s &#x1F600; &eacute;", "it’s 😀 é"),
        ("&amp;amp;lt; &amp;#39; &am&#112;;", "< ' &"),
        ("&amp&semi;&semi;", "&;"),
        ("&lt;b&gt;", "<b>"),
        ("AT&T; R&D &unknown; &; & ;", "AT&T; R&D &unknown; &; & ;"),
        ("?a=1&copy=2&lt", "?a=1&copy=2&lt"),
        ("&notit; &#12ab; &#xg; &#;", "&notit; &#12ab; &#xg; &#;"),
        ("&#" + "1" * 5000 + ";", "&#" + "1" * 5000 + ";"),
        ("&#xD800;&#x110000;", "\ufffd\ufffd"),
    ],
)
def test_entities(text: str, expected: str) -> None:
    assert by(CleanStep.ENTITIES, text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cafÃ© â€œquotedâ€\x9d", "café “quoted”"),
        ("ÃƒÂ©", "é"),
        ("РџСЂРёРІРµС‚", "Привет"),
        ("It\x92s", "It’s"),
        ("\xed\xa0\xbd\xed\xb8\x80", "😀"),
        ("“don’t” ﬁ ＡＢ e\u0301 é – Größe Привет &amp; \x1b[1m\r\n", None),
    ],
)
def test_mojibake_and_nothing_else_of_ftfys(text: str, expected: str | None) -> None:
    assert by(CleanStep.MOJIBAKE, text) == (text if expected is None else expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\ufeffa\x00b\x07c\x7fd\x81e", "abcde"),
        ("a\tb\nc\r\nd", None),
        ("page\fpage\vline\x85line", "page\npage\nline\nline"),
        (
            "zero\u200bwidth soft\u00adhyphen \u202eright\u202c \u2066left\u2069 word\u2060joiner",
            "zerowidth softhyphen right left wordjoiner",
        ),
        ("\ufffe\uffff\ufdd0\U0001ffff\U0010ffff", ""),
        ("👨‍👩‍👧 ❤️ می‌خواهم क्‍ष", None),
        ("🏴\U000e0067\U000e0062\U000e0077\U000e006c\U000e0073\U000e007f", None),
        ("\ufffd \ue000 \U000e0ffe \u0600", None),
    ],
)
def test_control(text: str, expected: str | None) -> None:
    assert by(CleanStep.CONTROL, text) == (text if expected is None else expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("ＡＢＣ１２３　ｶﾞ", "ABC123 ガ"), ("ﬁ e\u0301 ² Å", "fi é 2 Å"), ("日本 한국 é", "日本 한국 é")],
)
def test_nfkc(text: str, expected: str) -> None:
    assert by(CleanStep.NFKC, text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  a  b\t\tc\u00a0\u3000d  ", "a b c d"),
        ("a  \nb\t\n", "a\nb"),
        ("a\r\nb\rc\u2028d", "a\nb\nc\nd"),
        ("a\n\n\n\nb\n \t \n\nc\n\nd", "a\n\nb\n\nc\n\nd"),
        ("def f():\n    return", "def f():\n return"),
        (" \n\t\n ", ""),
    ],
)
def test_whitespace(text: str, expected: str) -> None:
    assert by(CleanStep.WHITESPACE, text) == expected


def test_the_steps_work_in_their_order() -> None:
    page = "<p>Itâ€™s &amp;amp; ca&Atilde;&copy; <i>ﬁ\u200bne</i>&nbsp; <p>  use &lt;br&gt;"
    assert clean(page, ALL) == ("It’s & caé fine\nuse <br>", ALL)


def test_nothing_is_done_that_is_not_asked() -> None:
    assert clean("<p>&amp;Ã©\x00ﬁ  ", ()) == ("<p>&amp;Ã©\x00ﬁ  ", ())


def test_mojibake_that_another_step_uncovers_is_mended() -> None:
    assert clean("Ã\u200b©", ALL) == ("é", (CleanStep.MOJIBAKE, CleanStep.CONTROL))


def test_one_cleaning_takes_one_layer_of_markup() -> None:
    once, _ = clean("<p>Write &lt;br&gt;", ALL)
    assert once == "Write <br>"
    assert clean(once, ALL) == ("Write", (CleanStep.HTML,))


# Whatever hypothesis likes, and texts made of what the steps look for.
PARTS = """
    < > </ & ; &amp; &lt; amp; <p> <p </p> <br> <b> </b> <div> </div> <script> </script> <title> </title>
    <foo> </foo> <!-- --> <!doctype> <pre> <td> <svg> </svg> ' " = # &#38; Ã © Â â€ â€™ é ð ﬁ ＜ ＞ ＆ ；
    ａ A a p x
"""
CHARACTERS = (
    "  \n\r\t\f\xa0\x00\x85\x92\u200b\u200d\ufeff\u0301\u0316\u0344\u0f73\uff9e\u00a8\u2028\u1100\u1161\ufffe"
)
TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.lists(st.sampled_from([*PARTS.split(), *CHARACTERS]), max_size=20).map("".join),
)
STEPS = st.sets(st.sampled_from(CleanStep))


@given(TEXTS, STEPS)
def test_what_is_reported_is_what_was_done(text: str, steps: set[CleanStep]) -> None:
    cleaned, changed = clean(text, steps)
    assert set(changed) <= steps
    assert list(changed) == [step for step in CleanStep if step in changed]
    assert clean(text, changed)[0] == cleaned
    cleaned.encode()
    if not changed:
        assert cleaned == text


@given(TEXTS, st.permutations(ALL))
def test_the_order_in_which_steps_are_asked_for_means_nothing(text: str, steps: list[CleanStep]) -> None:
    assert clean(text, steps) == clean(text, ALL)


@given(TEXTS)
def test_cleaning_twice_changes_nothing_more_but_markup_that_was_uncovered(text: str) -> None:
    once, _ = clean(text, ALL)
    again, changed = clean(once, ALL)
    assert again == once or {CleanStep.HTML, CleanStep.ENTITIES} & set(changed)


@given(TEXTS.map(lambda text: unicodedata.normalize("NFKC", text).replace("&", "").replace("<", "")))
def test_cleaning_twice_changes_nothing_more_without_markup(text: str) -> None:
    once, _ = clean(text, ALL)
    assert clean(once, ALL) == (once, ())


@given(TEXTS, STEPS.filter(lambda steps: CleanStep.HTML not in steps and CleanStep.NFKC not in steps))
def test_without_html_and_nfkc_cleaning_twice_changes_nothing_more(text: str, steps: set[CleanStep]) -> None:
    once, _ = clean(text, steps)
    assert clean(once, steps) == (once, ())


@given(TEXTS)
def test_the_steps_but_html_and_entities_need_no_exception(text: str) -> None:
    once, _ = clean(text, PLAIN)
    assert clean(once, PLAIN) == (once, ())


@given(
    st.lists(st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=1)).map(" ".join), STEPS
)
def test_plain_words_are_never_changed(text: str, steps: set[CleanStep]) -> None:
    assert clean(text, steps) == (text, ())


MEGABYTE = 1_000_000


@pytest.mark.parametrize(
    "unit",
    [
        *(
            "<",
            "</",
            "<!",
            "<!--",
            "&",
            ";",
            "&;",
            "&amp;",
            "amp;",
            "&#",
            "\u0301\u0316",
            "\u0f73",
            "\u0301\uff9e",
        ),
        *(
            "<div>",
            "<span>",
            "</div>",
            "<b a=1>",
            "<p>x",
            "<script>",
            "<title>",
            "<template>",
            "<svg>",
            "<a b='",
        ),
        *("<table><td>", "Ã©", "Ã©日", "\x00", " ", "\n", " \n", "\u200b"),
    ],
    ids=ascii,
)
def test_a_hostile_megabyte_is_cleaned_before_the_time_limit(unit: str) -> None:
    closed = "</span></div></script></title></template></svg>"
    clean("<p>" + unit * (MEGABYTE // len(unit)) + closed, ALL)


def test_a_hostile_tree_is_cleaned_before_the_time_limit() -> None:
    count = MEGABYTE // 12
    assert clean("<div>" * count + "x" + "</div>" * count, ALL)[0] == "x"
    assert clean("<span id=1>" * count + "x</i>" * count, ALL)[0] == "x" * count
    assert clean("<p " + " ".join(f"a{i}=1" for i in range(count)) + ">x", ALL)[0] == "x"
    assert clean("&" + "amp;" * count, ALL)[0] == "&"
    assert clean("&#" + "1" * MEGABYTE + ";", ALL)[1] == ()
