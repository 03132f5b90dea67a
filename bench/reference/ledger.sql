-- The reference of `./mospay bench ledger`: a plain double-entry ledger in PL/pgSQL. Two accounts of
-- a transfer are locked in sorted order, two entries keep the running balance; a batch is one call
-- that makes its transfers one after the other. Statements are separated by lines of two dashes.
create table ref_accounts (
    id text primary key, currency text not null, balance bigint not null default 0,
    version bigint not null default 0, created_at timestamptz not null default now(),
    updated_at timestamptz not null default now())
--
create table ref_transfers (
    id text primary key, from_account_id text not null references ref_accounts (id),
    to_account_id text not null references ref_accounts (id),
    amount bigint not null check (amount > 0), event_id text unique,
    created_at timestamptz not null default now(),
    check (from_account_id <> to_account_id))
--
create table ref_entries (
    id bigint generated always as identity primary key,
    account_id text not null references ref_accounts (id),
    transfer_id text not null references ref_transfers (id),
    amount bigint not null, previous_balance bigint not null, current_balance bigint not null,
    account_version bigint not null, created_at timestamptz not null default now())
--
create index ref_entries_account on ref_entries (account_id)
--
create index ref_entries_transfer on ref_entries (transfer_id)
--
create function ref_transfer(id text, from_id text, to_id text, cents bigint, event text)
returns text language plpgsql as $$
declare
    source ref_accounts; target ref_accounts;
begin
    perform 1 from ref_accounts a where a.id in (from_id, to_id) order by a.id for update;
    update ref_accounts a set balance = balance - cents, version = version + 1, updated_at = now()
        where a.id = from_id returning * into strict source;
    update ref_accounts a set balance = balance + cents, version = version + 1, updated_at = now()
        where a.id = to_id returning * into strict target;
    if source.currency <> target.currency then
        raise exception 'currencies differ';
    end if;
    insert into ref_transfers (id, from_account_id, to_account_id, amount, event_id)
        values (id, from_id, to_id, cents, event);
    insert into ref_entries (account_id, transfer_id, amount, previous_balance, current_balance,
            account_version)
        values (from_id, id, -cents, source.balance + cents, source.balance, source.version),
               (to_id, id, cents, target.balance - cents, target.balance, target.version);
    return id;
end $$
--
create function ref_transfers_of(ids text[], from_ids text[], to_ids text[], cents bigint[],
    events text[])
returns int language plpgsql as $$
begin
    -- all locks first and sorted, so that two batches never wait for each other in a ring
    perform 1 from ref_accounts a where a.id = any(from_ids || to_ids) order by a.id for update;
    for n in 1..cardinality(ids) loop
        perform ref_transfer(ids[n], from_ids[n], to_ids[n], cents[n], events[n]);
    end loop;
    return cardinality(ids);
end $$
