"""What people do about an exception; what posts above a limit takes two of them, and posts once."""

import datetime as dt
from collections.abc import Mapping

import asyncpg
from mospay_shared.chassis.database import Tx
from mospay_shared.chassis.outbox import Relay

from mospay_ledger.domain.reconciliation import (
    NotAllowed,
    NotNow,
    ReconciliationMissing,
    SecondPersonNeeded,
    check_resolution,
    entries_of,
    needs_two,
)
from mospay_ledger.storage import exceptions
from mospay_ledger.usecases import posting
from mospay_ledger.usecases.matching import tell

WAIT_LIMIT = dt.timedelta(days=90)  # an exception that may wait longer is one nobody looks at


async def resolve(
    tx: Tx,
    relay: Relay,
    exception_id: str,
    resolution: str,
    note: str,
    by: str,
    limits: Mapping[str, int],
) -> None:
    """Resolve an exception, or propose it where a second person must approve.

    Raises ReconciliationMissing, NotNow, NotAllowed.
    """
    row = await _locked(tx, exception_id, "open")
    difference = exceptions.difference(row)
    check_resolution(difference, resolution)
    if needs_two(difference, resolution, limits):
        await exceptions.set_state(
            tx, exception_id, "proposed", resolution=resolution, proposed_by=by
        )
        await exceptions.act(tx, [exception_id], "proposed", by, note)
        return
    await _end(tx, relay, row, resolution, note, by, None)


async def approve(tx: Tx, relay: Relay, exception_id: str, note: str | None, by: str) -> None:
    """Approve a proposal and post it; raises SecondPersonNeeded for who proposed it."""
    row = await _locked(tx, exception_id, "proposed")
    if row["proposed_by"] == by:
        raise SecondPersonNeeded("who approves must be another than who proposed")
    await _end(tx, relay, row, row["resolution"], note, row["proposed_by"], by)


async def reject(tx: Tx, exception_id: str, note: str, by: str) -> None:
    """Take a proposal off the table; the exception is open again."""
    await _locked(tx, exception_id, "proposed")
    await exceptions.set_state(tx, exception_id, "open")
    await exceptions.act(tx, [exception_id], "rejected", by, note)


async def _end(
    tx: Tx,
    relay: Relay,
    row: asyncpg.Record,
    resolution: str,
    note: str | None,
    maker: str,
    checker: str | None,
) -> None:
    place = f"line {row['line_no']} of {row['import_id']}" if row["line_no"] else row["entry_id"]
    people = maker if checker is None else f"{maker}, approved by {checker}"
    reason = f"{row['kind']}, {place or row['import_id']} ({people})"
    entries = entries_of(exceptions.difference(row), resolution, reason)
    made = await posting.post_entries(tx, entries)
    await exceptions.set_state(
        tx, row["id"], "resolved", resolution=resolution, proposed_by=maker, approved_by=checker
    )
    ids = [entry.id for entry in made]
    await exceptions.act(tx, [row["id"]], "resolved", checker or maker, note, ids)
    await tell(
        tx, relay, "resolved", row["id"], row["microservice"], row["mode"], row["kind"],
        [row["id"]], resolution=resolution,
    )  # fmt: skip


async def assign(tx: Tx, exception_id: str, assignee: str | None, by: str) -> None:
    """Give an exception to a person, or to nobody."""
    await _locked(tx, exception_id, "open", "proposed")
    await exceptions.assign(tx, exception_id, assignee)
    await exceptions.act(tx, [exception_id], "assigned", by, assignee)


async def note(tx: Tx, exception_id: str, text: str, by: str) -> None:
    """Write something down about an exception, in whatever state."""
    await _locked(tx, exception_id, "open", "proposed", "resolved")
    await exceptions.act(tx, [exception_id], "noted", by, text)


async def wait(tx: Tx, exception_id: str, until: dt.datetime, text: str, by: str) -> None:
    """Let an exception wait for a later match; its clock rings at `until`."""
    now = dt.datetime.now(dt.UTC)
    if not now < until <= now + WAIT_LIMIT:
        raise NotAllowed("until", f"must be within the next {WAIT_LIMIT.days} days")
    row = await _locked(tx, exception_id, "open")
    if row["kind"] not in ("missing_here", "missing_there"):
        raise NotAllowed("until", f"nothing that comes later would resolve a {row['kind']}")
    await exceptions.wait(tx, exception_id, until)
    await exceptions.act(tx, [exception_id], "waiting", by, text)


async def _locked(tx: Tx, exception_id: str, *states: str) -> asyncpg.Record:
    row = await exceptions.lock(tx, exception_id)
    if row is None:
        raise ReconciliationMissing(f"there is no exception {exception_id}")
    if row["state"] not in states:
        raise NotNow(f"the exception is {row['state']}")
    return row
