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
