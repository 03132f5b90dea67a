"""What the routes of provider functions share: who may see a mapping, refusals as problems."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Path
from mospay_shared.chassis.database import Tx
from mospay_shared.chassis.problems import FieldProblem, Problem, ProblemBody
from mospay_shared.chassis.service import Service
from mospay_shared.chassis.service_tokens import Caller
from pydantic import AfterValidator

from mospay_payment_router.domain.errors import NoSuchFunction, SourceRefused, VersionRefused
from mospay_payment_router.domain.functions import Key
from mospay_payment_router.storage import versions as store
from mospay_payment_router.storage.functions import Mapping
from mospay_payment_router.usecases.catalogue import Catalogue
from mospay_payment_router.usecases.trials import Trials
from mospay_payment_router.usecases.versions import Limits


def _no_nul(text: str) -> str:
    if "\x00" in text:
        raise ValueError("holds a NUL character")
    return text


Text = Annotated[str, AfterValidator(_no_nul)]
Name = Annotated[str, Path(pattern=r"^[A-Za-z0-9_]{1,63}$", description="of a function")]
Part = Annotated[str, Path(pattern=r"^[A-Za-z0-9_]{1,40}$")]
Number = Annotated[int, Path(ge=1, le=1_000_000, description="the version")]
PROBLEMS: dict[int | str, dict[str, Any]] = {
    code: {"model": ProblemBody, "description": words}
    for code, words in (
        (404, "There is no such function, version or mapping, or not for this caller"),
        (409, "The version can't take this step now; `code` says why"),
        (422, "Faults, each with its field"),
    )
}
MISSING = Problem(404, "not_found", "There is no such function or version")


@dataclass(frozen=True)
class Desk:
    """What the routes work with."""

    service: Service
    catalogue: Catalogue
    trials: Trials
    limits: Limits

    @asynccontextmanager
    async def seen_by(self, caller: Caller) -> AsyncIterator[Tx]:
        """A read under the caller's tenant: row-level security decides what is there."""
        async with self.service.database.request(
            client_id=caller.client_id or "", mode=caller.mode or "", operator=caller.operator
        ) as tx:
            yield tx

    async def mapping(self, caller: Caller, name: str) -> Mapping:
        """Return the mapping of a function the caller may see; raises Problem 404."""
        async with self.seen_by(caller) as tx:
            found = await store.mapping_by_name(tx, name)
        if found is None:
            raise MISSING
        return found

    async def mapping_of(self, caller: Caller, key: Key) -> Mapping:
        """Return the mapping of a key the caller may see; raises Problem 404."""
        async with self.seen_by(caller) as tx:
            found = await store.mapping_by_key(tx, key)
        if found is None:
            raise MISSING
        return found

    @asynccontextmanager
    async def changing(self, *, field: str = "source") -> AsyncIterator[Tx]:
        """A change as the worker role; refusals become problems, `field` is the one to blame."""
        with_problems = refusals(field=field)
        async with with_problems, self.service.database.transaction() as tx:
            yield tx
            tx.after_commit(self.catalogue.worker.wake)


@asynccontextmanager
async def refusals(*, field: str) -> AsyncIterator[None]:
    """Turn what the rules refuse into problems."""
    try:
        yield
    except NoSuchFunction as error:
        raise MISSING from error
    except VersionRefused as error:
        text = str(error)
        raise Problem(409, error.code, text[:1].upper() + text[1:]) from error
    except SourceRefused as error:
        fault = FieldProblem(field=field, code=error.code, message=str(error))
        title = "The request is not valid"
        raise Problem(422, "invalid_request", title, errors=[fault]) from error


def actor(caller: Caller) -> str:
    """Return who acts, for the record."""
    return caller.actor or caller.issuer
