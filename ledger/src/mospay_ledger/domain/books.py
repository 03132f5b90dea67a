"""What each event posts, given what the books hold: the posting templates (docs/ledger.md).

`Books` is the working copy of one transaction: it starts from the facts read under the locks and
follows every entry it makes, so the events of a batch see each other.
"""

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mospay_shared.contracts import PaymentEventV1, PaymentStatus, RefundEventV1, RefundStatus
from mospay_shared.ids import new_id

from mospay_ledger.domain.accounts import (
    ClientBooks,
    clearing,
    fees,
    refunds,
    suspense,
)
from mospay_ledger.domain.entries import (
    Entry,
    Posting,
    VoidEffect,
    capture_key,
    check_reversible,
    merged,
    refund_key,
)
from mospay_ledger.domain.errors import (
    FeePlanMissing,
    ForeignRefund,
    NotEnough,
)
from mospay_ledger.domain.events import books_of
from mospay_ledger.domain.fees import FeePlan, share
from mospay_ledger.domain.movements import Movement

# What an amount is taken from, in this order; a client's debt is the last resort.
SOURCES = ("available", "pending")
Outcome = Entry | VoidEffect | None


@dataclass(frozen=True, slots=True)
class Captured:
    """A payment's capture as booked; `keeps_fee` says whether a refund leaves the fee with us."""

    client_id: str
    mode: str
    currency: str
    amount_minor: int
    fee_minor: int
    keeps_fee: bool


@dataclass(slots=True)
class Given:
    """What of a payment was given back: `base_minor` borne by the client, with what fee."""

    base_minor: int = 0
    fee_minor: int = 0


@dataclass(slots=True)
class Facts:
    """What the books hold about a batch, read under its locks. Balances by account id."""

    balances: Counter[str] = field(default_factory=Counter)
    effects: set[str] = field(default_factory=set)
    captures: dict[str, Captured] = field(default_factory=dict)
    due: Counter[str] = field(default_factory=Counter)  # by payment, what refund_due holds
    given: dict[str, Given] = field(default_factory=dict)  # by payment
    reservations: dict[str, dict[str, int]] = field(default_factory=dict)  # refund → source → minor


class Books:
    """Turns events into entries. Not reusable: one transaction, one copy."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts

    def payment(self, body: PaymentEventV1, plan: FeePlan | None) -> Entry | None:
        """Return the entry of proven money, None when it is booked; raises FeePlanMissing."""
        key = capture_key(body)
        if key in self.facts.effects:
            return None  # another event, or another version of it, told of this effect before
        if body.payment_id in self.facts.captures:
            return self._done(self._second_capture(body, key))
        if plan is None:
            raise FeePlanMissing(f"none was in force for {body.payment_id} at its acceptance")
        return self._done(self._capture(body, key, plan))

    def refund(self, body: RefundEventV1) -> Outcome:
        """Return what a refund's news post: reserve, give back, release, or nothing any more.

        Raises ForeignRefund when the news contradict what is booked.
        """
        known = self.facts.captures.get(body.payment_id)
        books = (body.client_id, body.mode, body.currency)
        if known is not None and books != (known.client_id, known.mode, known.currency):
            raise ForeignRefund(f"{body.refund_id} is not of its payment's client and currency")
        held = self.facts.reservations.get(body.refund_id)
        if held is not None and sum(held.values()) != body.amount_minor:
            raise ForeignRefund(f"{body.refund_id} was reserved with another amount")
        ended = refund_key(body.refund_id, "refund") in self.facts.effects
        if ended:
            return None
        if body.status is RefundStatus.SUCCEEDED:
            return self._done(self._give_back(body, held))
        released = refund_key(body.refund_id, "released")
        if released in self.facts.effects:
            return None
        if body.status is RefundStatus.FAILED:
            if held is None:
                self.facts.effects.add(released)
                return VoidEffect(
                    released, body.client_id, body.mode, body.payment_id, body.refund_id
                )
            return self._done(self._release(body, held))
        if held is not None:
            return None
        return self._done(self._reserve(body))

    def move(self, movement: Movement) -> Entry | None:
        """Return the entry of a settlement or payout; raises NotEnough."""
        if movement.effect_key in self.facts.effects:
            return None
        books = ClientBooks(movement.client_id, movement.currency, movement.mode)
        source, target = movement.source, movement.target
        held = -self.facts.balances[source.id]
        if source.client_id is not None and held < movement.amount_minor:
            raise NotEnough(f"{source.id} holds {held}")
        sides = [Posting(source, movement.amount_minor)]
        self._follow(sides)
        if target is None:
            sides += self._credit(books, movement.amount_minor, available=movement.amount_minor)
        else:
            sides.append(Posting(target, -movement.amount_minor))
            self._follow(sides[1:])
        return self._done(
            Entry(
                id=new_id("ent"),
                kind=movement.kind,
                effect_key=movement.effect_key,
                client_id=movement.client_id,
                mode=movement.mode,
                currency=movement.currency,
                amount_minor=movement.amount_minor,
                postings=merged(sides),
                occurred_at=movement.occurred_at,
                reason=movement.reason,
            )
        )

    def reverse(self, entry: Entry, *, keep_fee: bool, reason: str, at: dt.datetime) -> Entry:
        """Return the entry that takes another one back; what a client spent becomes its debt.

        With `keep_fee` (a chargeback) the operator keeps the fee and the client bears it. Raises
        NotReversible.
        """
        check_reversible(entry, keep_fee=keep_fee)
        if entry.kind == "settlement":
            self._check_settled(entry)
            sides = [Posting(side.account, -side.amount_minor) for side in entry.postings]
            self._follow(sides)
        else:
            sides = self._taken_back(entry, keep_fee)
        kind = "chargeback" if keep_fee else "reversal"
        return self._done(
            Entry(
                id=new_id("ent"),
                kind=kind,
                effect_key=f"{entry.id}:reversed",
                client_id=entry.client_id,
                mode=entry.mode,
                currency=entry.currency,
                amount_minor=entry.amount_minor,
                postings=merged(sides),
                occurred_at=at,
                payment_id=entry.payment_id,
                attempt_id=entry.attempt_id,
                refund_id=entry.refund_id,
                service_id=entry.service_id,
                reverses=entry.id,
                reason=reason,
            )
        )

    def _taken_back(self, entry: Entry, keep_fee: bool) -> list[Posting]:
        """Return the sides that undo an entry; what they leave open is the client's to settle."""
        books = ClientBooks(entry.client_id, entry.currency, entry.mode)
        left = ("fees", "refunds") if keep_fee else ("refunds",) if entry.kind == "capture" else ()
        sides = [
            Posting(side.account, -side.amount_minor)
            for side in entry.postings
            if side.account.client_id is None and side.account.kind not in left
        ]
        payment = entry.payment_id or ""
        due = 0
        if entry.kind == "second_capture":  # what was given back of it already is not there
            due = min(entry.amount_minor, max(0, self.facts.due[payment]))
        elif entry.kind in ("refund", "over_refund"):
            excess = sum(s.amount_minor for s in entry.postings if s.account.kind == "suspense")
            due = -(entry.amount_minor - excess - entry.fee_base_minor)
        elif not keep_fee and (given := self.facts.given.get(payment)):
            # The fee goes back once: with the capture, not with its refunds as well.
            sides.append(Posting(refunds(entry.currency, entry.mode), -given.fee_minor))
        sides.append(Posting(books.account("refund_due"), due))
        self.facts.due[payment] -= due
        self._follow(sides)
        owed = -sum(side.amount_minor for side in sides)
        return sides + (self._take(books, owed) if owed > 0 else self._credit(books, -owed))

    def _check_settled(self, entry: Entry) -> None:
        for side in entry.postings:
            held = -self.facts.balances[side.account.id]
            if side.account.kind == "available" and held < -side.amount_minor:
                raise NotEnough(f"{side.account.id} holds {held}")

    def _capture(self, body: PaymentEventV1, key: str, plan: FeePlan) -> Entry:
        fee = plan.result(body.amount_minor)
        books, currency, mode = books_of(body), body.currency, body.mode
        keeps = plan.fee_on_refund == "keep"
        self.facts.captures[body.payment_id] = Captured(
            body.client_id, mode, currency, body.amount_minor, fee.minor, keeps
        )
        # A refund may be told of before its capture; its share of the fee goes back now.
        back = self._fee_back(body.payment_id, 0)
        sides = [
            Posting(clearing(body.microservice, currency, mode), body.amount_minor),
            *self._credit(books, body.amount_minor - fee.minor + back),
            Posting(fees(currency, mode), -fee.minor),
            Posting(refunds(currency, mode), back),
        ]
        return self._of_payment(
            body, "capture", key, merged(sides), fee=fee, fee_returned_minor=back
        )

    def _second_capture(self, body: PaymentEventV1, key: str) -> Entry:
        owed = books_of(body).account("refund_due")
        self.facts.due[body.payment_id] += body.amount_minor
        sides = (
            Posting(clearing(body.microservice, body.currency, body.mode), body.amount_minor),
            Posting(owed, -body.amount_minor),
        )
        return self._of_payment(body, "second_capture", key, sides)

    def _reserve(self, body: RefundEventV1) -> Entry:
        due = min(body.amount_minor, max(0, self.facts.due[body.payment_id]))
        self.facts.due[body.payment_id] -= due
        books = books_of(body)
        taken = [
            Posting(books.account("refund_due"), due),
            *self._take(books, body.amount_minor - due),
        ]
        self.facts.reservations[body.refund_id] = {
            side.account.kind: side.amount_minor for side in taken if side.amount_minor
        }
        sides = [*taken, Posting(books.account("reserve"), -body.amount_minor)]
        return self._of_refund(body, "refund_reserved", "reserved", merged(sides))

    def _release(self, body: RefundEventV1, held: Mapping[str, int]) -> Entry:
        books = books_of(body)
        due = held.get("refund_due", 0)
        self.facts.due[body.payment_id] += due
        del self.facts.reservations[body.refund_id]
        sides = [
            Posting(books.account("reserve"), body.amount_minor),
            Posting(books.account("refund_due"), -due),
            *self._credit(books, body.amount_minor - due, available=held.get("available", 0)),
        ]
        return self._of_refund(body, "refund_released", "released", merged(sides))

    def _give_back(self, body: RefundEventV1, held: Mapping[str, int] | None) -> Entry:
        """Book proven money to the payer; what no capture covers is not the client's to bear."""
        books, amount = books_of(body), body.amount_minor
        excess = 0
        if body.over_refund:
            excess = min(amount, max(0, body.refunded_minor - body.payment_amount_minor)) or amount
        sides = [
            Posting(clearing(body.microservice, body.currency, body.mode), -amount),
            Posting(suspense(body.currency, body.mode), excess),
        ]
        if held is None:
            due = min(amount - excess, max(0, self.facts.due[body.payment_id]))
            self.facts.due[body.payment_id] -= due
            sides.append(Posting(books.account("refund_due"), due))
            sides += self._take(books, amount - excess - due)
        else:
            del self.facts.reservations[body.refund_id]
            due = held.get("refund_due", 0)
            to_client = min(excess, amount - due)
            self.facts.due[body.payment_id] += excess - to_client
            due -= excess - to_client
            sides += [
                Posting(books.account("reserve"), amount),
                Posting(books.account("refund_due"), to_client - excess),
                *self._credit(books, to_client, available=held.get("available", 0)),
            ]
        base = amount - excess - due
        back = self._fee_back(body.payment_id, base)
        sides += [Posting(refunds(body.currency, body.mode), back), *self._credit(books, back)]
        return self._of_refund(
            body,
            "over_refund" if excess else "refund",
            "refund",
            merged(sides),
            fee_returned_minor=back,
            fee_base_minor=base,
        )

    def _fee_back(self, payment_id: str, base: int) -> int:
        """Return what of a payment's fee goes back after `base` more was given back.

        Counted from the sum of all refunds, so that rounding never adds up: a payment that was
        given back whole gets its whole fee back.
        """
        given = self.facts.given.setdefault(payment_id, Given())
        given.base_minor += base
        known = self.facts.captures.get(payment_id)
        if known is None or known.keeps_fee:
            return 0
        whole = share(
            known.fee_minor, min(given.base_minor, known.amount_minor), known.amount_minor
        )
        back = max(0, whole - given.fee_minor)
        given.fee_minor += back
        return back

    def _take(self, books: ClientBooks, amount: int) -> list[Posting]:
        """Take an amount from what the client has; what is lacking becomes its debt."""
        sides = []
        for kind in SOURCES:
            account = books.account(kind)
            part = min(amount, max(0, -self.facts.balances[account.id]))
            sides.append(Posting(account, part))
            amount -= part
        sides.append(Posting(books.account("receivable"), amount))
        self._follow(sides)
        return sides

    def _credit(self, books: ClientBooks, amount: int, *, available: int = 0) -> list[Posting]:
        """Give a client an amount: first its debt, then up to `available` there, else pending."""
        debt = books.account("receivable")
        recovered = min(amount, max(0, self.facts.balances[debt.id]))
        amount -= recovered
        ready = min(amount, available)
        sides = [
            Posting(debt, -recovered),
            Posting(books.account("available"), -ready),
            Posting(books.account("pending"), ready - amount),
        ]
        self._follow(sides)
        return sides

    def _follow(self, sides: Iterable[Posting]) -> None:
        for side in sides:
            if side.amount_minor and side.account.client_id is not None:
                self.facts.balances[side.account.id] += side.amount_minor

    def _done(self, entry: Entry) -> Entry:
        self.facts.effects.add(entry.effect_key)
        return entry

    def _of_payment(
        self,
        body: PaymentEventV1,
        kind: str,
        key: str,
        sides: tuple[Posting, ...],
        **more: object,
    ) -> Entry:
        return Entry(
            id=new_id("ent"),
            kind=kind,
            effect_key=key,
            client_id=body.client_id,
            mode=body.mode,
            currency=body.currency,
            amount_minor=body.amount_minor,
            postings=sides,
            occurred_at=body.occurred_at,
            payment_id=body.payment_id,
            attempt_id=body.attempt_id,
            service_id=body.service_id,
            provider_reference=body.provider_reference,
            reason=body.reason_code,
            late=body.late,
            resolved=body.previous_status is PaymentStatus.CONFLICTED,
            accepted_at=body.accepted_at,
            **more,  # type: ignore[arg-type]
        )

    def _of_refund(
        self, body: RefundEventV1, kind: str, what: str, sides: tuple[Posting, ...], **more: int
    ) -> Entry:
        return Entry(
            id=new_id("ent"),
            kind=kind,
            effect_key=refund_key(body.refund_id, what),
            client_id=body.client_id,
            mode=body.mode,
            currency=body.currency,
            amount_minor=body.amount_minor,
            postings=sides,
            occurred_at=body.occurred_at,
            payment_id=body.payment_id,
            refund_id=body.refund_id,
            service_id=body.service_id,
            provider_reference=body.provider_reference,
            reason=body.reason_code,
            late=body.late,
            resolved=body.resolved,
            accepted_at=body.payment_accepted_at,
            **more,  # type: ignore[arg-type]
        )
