"""Logos: which bytes are a PNG or JPEG that papers and browsers can show. Pure.

The content decides what it is, never a name or header. Its structure is read here, to bound what a
decoder will be given; whether its pixels can be decoded is found out by setting it on a paper.
"""

import struct
import zlib
from dataclasses import dataclass
from typing import Literal

from mospay_ledger.domain.invoices import InvoiceInvalid, invalid

BYTES_LIMIT = 256 * 1024
SIDE_LIMIT = 2000  # pixels: 32 MB decoded, many times what a letter head shows
_PNG = b"\x89PNG\r\n\x1a\n"  # PNG 3rd edition, 5.2
_JPEG = b"\xff\xd8\xff"
# ITU-T T.81, table B.1: baseline, extended and progressive frames; arithmetic coding and lossless
# ones are shown by hardly any reader.
_FRAMES = (0xC0, 0xC1, 0xC2)
_OTHER_FRAMES = (0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF)
_SCAN, _END = 0xDA, b"\xff\xd9"
_BARE = (0x01, *range(0xD0, 0xD8))  # markers without a length
_GREY_OR_COLOUR = (1, 3)  # channels
_NEITHER = "is neither a PNG nor a JPEG image: export it as one of them"
_SVG = (
    "is an SVG, which can carry scripts and references to elsewhere, so none is taken: "
    "export it as PNG, 500 pixels or more high"
)


@dataclass(frozen=True, slots=True)
class Logo:
    """An image whose structure is sound; width and height in pixels, as stored."""

    format: Literal["png", "jpg"]
    width: int
    height: int
    content: bytes


def read(content: bytes) -> Logo:
    """Return what an upload is; raises InvoiceInvalid, which says what to send instead."""
    if not content:
        raise _refused("required", "is empty: send the image itself as the body")
    if len(content) > BYTES_LIMIT:
        raise _refused("too_large", f"has at most {BYTES_LIMIT} bytes: make it smaller")
    if content.startswith(_PNG):
        return _bounded("png", *_png_size(content), content)
    if content.startswith(_JPEG):
        return _bounded("jpg", *_jpeg_size(content), content)
    if b"<svg" in content[:4096].lower():
        raise _refused("svg", _SVG)
    raise _refused("not_an_image", _NEITHER)


def corrupt(why: str) -> InvoiceInvalid:
    """Return the refusal of an image that is damaged."""
    return _refused("corrupt", f"{why}: export the image again and send the whole file")


def _refused(code: str, message: str) -> InvoiceInvalid:
    return invalid("logo", message, code)


def _bounded(kind: Literal["png", "jpg"], width: int, height: int, content: bytes) -> Logo:
    if not (0 < width <= SIDE_LIMIT and 0 < height <= SIDE_LIMIT):
        most = f"from 1 to {SIDE_LIMIT} pixels wide and high"
        raise _refused("wrong_size", f"is {width} x {height} pixels; send one {most}")
    return Logo(kind, width, height, content)


def _png_size(content: bytes) -> tuple[int, int]:
    """Walk all chunks; the first says the size, the last one ends the file."""
    at, pixels = len(_PNG), False
    size: tuple[int, int] | None = None
    while at + 12 <= len(content):
        length, name = struct.unpack_from(">I4s", content, at)
        end = at + 8 + length
        if end + 4 > len(content):
            break
        if struct.unpack_from(">I", content, end)[0] != zlib.crc32(content[at + 4 : end]):
            raise corrupt("is a PNG with a damaged part")
        if (size is None) != (name == b"IHDR") or (name == b"IHDR" and length != 13):
            raise corrupt("is a PNG whose header is not where it belongs")
        if size is None:
            size = struct.unpack_from(">II", content, at + 8)
        pixels = pixels or name == b"IDAT"
        if name == b"IEND" and pixels:
            return size
        at = end + 4
    raise corrupt("is a PNG that ends too early")


def _jpeg_size(content: bytes) -> tuple[int, int]:
    """Walk the segments before the pixels; one of them says the size."""
    at = 2
    size: tuple[int, int] | None = None
    while at + 4 <= len(content) and content[at] == 0xFF:
        marker = content[at + 1]
        if marker == 0xFF or marker in _BARE:  # filling, or a marker alone
            at += 1 if marker == 0xFF else 2
            continue
        (length,) = struct.unpack_from(">H", content, at + 2)
        if marker in _OTHER_FRAMES:
            raise _refused("unusual_jpeg", "is a JPEG of a rare kind: export it as baseline JPEG")
        if marker in _FRAMES and length >= 8 and at + 10 <= len(content):
            size = _frame(content, at + 4)
        at += 2 + length
        if marker == _SCAN:
            if size is None or content.find(_END, at) < 0:
                break
            return size
    raise corrupt("is a JPEG that is damaged or ends too early")


def _frame(content: bytes, at: int) -> tuple[int, int]:
    depth, height, width, channels = struct.unpack_from(">BHHB", content, at)
    if depth != 8 or channels not in _GREY_OR_COLOUR:
        raise _refused("unusual_jpeg", "is a JPEG for print (CMYK or 12 bits): export it as RGB")
    return width, height
