"""`python -m mospay_portal_api [serve|migrate|openapi|asyncapi|create-admin]`."""

import argparse
import asyncio
import json
import secrets
import sys

from mospay_shared.chassis.database import Database
from mospay_shared.chassis.main import run

from mospay_portal_api.app import build
from mospay_portal_api.domain import Conflict
from mospay_portal_api.settings import PortalSettings
from mospay_portal_api.usecases import people


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
                actor="command line",
            )
    finally:
        await database.close()


def create_admin(arguments: list[str]) -> None:
    """Make an admin; print address and password once, as JSON."""
    parser = argparse.ArgumentParser(prog="python -m mospay_portal_api create-admin")
    parser.add_argument("--email", required=True)
    parser.add_argument("--password-stdin", action="store_true")
    parser.add_argument("--if-missing", action="store_true", help="do nothing when it exists")
    chosen = parser.parse_args(arguments)
    password = sys.stdin.readline().rstrip("\n") if chosen.password_stdin else ""
    if chosen.password_stdin and len(password) < 12:
        sys.exit("the password must have at least 12 characters")
    password = password or secrets.token_urlsafe(18)
    try:
        asyncio.run(_create_admin(chosen.email, password))
    except Conflict as error:
        if chosen.if_missing:
            return
        sys.exit(f"{error}: {chosen.email}")
    sys.stdout.write(json.dumps({"email": chosen.email, "password": password}) + "\n")


if sys.argv[1:2] == ["create-admin"]:
    create_admin(sys.argv[2:])
else:
    run(build)
