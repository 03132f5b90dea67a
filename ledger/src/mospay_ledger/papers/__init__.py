"""Papers: PDFs by typst. Data reach a template as values, so no text is ever read as markup.

What a template says itself are words of a language (`languages.py`). A logo that can't be shown is
left out: it never keeps a paper from being made.

PaperError
├── PapersBusy     as many papers wait as may; try again shortly
├── PaperTooLarge  more data than one paper takes
└── PaperFailed    the template does not go with its data, or it took too long
"""

import asyncio
import functools
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path
from typing import Any

import orjson
import structlog
import typst

from mospay_ledger.papers.languages import Language, language_of

log = structlog.get_logger()
THREADS = 2  # papers made at a time: typst takes a whole core while it sets one
WAITING_LIMIT = 32  # papers that may wait for a thread; each is under a second
SECONDS_LIMIT = 30.0  # a caller waits no longer; a thousand lines take one or two
BYTES_LIMIT = 5 * 2**20  # of data: about 20,000 lines and a logo, whose bytes travel as numbers
FOLDER = Path(str(resources.files(__package__)))
# Latin, Greek, Cyrillic; Arabic and Hebrew. No font of the machine is used, so that a paper looks
# the same wherever it is made.
FONTS = ("fontpkg_noto_sans", "justmytype_intl_rtl")
LOGO = "logo"  # the template that shows a logo alone, and fails where it can't be shown
_NAME = re.compile(r"[a-z][a-z_]{0,39}")
_threads = ThreadPoolExecutor(THREADS, thread_name_prefix="papers")
_waiting = 0


class PaperError(Exception):
    """Base of what keeps a paper from being made; `code` is stable."""

    code = "paper_error"


class PapersBusy(PaperError):
    """As many papers wait as may."""

    code = "papers_busy"


class PaperTooLarge(PaperError):
    """More data than one paper takes."""

    code = "paper_too_large"


class PaperFailed(PaperError):
    """The template does not go with its data, or it took too long."""

    code = "paper_failed"


async def render(template: str, data: Mapping[str, Any], language: Language | None = None) -> bytes:
    """Return the PDF of `<template>.typ` over `data` (what JSON can hold; bytes for a logo).

    The template reads its data and the language's words (English, where none is given) with
    `#import "brand.typ": data, words`. The same data give the same bytes. Raises PapersBusy,
    PaperTooLarge, PaperFailed.
    """
    if not _NAME.fullmatch(template) or not (FOLDER / f"{template}.typ").is_file():
        raise PaperFailed(f"there is no template {template!r}")
    spoken = language or language_of(None)
    whole = {**data, "language": spoken.code, "words": spoken.tables}
    try:
        return await _made(template, whole)
    except PaperFailed:
        issuer = data.get("issuer") or {}
        if template == LOGO or not issuer.get("logo"):
            raise
        log.error("paper_without_logo", template=template)
        return await _made(template, {**whole, "issuer": {**issuer, "logo": None}})


async def _made(template: str, data: Mapping[str, Any]) -> bytes:
    global _waiting
    packed = orjson.dumps(data, default=_numbers).decode()
    if len(packed) > BYTES_LIMIT:
        raise PaperTooLarge(f"a paper takes at most {BYTES_LIMIT} bytes of data")
    if _waiting >= WAITING_LIMIT:
        raise PapersBusy("too many papers wait to be made")
    _waiting += 1
    made = asyncio.get_running_loop().run_in_executor(_threads, _compile, template, packed)
    made.add_done_callback(_done)
    try:
        return await asyncio.wait_for(asyncio.shield(made), SECONDS_LIMIT)
    except TimeoutError as error:
        raise PaperFailed(f"{template} took more than {SECONDS_LIMIT:.0f} s") from error
    except (typst.TypstError, RuntimeError) as error:
        told = log.info if template == LOGO else log.error  # a wrong upload is no fault of ours
        told("paper_failed", template=template, reason=str(error)[:300])
        raise PaperFailed(f"{template} can't be made of its data") from error


def _done(made: "asyncio.Future[bytes]") -> None:
    """Give the place in the queue back when the thread is free, not when the caller leaves."""
    global _waiting
    _waiting -= 1
    if not made.cancelled():
        made.exception()  # taken note of, whoever still waits


def _numbers(value: Any) -> list[int]:
    """Bytes travel as an array of numbers: JSON has no bytes and typst reads no base64."""
    if isinstance(value, bytes):
        return list(value)
    raise TypeError(f"{type(value).__name__} is nothing a paper can show")


@functools.cache
def fonts() -> typst.Fonts:
    """Return the fonts of papers, read once."""
    folders = [str(resources.files(package)) for package in FONTS]
    return typst.Fonts(include_system_fonts=False, include_embedded_fonts=True, font_paths=folders)


def _compile(template: str, packed: str) -> bytes:
    compiler = typst.Compiler(
        input=FOLDER / f"{template}.typ",
        root=FOLDER,
        font_paths=fonts(),
        ignore_system_fonts=True,
        sys_inputs={"data": packed},
    )
    pdf = compiler.compile(format="pdf", timestamp=0)
    assert isinstance(pdf, bytes)
    return pdf
