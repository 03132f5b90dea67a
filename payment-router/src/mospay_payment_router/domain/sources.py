"""Reading a posted `CREATE FUNCTION`: one statement, of one name and signature, nothing beside it.

Nothing of a posted text is ever run as it stands: what is read here (argument names, language,
volatility, body) is put together again by `fx.install_version`, quoted by PostgreSQL itself.
"""

import re
from dataclasses import dataclass

from mospay_payment_router.domain.errors import SourceRefused

CALL_TYPES = ("text", "json")
RESPONSE_TYPES = ("text", "json", "integer", "json")
LANGUAGES = ("plpgsql", "sql")
_SCHEMAS = ("fx", "public")  # where older installations have theirs
_INTEGERS = ("int", "int4")
_TOKEN = re.compile(
    r"""(?P<space>\s+) | (?P<line>--[^\n]*) | (?P<block>/\*)
    | (?P<dollar>\$(?:[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_\x80-\U0010ffff]*)?\$)
    | (?P<word>[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_$\x80-\U0010ffff]*)
    | (?P<number>\d[\d.]*) | (?P<string>'(?:[^']|'')*') | (?P<quoted>"(?:[^"]|"")+")
    | (?P<symbol>[(),;.=\[\]])""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of a statement: `kind` is word (lower case), quoted, string, number or symbol."""

    kind: str
    value: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Source:
    """What a posted function says. `name_at` is where its name stands in the text."""

    arguments: tuple[str, ...]
    language: str
    volatility: str
    strict: bool
    body: str
    name_at: tuple[int, int]


def read_source(text: str, name: str, types: tuple[str, ...]) -> Source:
    """Read `CREATE [OR REPLACE] FUNCTION name(...) RETURNS TABLE (results json) ...`.

    `types` is CALL_TYPES or RESPONSE_TYPES. Raises SourceRefused, its message for the author.
    """
    if "\x00" in text:
        raise SourceRefused("not_text", "holds a NUL character")
    return _Reader(_tokens(text), name, types).read()


def renamed(text: str, source: Source, name: str) -> str:
    """Return the text with another function name, all else as it is."""
    start, end = source.name_at
    return f'{text[:start]}"{name}"{text[end:]}'


def _tokens(text: str) -> list[Token]:
    found: list[Token] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise SourceRefused("not_one_function", f"can't be read {_where(text, at)}")
        kind, start = str(match.lastgroup), at
        at, value = match.end(), match.group()
        if kind == "block":
            at = _after_comment(text, start)
        elif kind == "dollar":
            close = text.find(value, at)
            if close < 0:
                raise SourceRefused("not_one_function", f"{value} is never closed")
            found.append(Token("string", text[at:close], start, close + len(value)))
            at = close + len(value)
        elif kind == "string":
            if found and found[-1].kind in ("word", "string") and found[-1].end == start:
                raise SourceRefused(
                    "escape_string", f"escapes can't be read {_where(text, start)}: use $$ … $$"
                )
            found.append(Token("string", value[1:-1].replace("''", "'"), start, at))
        elif kind == "quoted":
            found.append(Token("quoted", value[1:-1].replace('""', '"'), start, at))
        elif kind not in ("space", "line"):
            found.append(Token(kind, value.lower(), start, at))
    return found


def _after_comment(text: str, start: int) -> int:
    """Return where a block comment ends; PostgreSQL nests them."""
    depth, at = 1, start + 2
    while depth:
        opened, closed = text.find("/*", at), text.find("*/", at)
        if closed < 0:
            raise SourceRefused("not_one_function", "a comment is never closed")
        if 0 <= opened < closed:
            depth, at = depth + 1, opened + 2
        else:
            depth, at = depth - 1, closed + 2
    return at


def _where(text: str, at: int) -> str:
    return f"in line {text.count(chr(10), 0, at) + 1}"


class _Reader:
    """Reads the tokens of one statement from left to right."""

    def __init__(self, tokens: list[Token], name: str, types: tuple[str, ...]) -> None:
        self._tokens, self._at = tokens, 0
        self._name, self._types = name, types
        self._found: dict[str, str | bool] = {}

    def read(self) -> Source:
        """Read all of it."""
        self._words("create")
        if self._word("or"):
            self._words("replace")
        self._words("function")
        name_at = self._read_name()
        arguments = self._read_arguments()
        self._words("returns", "table")
        self._read_results()
        while self._left() and not self._symbol(";"):
            self._read_option()
        if self._left():
            raise SourceRefused("not_one_function", "has something after the function")
        language, body = self._found.get("language"), self._found.get("as")
        if language not in LANGUAGES:
            raise SourceRefused("language", f"the language is one of {', '.join(LANGUAGES)}")
        if not isinstance(body, str) or not body.strip():
            raise SourceRefused("no_body", "has no body: AS $$ … $$")
        return Source(
            arguments,
            str(language),
            str(self._found.get("volatility", "volatile")),
            self._found.get("strict") is True,
            body,
            name_at,
        )

    def _read_name(self) -> tuple[int, int]:
        first = self._identifier()
        if self._symbol("."):
            if first.value not in _SCHEMAS:
                raise SourceRefused("name", f"is in schema {first.value}; leave the schema out")
            first = self._identifier()
        if first.value != self._name:
            note = " (without quotes PostgreSQL folds names to lower case)"
            unquoted = first.kind == "word" and first.value == self._name.lower()
            raise SourceRefused(
                "name", f'the name must be "{self._name}"{note if unquoted else ""}'
            )
        return first.start, first.end

    def _read_arguments(self) -> tuple[str, ...]:
        wanted = f"the arguments must be of the types ({', '.join(self._types)})"
        names: list[str] = []
        self._need("(", wanted)
        for index, wished in enumerate(self._types):
            if index:
                self._need(",", wanted)
            self._word("in")
            names.append(self._identifier().value)
            given = self._identifier().value
            if ("integer" if given in _INTEGERS else given) != wished:
                raise SourceRefused("signature", f"{wanted}; {names[-1]} is {given}")
        self._need(")", wanted)
        if len(set(names)) < len(names) or "results" in names:
            raise SourceRefused("signature", "two arguments or results have the same name")
        return tuple(names)

    def _read_results(self) -> None:
        wanted = "it must return TABLE (results json)"
        self._need("(", wanted)
        if (self._identifier().value, self._identifier().value) != ("results", "json"):
            raise SourceRefused("signature", wanted)
        self._need(")", wanted)

    def _read_option(self) -> None:
        token = self._next()
        word = token.value if token.kind == "word" else ""
        if word in ("immutable", "stable", "volatile"):
            self._keep("volatility", word)
        elif word == "strict":
            self._keep("strict", value=True)
        elif word == "called":
            self._words("on", "null", "input")
            self._keep("strict", value=False)
        elif word == "returns":
            self._words("null", "on", "null", "input")
            self._keep("strict", value=True)
        elif word == "language":
            self._keep("language", self._next().value.lower())
        elif word == "as":
            body = self._next()
            if body.kind != "string":
                raise SourceRefused("no_body", "the body stands in quotes: AS $$ … $$")
            self._keep("as", body.value)
        else:
            self._read_rare(word, token)

    def _read_rare(self, word: str, token: Token) -> None:
        """Read what changes nothing here, and refuse what would widen a function's rights."""
        if word == "external":
            word = self._next().value
        if word == "security":
            if not self._word("invoker"):
                raise SourceRefused("security_definer", "SECURITY DEFINER is not allowed")
        elif word == "not":
            self._words("leakproof")
        elif word in ("cost", "rows", "parallel"):
            self._next()
        elif word in ("set", "leakproof", "window", "support", "transform"):
            raise SourceRefused("option", f"{word.upper()} is not allowed")
        elif word in ("begin", "return"):
            raise SourceRefused("no_body", "the body stands in quotes: AS $$ … $$")
        else:
            raise SourceRefused("not_one_function", f"has an unexpected {token.value[:40]!r}")

    def _keep(self, key: str, value: str | bool) -> None:
        if key in self._found:
            raise SourceRefused("not_one_function", f"names its {key} twice")
        self._found[key] = value

    def _left(self) -> bool:
        return self._at < len(self._tokens)

    def _next(self) -> Token:
        if not self._left():
            raise SourceRefused("not_one_function", "ends too early")
        self._at += 1
        return self._tokens[self._at - 1]

    def _identifier(self) -> Token:
        token = self._next()
        if token.kind not in ("word", "quoted"):
            raise SourceRefused("not_one_function", f"has an unexpected {token.value[:40]!r}")
        return token

    def _is(self, kind: str, value: str) -> bool:
        token = self._tokens[self._at] if self._left() else None
        return token is not None and (token.kind, token.value) == (kind, value)

    def _word(self, value: str) -> bool:
        found = self._is("word", value)
        self._at += found
        return found

    def _symbol(self, value: str) -> bool:
        found = self._is("symbol", value)
        self._at += found
        return found

    def _words(self, *values: str) -> None:
        for value in values:
            if not self._word(value):
                raise SourceRefused(
                    "not_one_function",
                    "must be one CREATE [OR REPLACE] FUNCTION statement; "
                    f"{value.upper()} is missing",
                )

    def _need(self, symbol: str, wanted: str) -> None:
        if not self._symbol(symbol):
            raise SourceRefused("signature", wanted)
