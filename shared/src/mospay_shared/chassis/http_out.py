"""HTTP out: one session a service whose sockets refuse private addresses (SSRF), no hidden resend.

The check sits where the socket is made, on the address that is really connected to, so neither a
name that resolves to an inside address nor DNS rebinding gets past it.
"""

import errno
import ipaddress
import socket
from collections.abc import Sequence
from typing import Any

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
# How long a connection is kept for the next call. A server may close an idle connection while a
# request is on its way into it: nobody knows then whether it was read. So those to others are left
# before they close them (2 s is the shortest default in use, 5 s are common; who calls more often
# makes no new ones), those to our own services before these do (75 s).
IDLE_SECONDS, HOUSE_IDLE_SECONDS = 1.0, 20.0


class AddressRefused(OSError):
    """The target's address is not one that calls may go to."""


def check_address(address: str, allowed: Sequence[Network]) -> None:
    """Raise AddressRefused unless `address` is public or lies in an allowed network."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped:
        ip = ip.ipv4_mapped
    if (ip.is_global and not ip.is_multicast) or any(
        ip in net for net in allowed if net.version == ip.version
    ):
        return
    reason = f"{ip} is not a public address and not in an allowed network"
    raise AddressRefused(errno.EACCES, reason)


def open_session(
    allowed: Sequence[Network],
    *,
    connections: int = 300,
    timeout_seconds: float = 30.0,
    idle_seconds: float = IDLE_SECONDS,
) -> aiohttp.ClientSession:
    """Open the session for hot senders. No redirects are followed unless a call asks for it."""

    def guarded(info: Any) -> socket.socket:
        family, kind, protocol, _, address = info
        check_address(address[0], allowed)
        return socket.socket(family=family, type=kind, proto=protocol)

    connector = aiohttp.TCPConnector(
        limit=connections,
        socket_factory=guarded,
        happy_eyeballs_delay=None,
        keepalive_timeout=idle_seconds,
    )
    return aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=timeout_seconds),
        auto_decompress=True,
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
    )


def open_client(
    base_url: str, *, allowed: Sequence[Network], timeout_seconds: float
) -> httpx.AsyncClient:
    """Open a client for calls to a house service: httpx's API over the guarded session."""
    return httpx.AsyncClient(
        base_url=base_url,
        timeout=timeout_seconds,
        # The session verifies certificates; a context of the transport's own is never used, and
        # making it would hold up the event loop for 40 ms.
        transport=AiohttpTransport(
            verify=False, client=lambda: open_session(allowed, idle_seconds=HOUSE_IDLE_SECONDS)
        ),
        follow_redirects=False,
    )
