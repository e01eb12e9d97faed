"""Key pair that signs the events of jobs: RS256, with the public key at /.well-known/jwks.json."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from ..._io.threads import in_thread
from ..files import make_id
from ..replies import HttpError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    from ..store import Store
    from ..transactions import Transaction

BITS = 2048
EXPONENT = 65537


class StoredKey(Struct, frozen=True):
    id: str
    pem: bytes


class SigningKeys:
    """Operations on the key, which is created when first needed."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def prepare(self) -> StoredKey:
        """The key, created if missing. Raises HttpError 501 without the optional package."""
        if key := await self._store.transact(_find):
            return key
        new = StoredKey(make_id(16), await in_thread(_make))
        return await self._store.transact(lambda tx: _keep(tx, new))

    async def public(self) -> list[dict[str, str]]:
        """Public keys as JWKs."""
        key = await self._store.transact(_find)
        return [await in_thread(_public, key)] if key else []

    async def sign(self, claims: Mapping[str, object]) -> str:
        """The claims as a signed JWT."""
        return await in_thread(_sign, await self.prepare(), claims)


def _find(tx: Transaction) -> StoredKey | None:
    return tx.row(StoredKey, "SELECT * FROM signing_key")


def _keep(tx: Transaction, new: StoredKey) -> StoredKey:
    """Stores the key, unless another call has stored one meanwhile; returns the stored one."""
    if stored := _find(tx):
        return stored
    tx.change("INSERT INTO signing_key (id, pem) VALUES (?, ?)", new.id, new.pem)
    return new


# The package is an optional extra, so it is imported in functions.


def _make() -> bytes:
    try:
        from cryptography.hazmat.primitives.asymmetric import rsa
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
    except ImportError as error:
        message = "Webhooks of single jobs need the extra packtrain[webhooks]; registered webhooks work without it."
        raise HttpError(501, message) from error
    key = rsa.generate_private_key(EXPONENT, BITS)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _load(key: StoredKey) -> RSAPrivateKey:
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    private_key = load_pem_private_key(key.pem, None)
    assert isinstance(private_key, rsa.RSAPrivateKey)
    return private_key


def _public(key: StoredKey) -> dict[str, str]:
    numbers = _load(key).public_key().public_numbers()
    modulus, exponent = (_base64(number.to_bytes((number.bit_length() + 7) // 8)) for number in (numbers.n, numbers.e))
    return {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": key.id, "n": modulus, "e": exponent}


def _sign(key: StoredKey, claims: Mapping[str, object]) -> str:
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.hashes import SHA256

    header = {"alg": "RS256", "kid": key.id, "typ": "JWT"}
    content = ".".join(_base64(msgspec.json.encode(part)) for part in (header, claims))
    return f"{content}.{_base64(_load(key).sign(content.encode(), PKCS1v15(), SHA256()))}"


def _base64(data: bytes) -> str:
    """URL-safe base64 without padding, as in JOSE."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
