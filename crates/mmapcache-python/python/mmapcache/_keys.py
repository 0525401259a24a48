"""Keys of the backends: any text becomes a key that a cache takes.

A cache takes keys of 1 to 65,535 bytes; frameworks have empty ones and, rarely, longer ones. The
key is the text in UTF-8 behind one letter, which says where it comes from. A text too long for
that is replaced by a hash. A backend that lists its keys stores the text of a hashed key before
the value.
"""

from __future__ import annotations

import hashlib

__all__ = ["LONGEST", "HashedKeyError", "is_hashed", "store_key", "text_of", "unwrap", "wrap"]

LONGEST = 60_000
"""Bytes of text that are stored as they are."""

_HASH_BYTES = 32


class HashedKeyError(ValueError):
    """The text of a hashed key is not in the key itself."""


def store_key(text: str, letter: bytes = b"k") -> bytes:
    """Returns the key for a text. `letter` is a lower-case one; hashed keys have it in upper case.

    Distinct texts have distinct keys, but for those whose 256-bit hashes are equal.
    """
    # Half of a surrogate pair has no UTF-8; frameworks do not forbid it.
    data = text.encode("utf-8", "surrogatepass")
    if len(data) <= LONGEST:
        return letter + data
    return letter.upper() + hashlib.blake2b(data, digest_size=_HASH_BYTES).digest()


def is_hashed(key: bytes) -> bool:
    """Returns whether `store_key` replaced the text by a hash."""
    return key[:1].isupper()


def text_of(key: bytes) -> str:
    """Returns the text of a key; raises HashedKeyError if it was hashed."""
    if is_hashed(key):
        raise HashedKeyError("the text is before the value of a hashed key")
    return key[1:].decode("utf-8", "surrogatepass")


def wrap(key: bytes, text: str, value: bytes) -> bytes:
    """Returns what to store under `key`: the value, behind the text if that was hashed."""
    if not is_hashed(key):
        return value
    data = text.encode("utf-8", "surrogatepass")
    return len(data).to_bytes(8, "little") + data + value


def unwrap(key: bytes, stored: bytes) -> tuple[str, bytes]:
    """Returns the text and the value that `wrap` made `stored` of.

    Raises ValueError if `stored` is too short to be that, or has another text.
    """
    if not is_hashed(key):
        return text_of(key), stored
    length = int.from_bytes(stored[:8], "little")
    if len(stored) < 8 + length:
        raise ValueError("the value is shorter than the text that it should have before it")
    text = stored[8 : 8 + length].decode("utf-8", "surrogatepass")
    if store_key(text, key[:1].lower()) != key:
        raise ValueError("the text before the value is not that of the key")
    return text, stored[8 + length :]
