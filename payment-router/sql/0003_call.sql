-- Runs many provider functions in one round trip; each row's fault stays its own (kernel, rule 6).
-- Returns a row for each function that ran, in order. After a time-out it returns at once: the
-- caller resubmits the rows that are missing, since no time limit protects this call any longer.
-- Each row ends by rolling back its own subtransaction (MP001): what a function sets (time zone,
-- search path, settings of its own) never reaches the next client's function. Unchanged default
-- templates share one body (fx.defaults_among).
create or replace function fx.call(uids text[], names text[], inputs text[])
returns table (n int, results text, payload text, failed text, reason text)
language plpgsql security definer set search_path = fx, pg_temp as $dispatcher$
declare
    answer json;
    kept text;
    shared boolean[] := fx.defaults_among(names, false);
begin
    for kept in select p.name from pg_prepared_statements p where p.from_sql loop
        execute format('deallocate %I', kept);  -- outlives a rollback
    end loop;
    for i in 1 .. coalesce(array_length(names, 1), 0) loop
        n := i; results := null; payload := null; failed := null; reason := null;
        begin
            if shared[i] then
                select t.results into strict answer
                from fx.template_call(uids[i], inputs[i]::json) t;
            else
                execute format('select results from fx.%I($1, $2)', names[i])
                    into strict answer using uids[i], inputs[i]::json;
            end if;
            if octet_length(answer::text) > 262144 then
                failed := '54000'; reason := 'results are larger than 256 KiB';
            else
                results := answer::text; payload := (answer -> 'servicepayload')::text;
            end if;
            raise exception using errcode = 'MP001';
        exception
            when sqlstate 'MP001' then null;
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
$dispatcher$
-- next
-- As fx.call, for RESPONSE_ functions: they get the real HTTP status and the provider's answer.
-- An answer that is not UTF-8 or not JSON fails its own row; an empty one is JSON null.
create or replace function fx.call_response(
    uids text[], names text[], inputs text[], codes int[], answers bytea[])
returns table (n int, results text, payload text, failed text, reason text)
language plpgsql security definer set search_path = fx, pg_temp as $dispatcher$
declare
    answer json;
    heard json;
    kept text;
    shared boolean[] := fx.defaults_among(names, true);
begin
    for kept in select p.name from pg_prepared_statements p where p.from_sql loop
        execute format('deallocate %I', kept);  -- outlives a rollback
    end loop;
    for i in 1 .. coalesce(array_length(names, 1), 0) loop
        n := i; results := null; payload := null; failed := null; reason := null;
        begin
            heard := coalesce(nullif(convert_from(answers[i], 'UTF8'), ''), 'null')::json;
            if shared[i] then
                select t.results into strict answer
                from fx.template_response(uids[i], inputs[i]::json, codes[i], heard) t;
            else
                execute format('select results from fx.%I($1, $2, $3, $4)', names[i])
                    into strict answer using uids[i], inputs[i]::json, codes[i], heard;
            end if;
            if octet_length(answer::text) > 262144 then
                failed := '54000'; reason := 'results are larger than 256 KiB';
            else
                results := answer::text;
            end if;
            raise exception using errcode = 'MP001';
        exception
            when sqlstate 'MP001' then null;
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
$dispatcher$
