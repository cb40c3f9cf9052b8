"""What `worker.engines.base.Engine` promises, asked of every engine."""

import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from bench.batch_noise import measure
from tests.engines.conftest import Loaded
from worker.engines.base import Engine, Output, Prompt
from worker.engines.fake import FakeEngine

numbers = itertools.count()


def ids(count: int) -> list[str]:
    return [f"sequence-{next(numbers)}" for _ in range(count)]


def sequences(engine: Engine, count: int) -> list[Prompt]:
    texts = [
        f"Document {n} tells of the {'very ' * (n % 5)}old lighthouse number {n * n}." for n in range(count)
    ]
    return [Prompt(ids) for ids in engine.tokenizer.encode_batch(texts, special=True)]


def run(engine: Engine, waiting: set[str]) -> dict[str, Output]:
    """Steps until all of `waiting` came out, each once."""
    found: dict[str, Output] = {}
    for _ in range(1000):
        for key, output in engine.step():
            assert key in waiting, f"{key} came out and was not waited for"
            assert key not in found, f"{key} came out twice"
            found[key] = output
        if found.keys() == waiting:
            return found
    raise AssertionError(f"never came out: {waiting - found.keys()}")


def outputs(engine: Engine, given: Sequence[Prompt]) -> list[Output]:
    keys = ids(len(given))
    for key, prompt in zip(keys, given, strict=True):
        engine.add(key, prompt)
    found = run(engine, set(keys))
    return [found[key] for key in keys]


def test_what_is_added_comes_out_once_under_its_id(engine: Engine) -> None:
    assert len(outputs(engine, sequences(engine, 20))) == 20


def test_only_the_thread_that_made_it_steps_it(tiny: Loaded) -> None:
    with ThreadPoolExecutor(1) as another, pytest.raises(RuntimeError, match="the thread that made"):
        another.submit(tiny.engine.step).result()


def test_what_is_added_between_two_steps_goes_along(engine: Engine) -> None:
    given, keys = sequences(engine, 300), ids(300)
    for key, prompt in zip(keys[:299], given[:299], strict=True):
        engine.add(key, prompt)
    first = {key for key, _ in engine.step()}
    engine.add(keys[299], given[299])
    assert run(engine, set(keys) - first).keys() == set(keys) - first


def test_what_is_urgent_overtakes_what_waits_inside(engine: Engine) -> None:
    many = [Prompt((list(prompt.ids) * 20)[:200]) for prompt in sequences(engine, 200)]
    keys, (urgent,) = ids(len(many)), ids(1)
    for key, prompt in zip(keys, many, strict=True):
        engine.add(key, prompt)
    engine.add(urgent, sequences(engine, 1)[0], urgent=True)
    before: set[str] = set()
    while urgent not in before:
        before |= {key for key, _ in engine.step()}
    rest = set(keys) - before
    assert len(rest) > len(keys) / 2
    assert run(engine, rest).keys() == rest


def test_what_is_aborted_never_comes_out_and_the_rest_does(engine: Engine) -> None:
    keys = ids(4)
    for key, prompt in zip(keys, sequences(engine, 4), strict=True):
        engine.add(key, prompt)
    engine.abort(keys[:2])
    run(engine, set(keys[2:]))
    outputs(engine, sequences(engine, 2))


def test_who_shares_the_batch_and_in_which_order_changes_nothing(engine: Engine) -> None:
    given = sequences(engine, 40)
    together = outputs(engine, given)
    backwards = outputs(engine, given[::-1])[::-1]
    alone = [outputs(engine, [tokens])[0] for tokens in given[:5]]
    for one, other in zip(together, backwards, strict=True):
        assert list(one) == pytest.approx(list(other), abs=1e-5)
    for one, other in zip(together, alone, strict=False):
        assert list(one) == pytest.approx(list(other), abs=1e-5)
    assert len({tuple(output) for output in together}) > 30, "different texts, different outputs"


@pytest.mark.parametrize("name", ["minilm", "tiny"])
def test_noise_of_batches_stays_below_1e_5_in_float32_and_changes_no_rank(
    request: pytest.FixtureRequest, name: str
) -> None:
    loaded = request.getfixturevalue(name)
    for noise in measure(loaded.engine, loaded.profile, 60):
        assert noise.largest_difference <= 1e-5, noise
        assert noise.changed_ranks == 0, noise


def test_the_longest_sequence_goes_through(engine: Engine) -> None:
    tokens = sequences(engine, 1)[0].ids
    longest = Prompt((list(tokens) * engine.info.max_tokens)[: engine.info.max_tokens])
    assert len(outputs(engine, [longest])) == 1


def test_statistics_count_steps_and_tokens() -> None:
    """Of the fake engine. vLLM counts once per process, and here are two: tests/system asks a worker's."""
    engine = FakeEngine()
    outputs(engine, sequences(engine, 1))
    before, given = engine.statistics(), sequences(engine, 30)
    outputs(engine, given)
    after = engine.statistics()
    assert after["tokens"] - before["tokens"] == sum(map(len, given))
    assert 1 <= after["steps"] - before["steps"] < 30
