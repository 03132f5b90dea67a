"""Tokens, seals, ids and addresses: what is not ours does not get in."""

import base64
import datetime as dt
import ipaddress
import secrets

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from mospay_shared.chassis.http_out import AddressRefused, check_address, open_session
from mospay_shared.chassis.problems import Problem
from mospay_shared.chassis.sealed import SealBroken, Sealer
from mospay_shared.chassis.service_tokens import TokenSigner, TokenVerifier, public_key
from mospay_shared.ids import id_time, is_id, new_id


def seed() -> str:
    """A fresh signing seed."""
    return base64.b64encode(secrets.token_bytes(32)).decode()


def test_token_of_a_trusted_issuer_carries_its_tenant() -> None:
    key = seed()
    verifier = TokenVerifier("ledger", [f"portal-api={public_key(key)}"])
    token = TokenSigner("portal-api", key).token(
        "ledger", "ledger:read trace:read", actor="usr_1", client_id="cli_1", mode="test"
    )
    caller = verifier.verify(token)
    assert caller.client_id == "cli_1" and caller.mode == "test" and not caller.operator
    assert "trace:read" in caller.scopes and caller.actor == "usr_1"


def test_token_for_another_service_or_of_another_key_is_refused() -> None:
    key, other = seed(), seed()
    verifier = TokenVerifier("ledger", [f"portal-api={public_key(key)}"])
    for token in (
        TokenSigner("portal-api", key).token("reporter", "x"),
        TokenSigner("portal-api", other).token("ledger", "x"),
        TokenSigner("gateway", key).token("ledger", "x"),
        "",
        "a.b.c",
        jwt.encode({"aud": "ledger", "iss": "portal-api"}, "x" * 32, headers={"kid": "portal-api"}),
    ):
        with pytest.raises(Problem) as refused:
            verifier.verify(token)
        assert refused.value.status == 401


def test_expired_token_is_refused() -> None:
    raw = secrets.token_bytes(32)
    key = base64.b64encode(raw).decode()
    old = dt.datetime.now(dt.UTC) - dt.timedelta(minutes=5)
    claims = {"iss": "portal-api", "aud": "ledger", "iat": old, "exp": old, "scope": "x"}
    token = jwt.encode(
        claims,
        Ed25519PrivateKey.from_private_bytes(raw),
        algorithm="EdDSA",
        headers={"kid": "portal-api"},
    )
    with pytest.raises(Problem):
        TokenVerifier("ledger", [f"portal-api={public_key(key)}"]).verify(token)


def test_sealed_secret_opens_for_its_owner_alone_and_with_an_older_key() -> None:
    old, new = f"k1:{seed()}", f"k2:{seed()}"
    sealed = Sealer(old).seal({"f008": "1234"}, "pay_1")
    assert "1234" not in sealed.model_dump_json()
    assert Sealer(f"{new},{old}").open(sealed, "pay_1") == {"f008": "1234"}
    for sealer, owner in ((Sealer(old), "pay_2"), (Sealer(new), "pay_1")):
        with pytest.raises(SealBroken):
            sealer.open(sealed, owner)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "192.168.1.1", "172.16.0.1", "169.254.169.254", "0.0.0.0",
        "::1", "fe80::1", "fc00::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "224.0.0.1",
        "100.64.0.1", "255.255.255.255",
    ],
)  # fmt: skip
def test_inside_addresses_are_refused(address: str) -> None:
    with pytest.raises(AddressRefused):
        check_address(address, [])


def test_public_and_allowed_addresses_pass() -> None:
    check_address("93.184.216.34", [])
    check_address("127.0.0.1", [ipaddress.ip_network("127.0.0.0/8")])


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/", "http://localhost:9/", "http://[::1]:9/"])
async def test_session_refuses_at_the_socket_whatever_the_name(url: str) -> None:
    async with open_session([]) as session:
        with pytest.raises(OSError, match="not a public address"):
            await session.get(url)


def test_ids_sort_by_time_and_tell_it() -> None:
    made = [new_id("pay") for _ in range(50)]
    assert made == sorted(made)
    assert abs((id_time(made[0]) - dt.datetime.now(dt.UTC)).total_seconds()) < 5
    assert is_id(made[0], "pay") and not is_id(made[0], "att") and not is_id("pay_x")
    assert id_time("raw_zz").year == 1970
    assert id_time("evt_" + "f" * 12 + "7fffbfffffffffffffff").year == 1970
