-- Says of each name whether its function in schema fx is our default template, unchanged. Those are
-- run through one shared body: PostgreSQL keeps some 90 KiB of every function a session has run,
-- and up to version 16 looks their names up in a list, so 10,000 clients would cost every payment.
-- Whoever replaces a function by hand is heard with the next batch.
create function fx.defaults_among(names text[], response boolean)
returns boolean[]
language sql stable security definer set search_path = pg_catalog, pg_temp as $among$
    select array_agg(coalesce(p.prosrc = t.prosrc and p.prolang = t.prolang and not p.prosecdef
                              and p.proconfig is null and not p.proisstrict, false) order by u.i)
    from unnest(names) with ordinality as u(name, i)
    cross join (select prosrc, prolang, proargtypes, pronamespace from pg_proc
                where oid = case when response
                    then 'fx.template_response(text,json,int,json)'::regprocedure
                    else 'fx.template_call(text,json)'::regprocedure end) t
    left join pg_proc p on p.proname = u.name::name and p.proargtypes = t.proargtypes
        and p.pronamespace = t.pronamespace
$among$
-- next
revoke all on function fx.defaults_among(text[], boolean) from public
-- next
grant execute on function fx.defaults_among(text[], boolean) to mospay_router_fx
