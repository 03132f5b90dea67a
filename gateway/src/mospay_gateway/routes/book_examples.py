"""What the document shows of the reads of the books; the rest is in `examples.py`."""

from typing import Any

from mospay_gateway.routes.examples import AUTH, PAYMENT_ID, Operation

_TAIL, _AT = PAYMENT_ID.partition("_")[2], "2026-01-31T09:30:00.123456Z"
_ENTRY_ID, _SETTLEMENT_ID, _PAYOUT_ID = f"ent_{_TAIL}", f"set_{_TAIL}", f"po_{_TAIL}"
_INVOICE_ID, _CUSTOMER_ID, _CLIENT_ID = f"inv_{_TAIL}", f"cus_{_TAIL}", f"cli_{_TAIL}"
_READ = (*AUTH, "books_unavailable", "too_many_at_once")
_LIST = (*_READ, "invalid_request")
_ONE = (*_READ, "not_found")
_PDF = {"application/pdf": "%PDF-1.7 …"}

_HOLDINGS = {
    "pending_minor": 24500, "available_minor": 118400, "held_minor": 2170, "debt_minor": 0,
    "balance_minor": 145070,
}  # fmt: skip
_ENTRY = {
    "id": _ENTRY_ID, "kind": "capture", "mode": "live", "currency": "RWF", "amount_minor": 25000,
    "fee_minor": 500, "fee_returned_minor": 0, "late": False, "payment_id": PAYMENT_ID,
    "refund_id": None, "provider_reference": "1873629017", "reverses": None, "occurred_at": _AT,
    "posted_at": _AT, "postings": [
        {"account": f"client:{_CLIENT_ID}:RWF:live:pending", "amount_minor": -24500,
         "previous_minor": 0, "balance_minor": -24500}],
}  # fmt: skip
_STATEMENT = {
    "mode": "live", "currency": "RWF", "first_day": "2026-01-01", "last_day": "2026-01-31",
    "time_zone": "Africa/Kigali",
    "opening": {**_HOLDINGS, "pending_minor": 0, "balance_minor": 120570}, "closing": _HOLDINGS,
    "items": [
        {"entry_id": _ENTRY_ID, "posted_at": _AT, "kind": "capture", "payment_id": PAYMENT_ID,
         "refund_id": None, "reference": PAYMENT_ID, "amount_minor": 25000, "pending_minor": 24500,
         "available_minor": 0, "held_minor": 0, "debt_minor": 0, "change_minor": 24500,
         "balance_minor": 145070}],
    "next_cursor": None,
}  # fmt: skip
_SUMS = {
    "gross_minor": 25000, "fee_minor": 500, "refund_minor": 0, "adjustment_minor": 0,
    "net_minor": 24500,
}  # fmt: skip
_SETTLEMENT = {
    "id": _SETTLEMENT_ID, "mode": "live", "currency": "RWF", "local_day": "2026-01-31", "part": 1,
    "time_zone": "Africa/Kigali", "cut_off_at": "2026-01-31T22:00:00Z", "entry_id": _ENTRY_ID,
    "line_count": 1, **_SUMS, "reserve_minor": 0, "reserve_due_at": None,
    "reserve_released_at": None, "settled_at": "2026-01-31T22:05:00Z",
}  # fmt: skip
_LINE = {
    "number": 1, "entry_id": _ENTRY_ID, "kind": "capture", "payment_id": PAYMENT_ID,
    "refund_id": None, "occurred_at": _AT, **_SUMS,
}  # fmt: skip
_PAYOUT = {
    "id": _PAYOUT_ID, "mode": "live", "currency": "RWF", "amount_minor": 24500,
    "destination": "Bank of Kigali …4410", "status": "paid", "version": 3, "reference": "bank-77",
    "reason": None, "created_at": _AT, "changed_at": _AT,
}  # fmt: skip
_STEPS = [
    {"version": 1, "status": "created", "reason": None, "reference": None,
     "entry_id": _ENTRY_ID, "at": _AT},
    {"version": 2, "status": "approved", "reason": None, "reference": None, "entry_id": None,
     "at": _AT},
    {"version": 3, "status": "paid", "reason": None, "reference": "bank-77",
     "entry_id": f"ent_{_TAIL[::-1]}", "at": _AT},
]  # fmt: skip
_EXCEPTION = {
    "id": f"exc_{_TAIL}", "kind": "amount_differs", "microservice": "mtnmomorwa", "mode": "live",
    "currency": "RWF", "stated_minor": 24000, "expected_currency": None, "expected_minor": 25000,
    "payment_id": PAYMENT_ID, "refund_id": None, "entry_id": _ENTRY_ID, "state": "open",
    "occurred_at": _AT, "opened_at": "2026-02-01T02:00:00Z", "resolved_at": None,
}  # fmt: skip
_INVOICE = {
    "id": _INVOICE_ID, "issuer_id": f"iss_{_TAIL}", "mode": "live", "customer_id": _CUSTOMER_ID,
    "customer_name": "Amélie Uwase", "number": "INV-2026-000042", "status": "part_paid",
    "currency": "RWF", "total_minor": 3983, "tax_minor": 608, "discount_minor": 375,
    "paid_minor": 1000, "credited_minor": 500, "open_minor": 2483, "allow_partial": True,
    "locked_by": None, "due_on": "2026-02-14", "issued_on": "2026-01-31", "issued_at": _AT,
    "voided_at": None, "void_reason": None, "notes": None, "reference": "PO-4", "version": 4,
    "created_at": _AT, "updated_at": _AT,
}  # fmt: skip
_INVOICE_PARTS: dict[str, Any] = {
    "lines": [
        {"line": 1, "description": "School books", "quantity": "2.5", "unit_price_minor": 1500,
         "discount_bps": 1000, "discount_minor": 375, "tax_rate_bps": 1800, "tax_inclusive": False,
         "service_id": None, "net_minor": 3375, "tax_minor": 608, "total_minor": 3983}],
    "payments": [
        {"payment_id": PAYMENT_ID, "source": "payment", "amount_minor": 1000,
         "applied_minor": 1000, "at": _AT}],
    "credit_notes": [
        {"id": f"crn_{_TAIL}", "invoice_id": _INVOICE_ID, "number": "CRN-2026-000003",
         "currency": "RWF", "total_minor": 500, "tax_minor": 76, "applied_minor": 500,
         "reason": "Two books came back", "issued_on": "2026-01-31", "issued_at": _AT}],
}  # fmt: skip
_CUSTOMER = {
    "id": _CUSTOMER_ID, "mode": "live", "client_ref": "C-17", "name": "Amélie Uwase",
    "email": "amelie@example.org", "phone": "+250788123456", "address": None, "tax_id": None,
    "locale": "en", "active": True, "version": 1, "created_at": _AT, "updated_at": _AT,
}  # fmt: skip


def _page(item: dict[str, Any], cursor: Any = None) -> Operation:
    return Operation({200: {"items": [item], "next_cursor": cursor}}, _LIST)


BOOKS: dict[str, Operation] = {
    "GET /v1/balances": Operation(
        {200: {"as_of": _AT, "items": [{"currency": "RWF", **_HOLDINGS, "refund_due_minor": 0}]}},
        _LIST),
    "GET /v1/journal-entries": _page(_ENTRY, _ENTRY_ID),
    "GET /v1/journal-entries/{entry_id}": Operation({200: {**_ENTRY, "reversed_by": None}}, _ONE),
    "GET /v1/statements": Operation(
        {200: _STATEMENT}, (*_LIST, "statement_too_long", "paper_too_large"),
        files={"text/csv": "posted_at,kind,reference,entry_id,pending,…", **_PDF}),
    "GET /v1/settlements": _page(_SETTLEMENT),
    "GET /v1/settlements/{settlement_id}": Operation(
        {200: {**_SETTLEMENT, "reversed_by": None}}, _ONE),
    "GET /v1/settlements/{settlement_id}/lines": Operation(
        {200: {"items": [_LINE], "next_cursor": None}}, (*_LIST, "not_found")),
    "GET /v1/settlements/{settlement_id}/statement": Operation(
        {200: _PDF["application/pdf"]}, (*_LIST, "not_found", "paper_too_large"),
        media="application/pdf", schema="string",
        files={"text/csv": "number,occurred_at,kind,payment_id,…"}),
    "GET /v1/payouts": _page(_PAYOUT),
    "GET /v1/payouts/{payout_id}": Operation({200: {**_PAYOUT, "steps": _STEPS}}, _ONE),
    "GET /v1/reconciliation-exceptions": _page(_EXCEPTION),
    "GET /v1/invoices": _page(_INVOICE, _INVOICE_ID),
    "GET /v1/invoices/{invoice_id}.pdf": Operation(
        {200: _PDF["application/pdf"]}, (*_ONE, "paper_too_large"), media="application/pdf",
        schema="string"),
    "GET /v1/invoices/{invoice_id}": Operation({200: {**_INVOICE, **_INVOICE_PARTS}}, _ONE),
    "GET /v1/customers": _page(_CUSTOMER),
}  # fmt: skip
