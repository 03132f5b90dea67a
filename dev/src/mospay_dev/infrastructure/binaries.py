"""Where PostgreSQL, RabbitMQ and Redis (or Valkey) are installed on this machine."""

import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mospay_dev.infrastructure.processes import StartFailed

OLDEST_POSTGRES = 15


@dataclass(frozen=True, slots=True)
class Binaries:
    """Where the servers are; None where a machine has none."""

    postgres: Path | None
    rabbitmq: Path | None
    redis: Path | None

    @property
    def missing(self) -> list[str]:
        """Names of what has to be installed."""
        return [n for n in ("postgres", "rabbitmq", "redis") if getattr(self, n) is None]


def find_binaries() -> Binaries:
    """Look for servers on PATH and where Debian puts them (PostgreSQL 15 or newer)."""
    found = [*Path("/usr/lib/postgresql").glob("*/bin/postgres"), on_path("postgres")]
    versions = {path: _major_version(path) for path in found if path is not None}
    usable = [path for path, version in versions.items() if version >= OLDEST_POSTGRES]
    postgres = max(usable, key=lambda path: versions[path], default=None)
    rabbitmq = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
    return Binaries(
        postgres=postgres.resolve() if postgres else None,
        rabbitmq=rabbitmq if rabbitmq.exists() else on_path("rabbitmq-server"),
        redis=on_path("redis-server") or on_path("valkey-server"),
    )


@cache
def _major_version(postgres: Path) -> int:
    """Return the major version a PostgreSQL server says it is; 0 when it says nothing."""
    done = subprocess.run([postgres, "--version"], capture_output=True, text=True, check=False)
    digits = re.search(r"(\d+)", done.stdout)
    return int(digits[1]) if digits else 0


def present(binary: Path | None, what: str) -> Path:
    """Return the program; StartFailed names what this machine lacks."""
    if binary is None:
        raise StartFailed(f"this machine has no {what}")
    return binary


def on_path(name: str) -> Path | None:
    """Return a program from PATH or the system folders that a user's PATH leaves out."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin:/sbin")
    return Path(found) if found else None
