-- Commands: what becomes of each is kept under its key, be it events or a refusal (core.ports.Log.command).
--
-- ruled is the seq of a stream's last event that a command became: a decision holds while nothing was decided since, and chat
-- in between does not matter. Plain appends never touch it, nor any of this.

grant create on schema readback to readback_owner, readback_log;

alter table readback.streams add column ruled bigint not null default 0;

create table readback.commands (
    sid bigint not null,
    key uuid not null,
    tenant text collate "C" not null,
    seq bigint not null,  -- of its first event; 0: it was refused
    count integer not null,
    at_ms bigint not null,
    type text collate "C" not null,
    by text collate "C" not null,
    refusal text collate "C",
    primary key (sid, key)
);
create index commands_in_order on readback.commands (sid, seq) where seq > 0;

alter table readback.commands owner to readback_owner;
grant select, insert on readback.commands to readback_log;
alter table readback.commands enable row level security;
alter table readback.commands force row level security;
create policy log on readback.commands to readback_log using (true) with check (true);
create policy tenant on readback.commands for select to readback_gateway
    using (tenant = (select current_setting('readback.tenant', true)));
grant select on readback.commands to readback_gateway;

-- One row of arrays a command, and its facts from firsts on. Locks and writes as append does (0006); of a stream only the
-- first command in a batch is judged, so that none is decided on what another of the batch is about to change.
create function readback.command(
    tenants text[], sids bigint[], keys uuid[], types text[], bys text[], privileges boolean[], expects bigint[],
    states bigint[], refused text[], counts integer[], firsts integer[],
    fact_keys uuid[], fact_types text[], fact_bodies text[],
    out outcomes smallint[], out partitions integer[], out poss bigint[], out seqs bigint[], out written integer[],
    out ats bigint[], out refusals text[]
) language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    touched integer[];
    tips bigint[];
    last_times bigint[];
    batch_ms bigint;
begin
    select array_agg(l.partition), array_agg(l.pos), array_agg(l.at_ms) into touched, tips, last_times
    from (
        select p.partition, p.pos, p.at_ms from readback.partitions p
        where p.partition = any (array(select s.partition from readback.streams s where s.sid = any (sids)))
        order by p.partition
        for update
    ) l;
    batch_ms := readback.now_ms();

    -- Everything is judged as it was before the batch: of what an earlier command of the same stream is about to write, a
    -- later one knows only that it is not the first.
    with judged as materialized (
        select *, tips[nth] + sum(case verdict when 0 then counts[ord] else 0 end) over (
            partition by partition order by ord) - counts[ord] + 1 as first_pos
        from (
            select ord, s.sid, s.partition, s.head, s.ruled, array_position(touched, s.partition) as nth,
                c.sid as known, c.seq as was_seq, c.count as was_count, c.at_ms as was_at_ms, c.refusal as was_refusal,
                e.seq as sent_seq, e.at_ms as sent_at_ms,
                case
                    when s.sid is null then 3
                    when s.stream < 'audit;' then 2
                    when not (privileges[ord]
                        or coalesce(m.role, case when s.open and s.stream <> bys[ord] then 'member' end, 'reader')
                            in ('owner', 'member')) then 2
                    when c.sid is not null or e.seq is not null then 1
                    when expects[ord] <> s.head and (expects[ord] > s.head or exists (
                        select from readback.events x where x.sid = s.sid and x.seq > expects[ord]
                            and not (x.by = 'service:readback' and x.type like 'timer.%'))) then 4
                    when states[ord] <> s.ruled or ord > min(ord) over (partition by s.sid) then 5
                    when counts[ord] > 1 and (exists (
                        select from readback.events k where k.sid = s.sid
                            and k.key = any (fact_keys[firsts[ord] + 1 : firsts[ord] + counts[ord] - 1])
                    ) or exists (
                        select from readback.commands k where k.sid = s.sid
                            and k.key = any (fact_keys[firsts[ord] + 1 : firsts[ord] + counts[ord] - 1]))) then 2
                    else 0
                end as verdict
            from generate_series(1, cardinality(sids)) ord
            left join readback.streams s on s.sid = sids[ord] and s.tenant = tenants[ord]
            left join readback.members m on m.sid = s.sid and m.principal = bys[ord]
            left join readback.commands c on c.sid = s.sid and c.key = keys[ord]
            left join readback.events e on e.sid = s.sid and e.key = keys[ord]
        ) looked
    ), placed as materialized (
        select j.ord, j.sid, j.partition, firsts[j.ord] + f.n as fact, j.head + f.n + 1 as new_seq, j.first_pos + f.n as new_pos,
            greatest(last_times[j.nth], batch_ms) as at_ms
        from judged j cross join lateral generate_series(0, counts[j.ord] - 1) f(n)
        where j.verdict = 0
    ), inserted as (
        insert into readback.events (partition, pos, sid, tenant, seq, key, type, by, at_ms, body)
        select partition, new_pos, sid, tenants[ord], new_seq, fact_keys[fact], fact_types[fact], bys[ord], at_ms,
            fact_bodies[fact]
        from placed
    ), stream_heads as (
        update readback.streams s set head = j.head + counts[j.ord], ruled = j.head + counts[j.ord]
        from judged j where s.sid = j.sid and j.verdict = 0 and counts[j.ord] > 0
    ), chained as (
        update readback.partitions p set pos = n.last_pos, at_ms = n.at_ms, hash = sha256(p.hash || n.digests)
        from (
            select partition, max(new_pos) as last_pos, min(at_ms) as at_ms,
                string_agg(readback.event_digest(partition, new_pos, sid, new_seq, fact_keys[fact], at_ms,
                    tenants[ord], fact_types[fact], bys[ord], fact_bodies[fact]), ''::bytea order by new_pos) as digests
            from placed group by partition
        ) n
        where p.partition = n.partition
        returning p.partition, p.pos, p.at_ms, p.hash, octet_length(n.digests) / 32 as events
    ), chain as (
        insert into readback.batches (partition, first_pos, last_pos, at_ms, hash)
        select partition, pos - events + 1, pos, at_ms, hash from chained
    ), kept as (
        insert into readback.commands (sid, key, tenant, seq, count, at_ms, type, by, refusal)
        select sid, keys[ord], tenants[ord], case when counts[ord] > 0 then head + 1 else 0 end, counts[ord],
            greatest(last_times[nth], batch_ms), types[ord], bys[ord], refused[ord]
        from judged where verdict = 0
    )
    select array_agg(verdict::smallint order by ord), array_agg(coalesce(partition, 0) order by ord),
        array_agg(case when verdict = 0 and counts[ord] > 0 then first_pos else 0 end order by ord),
        array_agg(case
            when verdict = 0 and counts[ord] > 0 then head + 1
            when verdict = 1 then case when known is not null then was_seq else sent_seq end
            when verdict = 4 then head
            when verdict = 5 then ruled
            else 0 end order by ord),
        array_agg(case verdict
            when 0 then counts[ord]
            when 1 then case when known is not null then was_count else 1 end
            else 0 end order by ord),
        array_agg(case verdict
            when 0 then greatest(last_times[nth], batch_ms)
            when 1 then coalesce(was_at_ms, sent_at_ms)
            else 0 end order by ord),
        array_agg(case verdict when 0 then refused[ord] when 1 then was_refusal end order by ord)
    into outcomes, partitions, poss, seqs, written, ats, refusals
    from judged j;
end
$$;

-- 64: core.model.FACTS_MAX, the most events of one command.
create function readback.ruled(of_tenant text, of_sid bigint, after bigint, at_most integer)
returns table (partition integer, pos bigint, sid bigint, seq bigint, key text, type text, by text, at_ms bigint, body text)
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
    perform readback.for_tenant(of_tenant);
    return query
        select e.partition, e.pos, e.sid, e.seq, e.key::text, e.type, e.by, e.at_ms, e.body
        from readback.commands c
        join readback.events e on e.sid = c.sid and e.seq between c.seq and c.seq + c.count - 1
        where c.sid = of_sid and c.tenant = of_tenant and c.seq > greatest(after, 0) - 64 and c.seq > 0 and e.seq > after
        order by c.seq, e.seq limit at_most;
end
$$;

-- The workers' own reading, across tenants.
create function readback.names(of_sids bigint[]) returns table (sid bigint, tenant text, stream text)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select s.sid, s.tenant::text, s.stream::text from readback.streams s where s.sid = any (of_sids) order by s.sid
$$;

do $$
declare
    signature text;
begin
    for signature in
        select p.oid::regprocedure from pg_catalog.pg_proc p
        where p.pronamespace = 'readback'::regnamespace and p.proname in ('command', 'ruled', 'names')
    loop
        execute format('alter function %s owner to readback_log', signature);
        execute format('revoke all on function %s from public', signature);
        execute format('grant execute on function %s to readback_gateway', signature);
    end loop;
end
$$;

revoke create on schema readback from readback_owner, readback_log;
