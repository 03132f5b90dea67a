"""What is told of reconciliation is added up, each event once, for the operator alone."""

from typing import Any

from mospay_reporter import workers
from mospay_shared.chassis.inbox import Subscription
from mospay_shared.chassis.service import Service
from mospay_shared.contracts import (
    Contract,
    ReconciliationExceptionsV1,
    ReconciliationImportFinishedV1,
    outgoing,
)
from mospay_shared.ids import new_id

from ..samples import now, tell_raw


def exceptions(microservice: str, **changes: Any) -> ReconciliationExceptionsV1:
    """Exceptions that were opened or resolved together."""
    values: dict[str, Any] = {
        "batch_id": new_id("imp"), "microservice": microservice, "mode": "test",
        "kind": "missing_here", "count": 3, "exception_ids": [new_id("exc")], "happened_at": now(),
    }  # fmt: skip
    return ReconciliationExceptionsV1(**(values | changes))


def finished(microservice: str, **changes: Any) -> ReconciliationImportFinishedV1:
    """An import that ended."""
    values: dict[str, Any] = {
        "import_id": new_id("imp"), "microservice": microservice, "mode": "test",
        "state": "finished", "lines_accepted": 10, "lines_matched": 7, "lines_repeated": 0,
        "lines_bad": 0, "exceptions": 3, "finished_at": now(),
    }  # fmt: skip
    return ReconciliationImportFinishedV1(**(values | changes))


def wire(wire_type: str, body: Contract) -> bytes:
    """A new event as it travels."""
    return outgoing(wire_type, "imp_1", body, source="ledger").body


OPENED, RESOLVED, FINISHED = (
    f"reconciliation.{what}.v1"
    for what in ("exception_opened", "exception_resolved", "import_finished")
)


def queue(service: Service) -> Subscription:
    """The subscription these events arrive on."""
    return next(s for s in service.subscriptions if OPENED in s.handlers)


async def counts(service: Service, microservice: str) -> dict[tuple[str, str], int]:
    """What is counted of a provider."""
    async with service.database.transaction() as tx:
        rows = await tx.fetch(
            "select what, kind, count from reconciliation_counts where microservice = $1",
            microservice,
        )
    return {(row["what"], row["kind"]): row["count"] for row in rows}


async def test_counts_add_up_in_any_order_and_an_event_told_again_counts_once(
    service: Service,
) -> None:
    name = new_id("m")
    events = [
        wire(RESOLVED, exceptions(name, count=2, resolution="suspense_in")),
        wire(FINISHED, finished(name)),
        wire(OPENED, exceptions(name)),
        wire(OPENED, exceptions(name, kind="duplicate", count=1)),
        wire(FINISHED, finished(name, state="discarded", lines_accepted=0)),
    ]
    for _ in range(2):
        for one in events:
            await tell_raw(service, queue(service), [one])
    assert await counts(service, name) == {
        ("opened", "missing_here"): 3,
        ("opened", "duplicate"): 1,
        ("resolved", "missing_here"): 2,
        ("imports", "finished"): 1,
        ("lines", "finished"): 10,
        ("imports", "discarded"): 1,
        ("lines", "discarded"): 0,
    }


async def test_the_gauge_says_how_many_are_open(service: Service) -> None:
    worker = workers.workers(service.database, call_retention_days=1)[0]
    await worker.turn()
    before = workers.OPEN.labels("currency_differs", "test")._value.get()
    more = exceptions(new_id("m"), kind="currency_differs", count=5)
    await tell_raw(service, queue(service), [wire(OPENED, more)])
    await worker.turn()
    assert workers.OPEN.labels("currency_differs", "test")._value.get() == before + 5


async def test_what_can_never_be_stored_is_dead_with_its_reason(service: Service) -> None:
    name = new_id("m")
    bad = [exceptions(name, count=2**63 - 1), exceptions(name, kind="a\x00b")]
    bad += [exceptions(name, count=2**63 - 1)]
    for body in bad:
        await tell_raw(service, queue(service), [wire(OPENED, body)])
    told = await counts(service, name)
    assert told[("opened", "missing_here")] == 2**63 - 1
    async with service.database.transaction() as tx:
        dead = await tx.fetch(
            "select reason from inbox where queue = 'reporter.reconciliation' and state = 'dead'"
        )
    assert dead and all("unstorable" in row["reason"] for row in dead)


async def test_a_tenant_sees_no_count(service: Service) -> None:
    await tell_raw(service, queue(service), [wire(OPENED, exceptions(new_id("m")))])
    async with service.database.request(client_id="cli_x", mode="test") as tx:
        assert await tx.fetch("select 1 from reconciliation_counts limit 1") == []
    async with service.database.request(operator=True) as tx:
        assert await tx.fetch("select 1 from reconciliation_counts limit 1")
