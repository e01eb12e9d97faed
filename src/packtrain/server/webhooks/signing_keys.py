"""The key pair that signs the events which jobs ask for: RS256, with the public half at /.well-known/jwks.json."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import msgspec
from anyio import to_thread
from msgspec import Struct

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
    """The verbs. The key is made when it is first needed, and kept."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def prepare(self) -> StoredKey:
        """Raises Refusal 501 where the package for it is not installed."""
        if known := await self._store.transact(_find):
            return known
        new = StoredKey(make_id(16), await to_thread.run_sync(_make))
        return await self._store.transact(lambda tx: _keep(tx, new))

    async def public(self) -> list[dict[str, str]]:
        """As a list of JWKs."""
        known = await self._store.transact(_find)
        return [await to_thread.run_sync(_public, known)] if known else []

    async def sign(self, claims: Mapping[str, object]) -> str:
        """A JWT."""
        return await to_thread.run_sync(_sign, await self.prepare(), claims)


def _find(tx: Transaction) -> StoredKey | None:
    return tx.row(StoredKey, "SELECT * FROM signing_key")


def _keep(tx: Transaction, new: StoredKey) -> StoredKey:
    """The one that is kept: another call may have made one meanwhile."""
    if known := _find(tx):
        return known
    tx.change("INSERT INTO signing_key (id, pem) VALUES (?, ?)", new.id, new.pem)
    return new


# The package is an extra: imported where it is needed.


def _make() -> bytes:
    try:
        from cryptography.hazmat.primitives.asymmetric import rsa
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
    except ImportError as error:
        message = "webhooks of single jobs need the extra packtrain[webhooks]; registered webhooks work without it."
        raise HttpError(501, message) from error
    key = rsa.generate_private_key(EXPONENT, BITS)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _load(key: StoredKey) -> RSAPrivateKey:
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    found = load_pem_private_key(key.pem, None)
    assert isinstance(found, rsa.RSAPrivateKey)
    return found


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
    """As JOSE has it: for addresses, and without the padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
