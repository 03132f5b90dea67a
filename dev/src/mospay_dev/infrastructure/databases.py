"""Roles and databases: one database and three roles a service; applications own nothing."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

import asyncpg

from mospay_dev.infrastructure.processes import StartFailed
from mospay_dev.services import ROOT, SERVICES, ServiceSpec

_COMPLETE = "made by mospay"
_ROLES = """
do $$ begin
  if not exists (select from pg_roles where rolname = '{name}') then create role {name}; end if;
end $$;
alter role {name} {attributes};"""
# Sources of functions are for those who keep them: a provider function reads no other client's.
_SOURCE_READERS = "{0}_owner, {0}_worker"
_HIDDEN_COLUMNS = ("prosrc", "probin", "prosqlbody", "proargdefaults")


def database_url(server: str, database: str, user: str = "", password: str = "") -> str:
    """Return the URL of a database on the server of a superuser URL, as another user if named."""
    parts = urlsplit(server)
    place = parts.netloc.rpartition("@")[2]
    login = f"{user}:{quote(password)}" if user else parts.netloc.rpartition("@")[0]
    return urlunsplit((parts.scheme, f"{login}@{place}", "/" + database, parts.query, ""))


def role_statements(spec: ServiceSpec, keys: dict[str, str]) -> str:
    """Return SQL that makes a service's roles, safe to run again."""

    def login(kind: str, password: str, extra: str = "") -> str:
        attributes = f"login password '{keys[password]}' nosuperuser {extra}"
        return _ROLES.format(name=f"{spec.database}_{kind}", attributes=attributes)

    parts = [
        login("owner", "owner"),
        login("app", "app", "nobypassrls"),
        login("worker", "worker", "bypassrls"),
    ]
    if spec.name == "payment-router":
        parts.append(_ROLES.format(name=f"{spec.database}_fx", attributes="nologin nosuperuser"))
        parts.append(_ROLES.format(name=f"{spec.database}_run", attributes="nologin nosuperuser"))
        parts.append(login("fn", "function", "nobypassrls"))
        parts.append(f"grant {spec.database}_fx to {spec.database}_owner;")
        parts.append(f"grant {spec.database}_run to {spec.database}_fx;")
    return "".join(parts)


def function_schema_statements(spec: ServiceSpec) -> str:
    """Return SQL, for a superuser inside the router's database, that makes schema fx.

    It also takes the sources of functions out of everybody's sight but the keepers'.
    """
    name, readers = spec.database, _SOURCE_READERS.format(spec.database)
    hidden = ", ".join(f"'{column}'" for column in _HIDDEN_COLUMNS)
    teller = "pg_get_functiondef(oid), pg_get_function_sqlbody(oid)"
    return (
        f"create schema if not exists fx authorization {name}_fx;"
        "revoke select on pg_proc, information_schema.routines from public;"
        "do $$ begin execute (select 'grant select (' || string_agg(attname, ', ') "
        "|| ') on pg_proc to public' from pg_attribute where attrelid = 'pg_proc'::regclass "
        f"and attnum > 0 and attname not in ({hidden})); end $$;"
        f"revoke execute on function {teller} from public;"
        f"grant select on pg_proc to {readers};"
        f"grant execute on function {teller} to {readers};"
    )


async def make_database(server: str, spec: ServiceSpec, keys: dict[str, str], name: str) -> bool:
    """Make roles and one database owned by the service's owner; False when it exists already."""
    connection = await asyncpg.connect(server)
    try:
        await connection.execute("select pg_advisory_lock(7226000)")
        await connection.execute(role_statements(spec, keys))
        known = "select shobj_description(oid, 'pg_database') from pg_database where datname = $1"
        found = await connection.fetchrow(known, name)
        if found is not None and found[0] == _COMPLETE:
            return False
        if found is None:
            await connection.execute(f'create database "{name}" owner {spec.database}_owner')
    finally:
        await connection.close()
    inside = await asyncpg.connect(database_url(server, name))
    try:
        await inside.execute(
            f"alter schema public owner to {spec.database}_owner;"
            "revoke all on schema public from public;"
            f'revoke all on database "{name}" from public;'
            f'grant connect on database "{name}" to {spec.database}_app, {spec.database}_worker;'
        )
        if spec.name == "payment-router":
            await inside.execute(
                function_schema_statements(spec)
                + f'grant connect on database "{name}" to {spec.database}_fn;'
            )
        # Last, so that an interrupted start finds out and does the rest.
        await inside.execute(f"comment on database \"{name}\" is '{_COMPLETE}'")
    finally:
        await inside.close()
    return True


def migrate(spec: ServiceSpec, environment: dict[str, str]) -> None:
    """Run a service's migrations in a process of their own; StartFailed shows what it said."""
    done = subprocess.run(
        [sys.executable, "-m", spec.package, "migrate"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    if done.returncode:
        said = (done.stdout + done.stderr)[-2000:]
        raise StartFailed(f"migrating {spec.name} failed:\n{said}")


def migration_hash(spec: ServiceSpec) -> str:
    """Return a digest of everything a service's empty database is made from."""
    digest = hashlib.sha256()
    sources = [
        *sorted((spec.folder / "migrations").rglob("*.py")),
        *sorted((spec.folder / "sql").rglob("*.sql")),
        ROOT / "shared/src/mospay_shared/chassis/schema.py",
        Path(__file__),
    ]
    for path in sources:
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:12]


async def clone_database(server: str, template: str, name: str) -> None:
    """Make `name` a copy of `template` (about 30 ms)."""
    spec = next(s for s in SERVICES.values() if template.startswith(s.database))
    roles = ["app", "worker", *(["fn"] if spec.name == "payment-router" else [])]
    names = ", ".join(f"{spec.database}_{role}" for role in roles)
    connection = await asyncpg.connect(server)
    try:
        await connection.execute("select pg_advisory_lock(7226000)")
        await connection.execute(f'drop database if exists "{name}" with (force)')
        await connection.execute(
            f'create database "{name}" template "{template}" strategy wal_log '
            f"owner {spec.database}_owner"
        )
        await connection.execute(
            f'revoke all on database "{name}" from public;'
            f'grant connect on database "{name}" to {names}'
        )
    finally:
        await connection.close()
