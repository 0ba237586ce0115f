-- The rest of the log's functions, and who may call which. See 0002 for the rules they share.

-- The log's one row of facts and its partitions, once. Returns whether it was this call that made them.
create function readback.install(wanted integer) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    insert into readback.meta (partitions) values (wanted) on conflict do nothing;
    if not found then
        return false;
    end if;
    insert into readback.partitions (partition, hash)
    select n, sha256(convert_to('readback partition ' || n, 'UTF8')) from generate_series(0, wanted - 1) n;
    return true;
end
$$;

-- What a principal may do in a stream: core.model.StreamFacts.role.
create function readback.role_of(own text, stream text, open boolean, principal text) returns text
language sql immutable as $$
    select case when own is not null then own when stream = principal then 'reader' when open then 'member' end
$$;

-- The plain way to write one event: membership changes. The caller holds the partition's lock.
create function readback.write_event(of_sid bigint, of_key uuid, of_type text, of_by text, of_body text)
returns readback.events language plpgsql set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    place record;
    tip record;
    event readback.events;
begin
    update readback.streams set head = head + 1 where sid = of_sid
    returning sid, tenant, partition, head into place;
    update readback.partitions set pos = pos + 1, at_ms = greatest(at_ms, readback.now_ms())
    where partition = place.partition returning pos, at_ms into tip;
    insert into readback.events (partition, pos, sid, tenant, seq, key, type, by, at_ms, body)
    values (place.partition, tip.pos, place.sid, place.tenant, place.head, of_key, of_type, of_by, tip.at_ms, of_body)
    returning * into event;
    update readback.partitions set hash = sha256(hash || readback.event_digest(place.partition, tip.pos, place.sid,
        place.head, of_key, tip.at_ms, place.tenant, of_type, of_by, of_body))
    where partition = place.partition;
    insert into readback.batches (partition, first_pos, last_pos, at_ms, hash)
    select partition, pos, pos, at_ms, hash from readback.partitions where partition = place.partition;
    return event;
end
$$;

-- outcome: ok, unchanged, not_found. The body's type decides the event's, which only this function can tell.
create function readback.put_member(
    of_tenant text, of_stream text, of_principal text, of_role text, of_key uuid, of_by text, of_body text,
    out outcome text, out partition integer, out pos bigint, out sid bigint, out seq bigint, out type text, out at_ms bigint
) language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    found_sid bigint;
    before text;
    event readback.events;
begin
    found_sid := readback.lock_stream(of_tenant, of_stream);
    if found_sid is null then
        outcome := 'not_found';
        return;
    end if;
    select role into before from readback.members where sid = found_sid and principal = of_principal;
    if before = of_role then
        outcome := 'unchanged';
        return;
    end if;
    insert into readback.members (sid, tenant, principal, role) values (found_sid, of_tenant, of_principal, of_role)
    on conflict (sid, principal) do update set role = excluded.role;
    event := readback.write_event(found_sid, of_key,
        case when before is null then 'member.joined' else 'member.role' end, of_by, of_body);
    outcome := 'ok';
    partition := event.partition;
    pos := event.pos;
    sid := event.sid;
    seq := event.seq;
    type := event.type;
    at_ms := event.at_ms;
end
$$;

create function readback.remove_member(
    of_tenant text, of_stream text, of_principal text, of_key uuid, of_by text, of_body text,
    out outcome text, out partition integer, out pos bigint, out sid bigint, out seq bigint, out type text, out at_ms bigint
) language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    found_sid bigint;
    event readback.events;
begin
    found_sid := readback.lock_stream(of_tenant, of_stream);
    if found_sid is null then
        outcome := 'not_found';
        return;
    end if;
    delete from readback.members where sid = found_sid and principal = of_principal;
    if not found then
        outcome := 'no_member';
        return;
    end if;
    event := readback.write_event(found_sid, of_key, 'member.left', of_by, of_body);
    outcome := 'ok';
    partition := event.partition;
    pos := event.pos;
    sid := event.sid;
    seq := event.seq;
    type := event.type;
    at_ms := event.at_ms;
end
$$;

-- Takes the lock of a stream's partition; null where there is no such stream.
create function readback.lock_stream(of_tenant text, of_stream text) returns bigint
language plpgsql set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    found_sid bigint;
    found_partition integer;
begin
    select sid, partition into found_sid, found_partition
    from readback.streams where tenant = of_tenant and stream = of_stream;
    perform from readback.partitions where partition = found_partition for update;
    return found_sid;
end
$$;

create function readback.create_stream(
    of_tenant text, of_stream text, is_open boolean, principals text[], roles text[]
) returns table (sid bigint, partition integer)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    made_sid bigint;
    made_partition integer;
begin
    insert into readback.streams (tenant, stream, partition, open)
    select of_tenant, of_stream, readback.partition_of(of_tenant, of_stream, partitions), is_open from readback.meta
    on conflict (tenant, stream) do nothing
    returning sid, partition into made_sid, made_partition;
    if made_sid is null then
        return;
    end if;
    insert into readback.members (sid, tenant, principal, role)
    select made_sid, of_tenant, m.principal, m.role from unnest(principals, roles) m(principal, role);
    return query select made_sid, made_partition;
end
$$;

-- Facts for (tenant, stream, principal) triples: every stream that exists, by its place among those asked for.
-- Across tenants, because one gateway's frame of resumes is; each line is answered for its own tenant only.
create function readback.open_streams(tenants text[], streams text[], principals text[])
returns table (ord bigint, sid bigint, partition integer, head bigint, first bigint, open boolean, role text)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
    -- An inbox is made when its owner first asks for it.
    if exists (
        select from unnest(tenants, streams, principals) a(tenant, stream, principal)
        left join readback.streams s on s.tenant = a.tenant and s.stream = a.stream
        where a.principal = a.stream and s.sid is null
    ) then
        insert into readback.streams (tenant, stream, partition, open)
        select distinct a.tenant, a.stream, readback.partition_of(a.tenant, a.stream, meta.partitions), false
        from unnest(tenants, streams, principals) a(tenant, stream, principal) cross join readback.meta
        where a.principal = a.stream
        order by 1, 2  -- two calls with the same inboxes wait for each other in one order only
        on conflict (tenant, stream) do nothing;
    end if;
    return query
        select a.ord, s.sid, s.partition, s.head, s.first, s.open, readback.role_of(m.role, s.stream, s.open, a.principal)
        from unnest(tenants, streams, principals) with ordinality a(tenant, stream, principal, ord)
        join readback.streams s on s.tenant = a.tenant and s.stream = a.stream
        left join readback.members m on m.sid = s.sid and m.principal = a.principal;
end
$$;

-- The node's own reading, across tenants: events of a partition, and where each partition ends.
create function readback.tail(of_partition integer, after_pos bigint, at_most integer)
returns table (partition integer, pos bigint, sid bigint, seq bigint, key text, type text, by text, at_ms bigint, body text)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select e.partition, e.pos, e.sid, e.seq, e.key::text, e.type, e.by, e.at_ms, e.body
    from readback.events e where e.partition = of_partition and e.pos > after_pos order by e.pos limit at_most
$$;

create function readback.heads() returns bigint[]
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select array_agg(pos order by partition) from readback.partitions
$$;

-- Reading for one tenant: with the caller's rights, which end at that tenant's rows.
create function readback.for_tenant(of_tenant text) returns void language sql volatile as $$
    select pg_catalog.set_config('readback.tenant', of_tenant, true)
$$;

create function readback.read(of_tenant text, of_sid bigint, after bigint, at_most integer)
returns table (partition integer, pos bigint, sid bigint, seq bigint, key text, type text, by text, at_ms bigint, body text)
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    kept bigint;
begin
    perform readback.for_tenant(of_tenant);
    select first into kept from readback.streams where sid = of_sid and tenant = of_tenant;
    return query
        select e.partition, e.pos, e.sid, e.seq, e.key::text, e.type, e.by, e.at_ms, e.body
        from readback.events e
        where e.sid = of_sid and e.seq > greatest(after, kept - 1) and e.tenant = of_tenant order by e.seq limit at_most;
end
$$;

create function readback.read_before(of_tenant text, of_sid bigint, before bigint, at_most integer)
returns table (partition integer, pos bigint, sid bigint, seq bigint, key text, type text, by text, at_ms bigint, body text)
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    kept bigint;
begin
    perform readback.for_tenant(of_tenant);
    select first into kept from readback.streams where sid = of_sid and tenant = of_tenant;
    return query
        select * from (
            select e.partition, e.pos, e.sid, e.seq, e.key::text, e.type, e.by, e.at_ms, e.body
            from readback.events e
            where e.sid = of_sid and e.seq < before and e.seq >= kept and e.tenant = of_tenant
            order by e.seq desc limit at_most
        ) last order by seq;
end
$$;

create function readback.members(of_tenant text, of_stream text, out known boolean, out principals text[], out roles text[])
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
    perform readback.for_tenant(of_tenant);
    select s.sid is not null, array_agg(m.principal::text order by m.principal) filter (where m.sid is not null),
        array_agg(m.role order by m.principal) filter (where m.sid is not null)
    into known, principals, roles
    from readback.streams s left join readback.members m on m.sid = s.sid and m.tenant = of_tenant
    where s.tenant = of_tenant and s.stream = of_stream group by s.sid;
end
$$;

create function readback.my_streams(of_tenant text, of_principal text)
returns table (stream text, role text, head bigint, first bigint, delivered bigint, read bigint)
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
    perform readback.for_tenant(of_tenant);
    return query
        select * from (
            select s.stream::text, readback.role_of(m.role, s.stream, s.open, of_principal) as role, s.head, s.first,
                coalesce(k.delivered, 0), coalesce(k.read, 0)
            from (
                select sid from readback.members where tenant = of_tenant and principal = of_principal
                union select sid from readback.markers where tenant = of_tenant and principal = of_principal
                union select sid from readback.streams where tenant = of_tenant and stream = of_principal
            ) mine
            join readback.streams s on s.sid = mine.sid and s.tenant = of_tenant
            left join readback.members m on m.sid = s.sid and m.principal = of_principal
            left join readback.markers k on k.sid = s.sid and k.principal = of_principal
        ) lines
        where role is not null order by stream;
end
$$;

create function readback.load_marks(of_tenant text, sids bigint[])
returns table (sid bigint, principal text, delivered bigint, read bigint)
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
    perform readback.for_tenant(of_tenant);
    return query
        select k.sid, k.principal, k.delivered, k.read from readback.markers k
        where k.sid = any (sids) and k.tenant = of_tenant order by k.sid, k.principal;
end
$$;

-- Raises markers; never back, never past head. Rows are taken in one order, so that two flushes cannot deadlock.
create function readback.save_marks(of_tenant text, sids bigint[], principals text[], delivereds bigint[], reads bigint[])
returns void language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
    insert into readback.markers as k (sid, tenant, principal, delivered, read)
    select * from (
        select s.sid, s.tenant, a.principal, greatest(0, max(least(a.delivered, s.head))) as delivered,
            greatest(0, max(least(a.read, s.head))) as read
        from unnest(sids, principals, delivereds, reads) a(sid, principal, delivered, read)
        join readback.streams s on s.sid = a.sid and s.tenant = of_tenant
        group by s.sid, s.tenant, a.principal
    ) marks
    where delivered > 0 or read > 0
    order by sid, principal
    on conflict (sid, principal) do update
        set delivered = greatest(k.delivered, excluded.delivered), read = greatest(k.read, excluded.read)
        where k.delivered < excluded.delivered or k.read < excluded.read;
end
$$;

-- Trimming in two steps: first moves at once, under the partition's lock (an append reads it); then bodies go, some at a
-- time, so that neither a lock nor a transaction lasts. Interrupted, the next trim of the stream continues.
create function readback.trim_first(of_tenant text, of_stream text, before bigint, out of_sid bigint, out new_first bigint)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
    of_sid := readback.lock_stream(of_tenant, of_stream);
    update readback.streams set first = greatest(first, least(before, head + 1)) where sid = of_sid
    returning first into new_first;
end
$$;

create function readback.trim_bodies(of_tenant text, of_sid bigint, at_most integer) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    until bigint;
    last bigint;
begin
    select least(first, trimmed + at_most), first into until, last
    from readback.streams where sid = of_sid and tenant = of_tenant;
    if until is null then
        return true;
    end if;
    update readback.events set body = null,
        digest = readback.event_digest(partition, pos, sid, seq, key, at_ms, tenant, type, by, body)
    where sid = of_sid and seq < until and body is not null
        and type not like 'member.%' -- a node that meets a removal late must still learn of whom
        and seq >= (select trimmed from readback.streams where sid = of_sid);
    -- The head of the same row is an appender's to move: behind its lock, like every other change of a stream.
    perform from readback.partitions
    where partition = (select partition from readback.streams where sid = of_sid) for update;
    update readback.streams set trimmed = greatest(trimmed, until) where sid = of_sid;
    return until >= last;
end
$$;

do $$
declare
    f record;
begin
    for f in
        select p.oid::regprocedure as signature, p.proname as name, p.prosecdef as writes
        from pg_catalog.pg_proc p where p.pronamespace = 'readback'::regnamespace
    loop
        execute format('alter function %s owner to readback_log', f.signature);
        execute format('revoke all on function %s from public', f.signature);
        if f.name not in ('install', 'write_event', 'lock_stream') then
            execute format('grant execute on function %s to readback_gateway', f.signature);
        end if;
    end loop;
end
$$;

revoke create on schema readback from readback_owner, readback_log;
