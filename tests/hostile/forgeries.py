"""Forged tokens of issuers that sign with public keys: everything known to have worked somewhere.

What a forger may know is known here: public keys, kids, names of tenants. `TENANTS` are two with an issuer each, `KEYS` what
their issuers publish; the honest signers are those of `tests.issuers`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import cache
from typing import Any

import jwt
import orjson
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from core.dpop import make_proof
from core.jws import TOKEN_BYTES_MAX, b64url
from core.keys import parse_jwks
from core.model import AUDITOR
from core.tenants import ALGORITHMS, Issuer, Tenant, Tenants
from core.tokens import ResumeClaims, ResumeKeys, issue
from tests.issuers import IDP, Signer, claims, compact, hmac_with, own, signer
from tests.nodes import SECRETS

SECRET = SECRETS.token_secrets["k1"]
ACME = Issuer(IDP, jwks_url="https://id.acme.example/keys")
RIVAL = Issuer("https://id.rival.example", jwks_url="https://id.rival.example/keys")
TENANTS = Tenants({"acme": Tenant("acme", (ACME,)), "rival": Tenant("rival", (RIVAL,))})
JWKS = {
    ACME.jwks_url: {"keys": [signer(name).jwk for name in ALGORITHMS]},
    RIVAL.jwks_url: {"keys": [signer("EdDSA", "rival").jwk]},
}
KEYS = {url: parse_jwks(document, ALGORITHMS)[0] for url, document in JWKS.items()}
EDDSA, ES256, RS256 = map(signer, ALGORITHMS)

P256_N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
ED25519_L = 2**252 + 27742317777372353535851937790883648493

Attack = tuple[object, str]
"""What is sent for a token, and a word of the reason."""


def faces(one: Signer) -> dict[str, bytes]:
    """What a public key looks like in bytes, to one who would use it for a shared secret."""
    pem = one.public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    found = {
        "PEM": pem,
        "PEM without its last line feed": pem.rstrip(b"\n"),
        "DER": one.public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        "JWK": orjson.dumps(one.jwk),
        "set": orjson.dumps({"keys": [one.jwk]}),
        "thumbprint": KEYS[ACME.jwks_url][one.kid].thumbprint.encode(),
        "kid": one.kid.encode(),
    }
    if one.algorithm == "RS256":
        found["PKCS 1"] = one.public.public_bytes(Encoding.PEM, PublicFormat.PKCS1)
        found["modulus"] = one.jwk["n"].encode()
    elif one.algorithm == "ES256":
        found["point"] = one.public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    else:
        found["raw"] = one.public.public_bytes_raw()
    return found


def respelled(token: str, part: int) -> str | None:
    """The same bytes in another spelling of base64url, where the part has bits that mean nothing."""
    parts = token.split(".")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    if len(parts[part]) % 4 == 0:
        return None
    parts[part] = parts[part][:-1] + alphabet[alphabet.index(parts[part][-1]) ^ 1]
    return ".".join(parts)


def signed_with(token: str, signature: bytes) -> str:
    return f"{token.rpartition('.')[0]}.{b64url(signature)}"


def signature_of(token: str) -> bytes:
    return bytes(jwt.utils.base64url_decode(token.rpartition(".")[2]))


@cache
def attacks(now_s: float) -> dict[str, Attack]:
    """All of them, made for the time that the verifier's clock shows."""
    listed = list(_attacks(now_s))
    made = dict(listed)
    assert len(made) == len(listed), "two of one name"
    return made


def _attacks(now_s: float) -> Iterator[tuple[str, Attack]]:
    exp = now_s + 60

    def by(one: Signer, header: object = ..., /, **changed: object) -> str:
        return one.token(header, **{"exp": exp, **changed})

    def raw(header: object, body: object = None, sign: Any = lambda data: b"\0" * 64) -> str:
        return compact(header, claims(exp=exp) if body is None else body, sign)

    good = by(EDDSA)
    head = {"alg": "EdDSA", "typ": "JWT", "kid": "eddsa"}

    # No algorithm, no signature
    for name in ("none", "None", "nOnE", "NONE", "none ", "", None, 0, ["none"], {"alg": "none"}):
        yield f"alg {name!r}", (raw({**head, "alg": name}), "algorithm")
        yield f"alg {name!r}, unsigned", (raw({**head, "alg": name}, sign=lambda _: b""), "not a JWT")
        yield f"alg {name!r}, signed after all", (by(EDDSA, {**head, "alg": name}), "algorithm")
    yield "no alg", (by(EDDSA, {"kid": "eddsa"}), "algorithm")

    # A public key for a shared secret
    for one in (EDDSA, ES256, RS256):
        for face, secret in faces(one).items():
            for kid, iss, said in (
                (one.kid, IDP, "algorithm"),
                ("k1", IDP, "algorithm"),
                ("k1", ..., "bad signature"),
                (one.kid, ..., "unknown key"),
                ("s1", "readback", "algorithm"),
            ):
                body = claims(exp=exp, iss=iss, tenant="acme")
                token = compact({"alg": "HS256", "kid": kid}, body, hmac_with(secret))
                yield f"HS256 with the {one.algorithm} key as {face}, kid {kid}, iss {iss}", (token, said)
    token = compact({"alg": "HS256", "kid": "s1"}, claims(exp=exp, iss="readback"), hmac_with(own().public_bytes))
    yield "HS256 with the gateway's own key", (token, "algorithm")
    yield (
        "HS256 with nothing",
        (compact({"alg": "HS256", "kid": "k1"}, claims(exp=exp, iss=...), hmac_with(b"")), "bad"),
    )
    yield "the shared secret for an issuer", (raw({**head, "alg": "HS256"}, sign=hmac_with(SECRET)), "algorithm")
    for name in ("HS384", "HS512", "hs256"):
        token = compact({"alg": name, "kid": "k1"}, claims(exp=exp, iss=...), hmac_with(SECRET))
        yield name, (token, "algorithm")

    # One algorithm's key for another's
    for mine, other in itertools.permutations((EDDSA, ES256, RS256), 2):
        pair = f"{mine.algorithm} for {other.algorithm}"
        yield f"{pair}: its kid", (by(mine, {"alg": mine.algorithm, "kid": other.kid}), "algorithm")
        yield f"{pair}: its alg", (by(mine, {"alg": other.algorithm, "kid": mine.kid}), "algorithm")
        yield f"{pair}: both", (by(mine, {"alg": other.algorithm, "kid": other.kid}), "bad signature")
    for name in ("PS256", "RS384", "RS512", "ES384", "ES256K", "Ed25519", "Ed448", "eddsa", "RSA-OAEP", "dir"):
        for one in (EDDSA, ES256, RS256):
            yield f"{one.algorithm} says {name}", (by(one, {"alg": name, "kid": one.kid}), "algorithm")
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
    token = compact(
        {"alg": "RS256", "kid": "rs256"}, claims(exp=exp), lambda d: RS256.private.sign(d, pss, hashes.SHA256())
    )
    yield "RS256 with the padding of PS256", (token, "bad signature")

    # A key brought along
    evil = signer("EdDSA", "evil")
    for name, value in {
        "jwk": evil.jwk,
        "jku": "https://evil.example/keys",
        "x5u": "https://evil.example/cert",
        "x5c": ["MIIB"],
        "key": evil.jwk,
        "epk": evil.jwk,
    }.items():
        yield f"{name} in the header", (by(evil, {**head, name: value}), "unsupported")
        yield f"{name} in the header, well signed", (by(EDDSA, {**head, name: value}), "unsupported")
    yield "x5t of another key", (by(evil, {**head, "x5t": "evil"}), "bad signature")
    shared = {"kty": "oct", "k": b64url(SECRET), "kid": "k1"}
    yield (
        "a symmetric jwk",
        (compact({"alg": "HS256", "jwk": shared}, claims(exp=exp), hmac_with(SECRET)), "unsupported"),
    )

    # Names of keys
    for kid in (
        *(
            "../../../../dev/null",
            "/dev/null",
            "file:///dev/null",
            "https://evil.example/keys",
            "eddsa\0",
            "eddsa\n",
            "EDDSA",
        ),
        *(
            "' or '1'='1",
            "eddsa' union select 'x",
            "eddsa;--",
            "|id",
            "$(id)",
            "{{7*7}}",
            "%00",
            "__proto__",
            "constructor",
        ),
        *("__class__", "еddsa", "\u202eeddsa", "eddsa ", "s1", "k1", "rival", "0", "a" * 256),
    ):
        yield f"kid {kid[:30]!r}", (by(EDDSA, {**head, "kid": kid}), "unknown key")
    for value in ("", "a" * 257, 0, 1, True, ["eddsa"], {"eddsa": 1}, 1.5):
        yield f"kid {str(value)[:30]!r} of another type or size", (by(EDDSA, {**head, "kid": value}), "unknown key")
    yield "kid null", (by(EDDSA, {**head, "kid": None}), "unknown key")
    yield "no kid among three keys", (by(EDDSA, {"alg": "EdDSA"}), "unknown key")
    yield "a kid of 1 MB", (by(EDDSA, {**head, "kid": "k" * 1_000_000}), "too long")

    # Headers that change what is read
    for extra in (
        *(
            {"crit": ["exp"], "exp": 1},
            {"crit": []},
            {"crit": ["b64"], "b64": True},
            {"b64": False},
            {"b64": False, "crit": ["b64"]},
        ),
        *({"zip": "DEF"}, {"cty": "JWT"}, {"enc": "A128GCM"}, {"iss": IDP}, {"p2c": 1_000_000_000}, {"nonce": "x"}),
    ):
        yield f"header with {extra}", (by(EDDSA, {**head, **extra}), "unsupported")
    token = by(EDDSA, {**head, "b64": False, "crit": ["b64"]})
    yield "detached claims", (f"{token.split('.')[0]}..{token.split('.')[2]}", "not a JWT")
    for value in ("dpop+jwt", "logout+jwt", "secevent+jwt", "JOSE", "", 1, None, ["JWT"]):
        yield f"typ {value!r}", (by(EDDSA, {**head, "typ": value}), "typ")

    # Times
    for name, value, said in (
        *(
            ("exp", now_s - 31, "expired"),
            ("exp", 0, "expired"),
            ("exp", -1, "expired"),
            ("exp", ..., "exp is missing"),
        ),
        *(("exp", "9999999999", "exp is missing"), ("exp", [exp], "exp is missing"), ("exp", True, "exp is missing")),
        *(("nbf", now_s + 90, "not valid yet"), ("nbf", "0", "nbf is not"), ("nbf", None, "nbf is not")),
        *(
            ("iat", now_s + 90, "future"),
            ("iat", 1e300, "future"),
            ("iat", "0", "iat is not"),
            ("iat", None, "iat is not"),
        ),
    ):
        yield f"{name} {value!r}", (by(EDDSA, **{name: value}), said)
    for number in (b"1e999", b"-1e999", b"NaN", b"Infinity", b"0x7fffffff", b"01", b"+1"):
        body = b'{"iss":"%b","sub":"user:amy","aud":"readback","exp":%b}' % (IDP.encode(), number)
        yield f"exp {number.decode()}", (raw(head, body, EDDSA.sign), "not understood")

    # For whom, by whom, of whom
    for aud in (
        *("billing", "Readback", "readback ", "readback\0", "", "*", None, 1, True, [], ["billing"], [["readback"]]),
        *({"readback": 1}, [{"aud": "readback"}], ["read", "back"], ["readback,billing"], ...),
    ):
        yield f"aud {aud!r}", (by(EDDSA, aud=aud), "audience")
    for iss in (
        IDP + "/",
        IDP.upper(),
        " " + IDP,
        IDP + "\0",
        IDP.replace("https", "http"),
        "",
        "https://evil.example",
        ...,
    ):
        yield f"iss {iss!r}", (by(EDDSA, iss=iss, tenant="acme"), "unknown key")
    for value in (None, 1, [IDP], {"iss": IDP}, True):
        yield f"iss {value!r} of another type", (by(EDDSA, iss=value, tenant="acme"), "iss is not a text")
    yield "iss of the gateway", (by(EDDSA, iss="readback", tenant="acme"), "unknown key")
    yield (
        "iss of the gateway, kid too",
        (by(EDDSA, {**head, "kid": "s1"}, iss="readback", tenant="acme"), "bad signature"),
    )
    yield "iss of another tenant", (by(EDDSA, iss=RIVAL.issuer), "unknown key")
    yield "iss and kid of another tenant", (by(EDDSA, {**head, "kid": "rival"}, iss=RIVAL.issuer), "bad signature")
    for tenant in (
        "rival",
        "demo",
        "",
        "acme\0",
        "Acme",
        "*",
        "../rival",
        None,
        1,
        True,
        ["acme"],
        ["acme", "rival"],
        {"acme": 1},
    ):
        yield f"tenant {tenant!r}", (by(EDDSA, tenant=tenant), "does not speak for this tenant")
    for sub in (
        AUDITOR,
        "amy",
        "",
        "admin:amy",
        "user:",
        "user:a b",
        "user:a\0",
        "user:a\n",
        "user:аmy\u200b",
        None,
        1,
        ["user:amy"],
    ):
        said = "the gateway itself" if sub == AUDITOR else "sub is not"
        yield f"sub {sub!r}", (by(EDDSA, sub=sub), said)
    body = claims(exp=exp, iss=..., tenant="acme", sub=AUDITOR)
    yield (
        "the gateway itself, by the shared secret",
        (compact({"alg": "HS256", "kid": "k1"}, body, hmac_with(SECRET)), "itself"),
    )
    body = {**body, "iss": "readback"}
    yield "the gateway itself, by its own key", (compact({"alg": "EdDSA", "kid": "s1"}, body, own().sign), "itself")
    for roles in ("admin", {"admin": True}, ["Admin"], ["admin\n"], [["admin"]], [None], ["a"] * 33, None, 7):
        yield f"roles {str(roles)[:30]}", (by(EDDSA, roles=roles), "roles")
    for jti in ("", "j" * 129, "a\0b", "a\nb", 1, None, ["x"]):
        yield f"jti {str(jti)[:30]!r}", (by(EDDSA, jti=jti), "jti")
    jkt = own("truck-7").thumbprint
    for cnf in (
        *(
            None,
            {},
            [],
            jkt,
            {"jkt": None},
            {"jkt": ""},
            {"jkt": jkt[:-1]},
            {"jkt": jkt + "="},
            {"jkt": [jkt]},
            {"jkt": {"x": jkt}},
        ),
        *(
            {"jwk": evil.jwk},
            {"x5t#S256": jkt},
            {"jkt": jkt, "jwk": evil.jwk},
            {"kid": "eddsa"},
            {"JKT": jkt},
            [{"jkt": jkt}],
        ),
    ):
        yield f"cnf {str(cnf)[:80]}", (by(EDDSA, cnf=cnf), "cnf")

    # Two readers, two meanings
    for names, header, body in (
        ("alg", b'{"alg":"EdDSA","kid":"eddsa","alg":"EdDSA"}', claims(exp=exp)),
        ("alg, none first", b'{"alg":"none","kid":"eddsa","alg":"EdDSA"}', claims(exp=exp)),
        ("kid", b'{"alg":"EdDSA","kid":"x","kid":"eddsa"}', claims(exp=exp)),
        ("kid, escaped", b'{"alg":"EdDSA","kid":"x","\\u006bid":"eddsa"}', claims(exp=exp)),
        ("sub", head, orjson.dumps(claims(exp=exp))[:-1] + b',"sub":"user:eve"}'),
        ("iss", head, b'{"iss":"readback",' + orjson.dumps(claims(exp=exp))[1:]),
        ("exp", head, orjson.dumps(claims(exp=1))[:-1] + b',"exp":9999999999}'),
        ("jkt", head, orjson.dumps(claims(exp=exp))[:-1] + b',"cnf":{"jkt":"a","jkt":"b"}}'),
    ):
        yield f"{names} twice", (raw(header, body, EDDSA.sign), "twice")

    # Sizes and shapes
    yield "1 MB", (by(EDDSA, pad="x" * 1_000_000), "too long")
    yield "1 MB of dots", ("." * 1_000_000, "too long")
    yield "one byte too many", ("a" * (TOKEN_BYTES_MAX - 3) + ".b.c", "too long")
    for depth in (1_100, 2_500):
        yield (
            f"claims {depth} deep",
            (raw(head, b'{"a":' + b"[" * depth + b"]" * depth + b"}", EDDSA.sign), "not understood"),
        )
        yield f"a header {depth} deep", (raw(b'{"alg":' + b"[" * depth + b"]" * depth + b"}"), "not understood")
    yield (
        "encrypted: five parts",
        (".".join([b64url(b'{"alg":"dir","enc":"A128GCM"}'), "", "AA", "AA", "AA"]), "not a JWT"),
    )
    yield "encrypted, all parts there", (".".join(["AA"] * 5), "not a JWT")
    yield "JSON serialisation", (orjson.dumps({"payload": "AA", "signatures": []}).decode(), "not a JWT")
    for at in range(3):
        parts = good.split(".")
        parts[at] = ""
        yield f"part {at} empty", (".".join(parts), "not a JWT")
        other = next(filter(None, (respelled(by(EDDSA, iat=now_s - n), at) for n in (0.5, 0.25, 10, 100, 0.125))), None)
        if at != 0 and other is not None:
            yield f"part {at} in another spelling", (other, "not a JWT")
        for name, change in (
            ("padded", "="),
            ("with a space", " "),
            ("with a line feed", "\n"),
            ("of the other alphabet", "+"),
        ):
            parts = good.split(".")
            parts[at] += change
            yield f"part {at} {name}", (".".join(parts), "not a JWT")
    for value in (None, 1, True, [], [good], {"token": good}):
        yield f"{str(value)[:10]} of another type", (value, "a string")
    for name, token in (("a scheme before it", "Bearer " + good), ("two", good + good), ("a NUL behind", good + "\0")):
        yield name, (token, "not a JWT")

    # Signatures
    changed = good.split(".")
    changed[1] = b64url(orjson.dumps(claims(exp=exp, roles=["admin"])))
    yield "claims changed under a good signature", (".".join(changed), "bad signature")
    ecdsa = by(ES256)
    r, s = signature_of(ecdsa)[:32], signature_of(ecdsa)[32:]
    zero, one_, n = bytes(32), (1).to_bytes(32), P256_N.to_bytes(32)
    for name, signature in {
        "zeros": zero + zero,
        "r 0": zero + s,
        "s 0": r + zero,
        "ones": one_ + one_,
        "r n": n + s,
        "s n": r + n,
        "n and n": n + n,
        "s beyond n": r + b"\xff" * 32,
        "r and s swapped": s + r,
        "DER": ES256.private.sign(b"x", ec.ECDSA(hashes.SHA256())),
        "DER of this token": ES256.private.sign(ecdsa.rpartition(".")[0].encode(), ec.ECDSA(hashes.SHA256())),
        "short by one": (r + s)[:-1],
        "long by one": r + s + b"\0",
        "of the size of P-384": bytes(16) + r + bytes(16) + s,
        "32 bytes": r,
    }.items():
        yield f"ECDSA: {name}", (signed_with(ecdsa, signature), "bad signature")
    point, scalar = signature_of(good)[:32], int.from_bytes(signature_of(good)[32:], "little")
    for name, signature in {
        "zeros": bytes(64),
        "s + L": point + (scalar + ED25519_L).to_bytes(32, "little"),
        "the neutral point": one_[::-1] + bytes(32),
        "short by one": signature_of(good)[:-1],
        "long by one": signature_of(good) + b"\0",
        "of another token": signature_of(by(EDDSA, sub="user:eve")),
    }.items():
        yield f"Ed25519: {name}", (signed_with(good, signature), "bad signature")
    rsa = by(RS256)
    modulus = RS256.public.public_numbers().n.to_bytes(256)
    for name, signature in {
        "zeros": bytes(256),
        "one": (1).to_bytes(256),
        "the modulus": modulus,
        "short by one": signature_of(rsa)[1:],
        "long by one": b"\0" + signature_of(rsa),
        "plus the modulus": (int.from_bytes(signature_of(rsa)) + int.from_bytes(modulus)).to_bytes(257),
        "1 KB": bytes(1_024),
    }.items():
        yield f"RSA: {name}", (signed_with(rsa, signature), "bad signature")

    # Other things that were signed
    device = own("truck-7")
    proof = make_proof(device, method="GET", url="https://gateway.example/", token=None, now_s=now_s, jti="p")
    yield "a proof for a token", (proof, "unsupported")
    yield "a proof without its key", (raw({"typ": "dpop+jwt", "alg": "EdDSA", "kid": "eddsa"}, None, EDDSA.sign), "typ")
    token = issue(own("s2"), tenant="acme", principal="user:amy", roles=(), now_s=now_s, ttl_s=60, token_id="t")
    yield "a token of another installation", (token, "unknown key")
    renamed = compact({"alg": "EdDSA", "kid": "s1"}, claims(exp=exp, iss="readback", tenant="acme"), own("s2").sign)
    yield "a token of another installation with our kid", (renamed, "bad signature")
    resume = ResumeClaims("acme", "user:amy", "s-1", 1, frozenset(), exp, exp)
    yield "a resume token", (ResumeKeys(SECRETS.resume_keys).issue(resume), "not a JWT")
