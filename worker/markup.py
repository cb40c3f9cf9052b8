"""HTML to text, and entities: two steps of `clean`.

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
"""

import html
import re
from html.entities import html5


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


def text_of(text: str) -> str:
    """The text of a page without its tags; `text` itself if it is not HTML."""
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
    from selectolax.lexbor import LexborHTMLParser  # not there where no text is read, as in `clean`

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


def resolve_entities(text: str) -> str:
    """`text` with its entities resolved, until none is left."""
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
