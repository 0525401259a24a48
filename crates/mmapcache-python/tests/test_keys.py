"""The keys of the backends: texts of any length, the empty one, and those beyond UTF-8."""

from __future__ import annotations

import pytest

from mmapcache._keys import LONGEST, HashedKeyError, is_hashed, store_key, text_of, unwrap, wrap

TEXTS = ["", "k", "a/b", "ü" * 100, "\ud800", "\0", "x" * LONGEST, "x" * (LONGEST + 1), "y" * 10**6]


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: f"{len(text)}")
def test_text_comes_back(text: str) -> None:
    key = store_key(text, b"r")
    assert 1 <= len(key) <= 65_535
    assert unwrap(key, wrap(key, text, b"value")) == (text, b"value")
    assert is_hashed(key) == (len(text.encode("utf-8", "surrogatepass")) > LONGEST)


def test_distinct_texts_have_distinct_keys() -> None:
    # A text that looks like a hashed key of another is no exception.
    hashed = store_key("x" * (LONGEST + 1))
    texts = [*TEXTS, "k" + "x" * LONGEST, hashed.decode("latin-1")]
    assert len({store_key(text) for text in texts}) == len(texts)
    assert store_key("a", b"r") != store_key("a", b"d")


def test_hashed_key_has_no_text() -> None:
    with pytest.raises(HashedKeyError):
        text_of(store_key("x" * (LONGEST + 1)))


def test_foreign_value_is_refused() -> None:
    text = "x" * (LONGEST + 1)
    key = store_key(text)
    other = wrap(store_key("y" + text), "y" + text, b"value")
    for stored in (b"", b"\xff" * 8, other, wrap(key, text, b"")[:-1]):
        with pytest.raises(ValueError, match="text"):
            unwrap(key, stored)
