"""Functions in memory: what a payment is taken under is never half old and half new."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
from mospay_payment_router.domain.payments import Terms
from mospay_payment_router.storage import functions
from mospay_payment_router.usecases.catalogue import Catalogue
from mospay_shared.contracts import ProcessPaymentV1

from .conftest import Answering, Stage
from .desk import Desk, call_source, name_of

LOOK = functions.look


@pytest.fixture
def desk(stage: Stage) -> Desk:
    """The operator's person."""
    return Desk(stage, {})


@pytest.fixture
def catalogue(stage: Stage) -> Catalogue:
    """A second memory of the router's functions, read when a test says so and never else."""
    return Catalogue(stage.service.database, stage.wiring.replica, (), 1.0, 0.0)


@asynccontextmanager
async def half_read(catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Stand still before the last thing a catalogue reads, and let it go on afterwards."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def held(*arguments: Any) -> functions.Look:
        if asyncio.current_task() is reading:
            begun.set()
            await go_on.wait()
        return await LOOK(*arguments)

    monkeypatch.setattr(functions, "look", held)
    reading = asyncio.create_task(catalogue.open())
    await asyncio.wait({reading, asyncio.create_task(begun.wait())}, return_when="FIRST_COMPLETED")
    assert begun.is_set(), "it was read without a look at schema fx"
    yield
    go_on.set()
    await reading


def terms(catalogue: Catalogue, command: ProcessPaymentV1) -> Terms:
    """The terms a payment gets now."""
    found = catalogue.terms(command)
    assert isinstance(found, Terms), found
    return found


async def test_payment_that_comes_while_functions_are_read_waits_for_all_of_them(
    stage: Stage, provider: Answering, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Taken half-way, it was pinned without refund functions: never to be refunded."""
    merchant = await stage.merchant(provider.url)
    command = stage.command(merchant)
    async with half_read(catalogue, monkeypatch):
        assert not catalogue.known(command)
    assert terms(catalogue, command).refund == name_of(merchant, "Refund")


async def test_version_that_memory_names_is_the_one_payments_get_at_every_moment(
    stage: Stage,
    provider: Answering,
    desk: Desk,
    catalogue: Catalogue,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    merchant = await stage.merchant(provider.url)
    name, command = name_of(merchant), stage.command(merchant)

    def versions() -> tuple[int, int]:
        return catalogue.functions.version(name), terms(catalogue, command).function_version

    await desk.make_live(name, call_source(name, f"{provider.url}/v2"))
    await catalogue.open()
    assert versions() == (2, 2)
    assert (await desk.ask("POST", f"/functions/{name}/roll-back", {})).status_code == 200
    async with half_read(catalogue, monkeypatch):
        assert versions() == (2, 2)
    assert versions() == (1, 1)


async def test_change_whose_reading_was_cut_off_holds_after_the_next(
    stage: Stage,
    provider: Answering,
    desk: Desk,
    catalogue: Catalogue,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Remembered but not acted upon, it was no change any more: the old version went on serving."""
    merchant = await stage.merchant(provider.url)
    name, command = name_of(merchant), stage.command(merchant)
    await desk.make_live(name, call_source(name, f"{provider.url}/v2"))
    await catalogue.open()
    assert terms(catalogue, command).function_version == 2
    assert (await desk.ask("POST", f"/functions/{name}/roll-back", {})).status_code == 200

    async def cut(*_: Any) -> functions.Look:
        raise asyncpg.ConnectionDoesNotExistError("cut")

    monkeypatch.setattr(functions, "look", cut)
    with pytest.raises(asyncpg.ConnectionDoesNotExistError):
        await catalogue.open()
    monkeypatch.setattr(functions, "look", LOOK)
    await catalogue.open()
    assert terms(catalogue, command).function_version == 1
