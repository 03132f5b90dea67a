"""Statement lines against the books: what matches, what is an exception, what adds up."""

import datetime as dt
from collections import Counter
from typing import Any

import pytest
from mospay_ledger.storage import exceptions as stored_exceptions
from mospay_ledger.storage import matching as store
from mospay_ledger.usecases import importing, matching, posting
from mospay_shared.chassis.service import Service
from mospay_shared.ids import new_id

from .conftest import event, refund
from .reconciling_desk import (
    LIMITS,
    RULES,
    T0,
    balance,
    book,
    exceptions,
    line,
    resolve,
    rows,
    run,
    states,
    take,
    told,
    unbalanced,
    upload,
    work,
)


async def test_lines_match_by_reference_by_our_id_and_by_amount_and_time(
    quiet: Service, provider: str
) -> None:
    one, two, three, four = await book(quiet, provider, 4)
    near = (four.occurred_at + dt.timedelta(minutes=30)).isoformat()
    lonely = await book(quiet, provider, amount_minor=777, provider_reference=None)
    done = await take(
        quiet,
        provider,
        [
            line(one),
            line(two, reference="", ours=two.attempt_id),
            line(three, reference="", ours=three.payment_id),
            line(four, at=near),
            line(lonely[0], reference="new-ref", at=near.replace("+00:00", "Z")),
        ],
    )
    assert (done["state"], done["lines_accepted"], done["fault"]) == ("finished", 5, None)
    found = await rows(
        quiet,
        "select line_no, matched_by from statement_lines where import_id = $1 order by 1",
        done["id"],
    )
    assert [row["matched_by"] for row in found] == ["reference"] * 4 + ["amount"]
    assert await exceptions(quiet, provider) == []
    (finished,) = await told(quiet, "reconciliation.import_finished.v1", provider)
    assert (finished["state"], finished["lines_matched"]) == ("finished", 5)


async def test_refunds_and_second_captures_have_lines_of_their_own(
    quiet: Service, provider: str
) -> None:
    (body,) = await book(quiet, provider)
    back = refund(body, 500, "succeeded", provider_reference="back-1")
    again = body.model_copy(update={"attempt_id": new_id("att"), "version": 4})
    async with quiet.database.transaction() as tx:
        await posting.post_events(tx, quiet.relay, [event(back), event(again)])
    # Both captures carry one reference of ours: each line takes one of them.
    both = line(body, reference="", ours=body.payment_id)
    await take(
        quiet, provider, [both, both, line(body, reference="back-1", kind="refund", amount=-500)]
    )
    assert await states(quiet, provider) == {"matched": 3}


async def test_each_kind_of_exception_is_found(quiet: Service, provider: str) -> None:
    fine, less, other, gone = await book(quiet, provider, 4)
    (late,) = await book(quiet, provider, occurred_at=T0 + dt.timedelta(minutes=2))
    lines = [
        line(fine),
        line(fine, at=(T0 + dt.timedelta(minutes=3)).isoformat()),  # told twice
        line(less, amount=less.amount_minor - 100),
        line(other, currency="USD", amount="15.00"),
        line(reference="unknown", amount=9999, fee=25, at=(T0 + dt.timedelta(hours=5)).isoformat()),
        line(kind="fee", reference="f1", amount=-40),
        line(kind="payout", reference="p1", amount=-1000),
        line(late),
    ]
    done = await take(quiet, provider, lines)
    await run(quiet, provider, T0 + dt.timedelta(days=3))
    found = {row["kind"]: row for row in await exceptions(quiet, provider)}
    assert set(found) == {
        "duplicate", "amount_differs", "currency_differs", "missing_here", "missing_there",
        "provider_fee",
    }  # fmt: skip
    assert found["missing_there"]["payment_id"] == gone.payment_id
    assert {kind: row["delta_minor"] for kind, row in found.items()} == {
        "duplicate": 1500,
        "amount_differs": -100,
        "currency_differs": 1500,
        "missing_here": 9999,
        "missing_there": -1500,
        "provider_fee": -65,
    }
    assert await states(quiet, provider) == {
        "matched": 2, "duplicate": 1, "amount_differs": 1, "currency_differs": 1,
        "missing_here": 1, "noted": 2,
    }  # fmt: skip
    opened = await told(quiet, "reconciliation.exception_opened.v1", provider)
    assert Counter({b["kind"]: b["count"] for b in opened}) == dict.fromkeys(found, 1)
    assert done["lines_accepted"] == len(lines)


async def test_nothing_is_missing_there_before_its_grace_or_outside_what_is_covered(
    quiet: Service, provider: str
) -> None:
    inside, _, after = await book(quiet, provider, 3)
    usd = await book(quiet, provider, currency="USD")
    until = after.occurred_at - dt.timedelta(seconds=1)
    lines = [line(inside)]
    await take(quiet, provider, lines, covers_from=T0, covers_until=until)
    await run(quiet, provider, T0 + dt.timedelta(hours=23))
    assert await exceptions(quiet, provider) == []
    await run(quiet, provider, T0 + dt.timedelta(days=9))
    found = await exceptions(quiet, provider)
    assert [row["kind"] for row in found] == ["missing_there"]
    assert usd[0].payment_id not in {row["payment_id"] for row in found}


async def test_two_that_fit_are_never_guessed(quiet: Service, provider: str) -> None:
    await book(quiet, provider, 2, amount_minor=4242, provider_reference=None)
    await book(quiet, provider, 1, amount_minor=999, provider_reference="ours-1")
    await take(quiet, provider, [
        line(reference="x1", amount=4242), line(reference="other", amount=999),
    ])  # fmt: skip
    assert await states(quiet, provider) == {"missing_here": 2}


async def test_a_reversed_capture_is_waited_for_no_more(quiet: Service, provider: str) -> None:
    one, two = await book(quiet, provider, 2)
    (entry,) = await rows(
        quiet, "select id from journal_entries where payment_id = $1", two.payment_id
    )
    await take(quiet, provider, [line(one)], covers_from=T0, covers_until=T0 + dt.timedelta(days=1))
    await run(quiet, provider, T0 + dt.timedelta(days=5))
    (missing,) = await exceptions(quiet, provider)
    assert (missing["kind"], missing["state"]) == ("missing_there", "open")
    async with quiet.database.transaction() as tx:
        await posting.reverse(
            tx, quiet.relay, entry["id"], keep_fee=False, reason="never came", by=("a", "b")
        )
    await run(quiet, provider, T0 + dt.timedelta(days=5))
    (missing,) = await exceptions(quiet, provider)
    assert (missing["state"], missing["resolution"]) == ("resolved", "matched")


async def test_a_matcher_killed_between_batches_is_followed_by_one_that_ends_the_same(
    quiet: Service, provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies = await book(quiet, provider, 25)
    lines = [line(body) for body in bodies] + [line(reference="z", amount=8)]
    await upload(quiet, provider, lines)
    while await importing.work_off(quiet.database, quiet.relay, LIMITS):
        pass
    # a lease that is over at once
    quick = matching.Rules(10, 0.0, RULES.window, RULES.grace, nightly_hour=24)
    for name in ("match", "differing", "missing_here", "missing_there", "finish"):

        async def dies(*_: Any, **__: Any) -> None:
            raise RuntimeError("killed")

        async def nothing(*_: Any) -> None:
            """A dead process releases no lease."""

        with monkeypatch.context() as patched:
            patched.setattr(matching.Run, name, dies)
            patched.setattr(store, "release", nothing)
            with pytest.raises(RuntimeError, match="killed"):
                await matching.work_off(quiet.database, quiet.relay, quick)
    await work(quiet)
    assert await states(quiet, provider) == {"matched": 25, "missing_here": 1}
    assert [row["kind"] for row in await exceptions(quiet, provider)] == ["missing_here"]


async def test_a_match_that_comes_late_closes_the_exception_and_takes_its_posting_back(
    quiet: Service, provider: str
) -> None:
    reference, open_one = new_id("r"), new_id("r")
    await take(quiet, provider, [
        line(reference=reference, amount=5000), line(reference=open_one, amount=6000),
    ])  # fmt: skip
    first, _ = await exceptions(quiet, provider)
    await resolve(quiet, first["id"], "suspense_in")
    held = await balance(quiet, "operator:RWF:test:suspense")
    for amount, name in ((5000, reference), (6000, open_one)):
        await book(quiet, provider, amount_minor=amount, provider_reference=name, late=True)
    for _ in range(2):  # the second finds nothing to do
        await run(quiet, provider)
    assert await states(quiet, provider) == {"matched": 2}
    found = await exceptions(quiet, provider)
    assert [(row["state"], row["resolution"]) for row in found] == [
        ("resolved", "suspense_in"), ("resolved", "matched"),
    ]  # fmt: skip
    assert await balance(quiet, f"provider:{provider}:RWF:test:clearing") == 11000
    assert await balance(quiet, "operator:RWF:test:suspense") == held + 5000
    assert await unbalanced(quiet) == []


async def test_the_report_adds_up_to_the_unit_on_both_sides(quiet: Service, provider: str) -> None:
    bodies = await book(quiet, provider, 6)
    await take(quiet, provider, [
        *(line(body) for body in bodies[:3]),
        line(bodies[0], at=(T0 + dt.timedelta(hours=1)).isoformat()),
        line(bodies[3], amount=1), line(reference="z", amount=70),
    ], covers_from=T0, covers_until=T0 + dt.timedelta(minutes=4, seconds=30))  # fmt: skip
    await run(quiet, provider, T0 + dt.timedelta(days=4))
    (missing,) = [row for row in await exceptions(quiet, provider) if row["kind"] == "missing_here"]
    await resolve(quiet, missing["id"], "suspense_in")
    await run(quiet, provider)
    async with quiet.database.transaction() as tx:
        now = dt.datetime.now(dt.UTC) + dt.timedelta(days=400)
        (one,) = await stored_exceptions.report(tx, provider, "test", T0 - dt.timedelta(1), now)
    assert one["stated_minor"] == 4500 + 1500 + 1 + 70 == (
        one["matched_minor"] + one["differs_stated_minor"] + one["missing_here_minor"]
        + one["duplicate_minor"] + one["not_matched_yet_minor"]
    )  # fmt: skip
    assert one["expected_minor"] == 9000 == (
        one["matched_minor"] + one["differs_expected_minor"] + one["missing_there_minor"]
        + one["not_covered_minor"]
    )  # fmt: skip
    assert (one["missing_there_minor"], one["not_covered_minor"]) == (1500, 1500)
    assert one["books_minor"] == one["expected_minor"] + one["adjusted_minor"]
    clearing = await balance(quiet, f"provider:{provider}:RWF:test:clearing")
    assert one["books_minor"] == clearing == 9070


async def test_the_nightly_match_runs_once_a_day_and_finds_what_is_missing(
    quiet: Service, provider: str
) -> None:
    one, _ = await book(quiet, provider, 2)
    await take(quiet, provider, [line(one)], covers_from=T0, covers_until=T0 + dt.timedelta(days=1))
    nightly = matching.Rules(10, 5, RULES.window, dt.timedelta(0), nightly_hour=0)
    await run(quiet, provider, T0)
    async with quiet.database.transaction() as tx:
        await tx.run("update reconciliation_streams set nightly_on = null")
    turns = 0
    while await matching.work_off(quiet.database, quiet.relay, nightly):
        turns += 1
    assert turns >= 1
    (stream,) = await rows(
        quiet, "select nightly_on from reconciliation_streams where microservice = $1", provider
    )
    assert stream["nightly_on"] == dt.datetime.now(dt.UTC).date()
    assert [row["kind"] for row in await exceptions(quiet, provider)] == ["missing_there"]
