"""Risk before the first attempt: facts gathered in bounded time, a verdict, its record."""

import asyncio
import datetime as dt
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import structlog
from mospay_shared.chassis.database import Tx
from mospay_shared.chassis.outbox import Relay
from mospay_shared.contracts import Outgoing, ProcessPaymentV1, RiskAssessedV1, outgoing
from mospay_shared.contracts.payments import RiskReasonV1
from prometheus_client import Counter, Histogram

from mospay_payment_router.domain.payments import SOURCE, Payment
from mospay_payment_router.domain.risk import (
    Decision,
    Facts,
    History,
    Policy,
    Span,
    Subject,
    Verdict,
    Window,
    assess,
    severest,
    span,
)
from mospay_payment_router.storage import risk as store
from mospay_payment_router.storage.risk import Answers, Count, Counters, Questions, Sum
from mospay_payment_router.usecases.risk_history import Histories
from mospay_payment_router.usecases.risk_rules import Digests, Policies

log = structlog.get_logger()
GRAINS = {1: b"m", 60: b"h"}  # ends the key of a count
NOBODY = History()
DECIDED = Counter("mospay_router_risk", "Payments by what risk decided", ["decision"])
DEFAULTED = Counter("mospay_router_risk_defaults", "Payments risk had no answer for", ["why"])
SECONDS = Histogram(
    "mospay_router_risk_seconds",
    "What an assessment of a batch took",
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1),
)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A command that something is asked of, with the keys under which its past is found."""

    command: ProcessPaymentV1
    policy: Policy
    subject: Subject
    windows: tuple[tuple[tuple[str, int], bytes, Span], ...]
    payer: tuple[bytes, str] | None
    client: tuple[str, str, str] | None


_Earlier = dict[bytes, list[tuple[int, str, int]]]  # bucket, currency and amount by key


def _together(
    before: Window, added: Sequence[tuple[int, str, int]], spans: Span, *, money: bool
) -> Window:
    """Return what was read of a window with what this batch adds to it so far."""
    inside = [entry for entry in added if spans.since <= entry[0] <= spans.upto]
    if not money:
        return Window(before.payments + len(inside))
    amounts = dict(before.amounts)
    for _, currency, amount in inside:
        amounts[currency] = amounts.get(currency, 0) + amount
    return Window(before.payments + len(inside), amounts)


class Risk:
    """Assesses batches of commands. `seconds` bounds it, `default` is for when it can't answer."""

    def __init__(
        self,
        policies: Policies,
        counters: Counters,
        digests: Digests,
        history: Histories,
        relay: Relay,
        seconds: float,
        default: Decision,
    ) -> None:
        self._policies, self._counters, self._digests = policies, counters, digests
        self._history, self._relay = history, relay
        self._seconds, self._default = seconds, default
        self._late: set[asyncio.Task[Answers]] = set()
        self._mending: asyncio.Task[None] | None = None

    async def assess(self, commands: Sequence[ProcessPaymentV1]) -> dict[str, Verdict]:
        """Return verdicts by payment id; a payment that nothing is asked of has none: allowed.

        Never raises, never takes longer than its time: lists and limits of amount are at hand, and
        for what had to be looked up the configured default applies and says so.
        """
        started = time.perf_counter()
        asked = []
        for command in commands:
            policy = self._policies.of(command.client_id, command.mode)
            if not policy.empty:
                asked.append(self._ask(command, policy))
        if not asked:
            return {}
        version, why, answers = self._policies.version, None, Answers()
        try:
            answers = await self._gather(asked)
        except TimeoutError:
            log.warning("risk_timed_out", payments=len(asked))
            why = "timeout"
        except Exception:
            log.exception("risk_failed")
            why = "error"
        verdicts = self._judge(asked, answers) if why is None else self._without_facts(asked, why)
        took = time.perf_counter() - started
        SECONDS.observe(took)
        return {
            a.command.payment_id: replace(v, rules_version=version, took_ms=round(took * 1000, 3))
            for a, v in zip(asked, verdicts, strict=True)
        }

    def _ask(self, command: ProcessPaymentV1, policy: Policy) -> _Asked:
        client, mode, digests = command.client_id, command.mode, self._digests
        listed = {}
        if policy.lists:
            named = {"phone": command.phone, "device": command.device}
            listed = {kind: digests.listed(kind, value) for kind, value in named.items() if value}
        subject = Subject(
            payment_id=command.payment_id,
            client_id=client,
            mode=mode,
            amount_minor=command.amount_minor,
            currency=command.currency,
            digests=listed,
            ip=command.ip,
            customer_id=command.customer_id,
        )
        minute = int(command.accepted_at.timestamp()) // 60
        values = {
            "phone": command.phone, "device": command.device, "ip": command.ip, "client": client,
        }  # fmt: skip
        windows = []
        for scope, lengths in policy.windows.items():
            if value := values[scope]:
                digest = digests.counted(client, mode, scope, value)
                for minutes in lengths:
                    spans = span(minute, minutes)
                    windows.append(((scope, minutes), digest + GRAINS[spans.grain], spans))
        payer = None
        if policy.asks_payer:
            whom = (command.phone, command.customer_id)
            payer = self._history.payer(client, mode, whom, command.currency)
        own = (client, mode, command.currency) if policy.asks_client else None
        return _Asked(command, policy, subject, tuple(windows), payer, own)

    async def _gather(self, asked: Sequence[_Asked]) -> Answers:
        """Count the batch and look its past up; raises TimeoutError when that takes too long."""
        questions = self._questions(asked)
        if not questions:
            return self._with_clients(asked, Answers())
        task = asyncio.create_task(self._counters.gather(questions))
        try:
            done, _ = await asyncio.wait({task}, timeout=self._seconds)
            if not done:
                await asyncio.sleep(0)  # an answer that lies there already is no late one
        finally:
            if not task.done():
                self._abandon(task)
        if not task.done():
            raise TimeoutError
        answers = task.result()
        for own in questions.clients:
            self._history.remember(own, answers.clients.get(own, History()))
        return self._with_clients(asked, answers)

    def _with_clients(self, asked: Sequence[_Asked], answers: Answers) -> Answers:
        owns = {a.client for a in asked if a.client is not None}
        return replace(answers, clients={own: self._history.of_client(own) for own in owns})

    def _abandon(self, task: asyncio.Task[Answers]) -> None:
        """Cancel without waiting: a database that does not answer may not answer that either."""
        task.cancel()
        self._late.add(task)

        def ended(late: asyncio.Task[Answers]) -> None:
            self._late.discard(late)
            if not late.cancelled() and (error := late.exception()) is not None:
                log.warning("risk_answer_late", reason=repr(error)[:200])

        task.add_done_callback(ended)
        if self._mending is None or self._mending.done():
            self._mending = asyncio.create_task(self._counters.keep())

    def _questions(self, asked: Sequence[_Asked]) -> Questions:
        questions = Questions()
        for one in asked:
            command, counted = one.command, None
            for _, key, spans in one.windows:
                questions.windows.add((key, spans))
                if key != counted:  # windows of one grain stand together and are counted once
                    counted = key
                    count = Count(key, spans.upto, command.currency, spans.grain,
                                  command.client_id, command.mode)  # fmt: skip
                    sums = questions.counts.get(count)
                    if sums is None:
                        sums = questions.counts[count] = Sum()
                    sums.payments += 1
                    sums.total += command.amount_minor
            if one.payer is not None:
                questions.payers.add(one.payer)
            if one.client is not None and self._history.stale(one.client):
                questions.clients.add(one.client)
        return questions

    def _judge(self, asked: Sequence[_Asked], answers: Answers) -> list[Verdict]:
        earlier: _Earlier = {}
        now, nothing = time.time(), Window()
        verdicts = []
        for one in asked:
            self._add(earlier, one)
            windows = {}
            for name, key, spans in one.windows:
                before = answers.windows.get((key, spans), nothing)
                money = name[0] in one.policy.money
                windows[name] = _together(before, earlier[key], spans, money=money)
            payer = None if one.payer is None else answers.payers.get(one.payer, NOBODY)
            client = None if one.client is None else answers.clients.get(one.client)
            verdicts.append(assess(one.policy, one.subject, Facts(windows, client, payer), now))
        return verdicts

    def _add(self, earlier: "_Earlier", one: _Asked) -> None:
        """Add a payment to what the later ones of its batch are counted with."""
        command, counted = one.command, None
        for _, key, spans in one.windows:
            if key != counted:
                counted = key
                entry = (spans.upto, command.currency, command.amount_minor)
                earlier.setdefault(key, []).append(entry)

    def _without_facts(self, asked: Sequence[_Asked], why: str) -> list[Verdict]:
        now, verdicts = time.time(), []
        words = {"timeout": f"no answer within {self._seconds * 1000:g} ms", "error": "no answer"}
        detail = f"{words[why]}: the default applies, which is {self._default}"
        for one in asked:
            verdict = assess(one.policy, one.subject, Facts(), now)
            trusted = one.policy.listed("allow", one.subject, now)
            if (one.windows or one.payer or one.client) and not trusted:
                DEFAULTED.labels(why).inc()
                reason = RiskReasonV1(rule="risk_default", points=0, detail=detail)
                verdict = replace(
                    verdict,
                    decision=severest(verdict.decision, self._default),
                    reasons=(*verdict.reasons[:49], reason),
                    by_default=True,
                )
            verdicts.append(verdict)
        return verdicts

    async def record(
        self, tx: Tx, taken: Sequence[Payment], verdicts: dict[str, Verdict], fresh: set[str]
    ) -> None:
        """Keep the decisions about payments that are new, in the transaction that takes them in.

        Kept is what has a reason; told is what was not simply allowed. What was allowed becomes
        history once it is committed.
        """
        decided = [(p, verdicts[p.id]) for p in taken if p.id in fresh and p.id in verdicts]
        if not decided:
            return
        kept = [(p, v) for p, v in decided if v.worth_keeping]
        if kept:
            await store.add_decisions(tx, kept)
        await self._relay.enqueue(tx, [_told(p, v) for p, v in kept if v.worth_telling])
        tx.after_commit(lambda: self._committed(decided))

    def _committed(self, decided: Sequence[tuple[Payment, Verdict]]) -> None:
        for payment, verdict in decided:
            DECIDED.labels(verdict.decision).inc()
            if verdict.decision is Decision.ALLOW:
                self._history.learn(payment)


def _told(payment: Payment, verdict: Verdict) -> Outgoing:
    body = RiskAssessedV1(
        payment_id=payment.id,
        client_id=payment.client_id,
        mode=payment.mode,
        decision=verdict.decision,
        score=verdict.score,
        reasons=list(verdict.reasons),
        by_default=verdict.by_default,
        assessed_at=dt.datetime.now(dt.UTC),
    )
    return outgoing(
        "payment.risk_assessed.v1",
        payment.id,
        body,
        source=SOURCE,
        causation_id=payment.causation_id,
        correlation_id=payment.correlation_id,
        traceparent=payment.traceparent,
    )
