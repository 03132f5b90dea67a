"""Private instances: two roots side by side, nothing left behind, nothing beyond loopback."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest
from mospay_dev.infrastructure import cluster as module
from mospay_dev.infrastructure.cluster import Cluster
from mospay_dev.infrastructure.databases import database_url, make_database
from mospay_dev.infrastructure.processes import (
    Spawned,
    StartFailed,
    StateFile,
    run_told,
    spawn,
    wait_for,
)
from mospay_dev.services import SERVICES


@pytest.fixture
def place() -> Iterator[Path]:
    """A new folder that PostgreSQL's account can reach, which pytest's own temporary ones deny."""
    with tempfile.TemporaryDirectory(prefix="mospay-test-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def processes_of(folder: Path) -> list[str]:
    """Command lines that name a folder."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or [])
        if str(folder) in line and process.pid != os.getpid():
            found.append(line)
    return found


def listeners(pids: set[int]) -> set[str]:
    """The addresses these processes listen on."""
    return {
        c.laddr.ip
        for c in psutil.net_connections("tcp")
        if c.laddr and c.status == psutil.CONN_LISTEN and c.pid in pids
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


def test_two_roots_run_side_by_side_on_loopback_and_leave_nothing(place: Path) -> None:
    first, second = (Cluster(place / name, durable=False) for name in ("a b", "c"))
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
    assert processes_of(place) == []


@pytest.mark.parametrize("moment", ["PostgreSQL", "Redis", "RabbitMQ"])
def test_interrupted_start_leaves_no_process(
    place: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Ctrl-C arrives while one of the servers is being waited for: its process exists already."""

    def interrupted(check: object, what: str, **options: Any) -> None:
        if what == moment:
            raise KeyboardInterrupt
        wait_for(check, what, **options)

    monkeypatch.setattr("mospay_dev.infrastructure.instances.wait_for", interrupted)
    cluster = Cluster(place / "x", durable=False)
    with pytest.raises(KeyboardInterrupt):
        cluster.start()
    assert processes_of(place) == []
    assert not any(Cluster(place / "x", durable=False).running().values())


def test_two_starts_at_once_make_one_server_of_each(place: Path) -> None:
    clusters = [Cluster(place / "x", durable=False) for _ in range(2)]
    try:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(Cluster.start, clusters))
        servers = [line for line in processes_of(place) if "/bin/postgres " in line]
        assert len(servers) == 1
    finally:
        Cluster(place / "x", durable=False).stop()
    assert processes_of(place) == []


def test_urls_of_the_environment_win_and_start_nothing(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {
        "MOSPAY_POSTGRES_URL": "postgresql://boss:secret@127.0.0.1:1/postgres",
        "MOSPAY_BROKER_URL": "amqp://boss:secret@127.0.0.1:2/",
        "MOSPAY_REDIS_URL": "redis://127.0.0.1:3/0",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    cluster = Cluster(place / "x", durable=False)
    cluster.start()
    assert [cluster.postgres_url, cluster.broker_url, cluster.redis_url] == list(given.values())
    assert not cluster.state.path.exists()


def test_docker_is_used_only_when_asked_for_and_a_daemon_answers(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "daemon_answers", lambda: False)
    said: list[str] = []
    cluster = Cluster(place / "x", durable=False, docker=True, say=said.append)
    try:
        cluster.start()
        assert any("no Docker daemon" in line for line in said)
        assert all(cluster.running().values())
    finally:
        cluster.stop()


def test_a_stranger_with_our_pid_is_never_stopped(place: Path) -> None:
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        ours = Spawned.from_json({"pid": stranger.pid, "started": 1.0})
        ours.stop(0.1)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_start_that_fails_says_why(place: Path) -> None:
    log = place / "x.log"
    process = spawn(["sh", "-c", "echo no such luck; exit 3"], env={"PATH": "/bin"}, log=log)
    with pytest.raises(StartFailed, match="no such luck"):
        wait_for(lambda: False, "thing", seconds=10, process=process, log=log)


def test_secrets_are_readable_by_their_owner_alone(place: Path) -> None:
    file = StateFile(place / "secrets.json")
    file.write({"a": 1})
    assert file.path.stat().st_mode & 0o777 == 0o600


def test_private_home_keeps_its_database_where_the_servers_account_can_go(tmp_path: Path) -> None:
    """Only root has this problem; for everyone else the data simply stays in the folder."""
    cluster = Cluster(tmp_path / "x", durable=False)
    try:
        cluster.start()
        pointer = tmp_path / "x/postgres.path"
        data = Path(pointer.read_text()) if pointer.exists() else tmp_path / "x/postgres"
        assert (data / "PG_VERSION").exists()
        with pytest.raises(StartFailed, match="still running"):
            cluster.purge()
    finally:
        cluster.stop()
    cluster.purge()
    assert not data.exists()


def test_long_command_says_that_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mospay_dev.infrastructure.processes.TELL_SECONDS", 0.05)
    said: list[str] = []
    done = run_told(["sh", "-c", "echo step one; sleep 0.5; exit 4"], "thing", said.append)
    assert done.returncode == 4 and done.output == "step one\n"
    assert any("thing: still at it" in line and "step one" in line for line in said)


async def test_interrupted_making_of_a_database_is_finished_next_time(
    infrastructure: Cluster, session_name: str
) -> None:
    spec, name = SERVICES["payment-router"], f"half_{session_name}"
    boss = await asyncpg.connect(infrastructure.postgres_url)
    await boss.execute(f'create database "{name}"')
    try:
        made = [
            await make_database(infrastructure.postgres_url, spec, infrastructure.keys, name)
            for _ in range(2)
        ]
        assert made == [True, False]
        inside = await asyncpg.connect(database_url(infrastructure.postgres_url, name))
        assert await inside.fetchval("select 1 from pg_namespace where nspname = 'fx'") == 1
        await inside.close()
    finally:
        await boss.execute(f'drop database "{name}" with (force)')
        await boss.close()
