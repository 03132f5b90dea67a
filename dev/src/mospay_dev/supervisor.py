"""The process that keeps a detached stack's services running: restarts what crashes."""

import signal
import time
from pathlib import Path
from types import FrameType

from mospay_dev.infrastructure.processes import Spawned, StateFile
from mospay_dev.services import SERVICES
from mospay_dev.stack import EXTRAS, Stack

BACKOFF_SECONDS = (0.5, 1, 2, 5, 10, 30)
CALM_SECONDS = 60.0  # after so long without a crash the back-off starts again


def state_file(folder: Path) -> StateFile:
    """Return the file that holds the supervisor's pid."""
    return StateFile(folder / "supervisor.json")


def find(folder: Path) -> Spawned | None:
    """Return the supervisor that runs for this folder, if any."""
    state = state_file(folder).read()
    if "pid" not in state:
        return None
    process = Spawned.from_json(
        {"pid": float(str(state["pid"])), "started": float(str(state["started"]))}
    )
    return process if process.alive else None


def supervise(folder: Path) -> None:
    """Start all processes and keep them running until SIGTERM, then stop them in order."""
    import os

    me = Spawned.of(os.getpid())
    state_file(folder).write(me.to_json())
    stack = Stack(folder, say=lambda text: print(text, flush=True))
    stopping = False

    def stop(_: int, __: FrameType | None) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    names = (*SERVICES, *EXTRAS)
    crashes, due, started = (
        dict.fromkeys(names, 0),
        dict.fromkeys(names, 0.0),
        dict.fromkeys(names, 0.0),
    )
    while not stopping:
        now = time.monotonic()
        for name in names:
            if stack.alive(name):
                if crashes[name] and now - started[name] > CALM_SECONDS:
                    crashes[name] = 0
                continue
            if due[name] == 0.0 and started[name]:
                wait = BACKOFF_SECONDS[min(crashes[name], len(BACKOFF_SECONDS) - 1)]
                code = stack.processes[name].returncode
                print(f"{name} ended (code {code}); starting it again in {wait} s", flush=True)
                crashes[name] += 1
                due[name] = now + wait
            if now >= due[name]:
                due[name], started[name] = 0.0, now
                stack.start_process(name)
        time.sleep(0.2)
    stack.stop_processes()
    state_file(folder).path.unlink(missing_ok=True)
