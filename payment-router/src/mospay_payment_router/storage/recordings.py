"""Recorded traffic of a mapping: what was called, and what came back, byte for byte."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mospay_shared.chassis.database import Tx

from mospay_payment_router.domain.functions import Key
from mospay_payment_router.domain.payments import Payment
from mospay_payment_router.storage.payments import PAYMENT_COLUMNS, payment_of


@dataclass(frozen=True, slots=True)
class Recording:
    """One call that was made. `url` and `payload` are None where they are not kept (enquiries,
    and payloads made with a payer's secrets); `result` is what was believed of the answer."""

    id: str
    payment: Payment
    url: str | None
    payload: bytes | None
    http_status: int | None
    answer: bytes | None
    result: str | None
    reason_code: str | None
    secret: bool


_P = ", ".join(f"p.{name.strip()}" for name in PAYMENT_COLUMNS.replace("\n", " ").split(","))
_OWN = ("record_id", "record_url", "record_payload", "record_status", "record_answer",
        "record_result", "record_reason", "record_secret")  # fmt: skip
_OF_MAPPING = """
p.app_id = $1 and p.route = $4
    and coalesce(nullif(p.terms ->> 'provider', ''), p.microservice) = $2
    and coalesce(nullif(p.terms ->> 'service', ''), p.service) = $3"""
_CALLS = f"""
select a.id as record_id, a.url as record_url,
    case when not a.payload_sealed then a.payload end as record_payload,
    a.http_status as record_status, a.answer as record_answer, a.result as record_result,
    a.reason_code as record_reason, a.payload_sealed as record_secret, {_P}
from payments p join attempts a on a.payment_id = p.id and a.provider = $2
where {_OF_MAPPING} and a.url is not null and a.started_at is not null
order by p.id desc, a.number desc limit $5"""
_ENQUIRIES = f"""
select e.id as record_id, null::text as record_url, null::bytea as record_payload,
    e.http_status as record_status, e.answer as record_answer, e.result as record_result,
    e.reason_code as record_reason, false as record_secret, {_P}
from payments p join enquiries e on e.payment_id = p.id
where {_OF_MAPPING} and e.http_status is not null
order by p.id desc, e.number desc limit $5"""


async def calls(tx: Tx, key: Key, limit: int) -> list[Recording]:
    """Return the last calls of a mapping, the newest first."""
    return await _fetch(tx, _CALLS, key, limit)


async def enquiries(tx: Tx, key: Key, limit: int) -> list[Recording]:
    """Return the last enquiries of a mapping that were answered, the newest first."""
    return await _fetch(tx, _ENQUIRIES, key, limit)


async def _fetch(tx: Tx, sql: str, key: Key, limit: int) -> list[Recording]:
    rows = await tx.fetch(sql, key.app_id, key.microservice, key.service, key.route, limit)
    return [_recording(dict(row), _OWN) for row in rows]


def _recording(values: dict[str, Any], own: Sequence[str]) -> Recording:
    kept = [values.pop(name) for name in own]
    return Recording(kept[0], payment_of(values), *kept[1:])
