"""The gateway's own step of a payment's trace: the HTTP call that made it."""

from mospay_shared.chassis.database import Tx
from mospay_shared.chassis.operations import Hop

from mospay_gateway.usecases.news import http_hops


async def trace_source(tx: Tx, subject: str) -> list[Hop]:
    """Return the hops of a payment that are ours."""
    return [Hop(service="gateway", **hop) for hop in await http_hops(tx, subject)]
