-- What workers ask of the store (core/work.py): leased cursors, tasks, rows of read models, parked streams, firings.
--
-- Locks are taken in this order, by every function here:
--   1. the lock of consumers (7303), by who makes or deletes one's rows: begins a rebuild, swaps, forgets, beats the first time.
--      So of those that are locked in 2 none appears in between, which would be locked out of order;
--   2. rows of consumers, ascending by (consumer, partition). What is written under a lease is written under its row's lock,
--      and so are the rows of workers, memories and parked of that consumer;
--   3. rows of models, ascending by name, then rows of rows, ascending by (model, tenant, key): the callers sort them;
--   4. the locks of tasks' keys (7301), ascending, then those of lanes (7302), ascending, of which there are 64 each; then rows
--      of tasks, in any order.
-- Whoever waits for a row of tasks has the lock of its key or its lane, or holds nothing else; others skip what is locked, and
-- claims wait for nothing at all. So there is no circle. Nothing here locks a partition of the log, and no append touches
-- anything here.

grant create on schema readback to readback_owner, readback_log;

create sequence readback.fences;
create sequence readback.generation_numbers;
alter sequence readback.fences owner to readback_owner;
alter sequence readback.generation_numbers owner to readback_owner;
grant usage on sequence readback.fences, readback.generation_numbers to readback_log;

create table readback.consumers (
    consumer text collate "C" not null,
    partition integer not null,
    pos bigint not null default 0,
    holder text collate "C" not null default '',
    fence bigint not null default 0,
    until_ms bigint not null default 0,
    hold_until_ms bigint not null default 0,
    at_ms bigint not null,
    primary key (consumer, partition)
) with (fillfactor = 10);

create table readback.workers (
    consumer text collate "C" not null,
    holder text collate "C" not null,
    until_ms bigint not null,
    primary key (consumer, holder)
) with (fillfactor = 10);

-- shown is what readers compare, building 0 where nothing is built.
create table readback.models (
    model text collate "C" primary key,
    live bigint not null,
    shown bigint not null,
    building bigint not null default 0,
    builder text collate "C" not null default ''
);

-- A generation is of one model. doc is JSON as it was written: text, because nothing here looks into it; to insert 1,000 rows
-- took 8 ms so and 12 ms as jsonb. tenant is no domain, which would be 2 ms more: a commit looks at each tenant once.
create table readback.rows (
    generation bigint not null,
    pos bigint not null,
    seq bigint not null,
    at_ms bigint not null,
    partition integer not null,
    tenant text collate "C" not null,
    key text collate "C" not null,
    doc text collate "C",
    primary key (tenant, key, generation)
) with (fillfactor = 70);
create index rows_by_change on readback.rows (partition, generation, pos);
create index rows_gone on readback.rows (at_ms) where doc is null;

-- Generations that are no more, until their rows are cleaned away.
create table readback.outdated (
    generation bigint primary key,
    model text collate "C" not null
);

-- at_ms is when the task last changed its state. behind: another one of its lane is before it, which is not done or dropped; so
-- whoever claims never sees those that a lane holds back, be they a million. Whoever adds to a lane or ends a task of it has
-- the lane's lock, so that numbers in a lane rise in the order of commits, and none stays behind nothing.
--
-- A plan that was made while a table was nearly empty is used until its next ANALYZE, and there every index looks as good as
-- another. So each query on tasks and rows can use one index only, whatever there is in it: none but partial ones begin with
-- kind, those by kind and number are one a kind, and of rows none begins with generation.
create table readback.tasks (
    id bigint generated always as identity,
    due_ms bigint not null,
    fence bigint not null default 0,
    until_ms bigint not null default 0,
    made_ms bigint not null,
    at_ms bigint not null,
    attempts integer not null default 0,
    cancel boolean not null default false,
    behind boolean not null default false,
    kind text collate "C" not null,
    tenant readback.tenant_name not null,
    key text collate "C" not null,
    lane text collate "C" not null,
    state text collate "C" not null default 'waiting',
    holder text collate "C" not null default '',
    reason text collate "C" not null default '',
    body text collate "C" not null,
    progress text collate "C" not null default '{}',
    primary key (id),
    unique (key, tenant, kind)
) with (fillfactor = 70);
create index tasks_due on readback.tasks (kind, due_ms, id) where state = 'waiting' and not behind;
create index tasks_claimed on readback.tasks (kind, until_ms) where state = 'claimed';
create index tasks_parked on readback.tasks (kind, id) where state = 'parked';
create index tasks_over on readback.tasks (at_ms) where state in ('done', 'dropped');
create index tasks_timer on readback.tasks (id) where kind = 'timer';
create index tasks_job on readback.tasks (id) where kind = 'job';
create index tasks_saga on readback.tasks (id) where kind = 'saga';
create index tasks_long on readback.tasks (id) where kind = 'long';
create index tasks_of_lane on readback.tasks (lane, tenant, kind, id)
    where lane <> '' and state in ('waiting', 'claimed', 'parked');

create table readback.memories (
    consumer text collate "C" not null,
    sid bigint not null,
    tenant readback.tenant_name not null,
    doc text collate "C" not null,
    primary key (consumer, sid)
);

create table readback.parked (
    consumer text collate "C" not null,
    sid bigint not null,
    tenant readback.tenant_name not null,
    stream text collate "C" not null,
    partition integer not null,
    seq bigint not null,
    pos bigint not null,
    reason text collate "C" not null,
    attempts integer not null,
    since_ms bigint not null,
    retry boolean not null,
    primary key (consumer, sid)
);
create index parked_by_time on readback.parked (since_ms, consumer, sid);

create table readback.firings (
    id bigint generated always as identity,
    seq bigint not null,
    at_ms bigint not null,
    tenant readback.tenant_name not null,
    rule text collate "C" not null,
    version text collate "C" not null,
    stream text collate "C" not null,
    verdict text collate "C" not null,
    inputs text collate "C" not null,
    actions text collate "C" not null,
    primary key (tenant, id)
);
create index firings_of_rule on readback.firings (tenant, rule, id);
create index firings_of_stream on readback.firings (tenant, stream, id);

do $$
declare
    name text;
begin
    foreach name in array array['consumers', 'workers', 'models', 'outdated', 'rows', 'tasks', 'memories', 'parked', 'firings'] loop
        execute format('alter table readback.%I owner to readback_owner', name);
        execute format('grant select, insert, update, delete on readback.%I to readback_log', name);
        execute format('alter table readback.%I enable row level security', name);
        execute format('alter table readback.%I force row level security', name);
        execute format('create policy log on readback.%I to readback_log using (true) with check (true)', name);
    end loop;
    foreach name in array array['rows', 'tasks', 'memories', 'parked', 'firings'] loop
        execute format(
            'create policy tenant on readback.%I for select to readback_gateway '
            'using (tenant = (select current_setting(''readback.tenant'', true)))', name);
        execute format('grant select on readback.%I to readback_gateway', name);
    end loop;
end
$$;
revoke update, delete on readback.firings from readback_log;
revoke delete on readback.models from readback_log;
-- Which generation is live is no secret, and who asks for a tenant's rows must know it.
create policy node on readback.models for select to readback_gateway using (true);
grant select on readback.models to readback_gateway;

-- Autovacuum looks at the hot tables by their number of dead rows: a queue's index is slow while it is full of what was done.
alter table readback.consumers set (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);
alter table readback.workers set (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);
alter table readback.tasks set (autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_scale_factor = 0.01);

-- Sharing partitions

create function readback.beat(of_holder text, of_consumers text[], ttl_ms bigint)
returns table (consumer text, partition integer, fence bigint, pos bigint)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    mine text[];
    named text[];
    name text;
    now_ms bigint := readback.now_ms();
    share integer;
    excess integer;
begin
    if exists (
        select from unnest(of_consumers) c cross join readback.partitions p
        where not exists (select from readback.consumers k where k.consumer = c and k.partition = p.partition)
    ) then
        perform pg_advisory_xact_lock(7303, 0);
        insert into readback.consumers (consumer, partition, at_ms)
        select c, p.partition, now_ms from unnest(of_consumers) c cross join readback.partitions p
        on conflict do nothing;
    end if;
    select array_agg(distinct c.consumer) into mine from (
        select w.consumer from readback.workers w where w.holder = of_holder
        union all select c.consumer from readback.consumers c where c.holder = of_holder
        union all select unnest(of_consumers)
    ) c;
    -- Only what is locked here is touched below: one may be forgotten, and made again, while this waits.
    select array_agg(distinct l.consumer) into mine from (
        select c.consumer from readback.consumers c where c.consumer = any (mine) order by c.consumer, c.partition for update
    ) l;
    mine := coalesce(mine, '{}');
    named := array(select c from unnest(of_consumers) c where c = any (mine));
    now_ms := readback.now_ms();
    update readback.consumers c set holder = ''
    where c.consumer = any (mine) and c.holder = of_holder and c.consumer <> all (named);
    delete from readback.workers w
    where w.consumer = any (mine) and (w.until_ms <= now_ms or w.holder = of_holder and w.consumer <> all (named));
    insert into readback.workers (consumer, holder, until_ms)
    select c, of_holder, now_ms + ttl_ms from unnest(named) c
    on conflict (consumer, holder) do update set until_ms = excluded.until_ms;
    foreach name in array named loop
        select p.partitions / w.ready + (w.before < p.partitions % w.ready)::integer - h.held into share
        from (select count(*) as partitions from readback.consumers c where c.consumer = name) p,
            (select count(*) as ready, count(*) filter (where w.holder < of_holder) as before
             from readback.workers w where w.consumer = name) w,
            (select count(*) as held from readback.consumers c where c.consumer = name and c.holder = of_holder) h;
        excess := greatest(-share, 0);
        if excess > 0 then
            update readback.consumers c set holder = '' where c.consumer = name and c.partition in (
                select k.partition from readback.consumers k where k.consumer = name and k.holder = of_holder
                order by k.partition desc limit excess);
        elsif share > 0 then
            update readback.consumers c set holder = of_holder, fence = nextval('readback.fences')
            where c.consumer = name and c.partition in (
                select k.partition from readback.consumers k
                where k.consumer = name and (k.holder = '' or k.until_ms <= now_ms and k.holder <> of_holder)
                order by k.partition limit share);
        end if;
    end loop;
    return query
        update readback.consumers c set until_ms = now_ms + ttl_ms
        where c.consumer = any (named) and c.holder = of_holder
        returning c.consumer, c.partition, c.fence, c.pos;
end
$$;

create function readback.leave_work(of_holder text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    mine text[];
    ids bigint[];
    now_ms bigint := readback.now_ms();
begin
    select array_agg(distinct c.consumer) into mine from (
        select w.consumer from readback.workers w where w.holder = of_holder
        union all select c.consumer from readback.consumers c where c.holder = of_holder
    ) c;
    select array_agg(distinct l.consumer) into mine from (
        select c.consumer from readback.consumers c where c.consumer = any (mine) order by c.consumer, c.partition for update
    ) l;
    update readback.consumers c set holder = '' where c.consumer = any (mine) and c.holder = of_holder;
    delete from readback.workers w where w.consumer = any (mine) and w.holder = of_holder;
    -- One that is locked is being settled, or is somebody else's by now.
    select array_agg(l.id) into ids from (
        select k.id from readback.tasks k where k.state = 'claimed' and k.holder = of_holder for update skip locked
    ) l;
    update readback.tasks t set state = 'waiting', holder = '', until_ms = 0, at_ms = now_ms where t.id = any (ids);
end
$$;

create function readback.cursors(of_consumer text)
returns table (consumer text, partition integer, pos bigint, head bigint, holder text, fence bigint, at_ms bigint)
language sql volatile security definer set search_path = pg_catalog, pg_temp as $$
    select c.consumer, c.partition, c.pos, p.pos, case when c.until_ms > readback.now_ms() then c.holder else '' end,
        c.fence, c.at_ms
    from readback.consumers c join readback.partitions p on p.partition = c.partition
    where of_consumer is null or c.consumer = of_consumer
    order by c.consumer, c.partition
$$;

create function readback.hold_consumer(of_consumer text, for_ms bigint) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    locked integer[];
begin
    select array_agg(l.partition) into locked from (
        select c.partition from readback.consumers c where c.consumer = of_consumer order by c.partition for update
    ) l;
    update readback.consumers c set hold_until_ms = case when for_ms > 0 then readback.now_ms() + for_ms else 0 end
    where c.consumer = of_consumer and c.partition = any (locked);
end
$$;

-- Locked by the caller.
create function readback.restart_consumer(of_consumer text) returns void
language sql volatile security definer set search_path = pg_catalog, pg_temp as $$
    delete from readback.consumers c where c.consumer = of_consumer;
    delete from readback.workers w where w.consumer = of_consumer;
    delete from readback.memories m where m.consumer = of_consumer;
    delete from readback.parked p where p.consumer = of_consumer;
$$;

create function readback.forget_consumer(of_consumer text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform pg_advisory_xact_lock(7303, 0);
    perform from readback.consumers c where c.consumer = of_consumer order by c.partition for update;
    perform readback.restart_consumer(of_consumer);
    perform from readback.models m where m.builder = of_consumer order by m.model for update;
    insert into readback.outdated (generation, model)
    select m.building, m.model from readback.models m where m.builder = of_consumer;
    update readback.models m set building = 0, builder = '' where m.builder = of_consumer;
end
$$;

-- Committing

-- The locks of these keys, ascending, then of the lanes: those given, and those of tasks that are there under the keys. Answers
-- these lanes, for advance_lanes. Whoever is to write several tasks, or to end one of a lane, has them.
create function readback.lock_tasks(
    kinds text[], tenants text[], keys text[], lanes text[],
    out lane_kinds text[], out lane_tenants text[], out lane_names text[]
) language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform pg_advisory_xact_lock(7301, s.bucket) from (
        select distinct hashtext(k.kind || ' ' || k.tenant || ' ' || k.key) & 63 as bucket
        from unnest(kinds, tenants, keys) k(kind, tenant, key) order by 1
    ) s;
    select array_agg(l.kind), array_agg(l.tenant), array_agg(l.lane) into lane_kinds, lane_tenants, lane_names from (
        select k.kind, k.tenant, k.lane from unnest(kinds, tenants, lanes) k(kind, tenant, lane) where k.lane <> ''
        union
        select t.kind, t.tenant, t.lane from unnest(kinds, tenants, keys) k(kind, tenant, key)
        join readback.tasks t on t.kind = k.kind and t.tenant = k.tenant and t.key = k.key
        where t.lane <> ''
    ) l;
    if lane_names is not null then
        perform pg_advisory_xact_lock(7302, s.bucket) from (
            select distinct hashtext(l.kind || ' ' || l.tenant || ' ' || l.lane) & 63 as bucket
            from unnest(lane_kinds, lane_tenants, lane_names) l(kind, tenant, lane) order by 1
        ) s;
    end if;
end
$$;

-- Of each of these lanes, the first that is not done or dropped is behind nothing. Locked by the caller.
create function readback.advance_lanes(lane_kinds text[], lane_tenants text[], lane_names text[]) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    if lane_names is not null then
        update readback.tasks t set behind = false
        from unnest(lane_kinds, lane_tenants, lane_names) l(kind, tenant, lane)
        cross join lateral (
            select e.id from readback.tasks e
            where e.kind = l.kind and e.tenant = l.tenant and e.lane = l.lane and e.lane <> ''
                and e.state in ('waiting', 'claimed', 'parked')
            order by e.id limit 1
        ) h
        where t.id = h.id and t.behind;
    end if;
end
$$;

-- Locked by the caller, who advances the lanes afterwards; of one (kind, tenant, key) there is one.
create function readback.put_tasks(
    kinds text[], tenants text[], keys text[], dues bigint[], lanes text[], bodies text[], replaces boolean[]
) returns void language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    now_ms bigint := readback.now_ms();
    fences bigint[] := array_fill(0::bigint, array[cardinality(keys)]);
    gone record;
begin
    for gone in
        delete from readback.tasks t
        using unnest(kinds, tenants, keys, replaces) with ordinality n(kind, tenant, key, replace, ord)
        where n.replace and t.kind = n.kind and t.tenant = n.tenant and t.key = n.key
        returning n.ord, t.fence
    loop
        fences[gone.ord] := gone.fence + 1;
    end loop;
    insert into readback.tasks (kind, tenant, key, due_ms, lane, behind, body, fence, made_ms, at_ms)
    select n.kind, n.tenant, n.key, n.due_ms, n.lane, n.lane <> '', n.body, fences[n.ord], now_ms, now_ms
    from unnest(kinds, tenants, keys, dues, lanes, bodies) with ordinality
        n(kind, tenant, key, due_ms, lane, body, ord)
    order by n.ord
    on conflict (key, tenant, kind) do nothing;
end
$$;

-- rest is what most commits have none of: [untasks, memories, firings, parks, unparks], as store/postgres_work.py writes them.
-- first_poss is the lowest position of each model's rows.
create function readback.commit_work(
    of_consumer text, of_partition integer, of_fence bigint, from_pos bigint, to_pos bigint,
    models text[], first_poss bigint[], row_models integer[], row_tenants text[], row_keys text[], row_poss bigint[],
    row_seqs bigint[], row_ats bigint[], row_docs text[],
    kinds text[], tenants text[], keys text[], dues bigint[], lanes text[], bodies text[], replaces boolean[],
    rest jsonb
) returns text language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    cursor readback.consumers;
    known readback.models;
    locked record;
    generations bigint[] := array[]::bigint[];
    now_ms bigint;
begin
    select * into cursor from readback.consumers c
    where c.consumer = of_consumer and c.partition = of_partition for update;
    if cursor.consumer is null or cursor.fence <> of_fence or cursor.pos <> from_pos then
        return 'fenced';
    end if;
    now_ms := readback.now_ms();
    if cursor.hold_until_ms > now_ms then
        return 'held';
    end if;
    update readback.consumers c set pos = to_pos, at_ms = now_ms
    where c.consumer = of_consumer and c.partition = of_partition;

    for i in 1 .. cardinality(models) loop
        select * into known from readback.models m where m.model = models[i];
        if known.model is null then
            insert into readback.models (model, live, shown)
            select models[i], n, n from nextval('readback.generation_numbers') n
            on conflict do nothing;
            select * into known from readback.models m where m.model = models[i];
        end if;
        if known.building > 0 and known.builder = of_consumer then
            generations := generations || known.building;
        else
            generations := generations || known.live;
            if first_poss[i] <= from_pos then
                update readback.models m set shown = nextval('readback.generation_numbers') where m.model = models[i];
            end if;
        end if;
    end loop;
    if cardinality(models) > 0 then
        perform d.tenant::readback.tenant_name from (select distinct t as tenant from unnest(row_tenants) t) d;
        insert into readback.rows (generation, tenant, key, partition, pos, seq, at_ms, doc)
        select generations[r.model], r.tenant, r.key, of_partition, r.pos, r.seq, r.at_ms, r.doc
        from unnest(row_models, row_tenants, row_keys, row_poss, row_seqs, row_ats, row_docs)
            r(model, tenant, key, pos, seq, at_ms, doc)
        on conflict (tenant, key, generation) do update
        set partition = excluded.partition, pos = excluded.pos, seq = excluded.seq, at_ms = excluded.at_ms,
            doc = excluded.doc;
    end if;

    if rest is not null then
        insert into readback.memories (consumer, sid, tenant, doc)
        select of_consumer, (m ->> 1)::bigint, m ->> 0, m ->> 2 from jsonb_array_elements(rest -> 1) m where m ->> 2 is not null
        on conflict (consumer, sid) do update set tenant = excluded.tenant, doc = excluded.doc;
        delete from readback.memories k using jsonb_array_elements(rest -> 1) m
        where k.consumer = of_consumer and k.sid = (m ->> 1)::bigint and m ->> 2 is null;
        insert into readback.firings (tenant, rule, version, stream, seq, at_ms, verdict, inputs, actions)
        select f ->> 0, f ->> 1, f ->> 2, f ->> 3, (f ->> 4)::bigint, (f ->> 5)::bigint, f ->> 6, f ->> 7, f ->> 8
        from jsonb_array_elements(rest -> 2) with ordinality e(f, ord) order by ord;
        insert into readback.parked as k
            (consumer, tenant, sid, stream, partition, seq, pos, reason, attempts, since_ms, retry)
        select of_consumer, p ->> 0, (p ->> 1)::bigint, p ->> 2, of_partition, (p ->> 3)::bigint, (p ->> 4)::bigint, p ->> 5,
            (p ->> 6)::integer, now_ms, (p ->> 7)::boolean
        from jsonb_array_elements(rest -> 3) p
        on conflict (consumer, sid) do update
        set tenant = excluded.tenant, stream = excluded.stream, partition = excluded.partition, seq = excluded.seq,
            pos = excluded.pos, reason = excluded.reason, attempts = excluded.attempts, retry = excluded.retry;
        delete from readback.parked k using jsonb_array_elements_text(rest -> 4) u
        where k.consumer = of_consumer and k.sid = u::bigint;
    end if;

    if cardinality(kinds) > 0 or jsonb_array_length(rest -> 0) > 0 then
        select * into locked from readback.lock_tasks(
            kinds || array(select u ->> 0 from jsonb_array_elements(rest -> 0) u),
            tenants || array(select u ->> 1 from jsonb_array_elements(rest -> 0) u),
            keys || array(select u ->> 2 from jsonb_array_elements(rest -> 0) u), lanes);
        update readback.tasks t set state = 'dropped', at_ms = now_ms
        from jsonb_array_elements(rest -> 0) u
        where t.kind = u ->> 0 and t.tenant = u ->> 1 and t.key = u ->> 2 and t.state in ('waiting', 'parked');
        perform readback.put_tasks(kinds, tenants, keys, dues, lanes, bodies, replaces);
        perform readback.advance_lanes(locked.lane_kinds, locked.lane_tenants, locked.lane_names);
    end if;
    return 'ok';
end
$$;

create function readback.recall(of_consumer text, sids bigint[]) returns table (sid bigint, doc text)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select m.sid, m.doc from readback.memories m where m.consumer = of_consumer and m.sid = any (sids) order by m.sid
$$;

create function readback.parked_streams(of_consumer text, of_tenant text, at_most integer) returns setof readback.parked
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select p.* from readback.parked p
    where (of_consumer is null or p.consumer = of_consumer) and (of_tenant is null or p.tenant = of_tenant)
    order by p.since_ms, p.consumer, p.sid limit at_most
$$;

create function readback.retry_parked(of_consumer text, of_sid bigint, skip boolean) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    update readback.parked p set retry = true, attempts = 0, seq = p.seq + skip::integer
    where p.consumer = of_consumer and p.sid = of_sid;
    return found;
end
$$;

-- Tasks

create function readback.add_tasks(
    kinds text[], tenants text[], keys text[], dues bigint[], lanes text[], bodies text[], replaces boolean[]
) returns void language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    locked record;
begin
    select * into locked from readback.lock_tasks(kinds, tenants, keys, lanes);
    perform readback.put_tasks(kinds, tenants, keys, dues, lanes, bodies, replaces);
    perform readback.advance_lanes(locked.lane_kinds, locked.lane_tenants, locked.lane_names);
end
$$;

create function readback.claim_tasks(of_holder text, of_kind text, at_most integer, ttl_ms bigint, ran_out text)
returns setof readback.tasks language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    now_ms bigint := readback.now_ms();
    ids bigint[];
begin
    select array_agg(l.id) into ids from (
        select k.id from readback.tasks k where k.kind = of_kind and k.state = 'claimed' and k.until_ms <= now_ms
        for update skip locked
    ) l;
    if ids is not null then
        update readback.tasks t
        set state = 'waiting', holder = '', until_ms = 0, at_ms = now_ms, attempts = t.attempts + 1, reason = ran_out
        where t.id = any (ids);
    end if;

    select array_agg(l.id) into ids from (
        select t.id from readback.tasks t
        where t.kind = of_kind and t.state = 'waiting' and not t.behind and t.due_ms <= now_ms
        order by t.due_ms, t.id limit at_most
        for update skip locked
    ) l;
    if ids is not null then
        return query
            with claimed as (
                update readback.tasks t
                set state = 'claimed', holder = of_holder, fence = t.fence + 1, until_ms = now_ms + ttl_ms, at_ms = now_ms
                where t.id = any (ids)
                returning t.*
            )
            select c.* from claimed c order by c.due_ms, c.id;
    end if;
end
$$;

create function readback.settle_task(
    of_kind text, of_tenant text, of_key text, of_lane text, of_id bigint, of_fence bigint, to_state text, after_ms bigint, why text,
    new_body text, failed boolean,
    kinds text[], tenants text[], keys text[], dues bigint[], lanes text[], bodies text[], replaces boolean[]
) returns boolean language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    locked record;
    is_locked boolean := cardinality(kinds) > 0 or of_lane <> '' and to_state = 'done';
begin
    if is_locked then
        select * into locked
        from readback.lock_tasks(kinds || of_kind, tenants || of_tenant, keys || of_key, lanes || of_lane);
    end if;
    update readback.tasks t
    set state = to_state, holder = '', until_ms = 0, at_ms = readback.now_ms(), reason = why,
        due_ms = case when to_state = 'waiting' and after_ms > 0 then readback.now_ms() + after_ms else t.due_ms end,
        attempts = case when failed then t.attempts + 1 else 0 end, body = coalesce(new_body, t.body)
    where t.id = of_id and t.fence = of_fence and t.state = 'claimed';
    if not found then
        return false;
    end if;
    if is_locked then
        perform readback.put_tasks(kinds, tenants, keys, dues, lanes, bodies, replaces);
        perform readback.advance_lanes(locked.lane_kinds, locked.lane_tenants, locked.lane_names);
    end if;
    return true;
end
$$;

create function readback.pulse_task(of_id bigint, of_fence bigint, ttl_ms bigint, said text) returns boolean
language sql volatile security definer set search_path = pg_catalog, pg_temp as $$
    update readback.tasks t set until_ms = readback.now_ms() + ttl_ms, progress = coalesce(said, t.progress)
    where t.id = of_id and t.fence = of_fence and t.state = 'claimed'
    returning t.cancel
$$;

-- Planned at each call, for this kind and state: among a million that wait, those parked are found at once.
create function readback.find_tasks(of_kind text, of_tenant text, of_state text, after_id bigint, at_most integer)
returns setof readback.tasks language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    return query execute format(
        'select t.* from readback.tasks t where t.kind = %L and t.id > $1 and ($2 is null or t.tenant = $2) and %s '
        'order by t.id limit $3', of_kind, case when of_state is null then 'true' else format('t.state = %L', of_state) end)
        using after_id, of_tenant, at_most;
end
$$;

create function readback.find_task(of_kind text, of_tenant text, of_key text) returns setof readback.tasks
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select t.* from readback.tasks t where t.kind = of_kind and t.tenant = of_tenant and t.key = of_key
$$;

create function readback.next_due(of_kind text) returns bigint
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select least((
        select t.due_ms from readback.tasks t
        where t.kind = of_kind and t.state = 'waiting' and not t.behind
        order by t.due_ms, t.id limit 1
    ), (
        select t.until_ms from readback.tasks t where t.kind = of_kind and t.state = 'claimed' order by t.until_ms limit 1
    ))
$$;

create function readback.tell_task(of_id bigint, what text) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    told readback.tasks;
    locked record;
    now_ms bigint;
begin
    select * into told from readback.tasks t where t.id = of_id;
    if told.id is null then
        return false;
    end if;
    select * into locked
    from readback.lock_tasks(array[told.kind], array[told.tenant], array[told.key], array[told.lane]);
    now_ms := readback.now_ms();
    if what = 'retry' then
        update readback.tasks t set state = 'waiting', due_ms = now_ms, attempts = 0, at_ms = now_ms
        where t.id = of_id and t.state = 'parked';
        return found;
    end if;
    update readback.tasks t set state = 'dropped', at_ms = now_ms
    where t.id = of_id
        and (t.state = 'waiting' and what in ('drop', 'cancel') or t.state = 'parked' and what = 'drop');
    if found then
        perform readback.advance_lanes(locked.lane_kinds, locked.lane_tenants, locked.lane_names);
        return true;
    end if;
    update readback.tasks t set cancel = true
    where t.id = of_id and t.state = 'claimed' and what = 'cancel';
    return found;
end
$$;

create function readback.clean_work(before_ms bigint, at_most integer) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    ids bigint[];
    deleted integer;
    more integer;
    over bigint;
begin
    select array_agg(l.id) into ids from (
        select k.id from readback.tasks k where k.state in ('done', 'dropped') and k.at_ms < before_ms
        order by k.at_ms limit at_most for update skip locked
    ) l;
    delete from readback.tasks t where t.id = any (ids);
    get diagnostics deleted = row_count;
    delete from readback.rows r using (
        select k.generation, k.tenant, k.key from readback.rows k where k.doc is null and k.at_ms < before_ms
        order by k.at_ms limit at_most - deleted for update skip locked
    ) l where r.generation = l.generation and r.tenant = l.tenant and r.key = l.key;
    get diagnostics more = row_count;
    deleted := deleted + more;
    for over in select o.generation from readback.outdated o order by o.generation loop
        exit when deleted >= at_most;
        delete from readback.rows r using (
            select k.generation, k.tenant, k.key from readback.rows k
            where k.generation = over and k.partition in (select p.partition from readback.partitions p)
            limit at_most - deleted for update skip locked
        ) l where r.generation = l.generation and r.tenant = l.tenant and r.key = l.key;
        get diagnostics more = row_count;
        deleted := deleted + more;
        if more = 0 then
            delete from readback.outdated o where o.generation = over;
        end if;
    end loop;
    return deleted;
end
$$;

-- Read models

-- below: where the keys with the prefix end; null: nowhere.
create function readback.model_rows(of_model text, of_tenant text, from_key text, below text, after text, at_most integer)
returns table (key text, partition integer, pos bigint, seq bigint, at_ms bigint, doc text)
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    of_generation bigint;
begin
    perform readback.for_tenant(of_tenant);
    select m.live into of_generation from readback.models m where m.model = of_model;
    return query
        select r.key, r.partition, r.pos, r.seq, r.at_ms, r.doc from readback.rows r
        where r.generation = of_generation and r.tenant = of_tenant and r.key >= from_key and r.key > after
            and (below is null or r.key < below) and r.doc is not null
        order by r.key limit at_most;
end
$$;

create function readback.model_row(of_model text, of_tenant text, of_key text)
returns table (key text, partition integer, pos bigint, seq bigint, at_ms bigint, doc text)
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
    perform readback.for_tenant(of_tenant);
    return query
        select r.key, r.partition, r.pos, r.seq, r.at_ms, r.doc from readback.models m
        join readback.rows r on r.generation = m.live and r.tenant = of_tenant and r.key = of_key
        where m.model = of_model and r.doc is not null;
end
$$;

create function readback.rows_after(of_model text, of_partition integer, after_pos bigint, at_most integer)
returns table (tenant text, key text, partition integer, pos bigint, seq bigint, at_ms bigint, doc text)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select f.tenant, f.key, f.partition, f.pos, f.seq, f.at_ms, f.doc from (
        select r.* from readback.models m
        join readback.rows r on r.generation = m.live and r.partition = of_partition and r.pos > after_pos
        where m.model = of_model
        order by r.pos fetch first at_most rows with ties
    ) f
    order by f.pos, f.tenant, f.key
$$;

create function readback.generations() returns table (model text, shown bigint)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select m.model, m.shown from readback.models m order by m.model
$$;

create function readback.begin_rebuild(of_model text, of_consumer text) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    before text;
    generation bigint;
begin
    perform pg_advisory_xact_lock(7303, 0);
    select m.builder into before from readback.models m where m.model = of_model;
    perform from readback.consumers c where c.consumer in (of_consumer, before) and c.consumer <> ''
    order by c.consumer, c.partition for update;
    if before <> '' and before <> of_consumer then
        perform readback.forget_consumer(before);
    end if;
    perform readback.restart_consumer(of_consumer);
    insert into readback.outdated (generation, model)
    select m.building, m.model from readback.models m where m.model = of_model and m.building > 0;
    insert into readback.models as m (model, live, shown, building, builder)
    select of_model, n, n, nextval('readback.generation_numbers'), of_consumer
    from nextval('readback.generation_numbers') n
    on conflict (model) do update set building = excluded.building, builder = excluded.builder
    returning m.building into generation;
    return generation;
end
$$;

create function readback.swap_model(of_model text, of_generation bigint, of_consumer text, live_consumer text)
returns boolean language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    mine bigint[];
    live bigint[];
    outdated bigint;
begin
    perform pg_advisory_xact_lock(7303, 0);
    perform from readback.consumers c where c.consumer in (of_consumer, live_consumer)
    order by c.consumer, c.partition for update;
    select array_agg(c.pos order by c.partition) into mine from readback.consumers c where c.consumer = of_consumer;
    select array_agg(c.pos order by c.partition) into live from readback.consumers c where c.consumer = live_consumer;
    if mine is null or live is null or mine <> live then
        return false;
    end if;
    select m.live into outdated from readback.models m
    where m.model = of_model and m.building = of_generation and m.building > 0 and m.builder = of_consumer for update;
    if outdated is null then
        return false;
    end if;
    update readback.models m set live = of_generation, shown = of_generation, building = 0, builder = ''
    where m.model = of_model;
    insert into readback.outdated (generation, model) values (outdated, of_model);
    if not exists (select from readback.models m where m.builder = of_consumer) then
        perform readback.restart_consumer(of_consumer);
    end if;
    return true;
end
$$;

-- What rules did

create function readback.rule_firings(of_tenant text, of_rule text, of_stream text, at_most integer)
returns table (rule text, version text, stream text, seq bigint, at_ms bigint, verdict text, inputs text, actions text)
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
    perform readback.for_tenant(of_tenant);
    if of_rule is not null then
        return query
            select f.rule, f.version, f.stream, f.seq, f.at_ms, f.verdict, f.inputs, f.actions from readback.firings f
            where f.tenant = of_tenant and f.rule = of_rule and (of_stream is null or f.stream = of_stream)
            order by f.id desc limit at_most;
    elsif of_stream is not null then
        return query
            select f.rule, f.version, f.stream, f.seq, f.at_ms, f.verdict, f.inputs, f.actions from readback.firings f
            where f.tenant = of_tenant and f.stream = of_stream
            order by f.id desc limit at_most;
    else
        return query
            select f.rule, f.version, f.stream, f.seq, f.at_ms, f.verdict, f.inputs, f.actions from readback.firings f
            where f.tenant = of_tenant
            order by f.id desc limit at_most;
    end if;
end
$$;

do $$
declare
    f record;
begin
    for f in
        select p.oid::regprocedure as signature, p.proname as name from pg_catalog.pg_proc p
        where p.pronamespace = 'readback'::regnamespace and p.proname in (
            'beat', 'leave_work', 'cursors', 'hold_consumer', 'restart_consumer', 'forget_consumer', 'lock_tasks',
            'advance_lanes', 'put_tasks', 'commit_work', 'recall', 'parked_streams', 'retry_parked', 'add_tasks', 'claim_tasks', 'settle_task', 'pulse_task',
            'find_tasks', 'find_task', 'next_due', 'tell_task', 'clean_work', 'model_rows', 'model_row', 'rows_after', 'generations',
            'begin_rebuild', 'swap_model', 'rule_firings')
    loop
        execute format('alter function %s owner to readback_log', f.signature);
        execute format('revoke all on function %s from public', f.signature);
        if f.name not in ('restart_consumer', 'lock_tasks', 'advance_lanes', 'put_tasks') then
            execute format('grant execute on function %s to readback_gateway', f.signature);
        end if;
    end loop;
end
$$;

revoke create on schema readback from readback_owner, readback_log;
