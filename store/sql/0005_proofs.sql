-- What a proof of one event is made of (docs/audit.md), and the kind of stream that only the gateway writes.

alter domain readback.stream_name drop constraint stream_name_check;
alter domain readback.stream_name add constraint stream_name_check
    check (value ~ '^(chat|flight|trip|user|audit):[A-Za-z0-9._~-]{1,128}$');

grant create on schema readback to readback_owner, readback_log;

-- One event of a tenant's stream with the digest that the chain has of it. A body that was let go stays so, even while a
-- trim is still under way.
create function readback.event_to_prove(of_tenant text, of_stream text, of_seq bigint)
returns table (partition integer, pos bigint, sid bigint, seq bigint, key text, type text, by text, at_ms bigint, body text,
    digest bytea)
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
    perform readback.for_tenant(of_tenant);
    return query
        select e.partition, e.pos, e.sid, e.seq, e.key::text, e.type, e.by, e.at_ms,
            case when e.seq >= s.first then e.body end,
            coalesce(e.digest, readback.event_digest(
                e.partition, e.pos, e.sid, e.seq, e.key, e.at_ms, e.tenant, e.type, e.by, e.body))
        from readback.streams s join readback.events e on e.sid = s.sid and e.seq = of_seq and e.tenant = of_tenant
        where s.tenant = of_tenant and s.stream = of_stream;
end
$$;

-- Batches of a partition, from the one that holds from_pos on: where each lies, its hash, and the digests of its events in
-- order, 32 bytes each. Across tenants, because a batch is; of an event nothing but its digest is told, and that cannot be
-- guessed at, since the sender's key is in it.
create function readback.chain(of_partition integer, from_pos bigint, upto_pos bigint, at_most integer)
returns table (first_pos bigint, last_pos bigint, hash bytea, digests bytea)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select b.first_pos, b.last_pos, b.hash, (
        select string_agg(coalesce(e.digest, readback.event_digest(
            e.partition, e.pos, e.sid, e.seq, e.key, e.at_ms, e.tenant, e.type, e.by, e.body)), ''::bytea order by e.pos)
        from readback.events e where e.partition = of_partition and e.pos between b.first_pos and b.last_pos)
    from readback.batches b
    where b.partition = of_partition and b.first_pos <= upto_pos and b.first_pos >= coalesce((
        select max(f.first_pos) from readback.batches f where f.partition = of_partition and f.first_pos <= from_pos), 1)
    order by b.first_pos limit at_most
$$;

do $$
declare
    f record;
begin
    for f in
        select p.oid::regprocedure as signature from pg_catalog.pg_proc p
        where p.pronamespace = 'readback'::regnamespace and p.proname in ('event_to_prove', 'chain')
    loop
        execute format('alter function %s owner to readback_log', f.signature);
        execute format('revoke all on function %s from public', f.signature);
        execute format('grant execute on function %s to readback_gateway', f.signature);
    end loop;
end
$$;

revoke create on schema readback from readback_owner, readback_log;
