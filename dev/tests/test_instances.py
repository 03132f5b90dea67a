"""Private instances: two roots side by side, nothing left behind, nothing beyond loopback."""

import subprocess
from pathlib import Path

import psutil
import pytest
from mospay_dev.infrastructure import cluster as module
from mospay_dev.infrastructure.cluster import Cluster
from mospay_dev.infrastructure.instances import Rabbit
from mospay_dev.infrastructure.processes import Spawned, StartFailed, StateFile, spawn


def processes_of(folder: Path) -> list[str]:
    """Command lines that name a folder."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or [])
        if str(folder) in line and "pytest" not in line:
            found.append(line)
    return found


def listeners(pids: set[int]) -> set[str]:
    """The addresses these processes listen on."""
    return {
        c.laddr.ip
        for c in psutil.net_connections("tcp")
        if c.status == psutil.CONN_LISTEN and c.pid in pids
    }


def family(cluster: Cluster) -> set[int]:
    """Every pid of a cluster."""
    state = cluster.state.read()["processes"]
    assert isinstance(state, dict)
    pids: set[int] = set()
    for one in state.values():
        process = psutil.Process(int(one["pid"]))
        pids |= {process.pid, *(child.pid for child in process.children(recursive=True))}
    return pids


def test_two_roots_run_side_by_side_on_loopback_and_leave_nothing(tmp_path: Path) -> None:
    first, second = (Cluster(tmp_path / name, durable=False) for name in ("a b", "c"))
    try:
        first.start()
        second.start()
        assert all(first.running().values()) and all(second.running().values())
        pids = family(first) | family(second)
        assert listeners(pids) <= {"127.0.0.1", "::1"}
    finally:
        first.stop()
        second.stop()
    assert not [pid for pid in pids if psutil.pid_exists(pid)]
    assert processes_of(tmp_path) == []


def test_interrupted_start_cleans_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: Rabbit) -> dict[str, Spawned]:
        raise KeyboardInterrupt

    monkeypatch.setattr(module.Rabbit, "start", interrupt)
    cluster = Cluster(tmp_path / "x", durable=False)
    with pytest.raises(KeyboardInterrupt):
        cluster.start()
    assert processes_of(tmp_path) == []
    assert not any(Cluster(tmp_path / "x", durable=False).running().values())


def test_a_stranger_with_our_pid_is_never_stopped(tmp_path: Path) -> None:
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        ours = Spawned.from_json({"pid": stranger.pid, "started": 1.0})
        ours.stop(0.1)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_start_that_fails_says_why(tmp_path: Path) -> None:
    from mospay_dev.infrastructure.processes import wait_for

    log = tmp_path / "x.log"
    process = spawn(["sh", "-c", "echo no such luck; exit 3"], env={"PATH": "/bin"}, log=log)
    with pytest.raises(StartFailed, match="no such luck"):
        wait_for(lambda: False, "thing", seconds=10, process=process, log=log)


def test_secrets_are_readable_by_their_owner_alone(tmp_path: Path) -> None:
    file = StateFile(tmp_path / "secrets.json")
    file.write({"a": 1})
    assert file.path.stat().st_mode & 0o777 == 0o600
