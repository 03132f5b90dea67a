"""What tests of provider function versions share: sources, and a person at the API."""

from dataclasses import dataclass
from typing import Any

import httpx

from .conftest import Merchant, Stage, until

PAYLOAD = """json_build_array(json_build_object('i', 4, 'v', data_input->>'f004'),
    json_build_object('i', 10, 'v', unique_id){extra})"""
CALL = """CREATE OR REPLACE FUNCTION "{name}"(unique_id text, data_input json)
RETURNS TABLE(results json) AS $BODY$
DECLARE payload json;
BEGIN
    payload := {payload};
    RETURN QUERY SELECT json_build_object('status', '200', 'type', 'object', 'message', 'ok',
        'version', '1.0', 'action', 'SERVICE', 'command', 'collection',
        'appName', data_input->>'f003', 'serviceurl', '{url}', 'servicepayload', payload);
END;
$BODY$ LANGUAGE plpgsql;"""
RESPONSE = """CREATE FUNCTION public."{name}"(
    unique_id text, data_input json, code integer, data_output json)
RETURNS TABLE (results json) LANGUAGE plpgsql VOLATILE COST 100 AS $$
BEGIN  -- names no outcome, as functions of older systems do
    RETURN QUERY SELECT json_build_object('status', code::text, 'type', 'object',
        'message', data_output->>'message', 'version', '1.0', 'action', 'OUTPUT',
        'command', data_input->>'f002', 'appName', data_input->>'f003');
END; $$"""


def call_source(name: str, url: str, extra: str = "") -> str:
    """A call function as an older MosPay has it, with a positional payload."""
    return CALL.format(name=name, url=url, payload=PAYLOAD.format(extra=extra))


def response_source(name: str) -> str:
    """A RESPONSE_ function as an older MosPay has it."""
    return RESPONSE.format(name=name)


def plpgsql(name: str, body: str, *, response: bool = False) -> str:
    """A function with a body of its own."""
    more = ", code integer, data_output json" if response else ""
    return (
        f'create function "{name}"(unique_id text, data_input json{more}) '
        f"returns table (results json) language plpgsql as $_$ {body} $_$"
    )


@dataclass
class Desk:
    """A person who may change functions: the operator's, or one client's."""

    stage: Stage
    claims: dict[str, Any]

    async def ask(self, method: str, path: str, body: Any = None) -> httpx.Response:
        """Ask the router below /internal/v1."""
        headers = self.stage.token("functions:read functions:write", actor="usr_1", **self.claims)
        return await self.stage.http.request(
            method, f"/internal/v1{path}", json=body, headers=headers
        )

    async def draft(self, name: str, source: str, **more: Any) -> int:
        """Post a source that is taken; return its version."""
        body = {"source": source, **more}
        answer = await self.ask("POST", f"/functions/{name}/versions", body)
        assert answer.status_code == 201, answer.text
        return int(answer.json()["version"])

    async def step(self, name: str, version: int, step: str, **body: Any) -> httpx.Response:
        """Take a step with a version."""
        return await self.ask("POST", f"/functions/{name}/versions/{version}/{step}", body)

    async def dry_run(self, name: str, version: int, **body: Any) -> dict[str, Any]:
        """Dry-run a version."""
        answer = await self.step(name, version, "dry-run", **body)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def make_live(self, name: str, source: str) -> int:
        """Draft, dry-run, test and go live with a source beside its partner's live version."""
        version = await self.draft(name, source)
        partner = name.removeprefix("RESPONSE_") if "RESPONSE_" in name else f"RESPONSE_{name}"
        for of, number in ((name, version), (partner, await self.live(partner))):
            answer = {"outcome": "unknown"}
            assert (await self.dry_run(of, number, answer=answer))["passed"], of
        for step in ("tested", "live"):
            done = await self.step(name, version, step)
            assert done.status_code in (200, 204), done.text
        await self.serves(name, version)
        return version

    async def live(self, name: str) -> int:
        """The live version of a function."""
        rows = (await self.ask("GET", f"/functions/{name}/versions")).json()
        return next(int(r["version"]) for r in rows if r["state"] == "live")

    async def state(self, name: str, version: int) -> str:
        """The state of a version."""
        rows = (await self.ask("GET", f"/functions/{name}/versions")).json()
        return next(str(r["state"]) for r in rows if r["version"] == version)

    async def serves(self, name: str, version: int) -> None:
        """Wait until the router's memory has a version live."""
        known = self.stage.service.app.state.wiring.catalogue.functions

        async def now() -> bool:
            return bool(known.version(name) == version)

        await until(now)


def name_of(merchant: Merchant, suffix: str = "") -> str:
    """The call function of a merchant's route."""
    return f"{merchant.app_id}_{merchant.microservice}_{merchant.route}{suffix}"
