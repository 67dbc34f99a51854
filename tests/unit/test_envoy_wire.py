"""Pieces of protobuf messages are those that protobuf writes; what is kept by identity is kept within bounds."""

import gc
import weakref

import pytest
from google.protobuf.wrappers_pb2 import StringValue

from tallygate._proto.envoy.v3.external_auth_pb2 import CheckResponse, OkHttpResponse
from tallygate.envoy.kept import Kept
from tallygate.envoy.messages import header, struct
from tallygate.envoy.wire import Blank, head

LENGTHS = (0, 1, 2, 63, 64, 100, 119, 120, 121, 122, 123, 124, 125, 126, 127, 128, 129, 255, 256, 511, 512, 513, 20_000)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("letter", "a~^\n")
def test_a_blank_is_filled_as_the_message_would_be(length: int, letter: str) -> None:
    """At every length, where the lengths before the text need more bytes and where a length looks like the text."""
    blank = Blank(lambda text: struct({"decision_id": text}))
    for _ in range(2):
        assert blank.fill(letter * length) == struct({"decision_id": letter * length}).SerializeToString()


@pytest.mark.parametrize("length", LENGTHS)
def test_a_blank_header_replaces_too(length: int) -> None:
    """A header that is filled in overwrites like one that is built."""
    blank = Blank(lambda text: OkHttpResponse(headers=[header("a", text)]))
    assert blank.fill("~" * length) == OkHttpResponse(headers=[header("a", "~" * length)]).SerializeToString()


def test_what_is_not_ascii_goes_the_long_way() -> None:
    """A text's length in characters is that of its bytes only in ASCII; the message says what becomes of others."""
    assert Blank(lambda text: struct({"a": text})).fill("ü") == struct({"a": "ü"}).SerializeToString()
    assert Blank(lambda text: struct({"a": text})).fill("\ud800") == struct({"a": "?"}).SerializeToString()


def test_a_message_that_changes_its_text_is_no_blank() -> None:
    """A mistake in the code is told at the first filling, rather than sent."""
    with pytest.raises(AssertionError):
        Blank(lambda text: StringValue(value=text.upper() + text)).fill("abc")


@pytest.mark.parametrize("length", [0, 1, 127, 128, 16_383, 16_384, 3_000_000])
def test_a_head_is_what_protobuf_writes(length: int) -> None:
    """Field number and length stand before the message, whatever their size."""
    denied = CheckResponse()
    denied.denied_response.body = "x" * length
    denied.denied_response.SetInParent()
    inside = denied.denied_response.SerializeToString()
    assert denied.SerializeToString() == head(CheckResponse.DENIED_RESPONSE_FIELD_NUMBER, len(inside)) + inside


class Thing:
    """Something that lives as long as somebody holds it."""


def test_what_is_kept_is_bounded() -> None:
    """The oldest goes first, and a flood of licenses takes no more memory than was set."""
    kept: Kept[str] = Kept(most=2)
    for key in "abc":
        kept.put(key, key, None)
    assert [kept.get(key) for key in "abc"] == [None, "b", "c"]
    assert len(kept) == 2


def test_an_id_in_use_is_given_to_nobody_else() -> None:
    """A kept value holds what it was made of, until it is let go."""
    kept: Kept[str] = Kept(most=1)
    thing = Thing()
    held = weakref.ref(thing)
    kept.put(id(thing), "of this thing", thing)
    del thing
    gc.collect()
    assert held() is not None
    kept.put("another", "", None)
    gc.collect()
    assert held() is None
