"""Real clients of Cohere, Jina, Voyage, vLLM, TEI and OpenAI work against `podium up` as they are.

They exclude each other, so they live in two environments, which the test makes (seconds, once they are
fetched). The same calls fail against servers that are wrong on purpose: else they would show nothing.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.podium_up import Service, podium_up

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]  # clients are fetched

FOLDER = Path(__file__).parents[1] / "clients"
KEY = "key-of-ann"
NEEDS = {
    "newest": [
        "cohere>=7,<8",
        "litellm>=1.110,<2",
        "voyageai>=0.5,<0.6",
        "openai>=3,<4",
        "haystack-ai>=3,<4",
        "jina-haystack>=2,<3",
        "cohere-haystack>=11,<12",
    ],
    "older": [
        "cohere>=5,<6",
        "langchain-cohere>=0.6,<0.7",
        "langchain-community>=0.4,<0.5",
        "llama-index-postprocessor-cohere-rerank>=0.10,<0.11",
        "llama-index-postprocessor-jinaai-rerank>=0.6,<0.7",
        "llama-index-postprocessor-tei-rerank>=0.6,<0.7",
    ],
}
"""A new major version is looked at when it is taken up here."""
BROKEN = ("mirrored", "unmetered", "accepted")

Found = dict[str, dict[str, dict[str, Any]]]


class Broken(BaseHTTPRequestHandler):
    """Podium, made wrong in one way."""

    def __init__(self, url: str, how: str, *rest: Any) -> None:
        self._url, self._how = url, how
        super().__init__(*rest)

    def log_message(self, *_: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {
            name: self.headers[name] for name in ("authorization", "content-type") if self.headers[name]
        }
        answer = httpx.post(self._url + self.path, content=body, headers=headers, trust_env=False, timeout=60)
        found, status = answer.json(), answer.status_code
        match self._how:
            case "mirrored":
                for entries in (found, *(found[name] for name in ("results", "data") if name in found)):
                    if isinstance(entries, list):
                        for entry in entries:
                            entry["index"] = 2 - entry["index"]
            case "unmetered" if isinstance(found, dict):
                found = {name: value for name, value in found.items() if name not in ("usage", "meta")}
            case "accepted":
                found, status = {"id": "x", "status": "queued"}, 202
        content = json.dumps(found).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with podium_up(
        tmp_path_factory.mktemp("clients"), "--no-page", "--no-flower", PODIUM_API_KEYS=f"ann:{KEY}"
    ) as running:
        yield running


@pytest.fixture(scope="module")
def servers(service: Service) -> Iterator[dict[str, str]]:
    """URLs: of Podium (`right`), and of those that are wrong."""
    urls, running = {"right": service.url}, []
    for how in BROKEN:
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Broken, service.url, how))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        urls[how] = f"http://127.0.0.1:{server.server_port}"
        running.append(server)
    yield urls
    for server in running:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module", params=NEEDS)
def found(
    request: pytest.FixtureRequest, servers: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Found:
    """What each client of one environment has got from each server."""
    home = tmp_path_factory.mktemp(request.param) / "env"
    uv = [sys.executable, "-m", "uv"]
    python = home / "bin" / "python"
    for command in (
        ["venv", "-q", "--python", sys.executable, str(home)],
        ["pip", "install", "-q", "--python", str(python), *NEEDS[request.param]],
    ):
        subprocess.run([*uv, *command], check=True, timeout=600)
    said = subprocess.run(
        [str(python), str(FOLDER / f"{request.param}.py"), KEY, *servers.values()],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
        env={**os.environ, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"},
    )
    by_url = json.loads(said.stdout.splitlines()[-1])
    return {how: by_url[url] for how, url in servers.items()}


def test_each_client_gets_the_ranking_as_it_expects_it(found: Found, service: Service) -> None:
    assert found["right"]
    for client, got in found["right"].items():
        assert "error" not in got, f"{client}: {got['error']}"
        assert is_right(got), f"{client}: {got}"
    assert service.process.poll() is None


def test_clients_would_notice_a_server_that_is_wrong(found: Found) -> None:
    for how in ("mirrored", "accepted"):
        wrong = {client for client, got in found[how].items() if not is_right(got) and "error" not in got}
        failed = {client for client, got in found[how].items() if "error" in got}
        assert wrong | failed >= set(found["right"]) - {"openai_models"}, how
    metered = {client for client, got in found["right"].items() if got.get("usage")}
    assert metered
    unmetered = {client for client in metered if found["unmetered"][client].get("usage")}
    assert not unmetered


def is_right(got: dict[str, Any]) -> bool:
    """Of a client that ranks: the document that answers comes first, and scores fall between 1 and 0."""
    if "error" in got:
        return False
    if "results" not in got:
        return True
    indexes = [index for index, _ in got["results"]]
    scores = [score for _, score in got["results"]]
    return indexes[:2] == [1, 2] and len(set(indexes)) == len(indexes) and (
        scores == sorted(scores, reverse=True) and all(0 <= score <= 1 for score in scores)
    )  # fmt: skip
