"""Who may call: keys, Basic, tokens; what a revocation stops, and how fast."""

import base64
import datetime as dt
import time

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from mospay_shared.chassis.service_tokens import TokenSigner

from .conftest import Gateway, Merchant, newer

PROFILE = "/api/v1/client/profile"


async def profile(gateway: Gateway, **headers: str) -> httpx.Response:
    """Ask who the headers speak for."""
    raw = httpx.Headers(
        [(name.replace("_", "-").encode(), v.encode("latin-1")) for name, v in headers.items()]
    )
    return await gateway.http.get(PROFILE, headers=raw)


async def token_of(gateway: Gateway, merchant: Merchant) -> str:
    """Exchange Basic credentials for a token."""
    answer = await gateway.http.post(
        "/api/v1/auth/token",
        auth=(merchant.username, merchant.password),
        headers={"App-ID": merchant.app_id},
    )
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["status"] == "200" and body["message"] and body["expires_in"] == 900
    token: str = body["token"]
    return token


async def test_key_works_as_header_and_as_bearer(gateway: Gateway) -> None:
    merchant = await gateway.merchant()
    for headers in (
        {"X_API_Key": merchant.api_key},
        {"Authorization": f"Bearer {merchant.api_key}"},
    ):
        answer = await profile(gateway, **headers)
        assert answer.status_code == 200
        assert answer.json()["profile"]["client_id"] == merchant.client.client_id


async def test_token_carries_the_claims_and_verifies_against_the_published_keys(
    gateway: Gateway,
) -> None:
    merchant = await gateway.merchant()
    token = await token_of(gateway, merchant)
    keys = (await gateway.http.get("/.well-known/jwks.json")).json()["keys"]
    header = jwt.get_unverified_header(token)
    key = next(k for k in keys if k["kid"] == header["kid"])
    raw = base64.urlsafe_b64decode(key["x"] + "=")
    claims = jwt.decode(
        token, Ed25519PublicKey.from_public_bytes(raw), algorithms=["EdDSA"],
        audience="mospay-api", issuer="mospay-gateway",
    )  # fmt: skip
    assert claims["sub"] == merchant.client.client_id
    assert (claims["app_id"], claims["mode"]) == (merchant.app_id, "test")
    assert claims["services"] == [f"{merchant.service.microservice}/{merchant.service.name}"]
    assert claims["exp"] - claims["iat"] == 900
    assert (await profile(gateway, Authorization=f"Bearer {token}")).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Basic"},
        {"Authorization": "Basic !!!"},
        {"Authorization": "Basic " + base64.b64encode(b"no colon").decode()},
        {"Authorization": "Basic " + base64.b64encode(b"who:what").decode()},
        {"Authorization": "Bearer x.y.z"},
        {"Authorization": "Digest x"},
        {"X_API_Key": ""},
        {"X_API_Key": "mp_test_none_none"},
        {"X_API_Key": "mp_test_\u00e9_x"},
        {"Authorization": "Bearer mp_test_"},
    ],
)
async def test_bad_credentials_are_401_and_say_what_to_send(
    gateway: Gateway, headers: dict[str, str]
) -> None:
    answer = await profile(gateway, **headers)
    assert answer.status_code == 401 and "Basic" in answer.headers["www-authenticate"]
    assert answer.json()["code"] == "not_authenticated"


async def test_wrong_secret_mode_app_and_password_are_401(gateway: Gateway) -> None:
    one, other = await gateway.merchant(), await gateway.merchant()
    for headers in (
        {"X_API_Key": one.api_key + "x"},
        {"X_API_Key": one.api_key.replace("mp_test_", "mp_live_")},
        {"X_API_Key": one.api_key, "App_ID": other.app_id},
    ):
        assert (await profile(gateway, **headers)).status_code == 401
    for password, app_id in ((one.password + "x", one.app_id), (one.password, other.app_id)):
        answer = await gateway.http.post(
            "/api/v1/auth/token", auth=(one.username, password), headers={"App-ID": app_id}
        )
        assert answer.status_code == 401 and answer.json()["status"] == "401"


async def test_token_needs_basic_and_app_id(gateway: Gateway) -> None:
    merchant = await gateway.merchant()
    answer = await gateway.http.post(
        "/api/v1/auth/token", auth=(merchant.username, merchant.password)
    )
    assert answer.status_code == 401 and answer.json()["code"] == "app_id_missing"
    answer = await gateway.http.post("/api/v1/auth/token", headers=merchant.headers)
    assert answer.status_code == 401


async def test_forged_expired_and_service_tokens_are_refused(gateway: Gateway) -> None:
    merchant = await gateway.merchant()
    good = jwt.decode(await token_of(gateway, merchant), options={"verify_signature": False})
    seed = base64.b64decode(gateway.env["GATEWAY_SIGNING_KEY"])
    own = Ed25519PrivateKey.from_private_bytes(seed)
    forged = jwt.encode(good, Ed25519PrivateKey.generate(), algorithm="EdDSA")
    expired = jwt.encode({**good, "exp": int(time.time()) - 60}, own, algorithm="EdDSA")
    unsigned = jwt.encode(good, "", algorithm="none")
    service = TokenSigner("gateway", gateway.env["GATEWAY_SIGNING_KEY"]).token(
        "gateway", "payments:read", client_id=merchant.client.client_id, mode="test"
    )
    other_app = jwt.encode({**good, "app_id": "another"}, own, algorithm="EdDSA")
    for token in (forged, expired, unsigned, service, other_app):
        assert (await profile(gateway, Authorization=f"Bearer {token}")).status_code == 401
    answer = await profile(gateway, Authorization=f"Bearer {expired}")
    assert answer.json()["code"] == "token_expired"


async def test_revoked_key_is_refused_within_a_second_and_accepted_payments_go_on(
    gateway: Gateway,
) -> None:
    merchant = await gateway.merchant()
    payment = (await gateway.pay(merchant)).json()["id"]
    await gateway.tell(newer(merchant.key, revoked=True))
    assert (await gateway.pay(merchant)).status_code == 401
    token = await token_of(gateway, merchant)
    found = await gateway.http.get(
        f"/v1/payments/{payment}", headers={"Authorization": f"Bearer {token}"}
    )
    assert found.status_code == 200 and found.json()["status"] == "processing"


async def test_claims_never_authorise_by_themselves(gateway: Gateway) -> None:
    merchant = await gateway.merchant()
    token = await token_of(gateway, merchant)
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": "k"}
    await gateway.tell(newer(merchant.assignment, active=False))
    answer = await gateway.http.post("/v1/payments", json=merchant.body(), headers=headers)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["code"] == "service_inactive"
    await gateway.tell(newer(merchant.assignment, deleted=True))
    answer = await gateway.http.post("/v1/payments", json=merchant.body(), headers=headers)
    assert answer.json()["errors"][0]["code"] == "unknown_service"
    await gateway.tell(newer(merchant.login, revoked=True))
    assert (await profile(gateway, Authorization=f"Bearer {token}")).status_code == 401


async def test_expired_key_and_inactive_client_are_refused(gateway: Gateway) -> None:
    merchant = await gateway.merchant()
    past = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=1)
    await gateway.tell(newer(merchant.key, expires_at=past))
    assert (await profile(gateway, X_API_Key=merchant.api_key)).status_code == 401
    await gateway.tell(newer(merchant.key, expires_at=None), newer(merchant.client, active=False))
    answer = await profile(gateway, X_API_Key=merchant.api_key)
    assert answer.status_code == 403 and answer.json()["code"] == "client_inactive"
    await gateway.tell(newer(merchant.client, deleted=True))
    assert (await profile(gateway, X_API_Key=merchant.api_key)).status_code == 401


async def test_two_keys_overlap_while_one_is_rotated(gateway: Gateway) -> None:
    merchant = await gateway.merchant()
    twin = newer(merchant.login, credential_id="crd_twin" + merchant.username)
    await gateway.tell(twin, newer(merchant.login, revoked=True))
    answer = await gateway.http.get(PROFILE, auth=(merchant.username, merchant.password))
    assert answer.status_code == 200
