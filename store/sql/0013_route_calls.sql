-- What tenants spent on providers of routes, by UTC day (core.geo.routing.Purse): a row a tenant and day, raised and never lowered.

grant create on schema readback to readback_owner, readback_log;

create table readback.route_calls (
    tenant readback.tenant_name not null,
    day integer not null,  -- since 1970
    spent integer not null check (spent >= 0),
    primary key (tenant, day)
);
alter table readback.route_calls owner to readback_owner;
grant select, insert, update, delete on readback.route_calls to readback_log;
alter table readback.route_calls enable row level security;
alter table readback.route_calls force row level security;
create policy log on readback.route_calls to readback_log using (true) with check (true);

-- How many of these calls may be made, which are spent then: never more than so many a day. Nodes that ask at once take turns at
-- the row. What is older than yesterday goes with the first of a day.
create function readback.grant_route_calls(of_tenant text, of_day integer, wanted integer, most integer) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    before integer;
    granted integer;
begin
    insert into readback.route_calls values (of_tenant, of_day, 0) on conflict do nothing;
    if found then
        delete from readback.route_calls where tenant = of_tenant and day < of_day - 1;
    end if;
    select spent into before from readback.route_calls where tenant = of_tenant and day = of_day for update;
    granted := greatest(0, least(wanted, most - before));
    update readback.route_calls set spent = before + granted where tenant = of_tenant and day = of_day;
    return granted;
end
$$;
alter function readback.grant_route_calls(text, integer, integer, integer) owner to readback_log;
revoke all on function readback.grant_route_calls(text, integer, integer, integer) from public;
grant execute on function readback.grant_route_calls(text, integer, integer, integer) to readback_gateway;

revoke create on schema readback from readback_owner, readback_log;
