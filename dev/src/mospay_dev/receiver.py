"""The demo merchant's webhook receiver: verifies Standard Webhooks signatures, keeps what came."""

import asyncio
import json
import os
import sqlite3
from collections import Counter
from pathlib import Path

from aiohttp import web
from standardwebhooks import Webhook, WebhookVerificationError

_TABLES = """
create table if not exists secret (name text primary key, secret text not null);
create table if not exists received (
    id integer primary key, name text, webhook_id text, type text, payment_id text, verified int,
    at text default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')));
create index if not exists by_payment on received (payment_id);
"""


class Receiver:
    """POST /hooks/{name} as a merchant would; `/_secrets` and `/_received` are for the demo."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path)
        self._db.execute("pragma journal_mode = wal")
        self._db.execute("pragma synchronous = normal")
        self._db.executescript(_TABLES)
        self._secrets = dict(self._db.execute("select name, secret from secret").fetchall())
        # Benches ask for the counts twenty times a second, whatever the table holds by then.
        self._counts = Counter(received=0, verified=0)
        self._payments: set[str] = set()
        for payment, verified in self._db.execute("select payment_id, verified from received"):
            self._count(payment, verified)

    def _count(self, payment: str | None, verified: int) -> None:
        self._counts["received"] += 1
        self._counts["verified"] += verified
        if payment is not None:
            self._payments.add(payment)

    async def hook(self, request: web.Request) -> web.Response:
        """Take a webhook; 401 unless its signature is right."""
        name, body = request.match_info["name"], await request.read()
        try:
            Webhook(self._secrets[name]).verify(body, dict(request.headers))
            verified = 1
        except (KeyError, WebhookVerificationError):
            verified = 0
        try:
            content = json.loads(body)
            data = content.get("data", {})
            payment_id = data.get("payment_id") or data.get("id")
            kind = content.get("type")
        except (ValueError, AttributeError):
            payment_id = kind = None
        row = (name, request.headers.get("webhook-id"), kind, payment_id, verified)
        with self._db:
            self._db.execute(
                "insert into received (name, webhook_id, type, payment_id, verified) "
                "values (?, ?, ?, ?, ?)",
                row,
            )
        self._count(payment_id, verified)
        return web.Response(status=204 if verified else 401)

    async def secret(self, request: web.Request) -> web.Response:
        """Learn an endpoint's secret: {name, secret}."""
        body = await request.json()
        self._secrets[body["name"]] = body["secret"]
        with self._db:
            self._db.execute(
                "insert or replace into secret values (?, ?)", (body["name"], body["secret"])
            )
        return web.Response(status=204)

    async def received(self, request: web.Request) -> web.Response:
        """List what came for a payment (`?payment_id=`), or counts of everything."""
        wanted = request.query.get("payment_id")
        if wanted is None:
            return web.json_response({**self._counts, "payments": len(self._payments)})
        rows = self._db.execute(
            "select webhook_id, type, verified, at from received where payment_id = ? order by id",
            (wanted,),
        ).fetchall()
        keys = ("webhook_id", "type", "verified", "at")
        return web.json_response([dict(zip(keys, row, strict=True)) for row in rows])

    async def query(self, request: web.Request) -> web.Response:
        """{payment_ids: […]} → {payment_id: verified webhooks}; news of refunds is not counted."""
        wanted = (await request.json())["payment_ids"][:1000]
        marks = ",".join("?" * len(wanted))
        rows = self._db.execute(
            "select payment_id, count(distinct webhook_id) from received "
            f"where verified = 1 and type like 'payment.%' and payment_id in ({marks}) group by 1",
            wanted,
        ).fetchall()
        return web.json_response(dict(rows))


def app(path: Path) -> web.Application:
    """Return the receiver's application."""
    receiver = Receiver(path)
    made = web.Application(client_max_size=2**20)

    async def health(_: web.Request) -> web.Response:
        return web.json_response({"service": "receiver"})

    made.add_routes(
        [
            web.post("/hooks/{name}", receiver.hook),
            web.post("/_secrets", receiver.secret),
            web.get("/_received", receiver.received),
            web.post("/_received/query", receiver.query),
            web.get("/healthz", health),
        ]
    )
    return made


async def _serve() -> None:
    runner = web.AppRunner(app(Path(os.environ["RECEIVER_DATABASE_PATH"])), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(os.environ["RECEIVER_HTTP_PORT"])).start()
    stop = asyncio.Event()
    import signal

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(_serve())
