"""A durable house behind proxies: real processes to kill, hold and pause, and what all sides say.

Rows name exact steps with traps in the proxies (`at_commit`, `at_publish`, `at_ack`, `at_call`), so
that nothing in the services exists for tests alone.
"""

import asyncio
import contextlib
import hashlib
import hmac
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aio_pika
import asyncpg
import httpx
from mospay_shared.chassis.service_tokens import TokenSigner
from mospay_shared.contracts.envelope import CONTENT_TYPE
from mospay_shared.ids import new_id

from mospay_dev.audit import FINAL, Audit, Auditor
from mospay_dev.demo.portal import Portal
from mospay_dev.demo.seed import SERVICE, Seed, seed
from mospay_dev.infrastructure.databases import database_url
from mospay_dev.infrastructure.processes import StateFile
from mospay_dev.proxy import ACK, COMMIT, Act, Direction, Trap, until
from mospay_dev.services import SERVICES
from mospay_dev.stack import EXTRAS, Stack

ALL = (*SERVICES, *EXTRAS)
PAID, DECLINED, SLOW, HANGS = (f"+25078000000{n}" for n in (0, 1, 3, 4))
# Waits that keep a row short. The rules they time are the same; the defaults are the services'.
FAST: dict[str, dict[str, str]] = {
    "payment-router": {
        "ROUTER_ENQUIRY_SECONDS": "0.5,1,1,2,2,5",
        "ROUTER_NOT_FOUND_GRACE_SECONDS": "2",
        "ROUTER_LEASE_MARGIN_SECONDS": "1",
        "ROUTER_LEASE_SPARE_SECONDS": "3",
        "ROUTER_CALLBACK_MATCH_SECONDS": "0.3,0.5,1,1,2,5",
    },
    "notifier": {
        "NOTIFIER_SCHEDULE_SECONDS": "0,1,1,2,2,5,5,10,20,30",
        "NOTIFIER_TIMEOUT_SECONDS": "3",
        "NOTIFIER_LEASE_SECONDS": "5",
    },
    # One address with two clients sends everything: limits are counted as ever and never reached.
    "gateway": {
        "GATEWAY_NEWS_CHECK_SECONDS": "2",
        "GATEWAY_REANNOUNCE_SECONDS": "5",
        "GATEWAY_CLIENT_RATE_PER_MINUTE": "1000000",
        "GATEWAY_ADDRESS_RATE_PER_MINUTE": "1000000",
        "GATEWAY_CALLBACK_RATE_PER_MINUTE": "1000000",
    },
    "ledger": {"LEDGER_INTENT_LEASE_SECONDS": "5"},
    "simulator": {"SIMULATOR_HANG_SECONDS": "20"},
}
# Of random runs: the stand-in of the provider is slowed, stopped and flooded as all else is, and
# must not be believed that it knows no request while that still waits in its queue.
PATIENT = {"ROUTER_NOT_FOUND_GRACE_SECONDS": "60"}
LEASE_SECONDS = 7.0  # FAST: 3 s provider time-out, 1 s margin, 3 s spare
# Services of the suite's own: a payer window that is over soon, a provider that may take its time.
SPECIAL: dict[str, dict[str, Any]] = {
    "brief": {"payer_window_seconds": 10},
    "patient": {"provider_timeout_seconds": 30},
}


@dataclass
class House:
    """The running stack and its seed."""

    stack: Stack
    seed: Seed
    services = tuple(SERVICES)
    paused: set[str] = field(default_factory=set)
    replicas: set[str] = field(default_factory=set)

    @classmethod
    def open(
        cls,
        folder: Path,
        say: Callable[[str], None],
        *,
        durable: bool = True,
        router: Mapping[str, str] | None = None,
    ) -> "House":
        """Start everything below `folder` behind proxies, fsync on as in production; seed it.

        `router` are settings of the router that are not as in FAST.
        """
        extra = FAST | {"payment-router": FAST["payment-router"] | dict(router or {})}
        stack = Stack(folder, durable=durable, say=say, extra=extra, proxied=True)
        try:
            stack.prepare()
            stack.start(ALL)
            house = cls(stack, seed(stack, say))
            house.make_services()
            return house
        except BaseException:
            stack.stop()
            raise

    def close(self) -> None:
        """Stop everything; leaves no process."""
        self.stack.stop()

    # ---- faults ------------------------------------------------------------------------------

    def heal(self) -> None:
        """Bring back whatever was broken, end replicas, and wait until all is ready."""
        self.stack.cluster.start()
        self.stack.heal()
        for name in list(self.paused):
            self.resume(name)
        for name in list(self.replicas):
            self.stack.stop_one(name)
            self.replicas.discard(name)
        self.stack.start(ALL)

    def kill(self, *names: str) -> None:
        """End processes at once (kill -9)."""
        for name in names:
            self.stack.kill(name)

    def start(self, *names: str) -> None:
        """Heal the proxies of killed processes (what was held is cut) and start them."""
        for name in names:
            for kind in ("postgres", "broker", "redis"):
                self.stack.proxy(name, kind).heal()
        self.stack.start(names)

    def crash(self, name: str) -> None:
        """Kill -9 and start again, ready."""
        self.kill(name)
        self.start(name)

    def replicate(self, service: str) -> str:
        """Start a second process of a service and return its name; healing ends it."""
        name = self.stack.replicate(service)
        self.replicas.add(name)
        self.stack.start((name,))
        return name

    def pause(self, name: str) -> None:
        """SIGSTOP."""
        self.stack.pause(name)
        self.paused.add(name)

    def resume(self, name: str) -> None:
        """SIGCONT."""
        self.stack.resume(name)
        self.paused.discard(name)

    # ---- exact steps -------------------------------------------------------------------------

    def at_commit(self, process: str, marker: str, act: Act, seen: Direction = "up") -> Trap:
        """Trap the commit of the worker role's next transaction that named `marker`.

        `seen` is where: in what was sent (`up`) or in what was read (`down`).
        """
        role = f"{SERVICES[process.partition('@')[0]].database}_worker"
        proxy = self.stack.proxy(process, "postgres")
        return proxy.trap(marker, act, then=COMMIT, seen=seen, label=role.encode())

    def at_acceptance(self, marker: str, act: Act) -> Trap:
        """Trap the gateway's acceptance that names `marker`: one statement that commits itself."""
        label = f"{SERVICES['gateway'].database}_worker".encode()
        return self.stack.proxy("gateway", "postgres").trap(marker, act, label=label)

    def at_publish(self, process: str, marker: str, act: Act) -> Trap:
        """Trap the publication of a pack that names `marker`; `after` holds its confirm."""
        proxy = self.stack.proxy(process, "broker")
        return proxy.trap(marker, act, label=f"{process.partition('@')[0]}:publish".encode())

    def at_ack(self, process: str, marker: str, act: Act) -> Trap:
        """Trap the next acknowledgement after a delivery that names `marker`."""
        proxy = self.stack.proxy(process, "broker")
        label = f"{process.partition('@')[0]}:consume".encode()
        return proxy.trap(marker, act, then=ACK, seen="down", label=label)

    def at_delivery(self, process: str, marker: str, act: Act) -> Trap:
        """Trap a delivery from the broker that names `marker`."""
        proxy = self.stack.proxy(process, "broker")
        label = f"{process.partition('@')[0]}:consume".encode()
        return proxy.trap(marker, act, seen="down", label=label)

    def at_call(self, who: str, marker: str, act: Act) -> Trap:
        """Trap an HTTP request that names `marker` on its way to `simulator` or `receiver`."""
        return self.stack.proxy(who).trap(marker, act)

    # ---- acting as a client ------------------------------------------------------------------

    def body(self, reference: str, **changes: Any) -> dict[str, Any]:
        """Return the body of a payment."""
        return {
            "service": "collection",
            "route": "payment",
            "amount_minor": 1000,
            "currency": "RWF",
            "phone": PAID,
            "reference": reference,
        } | changes

    def send(
        self, reference: str, *, key: str = "", wait: int = 0, seconds: float = 40, **changes: Any
    ) -> httpx.Response:
        """POST a payment of the first merchant; the key is the reference when none is given."""
        headers = {
            "X-API-Key": self.seed.clients[0].api_key,
            "Idempotency-Key": key or reference,
            "Prefer": f"wait={wait}",
        }
        url = f"{self.seed.gateway_url}/v1/payments"
        body = self.body(reference, **changes)
        return httpx.post(url, json=body, headers=headers, timeout=seconds)

    def pay(self, reference: str = "", **changes: Any) -> str:
        """Have a payment accepted and return its id."""
        answer = self.send(reference or self.reference(), **changes)
        assert answer.status_code in (200, 202), (answer.status_code, answer.text)
        payment: str = answer.json()["id"]
        return payment

    @staticmethod
    def reference() -> str:
        """Return a reference that nothing else contains."""
        return f"crash-{secrets.token_hex(12)}"

    @staticmethod
    def phone(scenario: int = 0) -> str:
        """Return a phone of a scenario that this payment alone has: a marker for traps."""
        return f"+2507{secrets.randbelow(9000) + 1000}{scenario:04}"

    def held(self, scenario: int = 0, **changes: Any) -> str:
        """Return a payment that the provider took and whose answer is held; `answer()` ends that.

        So a test knows the payment's id before anything is known of its outcome.
        """
        phone = self.phone(scenario)
        trap = self.at_call("simulator", phone, "hold_after")
        payment = self.pay(phone=phone, **changes)
        trap.wait()
        return payment

    def answer(self) -> None:
        """Let the simulator's held answers through."""
        self.stack.proxy("simulator").release()

    def read(self, payment: str) -> dict[str, Any]:
        """GET a payment as the first merchant."""
        url = f"{self.seed.gateway_url}/v1/payments/{payment}"
        headers = {"X-API-Key": self.seed.clients[0].api_key}
        found: dict[str, Any] = httpx.get(url, headers=headers, timeout=10).json()
        return found

    def wait_status(self, payment: str, *statuses: str, seconds: float = 40) -> dict[str, Any]:
        """Wait until a payment has one of these states (any end when none is named)."""
        wanted = set(statuses) or FINAL

        def look() -> dict[str, Any] | None:
            with contextlib.suppress(httpx.HTTPError):
                found = self.read(payment)
                return found if found.get("status") in wanted else None
            return None

        found = until(look, f"{payment} is {wanted}", seconds)
        assert found is not None
        return found

    def callback(
        self, payment: str, outcome: str, *, amount: str = "1000", signed: bool = True, **more: Any
    ) -> int:
        """Send a provider's callback to the gateway and return the HTTP status."""
        body = {
            "event_id": f"cb_{secrets.token_hex(8)}",
            "reference": payment,
            "provider_reference": f"sim_{secrets.token_hex(8)}",
            "outcome": outcome,
            "amount": amount,
            "currency": None,
        }
        raw = json.dumps(body | more).encode()
        secret = self.stack.cluster.keys["callback"] if signed else "somebody else's"
        signature = hmac.new(secret.encode(), raw, hashlib.sha256).hexdigest()
        headers = {"X-Signature": signature, "Content-Type": "application/json"}
        url = f"{self.seed.gateway_url}/v1/callbacks/simulator"
        return httpx.post(url, content=raw, headers=headers, timeout=10).status_code

    # ---- what all sides say ------------------------------------------------------------------

    def sql(self, service: str, statement: str, *args: Any) -> list[dict[str, Any]]:
        """Run a statement on a service's database as the superuser, past every proxy."""
        url = database_url(self.stack.cluster.postgres_url, SERVICES[service].database)

        async def run() -> list[dict[str, Any]]:
            connection = await asyncpg.connect(url)
            try:
                return [dict(row) for row in await connection.fetch(statement, *args)]
            finally:
                await connection.close()

        return asyncio.run(run())

    def value(self, service: str, statement: str, *args: Any) -> Any:
        """Return the first column of the first row, None when there is none."""
        rows = self.sql(service, statement, *args)
        return next(iter(rows[0].values())) if rows else None

    def effects(self, payment: str) -> tuple[int, int]:
        """Return what the provider's own record says: effects and repeats of one payment."""
        url = f"{self.seed.simulator_url}/_effects"
        found = httpx.get(url, params={"reference": payment}).json()
        return len(found["effects"]), int(found["repeats"])

    def simulator(self) -> dict[str, int]:
        """Return the provider's own counts."""
        counts: dict[str, int] = httpx.get(f"{self.seed.simulator_url}/_effects/summary").json()
        return counts

    def webhooks(self, payment: str) -> list[dict[str, Any]]:
        """Return what the merchant's receiver got for a payment."""
        url = f"{self.seed.webhook_receiver_url}/_received"
        found: list[dict[str, Any]] = httpx.get(url, params={"payment_id": payment}).json()
        return found

    def transitions(self, payment: str) -> list[str]:
        """Return the states a payment went through, in order."""
        statement = (
            "select to_status from payment_transitions where payment_id = $1 order by version"
        )
        return [row["to_status"] for row in self.sql("payment-router", statement, payment)]

    def internal(
        self, service: str, path: str, scope: str, method: str = "GET", **more: Any
    ) -> httpx.Response:
        """Call an internal route as the portal would."""
        signer = TokenSigner("portal-api", self.stack.cluster.keys["portal_signing"])
        token = signer.token(service, scope, actor="crash-suite")
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.request(method, self.stack.url(service) + path, headers=headers, **more)

    def metric(self, process: str, name: str) -> float:
        """Return the sum of a metric's samples on a process's `/metrics` page."""
        page = httpx.get(self.stack.url(process) + "/metrics", timeout=10).text
        lines = (line for line in page.splitlines() if line.startswith((name + " ", name + "{")))
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    def portal(self) -> Portal:
        """Return a signed-in session of the admin."""
        portal = Portal(self.stack.url("portal-api"))
        portal.sign_in(self.seed.admin["email"], self.seed.admin["password"], "admin")
        return portal

    def auditor(self) -> Auditor:
        """Return who compares all sides over their HTTP interfaces."""
        return Auditor(self.stack, self.seed)

    def audit(
        self,
        payments: Sequence[str],
        seconds: float = 90,
        *,
        webhooks: bool = True,
        repeats: int | None = None,
    ) -> Audit:
        """Audit these payments and assert that the promise held; `repeats` as counted before."""
        assert payments, "nothing was accepted, so nothing is proven"
        found = asyncio.run(self.auditor().run(payments, seconds=seconds, webhooks=webhooks))
        assert not found.faults, (found.faults, found.summary())
        assert found.ended == len(payments), found.summary()
        if repeats is not None:
            assert found.repeats == repeats, "a payment was sent a second time"
        return found

    # ---- messages ----------------------------------------------------------------------------

    def publish(self, exchange: str, packs: Sequence[tuple[str, bytes]]) -> None:
        """Publish packs (routing key, body) as anybody on the broker could, past every proxy."""

        async def run() -> None:
            connection = await aio_pika.connect(self.stack.cluster.broker_url)
            async with connection, connection.channel() as channel:
                target = await channel.get_exchange(exchange, ensure=False)
                for key, body in packs:
                    message = aio_pika.Message(
                        body,
                        content_type=CONTENT_TYPE,
                        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
                    )
                    await target.publish(message, key)

        asyncio.run(run())

    def spy(self, queue: str, bindings: Sequence[tuple[str, str]]) -> None:
        """Declare a queue of the suite's own that gets copies of (exchange, key)."""

        async def run() -> None:
            connection = await aio_pika.connect(self.stack.cluster.broker_url)
            async with connection, connection.channel() as channel:
                made = await channel.declare_queue(queue, durable=True)
                await made.purge()
                for exchange, key in bindings:
                    await made.bind(exchange, key)

        asyncio.run(run())

    def take(self, queue: str, limit: int = 1000) -> list[tuple[str, str, bytes]]:
        """Take what a queue holds: (exchange, routing key, body)."""

        async def run() -> list[tuple[str, str, bytes]]:
            connection = await aio_pika.connect(self.stack.cluster.broker_url)
            found: list[tuple[str, str, bytes]] = []
            async with connection, connection.channel() as channel:
                source = await channel.get_queue(queue, ensure=False)
                while len(found) < limit:
                    message = await source.get(no_ack=True, fail=False)
                    if message is None:
                        break
                    found.append((message.exchange or "", message.routing_key or "", message.body))
            return found

        return asyncio.run(run())

    def waiting(self, queue: str) -> int:
        """Return how many messages a queue has ready, those under way to a consumer left out."""

        async def run() -> int:
            connection = await aio_pika.connect(self.stack.cluster.broker_url)
            async with connection, connection.channel() as channel:
                found = await channel.declare_queue(queue, passive=True)
                return int(found.declaration_result.message_count or 0)

        return asyncio.run(run())

    def unspy(self, queue: str) -> None:
        """Delete a spy queue: nothing may grow for ever."""

        async def run() -> None:
            connection = await aio_pika.connect(self.stack.cluster.broker_url)
            async with connection, connection.channel() as channel:
                await channel.queue_delete(queue)

        asyncio.run(run())

    def transfer(self, queue: str, packs: Sequence[bytes]) -> None:
        """Put packs into one queue alone (the default exchange routes by a queue's name)."""

        async def run() -> None:
            connection = await aio_pika.connect(self.stack.cluster.broker_url)
            async with connection, connection.channel() as channel:
                for body in packs:
                    message = aio_pika.Message(body, content_type=CONTENT_TYPE)
                    await channel.default_exchange.publish(message, queue)

        asyncio.run(run())

    @staticmethod
    def renamed(pack: bytes, **changes: Any) -> bytes:
        """Return a pack with fresh event ids, and with these changes in each event's data."""
        events = json.loads(pack)
        for event in events:
            event["id"] = new_id("evt")
            event["data"] |= changes
        return json.dumps(events).encode()

    # ---- making ------------------------------------------------------------------------------

    def make_services(self) -> None:
        """Make the services of `SPECIAL`, once a stack."""
        state = StateFile(self.stack.folder / "services.json")
        if not state.read():
            portal, address = self.portal(), self.stack.reach("simulator")
            made: dict[str, object] = {}
            for name, special in SPECIAL.items():
                body = SERVICE | {"name": name, "title": f"Collection, {name}"} | special
                service = portal.post("/services", body | {"urls": {"test": address}})
                for client in self.seed.clients:
                    assignment = {"client_id": client.client_id, "service_id": service["id"]}
                    portal.post("/assignments", assignment)
                made[name] = service["id"]
            state.write(made)
        first = self.seed.clients[0]
        url = f"{self.seed.gateway_url}/api/v1/client/services"
        headers = {"App-ID": first.app_id}

        def known() -> bool:
            answer = httpx.get(url, auth=(first.username, first.password), headers=headers)
            return all(name in answer.text for name in SPECIAL)

        until(known, "the gateway knows the suite's services")
