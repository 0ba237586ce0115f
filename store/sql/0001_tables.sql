-- The log's tables, its three roles and their row-level security.
--
-- readback_owner    owns the tables and cannot log in. Forced row-level security without a policy: it sees no row.
-- readback_log      owns the functions and cannot log in. The only writer, by explicit policies; no superuser, no BYPASSRLS.
-- readback_gateway  logs in for a node. Calls functions, and reads rows of the tenant named in readback.tenant, if any.
--
-- There are no foreign keys: readback_log's functions are the only writers and look at the parent row anyway, whereas a
-- foreign key would look it up once more for every event.

do $$
declare
    wanted text;
begin
    foreach wanted in array array['readback_owner', 'readback_log', 'readback_gateway'] loop
        if not exists (select from pg_catalog.pg_roles where rolname = wanted) then
            begin
                execute format('create role %I nologin', wanted);
            exception when duplicate_object or unique_violation then
                null;  -- roles belong to the whole server: another database's migration was faster
            end;
        end if;
        -- A migrating user that is no superuser must be a full member to give things to these roles. Having made them
        -- does not make it one (before Postgres 16 not at all, since then without the right to act as them).
        if not (select rolsuper from pg_catalog.pg_roles where rolname = current_user) then
            execute format('grant %I to current_user', wanted);
        end if;
    end loop;
    if not (select rolcanlogin from pg_catalog.pg_roles where rolname = 'readback_gateway') then
        alter role readback_gateway login;
    end if;
end
$$;

grant usage on schema readback to readback_owner, readback_log, readback_gateway;
grant create on schema readback to readback_owner, readback_log;

-- The tables that every batch writes have no check constraints: Postgres parses each constraint's stored form anew for
-- every statement, which cost a lone send 450 us instead of 361. `readback check` verifies what they would say. Names are domains, whose
-- checks run only where a value is made.
create domain readback.tenant_name as text collate "C" check (value ~ '^[a-z0-9][a-z0-9._-]{0,62}$');
create domain readback.stream_name as text collate "C"
    check (value ~ '^(chat|flight|trip|user):[A-Za-z0-9._~-]{1,128}$');
create domain readback.principal_name as text collate "C"
    check (value ~ '^(user|device|service):[A-Za-z0-9._~@+-]{1,128}$');

create table readback.meta (
    one boolean primary key default true check (one),
    epoch uuid not null default gen_random_uuid(),
    partitions integer not null check (partitions between 1 and 1024)
);

-- One row a partition: the lock that orders its commits. Every batch updates its row in place (a HOT update), for which
-- the pages are left nearly empty.
create table readback.partitions (
    partition integer primary key,
    pos bigint not null default 0,
    at_ms bigint not null default 0,
    hash bytea not null
) with (fillfactor = 10);

create table readback.streams (
    sid bigint generated always as identity primary key,
    tenant readback.tenant_name not null,
    stream readback.stream_name not null,
    partition integer not null,
    head bigint not null default 0,
    first bigint not null default 1,
    trimmed bigint not null default 1,  -- bodies below this seq are gone; behind first only while a trim is under way
    open boolean not null,
    unique (tenant, stream)
) with (fillfactor = 50);

-- key makes a send idempotent for good: trimming nulls body and keeps digest, so that neither the key nor the hash chain
-- breaks. Times are Unix milliseconds: exact, and a third of a timestamp's cost to read.
create table readback.events (
    pos bigint not null,
    sid bigint not null,
    seq bigint not null,
    at_ms bigint not null,
    key uuid not null,
    partition integer not null,
    tenant text collate "C" not null,
    type text collate "C" not null,
    by text collate "C" not null,
    body text collate "C",
    digest bytea,
    primary key (partition, pos),
    unique (sid, seq),
    unique (sid, key)
);

create table readback.batches (
    partition integer not null,
    first_pos bigint not null,
    last_pos bigint not null,
    at_ms bigint not null,
    hash bytea not null,
    primary key (partition, first_pos)
);

create table readback.members (
    sid bigint not null,
    tenant text collate "C" not null,
    principal readback.principal_name not null,
    role text collate "C" not null check (role in ('owner', 'member', 'reader')),
    primary key (sid, principal)
);
create index members_of_principal on readback.members (tenant, principal);

create table readback.markers (
    sid bigint not null,
    tenant text collate "C" not null,
    principal text collate "C" not null,
    delivered bigint not null check (delivered >= 0),
    read bigint not null check (read >= 0),
    primary key (sid, principal)
) with (fillfactor = 50);
create index markers_of_principal on readback.markers (tenant, principal);

do $$
declare
    name text;
begin
    foreach name in array array['meta', 'partitions', 'streams', 'events', 'batches', 'members', 'markers'] loop
        execute format('alter table readback.%I owner to readback_owner', name);
        execute format('grant select, insert, update on readback.%I to readback_log', name);
        execute format('alter table readback.%I enable row level security', name);
        execute format('alter table readback.%I force row level security', name);
        execute format('create policy log on readback.%I to readback_log using (true) with check (true)', name);
    end loop;
    -- Fails closed: without the setting the comparison is with null or '', which is no tenant's name.
    foreach name in array array['streams', 'events', 'members', 'markers'] loop
        execute format(
            'create policy tenant on readback.%I for select to readback_gateway '
            'using (tenant = (select current_setting(''readback.tenant'', true)))', name);
        execute format('grant select on readback.%I to readback_gateway', name);
    end loop;
end
$$;
grant delete on readback.members to readback_log;

-- What a node may know beside its tenants' rows: facts of the log itself.
create policy node on readback.meta for select to readback_gateway using (true);
create policy node on readback.partitions for select to readback_gateway using (true);
grant select on readback.meta, readback.partitions, readback.migrations to readback_gateway, readback_log;

-- Autovacuum looks at the hot little tables by their number of dead rows, not by a share of their size.
alter table readback.partitions set (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);
