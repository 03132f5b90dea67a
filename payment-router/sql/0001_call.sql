-- Runs many provider functions in one round trip; each row's fault stays its own (kernel, rule 6).
-- Returns a row for each function that ran, in order. After a time-out it returns at once: the
-- caller resubmits the rows that are missing, since no time limit protects this call any longer.
create function fx.call(uids text[], names text[], inputs text[])
returns table (n int, results text, payload text, failed text, reason text)
language plpgsql security definer set search_path = fx, pg_temp as $dispatcher$
declare
    answer json;
begin
    for i in 1 .. coalesce(array_length(names, 1), 0) loop
        n := i; results := null; payload := null; failed := null; reason := null;
        begin
            execute format('select results from fx.%I($1, $2)', names[i])
                into strict answer using uids[i], inputs[i]::json;
            if octet_length(answer::text) > 262144 then
                failed := '54000'; reason := 'results are larger than 256 KiB';
            else
                results := answer::text; payload := (answer -> 'servicepayload')::text;
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
revoke all on function fx.call(text[], text[], text[]) from public;
grant usage on schema fx to mospay_router_fn;
grant execute on function fx.call(text[], text[], text[]) to mospay_router_fn;
