"""A worker's turns: at once after a pause, apart while there is work."""

import asyncio
import contextlib
import itertools

from mospay_shared.chassis.workers import Worker


async def _starts(worker: Worker, starts: list[float], wanted: int) -> None:
    running = asyncio.create_task(worker.run())
    async with asyncio.timeout(20):
        while len(starts) < wanted:
            await asyncio.sleep(0.001)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def test_turns_that_find_work_begin_a_pace_apart() -> None:
    loop = asyncio.get_running_loop()
    starts: list[float] = []

    async def turn() -> int:
        starts.append(loop.time())
        return 1

    await _starts(Worker("paced", turn, pace_seconds=0.03), starts, 4)
    assert all(b - a >= 0.029 for a, b in itertools.pairwise(starts))


async def test_who_wakes_an_idle_worker_is_served_before_the_next_poll() -> None:
    starts: list[float] = []

    async def turn() -> int:
        starts.append(0.0)
        return 0

    worker = Worker("idle", turn, idle_seconds=3600, pace_seconds=0.03)
    waking = asyncio.create_task(_starts(worker, starts, 2))
    while not starts:
        await asyncio.sleep(0.001)
    worker.wake()
    await waking
    assert len(starts) == 2
