"""The golden gate says which pair is wrong, what was expected and what was seen."""

import pytest
from pydantic import ValidationError

from jobs.settings import load
from worker import golden, profiles
from worker.engines.fake import FakeEngine
from worker.profiles import Golden, GoldenCase, ModelProfile

MINILM = profiles.load("minilm", load({}).models_dir)
CASE = GoldenCase(query="blue sky", documents=("the sky is blue", "a red apple"), scores=(0.9, 0.1))


def profile(*cases: GoldenCase, tolerance: float = 0.01) -> ModelProfile:
    known = Golden(source="a test", tolerance=tolerance, cases=cases)
    return MINILM.model_copy(update={"golden": known})


def test_scores_within_the_tolerance_pass_and_their_distance_is_told() -> None:
    verdict = golden.compare(profile(CASE), [[0.905, 0.1]])
    assert verdict.faults == ()
    assert verdict.pairs == 2
    assert verdict.largest_difference == pytest.approx(0.005)


def test_a_score_off_the_reference_is_named() -> None:
    (fault,) = golden.compare(profile(CASE), [[0.8, 0.1]]).faults
    assert (
        fault == "query 'blue sky', document 'the sky is blue': expected 0.900000 within 0.01, seen 0.800000"
    )


def test_a_wrong_order_is_named_also_where_no_score_is_known() -> None:
    unknown = CASE.model_copy(update={"scores": None})
    for seen in ([0.2, 0.3], [0.3, 0.3]):
        verdict = golden.compare(profile(unknown), [seen])
        assert verdict.largest_difference is None
        (fault,) = verdict.faults
        assert "expected 'the sky is blue' above 'a red apple', seen" in fault


def test_a_pair_without_a_score_is_a_fault() -> None:
    assert any("seen none" in fault for fault in golden.compare(profile(CASE), [[0.9, None]]).faults)


@pytest.mark.parametrize(
    "change", [{"scores": [float("nan"), 0.1]}, {"scores": [0.1]}, {"documents": ["one"]}]
)
def test_golden_pairs_that_could_not_fail_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        GoldenCase.model_validate({**CASE.model_dump(), **change})


def test_an_engine_is_checked_on_the_path_of_a_job() -> None:
    """The fake engine's cosine of words: 'the sky is blue' shares two of its four words with the query."""
    right = CASE.model_copy(update={"scores": (2 / 8**0.5, 0.0)})
    verdict = golden.check(FakeEngine(), profile(right))
    assert verdict.largest_difference == pytest.approx(0, abs=1e-6)
    turned = right.model_copy(update={"documents": right.documents[::-1], "scores": None})
    with pytest.raises(golden.GoldenFailed, match="so it is not served"):
        golden.check(FakeEngine(), profile(right, turned))
