"""f007 and f008: opened only for functions that read them, sealed again in what is stored."""

import orjson
from mospay_shared.chassis.sealed import Sealer
from mospay_shared.contracts import SealedSecrets

from mospay_payment_router.domain.payments import Payment


def open_secrets(sealer: Sealer, payment: Payment) -> dict[str, str]:
    """Return f007 and f008 where a function of this payment reads them; raises SealBroken."""
    if not payment.terms.needs_secrets or payment.secrets is None:
        return {}
    return sealer.open(SealedSecrets(**payment.secrets), payment.id)


def seal_payload(sealer: Sealer, payload: bytes, payment_id: str) -> bytes:
    """Seal a payload that was made from secrets, for the attempt's row."""
    return sealer.seal({"payload": payload.decode()}, payment_id).model_dump_json().encode()


def open_payload(sealer: Sealer, stored: bytes, payment_id: str) -> bytes:
    """Open a payload of `seal_payload`; raises SealBroken."""
    sealed = SealedSecrets(**orjson.loads(stored))
    return sealer.open(sealed, payment_id)["payload"].encode()
