"""Posted sources: exactly one CREATE FUNCTION of the right name and signature is taken."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mospay_payment_router.domain.differences import payload_differences
from mospay_payment_router.domain.errors import SourceRefused
from mospay_payment_router.domain.sources import CALL_TYPES, RESPONSE_TYPES, read_source, renamed
from mospay_payment_router.domain.versions import body_name, stems

NAME = "shop_MTN_payment"
HEAD = f'create function "{NAME}"(unique_id text, data_input json) returns table (results json) '
GOOD = HEAD + "language plpgsql as $$ begin return next; end $$"
# What pg_get_functiondef writes, and what people write.
TAKEN = [
    GOOD,
    GOOD + ";",
    GOOD + " ; -- the end",
    "/* of /* 2019 */ */ " + GOOD,
    f'CREATE OR REPLACE FUNCTION public."{NAME}"(unique_id text, data_input json)\n'
    " RETURNS TABLE(results json)\n LANGUAGE plpgsql\n STABLE PARALLEL SAFE COST 10 ROWS 1\n"
    "AS $function$\nbegin return next; end\n$function$\n",
    HEAD + "as 'select ''{}''::json' language 'sql' immutable strict",
    HEAD + "security invoker called on null input not leakproof language sql as 'select 1'",
    HEAD.replace("(unique_id", "(in unique_id") + "language sql as $a$ select '$$'::json $a$",
]
REFUSED = {
    "empty": ("", "not_one_function"),
    "two statements": (GOOD + "; drop table payments", "not_one_function"),
    "two functions": (GOOD + ";" + GOOD, "not_one_function"),
    "another statement": ("drop schema fx cascade", "not_one_function"),
    "a procedure": (GOOD.replace("function", "procedure"), "not_one_function"),
    "another name": (GOOD.replace("shop_", "other_"), "name"),
    "folded name": (GOOD.replace(f'"{NAME}"', NAME), "name"),
    "another schema": (GOOD.replace(f'"{NAME}"', f'pg_catalog."{NAME}"'), "name"),
    "jsonb": (GOOD.replace("data_input json", "data_input jsonb"), "signature"),
    "one argument": (GOOD.replace(", data_input json", ""), "signature"),
    "a third argument": (GOOD.replace("data_input json", "a json, b int"), "signature"),
    "a default": (GOOD.replace("unique_id text", "unique_id text default ''"), "signature"),
    "same names": (GOOD.replace("data_input", "unique_id"), "signature"),
    "another result": (GOOD.replace("results json", "result json"), "signature"),
    "setof": (GOOD.replace("table (results json)", "setof json"), "not_one_function"),
    "definer": (GOOD.replace("language", "security definer language"), "security_definer"),
    "external definer": (
        GOOD.replace("language", "external security definer language"), "security_definer"),
    "another language": (GOOD.replace("plpgsql", "plpython3u"), "language"),
    "c": (GOOD.replace("plpgsql", "c"), "language"),
    "internal": (GOOD.replace("plpgsql", "internal"), "language"),
    "no language": (GOOD.replace("language plpgsql", ""), "language"),
    "two languages": (GOOD.replace("language", "language sql language"), "not_one_function"),
    "set": (GOOD.replace("language", "set search_path = public language"), "option"),
    "set role": (GOOD.replace("language", "set role postgres language"), "option"),
    "leakproof": (GOOD.replace("language", "leakproof language"), "option"),
    "window": (GOOD.replace("language", "window language"), "option"),
    "support": (GOOD.replace("language", "support f language"), "option"),
    "atomic": (HEAD + "language sql begin atomic select 1; end", "no_body"),
    "return": (HEAD + "language sql return 1", "no_body"),
    "no body": (HEAD + "language sql", "no_body"),
    "blank body": (HEAD + "language sql as '  '", "no_body"),
    "object file": (HEAD + "language sql as 'a', 'b'", "not_one_function"),
    "escape string": (HEAD + r"language sql as E'select \'1\''", "escape_string"),
    "joined strings": (HEAD + "language sql as 'a''b''''c'x'", "not_one_function"),
    "open dollar": (HEAD + "language sql as $a$ select 1 $b$", "not_one_function"),
    "open comment": (GOOD + " /* /* */", "not_one_function"),
    "open quote": (HEAD + "language sql as 'select 1", "not_one_function"),
    "nul": (GOOD.replace("begin", "begin\x00"), "not_text"),
    "unicode name": (GOOD.replace(f'"{NAME}"', f'U&"{NAME}"'), "not_one_function"),
}  # fmt: skip


@pytest.mark.parametrize("text", TAKEN)
def test_statement_of_name_and_signature_is_taken(text: str) -> None:
    made = read_source(text, NAME, CALL_TYPES)
    assert made.arguments == ("unique_id", "data_input")
    assert made.body.strip()


@pytest.mark.parametrize("why", REFUSED)
def test_anything_else_is_refused_with_its_reason(why: str) -> None:
    text, code = REFUSED[why]
    with pytest.raises(SourceRefused) as refused:
        read_source(text, NAME, CALL_TYPES)
    assert refused.value.code == code


def test_response_function_needs_its_four_arguments() -> None:
    with pytest.raises(SourceRefused):
        read_source(GOOD, NAME, RESPONSE_TYPES)
    text = GOOD.replace("data_input json", "data_input json, code INT4, data_output json")
    assert len(read_source(text, NAME, RESPONSE_TYPES).arguments) == 4


def test_options_are_read() -> None:
    made = read_source(TAKEN[5], NAME, CALL_TYPES)
    assert (made.language, made.volatility, made.strict) == ("sql", "immutable", True)
    assert made.body == "select '{}'::json"


@given(st.text(alphabet="'\"$;()-/*\\ \nabAS.,", max_size=60))
def test_no_text_makes_the_reader_fail_otherwise_than_by_refusing(text: str) -> None:
    for posted in (text, HEAD + text, HEAD + "language sql as " + text):
        try:
            made = read_source(posted, NAME, CALL_TYPES)
        except SourceRefused:
            continue
        assert made.body.strip() and made.body in posted.replace("''", "'")


def test_only_the_name_changes_when_a_source_moves_to_another_mode() -> None:
    made = read_source(TAKEN[4], NAME, CALL_TYPES)
    moved = renamed(TAKEN[4], made, "live_MTN_payment")
    assert moved == TAKEN[4].replace(NAME, "live_MTN_payment")


@pytest.mark.parametrize("name", ["a_b_c", "a" * 59, "a" * 63])
@pytest.mark.parametrize("version", [2, 999])
def test_name_of_a_body_fits_and_is_its_own(name: str, version: int) -> None:
    made = body_name(name, version)
    assert len(made.encode()) <= 63
    assert made not in {body_name(name + "x", version)[:63], body_name(name, version + 1)}
    assert len({body_name("a" * 62 + end, version) for end in "bcd"}) == 3


def test_every_function_of_a_mapping_leads_back_to_its_call() -> None:
    for suffix in ("", "Status", "Refund", "RefundStatus"):
        assert NAME in stems(NAME + suffix)
        assert NAME in stems(f"RESPONSE_{NAME}{suffix}")


def test_differences_name_the_position_and_both_values() -> None:
    before = b'[{"i": 0, "v": "a"}, {"i": 4, "v": "1"}]'
    after = b'[{"i": 4, "v": "2"}, {"i": 0, "v": "a"}, {"i": 9, "v": null}]'
    assert payload_differences(before, after) == [
        {"path": "/i=4", "before": '"1"', "after": '"2"'},
        {"path": "/i=9", "before": None, "after": "null"},
    ]
    assert payload_differences(before, b"[" + before[1:]) == []


def test_payload_that_is_no_json_differs_as_a_whole() -> None:
    (one,) = payload_differences(b'{"a": 1}', b"nope")
    assert one["path"] == "/"
