"""The bench of batch noise finds noise: an engine whose outputs depend on their place in a batch."""

from bench.batch_noise import measure
from jobs.settings import load
from worker import profiles
from worker.engines.base import Output
from worker.engines.fake import FakeEngine

MINILM = profiles.load("minilm", load({}).models_dir)


class Noisy(FakeEngine):
    """Adds to the first number of each output, the more the later it stands in its step."""

    def step(self) -> list[tuple[str, Output]]:
        return [
            (key, [output[0] + place * 1e-4, *output[1:]])
            for place, (key, output) in enumerate(super().step())
        ]


def test_a_quiet_engine_has_none() -> None:
    for noise in measure(FakeEngine(), MINILM, 40):
        assert (noise.largest_difference, noise.changed_ranks) == (0, 0)


def test_a_noisy_engine_is_found_out_and_so_are_the_ranks_that_it_changes() -> None:
    found = measure(Noisy(), MINILM, 40)
    assert len({noise.arm for noise in found}) == 7
    assert all(noise.largest_difference > 1e-7 for noise in found)
    assert any(noise.changed_ranks for noise in found)
