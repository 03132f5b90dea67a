"""Clocks that a test moves: libfaketime before every process, whose clock is a file.

A month of days passes in minutes, and one process's clock may differ from the others'. Only what
time it is changes: how long waiting takes (the monotonic clock) does not.
"""

import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from mospay_dev.infrastructure.binaries import on_path
from mospay_dev.infrastructure.packages import install
from mospay_dev.infrastructure.processes import StartFailed

CACHE_SECONDS = 1  # how often a process looks at its file
_PLACES = ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/opt/homebrew/lib")


def find_library() -> Path | None:
    """Return libfaketime's library, None where it is not installed."""
    for place in _PLACES:
        for found in sorted(Path(place).glob("**/faketime/libfaketimeMT.so.1")):
            return found
    return None


def ensure_library(say: Callable[[str], None]) -> Path:
    """Return libfaketime's library, installing it if need be; StartFailed says how to get it."""
    if find_library() is None:
        install(["faketime"], say)
    found = find_library()
    if found is None:
        raise StartFailed("libfaketime is installed but its library was not found")
    return found


class Clocks:
    """The clocks of one stack, by process name; all start right.

    The files lie outside the stack's folder because PostgreSQL runs as another user.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._library = ensure_library(say)
        self._env = on_path("env") or Path("/usr/bin/env")
        self._folder = Path(tempfile.mkdtemp(prefix="mospay-clocks-"))
        self._folder.chmod(0o755)
        self._ahead: dict[str, int] = {}

    def environment(self, name: str) -> dict[str, str]:
        """Return the variables that give a process its clock; what it starts shares it."""
        self._write(name, self._ahead.get(name, 0))
        return {
            "LD_PRELOAD": str(self._library),
            "FAKETIME_TIMESTAMP_FILE": str(self._path(name)),
            "FAKETIME_CACHE_DURATION": str(CACHE_SECONDS),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }

    def wrapped(self, name: str, command: Sequence[str]) -> list[str]:
        """Return a command that sets the clock itself: after `setpriv` has changed the user."""
        pairs = [f"{key}={value}" for key, value in self.environment(name).items()]
        return [str(self._env), *pairs, *command]

    def ahead(self, name: str) -> int:
        """Return by how many seconds a clock differs from the true one."""
        return self._ahead.get(name, 0)

    def set(self, seconds: int, *names: str) -> None:
        """Put clocks ahead of (or, below zero, behind) the true time; every one, unless named.

        Returns when the processes have seen it; they do not see it at the same moment.
        """
        for name in names or tuple(self._ahead):
            self._write(name, seconds)
        time.sleep(CACHE_SECONDS + 1.5)

    def close(self) -> None:
        """Delete the files."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _path(self, name: str) -> Path:
        return self._folder / name.replace("@", "-")

    def _write(self, name: str, seconds: int) -> None:
        self._ahead[name] = seconds
        path = self._path(name)
        fresh = path.with_suffix(".new")
        fresh.write_text(f"{seconds:+d}\n")
        fresh.chmod(0o644)
        fresh.replace(path)
