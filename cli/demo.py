"""`podium demo`: the main job on real parts, with nothing taken on trust."""

import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import Any

import httpx
from rich.table import Table
from standardwebhooks import Webhook, WebhookVerificationError

from api import examples
from api.examples import Example
from cli.up import Options, Running, console, free_port, port_free, running, warn
from jobs.settings import Settings

CALLBACK_WITHIN = 20.0
"""Seconds in which the callback must come."""


@dataclass(frozen=True)
class Received:
    headers: dict[str, str]
    body: bytes


def demo(port: int, flower_port: int, model: str | None, data_dir: Path | None, *, keep: bool) -> int:
    """Runs the stack and the examples; what it returns is the exit code."""
    port, flower_port = (
        wanted if port_free("127.0.0.1", wanted) else free_port() for wanted in (port, flower_port)
    )
    folder = tempfile.TemporaryDirectory(prefix="podium-demo-") if data_dir is None else nullcontext(data_dir)
    with folder as where, receiver() as (hook_url, arrived):
        environ = {"PODIUM_CALLBACK_ALLOW": "127.0.0.0/8", **os.environ}
        options = Options("127.0.0.1", port, flower_port, model, Path(where))
        with running(options, environ) as run:
            faults = [fault for example in examples.load() if (fault := _ranks(run, example))]
            faults += _calls_back(run, hook_url, arrived)
            for fault in faults:
                warn(fault)
            if not faults:
                console.print("Every expected document came first; callback verified.", style="bold green")
            if keep:
                console.print("Ctrl-C stops everything.")
                run.watch()
    return 1 if faults else 0


@contextmanager
def receiver() -> Iterator[tuple[str, "Queue[Received]"]]:
    """A target for callbacks on loopback: its URL, and what arrives there."""
    arrived: Queue[Received] = Queue()

    class Target(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            arrived.put(Received({k.lower(): v for k, v in self.headers.items()}, body))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Target)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hook", arrived
    finally:
        server.shutdown()
        server.server_close()


def _client(run: Running) -> httpx.Client:
    keys = list(run.settings.keys)
    headers = {"Authorization": f"Bearer {keys[0]}"} if keys else {}
    return httpx.Client(base_url=run.url, headers=headers, timeout=90, trust_env=False)


def _ranks(run: Running, example: Example) -> str | None:
    """Prints the ranking of one example; what is wrong with it, if anything."""
    started = time.monotonic()
    body = {"query": example.query, "documents": example.documents, "instruction": example.instruction}
    job = _finished(run, body)
    took = time.monotonic() - started
    if job["status"] != "succeeded":
        return f"{example.title}: {job.get('error', job)}"
    instruction = f"\ninstruction: {example.instruction}" if example.instruction else ""
    table = Table(title=f"{example.title}\n{example.query}{instruction}", title_justify="left", expand=False)
    table.add_column("rank", justify="right")
    table.add_column(f"score ({job['provenance']['score']})", justify="right")
    table.add_column("document", overflow="fold", max_width=90)
    for rank, entry in enumerate(job["results"], start=1):
        first = "bold green" if rank == 1 else ""
        table.add_row(
            str(rank), f"{entry['relevance_score']:.4f}", example.documents[entry["index"]], style=first
        )
    console.print(table)
    timings, about = job["timings"], job["provenance"]
    console.print(
        f"{took * 1000:.0f} ms by HTTP: queued {timings['queued'] * 1000:.0f}, "
        f"tokenized in {timings['tokenize'] * 1000:.0f}, engine {timings['engine'] * 1000:.0f} ms; "
        f"{job['usage']['total_tokens']} tokens; {about['engine']} {about['engine_version']}"
    )
    for warning in job.get("warnings", []):
        console.print(f"note: {warning}", style="dim")
    console.print()
    found = job["results"][0]["index"]
    return (
        None if found == example.best else f"{example.title}: document {found} came first, not {example.best}"
    )


def _finished(run: Running, body: dict[str, Any]) -> dict[str, Any]:
    """The job of `body` once it has ended, or the problem that the API answered with."""
    with _client(run) as client:
        answer = client.post("/v1/jobs", json=body, headers={"Prefer": "wait=30"})
        deadline = time.monotonic() + 60
        while answer.status_code in (200, 202) and answer.json()["status"] in ("queued", "running"):
            if time.monotonic() > deadline:
                break
            answer = client.get(f"/v1/jobs/{answer.json()['id']}", params={"wait": 20})
        found: dict[str, Any] = answer.json()
        return found


def _calls_back(run: Running, hook_url: str, arrived: "Queue[Received]") -> list[str]:
    """Submits a job with a callback and verifies what arrives; what is wrong with it, if anything."""
    first = examples.load()[0]
    with _client(run) as client:
        answer = client.post(
            "/v1/jobs",
            json={
                "query": first.query,
                "documents": first.documents,
                "callback": {"url": hook_url, "include_result": True},
            },
        )
        if answer.is_error:
            return [f"a job with a callback was refused: {answer.text}"]
        job_id = answer.json()["id"]
    try:
        received = arrived.get(timeout=CALLBACK_WITHIN)
    except Empty:
        return [f"no callback came in {CALLBACK_WITHIN:.0f} s"]
    try:
        body = verify(received, run.settings)
    except WebhookVerificationError as error:
        return [f"the callback's signature is wrong: {error}"]
    if body["data"]["id"] != job_id:
        return [f"the callback is about {body['data']['id']}, not {job_id}"]
    console.print(f"Callback: {body['type']} for job {job_id}")
    for name in ("webhook-id", "webhook-timestamp", "webhook-signature"):
        console.print(f"  {name}: {received.headers[name]}", style="dim")
    return []


def verify(received: Received, settings: Settings) -> Any:
    """The callback's body. Raises `WebhookVerificationError` unless its signature is right."""
    secret = settings.callback_secret.get_secret_value() if settings.callback_secret else ""
    Webhook(secret).verify(received.body.decode(), received.headers)
    return json.loads(received.body)
