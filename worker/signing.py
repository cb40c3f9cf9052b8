"""Signs callbacks as Standard Webhooks says (`webhook-id`, `webhook-timestamp`, `webhook-signature`)."""

from datetime import UTC, datetime

from standardwebhooks import Webhook


def headers(secret: str, message_id: str, body: str, now: datetime) -> dict[bytes | str, bytes | str]:
    """The three headers. `message_id` stays the same over all attempts; `now` is of any time zone."""
    stamp = now.astimezone(UTC)  # the package would take another zone's clock reading for UTC
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(stamp.timestamp())),
        "webhook-signature": Webhook(secret).sign(message_id, stamp, body),
    }
