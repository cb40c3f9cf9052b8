"""Where a long document is divided, for `overflow: chunk`. Pure: a text and its tokens' places in."""

from bisect import bisect_left
from collections.abc import Sequence

from jobs.model import Window

MOST = 1_000
"""Windows of one document: more would let one document hold the engine for minutes."""

OVERLAP = 8
"""The last 1/8 of a window is the next one's beginning, so that a passage across the cut is whole in one."""

SEARCH = 4
"""A window ends at a boundary in its last 1/4, or it ends in the middle of a word."""

TERMINATORS = frozenset(".!?…")
FULL_WIDTH_TERMINATORS = frozenset("\u3002\uff01\uff1f")
CLOSERS = frozenset("\"')]\u201d\u2019\u00bb\u300d\u300f\uff09")
"""Quotes and brackets that may follow a sentence's end."""

MOST_CLOSERS = 4


def divide(text: str, spans: Sequence[tuple[int, int]], room: int, most: int = MOST) -> list[Window]:
    """Overlapping windows of at most `room` tokens that together cover `text`.

    They end after a sentence if one ends near enough, else at whitespace, else where they must. `spans` are
    the tokens' places in `text`, in order. `room` is at least 1. Stops after `most` windows and one more.
    """
    if len(spans) <= room:
        return [Window(start=0, end=len(text))]
    starts = [start for start, _ in spans]
    windows: list[Window] = []
    first = 0
    begin = 0
    while len(spans) - first > room and len(windows) <= most:
        last = first + room
        while last > first + 1 and spans[last][0] < spans[last - 1][1]:
            last -= 1  # a character of several tokens stays whole
        latest = max(spans[last - 1][1], begin + 1)
        earliest = max(spans[max(first, last - 1 - room // SEARCH)][0], begin + 1)
        end = _last_boundary(text, earliest, latest)
        windows.append(Window(start=begin, end=end))
        after = bisect_left(starts, end, lo=first)
        from_token = max(first + 1, min(after, last) - room // OVERLAP)
        begin = min(_first_boundary(text, max(spans[from_token - 1][1], begin + 1), end), end)
        first = max(first + 1, bisect_left(starts, begin, lo=first))
        if first >= len(spans):
            break
    if begin < len(text):
        windows.append(Window(start=begin, end=len(text)))
    return windows


def _last_boundary(text: str, earliest: int, latest: int) -> int:
    """The last sentence's end in `earliest` to `latest`, else the last word's end, else `latest`."""
    places = range(latest, earliest - 1, -1)
    sentence = next((place for place in places if _ends_a_sentence(text, place)), None)
    if sentence is not None:
        return sentence
    return next((place for place in places if _ends_a_word(text, place)), latest)


def _first_boundary(text: str, earliest: int, latest: int) -> int:
    """The first place from `earliest` on, before `latest`, where a sentence ends; else a word; else there."""
    places = range(earliest, latest)
    for ends in (_ends_a_sentence, _ends_a_word):
        found = next((place for place in places if ends(text, place)), None)
        if found is not None:
            return found
    return earliest


def _ends_a_sentence(text: str, place: int) -> bool:
    if place >= len(text):
        return True
    before = place - 1
    while before > max(0, place - MOST_CLOSERS) and text[before] in CLOSERS:
        before -= 1
    if text[place - 1] == "\n" or text[before] in FULL_WIDTH_TERMINATORS:
        return text[place] not in CLOSERS
    return text[before] in TERMINATORS and text[place].isspace()


def _ends_a_word(text: str, place: int) -> bool:
    return place >= len(text) or (text[place].isspace() and not text[place - 1].isspace())
