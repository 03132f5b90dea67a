"""A settlement's statement as CSV and on paper."""

from collections.abc import AsyncIterator
from typing import Any
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Depends
from fastapi.responses import Response
from mospay_shared.chassis.service import Service
from mospay_shared.chassis.service_tokens import Caller

from mospay_ledger.routes import files
from mospay_ledger.routes.common import seen_by
from mospay_ledger.routes.settlements import SettlementId, found_or_404
from mospay_ledger.settings import LedgerSettings
from mospay_ledger.storage import settlements as storage

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
        data = paper_of(row, client, listed, settings)
        name = f"settlement-{row['local_day']}-{row['id']}"
        return await files.pdf_file(name, "settlement", data)


def paper_of(row: Any, client: Any, lines: list[Any], settings: LedgerSettings) -> dict[str, Any]:
    """Return what the paper of a settlement shows, every amount a text."""
    currency, zone = row["currency"], ZoneInfo(row["time_zone"])

    def money(name: str, of: Any = row) -> str:
        return files.amount(of[name], currency)

    return {
        "issuer": files.issuer_of(settings),
        "client": {"name": (client and client["name"]) or row["client_id"], "id": row["client_id"]},
        "id": row["id"],
        "day": row["local_day"].isoformat(),
        "part": row["part"],
        "mode": row["mode"],
        "currency": currency,
        "time_zone": row["time_zone"],
        "settled_at": f"{row['settled_at'].astimezone(zone):%Y-%m-%d %H:%M}",
        "reversed": row["reversed_by"],
        "line_count": row["line_count"],
        "sums": [
            ["Payments", money("gross_minor")],
            ["Fees", files.amount(-row["fee_minor"], currency)],
            ["Refunds", money("refund_minor")],
            ["Chargebacks and corrections", money("adjustment_minor")],
            [f"Settled ({currency})", money("net_minor")],
        ],
        "reserve": money("reserve_minor") if row["reserve_minor"] else None,
        "reserve_due": row["reserve_due_at"]
        and f"{row['reserve_due_at'].astimezone(zone):%Y-%m-%d}",
        "available": files.amount(row["net_minor"] - row["reserve_minor"], currency),
        "lines": [
            [
                f"{line['occurred_at'].astimezone(zone):%Y-%m-%d %H:%M}",
                files.KIND_WORDS.get(line["kind"], line["kind"]),
                line["refund_id"] or line["payment_id"] or line["entry_id"],
                money("gross_minor", line), files.amount(-line["fee_minor"], currency),
                files.amount(line["refund_minor"] + line["adjustment_minor"], currency),
                money("net_minor", line),
            ]
            for line in lines
        ],
    }  # fmt: skip
