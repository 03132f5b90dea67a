"""Files: CSV that a spreadsheet can't be tricked by, a page at a time, and PDFs."""

import csv
import io
import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any

from fastapi.responses import Response, StreamingResponse
from mospay_shared.chassis.problems import Problem
from mospay_shared.money import MoneyError, format_minor

from mospay_ledger import papers
from mospay_ledger.papers.languages import Language

_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")
# A spreadsheet takes what starts with one of these for a formula (OWASP, CSV injection).
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
_STATUS = {"papers_busy": 503, "paper_too_large": 422, "paper_failed": 500}


def amount(minor: int, currency: str) -> str:
    """Return an exact decimal; minor units where the exponent table lacks the currency."""
    try:
        return format_minor(minor, currency)
    except MoneyError:  # booked under a code the table has lost
        return str(minor)


def cell(value: Any) -> str:
    """Return what a CSV cell holds: a text that would be a formula is quoted with an apostrophe."""
    text = "" if value is None else str(value)
    if text.startswith(_FORMULA) and not _NUMBER.fullmatch(text):
        return "'" + text
    return text


def rows_of(rows: Iterable[Sequence[Any]]) -> bytes:
    """Return CSV lines (RFC 4180) of rows."""
    out = io.StringIO()
    csv.writer(out).writerows([cell(value) for value in row] for row in rows)
    return out.getvalue().encode()


def csv_file(name: str, chunks: AsyncIterator[bytes]) -> Response:
    """Answer with a CSV file that is streamed as it is read."""
    return StreamingResponse(
        chunks, media_type="text/csv; charset=utf-8", headers=_attachment(f"{name}.csv")
    )


async def pdf_file(
    name: str, template: str, data: Mapping[str, Any], language: Language
) -> Response:
    """Answer with a PDF; raises Problem where it can't be made."""
    try:
        made = await papers.render(template, data, language)
    except papers.PaperError as error:
        headers = {"Retry-After": "3"} if error.code == "papers_busy" else {}
        raise Problem(
            _STATUS[error.code], error.code, "The paper can't be made", detail=str(error),
            headers=headers,
        ) from error  # fmt: skip
    return Response(made, media_type="application/pdf", headers=_attachment(f"{name}.pdf"))


def _attachment(name: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
