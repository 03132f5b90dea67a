"""Processes we start: found again by pid and start time, so a stranger is never stopped."""

import json
import os
import secrets
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

TELL_SECONDS = 5.0  # how often a long command says that it goes on


class StartFailed(Exception):
    """Something did not come up; the message says what, why and where to look."""


# Below what systems hand to outgoing connections, or one of those could sit on a port between its
# choice and its use. Tests that run side by side choose from ranges of their own.
_WORKER = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
_FIRST = 18_000 + int(_WORKER) % 6 * 2_000 if _WORKER else 10_000
_PORTS = range(_FIRST, _FIRST + (2_000 if _WORKER else 8_000))


def free_port(taken: set[int] | None = None) -> int:
    """Return a TCP port that nothing listens on at 127.0.0.1 now and that is not in `taken`."""
    while True:
        port = secrets.choice(_PORTS)
        if port not in (taken or set()) and port_is_free(port):
            return port


def port_is_free(port: int) -> bool:
    """Say whether nothing holds this port at 127.0.0.1."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def spawn(
    command: Sequence[str | Path],
    *,
    env: Mapping[str, str],
    log: Path,
    cwd: Path | None = None,
) -> "Spawned":
    """Start a process in its own session with its output appended to `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            [str(part) for part in command],
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=cwd,
        )
    return Spawned.of(process.pid, process)


class Spawned:
    """A process of ours; survives our own restart as `{pid, started}`."""

    def __init__(
        self, pid: int, started: float, child: "subprocess.Popen[bytes] | None" = None
    ) -> None:
        self.pid, self.started, self._child = pid, started, child

    @classmethod
    def of(cls, pid: int, child: "subprocess.Popen[bytes] | None" = None) -> "Spawned":
        """Take note of a process that runs now."""
        try:
            return cls(pid, psutil.Process(pid).create_time(), child)
        except psutil.NoSuchProcess:
            return cls(pid, 0.0, child)

    def to_json(self) -> dict[str, float]:
        """Return what `from_json` takes."""
        return {"pid": self.pid, "started": self.started}

    @classmethod
    def from_json(cls, value: Mapping[str, float]) -> "Spawned":
        """Restore from a state file."""
        return cls(int(value["pid"]), value["started"])

    def _process(self) -> psutil.Process | None:
        try:
            process = psutil.Process(self.pid)
            if abs(process.create_time() - self.started) > 1:
                return None
            if process.status() == psutil.STATUS_ZOMBIE:
                if self._child is not None:
                    self._child.poll()
                return None
        except psutil.NoSuchProcess:
            return None
        return process

    @property
    def alive(self) -> bool:
        """Say whether it still runs."""
        return self._process() is not None

    @property
    def returncode(self) -> int | None:
        """The exit code, when it was our child and has ended."""
        return self._child.poll() if self._child is not None else None

    def send(self, number: int) -> None:
        """Send a signal to it alone."""
        process = self._process()
        if process is not None:
            process.send_signal(number)

    def stop(self, seconds: float, number: int = signal.SIGTERM) -> None:
        """Ask it to end, then end it and what it started; returns when all are gone."""
        process = self._process()
        if process is None:
            return
        family = [process, *process.children(recursive=True)]
        with _gone_is_fine():
            process.send_signal(number)
        _, alive = psutil.wait_procs(family[:1], timeout=seconds)
        for member in [*alive, *family[1:]]:
            with _gone_is_fine():
                member.kill()
        psutil.wait_procs(family, timeout=5)
        if self._child is not None:
            self._child.poll()


class _gone_is_fine:  # noqa: N801 - reads as a phrase in `with`
    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        return kind is not None and issubclass(kind, psutil.NoSuchProcess)


class StateFile:
    """A small JSON file, replaced whole, readable by its owner alone."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, object]:
        """Return the content; an absent or broken file is an empty one."""
        try:
            value = json.loads(self.path.read_text())
        except (OSError, ValueError):
            return {}
        return value if isinstance(value, dict) else {}

    def write(self, value: Mapping[str, object]) -> None:
        """Replace the content."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.path.with_suffix(f".{os.getpid()}.tmp")
        fresh.touch(mode=0o600)
        fresh.write_text(json.dumps(value, indent=2))
        fresh.replace(self.path)


@dataclass(frozen=True, slots=True)
class Told:
    """How a command ended and everything it wrote."""

    returncode: int
    output: str


def run_told(
    command: Sequence[str | Path],
    what: str,
    say: Callable[[str], None],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Told:
    """Run a command that may take long: every few seconds say that it goes on, and its last line.

    Ends the command (and what it started) when this process is interrupted.
    """
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [str(part) for part in command],
            env=None if env is None else dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        started = time.monotonic()
        try:
            while True:
                try:
                    code = process.wait(TELL_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    seconds = time.monotonic() - started
                    say(f"{what}: still at it after {seconds:.0f} s  {_last_line(output)}")
        except BaseException:
            Spawned.of(process.pid, process).stop(5)
            raise
        output.seek(0)
        return Told(code, output.read().decode(errors="replace"))


def _last_line(output: IO[bytes]) -> str:
    """Return the last line written so far without moving the writer's place (`pread`)."""
    size = os.fstat(output.fileno()).st_size
    text = os.pread(output.fileno(), 400, max(0, size - 400)).decode(errors="replace")
    lines = [line for line in text.splitlines() if line.strip()]
    return f"({lines[-1].strip()[:90]})" if lines else ""


def tail(log: Path, lines: int = 15) -> str:
    """Return the last lines of a log, for an error message."""
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return "(no log)"


def wait_for(
    check: "object",
    what: str,
    *,
    seconds: float,
    process: Spawned | None = None,
    log: Path | None = None,
) -> None:
    """Wait until `check()` is true; StartFailed when time is up or the process has ended."""
    assert callable(check)
    until = time.monotonic() + seconds
    while not check():
        ended = process is not None and not process.alive
        if ended or time.monotonic() > until:
            why = "its process ended" if ended else f"not ready after {seconds:.0f} s"
            shown = f"\nLast lines of {log}:\n{tail(log)}" if log else ""
            raise StartFailed(f"{what}: {why}.{shown}")
        time.sleep(0.1)
