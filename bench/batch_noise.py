"""How much a score depends on its company: the same pairs alone, in full batches, and among strangers.

    python -m bench.batch_noise                            # prints the table
    python -m bench.batch_noise --write docs/batch-noise.md

An engine computes many sequences at once, and sums in another order than for one alone. For each model and
dtype: the largest difference of any score to the one that it has alone, and how many documents change their
rank. On a CPU the rows are MiniLM and a random-weight Qwen3; `--model` measures another profile.
"""

import argparse
import platform
import random
import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bench.texts import WORDS
from jobs.model import Document, Work
from jobs.settings import EngineSettings, load
from worker import profiles, prompts
from worker.engines.base import Engine, Output, Prompt
from worker.profiles import ModelProfile
from worker.ranking import rank, scores_of

DOCUMENTS = 150
SHUFFLES = 5


@dataclass(frozen=True)
class Noise:
    """Of one arm, against the scores that the documents have alone."""

    arm: str
    per_step: float  # sequences, on average: that there was company
    largest_difference: float
    changed_ranks: int


def texts(seed: int, count: int = DOCUMENTS) -> list[str]:
    """Documents of 3 to 120 words, none like another."""
    chosen = random.Random(seed)
    return [
        f"{number} " + " ".join(chosen.choices(WORDS, k=chosen.randint(3, 120))) for number in range(count)
    ]


def measure(engine: Engine, profile: ModelProfile, count: int = DOCUMENTS) -> list[Noise]:
    """The noise of a full batch, of the same backwards, and shuffled among as many pairs of another query."""
    ours = _Job(engine, profile, "Who keeps the old lighthouse?", texts(1, count))
    others = _Job(engine, profile, "How is bread baked?", texts(2, count))
    scores, ranks = ours.scores_and_ranks(
        [_outputs(engine, [prompt])[0][0] for prompt in ours.built.sequences]
    )
    count = len(ours.built.sequences)
    mixed = [*ours.built.sequences, *others.built.sequences]
    arms = {"full batch": list(range(count)), "full batch, backwards": list(range(count))[::-1]}
    for seed in range(SHUFFLES):
        order = list(range(len(mixed)))
        random.Random(seed).shuffle(order)
        arms[f"among strangers, order {seed + 1}"] = order
    noises = []
    for arm, order in arms.items():
        outputs, steps = _outputs(engine, [mixed[place] for place in order])
        found = dict(zip(order, outputs, strict=True))
        theirs, their_ranks = ours.scores_and_ranks([found[place] for place in range(count)])
        noises.append(
            Noise(
                arm,
                len(order) / steps,
                max(abs(one - other) for one, other in zip(scores, theirs, strict=True)),
                sum(one != other for one, other in zip(ranks, their_ranks, strict=True)),
            )
        )
    return noises


class _Job:
    """One query with its documents, as prompts."""

    def __init__(self, engine: Engine, profile: ModelProfile, query: str, documents: Sequence[str]) -> None:
        self.profile = profile
        self.work = Work(query=query, documents=tuple(Document(text=text) for text in documents))
        self.built = prompts.build(self.work, profile, engine.tokenizer, engine.info.max_tokens)

    def scores_and_ranks(self, outputs: Sequence[Output]) -> tuple[list[float], list[int]]:
        """The scores in the order of the documents, and the documents in the order of their ranks."""
        ranked, _ = rank(self.work, self.built, scores_of(self.built.sequences, outputs, self.profile))
        scores = {entry.index: entry.relevance_score or 0.0 for entry in ranked}
        return [scores[index] for index in sorted(scores)], [entry.index for entry in ranked]


def _outputs(engine: Engine, sequences: Sequence[Prompt]) -> tuple[list[Output], int]:
    """The outputs, and in how many steps they came."""
    for number, prompt in enumerate(sequences):
        engine.add(str(number), prompt)
    found: dict[str, Output] = {}
    steps = 0
    while len(found) < len(sequences):
        finished = engine.step()
        found.update(finished)
        steps += bool(finished)
    return [found[str(number)] for number in range(len(sequences))], steps


def rows(name: str, dtype: str, checkpoint: Path | None) -> list[str]:
    """The lines of the table for one model in one dtype, with an engine of their own."""
    from worker.engines.vllm import VllmEngine

    profile = profiles.load(name, load({}).models_dir).model_copy(update={"dtype": dtype})
    # A prefix cache would hide noise: it keeps what was computed for the sequence alone.
    settings = EngineSettings(
        separate_process=True,
        model_path=None if checkpoint is None else str(checkpoint),
        kv_cache_gib=1,
        prefix_caching=False,
    )
    with closing(VllmEngine(profile, settings)) as engine:
        label = name if checkpoint is None else f"{name}'s architecture, random weights"
        found = measure(engine, profile)
    return [
        f"| {label} | {dtype} | {noise.arm} | {noise.per_step:.0f} | {noise.largest_difference:.1e} | "
        f"{noise.changed_ranks} of {DOCUMENTS} |"
        for noise in found
    ]


HEAD = """# What company does to a score

The same {documents} pairs alone, in full batches (forwards and backwards), and shuffled among as many pairs
of another query. Largest difference of any score to the one it has alone, and documents whose rank changed.
Made by `python -m bench.batch_noise --write docs/batch-noise.md` on {machine}, {when}.

| model | dtype | company | sequences in a step | largest difference | changed ranks |
|---|---|---|---|---|---|
"""

TAIL = """
Prefix caching is off here: a cache keeps what was computed alone. Podium promises at most 1e-5 in float32.
In bfloat16 near ties may change places. On one H200 the bound of float32 holds too (`tests/engines/`), since
products there are told to be float32's own (record 0017). On a GPU `batch_invariant: true` in a model's
profile turns on vLLM's mode in which a score does not depend on its batch, at a cost in speed.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", help="a profile; default: MiniLM and a random-weight Qwen3")
    parser.add_argument("--dtype", action="append", help="default: float32 and bfloat16")
    parser.add_argument("--write", type=Path, help="write the table, with what it says, to this file")
    asked = parser.parse_args()
    dtypes = asked.dtype or ["float32", "bfloat16"]
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        models: list[tuple[str, Path | None]] = [(asked.model, None)]
        if asked.model is None:
            from bench import tiny

            models = [("minilm", None), ("qwen3-reranker-0.6b", tiny.qwen3(Path(folder)))]
        for name, checkpoint in models:
            for dtype in dtypes:
                lines += rows(name, dtype, checkpoint)
                print("\n".join(lines[-SHUFFLES - 2 :]), flush=True)
    machine = f"{platform.machine()}, {platform.system()}"
    head = HEAD.format(documents=DOCUMENTS, machine=machine, when=datetime.now(UTC).date())
    if asked.write is not None:
        asked.write.write_text(head + "\n".join(lines) + "\n" + TAIL, encoding="utf-8")


if __name__ == "__main__":
    main()
