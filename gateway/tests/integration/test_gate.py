"""The door: addresses, rules, security events, slow bodies, what portal-api pushes."""

import asyncio
import base64
import datetime as dt
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import jwt
import orjson
import pytest
import uvicorn
from mospay_shared.chassis.service_tokens import TokenSigner
from mospay_shared.chassis.settings import decode_key
from mospay_shared.contracts import ClientV1, Contract, CredentialV1, SecurityEventV1
from mospay_shared.ids import new_id

from .conftest import (
    Gateway,
    Merchant,
    Tap,
    eventually,
    ip_rule,
    make_service,
    newer,
    replica_of,
    running,
)

PROFILE = "/api/v1/client/profile"
PROXIED = {"GATEWAY_TRUSTED_PROXIES": "127.0.0.0/8,::1/128"}


@pytest.fixture
async def proxied(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    """A gateway whose callers come through a trusted proxy, and that tells refusals at once."""
    async with running(gateway.env, **PROXIED, GATEWAY_SECURITY_WINDOW_SECONDS="0.2") as (
        service,
        http,
    ):
        http.extra_service = service  # type: ignore[attr-defined]
        yield http


async def tell(gateway: Gateway, http: httpx.AsyncClient, *entities: Contract) -> None:
    """Change the directory and wait until both gateways know."""
    await gateway.tell(*entities)
    await replica_of(http.extra_service).refresh()  # type: ignore[attr-defined]


def from_(address: str, merchant: Merchant) -> dict[str, str]:
    """Headers of a merchant's call that a proxy forwards for an address."""
    return {**merchant.headers, "X-Forwarded-For": address}


def unique_net() -> str:
    """An IPv6 /64 nobody else in this run uses."""
    return f"2001:db8:{secrets.randbelow(65536):x}:{secrets.randbelow(65536):x}"


async def test_denied_address_is_403_for_everybody_and_callbacks_too(
    gateway: Gateway, proxied: httpx.AsyncClient
) -> None:
    merchant, net = await gateway.merchant(), unique_net()
    rule = ip_rule(f"{net}::/64")
    await tell(gateway, proxied, rule)
    answer = await proxied.get("/v1/payments", headers=from_(f"{net}::1", merchant))
    assert answer.status_code == 403 and answer.json()["code"] == "address_refused"
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    field = await proxied.get(PROFILE, headers=from_(f"{net}:1:2:3:4", merchant))
    assert field.status_code == 403 and field.json()["status"] == "403"
    callback = await proxied.post("/v1/callbacks/sim", headers={"X-Forwarded-For": f"{net}::1"})
    assert callback.status_code == 403
    assert (await proxied.get("/healthz")).status_code == 200
    await tell(gateway, proxied, newer(rule, active=False))
    assert (await proxied.get(PROFILE, headers=from_(f"{net}::1", merchant))).status_code == 200


async def test_client_with_an_allow_list_is_heard_from_there_alone(
    gateway: Gateway, proxied: httpx.AsyncClient
) -> None:
    merchant, other = await gateway.merchant(), await gateway.merchant()
    rule = ip_rule("203.0.113.0/24", "allow", client_id=merchant.client.client_id)
    await tell(gateway, proxied, rule)
    for address, one, status in (
        ("203.0.113.9", merchant, 200),
        ("::ffff:203.0.113.9", merchant, 200),
        ("203.0.114.9", merchant, 403),
        ("2001:db8::1", merchant, 403),
        ("203.0.114.9", other, 200),
    ):
        answer = await proxied.get(PROFILE, headers=from_(address, one))
        assert answer.status_code == status, address
    refused = await proxied.post(
        "/api/v1/auth/token",
        auth=(merchant.username, merchant.password),
        headers={"App-ID": merchant.app_id, "X-Forwarded-For": "203.0.114.9"},
    )
    assert refused.status_code == 403, "no token either"
    past = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=1)
    await tell(gateway, proxied, newer(rule, expires_at=past))
    answer = await proxied.get(PROFILE, headers=from_("203.0.114.9", merchant))
    assert answer.status_code == 200, "an expired rule holds nobody out"


async def test_spoofed_forwarding_is_not_believed_and_the_api_log_says_the_real_address(
    gateway: Gateway, proxied: httpx.AsyncClient, tap: Tap
) -> None:
    merchant = await gateway.merchant()
    rule = ip_rule("203.0.113.50/32", "allow", client_id=merchant.client.client_id)
    await tell(gateway, proxied, rule)
    spoofed = {**merchant.headers, "X-Forwarded-For": "203.0.113.50, 198.51.100.4"}
    answer = await proxied.get(PROFILE, headers=spoofed)
    assert answer.status_code == 403, "the proxy saw 198.51.100.4"
    call = (await tap.about(answer.headers["x-request-id"], "api.called.v1"))["data"]
    assert call["ip"] == "198.51.100.4" and call["status"] == 403
    assert call["client_id"] == merchant.client.client_id
    direct = await gateway.http.get(PROFILE, headers=from_("203.0.113.50", merchant))
    assert direct.status_code == 403, "no proxy is configured there: nobody is believed"
    call = (await tap.about(direct.headers["x-request-id"], "api.called.v1"))["data"]
    assert call["ip"] == "127.0.0.1"


async def test_unreadable_rule_is_left_out_and_the_others_hold(
    gateway: Gateway, proxied: httpx.AsyncClient
) -> None:
    merchant, net = await gateway.merchant(), unique_net()
    await tell(gateway, proxied, ip_rule("not a network"), ip_rule(f"{net}::/64"))
    assert (await proxied.get(PROFILE, headers=from_(f"{net}::1", merchant))).status_code == 403


async def test_rule_messages_repeated_out_of_order_unknown_and_malformed_do_no_harm(
    gateway: Gateway, proxied: httpx.AsyncClient
) -> None:
    merchant, net = await gateway.merchant(), unique_net()
    old = ip_rule(f"{net}::/64")
    newest = newer(old, active=False)
    await tell(gateway, proxied, newest, old, newest)
    answer = await proxied.get(PROFILE, headers=from_(f"{net}::1", merchant))
    assert answer.status_code == 200, "the older version came later and changed nothing"
    wire = "directory.ip_rule_changed.v1"
    event = envelope(newer(old).model_dump(mode="json") | {"ip_rule_id": new_id("ipr"), "soon": 1})
    broken = envelope({"ip_rule_id": new_id("ipr"), "kind": "perhaps", "cidr": "::/0"})
    await gateway.publish(wire, orjson.dumps(broken), orjson.dumps(event))
    wanted = event["data"]["ip_rule_id"]

    async def known() -> Any:
        return await gateway.sql.fetchval(
            "select 1 from directory_entity where kind = 'ip_rule' and entity_id = $1", wanted
        )

    await eventually(known)
    await replica_of(proxied.extra_service).refresh()  # type: ignore[attr-defined]
    assert (await proxied.get(PROFILE, headers=from_(f"{net}::1", merchant))).status_code == 403
    dead = await gateway.sql.fetchval("select state from inbox where event_id = $1", broken["id"])
    assert dead in ("dead", "retry")


def envelope(data: dict[str, Any]) -> dict[str, Any]:
    """Wrap a body as portal-api does."""
    return {
        "specversion": "1.0", "id": new_id("evt"), "source": "mospay/portal-api",
        "type": "directory.ip_rule_changed.v1", "subject": "x",
        "time": dt.datetime.now(dt.UTC).isoformat(), "data": data,
    }  # fmt: skip


async def security(tap: Tap, kind: str, **values: Any) -> list[SecurityEventV1]:
    """Return the security events heard so far that agree with some values, once there is one."""

    async def found() -> list[SecurityEventV1]:
        await tap.drain()
        heard = {e["id"]: e for e in tap.seen if e["type"] == f"security.{kind}.v1"}
        events = [SecurityEventV1.model_validate(e["data"]) for e in heard.values()]
        return [e for e in events if all(getattr(e, k) == v for k, v in values.items())]

    events: list[SecurityEventV1] = await eventually(found)
    return events


async def test_a_flood_of_wrong_keys_is_few_events_with_a_count_and_no_secret(
    gateway: Gateway, proxied: httpx.AsyncClient, tap: Tap
) -> None:
    merchant, ip = await gateway.merchant(), f"{unique_net()}::1"
    wrong = {"X-API-Key": merchant.api_key + "x", "X-Forwarded-For": ip}
    for _ in range(40):
        assert (await proxied.get(PROFILE, headers=wrong)).status_code == 401
    total = 0

    async def all_told() -> bool:
        nonlocal total
        events = await security(tap, "authentication_failed", ip=ip)
        total = sum(e.count for e in events)
        return total == 40

    await eventually(all_told)
    events = await security(tap, "authentication_failed", ip=ip)
    assert len(events) < 20
    for event in events:
        assert event.client_id == merchant.client.client_id and event.mode == "test"
        assert event.credential == merchant.key.lookup and event.reason == "not_authenticated"
        assert event.path == PROFILE and event.first_at <= event.last_at
    text = orjson.dumps([e for e in tap.seen if e["type"].startswith("security.")])
    assert merchant.api_key.split("_")[3].encode() not in text


async def test_what_nobody_here_has_is_not_repeated_in_an_event(
    gateway: Gateway, proxied: httpx.AsyncClient, tap: Tap
) -> None:
    ip, typed = f"{unique_net()}::1", "my-password-by-mistake"
    headers = {"X-Forwarded-For": ip, "App-ID": "x"}
    for path in (PROFILE, "/api/v1/auth/token"):
        method = "POST" if "auth" in path else "GET"
        answer = await proxied.request(method, path, auth=(typed, "x"), headers=headers)
        assert answer.status_code == 401
    events = await security(tap, "authentication_failed", ip=ip)
    assert all(e.credential is None and e.client_id is None for e in events)
    text = orjson.dumps([e for e in tap.seen if e["type"].startswith("security.")])
    assert typed.encode() not in text


async def test_refused_addresses_and_used_up_limits_are_told(
    gateway: Gateway, proxied: httpx.AsyncClient, tap: Tap
) -> None:
    merchant, net = await gateway.merchant(), unique_net()
    await tell(gateway, proxied, ip_rule(f"{net}::/64"), newer(merchant.client, rate_per_minute=1))
    await proxied.get(PROFILE, headers=from_(f"{net}::7", merchant))
    denied = (await security(tap, "address_refused", ip=f"{net}::7"))[0]
    assert denied.reason == "denied" and denied.client_id is None
    for _ in range(2):
        await proxied.get(PROFILE, headers=from_("203.0.113.8", merchant))
    limited = (await security(tap, "rate_limited", client_id=merchant.client.client_id))[0]
    assert limited.reason == "client limit of 1 a minute" and limited.ip == "203.0.113.8"
    assert limited.credential == merchant.key.lookup


async def test_many_addresses_are_folded_so_that_memory_is_bounded(
    gateway: Gateway, tap: Tap
) -> None:
    net = unique_net()
    async with running(
        gateway.env, **PROXIED, GATEWAY_SECURITY_CAPACITY="10", GATEWAY_SECURITY_WINDOW_SECONDS="60"
    ) as (_, http):
        for number in range(1, 31):
            headers = {"X-API-Key": "mp_test_no_no", "X-Forwarded-For": f"{net}::{number:x}"}
            assert (await http.get(PROFILE, headers=headers)).status_code == 401
    # the service has stopped: what it had summed was sent on the way out
    folded = await security(tap, "authentication_failed", reason="too_many_to_tell_apart")
    assert folded[0].count == 20 and folded[0].ip is None


async def test_revoked_key_and_inactive_client_are_refused_while_the_broker_is_down(
    gateway: Gateway, infrastructure: Any
) -> None:
    merchant = await gateway.merchant()
    signer = TokenSigner("portal-api", infrastructure.keys["portal_signing"])
    bearer = {"Authorization": f"Bearer {signer.token('gateway', 'credentials:write')}"}
    nowhere = "amqp://nobody:x@127.0.0.1:1/none"
    async with running(gateway.env, GATEWAY_BROKER_URL=nowhere) as (_, http):
        assert (await http.get(PROFILE, headers=merchant.headers)).status_code == 200
        revoked = newer(merchant.key, revoked=True)
        answer = await push(http, "credentials", revoked, bearer)
        assert answer.status_code == 200 and answer.json() == {"acknowledged": 1}
        assert (await http.get(PROFILE, headers=merchant.headers)).status_code == 401
        again = await push(http, "credentials", merchant.key, bearer)  # older than what is known
        assert again.status_code == 200
        assert (await http.get(PROFILE, headers=merchant.headers)).status_code == 401
        login = {"auth": (merchant.username, merchant.password)}
        assert (await http.get(PROFILE, **login)).status_code == 200  # type: ignore[arg-type]
        await push(http, "clients", newer(merchant.client, active=False), bearer)
        answer = await http.get(PROFILE, **login)  # type: ignore[arg-type]
        assert answer.status_code == 403 and answer.json()["code"] == "client_inactive"

        async def other_process_knows() -> bool:
            found = await gateway.http.get(PROFILE, headers=merchant.headers)
            return found.status_code == 401

        await eventually(other_process_knows, 2)


async def push(
    http: httpx.AsyncClient, kind: str, entity: CredentialV1 | ClientV1, headers: dict[str, str]
) -> httpx.Response:
    """Push a change as portal-api does."""
    return await http.post(
        f"/internal/v1/{kind}/changed",
        json={kind: [entity.model_dump(mode="json")]},
        headers=headers,
    )


async def test_only_portal_api_with_the_scope_may_push(
    gateway: Gateway, infrastructure: Any
) -> None:
    merchant = await gateway.merchant()
    portal = TokenSigner("portal-api", infrastructure.keys["portal_signing"])
    own = TokenSigner("gateway", gateway.env["GATEWAY_SIGNING_KEY"])
    revoked = newer(merchant.key, revoked=True)
    for token, status in (
        ("", 401),
        (portal.token("gateway", "trace:read"), 403),
        (portal.token("ledger", "credentials:write"), 401),
        (portal.token("gateway", "credentials:write", client_id="cli_1"), 403),
        (own.token("gateway", "credentials:write"), 403),
    ):
        headers = {"Authorization": f"Bearer {token}"}
        answer = await push(gateway.http, "credentials", revoked, headers)
        assert answer.status_code == status
    assert (await gateway.http.get(PROFILE, headers=merchant.headers)).status_code == 200
    good = {"Authorization": f"Bearer {portal.token('gateway', 'credentials:write')}"}
    for wrong in ({}, {"credentials": []}, {"credentials": [{"credential_id": 1}]}):
        answer = await gateway.http.post(
            "/internal/v1/credentials/changed", json=wrong, headers=good
        )
        assert answer.status_code == 422 and answer.json()["errors"][0]["field"]


async def test_tokens_of_the_previous_key_are_good_until_they_end(gateway: Gateway) -> None:
    merchant = await gateway.merchant()
    answer = await gateway.http.post(
        "/api/v1/auth/token", auth=(merchant.username, merchant.password),
        headers={"App-ID": merchant.app_id},
    )  # fmt: skip
    old = {"Authorization": f"Bearer {answer.json()['token']}"}
    fresh = base64.b64encode(secrets.token_bytes(32)).decode()
    before = gateway.env["GATEWAY_SIGNING_KEY"]
    async with running(
        gateway.env, GATEWAY_SIGNING_KEY=fresh, GATEWAY_PREVIOUS_SIGNING_KEYS=before
    ) as (_, http):
        assert (await http.get(PROFILE, headers=old)).status_code == 200
        keys = (await http.get("/.well-known/jwks.json")).json()["keys"]
        answer = await http.post(
            "/api/v1/auth/token", auth=(merchant.username, merchant.password),
            headers={"App-ID": merchant.app_id},
        )  # fmt: skip
        token = answer.json()["token"]
        kid = jwt.get_unverified_header(token)["kid"]
        assert len({key["kid"] for key in keys}) == 2 and keys[0]["kid"] == kid
        assert [key for key in keys if "d" in key] == [], "public parts alone"
        new = {"Authorization": f"Bearer {token}"}
        assert (await http.get(PROFILE, headers=new)).status_code == 200
        assert (await gateway.http.get(PROFILE, headers=new)).status_code == 401
    async with running(gateway.env, GATEWAY_SIGNING_KEY=fresh) as (_, http):
        assert (await http.get(PROFILE, headers=old)).status_code == 401, "the overlap is over"
    assert decode_key(fresh) != decode_key(before)


async def test_cors_answers_carry_what_a_page_may_read(gateway: Gateway) -> None:
    merchant = await gateway.merchant()
    for origin, allowed in (("https://shop.example", True), ("https://evil.example", False)):
        headers = {**merchant.headers, "Origin": origin}
        answer = await gateway.http.get("/v1/payments", headers=headers)
        assert answer.status_code == 200
        assert ("access-control-allow-origin" in answer.headers) is allowed
        if allowed:
            exposed = answer.headers["access-control-expose-headers"]
            assert "RateLimit" in exposed and "Retry-After" in exposed
    preflight = await gateway.http.options(
        "/v1/payments",
        headers={"Origin": "https://shop.example", "Access-Control-Request-Method": "DELETE"},
    )
    assert preflight.status_code == 400, "a method that is not allowed"


@asynccontextmanager
async def listening(env: dict[str, str], **overrides: str) -> AsyncIterator[int]:
    """Run a gateway behind a real socket as its own process would be; yields the port."""
    service = make_service(env, **overrides)
    config = uvicorn.Config(
        service.app, host="127.0.0.1", port=0, log_config=None, proxy_headers=False
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())

    async def started() -> bool:
        return server.started

    await eventually(started)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    await task


async def test_a_body_that_dribbles_in_is_408_and_the_connection_ends(gateway: Gateway) -> None:
    merchant = await gateway.merchant()
    async with listening(gateway.env, GATEWAY_BODY_SECONDS="0.5") as port:
        for path, shape in (("/v1/payments", b"problem+json"), (PROCESS, b'"status":"408"')):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(
                f"POST {path} HTTP/1.1\r\nhost: x\r\nx-api-key: {merchant.api_key}\r\n"
                f"idempotency-key: k\r\ncontent-length: 100\r\n\r\n{{".encode()
            )
            dribble = asyncio.create_task(drip(writer))
            text = await asyncio.wait_for(whole_answer(reader), 10)
            dribble.cancel()
            writer.close()
            assert text.startswith(b"HTTP/1.1 408") and shape in text, text
            assert b"body_too_slow" in text and b"connection: close" in text.lower()
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
            answer = await http.post(
                "/v1/payments", json=merchant.body(),
                headers={**merchant.headers, "Idempotency-Key": "k"},
            )  # fmt: skip
            assert answer.status_code == 202
            large = await http.post(
                "/v1/payments",
                content=b" " * 300_000,
                headers={**merchant.headers, "Idempotency-Key": "k2"},
            )
            assert large.status_code == 413


PROCESS = "/api/v1/payment/process"


async def whole_answer(reader: asyncio.StreamReader) -> bytes:
    """Read one answer and no further: the end of a connection with unread bytes is a reset."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        int(line.partition(b":")[2])
        for line in head.lower().split(b"\r\n")
        if line.startswith(b"content-length:")
    )
    return head + await reader.readexactly(length)


async def drip(writer: asyncio.StreamWriter) -> None:
    """Send a byte now and then, for ever."""
    while True:
        writer.write(b" ")
        await asyncio.sleep(0.1)
