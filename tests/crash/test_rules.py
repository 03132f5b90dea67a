"""Numbered rules that the database itself must hold, tried on the real databases of the house."""

import asyncio

import asyncpg
import httpx
import pytest
from mospay_dev.crash.house import House
from mospay_dev.infrastructure.databases import database_url
from mospay_dev.proxy import until
from mospay_dev.services import SERVICES
from mospay_shared.ids import new_id

# What may be open, and how a row would look that nobody wakes.
SLEEPERS = (
    ("payment-router", "update payments set status = 'unknown', next_action_at = null"),
    ("payment-router", "update attempts set state = 'unknown', next_action_at = null"),
    ("payment-router", "update refunds set status = 'unknown', next_action_at = null"),
    ("notifier", "update deliveries set state = 'pending', next_at = null"),
)
TENANT_TABLES = """
select c.relname as name, c.relrowsecurity and c.relforcerowsecurity as held,
       pg_get_userbyid(c.relowner) as owner
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname = 'public' and c.relkind in ('r', 'p') and not c.relispartition
  and exists (select 1 from pg_attribute a where a.attrelid = c.oid and a.attname = 'client_id'
              and not a.attisdropped)"""
OWNERS = """
select distinct pg_get_userbyid(c.relowner) as owner from pg_class c
join pg_namespace n on n.oid = c.relnamespace
where n.nspname = 'public' and c.relkind in ('r', 'p')"""


class WentThrough(Exception):
    """The database accepted what it must refuse."""


def test_rule_11_nothing_open_can_be_left_that_nobody_wakes(house: House) -> None:
    """Rule 11: whoever writes, the owner of the database too."""
    payment = house.pay()
    house.audit([payment])
    asked = f"{house.seed.gateway_url}/v1/payments/{payment}/refunds"
    headers = {"X-API-Key": house.seed.clients[0].api_key, "Idempotency-Key": payment}
    httpx.post(asked, json={}, headers=headers, timeout=20).raise_for_status()
    until(lambda: house.sql("payment-router", "select 1 from refunds limit 1"), "there is a refund")

    async def refused(service: str, statement: str) -> bool:
        url = database_url(house.stack.cluster.postgres_url, SERVICES[service].database)
        connection = await asyncpg.connect(url)
        try:
            async with connection.transaction():
                await connection.execute(statement)
                raise WentThrough  # never keep that
        except asyncpg.CheckViolationError as error:
            rule = "select pg_get_constraintdef(oid) from pg_constraint where conname = $1"
            definitions = await connection.fetch(rule, error.constraint_name)
            return any("next_a" in row[0] for row in definitions)
        except WentThrough:
            return False
        finally:
            await connection.close()

    for service, statement in SLEEPERS:
        table = statement.split()[1]
        assert house.sql(service, f"select 1 from {table} limit 1"), f"{table} is empty"
        assert asyncio.run(refused(service, statement)), f"{service} accepted: {statement}"


@pytest.mark.parametrize("service", SERVICES)
def test_rule_22_tenants_rows_are_held_apart_and_applications_own_nothing(
    house: House, service: str
) -> None:
    """Rule 22: row-level security enabled and forced wherever a row has a client."""
    tables = house.sql(service, TENANT_TABLES)
    assert tables or service == "portal-api", "no table has a client: the search is wrong"
    assert not [t["name"] for t in tables if not t["held"]]
    owners = {row["owner"] for row in house.sql(service, OWNERS)}
    assert owners == {f"{SERVICES[service].database}_owner"}


def test_rule_04_a_second_capture_of_a_payment_is_booked_as_owed_back(house: House) -> None:
    """Rule 4: the effect key is (attempt, kind); proven money always posts."""
    house.spy("crash.spy", [("mospay.events", "payment.succeeded.v1")])
    payment = house.pay()
    house.audit([payment])
    packs = [body for _, _, body in house.take("crash.spy") if payment.encode() in body]
    house.unspy("crash.spy")
    again = house.renamed(packs[0], attempt_id=new_id("att"))
    house.transfer("ledger.payments", [again, again])
    kinds = "select kind from journal_entries where payment_id = $1 order by posted_at"
    until(lambda: len(house.sql("ledger", kinds, payment)) == 2, "the second one is booked")
    assert [r["kind"] for r in house.sql("ledger", kinds, payment)] == ["capture", "second_capture"]
    owed = """select sum(p.amount_minor) from postings p join journal_entries e on e.id = p.entry_id
        join accounts a on a.id = p.account_id where e.payment_id = $1 and a.kind = 'refund_due'"""
    assert house.value("ledger", owed, payment) == -1000
    assert asyncio.run(house.auditor().balanced_now())
