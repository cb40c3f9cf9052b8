"""What has been scored already, in a file that outlives this process: a killed evaluation goes on from there.

The first line says what was evaluated, each further line is one answer. A line that was only half written
when the process died is cut off.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pydantic import ValidationError

from cli.eval.collection import BadInput, Folder
from cli.eval.rerank import Answer
from jobs.errors import ConfigurationError
from jobs.model import Value

Inputs = Mapping[str, str | int | None]
"""What an evaluation depends on, by name: of files, their hashes."""


class Entry(Value):
    """`seconds`: that scoring had taken when this answer came, all attempts together."""

    seconds: float
    answer: Answer


@dataclass
class Journal:
    """The open file, and what it held. `differs`: names of inputs that were others when it was begun."""

    path: Path
    answers: dict[str, Answer]
    seconds: float
    differs: list[str]
    _file: BinaryIO

    def append(self, answer: Answer, seconds: float) -> None:
        self.answers[answer.query] = answer
        self.seconds = seconds
        _write(self._file, Entry(seconds=seconds, answer=answer).model_dump_json())

    def remove(self) -> None:
        """All is done: who starts again starts anew."""
        self.path.unlink()


def inputs_of(
    folder: Folder, run: Path, model: str, instruction: str | None, top: int, queries: int | None
) -> Inputs:
    """Raises `BadInput` for a file that can't be read."""
    return {
        "corpus": _hash(folder.corpus),
        "queries": _hash(folder.queries),
        "qrels": _hash(folder.qrels),
        "run": _hash(run),
        "model": model,
        "instruction": instruction,
        "top": top,
        "number of queries": queries,
    }


def place(report: Path | None, inputs: Inputs) -> Path:
    """Beside the report; without one in the user's cache, under a name made of the inputs."""
    if report is not None:
        return report.with_name(f"{report.name}.progress.jsonl")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "podium"
    return cache / f"eval-{hashlib.sha256(json.dumps(inputs).encode()).hexdigest()[:16]}.progress.jsonl"


@contextmanager
def opened(path: Path, inputs: Inputs) -> Iterator[Journal]:
    """The journal of these inputs, for this process alone. One of other inputs is emptied first."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+b")
    except OSError as error:
        raise ConfigurationError(f"the progress can't be kept in {path}: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigurationError(
                f"another `podium eval` keeps its progress in {path}: wait for it, or name another --json"
            ) from None
        yield _restored(path, file, inputs)


def _restored(path: Path, file: BinaryIO, inputs: Inputs) -> Journal:
    file.seek(0)
    whole, seconds, answers = 0, 0.0, {}
    header = file.readline()
    begun = _header(header)
    if begun == inputs:
        whole = len(header)
        for line in file:
            try:
                entry = Entry.model_validate_json(line) if line.endswith(b"\n") else None
            except ValidationError:
                entry = None
            if entry is None:
                break  # half written: it and what may follow is asked again
            answers[entry.answer.query], seconds = entry.answer, entry.seconds
            whole += len(line)
    file.truncate(whole)
    if not whole:
        _write(file, json.dumps(inputs))
    differs = [] if begun is None else [name for name in inputs if begun.get(name) != inputs[name]]
    return Journal(path, answers, seconds, differs, file)


def _header(line: bytes) -> Inputs | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if line.endswith(b"\n") and isinstance(found, dict) else None


def _write(file: BinaryIO, line: str) -> None:
    file.write(f"{line}\n".encode())
    file.flush()  # what the system has, survives this process


def _hash(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BadInput(f"{path} can't be read: {error.strerror}") from error
