"""Images for tests, made here: a PNG of stripes and a grey JPEG, of any size."""

import struct
import zlib


def chunk(name: bytes, data: bytes) -> bytes:
    """A chunk of a PNG with its length and checksum."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int = 40, height: int = 20) -> bytes:
    """A PNG of coloured stripes, its corners transparent."""
    row = b"".join(
        bytes((30, 60 + 180 * (x * 8 // width % 2), 120, 0 if x in (0, width - 1) else 255))
        for x in range(width)
    )
    head = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    pixels = zlib.compress((b"\0" + row) * height, 9)
    parts = ((b"IHDR", head), (b"IDAT", pixels), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def segment(marker: int, data: bytes) -> bytes:
    """A segment of a JPEG with its length."""
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def jpeg(width: int = 40, height: int = 20, *, channels: int = 1, frame: int = 0xC0) -> bytes:
    """A JPEG of one grey: every block is the code for "as before" and the one for "no more"."""
    parts = b"".join(bytes((n + 1, 0x11, 0)) for n in range(channels))
    size = struct.pack(">BHHB", 8, height, width, channels)
    codes = b"".join(bytes((kind, 1)) + bytes(15) + b"\0" for kind in (0x00, 0x10))
    scan = bytes((channels,)) + b"".join(bytes((n + 1, 0)) for n in range(channels)) + b"\0\x3f\0"
    blocks = -(-width // 8) * -(-height // 8) * channels
    whole, rest = divmod(2 * blocks, 8)
    last = bytes((0xFF >> rest,)) if rest else b""
    return (
        b"\xff\xd8"
        + segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0")
        + segment(0xDB, b"\0" + b"\x10" * 64)
        + segment(frame, size + parts)
        + segment(0xC4, codes)
        + segment(0xDA, scan)
        + bytes(whole)
        + last
        + b"\xff\xd9"
    )
