"""f007 and f008 are nowhere in the clear: logs, tables, messages, traces, Redis; none encoded."""

import asyncio
import base64
import re
import secrets
from collections.abc import Iterable
from urllib.parse import quote

import asyncpg
import httpx
import redis
from mospay_dev.crash.house import PAID, House
from mospay_dev.infrastructure.databases import database_url
from mospay_dev.proxy import until
from mospay_dev.services import SERVICES

SPY = "crash.secrets"
TABLES = """
select format('%I.%I', n.nspname, c.relname) as name from pg_class c
join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'm') and n.nspname not in ('pg_catalog', 'information_schema')
  and n.nspname not like 'pg_toast%'"""


def forms(value: str) -> set[str]:
    """Return what a value may look like: plain, base64 at each offset, URL-encoded, hex; lower."""
    raw = value.encode()
    looks = {value, quote(value, safe=""), raw.hex()}
    for offset in range(3):  # inside a longer text base64 depends on where the value begins
        inner = base64.b64encode(b"\0" * offset + raw)[4 if offset else 0 : -4]
        looks |= {inner.decode(), inner.decode().replace("+", "-").replace("/", "_")}
    looks |= {look.encode().hex() for look in looks}  # any of them in a bytea, as text shows it
    return {look.lower() for look in looks}


def found_in(text: str, needles: Iterable[str]) -> bool:
    """Whether any of these is in a text."""
    lower = text.lower()
    return any(needle in lower for needle in needles)


def tables_with(house: House, needles: set[str]) -> list[str]:
    """Return every table of every database that has a row with one of these, in any column."""

    pattern = "|".join(re.escape(needle) for needle in sorted(needles))

    async def look() -> list[str]:
        hits = []
        for spec in SERVICES.values():
            url = database_url(house.stack.cluster.postgres_url, spec.database)
            connection = await asyncpg.connect(url)
            try:
                for row in await connection.fetch(TABLES):
                    statement = f"select 1 from {row['name']} t where lower(t::text) ~ $1 limit 1"
                    if await connection.fetch(statement, pattern):
                        hits.append(f"{spec.database} {row['name']}")
            finally:
                await connection.close()
        return hits

    return asyncio.run(look())


def in_redis(house: House, needles: set[str]) -> list[str]:
    """Return the keys of Redis whose name or value holds one of these."""
    client = redis.Redis.from_url(house.stack.cluster.redis_url)
    hits = []
    for key in client.scan_iter():
        value = client.dump(key) or b""
        if found_in((key + value).decode("latin-1"), needles):
            hits.append(key.decode(errors="replace"))
    return hits


def test_rule_20_secret_fields_are_found_nowhere_in_any_form(house: House) -> None:
    """Paid, declined, unanswered, refused by function, retried, in flight: by both APIs."""
    pin, password = (f"s!{secrets.token_hex(9)}&/{secrets.token_hex(9)}=" for _ in range(2))
    mark = house.reference()
    needles = forms(pin) | forms(password)
    house.spy(SPY, [("mospay.events", "#"), ("mospay.commands", "#")])
    fields = {"f007": password, "f008": pin}
    payments = [
        house.pay(f"{mark}-{code}", phone=house.phone(code), fields=fields)
        for code in (0, 1, 4, 7, 10)
    ]
    client = house.seed.clients[0]
    body = {
        "f000": "simulator", "f001": "collection", "f002": "payment", "f003": client.app_id,
        "f004": "1500", "f005": PAID, "f006": "u1", "f007": password, "f008": pin,
        "f009": "device", "f010": f"{mark}-field",
    }  # fmt: skip
    url = f"{house.seed.gateway_url}/api/v1/payment/process"
    login = {"auth": (client.username, client.password), "headers": {"App-ID": client.app_id}}
    field = httpx.post(url, json=body, timeout=40, **login)  # type: ignore[arg-type]
    wrong = httpx.post(url, json=body | {"f004": "1,5x"}, timeout=40, **login)  # type: ignore[arg-type]
    assert field.status_code == 200 and wrong.status_code == 422
    assert not found_in(field.text + wrong.text, needles), "an answer repeats a secret"
    house.kill("payment-router")  # now one stays in its queue, sealed
    waiting = house.pay(f"{mark}-waiting", fields=fields)
    commands: list[str] = []

    def seen() -> bool:
        commands.extend(b.decode(errors="replace") for _, _, b in house.take(SPY))
        return f"{mark}-waiting" in str(commands)

    until(seen, "the messages were seen")
    assert not tables_with(house, needles), "a secret is in a table while a payment is open"
    house.start("payment-router")
    house.audit([*payments, waiting])
    commands.extend(b.decode(errors="replace") for _, _, b in house.take(SPY))
    house.unspy(SPY)
    assert not [c for c in commands if found_in(c, needles)], "a secret was on the wire"
    assert not tables_with(house, needles)
    assert not in_redis(house, needles)
    for log in [*house.stack.folder.rglob("*.log")]:
        assert not found_in(log.read_text(errors="replace"), needles), log
    for payment in (*payments, waiting):
        for service in SERVICES:
            path = f"/internal/v1/traces/{payment}"
            assert not found_in(house.internal(service, path, "trace:read").text, needles)
    left = "select 1 from payments where id = any($1) and secrets is not null"
    for service in ("gateway", "payment-router"):
        until(
            lambda s=service: not house.sql(s, left, [*payments, waiting]),  # type: ignore[misc]
            f"{service} erased the sealed copies at the end",
        )
    # The search itself finds what is there: the reference, in tables and on the wire.
    assert len(tables_with(house, forms(f"{mark}-waiting"))) >= 2
    assert any(found_in(c, forms(f"{mark}-waiting")) for c in commands)
