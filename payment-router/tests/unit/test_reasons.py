"""Reason codes: every code the router makes has advice, and the document is the table."""

import re
from pathlib import Path

from mospay_payment_router.domain.reasons import REASONS, advice, document

ROUTER = Path(__file__).resolve().parents[2]
# Reasons why a payment is not known yet: no advice but to wait, which its state says.
OF_THE_UNKNOWN = {
    "output_without_outcome", "not_found_unproven", "not_found_yet", "not_found", "enquiry_failed",
    "reference_mismatch", "contradictory_answer", "amount_missing", "amount_unreadable",
    "unknown_outcome", "response_function_failed", "settling_failed", "router_restored",
    "no_enquiry", "left_pending",
}  # fmt: skip


def test_every_code_the_router_makes_has_advice() -> None:
    made = set()
    for path in (ROUTER / "src").rglob("*.py"):
        text = path.read_text()
        made |= set(re.findall(r"(?:refused|undefined)\(\s*\"([a-z0-9_]+)\"", text))
        made |= set(re.findall(r"Evidence\.[A-Z_]+, [a-z_]+, \"([a-z0-9_]+)\"", text, re.I))
    assert len(made) > 15
    assert made - OF_THE_UNKNOWN <= set(REASONS), made - OF_THE_UNKNOWN - set(REASONS)


def test_advice_is_short_and_says_who_acts() -> None:
    for reason in REASONS.values():
        assert reason.actor in ("payer", "merchant", "operator", "provider")
        assert reason.words.endswith(".") and len(reason.words) <= 80
    assert advice("nobody_knows") is None


def test_the_committed_document_is_the_table() -> None:
    assert (ROUTER / "docs/reason-codes.md").read_text() == document()
