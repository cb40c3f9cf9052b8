"""Set-up: what it can't do it says in a sentence, and uv is told what pip is set to."""

import platform
import sys
from pathlib import Path

import pytest

from scripts import setup


@pytest.mark.parametrize(
    ("system", "machine"), [("Darwin", "arm64"), ("Windows", "AMD64"), ("Linux", "riscv64")]
)
def test_a_platform_without_a_wheel_gets_a_sentence(
    monkeypatch: pytest.MonkeyPatch, system: str, machine: str
) -> None:
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    with pytest.raises(SystemExit, match=f"here is {system} {machine}: use a Linux machine, or WSL2"):
        setup.check(["cpu", "dev"])


def test_an_old_python_gets_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 10))
    with pytest.raises(SystemExit, match=r"needs Python 3\.11 or newer"):
        setup.check(["cpu"])


def test_a_missing_libnuma_gets_a_sentence_and_only_the_cpu_engine_needs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(setup, "loads", lambda _: False)
    with pytest.raises(SystemExit, match="install libnuma1"):
        setup.check(["cpu"])
    setup.check(["dev"])
    monkeypatch.undo()
    assert not setup.loads("no-such-library.so.1")


def test_the_two_engines_exclude_each_other() -> None:
    with pytest.raises(SystemExit, match="exclude each other"):
        setup.check(["cpu", "worker"])


def test_uv_is_told_what_pip_is_set_to(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "x-1-py3-none-any.whl").touch()
    config = f"""
global.cert='/etc/corporate.pem'
global.index-url='https://first.example/simple'
global.extra-index-url='https://second.example/simple\\nfile://{tmp_path}/flat'
global.find-links='{tmp_path}/wheels {tmp_path}/gone'
:env:.index-url='https://from-environment.example/simple'
"""
    monkeypatch.setattr(setup, "run", lambda *_: (True, config))
    told = setup.uv_settings({})
    assert told["SSL_CERT_FILE"] == "/etc/corporate.pem"
    assert told["UV_DEFAULT_INDEX"] == "https://from-environment.example/simple"
    assert told["UV_INDEX"] == "https://second.example/simple"
    assert told["UV_FIND_LINKS"] == f"{tmp_path}/wheels,{tmp_path}/flat"
    assert told["UV_SYSTEM_CERTS"] == "1"
