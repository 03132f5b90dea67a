"""Which bytes are a logo: the content decides, and whatever is none is refused by name."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mospay_ledger.domain import logos
from mospay_ledger.domain.invoices import InvoiceInvalid

from ..images import chunk, jpeg, png, segment

PNG, JPEG = png(), jpeg()
HEAD = b"\x89PNG\r\n\x1a\n"
IHDR = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 6, 0, 0, 0))


@pytest.mark.parametrize("size", [(1, 1), (2000, 1), (1, 2000), (37, 991)], ids=str)
def test_both_kinds_say_their_size(size: tuple[int, int]) -> None:
    for made, kind in ((png(*size), "png"), (jpeg(*size), "jpg"), (jpeg(*size, channels=3), "jpg")):
        logo = logos.read(made)
        assert (logo.format, logo.width, logo.height) == (kind, *size)
        assert logo.content == made


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "required"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "svg"),
        (b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- x --><SVG/>", "svg"),
        (b"GIF89a" + b"\0" * 50, "not_an_image"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "not_an_image"),
        (b"%PDF-1.7", "not_an_image"),
        (b"<html><script>alert(1)</script>", "not_an_image"),
        (b"\0" * 100, "not_an_image"),
        (png(2001, 1), "wrong_size"),
        (png(1, 2001), "wrong_size"),
        (jpeg(2001, 8), "wrong_size"),
        (jpeg(0, 8), "wrong_size"),
        (png() + b"\0" * logos.BYTES_LIMIT, "too_large"),
        (jpeg(channels=4), "unusual_jpeg"),
        (jpeg(frame=0xC3), "unusual_jpeg"),
        (jpeg(frame=0xC9), "unusual_jpeg"),
        (HEAD, "corrupt"),
        (HEAD + IHDR, "corrupt"),
        (HEAD + IHDR + chunk(b"IEND", b""), "corrupt"),
        (HEAD + chunk(b"IDAT", b"") + IHDR + chunk(b"IEND", b""), "corrupt"),
        (HEAD + chunk(b"IHDR", b"\0" * 8), "corrupt"),
        (HEAD + IHDR + IHDR + chunk(b"IDAT", b"") + chunk(b"IEND", b""), "corrupt"),
        (PNG[:-1], "corrupt"),
        (PNG[:50] + bytes((PNG[50] ^ 1,)) + PNG[51:], "corrupt"),
        (b"\xff\xd8\xff", "corrupt"),
        (b"\xff\xd8\xff\xd9", "corrupt"),
        (JPEG[:-2], "corrupt"),
        (b"\xff\xd8" + segment(0xDA, b"\1\1\0\0\x3f\0") + b"\0\xff\xd9", "corrupt"),
        (b"\xff\xd8" + segment(0xE0, b"x") + b"no marker", "corrupt"),
    ],
    ids=lambda value: value if isinstance(value, str) else repr(value[:12]),
)
def test_what_is_no_logo_is_refused_by_name(content: bytes, code: str) -> None:
    with pytest.raises(InvoiceInvalid) as refused:
        logos.read(content)
    (fault,) = refused.value.faults
    assert (fault.field, fault.code) == ("logo", code)


@given(st.sampled_from([PNG, JPEG]), st.integers(0, 2**30), st.binary(max_size=9), st.booleans())
def test_no_bytes_whatever_break_the_reader(
    whole: bytes, at: int, other: bytes, ends: bool
) -> None:
    at %= len(whole)
    content = whole[:at] + other + (b"" if ends else whole[at + len(other) :])
    try:
        logo = logos.read(content)
    except InvoiceInvalid as refused:
        assert all(fault.message for fault in refused.faults)
    else:
        assert 0 < logo.width <= logos.SIDE_LIMIT and 0 < logo.height <= logos.SIDE_LIMIT
