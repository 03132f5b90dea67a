"""Dry-runs and replays: they show what a version would do, and nothing leaves the house."""

import asyncio
import json
import time
from typing import Any

import orjson
import pytest
from mospay_dev.infrastructure.cluster import Cluster

from .conftest import Answering, Merchant, Stage, staged, success
from .desk import Desk, call_source, name_of, plpgsql

SECRET = ", json_build_object('i', 8, 'v', data_input->>'f008')"
HIDDEN = ", json_build_object('i', 8, 'v', data_input->>('f00' || '8'))"


@pytest.fixture
def desk(stage: Stage) -> Desk:
    """The operator's person."""
    return Desk(stage, {})


async def recorded(stage: Stage, merchant: Merchant, count: int = 3) -> list[str]:
    """Payments of a merchant that have succeeded."""
    ids = [await stage.pay(merchant, amount_minor=1000 + n) for n in range(count)]
    for payment_id in ids:
        await stage.ends(payment_id, "succeeded")
    return ids


async def replay(desk: Desk, name: str, version: int, **body: Any) -> dict[str, Any]:
    """Replay a version."""
    answer = await desk.step(name, version, "replay", **body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def paid(reference: str) -> Any:
    """Paid, whatever the amount was: the connector is marked so."""
    status, answer = success(reference)
    return status, {k: v for k, v in answer.items() if k != "amount"}


async def test_dry_run_shows_the_call_and_sends_nothing(
    stage: Stage, provider: Answering, desk: Desk
) -> None:
    merchant = await stage.merchant(provider.url)
    name = name_of(merchant)
    tried = await desk.dry_run(name, 1, fields={"f004": "2500"}, unique_id="abc")
    assert tried["passed"] and tried["fault"] is None
    assert tried["call"]["url"] == f"{provider.url}/collection/payment"
    sent = {item["i"]: item["v"] for item in orjson.loads(tried["call"]["payload"])}
    assert (sent[0], sent[2], sent[3]) == (merchant.microservice, "payment", merchant.app_id)
    assert (sent[4], sent[10]) == ("2500", "abc")
    for suffix, path in (("Status", "paymentStatus"), ("Refund", "refund")):
        tried = await desk.dry_run(name + suffix, 1)
        assert tried["passed"] and tried["call"]["url"] == f"{provider.url}/collection/{path}"
    assert not provider.requests
    assert await stage.database.fetchval(
        "select count(*) from payments where client_id = $1", merchant.client_id
    ) == 0  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "code", "result"),
    [
        ({"outcome": "succeeded", "amount": "1000"}, 200, "processed"),
        ({"outcome": "succeeded", "amount": "999"}, 200, "processed"),
        ({"outcome": "failed", "reason_code": "x"}, 400, "declined"),
        ({"message": "done"}, 200, "undefined"),
    ],
)
async def test_dry_run_of_a_response_function_says_what_an_answer_proves(
    stage: Stage, provider: Answering, desk: Desk, answer: Any, code: int, result: str
) -> None:
    merchant = await stage.merchant(provider.url)
    name = f"RESPONSE_{name_of(merchant)}"
    tried = await desk.dry_run(name, 1, code=code, answer=answer)
    assert tried["passed"] and tried["finding"]["result"] == result
    assert (tried["finding"]["reason_code"] == "amount_mismatch") is (answer.get("amount") == "999")


@pytest.mark.parametrize("answer", ["", "not json", "\ud800", {"a": "\ud800"}, {"a": "\x00"}, None])
async def test_any_answer_may_be_tried(
    stage: Stage, provider: Answering, desk: Desk, answer: Any
) -> None:
    merchant = await stage.merchant(provider.url)
    name = f"RESPONSE_{name_of(merchant)}"
    content = json.dumps({"answer": answer})
    headers = stage.token("functions:write") | {"content-type": "application/json"}
    path = f"/internal/v1/functions/{name}/versions/1/dry-run"
    tried = await stage.http.post(path, content=content, headers=headers)
    assert tried.status_code == 200, tried.text


BAD = {
    "raises": ("begin raise exception 'boom'; end", "P0001"),
    "loops": ("begin loop perform 1; end loop; end", "time limit"),
    "nothing": ("begin return; end", "no row"),
    "a number": ("begin results := '5'; return next; end", "JSON object"),
    "no action": ("begin results := '{}'; return next; end", "unknown action"),
    "elsewhere": (
        "begin results := json_build_object('action', 'SERVICE', 'serviceurl', "
        "'http://169.254.169.254/latest', 'servicepayload', '[]'::json); return next; end",
        "not registered",
    ),
    "no outcome": (
        "begin results := json_build_object('action', 'OUTPUT'); return next; end",
        "without an outcome",
    ),
    "a table": ("begin results := (select to_json(p) from public.payments p limit 1); "
                "return next; end", "42501"),
}  # fmt: skip


@pytest.mark.parametrize("why", BAD)
async def test_draft_that_would_fail_a_payment_passes_no_dry_run(
    stage: Stage, provider: Answering, desk: Desk, why: str
) -> None:
    merchant = await stage.merchant(provider.url)
    name, (body, fault) = name_of(merchant), BAD[why]
    version = await desk.draft(name, plpgsql(name, body))
    tried = await desk.dry_run(name, version)
    assert not tried["passed"] and fault in tried["fault"]
    refused = await desk.step(name, version, "tested")
    assert refused.json()["code"] == "not_dry_run"


async def test_deliberate_refusal_is_shown_but_passes_no_dry_run(
    stage: Stage, provider: Answering, desk: Desk
) -> None:
    merchant = await stage.merchant(provider.url)
    name = name_of(merchant)
    body = "begin results := json_build_object('action', 'ERROR', 'message', 'barred'); "
    version = await desk.draft(name, plpgsql(name, body + "return next; end"))
    tried = await desk.dry_run(name, version)
    assert not tried["passed"] and tried["fault"] is None
    assert tried["finding"]["reason_message"] == "barred"


async def test_secrets_are_fakes_in_every_trial_and_unseen_reading_is_told(
    stage: Stage, provider: Answering, desk: Desk
) -> None:
    merchant = await stage.merchant(provider.url)
    name = name_of(merchant)
    plain = await desk.draft(name, call_source(name, provider.url, SECRET))
    tried = await desk.dry_run(name, plain, fields={"f008": "real-pin"})
    assert "fake-f008" in tried["call"]["payload"] and "real-pin" not in str(tried)
    assert tried["secrets_replaced"] and not tried["secrets_undetected"]
    hidden = await desk.draft(name, call_source(name, provider.url, HIDDEN))
    assert (await desk.dry_run(name, hidden))["secrets_undetected"]
    path = f"/functions/{name}/versions/{hidden}"
    assert (await desk.ask("PATCH", path, {"reads_secrets": True})).json() == {
        "reads_secrets": True
    }
    assert not (await desk.dry_run(name, hidden))["secrets_undetected"]
    for version, forced, holds in ((hidden, False, False), (plain, False, True)):
        path = f"/functions/{name}/versions/{version}"
        done = await desk.ask("PATCH", path, {"reads_secrets": forced})
        assert done.json() == {"reads_secrets": holds}


async def test_version_that_is_forced_to_read_secrets_gets_them(
    stage: Stage, provider: Answering, desk: Desk
) -> None:
    merchant = await stage.merchant(provider.url)
    name = name_of(merchant)
    version = await desk.draft(name, call_source(name, provider.url, HIDDEN), reads_secrets=True)
    for of in (name, f"RESPONSE_{name}"):
        number = version if of == name else 1
        assert (await desk.dry_run(of, number, answer={"outcome": "unknown"}))["passed"]
    await desk.step(name, version, "tested")
    await desk.step(name, version, "live")
    await desk.serves(name, version)
    command = stage.command(merchant)
    sealed = stage.sealer.seal({"f007": "", "f008": "hunter2-pin"}, command.payment_id)
    payment_id = await stage.process(command.model_copy(update={"secrets": sealed}))
    await stage.ends(payment_id, "succeeded")
    assert {"i": 8, "v": "hunter2-pin"} in provider.requests[-1][3]
    found = await replay(desk, name, version)
    assert found["replayed"] == 1 and found["same"] == 1
    other = await desk.draft(name, call_source(name, provider.url + "/x", SECRET), note="moved")
    found = await replay(desk, name, other)
    (row,) = found["rows"]
    assert row["secrets_replaced"] and row["compared_with"] == "live_version"
    assert row["url"] == {"before": provider.url, "after": f"{provider.url}/x"}
    assert "hunter2" not in str(found)


async def test_replay_of_the_same_source_differs_nowhere(
    stage: Stage, provider: Answering, desk: Desk
) -> None:
    merchant = await stage.merchant(provider.url, connector={"amount_optional": True})
    provider.plays["payment"] = [paid]
    name = name_of(merchant)
    await desk.make_live(name, call_source(name, provider.url))
    await recorded(stage, merchant)
    version = await desk.draft(name, call_source(name, provider.url))
    sent = len(provider.requests)
    found = await replay(desk, name, version)
    assert (found["recordings"], found["replayed"], found["same"]) == (3, 3, 3)
    assert found["complete"] and found["rows"] == [] and not any(found["differing"].values())
    assert len(provider.requests) == sent


async def test_replay_shows_url_payload_and_outcome_by_recording_without_the_payers_number(
    stage: Stage, provider: Answering, desk: Desk
) -> None:
    merchant = await stage.merchant(provider.url, connector={"amount_optional": True})
    provider.plays["payment"] = [paid]
    name = name_of(merchant)
    await desk.make_live(name, call_source(name, f"{provider.url}/a"))
    ids = await recorded(stage, merchant)
    phone = ", json_build_object('i', 5, 'v', data_input->>'f005')"
    call = await desk.draft(name, call_source(name, f"{provider.url}/b", phone))
    declines = "begin results := json_build_object('outcome', 'failed', 'reason_code', 'no'); "
    response = f"RESPONSE_{name}"
    heard = await desk.draft(
        response, plpgsql(response, declines + "return next; end", response=True)
    )
    found = await replay(desk, name, call, partner_version=heard, limit=2)
    assert (found["replayed"], found["same"]) == (2, 0)
    assert found["differing"] == {"url": 2, "payload": 2, "outcome": 2, "fault": 0}
    row = found["rows"][0]
    assert row["payment_id"] == ids[-1] and row["compared_with"] == "recording"
    assert row["url"] == {"before": f"{provider.url}/a", "after": f"{provider.url}/b"}
    assert row["payload"] == [{"path": "/i=5", "before": None, "after": '"**********000"'}]
    assert row["outcome"]["before"]["result"] == "processed"
    assert row["outcome"]["after"] == {"result": "declined", "reason_code": "no"}
    only = await replay(desk, response, heard)
    assert only["differing"] == {"url": 0, "payload": 0, "outcome": 3, "fault": 0}


async def test_replay_of_an_enquiry_compares_with_the_live_version(
    stage: Stage, provider: Answering, desk: Desk
) -> None:
    provider.plays["payment"] = [lambda _: (200, {"message": "done"})]
    merchant = await stage.merchant(provider.url)
    payment_id = await stage.pay(merchant)
    await stage.ends(payment_id, "succeeded")
    name = f"{name_of(merchant)}Status"
    assert (await replay(desk, name, 1))["same"] >= 1
    version = await desk.draft(name, call_source(name, f"{provider.url}/ask"))
    found = await replay(desk, name, version)
    assert found["rows"][0]["compared_with"] == "live_version"
    assert found["rows"][0]["url"]["after"] == f"{provider.url}/ask"


async def test_replay_that_takes_too_long_ends_and_says_so(
    stage: Stage, provider: Answering, desk: Desk
) -> None:
    merchant = await stage.merchant(provider.url, connector={"amount_optional": True})
    provider.plays["payment"] = [paid]
    await recorded(stage, merchant, 4)
    name = name_of(merchant)
    version = await desk.draft(name, plpgsql(name, "begin perform pg_sleep(9); end"))
    stage.service.app.state.wiring.desk.trials.seconds = 0.3
    started = time.monotonic()
    found = await replay(desk, name, version)
    assert not found["complete"] and found["replayed"] == 0
    assert time.monotonic() - started < 8
    assert (await desk.dry_run(name, 1))["passed"]


async def test_draft_that_hangs_in_a_trial_keeps_no_payment_waiting(
    router_env: dict[str, str], owner_url: str, infrastructure: Cluster, provider: Answering
) -> None:
    stubborn = """declare n int := 0; begin loop
        begin perform pg_sleep(5); exception when query_canceled then n := n + 1; end;
    end loop; end"""
    keys, seconds = infrastructure.keys, 5  # it hangs for longer than payments may take
    async with staged(router_env, owner_url, keys, function_seconds=seconds) as stage:
        desk, merchant = Desk(stage, {}), await stage.merchant(provider.url)
        name = name_of(merchant)
        version = await desk.draft(name, plpgsql(name, stubborn))
        hung = asyncio.create_task(desk.dry_run(name, version))
        for _ in range(5):
            await stage.ends(await stage.pay(merchant), "succeeded")
        assert not hung.done()
        tried = await hung
        assert not tried["passed"] and "time limit" in tried["fault"]
        assert (await desk.dry_run(name, 1))["passed"]


async def test_sample_that_can_not_be_is_refused_by_its_field(
    stage: Stage, provider: Answering, desk: Desk
) -> None:
    merchant = await stage.merchant(provider.url)
    path = f"/functions/{name_of(merchant)}/versions/1/dry-run"
    for body, field in (
        ({"fields": {"f004": "1.5"}}, "fields.f004"),
        ({"fields": {"x": "1"}}, "fields.x"),
        ({"unique_id": "a\x00"}, "unique_id"),
        ({"code": 42}, "code"),
    ):
        answer = await desk.ask("POST", path, body)
        assert answer.status_code == 422, answer.text
        assert answer.json()["errors"][0]["field"].startswith(field)
    replays = await desk.ask("POST", path.replace("dry-run", "replay"), {"limit": 201})
    assert replays.json()["errors"][0]["field"] == "limit"
