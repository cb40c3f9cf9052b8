"""Callbacks: signed, tried again by a schedule in Redis, never to an address that may not be called."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_network
from typing import Any

import httpcore
import pytest
from redis import Redis
from standardwebhooks import Webhook

from jobs.callback import SCHEDULE, Network
from jobs.errors import CallbackForbidden
from jobs.model import CallbackTarget, Lane
from jobs.queue import Doorbell
from jobs.settings import Settings
from jobs.states import CallbackState, Outcome
from jobs.store import Store
from tests.conftest import SECRET, new_job
from worker import signing
from worker.delivery import Delivery
from worker.egress import RESPONSE_BYTES, Egress
from worker.runner import Runner
from worker.sweeper import Sweeper

LOOPBACK = (ip_network("127.0.0.0/8"),)
HOLD = timedelta(seconds=60)


@dataclass
class Target:
    """A callback's target on loopback that answers as it is told."""

    url: str = ""
    status: int = 204
    answer: bytes = b""
    received: list[tuple[dict[str, str], bytes]] = field(default_factory=list)


@pytest.fixture
def target() -> Iterator[Target]:
    state = Target()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            state.received.append(({k.lower(): v for k, v in self.headers.items()}, body))
            self.send_response(state.status)
            self.send_header("location", "/elsewhere")
            self.send_header("content-length", str(len(state.answer)))
            self.end_headers()
            self.wfile.write(state.answer)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}/hook"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield state
    server.shutdown()
    server.server_close()


@contextmanager
def delivery(store: Store, allowed: tuple[Network, ...] = LOOPBACK) -> Iterator[Delivery]:
    egress = Egress(allowed, timedelta(seconds=2))
    yield Delivery(store, egress, SECRET, HOLD)
    egress.close()


@pytest.fixture
def ended(runner: Runner, store: Store, target: Target) -> None:
    """A job that has succeeded, with a callback to `target`."""
    store.create(new_job(callback=CallbackTarget(url=target.url, include_result=True)))
    runner.run("job-1")


def state_of(store: Store) -> CallbackState | None:
    job = store.get("job-1")
    return job.callback_state if job else None


@pytest.mark.usefixtures("ended")
def test_the_callback_arrives_with_the_result_and_a_signature_that_verifies(
    store: Store, target: Target
) -> None:
    assert state_of(store) is CallbackState.PENDING
    with delivery(store) as deliver:
        deliver.deliver("job-1")
    ((headers, body),) = target.received
    assert Webhook(SECRET).verify(body.decode(), headers)
    content = json.loads(body)
    assert content["type"] == "job.succeeded"
    assert [entry["index"] for entry in content["data"]["result"]["results"]] == [2, 1, 0]
    assert state_of(store) is CallbackState.DELIVERED
    record = store.callback("job-1")
    assert record is not None


@pytest.mark.usefixtures("ended")
def test_failures_are_tried_again_on_the_schedule_with_the_same_webhook_id(
    redis: Redis, store: Store, target: Target
) -> None:
    target.status, target.answer = 500, b"out of order"
    now = timedelta(0)
    for wait in (*SCHEDULE, None):
        with delivery(Store(redis, offset=now)) as deliver:
            deliver.deliver("job-1")
        if wait is not None:
            assert state_of(store) is CallbackState.PENDING
            early = Store(redis, offset=now + wait - timedelta(seconds=2))
            assert early.due_callbacks(HOLD, 10) == []
            now += wait + timedelta(seconds=2)
            assert Store(redis, offset=now).due_callbacks(HOLD, 10) == ["job-1"]
    assert state_of(store) is CallbackState.EXHAUSTED
    assert len(target.received) == len(SCHEDULE) + 1
    assert {headers["webhook-id"] for headers, _ in target.received} == {"msg_job-1"}
    record = store.callback("job-1")
    assert record is not None
    assert record.attempts[0]["status"] == 500
    assert record.attempts[0]["answer"] == "out of order"


@pytest.mark.usefixtures("ended")
def test_410_ends_the_attempts_and_a_redirect_is_not_followed(store: Store, target: Target) -> None:
    target.status = 307
    with delivery(store) as deliver:
        assert deliver.deliver("job-1") == CallbackState.PENDING
        assert len(target.received) == 1
        target.status = 410
        assert deliver.deliver("job-1") == CallbackState.EXHAUSTED
        assert deliver.attempts.all()[CallbackState.PENDING] == 1
        assert deliver.attempts.all()[CallbackState.EXHAUSTED] == 1


@pytest.mark.usefixtures("ended")
def test_two_doorbells_make_one_attempt(redis: Redis, store: Store, target: Target) -> None:
    assert store.claim_callback("job-1", HOLD) is Outcome.OK, "somebody is at it"
    with delivery(store) as deliver:
        deliver.deliver("job-1")
    assert target.received == []
    with delivery(Store(redis, offset=HOLD + timedelta(seconds=1))) as later:
        later.deliver("job-1")
        later.deliver("job-1")
    assert len(target.received) == 1


@pytest.mark.usefixtures("ended")
def test_a_lost_doorbell_is_rung_again_by_the_sweeper(
    settings: Settings, redis: Redis, doorbell: Doorbell
) -> None:
    redis.delete("callbacks")
    Sweeper(Store(redis), doorbell, settings).ring_for_callbacks()
    assert redis.llen("callbacks") == 0, "the runner has just rung"
    later = Store(redis, offset=settings.callbacks.hold + timedelta(seconds=1))
    Sweeper(later, doorbell, settings).ring_for_callbacks()
    assert redis.llen("callbacks") == 1


@pytest.mark.usefixtures("ended")
def test_a_callback_that_fails_leaves_its_job_succeeded(store: Store) -> None:
    with delivery(store, allowed=()) as deliver:
        deliver.deliver("job-1")
    job, record = store.get("job-1"), store.callback("job-1")
    assert job is not None
    assert record is not None
    assert (job.state, job.callback_state) == ("succeeded", CallbackState.PENDING)
    assert "127.0.0.1, which may not be called" in record.attempts[0]["answer"]


def test_the_address_is_checked_when_it_is_connected_to(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A public name that leads to a private address, as in DNS rebinding."""

    def resolve(*_: Any, **__: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 80))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(CallbackForbidden, match="leads to"):
        Egress((), timedelta(seconds=2)).post("http://innocent.example/hook", {}, b"")
    assert target.received == []


def test_a_long_answer_is_cut_and_a_silent_target_times_out(target: Target) -> None:
    target.status, target.answer = 200, b"x" * 100_000
    egress = Egress(LOOPBACK, timedelta(seconds=0.5))
    status, answer = egress.post(target.url, {"content-length": "0"}, b"")
    assert (status, len(answer)) == (200, RESPONSE_BYTES)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(httpcore.ReadTimeout):
        egress.post(f"http://127.0.0.1:{silent.getsockname()[1]}/", {"content-length": "0"}, b"")
    egress.close()


def test_a_signature_is_right_whatever_the_clocks_time_zone() -> None:
    now = datetime.now(timezone(timedelta(hours=9)))
    headers = {str(k): str(v) for k, v in signing.headers(SECRET, "msg_1", "{}", now).items()}
    assert headers["webhook-timestamp"] == str(int(now.astimezone(UTC).timestamp()))
    Webhook(SECRET).verify("{}", headers)


def test_the_runner_rings_for_the_callback_and_the_body_is_thin_by_default(
    runner: Runner, store: Store, redis: Redis
) -> None:
    store.create(new_job(callback=CallbackTarget(url="https://example.com/hook"), lane=Lane.BULK))
    runner.run("job-1")
    (raw,) = redis.lrange("callbacks", 0, -1)
    assert "sky" not in raw
    record = store.callback("job-1")
    assert record is not None
    data = json.loads(record.body or "")["data"]
    assert "result" not in data
    assert data["url"].endswith("/v1/jobs/job-1")
