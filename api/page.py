"""The page at /ui: a client of the public HTTP API, and nothing else."""

import os
import time
from collections.abc import Iterator
from typing import Any

import httpx
from fastapi import FastAPI

from api import examples
from jobs.errors import ConfigurationError
from jobs.settings import Settings

PATH = "/ui"
SEPARATOR = "---"
HEADERS = ["rank", "relevance_score", "document", "status"]

Shown = tuple[str, list[list[Any]]]
"""What a click shows: a line of text and the table's rows."""


def mount(app: FastAPI, settings: Settings) -> None:
    """Adds the page to `app`. `ConfigurationError` when Gradio is not installed."""
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    try:
        import gradio as gr
    except ImportError as error:
        raise ConfigurationError(
            "the page needs Gradio: pip install 'podium[page]', or start without it: --no-page"
        ) from error

    def rank(query: str, instruction: str, documents: str, key: str, request: gr.Request) -> Iterator[Shown]:
        # The API is asked at the address at which it was just reached, so any --host and --port do.
        assert request.request is not None
        host, port = request.request.scope["server"]
        at = f"[{host}]" if ":" in host else host
        yield from _rank(f"http://{at}:{port}", query, instruction, split(documents), key)

    theme = gr.themes.Soft(
        font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]  # nothing from elsewhere
    )  # fmt: skip
    with gr.Blocks(title="Podium", analytics_enabled=False) as blocks:
        gr.Markdown(
            "# Podium\nRank documents by their relevance to a query. "
            "The same by HTTP: [`POST /v1/jobs`](/docs#/jobs)."
        )
        with gr.Row():
            with gr.Column():
                query = gr.Textbox(label="Query", autofocus=True)
                instruction = gr.Textbox(
                    label="Instruction", placeholder="What counts as relevant (optional)"
                )
                documents = gr.Textbox(
                    label="Documents",
                    info=f"One per line. Longer ones: put a line of {SEPARATOR} between them.",
                    lines=10,
                    max_lines=20,
                )
                key = gr.Textbox(label="API key", type="password", visible=bool(settings.keys))
                button = gr.Button("Rank", variant="primary")
            with gr.Column():
                state = gr.Markdown("Ranked documents appear here.")
                table = gr.Dataframe(
                    headers=HEADERS,
                    datatype=["number", "number", "str", "str"],
                    interactive=False,
                    wrap=True,
                    label="Ranking",
                )
        gr.Examples(
            [[e.query, e.instruction or "", join(e.documents)] for e in examples.load()],
            [query, instruction, documents],
            example_labels=[e.title for e in examples.load()],
        )
        gr.on(
            [button.click, query.submit],
            rank,
            [query, instruction, documents, key],
            [state, table],
            api_visibility="private",
        )
    gr.mount_gradio_app(app, blocks, path=PATH, theme=theme)


def split(text: str) -> list[str]:
    """The documents of the text box: one per line, or separated by lines of `---`."""
    lines = text.splitlines()
    if SEPARATOR in (line.strip() for line in lines):
        parts: list[list[str]] = [[]]
        for line in lines:
            if line.strip() == SEPARATOR:
                parts.append([])
            else:
                parts[-1].append(line)
        found = ["\n".join(part).strip("\n") for part in parts]
    else:
        found = lines
    return [document for document in found if document.strip()]


def join(documents: tuple[str, ...]) -> str:
    """The text that `split` takes apart again."""
    long = any("\n" in document for document in documents)
    return f"\n{SEPARATOR}\n".join(documents) if long else "\n".join(documents)


def _rank(base: str, query: str, instruction: str, documents: list[str], key: str) -> Iterator[Shown]:
    body = {"query": query, "documents": documents, "instruction": instruction or None}
    started = time.monotonic()
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    with httpx.Client(base_url=base, headers=headers, timeout=30, trust_env=False) as client:
        try:
            answer = client.post("/v1/jobs", json=body)
            while answer.is_success and answer.json()["status"] in ("queued", "running"):
                job = answer.json()
                progress = job["progress"]
                line = f"{job['status']}: {progress['scored']} of {progress['total']} documents scored"
                yield f"{line}, {time.monotonic() - started:.0f} s", []
                answer = client.get(f"/v1/jobs/{job['id']}", params={"wait": 1})
        except httpx.HTTPError as error:
            yield f"**The API did not answer**: {error}", []
            return
    yield _shown(answer.json(), documents, time.monotonic() - started)


def _shown(found: dict[str, Any], documents: list[str], seconds: float) -> Shown:
    if found.get("status") != "succeeded":
        problem = found.get("error", found)
        return f"**{problem.get('code', 'error')}**: {problem.get('message') or problem.get('detail')}", []
    about, timings = found["provenance"], found["timings"]
    line = (
        f"{about['model']} ({about['score']}) on {about['engine']} {about['engine_version']}: "
        f"{len(documents)} documents, {found['usage']['total_tokens']} tokens in {seconds:.2f} s "
        f"(queued {timings['queued']:.2f} s, engine {timings['engine']:.2f} s). "
        f"[Job {found['id']}](/v1/jobs/{found['id']})"
    )
    warnings = "".join(f"\n\n{warning}" for warning in found.get("warnings", []))
    rows = [
        [
            place,
            None if r.get("relevance_score") is None else round(r["relevance_score"], 4),
            documents[r["index"]],
            r["status"],
        ]
        for place, r in enumerate(found["results"], start=1)
    ]
    return line + warnings, rows
