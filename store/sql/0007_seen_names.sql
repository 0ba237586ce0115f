-- When somebody was last here is kept of tenants only. In every other table the tenant is a domain or comes from streams; in
-- seen (0004) a call could leave a row of '', for a login that has set readback.tenant to '' to see, which means nobody (0001).

grant create on schema readback to readback_owner, readback_log;

create or replace function readback.save_seen(of_tenant text, principals text[], ats bigint[])
returns void language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
    if (of_tenant ~ '^[a-z0-9][a-z0-9._-]{0,62}$') is not true then
        return;
    end if;
    insert into readback.seen as k (tenant, principal, at_ms)
    select of_tenant, a.principal, max(a.at_ms) from unnest(principals, ats) a(principal, at_ms)
    group by a.principal order by a.principal
    on conflict (tenant, principal) do update set at_ms = excluded.at_ms where k.at_ms < excluded.at_ms;
end
$$;

revoke create on schema readback from readback_owner, readback_log;
