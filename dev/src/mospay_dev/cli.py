"""`./mospay`: up, down, status, logs, demo, test, check, bench."""

import importlib.util
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from types import FrameType
from typing import Annotated

import httpx
import typer
from rich.console import Console
from rich.table import Table

from mospay_dev import browser, check_commands, crowd, supervisor, web
from mospay_dev.infrastructure import clocks
from mospay_dev.infrastructure.processes import StartFailed, spawn, tail
from mospay_dev.services import ROOT, SERVICES
from mospay_dev.stack import EXTRAS, READY_SECONDS, Stack, describe

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="MosPay on this machine.",
)
console = Console(stderr=True, highlight=False)
FOLDER = ROOT / ".mospay"
Exit = Annotated[bool, typer.Option("--exit", help="Stop everything at the end.")]
Docker = Annotated[
    bool, typer.Option("--docker", help="PostgreSQL, RabbitMQ and Valkey in containers.")
]
_started = time.monotonic()


def say(text: str) -> None:
    """Tell the person at the terminal what happens now, with seconds since the start."""
    console.print(f"[dim]{time.monotonic() - _started:6.1f}s[/dim]  ", end="")
    console.print(text, markup=False, soft_wrap=True)


def main() -> None:
    """Run the command line; a StartFailed is one clear message and exit code 1."""
    for number in (signal.SIGTERM, signal.SIGHUP):  # ends like Ctrl-C: what was started is stopped
        signal.signal(number, _interrupt)
    try:
        app()
    except StartFailed as error:
        console.print("[red]error[/red]  ", end="")
        console.print(str(error), markup=False, soft_wrap=True)
        sys.exit(1)
    except httpx.HTTPError as error:
        where = f" ({error.request.method} {error.request.url})" if _has_request(error) else ""
        console.print(f"error  {type(error).__name__}: {error}{where}", markup=False)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _has_request(error: httpx.HTTPError) -> bool:
    try:
        return error.request is not None
    except RuntimeError:  # httpx raises it where an error came without its request
        return False


def _interrupt(number: int, _: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def bring_up(docker: bool) -> Stack:
    """Start the stack below `.mospay/`, supervised and detached; returns when all is ready."""
    stack = Stack(FOLDER, say=say, docker=docker)
    try:
        stack.prepare()
        web.build(say)
        if supervisor.find(FOLDER) is None:
            say("starting six services, the payment simulator and a webhook receiver")
            spawn(
                [sys.executable, "-m", "mospay_dev", "supervise"],
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                log=stack.log("supervisor"),
                cwd=ROOT,
            )
        wait_for_services(stack)
    except BaseException:
        take_down()
        raise
    return stack


def wait_for_services(stack: Stack) -> None:
    """Wait until the supervisor has started everything and everything is ready."""
    until = time.monotonic() + READY_SECONDS
    for name in (*SERVICES, *EXTRAS):
        while not stack.alive(name):
            if time.monotonic() > until:
                log = stack.log("supervisor")
                raise StartFailed(f"{name} did not start. Last lines of {log}:\n{tail(log)}")
            time.sleep(0.1)
            stack.read()
        stack.wait_ready(name)


def take_down() -> None:
    """Stop supervisor, services and instances; leaves no process."""
    running = supervisor.find(FOLDER)
    if running is not None:
        say("stopping services (they drain first)")
        running.stop(45)
    Stack(FOLDER, say=say).stop()


def take_down_tests() -> None:
    """Stop the instances that tests keep warm, and what a killed test run or bench left."""
    for state in sorted(FOLDER.glob("*/cluster.json")):
        stack = Stack(state.parent, say=say)
        if stack.processes or any(stack.cluster.running().values()):
            say(f"stopping what runs below {state.parent}")
            stack.stop()


@app.command()
def up(
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return when ready.")] = False,
    docker: Docker = False,
) -> None:
    """Start everything on this machine; Ctrl-C stops it again."""
    stack = bring_up(docker)
    console.print(f"Portal    {stack.url('portal-api')}\nGateway   {stack.url('gateway')}")
    console.print("Make the first admin: ./mospay admin create --email you@example.com")
    if detach:
        return
    console.print("Ctrl-C stops everything.")
    try:
        while supervisor.find(FOLDER) is not None:
            time.sleep(0.5)
    except KeyboardInterrupt:
        pass
    finally:
        take_down()


@app.command()
def down(
    purge: Annotated[bool, typer.Option("--purge", help="Delete this stack's data too.")] = False,
) -> None:
    """Stop everything that `up`, `demo`, `test` or `bench` started."""
    take_down()
    take_down_tests()
    say("everything is stopped")
    if purge:
        Stack(FOLDER).cluster.purge()
        say("its databases, queues, keys and logs are deleted")


@app.command(hidden=True)
def supervise() -> None:
    """Keep the services running (started by `up`)."""
    supervisor.supervise(FOLDER)


@app.command()
def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what runs, where, and whether it is ready; exit code 1 unless all is."""
    found = describe(Stack(FOLDER))
    services, instances = found["services"], found["instances"]
    assert isinstance(services, dict) and isinstance(instances, dict)
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        table = Table("", "state", "address", "pid")
        for name, running in instances.items():
            table.add_row(name, "running" if running else "stopped", "", "")
        for name, one in services.items():
            state = "ready" if one["ready"] else "not ready" if one["running"] else "stopped"
            table.add_row(name, state, one["url"] or "", str(one["pid"] or ""))
        Console().print(table)
    if not (all(instances.values()) and all(one["ready"] for one in services.values())):
        raise typer.Exit(1)


@app.command()
def logs(
    service: Annotated[str | None, typer.Argument(help="A service; all when left out.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, max=10_000)] = 50,
) -> None:
    """Show the last lines of a service's log (JSON, one event a line)."""
    names = [service] if service else [*SERVICES, *EXTRAS]
    files = [FOLDER / "logs" / f"{name}.log" for name in names]
    present = [path for path in files if path.exists()]
    if not present:
        raise StartFailed(f"no log of {service or 'any service'} below {FOLDER / 'logs'}")
    if follow:
        subprocess.run(["tail", "-n", str(lines), "-F", *map(str, present)], check=False)
        return
    for path in present:
        with path.open(errors="replace") as handle:
            for line in deque(handle, lines):
                print(f"{path.stem:15} {line.rstrip()}" if len(present) > 1 else line.rstrip())


admin = typer.Typer(help="People who run the installation.")
app.add_typer(admin, name="admin")


@admin.command("create")
def admin_create(email: Annotated[str, typer.Option(help="The new admin's address.")]) -> None:
    """Make an admin of the portal and print the generated password once."""
    stack = Stack(FOLDER)
    done = subprocess.run(
        [sys.executable, "-m", "mospay_portal_api", "create-admin", "--email", email],
        env=stack.environment("portal-api"),
        check=False,
    )
    raise typer.Exit(done.returncode)


@app.command()
def demo(
    stop: Exit = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the result here.")] = None,
    docker: Docker = False,
) -> None:
    """Bring everything up and run real payments through it, telling what happens."""
    from mospay_dev.demo.story import run_demo

    ok = False
    try:
        stack = bring_up(docker)
        ok = run_demo(stack, say=say, json_file=json_file, started=_started)
    finally:
        if stop:
            take_down()
    if not stop:
        console.print("Everything is still running. `./mospay down` stops it.")
    raise typer.Exit(0 if ok else 1)


_ANY = {"allow_extra_args": True, "ignore_unknown_options": True}


@app.command(context_settings=_ANY)
def test(
    context: typer.Context,
    crash: Annotated[bool, typer.Option("--crash", help="Random faults under load.")] = False,
    minutes: Annotated[float, typer.Option(min=0.2, max=1440, help="With --crash.")] = 5,
    seed: Annotated[int | None, typer.Option(help="With --crash: repeats its plan.")] = None,
    rate: Annotated[float, typer.Option(min=1, help="With --crash: payments a second.")] = 50,
) -> None:
    """Run the tests on private stacks of their own (arguments go to pytest; paths run alone)."""
    if crash:
        raise typer.Exit(0 if _random_faults(minutes, seed, rate) else 1)
    say("preparing the web UI and a browser for the tests")
    web.build(say)
    browser.ensure_chromium(say)
    clocks.ensure_library(say)  # before the workers, who would install it side by side
    arguments = context.args or ["-q"]
    if not all(argument.startswith("-") for argument in arguments):
        say("running pytest (the test stack starts below .mospay/test)")
        pytest = [sys.executable, "-m", "pytest", *arguments]
        raise typer.Exit(subprocess.run(pytest, cwd=ROOT, check=False).returncode)
    say("running every test, side by side on stacks below .mospay (about 20 minutes on 2 cores)")
    code, only_alone = crowd.run(arguments, root=ROOT, folder=FOLDER / "test-run", say=say)
    if only_alone:
        console.rule(f"[yellow]{crowd.TITLE}: {len(only_alone)}[/yellow]", characters="=")
        for line in only_alone:
            console.print(line, markup=False, soft_wrap=True)
        console.rule(characters="=")
    raise typer.Exit(code)


def _random_faults(minutes: float, seed: int | None, rate: float) -> bool:
    """Run random faults on a stack of their own; False when the promise did not hold."""
    from mospay_dev.crash.house import PATIENT, House
    from mospay_dev.crash.runner import run_faults

    chosen = secrets.randbelow(10**6) if seed is None else seed
    house = House.open(FOLDER / "random", say, router=PATIENT)
    try:
        report = run_faults(
            house,
            seed=chosen,
            seconds=minutes * 60,
            rate=rate,
            folder=FOLDER / "crash",
            say=say,
        )
    finally:
        house.close()
    for fault in report["audit"]["faults"]:
        console.print(f"[red]fault[/red]  {fault}")
    say(f"seed {chosen}: {'FAILED' if report['audit']['faults'] else 'the promise held'}")
    return not report["audit"]["faults"]


@app.command()
def month(
    days: Annotated[int | None, typer.Option(min=3, max=31, help="The month's last ones.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures.")] = None,
) -> None:
    """Run a month of real payments on moved clocks; every side's totals must agree (5 minutes)."""
    from mospay_dev.month.story import run_month

    agreed = run_month(FOLDER / "month", say, days=days, json_file=json_file)
    raise typer.Exit(0 if agreed else 1)


@app.command()
def check() -> None:
    """Check format, lint, types, imports, schemas and API documents."""
    raise typer.Exit(0 if check_commands.run_all(say) else 1)


@app.command()
def generate() -> None:
    """Write the generated documents: message schemas, OpenAPI and AsyncAPI of every service."""
    check_commands.write_documents()


@app.command(context_settings=_ANY)
def bench(context: typer.Context, name: Annotated[str, typer.Argument()]) -> None:
    """Run a bench of bench/ by its name (`--seconds N`, `--json FILE`)."""
    path = ROOT / "bench" / f"{name.replace('-', '_')}.py"
    if not path.exists():
        known = ", ".join(sorted(p.stem for p in path.parent.glob("[a-z]*.py")))
        raise StartFailed(f"no bench called {name!r}; there are: {known}")
    spec = importlib.util.spec_from_file_location(f"bench_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent))
    spec.loader.exec_module(module)
    raise typer.Exit(module.main(list(context.args)))


@app.command("compose-env")
def compose_env() -> None:
    """Write `.env` with generated secrets for `docker compose up`."""
    from mospay_dev.compose import write_environment

    write_environment(ROOT / ".env", say)
