"""`e2e`: accept → router → provider → ledger, reporter, webhook, at a 0 ms and a 50 ms provider."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import aiohttp
import harness
from mospay_dev.audit import Audit, Auditor
from mospay_dev.demo.seed import Seed
from mospay_dev.stack import Stack


async def _webhooks(made: Seed) -> int:
    url = f"{made.webhook_receiver_url}/_received"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return int((await answer.json())["payments"])


async def _measure(
    stack: Stack, made: Seed, chosen: harness.Options, rate: float | None
) -> tuple[harness.Run, dict[str, float], float]:
    """Run the load; the clock stops when the last payment's webhook has arrived."""
    before_hooks = await _webhooks(made)
    before = harness.cpu_seconds(stack)
    started = time.perf_counter()
    run = await harness.generate(made, chosen.seconds, in_flight=chosen.in_flight, rate=rate)
    while await _webhooks(made) - before_hooks < len(run.accepted):
        if time.perf_counter() - started > chosen.seconds + 180:
            break
        await asyncio.sleep(0.05)
    whole = time.perf_counter() - started
    cores = harness.core_ms(before, harness.cpu_seconds(stack), len(run.accepted))
    return run, cores, len(run.accepted) / whole


def main(arguments: Sequence[str]) -> int:
    """Both delays, one after the other, each on a stack of its own."""
    chosen = harness.options(arguments, seconds=10)
    rows: list[dict[str, Any]] = []
    code, last = 0, None
    cores: dict[str, float] = {}
    for delay in (0, 50):
        with harness.bench_stack(delay) as (stack, made):
            asyncio.run(harness.generate(made, 2, in_flight=16))
            run, cores, rate = asyncio.run(_measure(stack, made, chosen, None))
            limit = asyncio.run(harness.raw_publish_rate(stack))
            name = f"e2e.rate_{delay}ms"
            rows.append(harness.result(name, rate, "/s", limit=limit, goal=">= 1000/s"))
            audit: Audit = asyncio.run(Auditor(stack, made).run(run.accepted, seconds=120))
            harness.say(f"{name}: answers {run.statuses}, audit {audit.summary()}")
            code, last = code or bool(audit.faults), audit
    return harness.report("e2e", last, rows, cores, chosen) or code
