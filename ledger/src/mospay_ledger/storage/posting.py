"""Writing the journal: locks in id order, facts under the locks, one statement a batch."""

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Sequence
from operator import attrgetter

import asyncpg
from mospay_shared.chassis.database import Tx

from mospay_ledger.domain import (
    Account,
    AlreadyReversed,
    AmountTooLarge,
    Captured,
    Entry,
    Facts,
    Given,
    NotStorable,
    VoidEffect,
)

EPOCH = dt.datetime.fromtimestamp(0, dt.UTC)
_OPEN_ACCOUNTS = """
insert into accounts (id, kind, client_id, currency, mode)
select * from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[])
    as u(id, kind, client_id, currency, mode)
where not exists (select 1 from accounts a where a.id = u.id) order by id
on conflict do nothing"""
# The same, and then the locks by a statement of its own: one round trip (migration 0010).
_HOLD_ACCOUNTS = "select hold_accounts($1, $2, $3, $4, $5)"
# A statement of its own, after the locks: what the last holder opened is seen too. One look by
# index for each key, whatever the planner believed when the journal was small.
_BALANCES_AND_EFFECTS = """
select 'balance' as what, id as key, balance_minor as minor,
    greatest(last_posted_at, '1970-01-01Z') as posted_at from accounts where id = any($1::text[])
union all
select 'effect', u.key, null, null from unnest($2::text[]) as u(key)
    cross join lateral (select 1 from journal_entries where effect_key = u.key limit 1) e
union all
select 'known', u.key, null, null from unnest($3::text[]) as u(key)
    cross join lateral (select 1 from journal_entries where payment_id = u.key limit 1) e"""
_EFFECTS_OF_REFUNDS = """
select effect_key from journal_entries where effect_key = any($1::text[])
union all select effect_key from void_effects where effect_key = any($1::text[])"""
_CAPTURES = """
select e.payment_id, e.client_id, e.mode, e.currency, e.amount_minor, e.fee_minor,
    coalesce(p.fee_on_refund, 'keep') as fee_on_refund, r.kind as reversed
from journal_entries e
left join fee_plans p on (p.id, p.version) = (e.fee_plan_id, e.fee_plan_version)
left join journal_entries r on r.reverses = e.id
where e.payment_id = any($1::text[]) and e.kind = 'capture'"""
_GIVEN = """
select e.payment_id, sum(case when e.kind = 'capture' then 0 else e.fee_base_minor end) as base,
    sum(e.fee_returned_minor) as fee
from journal_entries e
where e.payment_id = any($1::text[]) and e.kind in ('capture', 'refund', 'over_refund')
    and not exists (select from journal_entries r where r.reverses = e.id)
group by e.payment_id"""
_DUE = """
select e.payment_id, -sum(p.amount_minor) as due
from journal_entries e join postings p on p.entry_id = e.id
join accounts a on a.id = p.account_id and a.kind = 'refund_due'
where e.payment_id = any($1::text[]) group by e.payment_id"""
_RESERVED = """
select e.refund_id, a.kind, p.amount_minor
from journal_entries e join postings p on p.entry_id = e.id join accounts a on a.id = p.account_id
where e.refund_id = any($1::text[]) and e.kind = 'refund_reserved' and a.kind <> 'reserve'
    and not exists (select from journal_entries d where d.refund_id = e.refund_id
        and d.kind in ('refund_released', 'refund', 'over_refund'))"""
# Entries, postings with their running balances, and accounts in one statement: the database's own
# checks run at its end, over everything it wrote.
_WRITE_SHAPE = """
with entries as (
    insert into journal_entries (id, kind, effect_key, payment_id, attempt_id, refund_id,
        service_id, provider_reference, reverses, reason, client_id, mode, currency, amount_minor,
        fee_minor, fee_plan_id, fee_plan_version, fee_tier, fee_returned_minor, fee_base_minor,
        postings_count, late, resolved, accepted_at, occurred_at, posted_at)
    select u.*, $26::timestamptz from unnest({entry_columns},
        $24::timestamptz[], $25::timestamptz[]) as u),
sides as materialized (
    select u.entry_id, u.line, a.id as account_id, u.amount_minor, a.client_id, a.currency, a.mode,
        (a.balance_minor + sum(u.amount_minor) over seen)::bigint as balance_minor,
        a.version + row_number() over seen as version,
        lead(u.n) over seen is null as newest
    from unnest({side_columns})
        with ordinality as u(entry_id, line, account_id, amount_minor, n)
    join accounts a on a.id = u.account_id
    window seen as (partition by a.id order by u.n rows unbounded preceding)),
written as (
    insert into postings (entry_id, line, account_id, client_id, currency, mode, amount_minor,
        previous_minor, balance_minor, account_version, posted_at, closing)
    select entry_id, line, account_id, client_id, currency, mode, amount_minor,
        balance_minor - amount_minor, balance_minor, version, $26::timestamptz, newest
    from sides)
update accounts set balance_minor = s.balance_minor, version = s.version,
    last_posted_at = $26::timestamptz
from sides s where accounts.id = s.account_id and s.newest"""
# A column travels as one text, not as an array: the driver looks at each element of an array for
# longer than PostgreSQL takes to split a text (a third of a posting's cost in this process).
_BETWEEN, _NULL = "\x1f", "\x1e"


def _columns(first: int, types: str) -> str:
    return ", ".join(
        f"string_to_array(${number}::text, E'\\x1f', E'\\x1e')::{type_name}[]"
        for number, type_name in enumerate(types.split(), first)
    )


_WRITE = _WRITE_SHAPE.format(
    entry_columns=_columns(
        1,
        "text text text text text text text text text text text text text bigint bigint text int "
        "smallint bigint bigint smallint bool bool",
    ),
    side_columns=_columns(27, "text smallint text bigint"),
)


def _packed(values: Sequence[object]) -> str:
    """Return a column as one text, an empty text as null; nothing where all are null.

    UNNEST fills a column that is too short with nulls. Raises NotStorable where a value holds a
    separator: columns would shift.
    """
    try:
        packed = _BETWEEN.join(values)  # type: ignore[arg-type] # most columns: texts alone
    except TypeError:
        packed = ""
    empty = 0
    if not packed or _BETWEEN * 2 in packed or _BETWEEN in (packed[0], packed[-1]):
        empty = values.count(None) + values.count("")
        if empty == len(values):
            return ""
        packed = _BETWEEN.join(
            [_NULL if value is None or value == "" else str(value) for value in values]
        )
    if packed.count(_BETWEEN) != len(values) - 1 or packed.count(_NULL) != empty:
        raise NotStorable("a text contains a control character")
    return packed


_VOID = """
insert into void_effects (effect_key, client_id, mode, payment_id, refund_id)
select * from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[])"""


def _account_columns(accounts: Sequence[Account]) -> tuple[list[str | None], ...]:
    """Return the columns of each account once, in id order."""
    by_id = {account.id: account for account in accounts}
    wanted = [by_id[key] for key in sorted(by_id)]
    return (
        [a.id for a in wanted],
        [a.kind for a in wanted],
        [a.client_id for a in wanted],
        [a.currency for a in wanted],
        [a.mode for a in wanted],
    )


async def open_accounts(tx: Tx, accounts: Sequence[Account]) -> None:
    """Open the accounts that do not exist yet; raises NotStorable when one can't be named."""
    try:
        await tx.run(_OPEN_ACCOUNTS, *_account_columns(accounts))
    except asyncpg.CharacterNotInRepertoireError as error:
        raise NotStorable("an account's name contains a NUL character") from error


async def open_and_lock(tx: Tx, accounts: Sequence[Account]) -> dt.datetime:
    """Open and lock accounts in id order until the commit; return when the newest was posted to.

    Raises NotStorable when an account can't be named.
    """
    if not accounts:
        return EPOCH
    try:
        newest: dt.datetime = await tx.value(_HOLD_ACCOUNTS, *_account_columns(accounts))
    except asyncpg.CharacterNotInRepertoireError as error:
        raise NotStorable("an account's name contains a NUL character") from error
    return newest


async def read_facts(
    tx: Tx, *, accounts: Sequence[str], effects: Sequence[str], payments: Sequence[str]
) -> tuple[Facts, dt.datetime]:
    """Return what is booked about payments, and when the newest of `accounts` was posted to.

    The locks must be held. Raises NotStorable when an id is one the database can't look for.
    """
    facts, newest = Facts(), EPOCH
    known: set[str] = set()
    try:
        rows = await tx.fetch(_BALANCES_AND_EFFECTS, accounts, effects, payments)
    except asyncpg.CharacterNotInRepertoireError as error:
        raise NotStorable("an id contains a NUL character") from error
    for row in rows:
        if row["what"] == "balance":
            facts.balances[row["key"]] = row["minor"]
            newest = max(newest, row["posted_at"])
        elif row["what"] == "effect":
            facts.effects.add(row["key"])
        else:
            known.add(row["key"])
    if known:
        await _read_captures(tx, facts, sorted(known))
    return facts, newest


async def _read_captures(tx: Tx, facts: Facts, payments: Sequence[str]) -> None:
    for row in await tx.fetch(_CAPTURES, payments):
        facts.captures[row["payment_id"]] = Captured(
            row["client_id"],
            row["mode"],
            row["currency"],
            row["amount_minor"],
            0 if row["reversed"] == "reversal" else row["fee_minor"],
            row["fee_on_refund"] == "keep" or row["reversed"] is not None,
        )
    for row in await tx.fetch(_GIVEN, payments):
        facts.given[row["payment_id"]] = Given(int(row["base"]), int(row["fee"]))


async def read_refunds(
    tx: Tx, facts: Facts, *, refunds: Sequence[str], effects: Sequence[str], payments: Sequence[str]
) -> None:
    """Add what is booked of refunds to `facts`: their effects, reservations, what is due."""
    try:
        rows = await tx.fetch(_EFFECTS_OF_REFUNDS, effects)
        facts.effects |= {row["effect_key"] for row in rows}
        for row in await tx.fetch(_RESERVED, refunds):
            facts.reservations.setdefault(row["refund_id"], {})[row["kind"]] = row["amount_minor"]
        await read_due(tx, facts, payments)
    except asyncpg.CharacterNotInRepertoireError as error:
        raise NotStorable("an id contains a NUL character") from error


async def read_due(tx: Tx, facts: Facts, payments: Sequence[str]) -> None:
    """Add what is left on `refund_due` of payments to `facts`."""
    facts.due += Counter(
        {row["payment_id"]: int(row["due"]) for row in await tx.fetch(_DUE, payments)}
    )


# The columns of an entry in the statement's order, around those of its fee.
_BEFORE_FEE = attrgetter(
    "id", "kind", "effect_key", "payment_id", "attempt_id", "refund_id", "service_id",
    "provider_reference", "reverses", "reason", "client_id", "mode", "currency", "amount_minor",
    "fee_minor",
)  # fmt: skip
_OF_FEE = attrgetter("plan_id", "plan_version", "tier")
_AFTER_FEE = attrgetter("fee_returned_minor", "fee_base_minor")
_LAST = attrgetter("late", "resolved")
_NO_FEE = (None, None, None)


def _columns_of(rows: Iterable[tuple[object, ...]]) -> list[str]:
    return [_packed(column) for column in zip(*rows, strict=True)]


async def write_entries(tx: Tx, entries: Sequence[Entry], posted_at: dt.datetime) -> None:
    """Write balanced entries with their postings and move the balances of their accounts.

    Shared accounts must be locked in this transaction, a client's by its `pending`. Raises
    AmountTooLarge when a balance would leave 64 bits, AlreadyReversed for a second reversal.
    """
    sides = [
        (e.id, line, side.account.id, side.amount_minor)
        for e in entries
        for line, side in enumerate(e.postings, 1)
    ]
    try:
        await tx.run(
            _WRITE,
            *_columns_of(map(_BEFORE_FEE, entries)),
            *_columns_of(_OF_FEE(e.fee) if e.fee else _NO_FEE for e in entries),
            *_columns_of(map(_AFTER_FEE, entries)),
            _packed([len(e.postings) for e in entries]),
            *_columns_of(map(_LAST, entries)),
            [e.accepted_at for e in entries],
            [e.occurred_at for e in entries],
            posted_at,
            *_columns_of(sides),
        )
    except asyncpg.NumericValueOutOfRangeError as error:
        raise AmountTooLarge("an account's balance would not fit 64 bits") from error
    except asyncpg.CharacterNotInRepertoireError as error:
        raise NotStorable("a text contains a NUL character") from error
    except asyncpg.UniqueViolationError as error:
        if error.constraint_name == "journal_entries_reverses":
            raise AlreadyReversed("it was reversed before") from error
        raise


async def write_voids(tx: Tx, voids: Sequence[VoidEffect]) -> None:
    """Remember effects that moved nothing."""
    await tx.run(
        _VOID,
        [v.effect_key for v in voids],
        [v.client_id for v in voids],
        [v.mode for v in voids],
        [v.payment_id for v in voids],
        [v.refund_id for v in voids],
    )
