-- As fx.call, for RESPONSE_ functions: they get the real HTTP status and the provider's answer.
-- An answer that is not UTF-8 or not JSON fails its own row; an empty one is JSON null.
create function fx.call_response(
    uids text[], names text[], inputs text[], codes int[], answers bytea[])
returns table (n int, results text, payload text, failed text, reason text)
language plpgsql security definer set search_path = fx, pg_temp as $dispatcher$
declare
    answer json;
begin
    for i in 1 .. coalesce(array_length(names, 1), 0) loop
        n := i; results := null; payload := null; failed := null; reason := null;
        begin
            execute format('select results from fx.%I($1, $2, $3, $4)', names[i])
                into strict answer
                using uids[i], inputs[i]::json, codes[i],
                      coalesce(nullif(convert_from(answers[i], 'UTF8'), ''), 'null')::json;
            if octet_length(answer::text) > 262144 then
                failed := '54000'; reason := 'results are larger than 256 KiB';
            else
                results := answer::text;
            end if;
        exception
            when query_canceled then
                failed := sqlstate; reason := left(sqlerrm, 200);
                return next;
                return;
            when others then
                failed := sqlstate; reason := left(sqlerrm, 200);
        end;
        return next;
    end loop;
end
$dispatcher$;
revoke all on function fx.call_response(text[], text[], text[], int[], bytea[]) from public;
grant execute on function fx.call_response(text[], text[], text[], int[], bytea[])
    to mospay_router_fn;
