"""`podium demo` ends with 0 only if it saw what it promises. The engine is fake: tested is the verdict."""

from contextlib import nullcontext
from pathlib import Path
from queue import Queue

import pytest

from api import examples
from cli.demo import demo
from tests.support.ports import free_port


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """One example that the fake engine ranks rightly."""
    monkeypatch.setenv("PODIUM_ENGINE__KIND", "fake")
    monkeypatch.setattr(examples, "load", lambda: [EXAMPLE])


EXAMPLE = examples.Example(title="t", query="blue sky", documents=("red apple", "blue sky [b]"), best=1)


def run(data_dir: Path) -> int:
    return demo(free_port(), free_port(), None, data_dir, keep=False)


def test_all_right_is_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path) == 0
    said = capsys.readouterr().out
    assert "callback verified" in said
    assert "blue sky [b]" in said, "a document is text, not markup"


def test_a_wrong_ranking_is_not_0(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examples, "load", lambda: [EXAMPLE.model_copy(update={"best": 0})])
    assert run(tmp_path) == 1
    said = capsys.readouterr().out
    assert "document 1 came first, not 0" in said
    assert "callback verified" not in said


def test_a_missing_callback_is_not_0(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.demo.receiver", lambda: nullcontext(("http://127.0.0.1:1/hook", Queue())))
    monkeypatch.setattr("cli.demo.CALLBACK_WITHIN", 2.0)
    assert run(tmp_path) == 1
    assert "no callback came" in capsys.readouterr().out


def test_a_callback_signed_with_another_secret_is_not_0(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from standardwebhooks import Webhook

    monkeypatch.setattr("cli.demo.Webhook", lambda _: Webhook("whsec_" + "QUJD" * 8))
    assert run(tmp_path) == 1
    assert "signature is wrong" in capsys.readouterr().out
