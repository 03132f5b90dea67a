"""`risk`: what assessing a payment costs, with the default rules in live mode and no other load.

10,000 payments in batches of 64, each batch assessed at once, and 1,000 one by one: own phones,
devices and addresses of 40 clients. The database is durable and does nothing else. Time is of
`assess()`, CPU of this process and of PostgreSQL; neither holds what else is done with a payment.
"""

import asyncio
import datetime as dt
import random
import time
from collections.abc import Sequence

import harness
import psutil
from mospay_dev.environment import service_environment
from mospay_dev.services import ROOT, SERVICES
from mospay_dev.stack import Stack
from mospay_payment_router.app import create_service
from mospay_payment_router.settings import RouterSettings
from mospay_shared.contracts import ProcessPaymentV1
from mospay_shared.ids import new_id

CLIENTS, PAYERS = 40, 4_000
RUNS = (  # name, mode, payments, payments a batch
    ("live", "live", 10_000, 64),
    ("live_alone", "live", 1_000, 1),
    ("test", "test", 10_000, 64),
)
WARM_BATCHES = 20


def _command(number: int, clients: Sequence[str], mode: str) -> ProcessPaymentV1:
    now = dt.datetime.now(dt.UTC)
    payer = random.randrange(PAYERS)
    return ProcessPaymentV1(
        payment_id=new_id("pay"),
        client_id=clients[number % len(clients)],
        mode=mode,
        app_id="app",
        service_id="srv",
        directory_version=1,
        microservice="mtn",
        service="collection",
        route="payment",
        amount_minor=random.randrange(100, 100_000),
        currency="RWF",
        phone=f"+25078{payer:07}",
        reference=new_id("r"),
        fields={},
        ip=f"10.{payer % 200}.{payer % 13}.7",
        device=f"device-{payer}",
        accepted_at=now,
        send_before=now + dt.timedelta(minutes=15),
    )


def _postgres_cpu() -> float:
    """Return the CPU seconds of every PostgreSQL process of this stack, ended ones left aside."""
    folder = str(ROOT / ".mospay/bench")
    total = 0.0
    for process in psutil.process_iter(["name", "cmdline", "ppid"]):
        if process.info["name"] != "postgres":
            continue
        try:
            parent = process.parent()
            lines = [*(process.info["cmdline"] or []), *(parent.cmdline() if parent else [])]
            if any(folder in word for word in lines):
                times = process.cpu_times()
                total += times.user + times.system
        except psutil.Error:
            continue
    return total


async def _measure(
    settings: RouterSettings, mode: str, payments: int, size: int
) -> tuple[list[float], float, float, int]:
    """Return seconds of each batch, CPU seconds here and in PostgreSQL, and defaults applied."""
    own = create_service(settings).app.state.wiring
    await own.service.database.open()
    await own.policies.open()
    await own.counters.open()
    clients = [new_id("cli") for _ in range(CLIENTS)]
    seconds: list[float] = []
    defaults = 0
    try:
        for number in range(WARM_BATCHES):
            await own.risk.assess([_command(number + n, clients, mode) for n in range(size)])
        here = time.process_time()
        made, there = 0.0, _postgres_cpu()
        for start in range(0, payments, size):
            before = time.process_time()
            batch = [_command(start + n, clients, mode) for n in range(size)]
            made += time.process_time() - before
            started = time.perf_counter()
            verdicts = await own.risk.assess(batch)
            seconds.append(time.perf_counter() - started)
            defaults += sum(v.by_default for v in verdicts.values())
        return seconds, time.process_time() - here - made, _postgres_cpu() - there, defaults
    finally:
        await own.counters.close()
        await own.service.database.close()


def main(arguments: Sequence[str]) -> int:
    """Run on a stack of its own with nothing but its database."""
    chosen = harness.options(arguments, seconds=1)
    stack = Stack(ROOT / ".mospay/bench", durable=True, say=harness.say)
    rows, cores = [], {}
    try:
        stack.prepare()
        env = service_environment("payment-router", stack.backing())
        prefix = SERVICES["payment-router"].prefix
        values = {k.removeprefix(prefix).lower(): v for k, v in env.items()}
        settings = RouterSettings(**values)  # type: ignore[arg-type]
        for name, mode, payments, size in RUNS:
            measured = asyncio.run(_measure(settings, mode, payments, size))
            seconds, here, there, defaults = measured
            ordered = sorted(seconds)
            for quantile, share in (("p50", 0.5), ("p99", 0.99)):
                value = ordered[int(len(ordered) * share)] * 1000
                goal = "<= 2" if (mode, quantile) == ("live", "p99") else None
                rows.append(harness.result(f"risk.{name}.{quantile}_ms", value, "ms", goal=goal))
            rows.append(harness.result(f"risk.{name}.by_default", defaults, "payments"))
            done = len(seconds) * size
            cores[f"{name}: router"] = round(here * 1000 / done, 4)
            cores[f"{name}: postgres"] = round(there * 1000 / done, 4)
    finally:
        stack.stop()
    return harness.report("risk", None, rows, cores, chosen)
