"""Instants and days as callers write them: RFC 3339 text, never a number that may mean anything."""

import datetime as dt
import re
from typing import Annotated, Any

from pydantic import AwareDatetime, BeforeValidator, Field
from pydantic_core import PydanticCustomError

_RFC3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?"
    r"([Zz]|[+-][0-9]{2}:[0-9]{2})?",
    re.ASCII,
)

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)


def _rfc3339(value: Any) -> Any:
    if value is not None and not (isinstance(value, str) and _RFC3339.fullmatch(value)):
        raise PydanticCustomError("invalid_time", "must be a time such as 2026-01-31T09:30:00Z")
    return value


Instant = Annotated[AwareDatetime, Field(strict=False), BeforeValidator(_rfc3339)]


def _full_date(value: Any) -> Any:
    if value is not None and not (isinstance(value, str) and _DAY.fullmatch(value)):
        raise PydanticCustomError("invalid_day", "must be a day such as 2026-01-31")
    return value


Day = Annotated[dt.date, Field(strict=False), BeforeValidator(_full_date)]
