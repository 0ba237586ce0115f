"""The shapes of the office's routes, as `gateway.http_models` has those of the others."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from gateway.http_models import RequestModel, example

DEVICE_PATTERN = r"^device:[A-Za-z0-9._~@+-]{1,128}$"
SERVICE_PATTERN = r"^service:[A-Za-z0-9._~@+-]{1,128}$"
CLIENT_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._~-]{0,127}$"
SECRET_CHARS_MAX = 256
PROOF_CHARS_MAX = 4_096
REASON_CHARS_MAX = 500
_AT = "2026-11-21T09:30:00.000Z"
_CLAIM = "q0hL2m0aJ3r5xkq9b1v4c7w8e2t6y5u3i1o0p9a8s7d"
_THUMBPRINT = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
_TOKEN = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJkZXZpY2U6dHJ1Y2stNyJ9.c2ln"

ClientRole = Literal["admin", "service", "auditor"]
Scope = Literal["token", "session", "principal"]


class AddClient(RequestModel):
    model_config = example({"principal": "service:eta", "roles": ["service"]})

    principal: str = Field(pattern=SERVICE_PATTERN, description="whom its tokens are of")
    roles: list[ClientRole] = Field(default_factory=list, max_length=3, description="what its tokens may do at most")


class ClientModel(BaseModel):
    model_config = example(
        {"client_id": "client-3q2-7wAAAAAAAAAA", "principal": "service:eta", "roles": ["service"], "made": _AT}
    )

    client_id: str
    principal: str
    roles: list[str]
    made: str = Field(json_schema_extra={"format": "date-time"})


class NewClientModel(ClientModel):
    model_config = example(
        {
            "client_id": "client-3q2-7wAAAAAAAAAA",
            "principal": "service:eta",
            "roles": ["service"],
            "made": _AT,
            "client_secret": _CLAIM,
        }
    )

    client_secret: str = Field(description="told here and never again; 256 random bits")


class ClientsModel(BaseModel):
    clients: list[ClientModel]


class MintClaim(RequestModel):
    model_config = example({"device": "device:truck-7"})

    device: str = Field(pattern=DEVICE_PATTERN, description="its principal; a claim it had before ends")


class ClaimModel(BaseModel):
    model_config = example(
        {
            "device": "device:truck-7",
            "claim": _CLAIM,
            "uri": f"readback://claim?u=https%3A%2F%2Fgateway.example&c={_CLAIM}&k={_THUMBPRINT}",
            "expires": _AT,
        }
    )

    device: str
    claim: str = Field(description="good once, until `expires`; names neither tenant nor device")
    uri: str = Field(
        description="what the QR code holds: u this API, c the claim, k the thumbprint of the gateway's key"
    )
    expires: str = Field(json_schema_extra={"format": "date-time"})


class Redeem(RequestModel):
    model_config = example({"claim": _CLAIM})

    claim: str = Field(min_length=1, max_length=SECRET_CHARS_MAX)


class RotateKey(RequestModel):
    model_config = example({"refresh_token": _CLAIM, "next_proof": _TOKEN})

    refresh_token: str = Field(min_length=1, max_length=SECRET_CHARS_MAX)
    next_proof: str = Field(
        min_length=1,
        max_length=PROOF_CHARS_MAX,
        description="a DPoP proof by the next key, whose ath is the refresh token's hash",
    )


class GrantModel(BaseModel):
    """RFC 6749, section 5.1, and whose it is."""

    model_config = example(
        {
            "access_token": _TOKEN,
            "token_type": "DPoP",
            "expires_in": 600,
            "scope": "",
            "refresh_token": _CLAIM,
            "tenant": "demo",
            "principal": "device:truck-7",
        }
    )

    access_token: str
    token_type: Literal["Bearer", "DPoP"] = Field(description="DPoP: good with a proof of the key only")
    expires_in: int = Field(description="seconds")
    scope: str = Field(description="the token's roles, separated by spaces")
    refresh_token: str | None = Field(None, description="for devices; good once")
    tenant: str
    principal: str


class OAuthError(BaseModel):
    """RFC 6749, section 5.2, with the wire's `code` beside it."""

    model_config = example(
        {"error": "invalid_client", "error_description": "the client is unknown, or …", "code": "unauthorized"}
    )

    error: str
    error_description: str
    code: str = Field(description="as in every other error of this API")
    retry_after: float | None = Field(None, description="seconds")


class DeviceModel(BaseModel):
    model_config = example({"device": "device:truck-7", "key": _THUMBPRINT, "enrolled": _AT, "revoked": False})

    device: str
    key: str | None = Field(description="thumbprint of its present public key (RFC 7638); null until it is enrolled")
    enrolled: str | None = Field(json_schema_extra={"format": "date-time"})
    revoked: bool


class DevicesModel(BaseModel):
    devices: list[DeviceModel]


class Revoke(RequestModel):
    model_config = example({"scope": "principal", "value": "user:amy", "reason": "left the company"})

    scope: Scope
    value: str = Field(min_length=1, max_length=256, description="a token's jti, a session's id, or a principal")
    reason: str = Field("", max_length=REASON_CHARS_MAX, description="for those who ask later")


class RevocationModel(BaseModel):
    model_config = example(
        {
            "scope": "principal",
            "value": "user:amy",
            "at": _AT,
            "until": None,
            "reason": "left the company",
            "by": "user:root",
            "lifted": False,
        }
    )

    scope: Literal["token", "session", "principal", "tenant"]
    value: str
    at: str = Field(
        description="a principal's ends what was issued until then", json_schema_extra={"format": "date-time"}
    )
    until: str | None = Field(description="when it may be forgotten; null: not before it is lifted")
    reason: str
    by: str
    lifted: bool


class RevocationsModel(BaseModel):
    revocations: list[RevocationModel]


class JwkModel(BaseModel):
    model_config = example(
        {
            "kty": "OKP",
            "crv": "Ed25519",
            "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
            "kid": "s1",
            "alg": "EdDSA",
            "use": "sig",
        }
    )

    kty: Literal["OKP"]
    crv: Literal["Ed25519"]
    x: str
    kid: str
    alg: Literal["EdDSA"]
    use: Literal["sig"]


class JwksModel(BaseModel):
    """RFC 7517."""

    keys: list[JwkModel]


TOKEN_FORM: dict[str, Any] = {
    "required": True,
    "content": {
        "application/x-www-form-urlencoded": {
            "schema": {
                "type": "object",
                "required": ["grant_type"],
                "properties": {
                    "grant_type": {"type": "string", "enum": ["client_credentials", "refresh_token"]},
                    "client_id": {"type": "string", "description": "or by HTTP Basic"},
                    "client_secret": {"type": "string", "description": "or by HTTP Basic"},
                    "scope": {"type": "string", "description": "fewer roles than the client has"},
                    "refresh_token": {"type": "string", "description": "a device's, with its proof in the header DPoP"},
                },
            },
            "example": {"grant_type": "client_credentials", "scope": "service"},
        }
    },
}
