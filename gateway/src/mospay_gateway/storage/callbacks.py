"""Callbacks of providers, byte for byte as they came."""

import datetime as dt
from dataclasses import dataclass

from mospay_shared.chassis.database import Tx

_STORE = """
insert into callbacks (id, microservice, service_id, method, path, headers, body, ip, received_at)
values ($1, $2, $3, $4, $5, $6::jsonb, $7, $8, $9)"""


@dataclass(frozen=True, slots=True)
class Callback:
    """A callback; `headers` are those on the allow list, names in lower case."""

    id: str
    microservice: str
    service_id: str | None
    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    ip: str | None
    received_at: dt.datetime


async def store(tx: Tx, callback: Callback) -> None:
    """Write a callback down."""
    await tx.run(
        _STORE,
        callback.id,
        callback.microservice,
        callback.service_id,
        callback.method,
        callback.path,
        callback.headers,
        callback.body,
        callback.ip,
        callback.received_at,
    )
