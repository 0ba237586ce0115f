-- The log's functions. Those that write, and those a node uses across tenants, are SECURITY DEFINER functions of
-- readback_log; those that read for one tenant are SECURITY INVOKER and see that tenant's rows only, by the policies.
--
-- Every writer of events locks its partition's row first (several: in ascending order). READ COMMITTED gives each later
-- statement a snapshot taken after that, so that it sees what the previous holder committed: pos is dense and in commit
-- order, seq has no gaps, and a key is looked up against everything before it.

-- An event as the hash chain sees it: a line of numbers, among them the lengths in bytes of the four texts, then the texts.
-- Unambiguous whatever the texts hold. store/chain.py repeats it; neither may change.
create function readback.event_digest(
    partition integer, pos bigint, sid bigint, seq bigint, key uuid, at_ms bigint,
    tenant text, type text, by text, body text
) returns bytea language sql stable as $$
    select sha256(convert_to(
        concat_ws(' ', partition, pos, sid, seq, key, at_ms,
            octet_length(tenant), octet_length(type), octet_length(by), octet_length(body))
        || e'\n' || tenant || type || by || body, 'UTF8'))
$$;

create function readback.partition_of(tenant text, stream text, partitions integer) returns integer
language sql immutable as $$
    select (('x' || encode(substring(sha256(convert_to(tenant || '/' || stream, 'UTF8')) from 1 for 4), 'hex'))::bit(32)::bigint
        % partitions)::integer
$$;

create function readback.now_ms() returns bigint language sql volatile as $$
    select floor(extract(epoch from clock_timestamp()) * 1000)::bigint
$$;

-- Appends a batch; one verdict an entry, in parallel arrays. outcome is core.model.Outcome's number.
--
-- An entry is judged in this order: its stream, membership, its key (used before, or by an entry of this batch that was
-- written), expect, ref. Expect holds for a stream's first entry in the batch only. A ref names an event committed before.
create function readback.append(
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
