"""`podium jobs` and `podium retry`: an operator's view of jobs, through the public API."""

from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from jobs import settings as podium_settings
from jobs.errors import PodiumError


class ApiProblem(PodiumError):
    """The API can't be reached, or refused."""

    code = "api_problem"


def jobs(url: str | None, status: str | None, limit: int, *, as_json: bool) -> int:
    """Prints the newest jobs of the first key in PODIUM_API_KEYS; all jobs of a service without keys."""
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while len(found) < limit:
        asked = {"status": status, "cursor": cursor, "limit": min(200, limit - len(found))}
        params = {name: value for name, value in asked.items() if value is not None}
        page = call(url, "GET", "/v1/jobs", params=params)
        found += page["jobs"]
        cursor = page.get("next_cursor")
        if cursor is None:
            break
    console = Console()
    if as_json:
        console.print_json(data=found)
        return 0
    table = Table(box=None)
    for name in ("id", "status", "error", "documents", "attempts", "created"):
        table.add_column(name, no_wrap=name == "id")
    for job in found:
        code = job.get("error", {}).get("code", "")
        total, attempts = str(job["progress"]["total"]), str(job["attempts"])
        table.add_row(job["id"], job["status"], code, total, attempts, job["created_at"][:19])
    console.print(table if found else "No such jobs.")
    return 0


def retry(url: str | None, job_id: str) -> int:
    """Runs a failed job again and prints the id of the new one."""
    job = call(url, "POST", f"/v1/jobs/{job_id}/retry")
    Console().print(f"{job_id} runs again as {job['id']}", highlight=False)
    return 0


def call(url: str | None, method: str, path: str, **options: Any) -> Any:
    """The JSON of one answer, as the first key in PODIUM_API_KEYS. Raises `ApiProblem`."""
    settings = podium_settings.load()
    base = (url or settings.public_url).rstrip("/")
    keys = list(settings.keys)
    headers = {"Authorization": f"Bearer {keys[0]}"} if keys else {}
    try:
        answer = httpx.request(
            method, f"{base}{path}", headers=headers, timeout=90, trust_env=False, **options
        )
    except httpx.HTTPError as error:
        raise ApiProblem(f"no API answers at {base}: start `podium up`, or name it with --url") from error
    if answer.is_error:
        raise ApiProblem(f"the API answered {answer.status_code}: {answer.json().get('detail', answer.text)}")
    return answer.json()
