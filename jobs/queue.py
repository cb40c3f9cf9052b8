"""The doorbell: Celery's app, its queues, and `announce`. A message carries a job's id and nothing else.

Losing a message loses nothing: jobs rest in the store, and the sweeper rings again. That is why messages
are acknowledged early, and why Celery's results, retries, time limits and revokes are not used.
"""

from functools import cache

from celery import Celery
from kombu import Exchange, Queue
from redis import Redis
from redis.exceptions import RedisError

from jobs.errors import StoreUnavailable
from jobs.events import SentEvents
from jobs.message import Blank, Message, blank
from jobs.model import Lane
from jobs.settings import Settings

SCORE = "podium.score"
DELIVER = "podium.deliver"
CALLBACKS = "callbacks"


def queue_name(model: str, lane: Lane) -> str:
    return f"score.{model}.{lane.value}"


@cache
def lane_of(queue: str) -> Lane | None:
    """The lane of a queue of jobs; None for another."""
    return next((lane for lane in Lane if queue.endswith(f".{lane.value}")), None)


def make_app(settings: Settings) -> Celery:
    """The Celery app of a process. It connects when first used."""
    app = Celery("podium", broker=settings.redis_url, set_as_current=False)
    app.conf.update(
        task_serializer="json",
        accept_content=["json"],
        result_backend=None,
        task_ignore_result=True,
        task_acks_late=False,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
        worker_enable_remote_control=True,
        worker_send_task_events=settings.worker.events,
        worker_hijack_root_logger=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        task_track_started=True,
        task_create_missing_queues=False,
        task_queues=[
            _queue(name)
            for name in (
                *(queue_name(model, lane) for model in settings.served for lane in Lane),
                CALLBACKS,
            )
        ],
        task_default_queue=CALLBACKS,
        broker_connection_retry_on_startup=True,
        broker_channel_error_retry=True,  # a full Redis refuses Celery's own writes: the worker tries again
        broker_connection_timeout=5,
        broker_transport_options={
            "socket_connect_timeout": 5,
            "retry_on_timeout": True,
            # Kombu's own record of messages in hand: four commands and a quarter of a worker's own cost for
            # each job, for what the sweeper does.
            "ack_emulation": False,
        },
        enable_utc=True,
    )
    return app


def _queue(name: str) -> Queue:
    return Queue(name, Exchange("podium", type="direct"), routing_key=name)


class Doorbell:
    """Publishes ids. `StoreUnavailable` when the broker can't be reached."""

    def __init__(self, app: Celery, redis: Redis) -> None:
        self._app = app
        self._redis = redis
        self._sent = SentEvents(app) if app.conf.worker_send_task_events else None
        self._blanks: dict[str, Blank] = {}

    def message(self, job_id: str, model: str, lane: Lane) -> Message:
        """That a job waits, for the model's workers. The Celery task's id is the job's id."""
        return self._message(SCORE, job_id, job_id, queue_name(model, lane))

    def told(self, job_id: str, model: str, lane: Lane) -> None:
        """Such a message was sent: Flower hears of it."""
        if self._sent is not None:
            self._sent.tell(SCORE, job_id, job_id, queue_name(model, lane))

    def announce(self, job_id: str, model: str, lane: Lane) -> None:
        """Sends the message of a job that is stored."""
        self._send(self.message(job_id, model, lane))
        self.told(job_id, model, lane)

    def announce_callback(self, job_id: str) -> None:
        """Tells the callback process that a callback is due."""
        task_id = f"{job_id}-callback"
        self._send(self._message(DELIVER, job_id, task_id, CALLBACKS))
        if self._sent is not None:
            self._sent.tell(DELIVER, job_id, task_id, CALLBACKS)

    def ringing(self, model: str, lane: Lane) -> int:
        """How many messages wait in a lane's list. Kombu keeps each queue as a list of its name."""
        return int(self._redis.llen(queue_name(model, lane)))

    def _message(self, task: str, job_id: str, task_id: str, queue: str) -> Message:
        if queue not in self._blanks:  # a queue has one kind of task
            self._blanks[queue] = blank(self._app, task, queue)
        return Message(queue, self._blanks[queue].filled(job_id, task_id))

    def _send(self, message: Message) -> None:
        try:
            self._redis.lpush(*message)
        except RedisError as error:
            raise StoreUnavailable(
                "the broker can't take a message; what is stored will be announced again"
            ) from error
