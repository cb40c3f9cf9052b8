"""`podium doctor`: does a model give its reference's scores, in a service that runs or in an engine here?"""

from typing import Any

from rich.console import Console

from cli.client import ApiProblem, call
from jobs import settings as podium_settings
from jobs.model import Lane
from jobs.settings import Settings
from worker import golden, profiles
from worker.golden import GoldenFailed, Verdict
from worker.profiles import GoldenCase, ModelProfile

WITHIN = 120
"""Seconds that a service has for a golden case."""

console = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)


def doctor(url: str | None, model: str | None, *, here: bool) -> int:
    """Scores the golden pairs of a model and compares.

    Raises `GoldenFailed` naming each pair that is wrong, and `ApiProblem` if the service can't be asked.
    """
    settings = podium_settings.load()
    profile = profiles.load(model or settings.model, settings.models_dir)
    verdict = _in_an_engine(settings, profile) if here else _in_a_service(url, profile)
    if verdict.faults:
        raise GoldenFailed(f"{profile.name} gives wrong scores:\n  " + "\n  ".join(verdict.faults))
    far = verdict.largest_difference
    known = "the order alone is known" if far is None else f"within {far:.1e} of the reference"
    console.print(
        f"{profile.name}: {verdict.pairs} golden pairs are right, {known} ({profile.golden.source})"
    )
    return 0


def _in_an_engine(settings: Settings, profile: ModelProfile) -> Verdict:
    from worker.app import start_engine

    console.print(f"Loading {profile.name}: this takes a while.")
    engine = start_engine(profile, settings)
    try:
        return golden.check(engine, profile)
    finally:
        engine.close()


def _in_a_service(url: str | None, profile: ModelProfile) -> Verdict:
    served = {model["id"]: model["workers"] for model in call(url, "GET", "/v1/models")["data"]}
    if not served.get(profile.name):
        raise ApiProblem(
            f"no live worker serves {profile.name}: start one with `podium worker score --model "
            f"{profile.name}`, or try the model without a service: --here"
        )
    workers: set[str] = set()
    found = []
    for case in profile.golden.cases:
        job = _job(url, profile, case)
        workers.add(job["provenance"]["worker"])
        ranked = sorted(job["results"], key=lambda entry: int(entry["index"]))
        found.append([entry.get("relevance_score") for entry in ranked])
    console.print(f"Scored by {', '.join(sorted(workers))}.")
    return golden.compare(profile, found)


def _job(url: str | None, profile: ModelProfile, case: GoldenCase) -> dict[str, Any]:
    """The job of one case, once it has succeeded."""
    asked = {
        "model": profile.name,
        "query": case.query,
        "instruction": case.instruction,
        "documents": list(case.documents),
        "lane": Lane.INTERACTIVE.value,
        "cache": False,  # what the engine says now
        "finish_within": WITHIN,
    }
    job: dict[str, Any] = call(url, "POST", "/v1/jobs", json=asked)
    while job["status"] in ("queued", "running"):
        job = call(url, "GET", f"/v1/jobs/{job['id']}", params={"wait": 60})
    if job["status"] != "succeeded":
        why = job.get("error", {}).get("message", job["status"])
        raise ApiProblem(f"the golden pairs could not be scored: {why}")
    return job
