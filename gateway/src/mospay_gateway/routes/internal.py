"""What portal-api tells at once, beside the message: credentials and clients that changed."""

from fastapi import APIRouter, Depends
from mospay_shared.chassis.directory import DirectoryReplica
from mospay_shared.chassis.problems import Problem
from mospay_shared.chassis.service_tokens import Caller, TokenVerifier
from mospay_shared.contracts import ClientV1, CredentialV1
from pydantic import BaseModel, ConfigDict, Field

_LIMIT = 100  # entities a call


class ChangedCredentials(BaseModel):
    """Credentials as they are now; hashes, never secrets."""

    model_config = ConfigDict(extra="ignore")
    credentials: list[CredentialV1] = Field(min_length=1, max_length=_LIMIT)


class ChangedClients(BaseModel):
    """Clients as they are now."""

    model_config = ConfigDict(extra="ignore")
    clients: list[ClientV1] = Field(min_length=1, max_length=_LIMIT)


class Acknowledged(BaseModel):
    """They hold from now on: here at once, in the gateway's other processes within 0.5 s."""

    acknowledged: int


def router(replica: DirectoryReplica, verifier: TokenVerifier) -> APIRouter:
    """Return the routes; a change that is older than what is known changes nothing."""
    routes = APIRouter(prefix="/internal/v1", tags=["internal"])
    scope = verifier.needs("credentials:write")

    def portal(caller: Caller = Depends(scope)) -> None:
        if caller.issuer != "portal-api" or not caller.operator:
            raise Problem(403, "not_allowed", "Only portal-api tells of changes")

    @routes.post("/credentials/changed", dependencies=[Depends(portal)])
    async def credentials_changed(body: ChangedCredentials) -> Acknowledged:
        """Take over credentials as the directory message would."""
        await replica.take(body.credentials)
        return Acknowledged(acknowledged=len(body.credentials))

    @routes.post("/clients/changed", dependencies=[Depends(portal)])
    async def clients_changed(body: ChangedClients) -> Acknowledged:
        """Take over clients as the directory message would."""
        await replica.take(body.clients)
        return Acknowledged(acknowledged=len(body.clients))

    return routes
