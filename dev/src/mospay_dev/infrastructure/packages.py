"""Installing what a machine lacks: as root on Debian or Ubuntu, else one line that says how."""

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from mospay_dev.infrastructure.processes import StartFailed, run_told

_DEBIAN = {
    "postgres": "postgresql",
    "rabbitmq": "rabbitmq-server",
    "redis": "redis-server",
    "chromium": "chromium",
    "node": "nodejs npm",
    "faketime": "libfaketime",
}


def install(missing: Sequence[str], say: Callable[[str], None]) -> None:
    """Install distribution packages for these names; StartFailed says the command otherwise."""
    packages = " ".join(_DEBIAN[name] for name in missing)
    command = f"apt-get update && apt-get install -y --no-install-recommends {packages}"
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise StartFailed(
            f"this machine lacks {', '.join(missing)}; install them with: sudo sh -c '{command}'"
        )
    say(f"installing {packages} with apt-get (this machine lacks them; a minute or two)")
    # A package must not start its own server: we run private instances only.
    policy = Path("/usr/sbin/policy-rc.d")
    ours = not policy.exists()
    if ours:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        done = run_told(
            ["sh", "-c", command],
            f"installing {packages}",
            say,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        )
    finally:
        if ours:
            policy.unlink()
    if done.returncode:
        raise StartFailed(f"{command} failed:\n{done.output[-1500:]}")
