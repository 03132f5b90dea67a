"""The environment file of `compose.yaml`, and the SQL that makes roles and databases there."""

from collections.abc import Callable
from pathlib import Path

from mospay_shared.chassis.service_tokens import public_key

from mospay_dev.infrastructure.databases import function_schema_statements, role_statements
from mospay_dev.infrastructure.keys import new_keys
from mospay_dev.infrastructure.processes import StartFailed
from mospay_dev.services import SERVICES

SQL = "databases.sql"


def write_environment(target: Path, say: Callable[[str], None]) -> None:
    """Write generated secrets to `.env` and the databases' SQL beside it; never overwrite."""
    if target.exists():
        raise StartFailed(
            f"{target} exists; remove it to generate new secrets (data will not open)"
        )
    keys = new_keys()
    trusted = (
        f"portal-api={public_key(keys['portal_signing'])},"
        f"gateway={public_key(keys['gateway_signing'])},"
        f"ledger={public_key(keys['ledger_signing'])},"
        f"notifier={public_key(keys['notifier_signing'])}"
    )
    lines = [f"MOSPAY_{name.upper()}={value}" for name, value in keys.items()]
    lines.append(f"MOSPAY_TRUSTED_KEYS={trusted}")
    folder = target.parent / ".mospay/compose"
    folder.mkdir(parents=True, exist_ok=True)
    statements = []
    for spec in SERVICES.values():
        name = spec.database
        statements += [
            role_statements(spec, keys),
            f"create database {name} owner {name}_owner;",
            f"revoke all on database {name} from public;",
            f"grant connect on database {name} to {name}_app, {name}_worker;",
            f"\\connect {name}",
            f"alter schema public owner to {name}_owner;",
            "revoke all on schema public from public;",
        ]
        if spec.name == "payment-router":
            statements += [
                function_schema_statements(spec),
                f"grant connect on database {name} to {name}_fn;",
            ]
        statements.append("\\connect postgres")
    for path, text in ((target, "\n".join(lines)), (folder / SQL, "\n".join(statements))):
        path.touch(mode=0o600)
        path.write_text(text + "\n")
    (folder / SQL).chmod(0o644)  # the container's own user reads it once, at its first start
    say(f"wrote {target} and {folder / SQL}; now: docker compose up")
