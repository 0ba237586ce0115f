-- When each principal of a tenant was last here: kept so that "last seen" outlives nodes. One row a principal, raised in
-- place; who is here now, the nodes know among themselves (docs/decisions/0036).

grant create on schema readback to readback_owner, readback_log;

create table readback.seen (
    tenant text collate "C" not null,
    principal text collate "C" not null,
    at_ms bigint not null check (at_ms >= 0),
    primary key (tenant, principal)
) with (fillfactor = 50);

alter table readback.seen owner to readback_owner;
grant select, insert, update on readback.seen to readback_log;
alter table readback.seen enable row level security;
alter table readback.seen force row level security;
create policy log on readback.seen to readback_log using (true) with check (true);
create policy tenant on readback.seen for select to readback_gateway
    using (tenant = (select current_setting('readback.tenant', true)));
grant select on readback.seen to readback_gateway;

-- Raises times; never back. Rows are taken in one order, so that two nodes cannot deadlock.
create function readback.save_seen(of_tenant text, principals text[], ats bigint[])
returns void language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
    insert into readback.seen as k (tenant, principal, at_ms)
    select of_tenant, a.principal, max(a.at_ms) from unnest(principals, ats) a(principal, at_ms)
    group by a.principal order by a.principal
    on conflict (tenant, principal) do update set at_ms = excluded.at_ms where k.at_ms < excluded.at_ms;
end
$$;

-- Of principals that may follow the stream only: whoever else is asked about is as unknown as somebody never seen.
create function readback.load_seen(of_tenant text, of_sid bigint, principals text[])
returns table (principal text, at_ms bigint)
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
    perform readback.for_tenant(of_tenant);
    return query
        select k.principal, k.at_ms from readback.seen k
        join readback.streams s on s.sid = of_sid and s.tenant = of_tenant
        where k.tenant = of_tenant and k.principal = any (principals)
            and (s.open or s.stream = k.principal or exists (
                select from readback.members m where m.sid = s.sid and m.principal = k.principal))
        order by k.principal;
end
$$;

do $$
declare
    f record;
begin
    for f in
        select p.oid::regprocedure as signature from pg_catalog.pg_proc p
        where p.pronamespace = 'readback'::regnamespace and p.proname in ('save_seen', 'load_seen')
    loop
        execute format('alter function %s owner to readback_log', f.signature);
        execute format('revoke all on function %s from public', f.signature);
        execute format('grant execute on function %s to readback_gateway', f.signature);
    end loop;
end
$$;

revoke create on schema readback from readback_owner, readback_log;
