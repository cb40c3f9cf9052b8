"""Cleaning of a caller's text before step 5, for a job that asks for it. Pure: text in, text out.

`CleanStep` says which steps there are and why in that order. Each takes time linear in its text.

HTML. A text is HTML if it holds a tag of an HTML element, a closed comment or a doctype. `a < b`,
`List<String>`, `<a@b.com>`, `<https://…>` hold none. Nor does `the <script> tag`: a start tag counts only
- if its end tag comes later; any name will do then, but only an HTML element's makes the text HTML; or
- if it gives an attribute a value, or is bare and of an element that often stands alone (`<p>`, `<br>`,
  `<div>`), unless what is inside would be dropped.
Blocks become line breaks, table cells tabs; script, style, noscript, template, head and svg go with what
is in them. White space is kept except around those breaks and at both ends: `<pre>` and Markdown with a few
tags keep their lines.
Limits: code with a `<div>` or a closed `<b>` in it (JSX, a lesson in HTML) is HTML and loses those tags. A
text that ends inside a quoted attribute stays as it was.

ENTITIES. Only those that end in a semicolon (`?a=1&copy=2` is an address), again until none is left.

CONTROL. Separators such as a form feed become line breaks. Joiners, variation selectors and flag tags stay:
emoji, Persian and the scripts of India need them. So do code points that are not assigned: they are newer
than this Python's tables.

NFKC leaves a run of more than `_LONGEST_RUN` combining marks alone: sorting one takes quadratic time.

Cleaning twice changes nothing more, with one exception. HTML and ENTITIES read what the caller sent, once:
a text about markup (`<p>Write &lt;br&gt;</p>`) keeps its subject (`Write <br>`), which a second cleaning
would take. NFKC may uncover markup too, of full width.
"""

import html
import re
import unicodedata
from collections.abc import Callable, Collection
from html.entities import html5
from itertools import groupby

import ftfy
from selectolax.lexbor import LexborHTMLParser

from jobs.model import CleanStep

_ROUNDS = 4
_LONGEST_RUN = 256


def _names(names: str) -> frozenset[str]:
    return frozenset(names.split())


_ALONE = _names("""
    blockquote body br caption dd div dl dt h1 h2 h3 h4 h5 h6 hr html li ol p pre table tbody td tfoot th
    thead tr ul wbr
""")
_BLOCK = (_ALONE - _names("br td th wbr")) | _names("""
    address article aside center details dialog dir fieldset figcaption figure footer form frameset header
    hgroup legend listing main menu nav optgroup option plaintext search section select summary textarea xmp
""")
_INLINE = _names("""
    a abbr acronym applet area audio b base basefont bdi bdo bgsound big blink button canvas cite code col
    colgroup data datalist del dfn em embed font frame i img input ins kbd label link map mark marquee math
    meta meter nobr object output param picture progress q rb rp rt rtc ruby s samp slot small source span
    strike strong sub sup time track tt u var video
""")
_RAW = _names("script style")  # their text holds no tags
_DROPPED = _RAW | _names("head iframe noembed noframes noscript svg template title")
_KNOWN = _ALONE | _BLOCK | _INLINE | _DROPPED

_NAME = re.compile(r"(/?)([a-z][^\s/>]*)(?=[\s/>])", re.ASCII | re.IGNORECASE)

# Elements without content that stand for tags in what the parser reads.
_BREAK, _LINE, _CELL, _SKIP, _RESUME, _END = "hr", "br", "img", "source", "track", "wbr"
_SPACE = " \t\n\r\f"

_LONGEST_ENTITY = max(map(len, html5))

_INVISIBLE = (
    *(0x00AD, 0x061C, 0x200B, 0x200E, 0x200F, 0xFEFF, 0xE0001),
    *range(0x202A, 0x202F),  # bidi
    *range(0x2060, 0x2070),  # word joiner, operators of width zero, bidi
    *range(0xFFF9, 0xFFFC),  # annotations
    *range(0xFDD0, 0xFDF0),  # not characters, like the last two of each plane
    *(plane + last for plane in range(0, 0x110000, 0x10000) for last in (0xFFFE, 0xFFFF)),
)
_CONTROLS: dict[int, str | None] = dict.fromkeys(_INVISIBLE) | {
    code: "\n" if chr(code).isspace() else None
    for code in range(0x100)
    if unicodedata.category(chr(code)) == "Cc" and chr(code) not in "\t\n\r"
}

_ENCODING_ONLY = ftfy.TextFixerConfig(
    unescape_html=False,
    remove_terminal_escapes=False,
    fix_latin_ligatures=False,
    fix_character_width=False,
    uncurl_quotes=False,
    fix_line_breaks=False,
    fix_surrogates=False,
    remove_control_chars=False,
    normalization=None,
    explain=False,
)


def clean(text: str, steps: Collection[CleanStep]) -> tuple[str, tuple[CleanStep, ...]]:
    """`text` after the steps that `steps` names, and which of them changed something, in their order.

    `text` must hold no lone surrogates.
    """
    changed = set()

    def take(step: CleanStep) -> None:
        nonlocal text
        if step in steps and (done := _STEPS[step](text)) != text:
            text = done
            changed.add(step)

    take(CleanStep.HTML)
    take(CleanStep.ENTITIES)
    # Once is enough for nearly every text. But a character between two halves of mojibake hides it until
    # CONTROL takes it, and NFKC may compose one half.
    for _ in range(_ROUNDS):
        before = text
        for step in (CleanStep.MOJIBAKE, CleanStep.CONTROL, CleanStep.NFKC, CleanStep.WHITESPACE):
            take(step)
        if text == before:
            break
    return text, tuple(step for step in CleanStep if step in changed)


def _html(text: str) -> str:
    source = _marked(text)
    return text if source is None else _read(source, text)


def _marked(text: str) -> str | None:
    """`text` with a mark for each tag, and every other `<` escaped; None if it is not HTML.

    Nested tags and long lists of attributes cost a parser quadratic time: the marks have neither. The
    parser still decides where tags, scripts and comments end.
    """
    head, *pieces = text.split("<")
    names = [_NAME.match(piece) for piece in pieces]
    last_end = {name[2].lower(): at for at, name in enumerate(names) if name and name[1]}
    last_close = _last(pieces, ">")
    last_comment = _last(pieces, "-->")
    opened: set[str] = set()
    is_html = False
    out = [head]
    for at, (piece, match) in enumerate(zip(pieces, names, strict=True)):
        if match and at <= last_close:
            name, is_end = match[2].lower(), bool(match[1])
            if is_end:
                is_tag = name in _KNOWN or name in opened
            else:
                is_tag = last_end.get(name, -1) > at or _alone(name, piece[match.end() :])
                opened.add(name)
            is_html |= is_tag and name in _KNOWN
            out.append(_mark(name, is_end) + piece[match.end() :] if is_tag else "&lt;" + piece)
        elif piece.startswith("!--") and at <= last_comment:
            is_html = True
            out.append("<" + piece)
        else:
            start = piece.partition(">")[0].lower() if ">" in piece else ""
            is_html |= start.startswith("!doctype ")
            out.append(
                ("<" if start.startswith(("!doctype ", "?xml ", "![if", "![endif")) else "&lt;") + piece
            )
    return "".join(out) if is_html else None


def _last(pieces: list[str], sign: str) -> int:
    return next((at for at in range(len(pieces) - 1, -1, -1) if sign in pieces[at]), -1)


def _alone(name: str, rest: str) -> bool:
    """Whether a start tag needs no end tag: `<p>` and `<a href=…>` need none, `<b>` and `<p and q>` do."""
    attributes = rest.partition(">")[0]
    bare = name in _ALONE and not attributes.strip(_SPACE + "/")
    return bare or ("=" in attributes and name in _KNOWN and name not in _DROPPED)


def _mark(name: str, is_end: bool) -> str:
    if name in _RAW:
        return f"</{name}" if is_end else f"<{name}></x"
    if name in _DROPPED:
        mark = _RESUME if is_end else _SKIP
    elif name == "br":
        mark = _LINE
    elif name in {"td", "th"}:
        mark = _CELL
    elif name in _BLOCK:
        mark = _BREAK
    else:
        return "</x"
    return f"<{mark}></x"  # an end tag without a start: the parser reads its attributes and forgets them


def _read(source: str, text: str) -> str:
    """The text of a marked source; `text` if the source ends inside a tag: its rest would be lost."""
    # `root` is the first of the nodes, and all are siblings: the marks have no content.
    node = LexborHTMLParser(f"<{_RESUME}>{source}<{_END}>", is_fragment=True, scripting=True).root
    out: list[str] = []
    lines, cell, skipped, tag = 0, False, False, None
    while node is not None:
        tag = node.tag
        if tag == "-text" and not skipped:
            words = node.text_content or ""
            if lines or cell:
                words = words.lstrip(_SPACE)
            if words:
                if out and (lines or cell):
                    out[-1] = out[-1].rstrip(_SPACE)
                    out.append("\n" * lines or "\t")
                out.append(words)
                lines, cell = 0, False
        elif tag == _BREAK:
            lines = max(lines, 1)
        elif tag == _LINE:
            lines += 1
        elif tag == _CELL:
            cell = True
        elif tag in {_SKIP, _RESUME}:
            skipped = tag == _SKIP
        node = node.next
    return "".join(out).strip(_SPACE) if tag == _END else text


def _entities(text: str) -> str:
    if "&" not in text:
        return text
    head, *rest = text.split(";")
    done = list(head)
    for piece in rest:
        # `done` never holds a whole entity, so that only one that ends here can be new.
        while (value := _pop_entity(done)) == ";":
            pass
        done.extend(";" if value is None else value)
        done.extend(piece)
    return "".join(done)


def _pop_entity(done: list[str]) -> str | None:
    """What the entity at the end of `done` stands for, taken off it; None if there is none."""
    end = "".join(done[-_LONGEST_ENTITY:])
    start = end.rfind("&")
    if start < 0:
        return None
    name = end[start + 1 :] + ";"
    if not (name in html5 or re.fullmatch(r"#([0-9]+|[xX][0-9a-fA-F]+);", name)):
        return None
    del done[start - len(end) :]
    return html.unescape("&" + name)


def _mojibake(text: str) -> str:
    return text if text.isascii() else ftfy.fix_text(text, _ENCODING_ONLY)


def _control(text: str) -> str:
    return text.translate(_CONTROLS)


def _nfkc(text: str) -> str:
    if text.isascii():
        return text
    done: list[str] = []
    part: list[str] = []
    for is_mark, run in groupby(text, key=_is_mark):
        chars = "".join(run)
        if is_mark and len(chars) > _LONGEST_RUN:
            done += [unicodedata.normalize("NFKC", "".join(part)), chars]
            part = []
        else:
            part.append(chars)
    return "".join([*done, unicodedata.normalize("NFKC", "".join(part))])


def _is_mark(char: str) -> bool:
    """Whether NFKC makes a combining mark of it: half-width ﾞ is a letter before."""
    return char > "\u02ff" and unicodedata.combining(unicodedata.normalize("NFKD", char)[0]) > 0


def _whitespace(text: str) -> str:
    lines: list[str] = []
    for line in text.splitlines():
        words = " ".join(line.split())
        if words and line[0].isspace():
            words = " " + words
        if words or (lines and lines[-1]):
            lines.append(words)
    return "\n".join(lines).strip()


_STEPS: dict[CleanStep, Callable[[str], str]] = {
    CleanStep.HTML: _html,
    CleanStep.ENTITIES: _entities,
    CleanStep.MOJIBAKE: _mojibake,
    CleanStep.CONTROL: _control,
    CleanStep.NFKC: _nfkc,
    CleanStep.WHITESPACE: _whitespace,
}
