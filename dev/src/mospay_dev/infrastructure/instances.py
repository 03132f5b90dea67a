"""PostgreSQL, RabbitMQ and Redis as private instances: start, wait, stop, nothing left behind."""

import contextlib
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import psutil

from mospay_dev.infrastructure.binaries import find_binaries, on_path, present
from mospay_dev.infrastructure.clocks import Clocks
from mospay_dev.infrastructure.processes import Spawned, StartFailed, spawn, wait_for

Keep = Callable[[str, Spawned], None]  # remembers a process as soon as it exists
LOOPBACK = "127.0.0.1"
UNPRIVILEGED = ("postgres", "nobody")


def _base_environment(home: Path) -> dict[str, str]:
    return {
        "PATH": os.environ.get("PATH", "/usr/local/bin:/usr/bin:/bin") + ":/usr/sbin:/sbin",
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
    }


def listens(port: int) -> bool:
    """Say whether something accepts connections at this loopback port."""
    with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), timeout=0.5):
        return True
    return False


def speaks_amqp(port: int) -> bool:
    """Say whether a broker answers the AMQP handshake at this loopback port."""
    with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), 1) as link:
        link.settimeout(1)
        link.sendall(b"AMQP\x00\x00\x09\x01")
        return bool(link.recv(1))
    return False


class Postgres:
    """A PostgreSQL cluster. It refuses to run as root, so root hands it to another user."""

    def __init__(
        self, folder: Path, port: int, password: str, clocks: Clocks | None = None
    ) -> None:
        self.port, self.password, self._clocks = port, password, clocks
        self._wanted, self.log = folder / "postgres", folder / "postgres.log"

    @cached_property
    def binary(self) -> Path:
        """The server's program."""
        return present(find_binaries().postgres, "PostgreSQL 15 or newer")

    @cached_property
    def data(self) -> Path:
        """The data folder: below ours, or where the account that runs the server can reach it."""
        return _reachable(self._wanted, self._account)

    @cached_property
    def _account(self) -> "pwd.struct_passwd | None":
        return _unprivileged() if os.geteuid() == 0 else None

    def url(self, database: str = "postgres", user: str = "postgres", password: str = "") -> str:
        """Return a connection URL; the superuser's by default."""
        return f"postgresql://{user}:{password or self.password}@{LOOPBACK}:{self.port}/{database}"

    def start(self, keep: Keep, *, durable: bool) -> None:
        """Create the cluster when there is none, start it, wait until it answers."""
        if not (self.data / "PG_VERSION").exists():
            self._create()
        self._forget_a_dead_server()
        command = [str(self.binary), "-D", str(self.data), *self._options(durable)]
        if self._clocks is not None:
            command = self._clocks.wrapped("postgres", command)
        process = spawn(
            self._as_account(command),
            env=_base_environment(self.data.parent),
            log=self.log,
            cwd=Path("/"),
        )
        keep("postgres", process)
        wait_for(self._answers, "PostgreSQL", seconds=60, process=process, log=self.log)

    def _forget_a_dead_server(self) -> None:
        """Remove the lock file of a killed server whose pid now belongs to something else."""
        lock = self.data / "postmaster.pid"
        with contextlib.suppress(OSError, ValueError, IndexError):
            pid = int(lock.read_text().splitlines()[0])
            if not psutil.pid_exists(pid) or psutil.Process(pid).name() != "postgres":
                lock.unlink()

    def _options(self, durable: bool) -> list[str]:
        settings = {
            "listen_addresses": LOOPBACK,
            "port": self.port,
            "unix_socket_directories": "",
            "max_connections": 300,
            "shared_buffers": "256MB",
            "jit": "off",
            "max_wal_size": "4GB",
            "checkpoint_timeout": "15min",
            "wal_compression": "on",
            "log_min_messages": "warning",
            "log_min_error_statement": "panic",  # statements may carry personal data
            **({} if durable else {"fsync": "off", "full_page_writes": "off"}),
            "synchronous_commit": "on" if durable else "off",
        }
        return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]

    def _create(self) -> None:
        if self.data.exists():
            shutil.rmtree(self.data)  # an interrupted creation
        self.data.mkdir(parents=True, mode=0o700)
        with tempfile.NamedTemporaryFile("w", prefix="mospay-", delete=False) as handle:
            handle.write(self.password)
        try:
            if self._account:
                os.chown(self.data, self._account.pw_uid, self._account.pw_gid)
                os.chown(handle.name, self._account.pw_uid, self._account.pw_gid)
            initdb = [
                str(self.binary.parent / "initdb"),
                "-D",
                str(self.data),
                "-U",
                "postgres",
                "--auth=scram-sha-256",
                f"--pwfile={handle.name}",
                "-E",
                "UTF8",
                "--locale=C.UTF-8",
                "--no-sync",
            ]
            done = subprocess.run(
                self._as_account(initdb),
                capture_output=True,
                text=True,
                cwd="/",
                env=_base_environment(self.data.parent),
                check=False,
            )
        finally:
            Path(handle.name).unlink()
        if done.returncode:
            raise StartFailed(f"initdb failed:\n{done.stdout[-800:]}{done.stderr[-800:]}")

    def _as_account(self, command: list[str]) -> list[str]:
        if self._account is None:
            return command
        ids = ["--reuid", str(self._account.pw_uid), "--regid", str(self._account.pw_gid)]
        return ["setpriv", *ids, "--clear-groups", "--", *command]

    def _answers(self) -> bool:
        ready = [str(self.binary.parent / "pg_isready"), "-q", "-h", LOOPBACK, "-p", str(self.port)]
        return listens(self.port) and subprocess.run(ready, check=False).returncode == 0

    def stop(self, process: Spawned) -> None:
        """Fast shutdown: clients are cut, everything committed is on disk."""
        process.stop(30, signal.SIGINT)


def _unprivileged() -> "pwd.struct_passwd":
    for name in UNPRIVILEGED:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise StartFailed("PostgreSQL can't run as root and this machine has no user 'nobody'")


def _reachable(wanted: Path, account: "pwd.struct_passwd | None") -> Path:
    """Return `wanted`, or a folder in /var/tmp when that user can't get to it (a private home)."""
    if account is None:
        return wanted
    wanted.parent.mkdir(parents=True, exist_ok=True)
    probe = [
        "setpriv",
        "--reuid",
        str(account.pw_uid),
        "--regid",
        str(account.pw_gid),
        "--clear-groups",
        "--",
        "test",
        "-x",
        str(wanted.parent),
    ]
    if subprocess.run(probe, check=False, capture_output=True).returncode == 0:
        return wanted
    name = sha256(str(wanted.resolve()).encode()).hexdigest()[:16]
    outside = Path("/var/tmp") / f"mospay-{name}"  # noqa: S108 - 0700 below, name is stable
    outside.mkdir(mode=0o755, exist_ok=True)
    if outside.stat().st_uid != os.geteuid():
        raise StartFailed(f"{outside} belongs to somebody else; move it away")
    (wanted.parent / "postgres.path").write_text(str(outside / "postgres"))
    return outside / "postgres"


class Rabbit:
    """A RabbitMQ node of its own, with its own epmd; both listen on loopback alone."""

    user = "mospay"

    def __init__(
        self,
        folder: Path,
        *,
        port: int,
        dist_port: int,
        epmd_port: int,
        password: str,
    ) -> None:
        self.folder, self.port = folder / "rabbitmq", port
        self._dist_port, self._epmd_port, self.password = dist_port, epmd_port, password
        self.log = folder / "rabbitmq.log"

    @cached_property
    def binary(self) -> Path:
        """The server's program."""
        return present(find_binaries().rabbitmq, "RabbitMQ")

    def url(self, vhost: str = "%2F") -> str:
        """Return a connection URL."""
        return f"amqp://{self.user}:{self.password}@{LOOPBACK}:{self.port}/{vhost}"

    @property
    def environment(self) -> dict[str, str]:
        """The environment that server and command-line tools must share."""
        kernel = "-kernel inet_dist_use_interface {127,0,0,1}"
        return _base_environment(self.folder) | {
            "RABBITMQ_NODENAME": f"mospay{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": LOOPBACK,
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder / "logs"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            "RABBITMQ_PID_FILE": str(self.folder / "rabbitmq.pid"),
            "RABBITMQ_CONF_ENV_FILE": str(self.folder / "none.conf"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"{kernel} +S 2:2 +sbwt none +sbwtdcpu none",
            "RABBITMQ_CTL_ERL_ARGS": kernel,
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "ERL_EPMD_PORT": str(self._epmd_port),
        }

    def start(self, keep: Keep) -> None:
        """Start epmd and the node; returns when the node takes connections."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.default = {LOOPBACK}:{self.port}\n"
            f"default_user = {self.user}\ndefault_pass = {self.password}\n"
            "loopback_users = none\nlog.console = true\nlog.console.level = warning\n"
            "log.file = false\ndisk_free_limit.absolute = 500MB\n"
            "vm_memory_high_watermark.absolute = 2GB\n"
            "consumer_timeout = 1800000\n"
        )
        (self.folder / "rabbitmq.conf").chmod(0o600)
        (self.folder / "enabled_plugins").write_text("[].\n")
        epmd = spawn(
            [_epmd(), "-address", LOOPBACK, "-port", str(self._epmd_port)],
            env=self.environment,
            log=self.log,
        )
        keep("epmd", epmd)
        wait_for(lambda: listens(self._epmd_port), "epmd", seconds=10, process=epmd, log=self.log)
        node = spawn([self.binary], env=self.environment, log=self.log)
        keep("rabbitmq", node)
        wait_for(self._answers, "RabbitMQ", seconds=90, process=node, log=self.log)

    def _answers(self) -> bool:
        return speaks_amqp(self.port)

    def control(self, *arguments: str) -> str:
        """Run rabbitmqctl against this node and return its output; StartFailed if it fails."""
        tool = self.binary.parent / "rabbitmqctl"
        done = subprocess.run(
            [str(tool), "-q", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        if done.returncode:
            raise StartFailed(f"rabbitmqctl {arguments[0]} failed: {done.stdout}{done.stderr}")
        return done.stdout

    def stop(self, processes: dict[str, Spawned]) -> None:
        """Stop the node (it syncs its queues), then its epmd."""
        if "rabbitmq" in processes:
            processes["rabbitmq"].stop(30)
        if "epmd" in processes:
            processes["epmd"].stop(3)


def vhost_script(name: str, user: str) -> str:
    """Return what `rabbitmqctl eval` runs to make an empty virtual host (one start of Erlang)."""
    if not re.fullmatch(r"[a-z0-9_]+", name):
        raise ValueError(name)
    return (
        f'V = <<"{name}">>, case rabbit_vhost:exists(V) of true -> '
        f'rabbit_vhost:delete(V, <<"mospay">>); false -> ok end, '
        f'rabbit_vhost:add(V, <<"mospay">>), '
        f'rabbit_auth_backend_internal:set_permissions(<<"{user}">>, V, <<".*">>, '
        f'<<".*">>, <<".*">>, <<"mospay">>).'
    )


def _epmd() -> Path:
    found = [
        *Path("/usr/lib/erlang").glob("erts-*/bin/epmd"),
        *Path("/usr/local/lib/erlang").glob("erts-*/bin/epmd"),
    ]
    path = on_path("epmd") or (found[0] if found else None)
    if path is None:
        raise StartFailed("RabbitMQ is here but Erlang's epmd is not: reinstall erlang-base")
    return path


class Redis:
    """A Redis (or Valkey) that keeps nothing: only what may vanish lives there."""

    def __init__(self, folder: Path, port: int, password: str) -> None:
        self.port, self.password = port, password
        self.folder, self.log = folder / "redis", folder / "redis.log"

    @property
    def url(self) -> str:
        """The connection URL."""
        return f"redis://:{self.password}@{LOOPBACK}:{self.port}/0"

    def start(self, keep: Keep) -> None:
        """Start it and wait until it listens."""
        binary = present(find_binaries().redis, "Redis or Valkey")
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "redis.conf"
        config.touch(mode=0o600)
        config.write_text(
            f'bind {LOOPBACK}\nport {self.port}\nrequirepass {self.password}\nsave ""\n'
            f'appendonly no\nmaxmemory 256mb\nmaxmemory-policy allkeys-lru\ndir "{self.folder}"\n'
        )
        process = spawn([binary, config], env=_base_environment(self.folder), log=self.log)
        keep("redis", process)
        wait_for(lambda: listens(self.port), "Redis", seconds=15, process=process, log=self.log)


def new_password() -> str:
    """Return 192 random bits that need no quoting in a URL."""
    return secrets.token_hex(24)
