"""How one document is read: whole, cut, in windows, or not at all; and then it says why."""

import unicodedata
from dataclasses import dataclass

from jobs.model import CleanStep, DocumentStatus, Failure, Overflow, Window
from worker import windows
from worker.engines.base import Prompt, Tokenizer
from worker.layouts import Layout


@dataclass(frozen=True)
class Reading:
    """In no prompt (`unread` says why), in one, or in one for each window. `text` is cleaned already."""

    text: str
    prompts: tuple[Prompt, ...] = ()
    status: DocumentStatus = DocumentStatus.OK
    windows: tuple[Window, ...] = ()
    unread: Failure | None = None
    cleaned: tuple[CleanStep, ...] = ()

    @property
    def tokens(self) -> int:
        return sum(map(len, self.prompts))


@dataclass(frozen=True)
class Reader:
    """Reads documents in prompts of at most `limit` tokens."""

    layout: Layout
    tokenizer: Tokenizer
    overflow: Overflow
    limit: int

    def read(self, text: str, whole: Prompt, cleaned: tuple[CleanStep, ...], budget: int) -> Reading:
        """`whole` is the text's prompt, uncut. `budget`: how many tokens its windows may have together."""
        if len(whole) <= self.limit:
            return Reading(text, (whole,), cleaned=cleaned)
        match self.overflow:
            case Overflow.TRUNCATE:
                cut = self.layout.cut(whole, self.limit)
                return Reading(text, (cut,), DocumentStatus.TRUNCATED, cleaned=cleaned)
            case Overflow.ERROR:
                found, room = len(whole) - self.layout.fixed, self.limit - self.layout.fixed
                why = (
                    f"has {found:,} tokens, {found - room:,} more than the {room:,} that fit beside the query"
                )
                return unreadable(text, "document_too_long", why, cleaned)
            case Overflow.CHUNK:
                return self._in_windows(text, cleaned, budget)

    def _in_windows(self, text: str, cleaned: tuple[CleanStep, ...], budget: int) -> Reading:
        spans = self.tokenizer.spans(text)
        room = self.limit - self.layout.fixed
        while True:
            found = windows.divide(text, spans, room)
            if len(found) > windows.MOST:
                why = f"needs more than {windows.MOST:,} windows of {room:,} tokens: allow it larger ones"
                return unreadable(text, "document_too_long", why, cleaned)
            if len(found) * self.limit > budget:
                why = (
                    f"its {len(found):,} windows, each with the query, would have more tokens than the "
                    f"{budget:,} that are left to the windows of this job"
                )
                return unreadable(text, "document_too_long", why, cleaned)
            prompts = self.layout.encode([text[window.start : window.end] for window in found])
            excess = max(map(len, prompts)) - self.limit
            if excess <= 0 or room == 1:
                break
            # A text that begins elsewhere can be some tokens longer than it was inside the document.
            room = max(1, room - excess)
        cut = tuple(self.layout.cut(prompt, self.limit) for prompt in prompts)
        return Reading(text, cut, DocumentStatus.CHUNKED, tuple(found), cleaned=cleaned)


def unreadable(text: str, code: str, why: str, cleaned: tuple[CleanStep, ...]) -> Reading:
    failure = Failure(code=code, message=why)
    return Reading(text, status=DocumentStatus.FAILED, unread=failure, cleaned=cleaned)


def has_nothing_to_read(given: str, text: str) -> bool:
    """Nothing but control characters, or markup that cleaning took away: there is no text to score.

    An empty document, or one of whitespace, is scored, as the references do.
    """
    if any(not char.isspace() and unicodedata.category(char) != "Cc" for char in text):
        return False
    return any(not char.isspace() or _is_control(char) for char in given)


def _is_control(char: str) -> bool:
    return unicodedata.category(char) == "Cc" and char not in "\t\n\v\f\r\x85"
