"""Every Redis key of Podium, and who ends it.

| key | type | holds | ended by |
|---|---|---|---|
| podium:job:{id} | hash | state, numbers, times, error | TTL result_ttl, from the job's end |
| podium:work:{id} | string | query and documents, compressed | erased at the job's end, or with its failure |
| podium:result:{id} | string | the result, compressed | TTL result_ttl |
| podium:jobs:{owner} | zset | the owner's ids by creation time (ms) | leaves when the job has expired |
| podium:ended | zset | id:owner by the time of its expiry (ms) | leaves then |
| podium:lane:{model}:{lane} | hash | what waits, runs and was claimed, its drain rate | a few, kept |
| podium:lane:{model}:{lane}:drained:{n} | hash | tokens ended and time at work in 5 s | TTL 2 minutes |
| podium:queued:{model}:{lane} | zset | waiting ids by creation time (ms) | leaves on claim or end |
| podium:running | zset | running ids by the end of their lease (ms) | leaves on finish, release or reclaim |
| podium:unannounced | zset | ids without a doorbell, by time (ms) | leaves when announced or claimed |
| podium:deadlines | zset | ids by the time of their next deadline (ms) | leaves when none is left |
| podium:lanes | set | the names of all queued zsets ever used | a few entries, kept |
| podium:callback:{id} | hash | body, target, state, attempts | TTL callback.record_ttl |
| podium:callbacks | zset | ids of callbacks by the time of their next attempt (ms) | leaves when settled |
| podium:idempotency:{owner}:{key} | hash | job and request of a caller's key | TTL jobs.idempotency_ttl |
| podium:score:{digest} | string | the score of one pair, a float64 of 8 bytes | TTL cache.ttl |
| podium:workers | set | names of live workers, and some that are gone | TTL, renewed by their heartbeats |
| podium:workers:{name} | string | what a live worker serves, as JSON | TTL, renewed by its heartbeat |
| podium:events:{state} | channels | ids of jobs that come to it; `callback`: of an attempt | - |

Celery's own keys (queues `score.{model}.{lane}` and `callbacks`, bindings) are not listed: kombu owns them.
"""

RUNNING = "podium:running"
UNANNOUNCED = "podium:unannounced"
DEADLINES = "podium:deadlines"
LANES = "podium:lanes"
CALLBACKS = "podium:callbacks"
ENDED = "podium:ended"
EVENTS = "podium:events:"
WORKERS = "podium:workers"


def job(job_id: str) -> str:
    return f"podium:job:{job_id}"


def work(job_id: str) -> str:
    return f"podium:work:{job_id}"


def result(job_id: str) -> str:
    return f"podium:result:{job_id}"


def jobs_of(owner: str) -> str:
    return f"podium:jobs:{owner}"


def lane(model: str, lane: str) -> str:
    return f"podium:lane:{model}:{lane}"


def queued(model: str, lane: str) -> str:
    return f"podium:queued:{model}:{lane}"


def callback(job_id: str) -> str:
    return f"podium:callback:{job_id}"


def idempotency(owner: str, key: str) -> str:
    return f"podium:idempotency:{owner}:{key}"


def score(digest: str) -> str:
    return f"podium:score:{digest}"


def worker(name: str) -> str:
    return f"{WORKERS}:{name}"
