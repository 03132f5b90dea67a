"""Batching without a wait: while one batch runs, the next one fills (kernel, rule 7)."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Batcher(Generic[T, R]):
    """Gathers single submissions into calls of `run(items) -> results`, in order.

    `limit` items a call, `runners` calls at once; `linger_seconds` makes a batch wait to fill and
    belongs off the payer's path only.
    """

    def __init__(
        self,
        run: Callable[[Sequence[T]], Awaitable[Sequence[R]]],
        *,
        limit: int,
        runners: int = 1,
        linger_seconds: float = 0.0,
        capacity: int = 20_000,
    ) -> None:
        self._run, self._limit, self._linger = run, limit, linger_seconds
        self._waiting: asyncio.Queue[tuple[T, asyncio.Future[R]]] = asyncio.Queue(capacity)
        self._tasks = [asyncio.create_task(self._loop()) for _ in range(runners)]

    async def submit(self, item: T) -> R:
        """Add one item and wait for its result; an error of the batch is raised here.

        Who stops waiting changes nothing: the batch goes on.
        """
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        await self._waiting.put((item, future))
        return await future

    async def close(self) -> None:
        """Finish what was submitted, then stop."""
        await self._waiting.join()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _gather(self) -> list[tuple[T, asyncio.Future[R]]]:
        batch = [await self._waiting.get()]
        if self._linger and self._waiting.qsize() < self._limit - 1:
            await asyncio.sleep(self._linger)
        while len(batch) < self._limit and not self._waiting.empty():
            batch.append(self._waiting.get_nowait())
        return batch

    async def _loop(self) -> None:
        while True:
            batch = await self._gather()
            try:
                results = await self._run([item for item, _ in batch])
            except Exception as error:
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
            else:
                for (_, future), result in zip(batch, results, strict=True):
                    if not future.done():
                        future.set_result(result)
            finally:
                for _ in batch:
                    self._waiting.task_done()
