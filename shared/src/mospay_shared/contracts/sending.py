"""Writing a message: its body in an envelope, for the exchange that the catalogue names."""

import datetime as dt

import orjson
from pydantic import BaseModel

from mospay_shared.contracts.envelope import EVENT_LIMIT_BYTES, Outgoing
from mospay_shared.contracts.registry import MESSAGES
from mospay_shared.ids import new_id


def outgoing(
    wire_type: str,
    subject: str,
    data: BaseModel,
    *,
    source: str,
    causation_id: str | None = None,
    correlation_id: str | None = None,
    traceparent: str | None = None,
) -> Outgoing:
    """Wrap a body into its envelope. `subject` is the id of what it is about (`pay_…`).

    Whether it is an event or a command is the catalogue's word: sent as the other, the broker would
    refuse it for ever. Raises KeyError for a type that is not in it.
    """
    command = MESSAGES[wire_type].command
    event_id = new_id("evt")
    body = orjson.dumps(
        {
            "specversion": "1.0",
            "id": event_id,
            "source": f"mospay/{source}",
            "type": wire_type,
            "subject": subject,
            "time": dt.datetime.now(dt.UTC),
            "datacontenttype": "application/json",
            "dataschema": f"mospay:{wire_type}",
            "traceparent": traceparent,
            "correlation_id": correlation_id,
            "causation_id": causation_id,
            "data": data.model_dump(mode="json"),
        },
        option=orjson.OPT_UTC_Z,
    )
    if len(body) > EVENT_LIMIT_BYTES:
        raise ValueError(f"{wire_type} for {subject} is larger than {EVENT_LIMIT_BYTES} bytes")
    return Outgoing(event_id, wire_type, subject, command, body)
