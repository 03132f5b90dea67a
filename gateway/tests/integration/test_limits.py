"""Rate limits: what is refused, what the answer says, and what Redis adds and takes away."""

import asyncio
import re
import secrets
from typing import Any

import httpx
import pytest
import redis.asyncio as redis
from mospay_gateway.workers import LIMITS_LOCAL

from .conftest import Gateway, Merchant, eventually, newer, running

PROFILE = "/api/v1/client/profile"
_REST = re.compile(r'"(\w+)";r=(\d+);t=(\d+)')
NOWHERE = "redis://127.0.0.1:1/0"


def rest(answer: httpx.Response) -> dict[str, int]:
    """Return the calls left by policy."""
    return {name: int(left) for name, left, _ in _REST.findall(answer.headers["ratelimit"])}


async def refused(http: httpx.AsyncClient, calls: int, path: str = PROFILE, **kw: Any) -> Any:
    """Call until refused and return that answer; fails when all calls are let in."""
    for _ in range(calls):
        answer = await http.get(path, **kw)
        if answer.status_code == 429:
            return answer
    raise AssertionError(f"{calls} calls were let in")


async def test_client_limit_of_the_directory_refuses_with_retry_after_in_each_shape(
    gateway: Gateway,
) -> None:
    merchant = await gateway.merchant()
    await gateway.tell(newer(merchant.client, rate_per_minute=5))
    answers = [await gateway.http.get(PROFILE, headers=merchant.headers) for _ in range(6)]
    assert [a.status_code for a in answers] == [200] * 5 + [429]
    assert [rest(a)["client"] for a in answers] == [4, 3, 2, 1, 0, 0]
    assert answers[0].headers["ratelimit-policy"] == '"client";q=5;w=60'
    assert answers[5].json()["status"] == "429" and answers[5].json()["code"] == "rate_limited"
    assert 1 <= int(answers[5].headers["retry-after"]) <= 120
    problem = await gateway.pay(merchant)
    assert problem.status_code == 429 and int(problem.headers["retry-after"]) >= 1
    assert problem.headers["content-type"] == "application/problem+json"
    assert problem.json()["code"] == "rate_limited" and problem.json()["request_id"]
    assert await gateway.count("payments", "client_id = $1", merchant.client.client_id) == 0
    other = await gateway.merchant()
    assert (await gateway.pay(other)).status_code == 202, "one client's flood is its own"


async def test_key_limit_holds_beside_the_clients_and_for_that_key_alone(gateway: Gateway) -> None:
    merchant = await gateway.merchant()
    await gateway.tell(newer(merchant.key, rate_per_minute=2))
    answers = [await gateway.http.get(PROFILE, headers=merchant.headers) for _ in range(3)]
    assert [a.status_code for a in answers] == [200, 200, 429]
    assert answers[0].headers["ratelimit-policy"] == '"client";q=6000;w=60, "key";q=2;w=60'
    basic = await gateway.http.get(PROFILE, auth=(merchant.username, merchant.password))
    assert basic.status_code == 200
    assert rest(basic)["client"] == 6000 - 3, "a refused call is not counted"


async def test_service_limit_counts_payments_of_all_clients(gateway: Gateway) -> None:
    one, other = await gateway.merchant(rate_per_minute=3), await gateway.merchant()
    await gateway.tell(newer(other.assignment, service_id=one.service.service_id))
    assert [(await gateway.pay(one)).status_code for _ in range(2)] == [202, 202]
    body = other.body(service=one.service.name)
    answers = [
        await gateway.http.post(
            "/v1/payments", json=body | {"reference": secrets.token_hex(8)},
            headers={**other.headers, "Idempotency-Key": secrets.token_hex(8)},
        )
        for _ in range(2)
    ]  # fmt: skip
    assert [a.status_code for a in answers] == [202, 429]
    assert rest(answers[1])["service"] == 0
    profile = await gateway.http.get(PROFILE, headers=one.headers)
    assert profile.status_code == 200, "only payments of it count"


async def test_every_answer_of_an_authenticated_call_tells_the_limits(gateway: Gateway) -> None:
    merchant = await gateway.merchant()
    payment = (await gateway.pay(merchant)).json()["id"]
    for answer in (
        await gateway.pay(merchant),
        await gateway.pay(merchant, amount_minor=1),
        await gateway.http.get("/v1/payments", headers=merchant.headers),
        await gateway.http.get(f"/v1/payments/{payment}", headers=merchant.headers),
        await gateway.http.get("/v1/payments/nothing", headers=merchant.headers),
        await gateway.http.post(
            "/api/v1/auth/token", auth=(merchant.username, merchant.password),
            headers={"App-ID": merchant.app_id},
        ),
    ):  # fmt: skip
        assert 0 < rest(answer)["client"] < 6000, answer.status_code
        assert answer.headers["ratelimit-policy"].startswith('"client";q=6000;w=60')
    anonymous = await gateway.http.get(PROFILE)
    assert anonymous.status_code == 401 and "ratelimit" not in anonymous.headers


@pytest.mark.parametrize(("setting", "method", "path", "ok"), [
    ("GATEWAY_ADDRESS_RATE_PER_MINUTE", "GET", PROFILE, 401),
    ("GATEWAY_ADDRESS_RATE_PER_MINUTE", "GET", "/v1/nothing/here", 404),
    ("GATEWAY_CALLBACK_RATE_PER_MINUTE", "POST", "/v1/callbacks/sim", 200),
    ("GATEWAY_CALLBACK_RATE_PER_MINUTE", "POST", "/webhooks/paypal", 200),
    ("GATEWAY_TOKEN_RATE_PER_MINUTE", "POST", "/api/v1/auth/token", 401),
])  # fmt: skip
async def test_an_address_is_limited_by_what_it_calls(
    gateway: Gateway, setting: str, method: str, path: str, ok: int
) -> None:
    async with running(
        gateway.env, GATEWAY_TRUSTED_PROXIES="127.0.0.0/8", GATEWAY_REDIS_URL=NOWHERE,
        **{setting: "3"},
    ) as (_, http):  # fmt: skip
        here = {"X-Forwarded-For": "203.0.113.77"}
        answers = [await http.request(method, path, headers=here) for _ in range(4)]
        assert [a.status_code for a in answers] == [ok, ok, ok, 429]
        assert int(answers[3].headers["retry-after"]) >= 1 and answers[3].json()["code"]
        assert answers[3].headers["x-request-id"]
        there = await http.request(method, path, headers={"X-Forwarded-For": "203.0.113.78"})
        assert there.status_code == ok, "another address is another's"
        assert (await http.get("/healthz")).status_code == 200


async def test_two_processes_share_a_limit_by_redis(gateway: Gateway) -> None:
    merchant = await gateway.merchant()
    await gateway.tell(newer(merchant.client, rate_per_minute=40))
    async with running(gateway.env) as (_, second):
        for http in (gateway.http, second):
            for _ in range(20):
                answer = await http.get(PROFILE, headers=merchant.headers)
                assert answer.status_code == 200

        async def all_used() -> bool:
            seen = [
                await http.get(PROFILE, headers=merchant.headers) for http in (gateway.http, second)
            ]
            return [a.status_code for a in seen] == [429, 429]

        await eventually(all_used, 5)


async def test_without_redis_limits_go_on_alone_and_the_gauge_says_so(gateway: Gateway) -> None:
    merchant = await gateway.merchant()
    await gateway.tell(newer(merchant.client, rate_per_minute=4))
    async with running(gateway.env, GATEWAY_REDIS_URL=NOWHERE) as (_, http):
        answers = [await http.get(PROFILE, headers=merchant.headers) for _ in range(6)]
        assert [a.status_code for a in answers] == [200] * 4 + [429, 429]

        async def says_so() -> bool:
            return "mospay_gateway_limits_local 1.0" in (await http.get("/metrics")).text

        await eventually(says_so, 5)


async def test_redis_coming_back_is_told_what_was_used_meanwhile(
    gateway: Gateway, infrastructure: Any
) -> None:
    """A proxy in front of the real Redis is cut and mended."""
    gate = Cut(infrastructure.redis_url)
    await gate.mend()
    merchant = await gateway.merchant()
    client = merchant.client.client_id
    counts = redis.Redis.from_url(infrastructure.redis_url)

    async def known() -> int:
        keys = await counts.keys(f"mospay:limits:client:{client}:test:*")
        return sum(int(n) for n in await counts.mget(keys)) if keys else 0

    async def told(number: int) -> None:
        async def fact() -> bool:
            return await known() == number

        await eventually(fact, 10)

    async def local() -> bool:
        return LIMITS_LOCAL._value.get() == 1

    try:
        async with running(gateway.env, GATEWAY_REDIS_URL=gate.url) as (_, http):
            await call(http, merchant, 3)
            await told(3)
            await gate.cut()
            await call(http, merchant, 2)
            await eventually(local, 5)
            await gate.mend()
            await told(5)
    finally:
        await gate.cut()
        await counts.aclose()


async def call(http: httpx.AsyncClient, merchant: Merchant, times: int) -> None:
    """Call some times; each is let in."""
    for _ in range(times):
        assert (await http.get(PROFILE, headers=merchant.headers)).status_code == 200


class Cut:
    """A TCP forwarder in front of Redis that can be cut and mended."""

    def __init__(self, redis_url: str) -> None:
        parsed = httpx.URL(redis_url)
        self._target = (parsed.host, parsed.port or 6379)
        self._port = 0
        self._password = parsed.password
        self._server: asyncio.Server | None = None
        self._open: list[asyncio.StreamWriter] = []

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"redis://:{self._password}@127.0.0.1:{self._port}/0"

    async def mend(self) -> None:
        """Listen, on the same port as before."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Refuse new connections and break those there are."""
        if self._server is not None:
            self._server.close()
        for writer in self._open:
            writer.transport.abort()
        self._open.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection(*self._target)
        self._open += [writer, inner_writer]

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            try:
                while data := await source.read(65536):
                    sink.write(data)
                    await sink.drain()
            except ConnectionError:
                pass
            sink.close()

        await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer))
