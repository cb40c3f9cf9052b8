"""Cleaning of a caller's text before step 5, for a job that asks for it. Pure: text in, text out.

`CleanStep` says which steps there are and why in that order. Each takes time linear in its text.

CONTROL. Separators such as a form feed become line breaks. Joiners, variation selectors and flag tags stay:
emoji, Persian and the scripts of India need them. So do code points that are not assigned: they are newer
than this Python's tables.

NFKC leaves a run of more than `_LONGEST_RUN` combining marks alone: sorting one takes quadratic time.

Cleaning twice changes nothing more, with one exception. HTML and ENTITIES read what the caller sent, once:
a text about markup (`<p>Write &lt;br&gt;</p>`) keeps its subject (`Write <br>`), which a second cleaning
would take. NFKC may uncover markup too, of full width.
"""

import unicodedata
from collections.abc import Callable, Collection
from itertools import groupby

from jobs.model import CleanStep
from worker import markup

_ROUNDS = 4
_LONGEST_RUN = 256


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


def clean(text: str, steps: Collection[CleanStep]) -> tuple[str, tuple[CleanStep, ...]]:
    """`text` after the steps that `steps` names, and which of them changed something, in their order.

    `text` must hold no lone surrogates.
    """
    if not steps:
        return text, ()
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


def _mojibake(text: str) -> str:
    if text.isascii():
        return text
    import ftfy  # not there where no text is read: beside the API, and in a callbacks worker

    encoding_only = ftfy.TextFixerConfig(
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
    return ftfy.fix_text(text, encoding_only)


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
    CleanStep.HTML: markup.text_of,
    CleanStep.ENTITIES: markup.resolve_entities,
    CleanStep.MOJIBAKE: _mojibake,
    CleanStep.CONTROL: _control,
    CleanStep.NFKC: _nfkc,
    CleanStep.WHITESPACE: _whitespace,
}
