"""The batcher gathers without waiting and keeps each submitter's answer its own."""

import asyncio
from collections.abc import Sequence

import pytest
from mospay_shared.chassis.batcher import Batcher


async def test_what_arrives_while_a_batch_runs_goes_together() -> None:
    sizes: list[int] = []
    gate = asyncio.Event()

    async def run(items: Sequence[int]) -> list[int]:
        sizes.append(len(items))
        await gate.wait()
        return [i * 2 for i in items]

    batcher = Batcher(run, limit=100)
    tasks = [asyncio.create_task(batcher.submit(0))]
    while not sizes:
        await asyncio.sleep(0)
    tasks += [asyncio.create_task(batcher.submit(i)) for i in range(1, 31)]
    await asyncio.sleep(0)
    gate.set()
    assert await asyncio.gather(*tasks) == [i * 2 for i in range(31)]
    assert sizes == [1, 30]
    await batcher.close()


async def test_error_of_a_batch_reaches_its_submitters_and_the_next_batch_runs() -> None:
    async def run(items: Sequence[int]) -> list[int]:
        if -1 in items:
            raise ValueError("bad")
        return list(items)

    batcher = Batcher(run, limit=1)
    with pytest.raises(ValueError, match="bad"):
        await batcher.submit(-1)
    assert await batcher.submit(5) == 5
    await batcher.close()


async def test_who_stops_waiting_changes_nothing_for_the_others() -> None:
    done: list[int] = []
    gate = asyncio.Event()

    async def run(items: Sequence[int]) -> list[int]:
        await gate.wait()
        done.extend(items)
        return list(items)

    batcher = Batcher(run, limit=10)
    leaver = asyncio.create_task(batcher.submit(1))
    stayer = asyncio.create_task(batcher.submit(2))
    await asyncio.sleep(0)
    leaver.cancel()
    gate.set()
    assert await stayer == 2
    assert sorted(done) == [1, 2]
    await batcher.close()


async def test_a_batch_that_lingers_takes_what_comes_meanwhile_and_a_full_one_goes_at_once() -> (
    None
):
    sizes: list[int] = []

    async def run(items: Sequence[int]) -> list[int]:
        sizes.append(len(items))
        return list(items)

    lingering = Batcher(run, limit=10, linger_seconds=0.05)
    first = asyncio.create_task(lingering.submit(1))
    await asyncio.sleep(0)
    await asyncio.gather(first, lingering.submit(2), lingering.submit(3))
    assert sizes == [3]
    await lingering.close()

    patient = Batcher(run, limit=2, linger_seconds=3600)
    assert await asyncio.gather(patient.submit(4), patient.submit(5)) == [4, 5]
    await patient.close()
