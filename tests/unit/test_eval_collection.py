"""What `podium eval` reads: a BEIR folder and a run; what it can't use it names with file and line."""

from pathlib import Path

import pytest

from cli.eval.collection import BadInput, Collection, Folder, read, read_run
from tests.support import beir


def collection(made: beir.Beir, *, top: int = 50, queries: int | None = None) -> Collection:
    return read(Folder(made.corpus, "test"), made.run, top, queries)


def test_a_question_has_the_runs_first_documents_with_title_and_text(tmp_path: Path) -> None:
    made = beir.make(tmp_path, 4)
    found = collection(made, top=3)
    assert [question.id for question in found.questions] == made.queries
    first = found.questions[0]
    assert first.text == "first0 second0"
    assert first.documents == ("q0-0", "q0-1", "q0-2")
    assert first.texts == ("nothing of that kind", "first0 and more", "first0 second0")
    assert found.judgements["q3"] == {"q3-4": 1}
    assert found.notes == ()


def test_a_run_is_ordered_by_score_and_then_by_rank(tmp_path: Path) -> None:
    lines = ["1 Q0 c 3 0.5 t", "2 Q0 x 1 9 t", "1 Q0 a 1 -1 t", "", "1 Q0 b 2 0.5 t", "1\tQ0\td\t9\t7e1\tt"]
    run = beir.write(tmp_path / "run", lines)
    found = read_run(run, 3)
    assert {query: [entry.id for entry in entries] for query, entries in found.items()} == {
        "1": ["d", "b", "c"],
        "2": ["x"],
    }


def test_what_has_no_counterpart_is_left_out_and_noted(tmp_path: Path) -> None:
    made = beir.make(tmp_path, 4)
    with made.run.open("a") as run:
        run.write("unjudged Q0 q0-1 1 1 t\n")
    with (made.corpus / "qrels" / "test.tsv").open("a") as qrels:
        qrels.write("unasked\tq0-1\t1\n")
    found = collection(made)
    assert [question.id for question in found.questions] == made.queries
    assert set(found.judgements) == set(made.queries)
    assert found.notes == (
        "queries of the run without judgements, left out: 1",
        "queries with judgements that the run lacks, not counted: 1",
    )


def test_only_so_many_queries(tmp_path: Path) -> None:
    found = collection(beir.make(tmp_path, 4), queries=2)
    assert [question.id for question in found.questions] == ["q0", "q1"] == list(found.judgements)


HEADER = "query-id\tcorpus-id\tscore"


@pytest.mark.parametrize(
    ("file", "lines", "said"),
    [
        ("corpus.jsonl", ["{"], "corpus.jsonl line 1: is not JSON"),
        ("corpus.jsonl", ["", "[1]"], "corpus.jsonl line 2: wants an object"),
        ("corpus.jsonl", ['{"text": "x"}'], "corpus.jsonl line 1: _id is missing"),
        ("corpus.jsonl", ['{"_id": 7, "text": "x"}'], "corpus.jsonl line 1: _id wants a text"),
        ("corpus.jsonl", ['{"_id": "q0-0"}'], "corpus.jsonl line 1: text is missing"),
        ("corpus.jsonl", ['{"_id": "q0-0", "text": "\\ud800"}'], "line 1: text has half a surrogate pair"),
        ("corpus.jsonl", ['{"_id": "q0-0", "text": ""}'] * 2, "line 2: document 'q0-0' was there before"),
        ("corpus.jsonl", ['{"_id": "q0-0", "text": ""}'], "corpus.jsonl has no document 'q0-1'"),
        ("queries.jsonl", ['{"_id": "q0"}'], "queries.jsonl line 1: text is missing"),
        ("queries.jsonl", ['{"_id": "q0", "text": "x"}'] * 2, "line 2: query 'q0' was there before"),
        ("queries.jsonl", ['{"_id": "else", "text": "x"}'], "queries.jsonl has no query 'q0'"),
        ("qrels/test.tsv", ["q0\tq0-1\t1"], "test.tsv line 1: the first line is a header"),
        ("qrels/test.tsv", [], "test.tsv line 1: the first line is a header"),
        ("qrels/test.tsv", [HEADER, "q0 q0-1 1"], "test.tsv line 2: wants 3 columns between tabs, has 1"),
        ("qrels/test.tsv", [HEADER, "q0\tq0-1\tyes"], "line 2: score wants a whole number, has 'yes'"),
        ("qrels/test.tsv", [HEADER, "q0\tx\t1", "q0\tx\t2"], "line 3: query 'q0' and document 'x' were"),
        ("qrels/test.tsv", [HEADER, "else\tq0-1\t1"], "no query of .* has judgements in .*test.tsv"),
        ("../first.run", ["q0 Q0 q0-1 1 0.5"], "first.run line 1: wants 6 columns .*, has 5"),
        ("../first.run", ["q0 Q0 q0-1 1 high t"], "first.run line 1: score wants a number, has 'high'"),
        ("../first.run", ["q0 Q0 q0-1 1 nan t"], "first.run line 1: score wants a number, has 'nan'"),
        ("../first.run", ["q0 Q0 q0-1 1st 1 t"], "first.run line 1: rank wants a whole number, has '1st'"),
        ("../first.run", ["q0 Q0 a 1 1 t", "q0 Q0 a 2 0 t"], "first.run line 2: query 'q0' has .* 'a' twice"),
        ("../first.run", ["q0 Q0 q0-1 1 1 t", "q0 Q0 gone 2 0 t"], "first.run line 2: .* no document 'gone'"),
        ("../first.run", [], "no query of .*first.run has judgements"),
    ],
)  # fmt: skip
def test_bad_input_is_named_with_file_and_line(
    tmp_path: Path, file: str, lines: list[str], said: str
) -> None:
    made = beir.make(tmp_path, 4)
    beir.write(made.corpus / file, lines)
    with pytest.raises(BadInput, match=said):
        collection(made)


@pytest.mark.parametrize("file", ["corpus.jsonl", "queries.jsonl", "qrels/test.tsv", "../first.run"])
def test_a_missing_file_and_one_that_is_not_text_are_named(tmp_path: Path, file: str) -> None:
    made = beir.make(tmp_path, 4)
    path = made.corpus / file
    path.write_bytes(b"\xff\xfe\n")
    with pytest.raises(BadInput, match=f"{path.name} line 1: is not UTF-8"):
        collection(made)
    path.unlink()
    with pytest.raises(BadInput, match=f"{path.name} can't be read: No such file"):
        collection(made)
