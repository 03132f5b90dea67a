"""The journal listed: newest first, filtered, page by page, each tenant its own."""

import datetime as dt
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from mospay_ledger.storage import reads
from mospay_ledger.usecases import posting
from mospay_shared.chassis.service import Service
from mospay_shared.chassis.service_tokens import TokenSigner
from mospay_shared.ids import new_id

from .conftest import event, refund, succeeded


@pytest.fixture
async def http(quiet: Service) -> AsyncIterator[httpx.AsyncClient]:
    """The HTTP side of a ledger whose workers do not run."""
    transport = httpx.ASGITransport(app=quiet.app, raise_app_exceptions=False)
    base = "http://ledger/internal/v1"
    async with httpx.AsyncClient(transport=transport, base_url=base) as client:
        yield client


def bearer(portal: TokenSigner, **claims: str) -> dict[str, str]:
    """Headers of a reader."""
    return {"authorization": f"Bearer {portal.token('ledger', 'ledger:read', **claims)}"}


async def book(ledger: Service, *bodies: Any) -> list[str]:
    """Book news in one transaction (at one instant); return the entries' ids."""
    async with ledger.database.transaction() as tx:
        made = await posting.post_events(tx, ledger.relay, [event(body) for body in bodies])
    return [entry.id for entry in made]


async def listed(
    http: httpx.AsyncClient, headers: dict[str, str], **query: Any
) -> list[dict[str, Any]]:
    """All entries of a list, page by page."""
    found: list[dict[str, Any]] = []
    cursor: str | None = ""
    while cursor is not None:
        answer = await http.get("/entries", params={**query, "cursor": cursor}, headers=headers)
        assert answer.status_code == 200, answer.text
        found += answer.json()["items"]
        cursor = answer.json()["next_cursor"]
    return found


async def test_entries_are_listed_newest_first_and_those_of_one_instant_are_not_lost(
    http: httpx.AsyncClient, quiet: Service, portal: TokenSigner
) -> None:
    client = new_id("cli")
    first = await book(quiet, *(succeeded(client_id=client) for _ in range(5)))
    later = await book(quiet, succeeded(client_id=client))
    found = await listed(http, bearer(portal), client_id=client, mode="test", limit=2)
    assert [one["entry_id"] for one in found] == later + sorted(first, reverse=True)
    instants = [one["posted_at"] for one in found]
    assert instants == sorted(instants, reverse=True)
    assert all(len(one["postings"]) == 3 for one in found)


async def test_each_filter_leaves_out_the_others(
    http: httpx.AsyncClient, quiet: Service, portal: TokenSigner
) -> None:
    client = new_id("cli")
    francs = succeeded(client_id=client)
    dollars = succeeded(client_id=client, currency="USD")
    (capture,), (other,) = await book(quiet, francs), await book(quiet, dollars)
    (back,) = await book(quiet, refund(francs, 500, "succeeded"))
    about = {"client_id": client, "mode": "test"}
    found = await listed(http, bearer(portal), **about)
    assert [one["entry_id"] for one in found] == [back, other, capture]
    at = {one["entry_id"]: one["posted_at"] for one in found}
    for query, wanted in (
        ({"currency": "USD"}, [other]),
        ({"kind": "refund"}, [back]),
        ({"payment_id": francs.payment_id}, [back, capture]),
        ({"mode": "live"}, []),
        ({"from": at[other]}, [back, other]),
        ({"to": at[other]}, [capture]),
        ({"from": at[other], "to": at[back]}, [other]),
    ):
        some = await listed(http, bearer(portal), **about | query)
        assert [one["entry_id"] for one in some] == wanted, query


async def test_the_operator_sees_the_entries_of_all_clients_in_one_list(
    http: httpx.AsyncClient, quiet: Service, portal: TokenSigner
) -> None:
    made = [(await book(quiet, succeeded()))[0] for _ in range(3)]
    first = (await http.get(f"/entries/{made[0]}", headers=bearer(portal))).json()
    since = {"mode": "test", "from": first["posted_at"]}
    found = [one["entry_id"] for one in await listed(http, bearer(portal), **since, limit=1)]
    assert [one for one in found if one in made] == made[::-1]
    everybody = bearer(portal, mode="live")  # a token of one mode
    assert not set(made) & {one["entry_id"] for one in await listed(http, everybody, **since)}


async def test_a_tenant_sees_its_own_entries_and_its_own_sides_whomever_it_names(
    http: httpx.AsyncClient, quiet: Service, portal: TokenSigner
) -> None:
    mine, other = succeeded(), succeeded()
    (own,), (foreign,) = await book(quiet, mine), await book(quiet, other)
    headers = bearer(portal, client_id=mine.client_id, mode="test")
    for query in ({}, {"client_id": other.client_id}, {"mode": "live"}):
        found = await listed(http, headers, **query)
        assert [one["entry_id"] for one in found] == [own]
        sides = [side["account"] for side in found[0]["postings"]]
        assert sides == [f"client:{mine.client_id}:RWF:test:pending"]
    assert await listed(http, headers, payment_id=other.payment_id) == []
    leaked = await http.get("/entries", params={"cursor": foreign}, headers=headers)
    assert (leaked.status_code, leaked.json()["errors"][0]["field"]) == (422, "cursor")
    live = bearer(portal, client_id=mine.client_id, mode="live")
    assert await listed(http, live) == []


async def test_a_page_of_all_clients_is_read_in_the_order_of_an_index(quiet: Service) -> None:
    filters = ("", "test", "", "", None, None, dt.datetime.now(dt.UTC), "ent_x", 51, "")
    async with quiet.database.transaction() as tx:
        for way in ("seqscan", "bitmapscan", "sort"):  # what a few rows would be read by
            await tx.run(f"set local enable_{way} = off")
        plan = await tx.fetch(f"explain {reads._PAGES[False, False]}", *filters)
    text = "\n".join(row[0] for row in plan)
    assert "Index Scan Backward using journal_entries_newest" in text, text
