-- Makes the default functions by which a payment is given back, and by which that is asked about:
-- `{call}Refund`, `{call}RefundStatus` and their RESPONSE_ functions. What exists is never
-- replaced. Returns the names that were made.
create function fx.create_default_refund_pair(call_name text)
returns setof text
language plpgsql security definer set search_path = fx, pg_temp as $maker$
declare
    word text;
    made text;
begin
    if call_name !~ '^[A-Za-z0-9_]+_[A-Za-z0-9_]+_[A-Za-z0-9_]+$'
       or octet_length('RESPONSE_' || call_name || 'RefundStatus') > 63 then
        return;
    end if;
    perform pg_advisory_xact_lock(7226002);
    foreach word in array array['Refund', 'RefundStatus'] loop
        made := call_name || word;
        if to_regprocedure(format('fx.%I(text, json)', made)) is null then
            execute format($create$
                create function fx.%I(unique_id text, data_input json)
                returns table (results json) language plpgsql stable as $body$
                begin
                    results := json_build_object(
                        'status', '200', 'type', 'SERVICE', 'message', 'ok', 'version', '1.0',
                        'action', 'SERVICE', 'command', %L, 'appName', data_input ->> 'f003',
                        'serviceurl', rtrim(data_input #>> '{mospay,base_url}', '/')
                            || '/' || (data_input ->> 'f001') || '/' || %L,
                        'servicepayload', json_build_object(
                            'refund_id', unique_id,
                            'payment_reference', data_input #>> '{mospay,payment_id}',
                            'provider_reference', data_input #>> '{mospay,provider_reference}',
                            'amount', data_input #>> '{mospay,refund_amount}',
                            'currency', data_input #>> '{mospay,currency}',
                            'reason', data_input #>> '{mospay,reason}'));
                    return next;
                end $body$ $create$, made, lower(left(word, 1)) || substr(word, 2),
                lower(left(word, 1)) || substr(word, 2));
            execute format('revoke all on function fx.%I(text, json) from public', made);
            return next made;
        end if;
        made := 'RESPONSE_' || made;
        if to_regprocedure(format('fx.%I(text, json, int, json)', made)) is null then
            execute format($create$
                create function fx.%I(
                    unique_id text, data_input json, code integer, data_output json)
                returns table (results json) language plpgsql stable as $body$
                begin
                    results := json_build_object(
                        'status', code::text, 'type', 'OUTPUT', 'version', '1.0',
                        'action', 'OUTPUT', 'message', data_output -> 'message',
                        'outcome', data_output -> 'outcome', 'found', data_output -> 'found',
                        'reference', data_output -> 'reference',
                        'provider_reference', data_output -> 'provider_reference',
                        'reason_code', data_output -> 'reason_code',
                        'amount', data_output -> 'amount',
                        'currency', data_output -> 'currency');
                    return next;
                end $body$ $create$, made);
            execute format('revoke all on function fx.%I(text, json, int, json) from public', made);
            return next made;
        end if;
    end loop;
end
$maker$
-- next
revoke all on function fx.create_default_refund_pair(text) from public
-- next
grant execute on function fx.create_default_refund_pair(text) to mospay_router_worker
