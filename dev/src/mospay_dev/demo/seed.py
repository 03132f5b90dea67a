"""Two merchants, one simulator service, credentials and webhook endpoints, seeded once a stack."""

import secrets
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import httpx

from mospay_dev.demo.portal import Portal, make_admin
from mospay_dev.infrastructure.processes import StartFailed, StateFile
from mospay_dev.stack import Stack

ADMIN = "admin@mospay.example"
MERCHANTS = (("Akaliza Shops", "akaliza"), ("Kigali Rides", "kigalirides"))
SERVICE = {
    "microservice": "simulator",
    "name": "collection",
    "title": "Mobile money collection (simulator)",
    "currency": "RWF",
    "routes": ["payment"],
    "limits": {"min_minor": 100, "max_minor": 5_000_000},
    "payer_window_seconds": 900,
    "provider_timeout_seconds": 3,
    "connector": {
        "simulator": True,
        "authoritative_enquiry": True,
        "reference_dedupe": True,
        "callback_secret_env": "ROUTER_CALLBACK_SECRET_SIMULATOR",
    },
}


@dataclass(frozen=True)
class Merchant:
    """What a client app needs, and its user's login at the portal."""

    client_id: str
    app_id: str
    username: str
    password: str
    api_key: str
    webhook_secret: str
    client_email: str
    client_password: str


@dataclass(frozen=True)
class Seed:
    """Everything a demo, a test or a bench needs to act as client app and as person."""

    gateway_url: str
    portal_url: str
    webhook_receiver_url: str
    simulator_url: str
    clients: list[Merchant]
    admin: dict[str, str]


def load(stack: Stack) -> Seed | None:
    """Return the seed of an earlier run on this stack, its addresses brought up to date."""
    known = StateFile(stack.folder / "demo.json").read()
    if not known:
        return None
    clients, admin = known["clients"], known["admin"]
    assert isinstance(clients, list) and isinstance(admin, dict)
    return Seed(**_addresses(stack), clients=[Merchant(**c) for c in clients], admin=admin)


def _addresses(stack: Stack) -> dict[str, str]:
    return {
        "gateway_url": stack.url("gateway"),
        "portal_url": stack.url("portal-api"),
        "webhook_receiver_url": stack.url("receiver"),
        "simulator_url": stack.url("simulator"),
    }


def seed(
    stack: Stack, say: Callable[[str], None] = lambda _: None, service: dict[str, Any] | None = None
) -> Seed:
    """Seed a stack through the portal's API, or return what an earlier run seeded."""
    known = load(stack)
    if known is not None:
        say("using the two merchants of an earlier run")
        return known
    say("making the first admin (the password is generated, never a default)")
    password = make_admin(stack, ADMIN)
    portal = Portal(stack.url("portal-api"))
    portal.sign_in(ADMIN, password, "admin")
    say("making a simulator service, two merchants, their credentials and webhook endpoints")
    urls = {"test": stack.reach("simulator")}
    made = portal.post("/services", {**SERVICE, **(service or {}), "urls": urls})
    clients = [_merchant(stack, portal, made["id"], *names) for names in MERCHANTS]
    result = Seed(
        **_addresses(stack), clients=clients, admin={"email": ADMIN, "password": password}
    )
    StateFile(stack.folder / "demo.json").write(asdict(result))
    _wait_until_known(result)
    return result


def _merchant(stack: Stack, portal: Portal, service_id: str, name: str, slug: str) -> Merchant:
    company = portal.post("/companies", {"name": name})
    client = portal.post(
        "/clients",
        {
            "company_id": company["id"],
            "name": name,
            "currency": "RWF",
            "time_zone": "Africa/Kigali",
            "app_ids": {"test": f"{slug}_test", "live": f"{slug}_live"},
        },
    )
    portal.post("/assignments", {"client_id": client["id"], "service_id": service_id})
    path = f"/clients/{client['id']}/credentials"
    basic = portal.post(path, {"mode": "test", "kind": "api_password"})
    key = portal.post(path, {"mode": "test", "kind": "api_key"})
    endpoint = portal.post(
        f"/clients/{client['id']}/endpoints",
        {"mode": "test", "url": f"{stack.reach('receiver')}/hooks/{slug}"},
    )
    httpx.post(
        f"{stack.url('receiver')}/_secrets", json={"name": slug, "secret": endpoint["secret"]}
    ).raise_for_status()
    email, password = f"owner@{slug}.example", secrets.token_urlsafe(18)
    portal.post(
        "/users",
        {
            "company_id": company["id"],
            "audience": "client",
            "name": f"{name} owner",
            "email": email,
            "role": "owner",
            "password": password,
        },
    )
    return Merchant(
        client_id=client["id"],
        app_id=basic["app_id"],
        username=basic["username"],
        password=basic["password"],
        api_key=key["api_key"],
        webhook_secret=endpoint["secret"],
        client_email=email,
        client_password=password,
    )


def _wait_until_known(result: Seed, seconds: float = 30) -> None:
    """Wait until the gateway's replica has the merchants: credentials travel as messages."""
    until = time.monotonic() + seconds
    for client in result.clients:
        while True:
            answer = httpx.post(
                f"{result.gateway_url}/api/v1/auth/token",
                auth=(client.username, client.password),
                headers={"App-ID": client.app_id},
            )
            services = httpx.get(
                f"{result.gateway_url}/api/v1/client/services",
                auth=(client.username, client.password),
                headers={"App-ID": client.app_id},
            )
            if answer.status_code == 200 and "collection" in services.text:
                break
            if time.monotonic() > until:
                raise StartFailed(
                    f"the gateway does not know {client.app_id} yet: {answer.text[:300]} "
                    f"{services.text[:300]}"
                )
            time.sleep(0.1)
