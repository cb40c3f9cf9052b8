"""An engine that does what a test says, step by step."""

from collections.abc import Callable, Sequence

from worker.engines.base import EngineInfo, Output, Prompt
from worker.engines.fake import WordTokenizer

LONGEST = 20


def prompt(kind: int) -> Prompt:
    """Equal for equal kinds; 1 to 20 tokens."""
    return Prompt([kind] * (1 + kind % LONGEST))


def ids(*kinds: int) -> list[list[int]]:
    return [list(prompt(kind).ids) for kind in kinds]


class Scripted:
    """`happens` is called in each step; then what `choose` says ends, of the keys that are inside.

    A sequence's output is its ids. `watch` hears of each sequence that comes in. All is called by the
    coalescer's thread.
    """

    def __init__(self) -> None:
        self.info = EngineInfo("scripted", "1", "float32", LONGEST, LONGEST)
        self.tokenizer = WordTokenizer()
        self.alive = True
        self.happens: Callable[[int], None] = lambda _: None
        self.choose: Callable[[list[str]], Sequence[str]] = lambda keys: keys[:1]
        self.watch: Callable[[Prompt, bool], None] = lambda *_: None
        self.inside: dict[str, Prompt] = {}
        self.given: list[tuple[int, bool]] = []
        self.aborted = 0
        self.steps = 0

    def add(self, request_id: str, prompt: Prompt, *, urgent: bool = False) -> None:
        self.watch(prompt, urgent)
        self.inside[request_id] = prompt
        self.given.append((prompt.ids[0], urgent))

    def step(self) -> list[tuple[str, Output]]:
        self.steps += 1
        self.happens(self.steps)
        return [(key, list(self.inside.pop(key).ids)) for key in self.choose(list(self.inside))]

    def abort(self, request_ids: Sequence[str]) -> None:
        self.aborted += len(request_ids)
        for request_id in request_ids:
            del self.inside[request_id]

    def statistics(self) -> dict[str, float]:
        return {"steps": self.steps, "tokens": 0}

    def close(self) -> None: ...
