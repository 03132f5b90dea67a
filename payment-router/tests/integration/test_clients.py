"""HTTP out: exact about whether a byte has left, bounded in what it reads, one POST a call."""

import asyncio
import ipaddress
from collections.abc import AsyncIterator

import pytest
from mospay_dev.infrastructure.processes import free_port
from mospay_payment_router.clients import ANSWER_LIMIT_BYTES, LeaseLapsed, Provider
from mospay_shared.chassis.http_out import IDLE_SECONDS

LOOPBACK = [ipaddress.ip_network("127.0.0.0/8")]
FINE = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


class Wire:
    """A TCP server that records what it reads and plays given answers, one a connection read."""

    def __init__(self) -> None:
        self.read: list[bytes] = []
        self.answers: list[bytes | None] = []
        self.left = asyncio.Event()  # a client has closed its connection
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            self.read.append(data)
            answer = self.answers.pop(0) if self.answers else FINE
            if answer is None:
                break
            writer.write(answer)
        else:
            self.left.set()
        writer.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/x"


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    made = Wire()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    yield made
    server.close()


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    made = Provider(LOOPBACK, 10)
    await made.open()
    yield made
    await made.close()


def close_in_use(provider: Provider) -> int:
    """Close the connections that calls are about to use, as their server might; say how many."""
    connector = provider._session.connector  # type: ignore[union-attr]
    in_use = list(connector._acquired)  # type: ignore[union-attr]
    for protocol in in_use:
        protocol.transport.close()
    return len(in_use)


async def test_lapsed_lease_lets_no_byte_out(provider: Provider, wire: Wire) -> None:
    for _ in range(2):
        with pytest.raises(LeaseLapsed):
            await provider.post(wire.url, b"[]", {}, 2, may_send=lambda: False)
    answer = await provider.post(wire.url, b"[1]", {}, 2)
    assert answer.status == 200
    assert len(wire.read) == 1
    assert wire.read[0].endswith(b"[1]")


async def test_dropped_pooled_connection_is_one_post_and_not_never_sent(
    provider: Provider, wire: Wire
) -> None:
    wire.answers = [FINE, None]
    assert (await provider.post(wire.url, b"[1]", {}, 2)).status == 200
    answer = await provider.post(wire.url, b"[2]", {}, 2)
    assert (answer.status, answer.never_sent) == (None, False)
    assert len(wire.read) == 2


async def test_connection_that_closes_before_the_first_byte_is_left_for_another(
    provider: Provider, wire: Wire
) -> None:
    assert (await provider.post(wire.url, b"[1]", {}, 2)).status == 200
    closed = 0

    def closing() -> bool:
        nonlocal closed
        if not closed:
            closed = close_in_use(provider)
        return True

    answer = await provider.post(wire.url, b"[2]", {}, 2, may_send=closing)
    assert (closed, answer.status) == (1, 200)
    assert [data[-3:] for data in wire.read] == [b"[1]", b"[2]"]


async def test_connections_that_always_close_before_the_first_byte_are_never_sent(
    provider: Provider, wire: Wire
) -> None:
    answer = await provider.post(
        wire.url, b"[]", {}, 2, may_send=lambda: close_in_use(provider) > 0
    )
    assert (answer.status, answer.never_sent, wire.read) == (None, True, [])


async def test_an_idle_connection_is_left_before_its_server_closes_it(
    provider: Provider, wire: Wire
) -> None:
    assert (await provider.post(wire.url, b"[1]", {}, 2)).status == 200
    async with asyncio.timeout(2 * IDLE_SECONDS + 2):
        await wire.left.wait()


async def test_refused_connection_is_never_sent(provider: Provider) -> None:
    answer = await provider.post(f"http://127.0.0.1:{free_port(set())}/", b"[]", {}, 2)
    assert answer.never_sent


async def test_unknown_host_is_never_sent(provider: Provider) -> None:
    assert (await provider.post("http://no-such-host.invalid/", b"[]", {}, 2)).never_sent


async def test_timeout_after_sending_is_unknown(provider: Provider, wire: Wire) -> None:
    wire.answers = [b""]
    answer = await provider.post(wire.url, b"[]", {}, 0.2)
    assert (answer.status, answer.never_sent) == (None, False)
    assert answer.error == "no answer within 0.2 s"


async def test_answer_beyond_the_limit_is_not_read_to_its_end(
    provider: Provider, wire: Wire
) -> None:
    size = ANSWER_LIMIT_BYTES + 1
    wire.answers = [b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size + b"x" * size]
    answer = await provider.post(wire.url, b"[]", {}, 2)
    assert answer.status is None
    assert "longer than" in (answer.error or "")


async def test_nonsense_on_the_wire_is_unknown(provider: Provider, wire: Wire) -> None:
    wire.answers = [b"\x00\x01 not http\r\n\r\n"]
    answer = await provider.post(wire.url, b"[]", {}, 2)
    assert (answer.status, answer.never_sent) == (None, False)
