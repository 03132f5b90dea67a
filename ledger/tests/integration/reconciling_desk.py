"""What tests of reconciliation share: a provider's payments and files, workers run by hand."""

import datetime as dt
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import orjson
from mospay_ledger.domain.statement_mappings import PRESETS
from mospay_ledger.storage import imports as stored
from mospay_ledger.usecases import importing, matching, posting, resolving
from mospay_shared.chassis.service import Service
from mospay_shared.chassis.service_tokens import TokenSigner
from mospay_shared.contracts import PaymentEventV1
from mospay_shared.ids import new_id

from .conftest import event, succeeded

Row = dict[str, Any]
# Within the grace of what a statement may lack, by the clock itself.
T0 = dt.datetime.now(dt.UTC).replace(microsecond=0) - dt.timedelta(hours=3)
LIMITS = importing.Limits(
    chunk_bytes=256, file_bytes=10**6, faults=50, batch_lines=10, lease_seconds=5
)
RULES = matching.Rules(
    batch_lines=10,
    lease_seconds=5,
    window=dt.timedelta(hours=1),
    grace=dt.timedelta(hours=24),
    nightly_hour=24,  # by hand alone
)
HEADER = "provider_reference,reference,kind,amount,currency,fee,occurred_at"


def line(body: PaymentEventV1 | None = None, **changes: Any) -> str:
    """A line of the simulator's export, of a payment unless `changes` say otherwise."""
    values: Row = {
        "reference": body.provider_reference if body else "",
        "ours": "",
        "kind": "payment",
        "amount": body.amount_minor if body else 1,
        "currency": body.currency if body else "RWF",
        "fee": 0,
        "at": (body.occurred_at if body else T0).isoformat(),
    } | changes
    return ",".join(str(values[k]) for k in ("reference", "ours", "kind", "amount", "currency",
                                             "fee", "at"))  # fmt: skip


async def book(ledger: Service, provider: str, count: int = 1, **changes: Any) -> list[Any]:
    """Book payments of a provider, a minute apart, each with a reference of its own."""
    bodies = []
    for n in range(count):
        at = T0 + dt.timedelta(minutes=n)
        values: Row = {
            "microservice": provider,
            "provider_reference": new_id("sim"),
            "accepted_at": at,
            "occurred_at": at,
        }
        bodies.append(succeeded(**(values | changes)))
    async with ledger.database.transaction() as tx:
        await posting.post_events(tx, ledger.relay, [event(body) for body in bodies])
    return bodies


async def pieces(data: bytes) -> AsyncIterator[bytes]:
    """A file as a network gives it."""
    for at in range(0, len(data), 100):
        yield data[at : at + 100]


async def upload(ledger: Service, provider: str, lines: Sequence[str], **changes: Any) -> str:
    """Upload a file and return its import."""
    values: Row = {
        "microservice": provider, "mode": "test", "file_name": "f.csv",
        "mapping": PRESETS["simulator"], "mapping_version": None, "preset": "simulator",
        "review": False, "covers_from": None, "covers_until": None, "by": "usr_a",
    } | changes  # fmt: skip
    data = "\n".join([HEADER, *lines, ""]).encode()
    given = importing.Upload(**values)
    import_id, _ = await importing.upload(ledger.database, given, pieces(data), LIMITS)
    return import_id


async def work(ledger: Service) -> None:
    """Let the workers do all there is."""
    while await importing.work_off(ledger.database, ledger.relay, LIMITS):
        pass
    while await matching.work_off(ledger.database, ledger.relay, RULES):
        pass


async def run(ledger: Service, provider: str, as_of: dt.datetime | None = None) -> None:
    """Match again by hand."""
    async with ledger.database.transaction() as tx:
        await matching.ask(tx, provider, "test", as_of)
    await work(ledger)


async def take(ledger: Service, provider: str, lines: Sequence[str], **changes: Any) -> Row:
    """Import a file to its end and return the import."""
    import_id = await upload(ledger, provider, lines, **changes)
    await work(ledger)
    return await shown(ledger, import_id)


async def shown(ledger: Service, import_id: str) -> Row:
    """An import as people see it."""
    async with ledger.database.transaction() as tx:
        row = await stored.shown(tx, import_id)
    assert row is not None
    return dict(row)


async def rows(ledger: Service, sql: str, *values: Any) -> list[Row]:
    """Rows of a statement, across tenants."""
    async with ledger.database.transaction() as tx:
        return [dict(row) for row in await tx.fetch(sql, *values)]


async def exceptions(ledger: Service, provider: str) -> list[Row]:
    """A provider's exceptions, oldest first."""
    sql = "select * from reconciliation_exceptions where microservice = $1 order by id"
    return await rows(ledger, sql, provider)


async def states(ledger: Service, provider: str) -> Counter[str]:
    """How many lines are in each state."""
    sql = "select state, count(*) as n from statement_lines where microservice = $1 group by 1"
    return Counter({row["state"]: row["n"] for row in await rows(ledger, sql, provider)})


async def balance(ledger: Service, account: str) -> int:
    """What an account holds."""
    found = await rows(ledger, "select balance_minor from accounts where id = $1", account)
    return int(found[0]["balance_minor"]) if found else 0


async def told(ledger: Service, wire_type: str, provider: str) -> list[Row]:
    """The events of a type about a provider, in the outbox."""
    found = await rows(ledger, "select body from outbox where type = $1 order by id", wire_type)
    bodies = [orjson.loads(row["body"])["data"] for row in found]
    return [body for body in bodies if body["microservice"] == provider]


async def unbalanced(ledger: Service) -> list[Row]:
    """Currencies whose accounts do not sum to zero."""
    return await rows(
        ledger,
        "select currency, mode, sum(balance_minor) from accounts group by 1, 2 "
        "having sum(balance_minor) <> 0",
    )


async def one_exception(ledger: Service, provider: str, **changes: Any) -> str:
    """An import with one line that is missing here; return its exception."""
    await take(ledger, provider, [line(reference=new_id("r"), amount=5000, **changes)])
    (row,) = await exceptions(ledger, provider)
    return str(row["id"])


async def resolve(
    ledger: Service, exception_id: str, how: str, by: str = "usr_a", limit: int = 10**9
) -> None:
    """Resolve, alone up to a limit in RWF."""
    async with ledger.database.transaction() as tx:
        await resolving.resolve(
            tx, ledger.relay, exception_id, how, "because", by, {"RWF": limit, "USD": limit}
        )


def token(portal: TokenSigner, **claims: Any) -> dict[str, str]:
    """Headers of a person of the operator."""
    made = portal.token("ledger", "ledger:read ledger:write", **({"actor": "usr_a"} | claims))
    return {"authorization": f"Bearer {made}"}


@asynccontextmanager
async def http_of(ledger: Service) -> AsyncIterator[httpx.AsyncClient]:
    """The HTTP side of a ledger whose workers do not run, at its reconciliation."""
    transport = httpx.ASGITransport(app=ledger.app, raise_app_exceptions=False)
    base = "http://ledger/internal/v1/reconciliation"
    async with httpx.AsyncClient(transport=transport, base_url=base) as client:
        yield client
