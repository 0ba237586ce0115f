-- Where things are and were (core/tracks.py): samples of positions by day, last positions, fences, keys of apps, pushes.
--
-- Samples come by COPY, which Postgres refuses on a table under row-level security. So the table has two names, one to read by
-- and one to write by. Readers name readback.positions, under its policies; permissions and policies are those of the table that
-- is named, whatever is below it. Nodes COPY into its only partition, readback_days.positions, where they may insert and do
-- nothing else: neither RETURNING nor ON CONFLICT nor a unique index's error can show anybody's row there. Below it is one table
-- a day. A day without one is refused, and its table made (make_days); there is none for "all other times", which would grow
-- unseen. The days are in a schema of their own, owned by readback_log, whose functions make and drop them.
--
-- A sample kept twice is there twice and is read once: a unique index would tell whoever inserts what others have.

grant create on schema readback to readback_owner, readback_log;

create schema readback_days authorization readback_log;
revoke all on schema readback_days from public;
grant usage on schema readback_days to readback_gateway;

-- Names are plain texts here: domains would look at each row's three by expressions, 52,000 rows a second instead of 240,000.
-- The form of names is for who copies (store/tracks_input.py); nobody asks for the rows of a tenant that cannot be.
create table readback.positions (
    at_ms bigint not null,
    seq bigint not null,
    taken_ms bigint not null,
    lat double precision not null,
    lon double precision not null,
    acc double precision,
    speed double precision,
    heading double precision,
    alt double precision,
    tenant text collate "C" not null,
    subject text collate "C" not null,
    stream text collate "C" not null,
    verdict text collate "C" not null,
    reason text collate "C" not null
) partition by range (at_ms);
create table readback_days.positions (
    like readback.positions,
    constraint place check (lat between -90 and 90 and lon between -180 and 180),  -- which no NaN is
    constraint verdict check (verdict in ('accepted', 'degraded', 'quarantined')),
    constraint lengths check (
        octet_length(tenant) between 1 and 63 and octet_length(subject) between 1 and 255
        and octet_length(stream) between 1 and 255 and octet_length(reason) <= 1000)
) partition by range (at_ms);
alter table readback.positions attach partition readback_days.positions for values from (minvalue) to (maxvalue);
create index positions_of_stream on readback.positions (tenant, stream, at_ms);

-- The last position of each subject: one row, raised in place. A node asks for what it shows by stream.
create table readback.last_positions (
    at_ms bigint not null,
    taken_ms bigint not null,
    lat double precision not null,
    lon double precision not null,
    acc double precision,
    speed double precision,
    heading double precision,
    alt double precision,
    tenant text collate "C" not null,
    subject text collate "C" not null,
    stream text collate "C" not null,
    verdict text collate "C" not null,
    memory jsonb not null,
    primary key (tenant, subject)
) with (fillfactor = 50);
create index last_positions_of_stream on readback.last_positions (tenant, stream, subject);

create table readback.geofences (
    tenant readback.tenant_name not null,
    fence text collate "C" not null,
    name text collate "C" not null,
    points double precision[] not null,  -- lat, lon, lat, lon, …
    radius_m double precision not null,
    dwell_s integer not null,
    streams text[] not null,
    primary key (tenant, fence)
);

create table readback.app_keys (
    secret_hash bytea primary key,
    tenant readback.tenant_name not null,
    subject readback.principal_name not null,
    stream readback.stream_name not null,
    made_ms bigint not null,
    unique (tenant, subject)
);

create table readback.pushes (
    service text collate "C" not null,
    token text collate "C" not null,
    tenant readback.tenant_name not null,
    principal readback.principal_name not null,
    app text collate "C" not null,
    at_ms bigint not null,
    primary key (service, token)
);
create index pushes_of_principal on readback.pushes (tenant, principal, at_ms);

do $$
declare
    name text;
begin
    foreach name in array array['positions', 'last_positions', 'geofences', 'app_keys', 'pushes'] loop
        execute format('alter table readback.%I owner to readback_owner', name);
        execute format('grant select, insert, update, delete on readback.%I to readback_log', name);
        execute format('alter table readback.%I enable row level security', name);
        execute format('alter table readback.%I force row level security', name);
        execute format('create policy log on readback.%I to readback_log using (true) with check (true)', name);
        execute format(
            'create policy tenant on readback.%I for select to readback_gateway '
            'using (tenant = (select current_setting(''readback.tenant'', true)))', name);
        execute format('grant select on readback.%I to readback_gateway', name);
    end loop;
end
$$;
revoke insert, update, delete on readback.positions from readback_log;
revoke delete on readback.last_positions from readback_log;
alter table readback_days.positions owner to readback_log;
grant insert on readback_days.positions to readback_gateway;

-- Days

-- A table for each of these days (numbers since 1970) that has none; how many were made. Attaching takes a lock that neither
-- readers nor writers mind. Together there are at most so many as the caller says: null, and none is made, where it were more.
create function readback.make_days(days integer[], at_most integer) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    day integer;
    name text;
    made integer := 0;
begin
    perform pg_advisory_xact_lock(7304, 0);
    if (select count(*) from readback.position_days()) + (
        select count(distinct d) from unnest(days) d where to_regclass('readback_days.day_' || d) is null) > at_most then
        return null;
    end if;
    foreach day in array days loop
        name := 'day_' || day;
        if to_regclass('readback_days.' || name) is null then
            execute format('create table readback_days.%I (like readback_days.positions including constraints)', name);
            execute format('alter table readback_days.positions attach partition readback_days.%I for values from (%s) to (%s)',
                name, day * 86400000::bigint, (day + 1) * 86400000::bigint);
            made := made + 1;
        end if;
    end loop;
    return made;
end
$$;

create function readback.position_days() returns setof integer
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select substr(c.relname, 5)::integer from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent = 'readback_days.positions'::regclass order by 1
$$;

-- Drops a day as a whole. Whoever reads or writes positions just then waits for it, and it for them: at most 100 ms, so that a
-- long read holds nobody up behind this. False: it was too busy, or there is none.
create function readback.drop_day(day integer) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform set_config('lock_timeout', '100ms', true);
    if to_regclass('readback_days.day_' || day) is null then
        return false;
    end if;
    execute format('drop table readback_days.%I', 'day_' || day);
    return true;
exception when lock_not_available or deadlock_detected or undefined_table then
    return false;
end
$$;

-- Deletes rows of one day that are older than their tenants want them: cutoffs by tenant, rest for those that are not named.
-- Tenants are found by a lookup each. At most so many rows; whoever calls comes again while it were as many.
create function readback.forget_positions(day integer, tenants text[], cutoffs bigint[], rest bigint, at_most integer)
returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    source text := 'readback_days.day_' || day;
    name text := '';
    cutoff bigint;
    gone integer := 0;
    deleted integer;
begin
    if to_regclass(source) is null then
        return 0;
    end if;
    while gone < at_most loop
        execute format('select tenant from %s where tenant > $1 order by tenant limit 1', source) into name using name;
        exit when name is null;
        cutoff := coalesce(cutoffs[array_position(tenants, name)], rest);
        continue when cutoff <= day * 86400000::bigint;
        execute format('delete from %1$s where ctid = any (array(
            select ctid from %1$s where tenant = $1 and at_ms < $2 limit $3))', source) using name, cutoff, at_most - gone;
        get diagnostics deleted = row_count;
        gone := gone + deleted;
    end loop;
    return gone;
exception when undefined_table then
    return 0;
end
$$;

-- Samples

-- Of the rows that one subject has at one time under one number, the one that was taken first.
create function readback.track(
    of_tenant text, of_stream text, from_ms bigint, to_ms bigint, of_subject text,
    after_ms bigint, after_subject text, after_seq bigint, at_most integer, newest boolean
) returns table (
    subject text, at_ms bigint, seq bigint, lat double precision, lon double precision, acc double precision,
    speed double precision, heading double precision, alt double precision, verdict text, reason text, taken_ms bigint
) language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
    perform readback.for_tenant(of_tenant);
    if newest then
        return query
            select * from (
                select distinct on (p.at_ms, p.subject, p.seq) p.subject::text, p.at_ms, p.seq, p.lat, p.lon, p.acc, p.speed,
                    p.heading, p.alt, p.verdict, p.reason, p.taken_ms
                from readback.positions p
                where p.tenant = of_tenant and p.stream = of_stream and p.at_ms >= from_ms and p.at_ms < to_ms
                    and (of_subject is null or p.subject = of_subject)
                    and (after_ms is null or (p.at_ms, p.subject, p.seq) > (after_ms, after_subject, after_seq))
                order by p.at_ms desc, p.subject desc, p.seq desc, p.taken_ms limit at_most
            ) last order by at_ms, subject, seq;
    else
        return query
            select distinct on (p.at_ms, p.subject, p.seq) p.subject::text, p.at_ms, p.seq, p.lat, p.lon, p.acc, p.speed,
                p.heading, p.alt, p.verdict, p.reason, p.taken_ms
            from readback.positions p
            where p.tenant = of_tenant and p.stream = of_stream and p.at_ms >= greatest(from_ms, after_ms) and p.at_ms < to_ms
                and (of_subject is null or p.subject = of_subject)
                and (after_ms is null or (p.at_ms, p.subject, p.seq) > (after_ms, after_subject, after_seq))
            order by p.at_ms, p.subject, p.seq, p.taken_ms limit at_most;
    end if;
end
$$;

-- Last positions; never back. Rows are taken in one order, so that two nodes cannot deadlock. Called in the transaction that
-- has copied the samples.
create function readback.keep_lasts(
    tenants text[], subjects text[], streams text[], ats bigint[], lats double precision[], lons double precision[],
    accs double precision[], speeds double precision[], headings double precision[], alts double precision[],
    verdicts text[], takens bigint[], memories text[]
) returns void language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
    perform count(t::readback.tenant_name) from (select distinct unnest(tenants) as t) named;
    insert into readback.last_positions as k (
        tenant, subject, stream, at_ms, lat, lon, acc, speed, heading, alt, verdict, taken_ms, memory)
    select tenant, subject, stream, at_ms, lat, lon, acc, speed, heading, alt, verdict, taken_ms, memory::jsonb
    from unnest(tenants, subjects, streams, ats, lats, lons, accs, speeds, headings, alts, verdicts, takens, memories)
        a(tenant, subject, stream, at_ms, lat, lon, acc, speed, heading, alt, verdict, taken_ms, memory)
    order by tenant collate "C", subject collate "C"
    on conflict (tenant, subject) do update set
        stream = excluded.stream, at_ms = excluded.at_ms, lat = excluded.lat, lon = excluded.lon, acc = excluded.acc,
        speed = excluded.speed, heading = excluded.heading, alt = excluded.alt, verdict = excluded.verdict,
        taken_ms = excluded.taken_ms, memory = excluded.memory
    where excluded.at_ms > k.at_ms;
end
$$;

create function readback.load_lasts(of_tenant text, subjects text[]) returns setof readback.last_positions
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
    perform readback.for_tenant(of_tenant);
    return query
        select k.* from readback.last_positions k where k.tenant = of_tenant and k.subject = any (subjects) order by k.subject;
end
$$;

create function readback.shown_lasts(of_tenant text, of_stream text) returns setof readback.last_positions
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
    perform readback.for_tenant(of_tenant);
    return query
        select k.* from readback.last_positions k where k.tenant = of_tenant and k.stream = of_stream order by k.subject;
end
$$;

-- Fences

-- 'new', 'changed', or 'full': the tenant has so many others.
create function readback.put_geofence(
    of_tenant text, of_fence text, of_name text, of_points double precision[], of_radius_m double precision,
    of_dwell_s integer, of_streams text[], at_most integer
) returns text language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform pg_advisory_xact_lock(7305, hashtext(of_tenant));
    update readback.geofences set name = of_name, points = of_points, radius_m = of_radius_m, dwell_s = of_dwell_s,
        streams = of_streams
    where tenant = of_tenant and fence = of_fence;
    if found then
        return 'changed';
    end if;
    if (select count(*) from readback.geofences where tenant = of_tenant) >= at_most then
        return 'full';
    end if;
    insert into readback.geofences (tenant, fence, name, points, radius_m, dwell_s, streams)
    values (of_tenant, of_fence, of_name, of_points, of_radius_m, of_dwell_s, of_streams);
    return 'new';
end
$$;

create function readback.drop_geofence(of_tenant text, of_fence text) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    delete from readback.geofences where tenant = of_tenant and fence = of_fence;
    return found;
end
$$;

create function readback.tenant_geofences(of_tenant text) returns setof readback.geofences
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
    perform readback.for_tenant(of_tenant);
    return query select g.* from readback.geofences g where g.tenant = of_tenant order by g.fence;
end
$$;

-- Keys of apps

-- False: the secret is another subject's, whoever that is.
create function readback.put_app_key(
    of_secret_hash bytea, of_tenant text, of_subject text, of_stream text, of_made_ms bigint
) returns boolean language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    insert into readback.app_keys as k (secret_hash, tenant, subject, stream, made_ms)
    values (of_secret_hash, of_tenant, of_subject, of_stream, of_made_ms)
    on conflict (tenant, subject) do update
        set secret_hash = excluded.secret_hash, stream = excluded.stream, made_ms = excluded.made_ms;
    return true;
exception when unique_violation then
    return false;
end
$$;

create function readback.find_app_key(of_secret_hash bytea) returns setof readback.app_keys
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select k.* from readback.app_keys k where k.secret_hash = of_secret_hash
$$;

create function readback.tenant_app_keys(of_tenant text)
returns table (tenant text, subject text, stream text, made_ms bigint)
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
    perform readback.for_tenant(of_tenant);
    return query
        select k.tenant::text, k.subject::text, k.stream::text, k.made_ms from readback.app_keys k
        where k.tenant = of_tenant order by k.subject;
end
$$;

create function readback.bind_app_key(of_tenant text, of_subject text, of_stream text) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    update readback.app_keys set stream = of_stream where tenant = of_tenant and subject = of_subject;
    return found;
end
$$;

create function readback.drop_app_key(of_tenant text, of_subject text) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    delete from readback.app_keys where tenant = of_tenant and subject = of_subject;
    return found;
end
$$;

-- Pushes

create function readback.add_push(
    of_tenant text, of_principal text, of_service text, of_token text, of_app text, of_at_ms bigint, at_most integer
) returns void language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform pg_advisory_xact_lock(7306, hashtext(of_tenant || '/' || of_principal));
    insert into readback.pushes (service, token, tenant, principal, app, at_ms)
    values (of_service, of_token, of_tenant, of_principal, of_app, of_at_ms)
    on conflict (service, token) do update
        set tenant = excluded.tenant, principal = excluded.principal, app = excluded.app, at_ms = excluded.at_ms;
    -- What is locked is on its way to somebody else.
    delete from readback.pushes where (service, token) in (
        select p.service, p.token from readback.pushes p
        where p.tenant = of_tenant and p.principal = of_principal and (p.service, p.token) <> (of_service, of_token)
        order by p.at_ms desc, p.service, p.token offset at_most - 1
        for update skip locked);
end
$$;

create function readback.find_pushes(of_tenant text, of_principal text)
returns table (service text, token text, app text, at_ms bigint)
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
    perform readback.for_tenant(of_tenant);
    return query
        select p.service, p.token, p.app, p.at_ms from readback.pushes p
        where p.tenant = of_tenant and p.principal = of_principal order by p.at_ms desc, p.service, p.token;
end
$$;

create function readback.drop_push(of_service text, of_token text, before_ms bigint) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    delete from readback.pushes
    where service = of_service and token = of_token and (before_ms is null or at_ms <= before_ms);
    return found;
end
$$;

do $$
declare
    f record;
begin
    for f in
        select p.oid::regprocedure as signature from pg_catalog.pg_proc p
        where p.pronamespace = 'readback'::regnamespace and p.proname in (
            'make_days', 'position_days', 'drop_day', 'forget_positions', 'track', 'keep_lasts', 'load_lasts', 'shown_lasts',
            'put_geofence', 'drop_geofence', 'tenant_geofences', 'put_app_key', 'find_app_key', 'tenant_app_keys',
            'bind_app_key', 'drop_app_key', 'add_push', 'find_pushes', 'drop_push')
    loop
        execute format('alter function %s owner to readback_log', f.signature);
        execute format('revoke all on function %s from public', f.signature);
        execute format('grant execute on function %s to readback_gateway', f.signature);
    end loop;
end
$$;

revoke create on schema readback from readback_owner, readback_log;
