"""Versions of provider functions: from a posted text to a payment, and back."""

import asyncio

import pytest
from mospay_shared.ids import new_id

from .conftest import Answering, Merchant, Stage, held_until
from .desk import Desk, call_source, name_of, plpgsql, response_source


@pytest.fixture
def desk(stage: Stage) -> Desk:
    """The operator's person."""
    return Desk(stage, {})


async def test_legacy_pair_posted_as_text_serves_a_payment_unchanged(
    stage: Stage, provider: Answering, desk: Desk
) -> None:
    merchant = await stage.merchant(provider.url)
    name = name_of(merchant)
    call = await desk.draft(name, call_source(name, f"{provider.url}/legacy"), note="from 2019")
    response = await desk.draft(f"RESPONSE_{name}", response_source(f"RESPONSE_{name}"))
    tried = await desk.dry_run(name, call)
    assert tried["passed"] and tried["call"]["url"] == f"{provider.url}/legacy"
    assert not provider.requests
    heard = await desk.dry_run(f"RESPONSE_{name}", response, code=200, answer={"message": "done"})
    assert heard["passed"] and heard["finding"]["result"] == "undefined"
    marks = f"/mappings/{merchant.app_id}/{merchant.microservice}/collection/payment/marks"
    body = {"final_on_2xx": True, "failed_statuses": [422], "version": 1}
    assert (await desk.ask("PUT", marks, body)).status_code == 200
    heard = await desk.dry_run(f"RESPONSE_{name}", response, code=200, answer={"message": "done"})
    assert heard["finding"]["result"] == "processed"
    done = await desk.step(name, call, "tested", partner_version=response)
    assert done.status_code == 204, done.text
    done = await desk.step(name, call, "live", partner_version=response, live_version=1)
    assert done.json() == {"live": {name: 2, f"RESPONSE_{name}": 2}}
    await desk.serves(name, call)
    provider.plays["payment"] = [lambda _: (200, {"message": "done"})]
    payment_id = await stage.pay(merchant)
    row = await stage.ends(payment_id, "succeeded")
    path, reference, _, sent = provider.requests[-1]
    assert (path, reference) == ("/legacy", payment_id)
    assert sent == [{"i": 4, "v": "1000"}, {"i": 10, "v": payment_id}]
    terms = (
        row["terms"] if isinstance(row["terms"], dict) else __import__("json").loads(row["terms"])
    )
    assert terms["function_version"] == 2 and terms["final_on_2xx"] is True
    provider.plays["payment"] = [lambda _: (422, {"message": "no"})]
    failed = await stage.ends(await stage.pay(merchant), "failed")
    assert failed["reason_code"] == "http_422"


async def legacy(stage: Stage, desk: Desk, provider: Answering) -> tuple[Merchant, str]:
    """A merchant whose call function is live in version 2, going to /v2."""
    merchant = await stage.merchant(provider.url)
    name = name_of(merchant)
    assert await desk.make_live(name, call_source(name, f"{provider.url}/v2")) == 2
    return merchant, name


async def test_payment_in_flight_keeps_the_versions_it_was_accepted_with(
    stage: Stage, provider: Answering, desk: Desk
) -> None:
    merchant = await stage.merchant(provider.url, timeout=10)
    name = f"RESPONSE_{name_of(merchant)}"
    release = asyncio.Event()
    provider.plays["payment"] = [held_until(release)]
    payment_id = await stage.pay(merchant)
    await stage.ends(payment_id, "processing")
    declines = "begin results := json_build_object('outcome', 'failed'); return next; end"
    await desk.make_live(name, plpgsql(name, declines, response=True))
    later = await stage.pay(merchant)
    release.set()
    await stage.ends(payment_id, "succeeded")
    await stage.ends(later, "failed")


async def test_draft_serves_no_payment(stage: Stage, provider: Answering, desk: Desk) -> None:
    merchant, name = await legacy(stage, desk, provider)
    await desk.draft(name, call_source(name, f"{provider.url}/v3"))
    await stage.ends(await stage.pay(merchant), "succeeded")
    assert provider.requests[-1][0] == "/v2"


async def test_roll_back_makes_the_version_before_live_and_again_the_one_before_that(
    stage: Stage, provider: Answering, desk: Desk
) -> None:
    merchant, name = await legacy(stage, desk, provider)
    await desk.make_live(name, call_source(name, f"{provider.url}/v3"))
    for version, path in ((2, "/v2"), (1, "/collection/payment")):
        done = await desk.ask("POST", f"/functions/{name}/roll-back", {})
        assert done.json() == {"live": {name: version}}
        await desk.serves(name, version)
        await stage.ends(await stage.pay(merchant), "succeeded")
        assert provider.requests[-1][0] == path
    done = await desk.ask("POST", f"/functions/{name}/roll-back", {})
    assert (done.status_code, done.json()["code"]) == (409, "nothing_before")
    assert (await desk.step(name, 3, "live")).status_code == 200
    await desk.serves(name, 3)
    assert [await desk.state(name, v) for v in (1, 2, 3)] == ["retired", "retired", "live"]


async def test_pair_that_went_live_together_rolls_back_together(
    stage: Stage, provider: Answering, desk: Desk
) -> None:
    merchant = await stage.merchant(provider.url)
    name, response = name_of(merchant), f"RESPONSE_{name_of(merchant)}"
    await desk.draft(name, call_source(name, provider.url))
    await desk.draft(response, response_source(response))
    for of in (name, response):
        assert (await desk.dry_run(of, 2))["passed"]
    await desk.step(response, 2, "tested", partner_version=2)
    assert [await desk.state(of, 2) for of in (name, response)] == ["tested", "tested"]
    await desk.step(response, 2, "live", partner_version=2)
    assert [await desk.state(of, 2) for of in (name, response)] == ["live", "live"]
    back = await desk.ask("POST", f"/functions/{name}/roll-back", {"live_version": 2})
    assert back.json() == {"live": {name: 1, response: 1}}


async def test_steps_out_of_order_are_refused_and_change_nothing(
    stage: Stage, provider: Answering, desk: Desk
) -> None:
    merchant, name = await legacy(stage, desk, provider)
    broken = plpgsql(name, "begin raise exception 'boom'; end")
    version = await desk.draft(name, broken)
    refusals = [
        (await desk.step(name, version, "live"), "not_tested"),
        (await desk.step(name, version, "tested"), "not_dry_run"),
        (await desk.step(name, 2, "live"), "already_live"),
        (await desk.step(name, 1, "live", live_version=1), "stale_version"),
        (await desk.step(name, version, "promote"), "not_tested"),
    ]
    tried = await desk.dry_run(name, version)
    assert not tried["passed"] and "boom" in tried["fault"] and "P0001" in tried["fault"]
    refusals.append((await desk.step(name, version, "tested"), "not_dry_run"))
    for answer, code in refusals:
        assert (answer.status_code, answer.json()["code"]) == (409, code), answer.text
    for missing in (await desk.step(name, 99, "live"), await desk.step("a_b_c", 1, "tested")):
        assert missing.status_code == 404
    assert await desk.live(name) == 2
    assert await desk.state(name, version) == "draft"
    assert merchant.app_id in name


async def test_two_people_at_once_make_one_version_live(
    stage: Stage, provider: Answering, desk: Desk
) -> None:
    _, name = await legacy(stage, desk, provider)
    for path in ("/v3", "/v4"):
        version = await desk.draft(name, call_source(name, provider.url + path))
        await desk.dry_run(name, version)
        await desk.step(name, version, "tested")
    answers = await asyncio.gather(
        *(desk.step(name, version, "live", live_version=2) for version in (3, 4))
    )
    assert sorted(a.status_code for a in answers) == [200, 409]
    rows = (await desk.ask("GET", f"/functions/{name}/versions")).json()
    assert sum(r["state"] == "live" for r in rows) == 1


async def test_source_that_is_no_provider_function_is_refused_and_leaves_nothing(
    stage: Stage, provider: Answering, desk: Desk
) -> None:
    merchant = await stage.merchant(provider.url)
    name = name_of(merchant)
    good = call_source(name, provider.url)
    bad = {
        "not_one_function": good + " drop table payments;",
        "name": good.replace(name, "other"),
        "signature": good.replace("data_input json)", "data_input jsonb)"),
        "security_definer": good.replace("LANGUAGE", "SECURITY DEFINER LANGUAGE"),
        "option": good.replace("LANGUAGE", "SET search_path = public LANGUAGE"),
        "language": good.replace("plpgsql", "plpython3u"),
        "does_not_compile": good.replace("RETURN QUERY", "RETURN QWERTY"),
        "too_long": good + " " * 70_000,
        "not_text": good.replace("BEGIN", "BEGIN\x00"),
    }
    for code, source in bad.items():
        answer = await desk.ask("POST", f"/functions/{name}/versions", {"source": source})
        assert answer.status_code == 422, (code, answer.text)
        (fault,) = answer.json()["errors"]
        assert fault["field"] == "source"
        assert fault["code"] == code or (code, fault["code"]) == ("not_text", "value_error")
    rows = (await desk.ask("GET", f"/functions/{name}/versions")).json()
    assert [r["version"] for r in rows] == [1]
    left = await stage.database.fetchval(
        "select count(*) from pg_proc where proname like $1", f"{name}@%"
    )
    assert left == 0


async def test_function_made_by_hand_is_version_1_and_may_be_gone_back_to(
    stage: Stage, provider: Answering, desk: Desk
) -> None:
    tag = new_id("x")[-8:]
    name = f"akaliza{tag}_mtn{tag}_payment"
    text = call_source(name, f"{provider.url}/hand").replace(f'"{name}"', f'fx."{name}"')
    await stage.database.execute(f"set role mospay_router_fx; {text} reset role")
    merchant = await stage.merchant(provider.url, app_id=f"akaliza{tag}", microservice=f"mtn{tag}")
    (first,) = (await desk.ask("GET", f"/functions/{name}/versions")).json()
    assert (first["version"], first["origin"], first["state"]) == (1, "existing", "live")
    shown = (await desk.ask("GET", f"/functions/{name}/versions/1")).json()
    assert f"{provider.url}/hand" in shown["source"] and not shown["changed_by_hand"]
    await desk.make_live(name, call_source(name, f"{provider.url}/v2"))
    await desk.ask("POST", f"/functions/{name}/roll-back", {})
    await desk.serves(name, 1)
    await stage.ends(await stage.pay(merchant), "succeeded")
    assert provider.requests[-1][0] == "/hand"
    changed = text.replace("/hand", "/hand2")
    await stage.database.execute(f"set role mospay_router_fx; {changed} reset role")
    shown = (await desk.ask("GET", f"/functions/{name}/versions/1")).json()
    assert shown["changed_by_hand"] and "/hand2" in shown["source"]


async def test_tested_version_is_copied_to_the_other_mode_as_a_draft(
    stage: Stage, provider: Answering, desk: Desk
) -> None:
    merchant = await stage.merchant(provider.url)
    live_app = await stage.merchant(
        provider.url, mode="live", client_id=merchant.client_id, microservice=merchant.microservice
    )
    name, live = name_of(merchant), name_of(live_app)
    version = await desk.make_live(name, call_source(name, provider.url))
    made = await desk.step(name, version, "promote", note="as in test")
    assert made.status_code == 201, made.text
    assert made.json() == {"name": live, "version": 2}
    row = (await desk.ask("GET", f"/functions/{live}/versions/2")).json()
    assert (row["state"], row["author"], row["note"]) == ("draft", "usr_1", "as in test")
    assert row["source"] == call_source(name, provider.url).replace(name, live)
    assert (await desk.dry_run(live, 2))["passed"]
    lonely = await stage.merchant(provider.url)
    await desk.make_live(name_of(lonely), call_source(name_of(lonely), provider.url))
    refused = await desk.step(name_of(lonely), 2, "promote")
    assert (refused.status_code, refused.json()["code"]) == (409, "no_other_mode")


async def test_client_sees_and_changes_its_own_functions_alone(
    stage: Stage, provider: Answering, desk: Desk
) -> None:
    own, other = await stage.merchant(provider.url), await stage.merchant(provider.url)
    client = Desk(stage, {"client_id": own.client_id})
    page = (await client.ask("GET", "/functions")).json()
    assert {m["client_id"] for m in page["items"]} == {own.client_id}
    assert await client.draft(name_of(own), call_source(name_of(own), provider.url)) == 2
    foreign = name_of(other)
    for method, path, body in (
        ("GET", f"/functions/{foreign}/versions", None),
        ("GET", f"/functions/{foreign}/versions/1", None),
        ("POST", f"/functions/{foreign}/versions", {"source": "x"}),
        ("PATCH", f"/functions/{foreign}/versions/1", {"reads_secrets": True}),
        ("POST", f"/functions/{foreign}/versions/1/dry-run", {}),
        ("POST", f"/functions/{foreign}/versions/1/replay", {}),
        ("POST", f"/functions/{foreign}/versions/1/tested", {}),
        ("POST", f"/functions/{foreign}/versions/1/live", {}),
        ("POST", f"/functions/{foreign}/versions/1/promote", {}),
        ("POST", f"/functions/{foreign}/roll-back", {}),
        (
            "PUT",
            f"/mappings/{other.app_id}/{other.microservice}/collection/payment/marks",
            {"final_on_2xx": True, "failed_statuses": None, "version": 1},
        ),
    ):
        answer = await client.ask(method, path, body)
        assert answer.status_code == 404, (path, answer.text)
    live = Desk(stage, {"client_id": own.client_id, "mode": "live"})
    assert (await live.ask("GET", f"/functions/{name_of(own)}/versions")).status_code == 404
    seen = (await desk.ask("GET", f"/functions?q={foreign[:20]}")).json()["items"]
    assert [m["client_id"] for m in seen] == [other.client_id]


async def test_reading_needs_its_scope_and_writing_another(
    stage: Stage, provider: Answering
) -> None:
    merchant = await stage.merchant(provider.url)
    path = f"/internal/v1/functions/{name_of(merchant)}/versions"
    assert (await stage.http.get(path)).status_code == 401
    reads = stage.token("functions:read")
    assert (await stage.http.get(path, headers=reads)).status_code == 200
    assert (await stage.http.post(path, json={"source": "x"}, headers=reads)).status_code == 403


async def test_list_goes_on_where_its_page_ended(
    stage: Stage, provider: Answering, desk: Desk
) -> None:
    merchant = await stage.merchant(provider.url, routes=("payment", "payout", "topup"))
    path = f"/functions?client_id={merchant.client_id}&limit=2"
    first = (await desk.ask("GET", path)).json()
    rest = (await desk.ask("GET", f"{path}&cursor={first['next_cursor']}")).json()
    routes = [m["route"] for m in (*first["items"], *rest["items"])]
    assert routes == ["payment", "payout", "topup"] and rest["next_cursor"] is None
    kinds = {f["kind"]: f["live_version"] for f in first["items"][0]["functions"]}
    assert len(kinds) == 8 and set(kinds.values()) == {1}
    for cursor in ("x", "W10=", "WyJcdTAwMDAiLCIiLCIiLCIiXQ=="):
        assert (await desk.ask("GET", f"{path}&cursor={cursor}")).status_code == 422


@pytest.mark.parametrize("status", [200, 399, 409, 500])
async def test_status_that_never_means_failed_is_no_mark(
    stage: Stage, provider: Answering, desk: Desk, status: int
) -> None:
    merchant = await stage.merchant(provider.url)
    path = f"/mappings/{merchant.app_id}/{merchant.microservice}/collection/payment/marks"
    body = {"final_on_2xx": None, "failed_statuses": [status], "version": 1}
    answer = await desk.ask("PUT", path, body)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"].startswith("failed_statuses")
    stale = await desk.ask("PUT", path, {**body, "failed_statuses": [422], "version": 7})
    assert (stale.status_code, stale.json()["code"]) == (409, "stale_version")
