"""`functions`: what a payment costs the router with 1, 100 and 10,000 clients in the directory.

The router alone: commands come over its own queue, the simulator answers at once, nobody else runs.
CPU of the router's process and of all of PostgreSQL, a payment. Two such stacks stand side by side:
one keeps a single client, the other grows from size to size. Runs of the single client, of all
clients, and of one among all take turns: what else the machine does meets each of them, and both
stacks have as many payments. At last OWN clients get versions of their own.
`--seconds` is not used: a run is PAYMENTS payments, there are RUNS of each, the median counts.
"""

import asyncio
import datetime as dt
import json
import shutil
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aio_pika
import asyncpg
import harness
import psutil
from mospay_dev.infrastructure.databases import database_url
from mospay_dev.services import ROOT, SERVICES
from mospay_dev.stack import Stack
from mospay_shared.contracts import Outgoing, ProcessPaymentV1, outgoing
from mospay_shared.contracts.directory import AppV1, AssignmentV1, ClientV1, ServiceV1
from mospay_shared.ids import new_id

SIZES = (100, 10_000)  # beside one client
PAYMENTS, RUNS, PACK = 5_000, 5, 20
OWN = 1_000  # clients with versions of their own, of the largest size
IDLE_SECONDS = 20.0
ROUTER = "payment-router"
SERVICE_ID = "srv_bench"
# One client's traffic must not wait for its share of the slots: that is another cost.
WIDE = {f"ROUTER_IN_FLIGHT{part}": "5000" for part in ("", "_PER_CLIENT", "_PER_PROVIDER")}
Rows = list[dict[str, object]]


@dataclass
class House:
    """The stack with its broker and database, and how many clients the directory has."""

    stack: Stack
    channel: aio_pika.abc.AbstractChannel
    database: asyncpg.Connection
    clients: int = 0
    version: int = 1

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        """Publish messages of one type, in packs."""
        for start in range(0, len(messages), PACK):
            part = messages[start : start + PACK]
            name = "mospay.commands" if part[0].command else "mospay.events"
            exchange = await self.channel.get_exchange(name, ensure=False)
            body = b"[" + b",".join(m.body for m in part) + b"]"
            await exchange.publish(aio_pika.Message(body), part[0].type)

    async def grow(self, size: int) -> float:
        """Make clients until there are so many; return the seconds until all had functions."""
        started = time.perf_counter()
        if not self.clients:
            await self.publish([_told("service", _service(self.stack.reach("simulator")))])
        for kind in ("client", "assignment"):
            made = []
            for number in range(self.clients, size):
                self.version += 1
                body = _client(number, self.version) if kind == "client" else _assignment(
                    number, self.version)  # fmt: skip
                made.append(_told(kind, body))
            await self.publish(made)
        self.clients = size
        while await self.database.fetchval("select count(*) from provider_functions") < size:
            await asyncio.sleep(0.2)
        await asyncio.sleep(3)  # memory has followed
        return time.perf_counter() - started

    async def pay(self, count: int, clients: int) -> None:
        """Send payments over so many clients; return when every one has ended."""
        commands = [_command(number % clients, self.version) for number in range(count)]
        await self.publish(
            [outgoing("payments.process.v1", c.payment_id, c, source="gateway")
             for c in commands]
        )  # fmt: skip
        last = [c.payment_id for c in commands[-PACK * 10 :]]
        ended = "select count(*) from payments where id = any($1) and status = 'succeeded'"
        due = "select count(*) from payments where next_action_at is not null"
        while await self.database.fetchval(ended, last) < len(last) or (
            await self.database.fetchval(due)
        ):
            await asyncio.sleep(0.1)

    async def run(self, clients: int) -> dict[str, float]:
        """Return core-ms a payment of router and PostgreSQL, and payments a second."""
        before = harness.cpu_seconds(self.stack)
        started = time.perf_counter()
        await self.pay(PAYMENTS, clients)
        seconds = time.perf_counter() - started
        cores = harness.core_ms(before, harness.cpu_seconds(self.stack), PAYMENTS)
        found = {"router": cores[ROUTER], "postgres": cores["postgres"],
                 "rate": PAYMENTS / seconds}  # fmt: skip
        harness.say(f"  {self.clients} clients, traffic over {clients}: {found}")
        return {**found, "total": found["router"] + found["postgres"]}

    async def own_versions(self, count: int) -> None:
        """Give clients versions of their own: the source of the template, as a person posts it."""
        make = "select fx.install_version($1, $2, 'plpgsql', 'stable', false, p.prosrc)"
        await self.database.execute("set client_min_messages = error")
        for number in range(count):
            name = f"app{number:05}_simulator_payment"
            for of, arguments in (
                (name, ["unique_id", "data_input"]),
                (f"RESPONSE_{name}", ["unique_id", "data_input", "code", "data_output"]),
            ):
                await self.database.execute(
                    f"{make} from pg_proc p where p.proname = $3", f"{of}@v2", arguments, of
                )
                await self.database.execute(
                    "update function_versions set state = 'retired', changed_at = now() "
                    "where name = $1", of
                )  # fmt: skip
                await self.database.execute(
                    "insert into function_versions (name, version, state, origin, call_name) "
                    "values ($1, 2, 'live', 'person', $2)", of, f"{of}@v2"
                )  # fmt: skip
        await asyncio.sleep(6)  # memory has followed

    async def idle(self) -> float:
        """Return core-ms a second of router and PostgreSQL while nothing happens."""
        await asyncio.sleep(5)
        before = harness.cpu_seconds(self.stack)
        await asyncio.sleep(IDLE_SECONDS)
        after = harness.cpu_seconds(self.stack)
        used = sum(after[name] - before[name] for name in (ROUTER, "postgres"))
        return used * 1000 / IDLE_SECONDS

    def memory(self) -> tuple[float, float]:
        """Return MiB of the router, and private MiB of its largest PostgreSQL backend."""
        router = psutil.Process(self.stack.processes[ROUTER].pid).memory_info().rss
        state = json.loads(self.stack.cluster.state.path.read_text())
        postmaster = psutil.Process(int(state["processes"]["postgres"]["pid"]))
        sizes = [child.memory_full_info().uss for child in postmaster.children(recursive=True)]
        return router / 2**20, max(sizes) / 2**20


def _service(url: str) -> ServiceV1:
    return ServiceV1(
        service_id=SERVICE_ID,
        microservice="simulator",
        name="collection",
        title="Bench",
        currency="RWF",
        urls={"test": url},
        routes=["payment"],
        active=True,
        version=1,
        connector={"simulator": True, "authoritative_enquiry": True, "reference_dedupe": True},
    )


def _client(number: int, version: int) -> ClientV1:
    return ClientV1(
        client_id=f"cli_bench{number:05}",
        company_id="com_bench",
        name="Bench",
        apps=[AppV1(app_id=f"app{number:05}", mode="test")],
        currency="RWF",
        time_zone="UTC",
        active=True,
        version=version,
    )


def _assignment(number: int, version: int) -> AssignmentV1:
    return AssignmentV1(
        assignment_id=f"asg_bench{number:05}",
        client_id=f"cli_bench{number:05}",
        service_id=SERVICE_ID,
        active=True,
        version=version,
    )


def _told(kind: str, body: ServiceV1 | ClientV1 | AssignmentV1) -> Outgoing:
    return outgoing(f"directory.{kind}_changed.v1", SERVICE_ID, body, source="portal-api")


def _command(client: int, version: int) -> ProcessPaymentV1:
    now = dt.datetime.now(dt.UTC)
    return ProcessPaymentV1(
        payment_id=new_id("pay"),
        client_id=f"cli_bench{client:05}",
        mode="test",
        app_id=f"app{client:05}",
        service_id=SERVICE_ID,
        directory_version=version,
        microservice="simulator",
        service="collection",
        route="payment",
        amount_minor=1000,
        currency="RWF",
        phone="+250780000000",
        reference=new_id("r"),
        fields={},
        accepted_at=now,
        send_before=now + dt.timedelta(minutes=15),
        metadata={},
    )


@asynccontextmanager
async def _house(stack: Stack) -> AsyncIterator[House]:
    connection = await aio_pika.connect(stack.cluster.broker_url)
    name = SERVICES[ROUTER].database
    database = await asyncpg.connect(database_url(stack.cluster.postgres_url, name))
    async with connection:
        yield House(stack, await connection.channel(publisher_confirms=True), database)
    await database.close()


async def _costs(*runs: tuple[House, int]) -> list[dict[str, float]]:
    """Return the median of RUNS for each house and number of busy clients, taken in turns."""
    found: list[list[dict[str, float]]] = [[] for _ in runs]
    for _ in range(RUNS):
        for kept, (house, clients) in zip(found, runs, strict=True):
            kept.append(await house.run(clients))
    return [{key: harness.median([r[key] for r in of]) for key in of[0]} for of in found]


async def _sized(single: House, house: House, size: int) -> tuple[Rows, dict[str, float]]:
    """Grow to a size and measure it beside the single client."""
    rows: Rows = []
    before = house.clients
    harness.say(f"growing to {size} clients")
    grown = await house.grow(size)
    if size - before > 1_000:
        rows.append(harness.result("functions.made", (size - before) / grown, "clients/s"))
    # every session meets every function; both stacks get as many payments
    warm = max(2 * size, 2_000)
    await asyncio.gather(single.pay(warm, 1), house.pay(warm, size))
    one, all_busy, one_busy = await _costs((single, 1), (house, size), (house, 1))
    rows += _figures(f"1_beside_{size}", one, single)
    rows += _figures(str(size), all_busy, house) + _figures(f"{size}_one_busy", one_busy, house)
    for name, of in ((f"1_beside_{size}", single), (str(size), house)):
        rows.append(harness.result(f"functions.idle_{name}", await of.idle(), "core-ms/s"))
    return rows, {
        str(size): all_busy["total"] / one["total"],
        f"{size}_one_busy": one_busy["total"] / one["total"],
    }


async def _measure(alone: Stack, growing: Stack) -> tuple[Rows, dict[str, float]]:
    rows: Rows = []
    ratios: dict[str, float] = {}
    async with _house(alone) as single, _house(growing) as house:
        await single.grow(1)
        for size in SIZES:
            found, compared = await _sized(single, house, size)
            rows += found
            ratios |= compared
        harness.say(f"{OWN} clients get versions of their own")
        await house.own_versions(OWN)
        await house.pay(2 * OWN, OWN)
        one, own = await _costs((single, 1), (house, OWN))
        ratios["versions"] = own["total"] / one["total"]
        rows += _figures(f"{OWN}_versions", own, house)
        left = "select count(*) from payments where status <> 'succeeded'"
        for each in (single, house):
            assert not await each.database.fetchval(left), "a payment did not end well"
    return rows, ratios


def _figures(name: str, cost: dict[str, float], house: House) -> Rows:
    router, session = house.memory()
    return [
        *(
            harness.result(f"functions.{part}_{name}", cost[part], "core-ms a payment")
            for part in ("total", "router", "postgres")
        ),
        harness.result(f"functions.rate_{name}", cost["rate"], "/s"),
        harness.result(f"functions.router_mib_{name}", router, "MiB"),
        harness.result(f"functions.session_mib_{name}", session, "MiB"),
    ]


def main(arguments: Sequence[str]) -> int:
    """Run on two fresh stacks, each of the router and the simulator alone."""
    chosen = harness.options(arguments, seconds=0)
    extra = {
        "simulator": {"SIMULATOR_RECORD": "memory", "SIMULATOR_DELAY_MS": "0"},
        ROUTER: {"ROUTER_LOG_LEVEL": "warning", **WIDE},
    }
    stacks: list[Stack] = []
    try:
        for name in ("one", "many"):
            folder = ROOT / ".mospay/bench-functions" / name
            shutil.rmtree(folder, ignore_errors=True)
            stacks.append(Stack(folder, durable=True, say=harness.say, extra=extra))
            stacks[-1].prepare()
            stacks[-1].start(("simulator", ROUTER))
        rows, ratios = asyncio.run(_measure(*stacks))
    finally:
        for stack in stacks:
            stack.stop()
    for name, ratio in ratios.items():
        rows.append(harness.result(f"functions.ratio_{name}", ratio, "times one", goal="<= 1.2"))
    return harness.report("functions", None, rows, {}, chosen)
