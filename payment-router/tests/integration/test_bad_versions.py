"""A live version that misbehaves: the payment ends safely and the trace says why.

Each behaves in its dry-run (SAMPLE_ID) and goes wrong with the first real payment, as bad
functions do.
"""

import asyncio
from typing import Any

import orjson
import pytest
from mospay_dev.infrastructure.cluster import Cluster

from .conftest import Answering, Merchant, Stage, staged, success
from .desk import Desk, name_of, plpgsql

SAMPLE = "unique_id = 'pay_00000000000070008000000000000000'"
SERVICE = """json_build_object('action', 'SERVICE', 'serviceurl', {url},
    'servicepayload', json_build_array(json_build_object('i', 10, 'v', unique_id)))"""
# What a call function does, and what the trace says of it.
CALLS = {
    "raises": ("raise exception 'boom';", "P0001: boom"),
    "raises in words": ("raise exception e'a\\nb % \\u00e9', repeat('x', 9999);", "P0001"),
    "divides": ("results := to_json(1 / (length(unique_id) - length(unique_id)));", "22012"),
    "null": ("results := null; return next; return;", "did not return a JSON object"),
    "nothing": ("return;", "returned no row"),
    "two rows": ("return query select '{}'::json union all select '{}'::json;", "P0003"),
    "a number": ("results := '5'; return next; return;", "did not return a JSON object"),
    "a list": ("results := '[]'; return next; return;", "did not return a JSON object"),
    "10 MB": ("results := to_json(repeat('x', 10000000)); return next; return;", "54000"),
    "big payload": (
        "results := json_build_object('action', 'SERVICE', 'serviceurl', "
        "data_input #>> '{mospay,base_url}', 'servicepayload', repeat('x', 70000)); "
        "return next; return;",
        "servicepayload has 70002 bytes",
    ),
    "NUL in the URL": (
        "results := '{\"action\":\"SERVICE\",\"serviceurl\":\"BASE/\\u0000x\","
        '"servicepayload":[]}\'::json; return next; return;',
        "22P0",
    ),
    "surrogate in the URL": (
        "results := '{\"action\":\"SERVICE\",\"serviceurl\":\"BASE/\\ud800\","
        '"servicepayload":[]}\'::json; return next; return;',
        "22P0",
    ),
    "NUL in words": (
        "results := '{\"action\":\"ERROR\",\"message\":\"a\\u0000b\"}'::json; "
        "return next; return;",
        "22P0",
    ),
    "surrogate in words": (
        "results := '{\"action\":\"ERROR\",\"message\":\"a\\ud800b\"}'::json; "
        "return next; return;",
        "22P0",
    ),
    "unknown action": ("results := '{\"action\":\"TRANSFER\"}'; return next; return;", "TRANSFER"),
    "link-local": ("results := LINK; return next; return;", "169.254.169.254:80 is not registered"),
    "another host": ("results := EVIL; return next; return;", "evil.example:443 is not registered"),
    "a file": ("results := FILE; return next; return;", "not an http(s) URL"),
    "loops": ("loop perform 1; end loop;", "time limit"),
    "sleeps": ("perform pg_sleep(60);", "time limit"),
    "recurses": ("execute format('select results from fx.%I($1, $2)', 'NAME@v2') "
                 "using unique_id, data_input;", "42501"),
    "writes": ("execute 'create table fx.t (x int)';", "25006"),
    "reads payments": ("perform 1 from public.payments;", "42501"),
}  # fmt: skip
URLS = {"LINK": "'http://169.254.169.254/x'", "EVIL": "'https://evil.example/x'",
        "FILE": "'file:///etc/passwd'"}  # fmt: skip
# What a RESPONSE_ function does.
RESPONSES = {
    "raises": ("raise exception 'boom';", "P0001: boom"),
    "null": ("results := null; return next; return;", "did not return a JSON object"),
    "nothing": ("return;", "returned no row"),
    "a number": ("results := '5'; return next; return;", "did not return a JSON object"),
    "10 MB": ("results := to_json(repeat('x', 10000000)); return next; return;", "54000"),
    "NUL": ("results := '{\"outcome\":\"succeeded\",\"amount\":\"10\\u000000\"}'::json; "
            "return next; return;", "the amount can't be read"),
    "surrogate": ("results := '{\"outcome\":\"\\ud800\",\"message\":\"a\\udfffb\"}'::json; "
                  "return next; return;", "a?b"),
    "an amount that is none": (
        "results := '{\"outcome\":\"succeeded\",\"amount\":{\"x\":[1]}}'::json; "
        "return next; return;", "the amount can't be read"),
    "no amount": ("results := '{\"outcome\":\"succeeded\"}'::json; return next; return;",
                  "names no amount"),
    "another reference": (
        "results := '{\"outcome\":\"succeeded\",\"amount\":\"1000\",\"reference\":\"x\"}'::json; "
        "return next; return;", "about another reference"),
    "loops": ("loop perform 1; end loop;", "time limit"),
    "traps its end": ("loop begin perform pg_sleep(5); exception when query_canceled then null; "
                      "end; end loop;", "cancellation included"),
    "reads payments": ("perform 1 from public.payments;", "42501"),
}  # fmt: skip


@pytest.fixture
def desk(stage: Stage) -> Desk:
    """The operator's person."""
    return Desk(stage, {})


async def detail(stage: Stage, payment_id: str) -> str:
    """What the trace says of a payment's call."""
    answer = await stage.http.get(
        f"/internal/v1/traces/{payment_id}", headers=stage.token("trace:read")
    )
    assert answer.status_code == 200, answer.text
    (call,) = [h for h in answer.json()["hops"] if "function_version" in (h["data"] or {})]
    assert call["data"]["function_version"] >= 1
    return str(call["detail"])


async def live_call(desk: Desk, merchant: Merchant, url: str, bad: str) -> None:
    """Make a call function live that goes wrong with real payments."""
    name = name_of(merchant)
    for mark, target in URLS.items():
        bad = bad.replace(mark, SERVICE.format(url=target))
    bad = bad.replace("BASE", url).replace("NAME", name)
    good = SERVICE.format(url=f"'{url}/good'")
    body = f"begin if not {SAMPLE} then {bad} end if; results := {good}; return next; end"
    await desk.make_live(name, plpgsql(name, body))


@pytest.mark.parametrize("what", CALLS)
async def test_payment_whose_function_gives_no_call_fails_unsent_with_the_reason_in_its_trace(
    stage: Stage, provider: Answering, desk: Desk, quick_retries: None, what: str
) -> None:
    bad, said = CALLS[what]
    merchant, fine = await stage.merchant(provider.url), await stage.merchant(provider.url)
    await live_call(desk, merchant, provider.url, bad)
    ids = await asyncio.gather(*(stage.pay(m) for m in (fine, merchant, fine)))
    row = await stage.ends(ids[1], "failed")
    assert row["reason_code"] in ("function_failed", "refused_by_function", "host_not_registered")
    for payment_id in (ids[0], ids[2]):
        await stage.ends(payment_id, "succeeded")
    assert provider.seen(ids[1]) == provider.seen(ids[1], enquiries=True) == 0
    assert said in await detail(stage, ids[1])
    assert said in row["reason_message"]


@pytest.mark.parametrize("what", RESPONSES)
async def test_payment_whose_response_function_fails_is_unknown_until_an_enquiry_tells(
    stage: Stage, provider: Answering, desk: Desk, what: str
) -> None:
    bad, said = RESPONSES[what]
    merchant = await stage.merchant(provider.url)
    name = f"RESPONSE_{name_of(merchant)}"
    good = "results := json_build_object('outcome', 'unknown'); return next; end"
    body = f"begin if not {SAMPLE} then {bad} end if; {good}"
    await desk.make_live(name, plpgsql(name, body, response=True))
    provider.plays["enquiry"] = [lambda _: (200, {"outcome": "unknown"})]
    payment_id = await stage.pay(merchant)
    row = await stage.ends(payment_id, "unknown")
    assert said in row["reason_message"]
    assert said in await detail(stage, payment_id)
    kept = await stage.attempt(payment_id)
    assert orjson.loads(kept["answer"])["outcome"] == "succeeded" and kept["http_status"] == 200
    provider.plays["enquiry"] = [success]
    await stage.ends(payment_id, "succeeded")
    assert provider.seen(payment_id) == 1


async def test_private_address_that_a_version_names_is_refused_at_connect_time(
    router_env: dict[str, str], owner_url: str, infrastructure: Cluster, provider: Answering
) -> None:
    host = provider.url.removeprefix("http://")
    local = f"http://localhost:{host.rpartition(':')[2]}"
    async with staged(
        router_env,
        owner_url,
        infrastructure.keys,
        allow_private_networks=[],
        allowed_hosts=[host, local.removeprefix("http://")],
    ) as stage:
        for url in (provider.url, local):
            merchant = await stage.merchant("http://provider.example")
            await live_call(Desk(stage, {}), merchant, url, "")
            payment_id = await stage.pay(merchant)
            row = await stage.ends(payment_id, "failed")
            assert row["reason_code"] == "never_sent"
            assert "no byte left" in await detail(stage, payment_id)
    assert not provider.requests


async def test_bad_version_is_rolled_back_and_the_next_payment_goes_well(
    stage: Stage, provider: Answering, desk: Desk
) -> None:
    merchant = await stage.merchant(provider.url)
    await live_call(desk, merchant, provider.url, "raise exception 'boom';")
    await stage.ends(await stage.pay(merchant), "failed")
    name = name_of(merchant)
    back: Any = await desk.ask("POST", f"/functions/{name}/roll-back", {"live_version": 2})
    assert back.status_code == 200
    await desk.serves(name, 1)
    await stage.ends(await stage.pay(merchant), "succeeded")
