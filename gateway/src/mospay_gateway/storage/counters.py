"""Counters of daily limits; acceptance reserves and news release within their own statements."""

import datetime as dt

from mospay_shared.chassis.database import Tx

_FORGET = """
delete from limit_counters where (client_id, mode, service_id, day, subject) in (
    select client_id, mode, service_id, day, subject from limit_counters where day < $1
    order by client_id, mode, service_id, day, subject limit 5000 for update skip locked)
returning day"""


async def forget_counters(tx: Tx, before: dt.date) -> int:
    """Delete counters of days no request can fall on any more."""
    return len(await tx.fetch(_FORGET, before))
