"""Events of reconciliation. They carry counts and at most 100 ids: a bad file is no flood."""

import datetime as dt

from pydantic import Field

from mospay_shared.contracts.envelope import Contract
from mospay_shared.contracts.payments import Id, Minor, Mode

SHOWN_LIMIT = 100  # ids an event names; `count` says how many there are


class ReconciliationImportFinishedV1(Contract):
    """`reconciliation.import_finished.v1`: an import of a provider's statement has ended.

    `state`: finished (its lines are in and matched), discarded, cancelled or failed (nothing of it
    is in). `lines_repeated` were there before; `lines_bad` could not be read.
    """

    import_id: Id
    microservice: str = Field(min_length=1, max_length=80)
    mode: Mode
    state: str = Field(pattern=r"^(finished|discarded|cancelled|failed)$")
    lines_accepted: Minor
    lines_matched: Minor
    lines_repeated: Minor
    lines_bad: Minor
    exceptions: Minor
    finished_at: dt.datetime


class ReconciliationExceptionsV1(Contract):
    """`reconciliation.exception_opened.v1` and `…_resolved.v1`: exceptions of one kind, together.

    `batch_id` is the import, run or exception this came from; `exception_ids` the first 100 of
    `count`. `resolution` is null where they were opened.
    """

    batch_id: Id
    microservice: str = Field(min_length=1, max_length=80)
    mode: Mode
    kind: str = Field(max_length=40)
    resolution: str | None = Field(None, max_length=40)
    count: int = Field(ge=1, le=2**63 - 1)
    exception_ids: list[Id] = Field(max_length=SHOWN_LIMIT)
    due_at: dt.datetime | None = None
    happened_at: dt.datetime
