"""MTN's Collections and Disbursements as published.

momodeveloper.mtn.com/api-documentation: CreateAccessToken, RequesttoPay (202 without a body, 409
`RESOURCE_ALREADY_EXIST`), RequesttoPayTransactionStatus (RequestToPayResult, 404
`RESOURCE_NOT_FOUND`), Refund-V1, GetRefundStatus. X-Reference-Id has to be a version 4 UUID
(momodevelopercommunity.mtn.com, "MoMo API common errors").
"""

import base64
import re
import uuid
from typing import Any

API_USER, API_KEY, SUBSCRIPTION = "user-1", "mtn-api-key-7f3a", "mtn-subscription-91bc"
_UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_PATHS = {"/collection/v1_0/requesttopay": "payment", "/disbursement/v1_0/refund": "refund"}


class FakeMtn:
    """`results` is what MTN has, by reference id; `ends` is how the next request ends."""

    def __init__(self) -> None:
        self.results: dict[str, dict[str, Any]] = {}
        self.tokens: dict[str, str] = {}
        self.refuse: tuple[int, str] | None = None
        self.accounts = {API_USER: API_KEY, "user-2": "other-key"}

    def end(self, reference: str, status: str, reason: Any = None) -> None:
        """End the request with this externalId, as its payer or MTN does."""
        for result in self.results.values():
            if result["externalId"] == reference:
                result["status"] = status
                if status == "SUCCESSFUL":
                    result["financialTransactionId"] = "23503452"
                if reason is not None:
                    result["reason"] = reason

    def __call__(self, seen: Any) -> tuple[int, Any]:
        if seen.headers.get("ocp-apim-subscription-key") != SUBSCRIPTION:
            return 401, {"statusCode": 401, "message": "Access denied due to invalid key."}
        if seen.path in ("/collection/token/", "/disbursement/token/"):
            return self._log_in(seen)
        owner = self.tokens.get(seen.headers.get("authorization", "").removeprefix("Bearer "))
        if owner is None or seen.headers.get("x-target-environment") != "sandbox":
            return 401, {"code": "UNAUTHORIZED", "message": "bad token or environment"}
        if seen.method == "POST":
            return self._take(seen)
        result = self.results.get(seen.path.rpartition("/")[2])
        if result is None:
            return 404, {"code": "RESOURCE_NOT_FOUND", "message": "Requested resource not found"}
        return 200, result

    def _log_in(self, seen: Any) -> tuple[int, Any]:
        basic = base64.b64decode(seen.headers["authorization"].removeprefix("Basic ")).decode()
        user, _, key = basic.partition(":")
        if self.accounts.get(user) != key:
            return 401, {"error": "login_failed"}
        token = f"token-{uuid.uuid4().hex}"
        self.tokens[token] = user
        return 200, {"access_token": token, "token_type": "access_token", "expires_in": 3600}

    def _take(self, seen: Any) -> tuple[int, Any]:
        if self.refuse is not None:
            status, code = self.refuse
            return status, {"code": code, "message": "refused"}
        handle, body = seen.headers.get("x-reference-id", ""), seen.body
        wanted = {"amount", "currency", "externalId", "payerMessage", "payeeNote"}
        wanted |= {"payer"} if _PATHS[seen.path] == "payment" else {"referenceIdToRefund"}
        if set(body) != wanted or not _UUID4.fullmatch(handle):
            return 400, {"code": "BAD_REQUEST", "message": "does not follow the specification"}
        if handle in self.results:
            return 409, {"code": "RESOURCE_ALREADY_EXIST", "message": "Duplicated reference id."}
        if "referenceIdToRefund" in body and body["referenceIdToRefund"] not in self.results:
            return 404, {"code": "RESOURCE_NOT_FOUND", "message": "nothing to refund"}
        self.results[handle] = {**body, "status": "PENDING"}
        return 202, None
