-- Makes the body of one version from its parts, under a name of its own. Nothing of a person's text
-- is run: the statement is put together here, every part quoted or out of a fixed list. The body
-- belongs to a role that may run no other provider function and read no other's source; only the
-- dispatchers may call it. SQLSTATE 42601 etc.: the body is wrong; 42723: that version is there.
create function fx.install_version(
    call_name text, argument_names text[], body_language text, volatility text, is_strict boolean,
    body text)
returns void
language plpgsql security definer set search_path = fx, pg_temp as $maker$
declare
    signature text;
    made record;
begin
    if call_name !~ '^[A-Za-z0-9_]+(~[0-9a-f]{10})?@v[0-9]+$' or octet_length(call_name) > 63 then
        raise exception using errcode = 'invalid_name', message = 'not the name of a version';
    end if;
    if body_language not in ('plpgsql', 'sql') or octet_length(body) > 262144
       or volatility not in ('volatile', 'stable', 'immutable')
       or cardinality(argument_names) not in (2, 4) then
        raise exception using errcode = 'invalid_parameter_value',
            message = 'not the parts of a provider function';
    end if;
    signature := case cardinality(argument_names) when 2 then 'text, json'
                      else 'text, json, integer, json' end;
    execute format(
        'create function fx.%I(%s) returns table (results json) language %s %s %s '
        'security definer as %L',
        call_name,
        (select string_agg(format('%I %s', n, t), ', ' order by i)
         from unnest(argument_names, string_to_array(signature, ', ')) with ordinality
             as u(n, t, i)),
        body_language, volatility, case when is_strict then 'strict' else '' end, body);
    execute format('revoke all on function fx.%I(%s) from public', call_name, signature);
    execute format('alter function fx.%I(%s) owner to mospay_router_run', call_name, signature);
    execute format('grant execute on function fx.%I(%s) to mospay_router_fx',
                   call_name, signature);
    execute format('revoke all on function fx.%I(%s) from mospay_router_run',
                   call_name, signature);
    -- What was made is looked at, not what was asked for.
    select count(*) as n, bool_and(p.prosecdef and p.prokind = 'f' and p.proretset
            and p.proconfig is null and p.proowner = 'mospay_router_run'::regrole
            and p.prorettype = 'json'::regtype and l.lanname in ('plpgsql', 'sql')
            and oidvectortypes(p.proargtypes) = signature
            and p.proargnames[cardinality(argument_names) + 1] = 'results') as fine
        into made
        from pg_proc p join pg_language l on l.oid = p.prolang
        where p.pronamespace = 'fx'::regnamespace and p.proname = call_name;
    if made.n <> 1 or made.fine is not true then
        raise exception using errcode = 'invalid_function_definition',
            message = 'what was made is not a provider function';
    end if;
end
$maker$
-- next
revoke all on function fx.install_version(text, text[], text, text, boolean, text) from public
-- next
grant execute on function fx.install_version(text, text[], text, text, boolean, text)
    to mospay_router_worker
-- next
-- What is made by hand from now on is nobody else's to call, unless a person grants it.
alter default privileges for role mospay_router_fx revoke execute on functions from public
-- next
grant usage, create on schema fx to mospay_router_run
