"""A provider that follows `example.json`, the description in this connector's README."""

import hashlib
import hmac
import json
import uuid
from typing import Any

API_KEY, WEBHOOK_SECRET = "acme-key-4242", "acme-hook-secret-1313"


def sign(raw: bytes, secret: str = WEBHOOK_SECRET) -> dict[str, str]:
    """The header of a callback."""
    made = hmac.new(secret.encode(), raw, hashlib.sha256).hexdigest()
    return {"x-acme-signature": f"sha256={made}"}


class FakeAcme:
    """Charges and refunds by our reference; `first` is the state a charge begins in."""

    def __init__(self) -> None:
        self.charges: dict[str, dict[str, Any]] = {}
        self.refunds: dict[str, dict[str, Any]] = {}
        self.first = "WAITING"
        self.refuse: tuple[int, Any] | None = None

    def reset(self) -> None:
        self.__init__()  # type: ignore[misc]

    def __call__(self, seen: Any) -> tuple[int, Any]:
        if seen.headers.get("authorization") != f"Bearer {API_KEY}":
            return 401, {"error": {"code": "BAD_KEY"}}
        if seen.method == "POST" and self.refuse is not None:
            return self.refuse
        match [seen.method, *seen.path.strip("/").split("/")]:
            case ["POST", "v1", "charges"]:
                order = seen.body["order"]
                if order["ref"] in self.charges:
                    return 409, {"error": {"code": "KNOWN"}}
                charge = {"id": f"ch/{uuid.uuid4().hex}", "state": self.first, **order}
                charge["page"] = "https://acme-pay.example/p/1"
                self.charges[order["ref"]] = charge
                return 201, {"charge": charge}
            case ["GET", "v1", "charges", "by-ref", reference] if reference in self.charges:
                charge = self.charges[reference]
                return 200, {"charge": charge, "error": charge.get("error")}
            case ["POST", "v1", "charges", _, "refunds"]:
                body = seen.body
                refund = {"id": "re-1", "state": "WAITING", "currency": "RWF", **body}
                self.refunds[body["ref"]] = refund
                return 201, {"refund": refund}
            case ["GET", "v1", "refunds"] if seen.query.get("ref") in self.refunds:
                return 200, {"refund": self.refunds[seen.query["ref"]]}
        return 404, {"error": {"code": "NONE"}}

    def event(self, kind: str, data: dict[str, Any]) -> bytes:
        """The raw body of a callback."""
        event = {"id": f"ev_{uuid.uuid4().hex}", "type": kind}
        return json.dumps({"event": event, "data": data}).encode()
