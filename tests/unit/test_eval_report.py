"""What `podium eval` writes: measures of places, a run that nobody orders otherwise, whole files."""

from pathlib import Path

import ir_measures
import pytest

from cli.eval import report
from cli.eval.collection import Collection, Question
from cli.eval.rerank import Answer
from jobs.errors import ConfigurationError

SCORES = {
    "tied": (0.5, 0.25, 0.5, 0.5),
    "closer than 32 bits": (0.1, 0.1 + 1e-12, 0.1 + 2e-12, -0.0),
    "zero": (0.0, 0.0, -1.0, 0.0),
    "unscored": (None, 3.0, None, 7.5),
    "none scored": (None, None, None, None),
}
DOCUMENTS = ("a", "b", "c", "d")
"""The last one is relevant."""

COLLECTION = Collection(
    tuple(Question(query, "", DOCUMENTS, DOCUMENTS) for query in SCORES),
    {query: {"d": 1} for query in SCORES},
    (),
)
ANSWERS = {
    query: Answer(query=query, scores=scores, truncated=1, provenance={"model": "m"}, warnings=("w",))
    for query, scores in SCORES.items()
}


def test_ties_keep_the_runs_order_and_what_has_no_score_is_last() -> None:
    assert {query: "".join(ranked) for query, ranked in report.rankings(COLLECTION, ANSWERS).items()} == {
        "tied": "acdb",
        "closer than 32 bits": "cbad",
        "zero": "abdc",
        "unscored": "dbac",
        "none scored": "abcd",
    }


def test_the_saved_run_has_the_reports_measures_whoever_takes_them() -> None:
    """trec_eval orders what it is given by scores of 32 bits, and breaks ties by its own rule."""
    run: dict[str, dict[str, float]] = {}
    for line in report.trec_run(COLLECTION, ANSWERS, "podium-m"):
        query, _, document, _, score, tag = line.rsplit(maxsplit=5)
        run.setdefault(query, {})[document] = float(score)
        assert tag == "podium-m"
    qrels = {query: {"d": 1} for query in SCORES}
    wanted = [ir_measures.nDCG @ 10, ir_measures.RR @ 10, ir_measures.P @ 1]
    found = ir_measures.calc_aggregate(wanted, qrels, run)
    ours = report.measures(COLLECTION.judgements, report.rankings(COLLECTION, ANSWERS), 50)
    assert {str(measure): value for measure, value in found.items()} == pytest.approx(
        {name: ours[name] for name in ("nDCG@10", "RR@10", "P@1")}
    )
    assert ours["RR@10"] == pytest.approx((1 / 3 + 1 / 4 + 1 / 3 + 1 + 1 / 4) / 5)


def test_the_report_counts_and_says_when_results_are_not_of_one_kind() -> None:
    made = _report(ANSWERS)
    assert (made.queries, made.documents, made.truncated, made.failed) == (5, 20, 5, 6)
    assert (made.provenance, made.warnings) == ({"model": "m"}, ["w"])
    other = ANSWERS["zero"].model_copy(update={"provenance": {"model": "n"}})
    made = _report({**ANSWERS, "zero": other})
    assert made.provenance == [{"model": "m"}, {"model": "n"}]
    assert "different provenance" in made.warnings[-1]


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_text("before")

    def lines() -> list[str]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        report.write(path, (line for _ in range(2) for line in lines()))
    assert path.read_text() == "before"
    report.write(path, ["a\n", "b\n"])
    assert path.read_text() == "a\nb\n"
    assert list(tmp_path.iterdir()) == [path]


def test_where_nothing_can_be_written_is_said_first(tmp_path: Path) -> None:
    report.check_writable(None, tmp_path / "new")
    for path in (tmp_path / "gone" / "new", tmp_path):
        with pytest.raises(ConfigurationError, match="name a file in a folder that exists"):
            report.check_writable(path)


def _report(answers: dict[str, Answer]) -> report.Report:
    where = Path("x")
    return report.make(COLLECTION, answers, 2.0, model="m", corpus=where, run=where, split="test", top=50)
