-- What a cell keeps beside its log (core/directory.py), and each tenant's audit stream.
--
-- A change and its audit event are one commit. Locks are taken in this order, by every function here:
--   1. rows of devices, ascending by (tenant, device); a device's row is also the lock of its claim and its refresh tokens;
--      or one service client's row;
--   2. the counter of revocations, without which no revocation is written or deleted;
--   3. the tenant's row in streams, where the audit stream is being made;
--   4. one partition, for the audit event.
-- Nothing is waited for after the partition, and of what comes before it an append takes nothing: it locks partitions only,
-- in ascending order. So whoever is waited for can end, and there is no circle. take_pings takes rows of step 1 and no more.
-- Two that put the same secret in at once wait for each other's unique key, after step 1: one such key each, so no circle.

grant create on schema readback to readback_owner, readback_log;

-- Numbers of revocations: the row's lock is held until commit, so that they are dense and become visible in their order.
create table readback.revisions (
    one boolean primary key default true check (one),
    number bigint not null
);
insert into readback.revisions (number) values (0);

create table readback.revocations (
    tenant readback.tenant_name not null,
    scope text collate "C" not null check (scope in ('token', 'session', 'principal', 'tenant')),
    value text collate "C" not null,
    number bigint not null unique,
    at_ms bigint not null,
    until_ms bigint,
    reason text not null,
    by text collate "C" not null,
    lifted boolean not null,
    primary key (tenant, scope, value)
);
create index revocations_in_force on readback.revocations (tenant, number) where not lifted;

create table readback.service_clients (
    client_id text collate "C" primary key,
    tenant readback.tenant_name not null,
    principal readback.principal_name not null,
    roles text[] not null,
    secret_hash bytea not null check (octet_length(secret_hash) = 32),
    made_ms bigint not null
);
create index service_clients_of_tenant on readback.service_clients (tenant, client_id);

-- taken: which of the 4,096 numbers below highest were, the nearest first. A bit string, because it shifts in C: a jump costs
-- the same whatever its width, where words or bytes would be a loop. Pings update it in place, without checks (see 0001).
create table readback.devices (
    tenant readback.tenant_name not null,
    device readback.principal_name not null,
    key text collate "C" not null default '',
    public_key bytea not null default '',
    enrolled_ms bigint not null default 0,
    revoked boolean not null default false,
    highest bigint not null default 0,
    taken bit varying(4096) not null default repeat('0', 4096)::bit varying(4096),
    primary key (tenant, device)
) with (fillfactor = 50);

-- One a device. It stays when it was redeemed, so that the same secret is not minted again.
create table readback.claims (
    tenant readback.tenant_name not null,
    device readback.principal_name not null,
    hash bytea not null unique check (octet_length(hash) = 32),
    expires_ms bigint not null,
    spent boolean not null default false,
    primary key (tenant, device)
);

-- A device has one family: all its rows. Those that were rotated stay until they would have expired.
create table readback.refresh_tokens (
    hash bytea primary key check (octet_length(hash) = 32),
    tenant readback.tenant_name not null,
    device readback.principal_name not null,
    key text collate "C" not null,
    until_ms bigint not null,
    rotated boolean not null default false
);
create index refresh_tokens_of_device on readback.refresh_tokens (tenant, device, until_ms);

do $$
declare
    name text;
begin
    foreach name in array array['revisions', 'revocations', 'service_clients', 'devices', 'claims', 'refresh_tokens'] loop
        execute format('alter table readback.%I owner to readback_owner', name);
        execute format('grant select, insert, update, delete on readback.%I to readback_log', name);
        execute format('alter table readback.%I enable row level security', name);
        execute format('alter table readback.%I force row level security', name);
        execute format('create policy log on readback.%I to readback_log using (true) with check (true)', name);
    end loop;
    foreach name in array array['revocations', 'service_clients', 'devices', 'claims', 'refresh_tokens'] loop
        execute format(
            'create policy tenant on readback.%I for select to readback_gateway '
            'using (tenant = (select current_setting(''readback.tenant'', true)))', name);
        execute format('grant select on readback.%I to readback_gateway', name);
    end loop;
end
$$;
revoke insert, delete on readback.revisions from readback_log;

-- The functions of 0002 and 0003 that must know of audit streams; all else in them is as it was. Of all kinds, audit sorts
-- first, so that a single comparison (domain names compare by bytes) tells its streams: this is the hot path.
create or replace function readback.append(
    tenants text[], sids bigint[], keys uuid[], types text[], bys text[], bodies text[],
    expects bigint[], refs bigint[], privileges boolean[],
    out outcomes smallint[], out partitions integer[], out poss bigint[], out seqs bigint[], out ats bigint[]
) language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    touched integer[];
    tips bigint[];
    last_times bigint[];
    batch_ms bigint;
begin
    -- A stream never changes its partition, so that finding those touched needs no lock; and FOR UPDATE answers a row as
    -- it is once the lock is ours, whatever it was when this began.
    select array_agg(l.partition), array_agg(l.pos), array_agg(l.at_ms) into touched, tips, last_times
    from (
        select p.partition, p.pos, p.at_ms from readback.partitions p
        where p.partition = any (array(select s.partition from readback.streams s where s.sid = any (sids)))
        order by p.partition
        for update
    ) l;
    batch_ms := readback.now_ms();

    -- Entries are numbers into the arrays, which plpgsql keeps unpacked: what is sorted below stays narrow, and the texts
    -- are looked at where they are stored.
    with entry as (
        select ord, s.sid, s.partition, s.head, array_position(touched, s.partition) as nth, k.seq as dup_seq,
            k.at_ms as dup_at_ms,
            case
                when s.sid is null then 3
                when not (privileges[ord]
                    or coalesce(m.role, case when s.open and s.stream <> bys[ord] then 'member' end, 'reader')
                        in ('owner', 'member')) then 2
                when s.stream < 'audit;' and not (privileges[ord] and bys[ord] = 'service:readback') then 2
                when k.seq is not null then 1
                -- What follows gives way to a written entry with the same key earlier in the batch: hence + 10.
                when expects[ord] <> s.head then 14
                when expects[ord] is not null and exists (
                    select from generate_series(1, ord - 1) b where sids[b] = s.sid and tenants[b] = tenants[ord]) then 14
                when refs[ord] is null then case when types[ord] in ('edit', 'delete') then 13 else 0 end
                when r.seq is null or r.seq < s.first then 13
                when types[ord] in ('edit', 'delete') and r.by <> bys[ord] and not (
                    types[ord] = 'delete' and (privileges[ord] or coalesce(m.role = 'owner', false))) then 12
                else 0
            end as outcome
        from generate_series(1, cardinality(sids)) ord
        left join readback.streams s on s.sid = sids[ord] and s.tenant = tenants[ord]
        left join readback.members m on m.sid = s.sid and m.principal = bys[ord]
        left join readback.events k on k.sid = s.sid and k.key = keys[ord]
        left join readback.events r on r.sid = s.sid and r.seq = refs[ord]
    ), repeated as (
        select *, min(ord) filter (where outcome = 0) over (partition by sid, keys[ord]) as winner from entry
    ), judged as (
        select *, case when outcome not in (1, 2, 3) and winner < ord then 1 else outcome % 10 end as verdict from repeated
    ), placed as materialized (
        select *,
            head + count(*) filter (where verdict = 0) over (partition by sid order by ord) as new_seq,
            tips[nth] + count(*) filter (where verdict = 0) over (partition by partition order by ord) as new_pos,
            greatest(last_times[nth], batch_ms) as at_ms
        from judged
    ), inserted as (
        insert into readback.events (partition, pos, sid, tenant, seq, key, type, by, at_ms, body)
        select partition, new_pos, sid, tenants[ord], new_seq, keys[ord], types[ord], bys[ord], at_ms, bodies[ord]
        from placed where verdict = 0
    ), stream_heads as (
        update readback.streams s set head = n.head
        from (select sid, max(new_seq) as head from placed where verdict = 0 group by sid) n
        where s.sid = n.sid
    ), chained as (
        update readback.partitions p set pos = n.last_pos, at_ms = n.at_ms, hash = sha256(p.hash || n.digests)
        from (
            select partition, max(new_pos) as last_pos, min(at_ms) as at_ms,
                string_agg(readback.event_digest(partition, new_pos, sid, new_seq, keys[ord], at_ms,
                    tenants[ord], types[ord], bys[ord], bodies[ord]), ''::bytea order by new_pos) as digests
            from placed where verdict = 0 group by partition
        ) n
        where p.partition = n.partition
        returning p.partition, p.pos, p.at_ms, p.hash, octet_length(n.digests) / 32 as events
    ), chain as (
        insert into readback.batches (partition, first_pos, last_pos, at_ms, hash)
        select partition, pos - events + 1, pos, at_ms, hash from chained
    )
    select array_agg(verdict::smallint), array_agg(coalesce(partition, 0)),
        array_agg(case verdict when 0 then new_pos else 0 end),
        array_agg(case
            when verdict = 0 then new_seq
            when verdict = 1 then coalesce(dup_seq, (select w.new_seq from placed w where w.ord = ordered.winner))
            when verdict = 4 then new_seq
            else 0 end),
        array_agg(case when verdict = 0 then at_ms when verdict = 1 then coalesce(dup_at_ms, at_ms) else 0 end)
    into outcomes, partitions, poss, seqs, ats
    from (select * from placed order by ord) ordered;
end
$$;

create or replace function readback.put_member(
    of_tenant text, of_stream text, of_principal text, of_role text, of_key uuid, of_by text, of_body text,
    out outcome text, out partition integer, out pos bigint, out sid bigint, out seq bigint, out type text, out at_ms bigint
) language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    found_sid bigint;
    before text;
    event readback.events;
begin
    found_sid := case when not starts_with(of_stream, 'audit:') then readback.lock_stream(of_tenant, of_stream) end;
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

create or replace function readback.remove_member(
    of_tenant text, of_stream text, of_principal text, of_key uuid, of_by text, of_body text,
    out outcome text, out partition integer, out pos bigint, out sid bigint, out seq bigint, out type text, out at_ms bigint
) language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    found_sid bigint;
    event readback.events;
begin
    found_sid := case when not starts_with(of_stream, 'audit:') then readback.lock_stream(of_tenant, of_stream) end;
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

-- One event in the tenant's audit stream, which is made when first needed: closed, and without members.
create function readback.write_audit(of_tenant text, of_type text, of_key uuid, of_by text, of_body text) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    found_sid bigint;
begin
    found_sid := readback.lock_stream(of_tenant, 'audit:log');
    if found_sid is null then
        insert into readback.streams (tenant, stream, partition, open)
        select of_tenant, 'audit:log', readback.partition_of(of_tenant, 'audit:log', partitions), false from readback.meta
        on conflict (tenant, stream) do nothing;
        found_sid := readback.lock_stream(of_tenant, 'audit:log');
    end if;
    perform readback.write_event(found_sid, of_key, of_type, of_by, of_body);
end
$$;

-- Revocations

-- With a new number; where it is in force already, with the later of both times.
create function readback.renew_revocation(
    of_tenant text, of_scope text, of_value text, of_at_ms bigint, of_until_ms bigint, of_reason text, of_by text
) returns readback.revocations language plpgsql set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    next bigint;
    made readback.revocations;
begin
    update readback.revisions set number = number + 1 returning number into next;
    insert into readback.revocations as r (tenant, scope, value, number, at_ms, until_ms, reason, by, lifted)
    values (of_tenant, of_scope, of_value, next, of_at_ms, of_until_ms, of_reason, of_by, false)
    on conflict (tenant, scope, value) do update set
        number = excluded.number,
        at_ms = case when r.lifted then excluded.at_ms else greatest(r.at_ms, excluded.at_ms) end,
        until_ms = case
            when r.lifted then excluded.until_ms
            when r.until_ms is not null and excluded.until_ms is not null then greatest(r.until_ms, excluded.until_ms)
        end,
        reason = excluded.reason, by = excluded.by, lifted = false
    returning * into made;
    return made;
end
$$;

create function readback.revoke_subject(
    of_tenant text, of_scope text, of_value text, of_at_ms bigint, of_until_ms bigint, of_reason text,
    of_key uuid, of_by text, of_body text
) returns setof readback.revocations
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    return next readback.renew_revocation(of_tenant, of_scope, of_value, of_at_ms, of_until_ms, of_reason, of_by);
    perform readback.write_audit(of_tenant, 'revoked', of_key, of_by, of_body);
end
$$;

-- No row where nothing of it is in force.
create function readback.lift_revocation(
    of_tenant text, of_scope text, of_value text, of_at_ms bigint, of_key uuid, of_by text, of_body text
) returns setof readback.revocations
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    made readback.revocations;
begin
    perform from readback.revisions for update;  -- before looking: nobody else changes any now
    update readback.revocations set at_ms = of_at_ms, by = of_by, lifted = true, number = 1 + (select number from readback.revisions)
    where tenant = of_tenant and scope = of_scope and value = of_value and not lifted
    returning * into made;
    if made.number is null then
        return;
    end if;
    update readback.revisions set number = made.number;
    perform readback.write_audit(of_tenant, 'revocation.lifted', of_key, of_by, of_body);
    return next made;
end
$$;

-- The nodes' own reading, across tenants.
create function readback.revocations_after(after bigint, at_most integer) returns setof readback.revocations
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select r.* from readback.revocations r where r.number > after order by r.number limit at_most
$$;

create function readback.revoked(of_tenant text, at_most integer) returns setof readback.revocations
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
    perform readback.for_tenant(of_tenant);
    return query
        select r.* from readback.revocations r where r.tenant = of_tenant and not r.lifted
        order by r.number desc limit at_most;
end
$$;

-- Some at a time. They are looked for without the counter's lock, and those that changed meanwhile have another number.
create function readback.forget_revocations(before bigint, at_most integer) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    over bigint[];
    gone integer;
begin
    over := array(
        select number from readback.revocations where until_ms < before or (lifted and at_ms < before) limit at_most);
    perform from readback.revisions for update;
    delete from readback.revocations where number = any (over);
    get diagnostics gone = row_count;
    return gone;
end
$$;

-- Service clients

create function readback.add_client(
    of_client_id text, of_tenant text, of_principal text, of_roles text[], of_secret_hash bytea, of_made_ms bigint,
    of_key uuid, of_by text, of_body text
) returns boolean language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
    insert into readback.service_clients (client_id, tenant, principal, roles, secret_hash, made_ms)
    values (of_client_id, of_tenant, of_principal, of_roles, of_secret_hash, of_made_ms) on conflict do nothing;
    if not found then
        return false;
    end if;
    perform readback.write_audit(of_tenant, 'client.added', of_key, of_by, of_body);
    return true;
end
$$;

create function readback.remove_client(
    of_tenant text, of_client_id text, of_at_ms bigint, of_key uuid, of_by text, of_body text
) returns setof readback.service_clients
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    gone readback.service_clients;
begin
    delete from readback.service_clients where client_id = of_client_id and tenant = of_tenant returning * into gone;
    if gone.client_id is null then
        return;
    end if;
    perform readback.renew_revocation(of_tenant, 'principal', gone.principal, of_at_ms, null, 'client removed', of_by);
    perform readback.write_audit(of_tenant, 'client.removed', of_key, of_by, of_body);
    return next gone;
end
$$;

-- By an id that is unique in the cell, before anybody knows the tenant.
create function readback.find_client(of_client_id text) returns setof readback.service_clients
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select c.* from readback.service_clients c where c.client_id = of_client_id
$$;

create function readback.clients(of_tenant text, at_most integer) returns setof readback.service_clients
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
    perform readback.for_tenant(of_tenant);
    return query
        select c.* from readback.service_clients c where c.tenant = of_tenant order by c.client_id limit at_most;
end
$$;

-- Devices

create function readback.device(of_tenant text, of_device text)
returns table (device text, key text, public_key bytea, enrolled_ms bigint, revoked boolean)
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
    perform readback.for_tenant(of_tenant);
    return query
        select d.device::text, d.key, d.public_key, d.enrolled_ms, d.revoked from readback.devices d
        where d.tenant = of_tenant and d.device = of_device;
end
$$;

create function readback.devices(of_tenant text, at_most integer)
returns table (device text, key text, public_key bytea, enrolled_ms bigint, revoked boolean)
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
    perform readback.for_tenant(of_tenant);
    return query
        select d.device::text, d.key, d.public_key, d.enrolled_ms, d.revoked from readback.devices d
        where d.tenant = of_tenant order by d.device limit at_most;
end
$$;

-- ok, unchanged, or conflict: the secret is another device's, or was redeemed.
create function readback.mint_claim(
    of_tenant text, of_device text, of_hash bytea, of_expires_ms bigint, of_key uuid, of_by text, of_body text
) returns text language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    claim readback.claims;
    is_new boolean;
begin
    insert into readback.devices (tenant, device) values (of_tenant, of_device) on conflict (tenant, device) do nothing;
    is_new := found;
    perform from readback.devices where tenant = of_tenant and device = of_device for update;
    select * into claim from readback.claims where hash = of_hash;
    if claim.tenant = of_tenant and claim.device = of_device and not claim.spent then
        if claim.expires_ms = of_expires_ms then
            return 'unchanged';
        end if;
    elsif claim.hash is not null then
        if is_new then
            delete from readback.devices where tenant = of_tenant and device = of_device;
        end if;
        return 'conflict';
    end if;
    insert into readback.claims (tenant, device, hash, expires_ms) values (of_tenant, of_device, of_hash, of_expires_ms)
    on conflict (tenant, device) do update set hash = excluded.hash, expires_ms = excluded.expires_ms, spent = false;
    perform readback.write_audit(of_tenant, 'device.claim', of_key, of_by, of_body);
    return 'ok';
end
$$;

-- The newest refresh token of a device: whoever names its hash made it, and repeats a call whose answer was lost.
create function readback.is_newest(of_tenant text, of_device text, of_hash bytea, of_key text) returns boolean
language sql stable set search_path = pg_catalog, pg_temp as $$
    select exists (
        select from readback.refresh_tokens t
        where t.hash = of_hash and t.tenant = of_tenant and t.device = of_device and t.key = of_key and not t.rotated)
$$;

-- ok, none or conflict.
create function readback.redeem_claim(
    of_hash bytea, of_device_key text, of_public_key bytea, of_refresh_hash bytea, of_at_ms bigint, of_until_ms bigint,
    of_key uuid, of_by text, of_body text, out outcome text, out of_tenant text, out of_device text
) language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    claim readback.claims;
begin
    outcome := 'none';
    select tenant, device into of_tenant, of_device from readback.claims where hash = of_hash;
    perform from readback.devices where tenant = of_tenant and device = of_device for update;
    select * into claim from readback.claims where hash = of_hash and tenant = of_tenant and device = of_device;
    if claim.hash is null then
        return;
    end if;
    if claim.spent then
        if readback.is_newest(of_tenant, of_device, of_refresh_hash, of_device_key) then
            outcome := 'ok';
        end if;
        return;
    end if;
    if of_at_ms >= claim.expires_ms then
        return;
    end if;
    if exists (select from readback.refresh_tokens where hash = of_refresh_hash) then
        outcome := 'conflict';
        return;
    end if;
    update readback.claims set spent = true where tenant = of_tenant and device = of_device;
    delete from readback.refresh_tokens where tenant = of_tenant and device = of_device;
    insert into readback.refresh_tokens (hash, tenant, device, key, until_ms)
    values (of_refresh_hash, of_tenant, of_device, of_device_key, of_until_ms);
    update readback.devices set key = of_device_key, public_key = of_public_key, enrolled_ms = of_at_ms, revoked = false,
        highest = default, taken = default
    where tenant = of_tenant and device = of_device;
    perform readback.write_audit(of_tenant, 'device.enrolled', of_key, of_by, of_body);
    outcome := 'ok';
end
$$;

-- ok, unknown, reused or conflict. The device's key stays where no other is given.
create function readback.rotate_token(
    of_hash bytea, of_next_hash bytea, of_device_key text, of_next_key text, of_public_key bytea, of_at_ms bigint,
    of_until_ms bigint, of_key uuid, of_by text, of_body text, out outcome text, out of_tenant text, out of_device text
) language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    token readback.refresh_tokens;
    following text := coalesce(of_next_key, of_device_key);
begin
    outcome := 'unknown';
    select tenant, device into of_tenant, of_device from readback.refresh_tokens where hash = of_hash;
    perform from readback.devices where tenant = of_tenant and device = of_device for update;
    select * into token from readback.refresh_tokens where hash = of_hash and key = of_device_key and until_ms > of_at_ms;
    if token.hash is null then
        return;
    end if;
    if token.rotated then
        if readback.is_newest(of_tenant, of_device, of_next_hash, following) then
            outcome := 'ok';
            return;
        end if;
        delete from readback.refresh_tokens where tenant = of_tenant and device = of_device;
        perform readback.renew_revocation(
            of_tenant, 'principal', of_device, of_at_ms, null, 'a refresh token was used twice', of_by);
        perform readback.write_audit(of_tenant, 'device.reused', of_key, of_by, of_body);
        outcome := 'reused';
        return;
    end if;
    if exists (select from readback.refresh_tokens where hash = of_next_hash) then
        outcome := 'conflict';
        return;
    end if;
    insert into readback.refresh_tokens (hash, tenant, device, key, until_ms)
    values (of_next_hash, of_tenant, of_device, following, of_until_ms);
    update readback.refresh_tokens set rotated = true where hash = of_hash;
    delete from readback.refresh_tokens
    where tenant = of_tenant and device = of_device and until_ms <= of_at_ms and rotated;
    if of_next_key is not null then
        update readback.devices set key = of_next_key, public_key = of_public_key
        where tenant = of_tenant and device = of_device;
    end if;
    perform readback.write_audit(of_tenant,
        case when of_next_key is null then 'device.refreshed' else 'device.rotated' end, of_key, of_by, of_body);
    outcome := 'ok';
end
$$;

create function readback.revoke_device(
    of_tenant text, of_device text, of_at_ms bigint, of_key uuid, of_by text, of_body text
) returns boolean language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
    update readback.devices set revoked = true where tenant = of_tenant and device = of_device;
    if not found then
        return false;
    end if;
    delete from readback.claims where tenant = of_tenant and device = of_device;
    delete from readback.refresh_tokens where tenant = of_tenant and device = of_device;
    perform readback.renew_revocation(of_tenant, 'principal', of_device, of_at_ms, null, 'device revoked', of_by);
    perform readback.write_audit(of_tenant, 'device.revoked', of_key, of_by, of_body);
    return true;
end
$$;

-- A verdict each: 0 accepted, 1 duplicate, 2 too old. Across tenants, because a node's batch is; each ping is its own
-- device's only. Devices are locked in one statement and one order; then one pass over the pings in that same order, so that
-- the next device, if it is known, is the next that was locked; then one update.
create function readback.take_pings(tenants text[], names text[], seqs bigint[]) returns smallint[]
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
    verdicts smallint[] := array_fill(2::smallint, array[cardinality(seqs)]);
    owners text[];
    devices text[];
    tips bigint[];
    windows bit varying[];
    changed boolean[];
    nth integer := 0;
    is_known boolean := false;
    tenant text;
    device text;
    tip bigint;
    taken bit varying;
    ahead bigint;
    ping record;
begin
    select array_agg(l.tenant), array_agg(l.device), array_agg(l.highest), array_agg(l.taken), array_agg(false)
    into owners, devices, tips, windows, changed
    from (
        select d.tenant::text, d.device::text, d.highest, d.taken
        from (select distinct a.tenant, a.device from unnest(tenants, names) a(tenant, device)) asked
        join readback.devices d on d.tenant = asked.tenant and d.device = asked.device
        where d.key <> '' and not d.revoked
        order by d.tenant, d.device
        for update of d
    ) l;
    for ping in
        select a.tenant, a.device, a.seq, a.ord
        from unnest(tenants, names, seqs) with ordinality a(tenant, device, seq, ord)
        order by a.tenant collate "C", a.device collate "C", a.ord
    loop
        if ping.device is distinct from device or ping.tenant is distinct from tenant then
            tenant := ping.tenant;
            device := ping.device;
            is_known := coalesce(owners[nth + 1] = tenant and devices[nth + 1] = device, false);
            if is_known then
                nth := nth + 1;
                tip := tips[nth];
                taken := windows[nth];
            end if;
        end if;
        continue when not is_known;
        ahead := ping.seq - tip;
        if ahead > 0 then
            -- What was highest becomes the bit that is ``ahead`` below.
            taken := case when ahead <= 4096 then set_bit(taken >> ahead::integer, ahead::integer - 1, 1)
                else repeat('0', 4096)::bit varying end;
            tip := ping.seq;
        elsif ahead < -4096 then
            continue;
        elsif ahead = 0 or get_bit(taken, (-ahead - 1)::integer) = 1 then
            verdicts[ping.ord] := 1;
            continue;
        else
            taken := set_bit(taken, (-ahead - 1)::integer, 1);
        end if;
        verdicts[ping.ord] := 0;
        tips[nth] := tip;
        windows[nth] := taken;
        changed[nth] := true;
    end loop;
    update readback.devices d set highest = n.tip, taken = n.taken
    from unnest(owners, devices, tips, windows, changed) n(tenant, device, tip, taken, is_changed)
    where n.is_changed and d.tenant = n.tenant and d.device = n.device;
    return verdicts;
end
$$;

do $$
declare
    f record;
begin
    for f in
        select p.oid::regprocedure as signature, p.proname as name from pg_catalog.pg_proc p
        where p.pronamespace = 'readback'::regnamespace and p.proname in (
            'write_audit', 'renew_revocation', 'is_newest', 'revoke_subject', 'lift_revocation', 'revocations_after',
            'revoked', 'forget_revocations', 'add_client', 'remove_client', 'find_client', 'clients', 'device', 'devices',
            'mint_claim', 'redeem_claim', 'rotate_token', 'revoke_device', 'take_pings')
    loop
        execute format('alter function %s owner to readback_log', f.signature);
        execute format('revoke all on function %s from public', f.signature);
        if f.name not in ('write_audit', 'renew_revocation', 'is_newest') then
            execute format('grant execute on function %s to readback_gateway', f.signature);
        end if;
    end loop;
end
$$;

revoke create on schema readback from readback_owner, readback_log;
