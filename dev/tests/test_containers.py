"""What `--docker` asks of a Docker client; the client is a stand-in, as no engine may be here."""

import os
import sys
from pathlib import Path

import pytest
from mospay_dev.infrastructure.cluster import Cluster
from mospay_dev.infrastructure.processes import StartFailed

# Remembers containers as files, writes down every call, and answers AMQP where a broker would.
CLIENT = """#!/bin/sh
place=$(dirname "$0")
echo "$*" >>"$place/calls"
case "$1" in
run)
    touch "$place/$4"
    case "$4" in
    *rabbitmq) "$STAND_IN_PYTHON" "$place/amqp.py" "$8" "$place/$4" >/dev/null 2>&1 & ;;
    esac ;;
inspect) [ -e "$place/$4" ] && echo true ;;
stop) rm -f "$place/$4" ;;
rm) rm -f "$place/$3" ;;
esac
exit 0
"""
BROKER = """import pathlib, socket, sys
host, port, _ = sys.argv[1].split(":")
with socket.create_server((host, int(port))) as server:
    server.settimeout(0.2)
    while pathlib.Path(sys.argv[2]).exists():
        try:
            link, _ = server.accept()
            link.recv(8), link.send(b"A"), link.close()
        except TimeoutError:
            pass
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put the stand-in first on PATH and return the file it writes calls to."""
    place = tmp_path / "client"
    place.mkdir()
    (place / "docker").write_text(CLIENT)
    (place / "docker").chmod(0o755)
    (place / "amqp.py").write_text(BROKER)
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")
    monkeypatch.setenv("STAND_IN_PYTHON", sys.executable)
    return place / "calls"


def test_containers_are_reached_on_loopback_alone_and_no_secret_is_on_a_command_line(
    tmp_path: Path, calls: Path
) -> None:
    cluster = Cluster(tmp_path / "x", durable=True, docker=True)
    try:
        cluster.start()
        assert cluster.running() == {"postgres": True, "redis": True, "rabbitmq": True}
        text = calls.read_text()
        runs = [line for line in text.splitlines() if line.startswith("run ")]
        assert len(runs) == 3
        assert all(" -p 127.0.0.1:" in line for line in runs)
        assert not any(secret in text for secret in cluster.keys.values())
    finally:
        cluster.stop()
    assert not any(Cluster(tmp_path / "x", durable=True).running().values())


def test_a_stack_remembers_that_it_lives_in_containers(tmp_path: Path, calls: Path) -> None:
    Cluster(tmp_path / "x", durable=True, docker=True).start()
    later = Cluster(tmp_path / "x", durable=True)
    try:
        assert all(later.running().values())
        later.make_vhost("t1")
        assert "rabbitmqctl -q eval" in calls.read_text()
    finally:
        later.stop()
    later.purge()
    assert "volume rm" in calls.read_text()


def test_data_of_one_kind_is_not_taken_for_the_other(tmp_path: Path, calls: Path) -> None:
    native = Cluster(tmp_path / "x", durable=True)
    native.state.write({"ports": {"postgres": 1}, "processes": {}})
    with pytest.raises(StartFailed, match="down --purge"):
        Cluster(tmp_path / "x", durable=True, docker=True).start()
    assert not [line for line in calls.read_text().splitlines() if line.startswith("run ")]
