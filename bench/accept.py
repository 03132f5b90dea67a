"""`accept`: POST with an API key; 202 after the commit, beside raw confirmed publishes."""

import asyncio
import time
from collections.abc import Sequence

import harness
from mospay_dev.audit import Audit, Auditor
from mospay_dev.demo.seed import Seed
from mospay_dev.stack import Stack

OTHERS = ("payment-router", "ledger", "notifier", "reporter", "portal-api")


async def _measure(
    stack: Stack, made: Seed, chosen: harness.Options
) -> tuple[harness.Run, harness.Run, dict[str, float], float]:
    """Warm up, measure the closed loop, then the open loop at half its rate."""
    await harness.generate(made, 2, in_flight=chosen.in_flight)
    before = harness.cpu_seconds(stack)
    closed = await harness.generate(made, chosen.seconds, in_flight=chosen.in_flight)
    after = harness.cpu_seconds(stack)
    cores = harness.core_ms(before, after, len(closed.accepted))
    rate = len(closed.accepted) / closed.seconds
    half = await harness.generate(made, chosen.seconds, in_flight=chosen.in_flight, rate=rate / 2)
    limit = await harness.raw_publish_rate(stack)
    return closed, half, cores, limit


def main(arguments: Sequence[str]) -> int:
    """Run with the other services stopped, so that the gateway and its stores are measured."""
    chosen = harness.options(arguments, seconds=10)
    with harness.bench_stack() as (stack, made):
        for name in OTHERS:
            stack.processes[name].stop(30)
        closed, half, cores, limit = asyncio.run(_measure(stack, made, chosen))
        harness.say("starting the other services again: every accepted payment must end")
        stack.start()
        started = time.monotonic()
        audit: Audit = asyncio.run(
            Auditor(stack, made).run([*closed.accepted, *half.accepted], seconds=240)
        )
        harness.say(f"audited in {time.monotonic() - started:.0f} s; answers {closed.statuses}")
        rate = len(closed.accepted) / closed.seconds
        rows = [
            harness.result("accept.rate", rate, "/s", limit=limit, goal=">= 2000/s, one worker"),
            harness.result("accept.p50_half_ms", half.quantile(0.5), "ms"),
            harness.result("accept.p99_half_ms", half.quantile(0.99), "ms", goal="<= 25"),
        ]
    return harness.report("accept", audit, rows, cores, chosen)
