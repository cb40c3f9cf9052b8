"""The gate before a worker serves: pairs of which it is known what the model's reference makes of them.

A wrong template, a swapped yes and no, a bad upgrade of the engine: all give scores that look like scores.
The gate scores the cases of the profile as jobs are scored and compares their order, and their values where
the reference's are known. `podium doctor` does the same to a service that runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from jobs.errors import ConfigurationError
from jobs.model import Document, Work
from worker import prompts
from worker.engines.base import Engine, Output, Prompt
from worker.profiles import GoldenCase, ModelProfile
from worker.ranking import rank, scores_of


class GoldenFailed(ConfigurationError):
    """The scores are not the reference's: the model must not be served like this."""

    code = "golden_failed"


@dataclass(frozen=True)
class Verdict:
    """`largest_difference` to a known score; None if the profile knows none."""

    pairs: int
    faults: tuple[str, ...]
    largest_difference: float | None


def check(engine: Engine, profile: ModelProfile) -> Verdict:
    """Scores the profile's golden cases with an engine that nobody else uses yet.

    Raises `GoldenFailed` naming each pair, what was expected and what was seen.
    """
    found = [_score(engine, profile, case) for case in profile.golden.cases]
    verdict = compare(profile, found)
    if verdict.faults:
        raise GoldenFailed(
            f"{profile.name} does not give its reference's scores, so it is not served "
            f"(golden pairs from {profile.golden.source}):\n  " + "\n  ".join(verdict.faults)
        )
    return verdict


def compare(profile: ModelProfile, found: Sequence[Sequence[float | None]]) -> Verdict:
    """`found` has the scores of each case, in the order of its documents."""
    faults: list[str] = []
    differences: list[float] = []
    for case, scores in zip(profile.golden.cases, found, strict=True):
        about = f"query {_short(case.query)}"
        usable = [score for score in scores if score is not None]
        if len(usable) < len(case.documents):
            faults += [
                f"{about}, document {_short(text)}: expected a score, seen none"
                for text, score in zip(case.documents, scores, strict=True)
                if score is None
            ]
            continue
        for place, (text, score) in enumerate(zip(case.documents[1:], usable[1:], strict=True)):
            better, above = case.documents[place], usable[place]
            if above <= score:
                faults.append(
                    f"{about}: expected {_short(better)} above {_short(text)}, "
                    f"seen {above:.6f} and {score:.6f}"
                )
        for text, score, expected in zip(
            case.documents, usable, case.scores or (), strict=case.scores is not None
        ):
            differences.append(abs(score - expected))
            if differences[-1] > profile.golden.tolerance:
                faults.append(
                    f"{about}, document {_short(text)}: expected {expected:.6f} within "
                    f"{profile.golden.tolerance:g}, seen {score:.6f}"
                )
    pairs = sum(len(case.documents) for case in profile.golden.cases)
    return Verdict(pairs, tuple(faults), max(differences, default=None))


def _score(engine: Engine, profile: ModelProfile, case: GoldenCase) -> list[float | None]:
    documents = tuple(Document(text=text) for text in case.documents)
    work = Work(query=case.query, documents=documents, instruction=case.instruction)
    built = prompts.build(work, profile, engine.tokenizer, engine.info.max_tokens)
    scores = scores_of(built.sequences, _outputs(engine, built.sequences), profile)
    ranked, _ = rank(work, built, scores)
    return [entry.relevance_score for entry in sorted(ranked, key=lambda entry: entry.index)]


def _outputs(engine: Engine, sequences: Sequence[Prompt]) -> list[Output]:
    waiting = {f"golden-{number}": prompt for number, prompt in enumerate(sequences)}
    for key, prompt in waiting.items():
        engine.add(key, prompt)
    found: dict[str, Output] = {}
    while found.keys() != waiting.keys():
        found.update(engine.step())
    return [found[key] for key in waiting]


def _short(text: str, most: int = 60) -> str:
    return repr(text if len(text) <= most else text[: most - 1] + "…")
