"""The crash suite's proxy: what it does to the bytes of real sockets."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from mospay_dev.infrastructure.processes import free_port
from mospay_dev.proxy import Proxies, Proxy, until

SECONDS = 5.0


class Echo(threading.Thread):
    """A server that answers every chunk with the same bytes and notes what it got."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.got = b""
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]

    def run(self) -> None:
        """Serve until the socket is closed."""
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            while data := connection.recv(65536):
                self.got += data
                connection.sendall(data)
        except OSError:
            return
        finally:
            connection.close()

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    """A running echo server."""
    server = Echo()
    server.start()
    yield server
    server.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    """A proxy before it."""
    proxies = Proxies()
    yield proxies.add("echo", echo.port, free_port())
    proxies.close()


def connect(proxy: Proxy) -> socket.socket:
    """A client's connection through the proxy."""
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=SECONDS)


def said(client: socket.socket, data: bytes) -> bytes:
    """Send and return the answer; b"" when the other side is gone."""
    try:
        client.sendall(data)
        return client.recv(65536)
    except ConnectionError:
        return b""


def silent(client: socket.socket, seconds: float = 0.3) -> bool:
    """Whether nothing comes for a while."""
    client.settimeout(seconds)
    try:
        return not client.recv(65536) and False
    except TimeoutError:
        return True
    finally:
        client.settimeout(SECONDS)


def test_bytes_pass_both_ways_and_a_proper_end_passes_too(proxy: Proxy) -> None:
    with connect(proxy) as client:
        assert said(client, b"hello") == b"hello"
        client.shutdown(socket.SHUT_WR)
        assert client.recv(10) == b""
    until(lambda: not proxy.flows, "the connection is forgotten", SECONDS)


def test_cut_ends_what_stands_and_lets_new_ones_in(proxy: Proxy) -> None:
    with connect(proxy) as client:
        assert said(client, b"a") == b"a"
        assert proxy.cut() == 1
        assert said(client, b"b") == b""
    with connect(proxy) as client:
        assert said(client, b"c") == b"c"


def test_refused_means_no_connection_until_it_heals(proxy: Proxy) -> None:
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)
    proxy.heal()
    with connect(proxy) as client:
        assert said(client, b"a") == b"a"


def test_black_hole_accepts_and_never_answers_and_healing_delivers_nothing_late(
    proxy: Proxy, echo: Echo
) -> None:
    proxy.blackhole()
    with connect(proxy) as client:
        client.sendall(b"lost")
        assert silent(client)
        proxy.heal()
        assert said(client, b"more") == b""
    assert b"lost" not in echo.got


def test_released_means_it_had_only_been_slow(proxy: Proxy) -> None:
    proxy.blackhole()
    with connect(proxy) as client:
        client.sendall(b"late")
        assert silent(client)
        proxy.release()
        assert client.recv(10) == b"late"


def test_latency_and_bandwidth_are_kept(proxy: Proxy) -> None:
    proxy.spoil(latency_seconds=0.1, bytes_per_second=1000)
    with connect(proxy) as client:
        started = time.monotonic()
        assert said(client, b"x" * 100) == b"x" * 100
        assert time.monotonic() - started >= 0.4  # both ways: 0.1 s, and 100 bytes at 1000 a second


def test_connection_ends_after_so_many_bytes(proxy: Proxy) -> None:
    proxy.spoil(cut_after_bytes=8)
    with connect(proxy) as client:
        assert said(client, b"1234") == b"1234"
        assert said(client, b"5") == b""


def test_half_close_shuts_the_way_to_the_client_alone(proxy: Proxy, echo: Echo) -> None:
    with connect(proxy) as client:
        assert said(client, b"a") == b"a"
        proxy.half_close()
        assert client.recv(10) == b""
        client.sendall(b"still heard")
        until(lambda: b"still heard" in echo.got, "the server hears it", SECONDS)


def test_answer_in_the_servers_place_with_or_without_the_request_passed_on(
    proxy: Proxy, echo: Echo
) -> None:
    proxy.spoil(answer=b"503", answer_forwards=True)
    with connect(proxy) as client:
        assert said(client, b"passed on") == b"503"
    proxy.spoil(answer=b"503", answer_forwards=False)
    with connect(proxy) as client:
        assert said(client, b"kept back") == b"503"
    assert b"passed on" in echo.got and b"kept back" not in echo.got


@pytest.mark.parametrize(("act", "arrives"), [("hold_before", False), ("hold_after", True)])
def test_trap_holds_an_exact_step_and_a_client_that_dies_in_it_takes_it_along(
    proxy: Proxy, echo: Echo, act: str, arrives: bool
) -> None:
    trap = proxy.trap("pay_1", act, then=b"COMMIT;")  # type: ignore[arg-type]
    with connect(proxy) as client:
        assert said(client, b"insert pay_1") == b"insert pay_1"
        assert not trap.caught.is_set()
        client.sendall(b"COMMIT;")
        trap.wait(SECONDS)
        assert silent(client)
    until(lambda: not proxy.flows, "the server's side has ended as well", SECONDS)
    assert (b"COMMIT;" in echo.got) is arrives
    proxy.heal()
    assert (b"COMMIT;" in echo.got) is arrives


def test_trap_ignores_other_markers_other_labels_and_ended_transactions(proxy: Proxy) -> None:
    trap = proxy.trap("pay_1", "hold_before", then=b"COMMIT;", label=b"worker")
    with connect(proxy) as other, connect(proxy) as worker:
        for data in (b"web", b"pay_1", b"COMMIT;"):
            assert said(other, data) == data
        for data in (b"worker", b"pay_2", b"COMMIT;"):
            assert said(worker, data) == data
        assert said(worker, b"pay_1") == b"pay_1"
        assert said(worker, b"ROLLBACK;") == b"ROLLBACK;"
        assert said(worker, b"COMMIT;") == b"COMMIT;"
        assert not trap.caught.is_set()
        assert said(worker, b"pay_1") == b"pay_1"
        worker.sendall(b"COMMIT;")
        trap.wait(SECONDS)


def test_patterns_are_counted_even_where_two_chunks_meet(proxy: Proxy) -> None:
    proxy.count("needle")
    with connect(proxy) as client:
        assert said(client, b"a needle and a nee") and said(client, b"dle") and said(client, b"!")
    assert proxy.counts[b"needle"] == 4  # there and back


def test_proxy_loop_is_not_the_callers(proxy: Proxy) -> None:
    async def inside() -> None:
        proxy.cut()

    asyncio.run(inside())
