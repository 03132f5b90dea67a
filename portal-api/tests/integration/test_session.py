"""Signing in: the same words for the unknown, a lock after five failures, an end at once."""

import asyncio

import httpx

from .conftest import PASSWORD, Browser, Portal


async def test_sign_in_sets_a_cookie_scripts_can_not_read(portal: Portal) -> None:
    browser = portal.browser()
    answer = await browser.sign_in(await portal.user("admin"), "admin")
    assert answer.status_code == 200
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=lax" in cookie
    assert (await browser.get("/session")).json()["user"]["audience"] == "admin"


async def test_unknown_address_gets_the_same_words_as_a_wrong_password(portal: Portal) -> None:
    known = await portal.user("admin")
    wrong = await portal.browser().sign_in(known, "admin", "not the password")
    unknown = await portal.browser().sign_in("nobody@people.example", "admin", "not the password")
    assert wrong.status_code == unknown.status_code == 401
    assert wrong.json()["title"] == unknown.json()["title"]
    assert wrong.json()["attempts_left"] == 4


async def test_five_failures_lock_even_the_right_password_out(portal: Portal) -> None:
    email = await portal.user("admin")
    for _ in range(5):
        answer = await portal.browser().sign_in(email, "admin", "wrong wrong wrong")
    assert answer.status_code == 423 and answer.json()["locked_until"]
    assert (await portal.browser().sign_in(email, "admin")).status_code == 423


async def test_audiences_are_separate(portal: Portal) -> None:
    email = await portal.user("admin")
    assert (await portal.browser().sign_in(email, "client")).status_code == 401


async def test_change_without_the_csrf_token_is_refused(portal: Portal) -> None:
    browser = await portal.admin()
    browser.csrf = "guess"
    answer = await browser.send("POST", "/companies", {"name": "X"})
    assert answer.status_code == 403 and answer.json()["code"] == "csrf_failed"


async def test_log_out_everywhere_ends_every_session_at_once(portal: Portal) -> None:
    email = await portal.user("admin")
    first, second = portal.browser(), portal.browser()
    await first.sign_in(email, "admin")
    await second.sign_in(email, "admin")
    assert (await first.send("POST", "/session/revoke-all")).status_code == 204
    assert (await second.get("/session")).status_code == 401


async def test_idle_session_ends(portal: Portal) -> None:
    browser = await portal.admin()
    async with portal.service.database.transaction() as tx:
        await tx.run("update sessions set seen_at = now() - interval '1 hour'")
    answer = await browser.get("/session")
    assert answer.status_code == 401 and answer.json()["code"] == "not_signed_in"


async def test_bcrypt_hash_is_read_and_upgraded(portal: Portal) -> None:
    import bcrypt

    email = await portal.user("admin")
    old = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    async with portal.service.database.transaction() as tx:
        await tx.run("update users set password_hash = $2 where email = $1", email, old)
    assert (await portal.browser().sign_in(email, "admin")).status_code == 200
    async with portal.service.database.transaction() as tx:
        kept = await tx.value("select password_hash from users where email = $1", email)
    assert kept.startswith("$argon2id$")


async def test_logins_are_in_the_audit_log_and_it_can_not_be_changed(portal: Portal) -> None:
    email = await portal.user("admin")
    await portal.browser().sign_in(email, "admin", "wrong wrong wrong")
    await portal.browser().sign_in(email, "admin")
    async with portal.service.database.transaction() as tx:
        rows = await tx.fetch(
            "select action from audit_log a join users u on u.id = a.actor where u.email = $1 "
            "order by at",
            email,
        )
    assert [row["action"] for row in rows] == ["login_failed", "login"]
    try:
        async with portal.service.database.transaction() as tx:
            await tx.run("delete from audit_log")
    except Exception as error:
        assert "permission denied" in str(error)
    else:
        raise AssertionError("the audit log took a delete")


async def test_page_is_stamped_with_a_nonce_and_unknown_paths_are_problems(portal: Portal) -> None:
    browser: Browser = portal.browser()
    page = await browser.http.get("/client/login")
    policy = page.headers["content-security-policy"]
    nonce = page.text.split('content="')[1].split('"')[0]
    assert f"'nonce-{nonce}'" in policy and nonce != "__CSP_NONCE__"
    assert "unsafe-inline" not in policy.split("style-src-attr")[0]
    assert page.headers["cache-control"] == "no-cache"
    asset = await browser.http.get("/assets/a.js")
    assert "immutable" in asset.headers["cache-control"]
    for path in ("/bff/v1/nothing", "/assets/../../settings.py", "/etc/passwd"):
        answer: httpx.Response = await browser.http.get(path)
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"


async def test_two_wrong_passwords_at_once_both_count(portal: Portal) -> None:
    email = await portal.user("admin")
    await asyncio.gather(
        *(portal.browser().sign_in(email, "admin", "wrong wrong wrong") for _ in range(2))
    )
    answer = await portal.browser().sign_in(email, "admin", "wrong wrong wrong")
    assert answer.json()["attempts_left"] == 2


async def test_unknown_address_is_counted_and_locked_like_a_known_one(portal: Portal) -> None:
    answers = []
    for email in (await portal.user("admin"), f"nobody-{id(portal)}@people.example"):
        said = []
        for _ in range(6):
            answer = await portal.browser().sign_in(email, "admin", "wrong wrong wrong")
            body = answer.json()
            kept = {k: body.get(k) for k in ("title", "status", "code", "attempts_left")}
            said.append((kept, "locked_until" in body))
        answers.append(said)
    assert answers[0] == answers[1]
    assert [one[0]["status"] for one in answers[0]] == [401] * 4 + [423] * 2


async def test_tries_made_at_once_get_no_more_than_five_looks_at_the_password(
    portal: Portal,
) -> None:
    email = await portal.user("admin")
    wrong = [portal.browser().sign_in(email, "admin", "wrong wrong wrong") for _ in range(9)]
    answers = await asyncio.gather(*wrong)
    rows = await portal.rows(
        "select action, count(*) as n from audit_log a join users u on u.id = a.actor "
        "where u.email = $1 group by action",
        email,
    )
    assert {row["action"]: row["n"] for row in rows} == {
        "login_failed": 5,
        "login_refused_locked": 4,
    }
    assert sum(answer.status_code == 401 for answer in answers) == 4


async def test_lock_runs_out_and_a_success_starts_the_count_anew(portal: Portal) -> None:
    email = await portal.user("admin")
    for _ in range(5):
        await portal.browser().sign_in(email, "admin", "wrong wrong wrong")
    assert (await portal.browser().sign_in(email, "admin")).status_code == 423
    await portal.rows(
        "update users set locked_until = now() - interval '1 s' where email = $1 returning id",
        email,
    )
    again = await portal.browser().sign_in(email, "admin", "wrong wrong wrong")
    assert again.json()["attempts_left"] == 4
    assert (await portal.browser().sign_in(email, "admin")).status_code == 200
    after = await portal.browser().sign_in(email, "admin", "wrong wrong wrong")
    assert after.json()["attempts_left"] == 4


async def test_session_ends_after_its_whole_time_however_busy(portal: Portal) -> None:
    browser = await portal.admin()
    session = await browser.get("/session")
    assert session.json()["expires_at"].endswith("Z")
    await portal.rows("update sessions set expires_at = now() returning user_id")
    assert (await browser.get("/session")).status_code == 401


async def test_sign_out_ends_this_session_and_no_other(portal: Portal) -> None:
    email = await portal.user("admin")
    first, second = portal.browser(), portal.browser()
    await first.sign_in(email, "admin")
    await second.sign_in(email, "admin")
    token = first.http.cookies["mospay_session"]
    assert (await first.send("DELETE", "/session")).status_code == 204
    assert "mospay_session" not in first.http.cookies
    first.http.cookies["mospay_session"] = token
    assert (await first.get("/session")).status_code == 401
    assert (await second.get("/session")).status_code == 200


async def test_only_the_hash_of_a_session_token_is_kept(portal: Portal) -> None:
    browser = await portal.admin()
    token = browser.http.cookies["mospay_session"]
    rows = await portal.rows("select token_hash from sessions")
    assert token not in {row["token_hash"] for row in rows}


async def test_session_of_a_switched_off_user_is_over(portal: Portal) -> None:
    browser = await portal.admin()
    user = (await browser.get("/session")).json()["user"]["id"]
    await portal.rows("update users set active = false where id = $1 returning id", user)
    assert (await browser.get("/session")).status_code == 401
