"""The first admin is made on the command line; nothing has a default password."""

import asyncio
import io
import json
import subprocess
import sys

import pytest
from mospay_portal_api.__main__ import create_admin
from mospay_shared.ids import new_id

from .conftest import Portal


def address() -> str:
    """An address nobody has."""
    return f"{new_id('usr')}@people.example"


async def test_first_admin_signs_in_with_the_password_shown_once(
    portal: Portal, portal_env: dict[str, str]
) -> None:
    email = address()
    command = [sys.executable, "-m", "mospay_portal_api", "create-admin", "--email", email]
    done = await asyncio.to_thread(
        subprocess.run, command, env=portal_env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert shown["email"] == email and len(shown["password"]) >= 16
    answer = await portal.browser().sign_in(email, "admin", shown["password"])
    assert answer.status_code == 200 and answer.json()["user"]["role"] == "owner"


async def test_second_admin_of_one_address_is_refused_and_the_first_stays(
    portal: Portal, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    email, password = address(), "a password of my own"
    monkeypatch.setattr("sys.stdin", io.StringIO(password + "\n"))
    await asyncio.to_thread(create_admin, ["--email", email, "--password-stdin"])
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["password"] == password
    with pytest.raises(SystemExit, match="exists already"):
        await asyncio.to_thread(create_admin, ["--email", email])
    await asyncio.to_thread(create_admin, ["--email", email, "--if-missing"])
    assert "password" not in capsys.readouterr().out
    assert (await portal.browser().sign_in(email, "admin", password)).status_code == 200


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--email", "a@example.com", "--password-stdin"], "12 characters"),
        (["--email", "nonsense"], "not an e-mail address"),
    ],
)
def test_bad_arguments_are_told_in_one_line(
    arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("short\n"))
    with pytest.raises(SystemExit, match=words):
        create_admin(arguments)
