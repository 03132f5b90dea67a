"""`python -m mospay_portal_api [serve|migrate|openapi|asyncapi|create-admin]`."""

import argparse
import asyncio
import json
import re
import sys

from mospay_shared.chassis.database import Database
from mospay_shared.chassis.main import run

from mospay_portal_api.app import build
from mospay_portal_api.domain.credentials import generated_password
from mospay_portal_api.domain.errors import Conflict
from mospay_portal_api.domain.people import EMAIL_PATTERN, Author
from mospay_portal_api.settings import PortalSettings
from mospay_portal_api.usecases import people

PASSWORD_LENGTH = 12  # characters a given password has at least


async def _create_admin(email: str, password: str) -> None:
    database = Database("portal-api", PortalSettings())
    await database.open()
    try:
        hashed = await people.hash_password(password)
        async with database.transaction() as tx:
            await people.create_user(
                tx,
                audience="admin",
                company_id=None,
                name="Administrator",
                email=email,
                role="owner",
                password_hash=hashed,
                by=Author("command line"),
            )
    finally:
        await database.close()


def create_admin(arguments: list[str]) -> None:
    """Make an admin with every permission; print address and password once, as JSON."""
    parser = argparse.ArgumentParser(prog="python -m mospay_portal_api create-admin")
    parser.add_argument("--email", required=True)
    parser.add_argument("--password-stdin", action="store_true", help="read it from stdin")
    parser.add_argument("--if-missing", action="store_true", help="succeed when it exists")
    chosen = parser.parse_args(arguments)
    if not re.match(EMAIL_PATTERN, chosen.email) or len(chosen.email) > 254:
        sys.exit(f"{chosen.email!r} is not an e-mail address")
    password = sys.stdin.readline().rstrip("\r\n") if chosen.password_stdin else ""
    if chosen.password_stdin and len(password) < PASSWORD_LENGTH:
        sys.exit(f"the password must have at least {PASSWORD_LENGTH} characters")
    password = password or generated_password()
    try:
        asyncio.run(_create_admin(chosen.email, password))
    except Conflict:
        if chosen.if_missing:
            sys.stderr.write(f"an admin {chosen.email} exists already; nothing was changed\n")
            return
        sys.exit(f"an admin {chosen.email} exists already; nothing was changed")
    sys.stdout.write(json.dumps({"email": chosen.email, "password": password}) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["create-admin"]:
        create_admin(sys.argv[2:])
    else:
        run(build)
