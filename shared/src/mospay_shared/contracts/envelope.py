"""The envelope: CloudEvents 1.0 in JSON, carried in packs of 1 to 100 events of one type."""

import datetime as dt
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

PACK_LIMIT = 100  # events a message
EVENT_LIMIT_BYTES = 256 * 1024
PACK_LIMIT_BYTES = 1024 * 1024
CONTENT_TYPE = "application/cloudevents-batch+json"

T = TypeVar("T", bound=BaseModel)


class Contract(BaseModel):
    """Base of every message body: consumers ignore what they don't know; producers are strict."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Envelope(BaseModel):
    """CloudEvents 1.0 attributes plus trace context, correlation and causation ids.

    `data` is the body; its schema is named by `type` (`payment.succeeded.v1`), which is the routing
    key as well. `id` is what consumers dedupe by. `time` is when the event was written down.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    specversion: str = Field("1.0", pattern=r"^1\.0$")
    id: str = Field(min_length=1, max_length=80)
    source: str = Field(max_length=80)
    type: str = Field(pattern=r"^[a-z_]+(\.[a-z_]+)*\.v[0-9]+$", max_length=80)
    subject: str = Field(max_length=120)
    time: dt.datetime
    datacontenttype: str = "application/json"
    dataschema: str | None = None
    traceparent: str | None = Field(None, max_length=80)
    correlation_id: str | None = Field(None, max_length=120)
    causation_id: str | None = Field(None, max_length=80)
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Event(Generic[T]):
    """A received event: envelope and its parsed body; `tries` counts this one and those before."""

    envelope: Envelope
    data: T
    tries: int = 1

    @property
    def id(self) -> str:
        """The event id that consumers dedupe by."""
        return self.envelope.id


@dataclass(frozen=True, slots=True)
class Outgoing:
    """An event or command on its way out, its envelope already encoded."""

    id: str
    type: str
    subject: str
    command: bool
    body: bytes


ENVELOPES: TypeAdapter[list[Envelope]] = TypeAdapter(list[Envelope])
