"""A settlement's statement as CSV and on paper."""

from collections.abc import AsyncIterator
from typing import Any
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Depends
from fastapi.responses import Response
from mospay_shared.chassis.service import Service
from mospay_shared.chassis.service_tokens import Caller

from mospay_ledger.papers.languages import Language
from mospay_ledger.routes import files
from mospay_ledger.routes.common import seen_by
from mospay_ledger.routes.settlements import SettlementId, found_or_404
from mospay_ledger.settings import LedgerSettings
from mospay_ledger.storage import settlements as storage
from mospay_ledger.usecases import letter_heads

PAGE = 1000  # lines read at a time for a file
LINE_COLUMNS = (
    "number", "occurred_at", "kind", "payment_id", "refund_id", "entry_id", "gross", "fee",
    "refund", "adjustment", "net", "currency",
)  # fmt: skip
_MINORS = ("gross_minor", "fee_minor", "refund_minor", "adjustment_minor", "net_minor")


def add(routes: APIRouter, service: Service, settings: LedgerSettings) -> None:
    """Add the routes of a settlement's statement."""
    reader = service.verifier.needs("ledger:read")

    async def pages(settlement_id: str, caller: Caller) -> AsyncIterator[list[Any]]:
        after = 0
        while True:  # each page is a transaction of its own: lines never change
            async with seen_by(service, caller) as tx:
                rows = await storage.lines(tx, settlement_id, after, PAGE)
            if rows:
                yield rows
            if len(rows) < PAGE:
                return
            after = rows[-1]["number"]

    async def csv_lines(row: Any, caller: Caller) -> AsyncIterator[bytes]:
        yield files.rows_of([LINE_COLUMNS])
        currency = row["currency"]
        async for found in pages(row["id"], caller):
            yield files.rows_of(
                [
                    line["number"], line["occurred_at"].isoformat(), line["kind"],
                    line["payment_id"], line["refund_id"], line["entry_id"],
                    *(files.amount(line[name], currency) for name in _MINORS), currency,
                ]
                for line in found
            )  # fmt: skip

    @routes.get("/settlements/{settlement_id}/statement.csv", response_class=Response)
    async def statement_csv(
        settlement_id: SettlementId, caller: Caller = Depends(reader)
    ) -> Response:
        """The settlement's lines as CSV: amounts are decimals of its currency, times are UTC."""
        async with seen_by(service, caller) as tx:
            row = await found_or_404(tx, settlement_id, caller)
        return files.csv_file(f"settlement-{row['local_day']}-{row['id']}", csv_lines(row, caller))

    @routes.get("/settlements/{settlement_id}/statement.pdf", response_class=Response)
    async def statement_pdf(
        settlement_id: SettlementId, caller: Caller = Depends(reader)
    ) -> Response:
        """The settlement as a paper; its first lines, where it has more than a paper lists."""
        listed: list[Any] = []
        async with seen_by(service, caller) as tx:
            row = await found_or_404(tx, settlement_id, caller)
            client = await storage.client(tx, row["client_id"])
            listed = await storage.lines(tx, settlement_id, 0, settings.paper_lines)
        async with service.database.transaction() as tx:  # the operator's own, whoever asks
            head, language = await letter_heads.of_operator(tx, row["mode"], settings)
        data = paper_of(row, client, listed, language)
        name = f"settlement-{row['local_day']}-{row['id']}"
        return await files.pdf_file(name, "settlement", {"issuer": head, **data}, language)


def paper_of(row: Any, client: Any, lines: list[Any], language: Language) -> dict[str, Any]:
    """Return what the paper of a settlement shows, every amount a text."""
    currency, zone = row["currency"], ZoneInfo(row["time_zone"])
    say, amount = language.say, language.amount
    day, reserve_due = language.day(row["local_day"]), row["reserve_due_at"]
    available = row["net_minor"] - row["reserve_minor"]
    sums = (
        ("payments", row["gross_minor"]),
        ("fees", -row["fee_minor"]),
        ("refunds", row["refund_minor"]),
        ("adjustments", row["adjustment_minor"]),
    )
    listed = {
        "shown": language.number(str(len(lines))),
        "all": language.number(str(row["line_count"])),
    }
    return {
        "client": {"name": (client and client["name"]) or row["client_id"], "id": row["client_id"]},
        "id": row["id"],
        "day": day if row["part"] == 1 else say("settlement.part", day=day, part=row["part"]),
        "mode": row["mode"],
        "currency": currency,
        "time_zone": row["time_zone"],
        "settled_at": language.minute(row["settled_at"].astimezone(zone)),
        "reversed": say("settlement.reversed", entry=row["reversed_by"])
        if row["reversed_by"]
        else None,
        "sums": [
            *([say(f"settlement.{name}"), amount(minor, currency)] for name, minor in sums),
            [say("settlement.net", currency=currency), amount(row["net_minor"], currency)],
        ],
        "reserve": say(
            "settlement.reserve",
            reserve=amount(row["reserve_minor"], currency),
            day=language.day(reserve_due.astimezone(zone)),
            available=amount(available, currency),
        )
        if row["reserve_minor"]
        else None,
        "lines": [_line(line, currency, zone, language) for line in lines],
        "more": say("settlement.more", **listed) if len(lines) < row["line_count"] else None,
    }


def _line(line: Any, currency: str, zone: ZoneInfo, language: Language) -> list[str]:
    minors = (
        line["gross_minor"],
        -line["fee_minor"],
        line["refund_minor"] + line["adjustment_minor"],
        line["net_minor"],
    )
    return [
        language.minute(line["occurred_at"].astimezone(zone)),
        language.known("kinds", line["kind"]),
        line["refund_id"] or line["payment_id"] or line["entry_id"],
        *(language.amount(minor, currency) for minor in minors),
    ]
