-- The maker of default pairs again: RESPONSE_ functions now pass on what the payer has to do.
create or replace function fx.create_default_pair(call_name text, response_name text)
returns setof text
language plpgsql security definer set search_path = fx, pg_temp as $maker$
begin
    if call_name !~ '^[A-Za-z0-9_]+_[A-Za-z0-9_]+_[A-Za-z0-9_]+$'
       or response_name <> 'RESPONSE_' || call_name or octet_length(response_name) > 63 then
        raise exception using errcode = 'invalid_name',
            message = 'not the names of a provider function pair';
    end if;
    perform pg_advisory_xact_lock(7226002);
    if to_regprocedure(format('fx.%I(text, json)', call_name)) is null then
        execute format($create$
            create function fx.%I(unique_id text, data_input json) returns table (results json)
            language plpgsql stable as $body$
            begin
                results := json_build_object(
                    'status', '200', 'type', 'SERVICE', 'message', 'ok', 'version', '1.0',
                    'action', 'SERVICE', 'command', data_input ->> 'f002',
                    'appName', data_input ->> 'f003',
                    'serviceurl', rtrim(data_input #>> '{mospay,base_url}', '/')
                        || '/' || (data_input ->> 'f001') || '/' || (data_input ->> 'f002'),
                    'servicepayload', json_build_array(
                        json_build_object('i', 0, 'v', data_input ->> 'f000'),
                        json_build_object('i', 1, 'v', data_input ->> 'f001'),
                        json_build_object('i', 2, 'v', data_input ->> 'f002'),
                        json_build_object('i', 3, 'v', data_input ->> 'f003'),
                        json_build_object('i', 4, 'v', data_input ->> 'f004'),
                        json_build_object('i', 5, 'v', data_input ->> 'f005'),
                        json_build_object('i', 9, 'v', data_input ->> 'f009'),
                        json_build_object('i', 10, 'v', unique_id)));
                return next;
            end $body$ $create$, call_name);
        execute format('revoke all on function fx.%I(text, json) from public', call_name);
        return next call_name;
    end if;
    if to_regprocedure(format('fx.%I(text, json, int, json)', response_name)) is null then
        execute format($create$
            create function fx.%I(unique_id text, data_input json, code integer, data_output json)
            returns table (results json)
            language plpgsql stable as $body$
            begin
                results := json_build_object(
                    'status', code::text, 'type', 'OUTPUT', 'version', '1.0', 'action', 'OUTPUT',
                    'command', data_input ->> 'f002',
                    'message', data_output -> 'message', 'outcome', data_output -> 'outcome',
                    'found', data_output -> 'found', 'reference', data_output -> 'reference',
                    'provider_reference', data_output -> 'provider_reference',
                    'reason_code', data_output -> 'reason_code',
                    'customer_action', data_output -> 'customer_action',
                    'amount', data_output -> 'amount', 'currency', data_output -> 'currency');
                return next;
            end $body$ $create$, response_name);
        execute format('revoke all on function fx.%I(text, json, int, json) from public',
                       response_name);
        return next response_name;
    end if;
end
$maker$
