"""Taking entries back: one person proposes, another approves, and it posts once."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx
import pytest
from mospay_ledger.usecases import posting
from mospay_shared.chassis.service import Service
from mospay_shared.chassis.service_tokens import TokenSigner
from mospay_shared.contracts import PaymentEventV1
from mospay_shared.ids import new_id

from .conftest import balances, entries, event, refund, succeeded

REVERSAL = {"kind": "reversal", "reason": "wrong merchant (see mail)"}


@pytest.fixture
async def http(quiet: Service) -> AsyncIterator[httpx.AsyncClient]:
    """The HTTP side of a ledger whose workers do not run."""
    transport = httpx.ASGITransport(app=quiet.app, raise_app_exceptions=False)
    base = "http://ledger/internal/v1"
    async with httpx.AsyncClient(transport=transport, base_url=base) as client:
        yield client


@pytest.fixture
async def paid(quiet: Service) -> PaymentEventV1:
    """A booked payment of 1,500 RWF, 30 of them fee."""
    body = succeeded()
    await book(quiet, body)
    return body


async def book(ledger: Service, *bodies: Any) -> None:
    """Book news."""
    async with ledger.database.transaction() as tx:
        await posting.post_events(tx, ledger.relay, [event(body) for body in bodies])


async def capture_of(ledger: Service, body: PaymentEventV1) -> str:
    """The entry that captured a payment."""
    return str((await entries(ledger, body.payment_id))[0]["id"])


def person(portal: TokenSigner, actor: str = "usr_a", **claims: str) -> dict[str, str]:
    """Headers of a person of the operator."""
    token = portal.token("ledger", "ledger:read ledger:write", actor=actor, **claims)
    return {"authorization": f"Bearer {token}"}


async def proposed(
    http: httpx.AsyncClient, portal: TokenSigner, entry_id: str, **changes: str
) -> dict[str, Any]:
    """A reversal that `usr_a` proposed."""
    path, body = f"/entries/{entry_id}/reversals", REVERSAL | changes
    answer = await http.post(path, json=body, headers=person(portal))
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def decide(
    http: httpx.AsyncClient, portal: TokenSigner, made: dict[str, Any], how: str, by: str
) -> httpx.Response:
    """Approve or reject a reversal as a person."""
    return await http.post(f"/reversals/{made['id']}/{how}", headers=person(portal, by))


async def test_what_one_person_proposes_moves_nothing_until_another_approves(
    http: httpx.AsyncClient, quiet: Service, portal: TokenSigner, paid: PaymentEventV1
) -> None:
    entry_id = await capture_of(quiet, paid)
    made = await proposed(http, portal, entry_id)
    assert (made["state"], made["proposed_by"], made["reversal_entry_id"]) == (
        "open", "usr_a", None,
    )  # fmt: skip
    assert (made["entry_kind"], made["amount_minor"], made["currency"]) == ("capture", 1500, "RWF")
    assert await balances(quiet, paid.client_id) == {"pending": -1470}
    alone = await decide(http, portal, made, "approve", "usr_a")
    assert (alone.status_code, alone.json()["code"]) == (422, "second_person")
    assert await balances(quiet, paid.client_id) == {"pending": -1470}
    done = await decide(http, portal, made, "approve", "usr_b")
    assert (done.status_code, done.json()["state"], done.json()["decided_by"]) == (
        200, "approved", "usr_b",
    )  # fmt: skip
    assert await balances(quiet, paid.client_id) == {}
    path = f"/entries/{done.json()['reversal_entry_id']}"
    entry = (await http.get(path, headers=person(portal))).json()
    assert (entry["reverses"], entry["kind"]) == (entry_id, "reversal")
    assert entry["reason"] == "wrong merchant (see mail) (usr_a, approved by usr_b)"


async def test_an_entry_is_taken_back_once_and_a_reversal_never(
    http: httpx.AsyncClient, quiet: Service, portal: TokenSigner, paid: PaymentEventV1
) -> None:
    entry_id = await capture_of(quiet, paid)
    done = await decide(http, portal, await proposed(http, portal, entry_id), "approve", "usr_b")
    for subject, code, status in (
        (entry_id, "already_reversed", 409),
        (done.json()["reversal_entry_id"], "not_reversible", 409),
        ("ent_none", "entry_missing", 404),
    ):
        path = f"/entries/{subject}/reversals"
        again = await http.post(path, json=REVERSAL, headers=person(portal))
        assert (again.status_code, again.json()["code"]) == (status, code)
    assert len(await entries(quiet, paid.payment_id)) == 2


async def test_a_chargeback_leaves_the_fee_and_makes_a_debt_of_what_is_lacking(
    http: httpx.AsyncClient, quiet: Service, portal: TokenSigner, paid: PaymentEventV1
) -> None:
    made = await proposed(http, portal, await capture_of(quiet, paid), kind="chargeback")
    done = await decide(http, portal, made, "approve", "usr_b")
    path = f"/entries/{done.json()['reversal_entry_id']}"
    entry = (await http.get(path, headers=person(portal))).json()
    assert {s["account"].split(":")[-1]: s["amount_minor"] for s in entry["postings"]} == {
        "clearing": -1500, "pending": 1470, "receivable": 30,
    }  # fmt: skip


async def test_what_can_not_be_taken_back_is_not_even_proposed(
    http: httpx.AsyncClient, quiet: Service, portal: TokenSigner, paid: PaymentEventV1
) -> None:
    await book(quiet, refund(paid, 500, "pending"), refund(paid, 100, "succeeded"))
    kinds = {row["kind"]: row["id"] for row in await entries(quiet, paid.payment_id)}
    for subject, kind in ((kinds["refund_reserved"], "reversal"), (kinds["refund"], "chargeback")):
        path, body = f"/entries/{subject}/reversals", REVERSAL | {"kind": kind}
        answer = await http.post(path, json=body, headers=person(portal))
        assert (answer.status_code, answer.json()["code"]) == (409, "not_reversible")
    assert (await proposed(http, portal, kinds["refund"]))["state"] == "open"


async def test_approvals_at_once_post_once(
    http: httpx.AsyncClient, quiet: Service, portal: TokenSigner, paid: PaymentEventV1
) -> None:
    made = await proposed(http, portal, await capture_of(quiet, paid))
    answers = await asyncio.gather(
        *(decide(http, portal, made, "approve", f"usr_{n}") for n in range(4))
    )
    assert Counter(answer.status_code for answer in answers) == {200: 1, 409: 3}
    assert [row["kind"] for row in await entries(quiet, paid.payment_id)] == [
        "capture", "reversal",
    ]  # fmt: skip


async def test_proposals_at_once_leave_one_open(
    http: httpx.AsyncClient, quiet: Service, portal: TokenSigner, paid: PaymentEventV1
) -> None:
    path = f"/entries/{await capture_of(quiet, paid)}/reversals"
    answers = await asyncio.gather(
        *(http.post(path, json=REVERSAL, headers=person(portal, f"usr_{n}")) for n in range(4))
    )
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]
    assert {a.json()["code"] for a in answers if a.status_code == 409} == {"already_proposed"}


async def test_a_rejected_proposal_moves_nothing_and_leaves_room_for_another(
    http: httpx.AsyncClient, quiet: Service, portal: TokenSigner, paid: PaymentEventV1
) -> None:
    entry_id = await capture_of(quiet, paid)
    made = await proposed(http, portal, entry_id)
    rejected = await decide(http, portal, made, "reject", "usr_a")  # one's own as well
    assert (rejected.status_code, rejected.json()["state"]) == (200, "rejected")
    for how in ("approve", "reject"):
        late = await decide(http, portal, made, how, "usr_b")
        assert (late.status_code, late.json()["code"]) == (409, "not_now")
    assert await balances(quiet, paid.client_id) == {"pending": -1470}
    assert (await proposed(http, portal, entry_id))["id"] != made["id"]
    unknown = await decide(http, portal, {"id": "rev_none"}, "approve", "usr_b")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "reversal_missing")


async def test_a_proposal_that_can_not_be_posted_any_more_stays_open_and_can_be_rejected(
    http: httpx.AsyncClient, quiet: Service, portal: TokenSigner, paid: PaymentEventV1
) -> None:
    entry_id = await capture_of(quiet, paid)
    made = await proposed(http, portal, entry_id)
    async with quiet.database.transaction() as tx:
        await posting.reverse(
            tx, quiet.relay, entry_id, keep_fee=True, reason="bank", by=("a", "b")
        )
    late = await decide(http, portal, made, "approve", "usr_b")
    assert (late.status_code, late.json()["code"]) == (409, "already_reversed")
    query = {"entry_id": entry_id, "state": "open"}
    page = (await http.get("/reversals", params=query, headers=person(portal))).json()
    assert [one["id"] for one in page["items"]] == [made["id"]]
    assert (await decide(http, portal, made, "reject", "usr_b")).status_code == 200


async def test_proposals_are_listed_newest_first_page_by_page(
    http: httpx.AsyncClient, quiet: Service, portal: TokenSigner
) -> None:
    client = new_id("cli")
    bodies = [succeeded(client_id=client) for _ in range(3)]
    await book(quiet, *bodies)
    made = [(await proposed(http, portal, await capture_of(quiet, b)))["id"] for b in bodies]
    await decide(http, portal, {"id": made[1]}, "reject", "usr_b")
    seen, cursor = [], ""
    while cursor is not None:
        query = {"client_id": client, "mode": "test", "limit": 1, "cursor": cursor}
        page = (await http.get("/reversals", params=query, headers=person(portal))).json()
        seen += [one["id"] for one in page["items"]]
        cursor = page["next_cursor"]
    assert seen == made[::-1]
    query = {"client_id": client, "state": "rejected"}
    page = (await http.get("/reversals", params=query, headers=person(portal))).json()
    assert [one["id"] for one in page["items"]] == made[1:2]


async def test_the_database_wants_a_second_person_and_keeps_what_was_decided(
    http: httpx.AsyncClient,
    quiet: Service,
    portal: TokenSigner,
    paid: PaymentEventV1,
    worker_connection: "asyncpg.Connection[asyncpg.Record]",
    superuser: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    made = await proposed(http, portal, await capture_of(quiet, paid))
    approve = """update reversals set state = 'approved', decided_by = $2, decided_at = now(),
        reversal_entry_id = 'ent_x' where id = $1"""
    with pytest.raises(asyncpg.CheckViolationError):
        await worker_connection.execute(approve, made["id"], "usr_a")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await worker_connection.execute(
            "update reversals set proposed_by = 'usr_x' where id = $1", made["id"]
        )
    await decide(http, portal, made, "reject", "usr_b")
    for sql in (
        "update reversals set decided_by = 'usr_c' where id = $1",
        "update reversals set reason = 'another' where id = $1",
        "delete from reversals where id = $1",
    ):
        with pytest.raises(asyncpg.PostgresError) as refused:
            await superuser.execute(sql, made["id"])
        assert refused.value.sqlstate == "23M02", sql


async def test_a_tenant_sees_no_proposals_and_not_who_took_an_entry_back(
    http: httpx.AsyncClient, quiet: Service, portal: TokenSigner, paid: PaymentEventV1
) -> None:
    made = await proposed(http, portal, await capture_of(quiet, paid))
    theirs = person(portal, client_id=paid.client_id, mode="test")
    for answer in (
        await http.get("/reversals", headers=theirs),
        await http.post(f"/reversals/{made['id']}/approve", headers=theirs),
    ):
        assert (answer.status_code, answer.json()["code"]) == (403, "operators_only")
    machine = {"authorization": f"Bearer {portal.token('ledger', 'ledger:write')}"}
    nobody = await http.post(f"/reversals/{made['id']}/approve", headers=machine)
    assert (nobody.status_code, nobody.json()["code"]) == (403, "person_missing")
    async with quiet.database.request(client_id=paid.client_id, mode="test") as tx:
        assert await tx.fetch("select 1 from reversals") == []
    await decide(http, portal, made, "approve", "usr_b")
    page = (await http.get("/entries", headers=theirs)).json()
    assert [(one["kind"], one["reason"]) for one in page["items"]] == [
        ("reversal", "wrong merchant (see mail)"), ("capture", None),
    ]  # fmt: skip
