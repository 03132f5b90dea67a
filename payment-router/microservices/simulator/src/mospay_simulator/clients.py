"""HTTP out: one callback, one try."""

import hashlib
import hmac

import httpx

from mospay_simulator.domain.payments import Callback

_FORGED_SIGNATURE = "0" * 64


def callback_client(timeout_seconds: float) -> httpx.AsyncClient:
    """A client that follows no redirect and reads no proxy from the environment."""
    return httpx.AsyncClient(
        timeout=timeout_seconds,
        follow_redirects=False,
        trust_env=False,
        limits=httpx.Limits(max_connections=64, max_keepalive_connections=16),
    )


async def send_callback(client: httpx.AsyncClient, callback: Callback, secret: str | None) -> bool:
    """Whether the receiver took it: only a 2xx counts, and no failure is raised."""
    headers = {"Content-Type": "application/json"}
    if callback.forged:
        headers["X-Signature"] = _FORGED_SIGNATURE
    elif secret is not None:
        headers["X-Signature"] = hmac.new(
            secret.encode(), callback.body, hashlib.sha256
        ).hexdigest()
    try:
        answer = await client.post(callback.url, content=callback.body, headers=headers)
    except (httpx.HTTPError, httpx.InvalidURL):
        return False
    return answer.is_success
