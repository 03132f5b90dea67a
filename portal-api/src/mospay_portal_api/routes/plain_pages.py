"""Plain pages for payers and guests: HTML that needs no script, under a policy of its own.

Each is rendered in a language of `pages/words`; its style is in it, under a nonce.
"""

import functools
import secrets
import tomllib
from collections.abc import Mapping
from importlib import resources
from typing import Any
from urllib.parse import parse_qsl

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import BaseLoader, Environment, StrictUndefined, TemplateNotFound
from markupsafe import Markup

from mospay_portal_api.domain import guests
from mospay_portal_api.domain.languages import Language, preferred

FORM_LIMIT_BYTES = 4096
REFRESH_SECONDS = 3
HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Robots-Tag": "noindex, nofollow",
}
BLANK = dict.fromkeys(("form", "service", "amount", "phone"), "")
_PAGES = resources.files(__package__) / "pages"


class _Pages(BaseLoader):
    """The templates beside this module, wherever the package is installed."""

    def get_source(self, environment: Environment, template: str) -> tuple[str, None, None]:
        """Return a template's text."""
        found = _PAGES / template
        if not found.is_file():
            raise TemplateNotFound(template)
        return found.read_text(encoding="utf-8"), None, None


def _environment() -> Environment:
    return Environment(
        loader=_Pages(),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@functools.cache
def languages() -> Mapping[str, Language]:
    """Return every language the pages speak, by its code: a file of `pages/words` each."""
    return {
        code: Language(code, tomllib.loads(file.read_text(encoding="utf-8")))
        for file in (_PAGES / "words").iterdir()
        for code, _, ending in [file.name.partition(".")]
        if ending == "toml"
    }


def _say(language: Language, phrase: str, **values: Any) -> Markup:
    """Return a phrase for a page: what fills it in is escaped unless it is markup already."""
    return Markup(language.say(phrase)).format(**values)  # noqa: S704 # our own file's text


class Renderer:
    """Makes pages of the templates."""

    def __init__(self) -> None:
        self._templates = _environment()

    def page(self, name: str, language: Language, status: int = 200, **values: Any) -> HTMLResponse:
        """Return a page in a language; its style is in it, under a nonce."""
        nonce = secrets.token_urlsafe(16)
        colour = str(values.get("colour") or guests.DEFAULT_COLOUR)
        light = guests.readable(colour, guests.LIGHT)
        dark = guests.readable(colour, guests.DARK)
        text = self._templates.get_template(name).render(
            nonce=nonce, light=light, dark=dark, on_light=guests.on(light), on_dark=guests.on(dark),
            language=language, say=functools.partial(_say, language), money=language.money,
            states=guests.STATES, **{"payer": None, **values},
        )  # fmt: skip
        policy = (
            f"default-src 'none'; style-src 'nonce-{nonce}'; img-src 'self' data:; "
            "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
        )
        return HTMLResponse(text, status, {**HEADERS, "Content-Security-Policy": policy})

    def sorry(self, request: Request, status: int, why: str) -> HTMLResponse:
        """Return a page that says why there is nothing to see, in the browser's language."""
        language = preferred(languages(), request.headers.get("accept-language", ""))
        answer = self.page("sorry.html", language, status, why=why)
        if status in (429, 503):
            answer.headers["Retry-After"] = "30" if status == 429 else "5"
        return answer


async def read_form(request: Request) -> dict[str, str] | None:
    """Return a small urlencoded form; None for anything else."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    body = await request.body()
    if kind != "application/x-www-form-urlencoded" or len(body) > FORM_LIMIT_BYTES:
        return None
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=20)
    except (ValueError, UnicodeDecodeError):
        return None
    return {name: value[:600].replace("\x00", "") for name, value in pairs}
