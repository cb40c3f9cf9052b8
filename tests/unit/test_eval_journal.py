"""What has been scored outlives the process, unless it was scored of something else."""

from pathlib import Path

import pytest

from cli.eval import journal
from cli.eval.collection import Folder
from cli.eval.rerank import Answer
from jobs.errors import ConfigurationError
from tests.support import beir


def answer(query: str) -> Answer:
    return Answer(query=query, scores=(0.1, None, 1 / 3), truncated=1, provenance={"model": "m"})


INPUTS: journal.Inputs = {"run": "a hash", "model": "m", "top": 50, "instruction": None}


def begun(path: Path, *queries: str) -> None:
    with journal.opened(path, INPUTS) as kept:
        for number, query in enumerate(queries, start=1):
            kept.append(answer(query), float(number))


def test_answers_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "progress"
    begun(path, "1", "2")
    with journal.opened(path, INPUTS) as kept:
        assert kept.answers == {"1": answer("1"), "2": answer("2")}
        assert (kept.seconds, kept.differs) == (2.0, [])
        kept.remove()
    assert not path.exists()


@pytest.mark.parametrize("half", [b"{", b'{"seconds": 3', b'{"seconds": 3.0}\n', b"\0\0\0\0"])
def test_a_half_written_line_is_cut_off_and_written_anew(tmp_path: Path, half: bytes) -> None:
    path = tmp_path / "progress"
    begun(path, "1")
    with path.open("ab") as file:
        file.write(half)
    begun(path, "2")
    with journal.opened(path, INPUTS) as kept:
        assert list(kept.answers) == ["1", "2"]


@pytest.mark.parametrize("begin", [b"", b'{"run": "a ha', b"[]\n"])
def test_a_file_that_was_hardly_begun_is_begun_again(tmp_path: Path, begin: bytes) -> None:
    path = tmp_path / "progress"
    path.write_bytes(begin)
    begun(path, "1")
    with journal.opened(path, INPUTS) as kept:
        assert (list(kept.answers), kept.differs) == (["1"], [])


def test_with_other_inputs_it_starts_anew_and_names_them(tmp_path: Path) -> None:
    path = tmp_path / "progress"
    begun(path, "1")
    with journal.opened(path, {**INPUTS, "model": "n", "top": 10}) as kept:
        assert kept.answers == {}
        assert kept.differs == ["model", "top"]
        with pytest.raises(ConfigurationError, match="another `podium eval`"), journal.opened(path, INPUTS):
            pass


def test_any_change_of_what_is_read_changes_the_inputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made = beir.make(tmp_path, 4)
    folder = Folder(made.corpus, "test")

    def inputs() -> journal.Inputs:
        return journal.inputs_of(folder, made.run, "m", None, 50, None)

    before = inputs()
    assert inputs() == before
    for name, path in {
        "corpus": folder.corpus,
        "queries": folder.queries,
        "qrels": folder.qrels,
        "run": made.run,
    }.items():
        with path.open("a") as file:
            file.write("\n")
        assert [each for each, value in inputs().items() if value != before[each]] == [name]
        assert journal.place(None, inputs()) != journal.place(None, before)
        before = inputs()
    assert journal.place(None, before).parent == tmp_path / "podium"
    assert journal.place(tmp_path / "r.json", before) == tmp_path / "r.json.progress.jsonl"
