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
    batch_ms bigint;
begin
    perform from readback.partitions p
    where p.partition = any (array(select s.partition from readback.streams s where s.sid = any (sids)))
    order by p.partition
    for update;
    batch_ms := readback.now_ms();

    with entry as (
        select i.ord, i.tenant, i.sid, i.key, i.type, i.by, i.body, s.partition, s.head,
            greatest(p.at_ms, batch_ms) as at_ms, p.pos as tip, k.seq as dup_seq, k.at_ms as dup_at_ms,
            case
                when s.sid is null then 3
                when not (i.privileged or coalesce(m.role, case when s.open and s.stream <> i.by then 'member' end, 'reader')
                    in ('owner', 'member')) then 2
                when k.seq is not null then 1
                -- What follows gives way to a written entry with the same key earlier in the batch: hence + 10.
                when i.expect <> s.head or (i.expect is not null
                    and row_number() over (partition by s.sid order by i.ord) <> 1) then 14
                when i.ref is null then case when i.type in ('edit', 'delete') then 13 else 0 end
                when r.seq is null or r.seq < s.first then 13
                when i.type in ('edit', 'delete') and r.by <> i.by
                    and not (i.type = 'delete' and (i.privileged or coalesce(m.role = 'owner', false))) then 12
                else 0
            end as outcome
        from unnest(tenants, sids, keys, types, bys, bodies, expects, refs, privileges) with ordinality
            as i(tenant, sid, key, type, by, body, expect, ref, privileged, ord)
        left join readback.streams s on s.sid = i.sid and s.tenant = i.tenant
        left join readback.partitions p on p.partition = s.partition
        left join readback.members m on m.sid = s.sid and m.principal = i.by
        left join readback.events k on k.sid = s.sid and k.key = i.key
        left join readback.events r on r.sid = s.sid and r.seq = i.ref
    ), repeated as (
        select *, min(ord) filter (where outcome = 0) over (partition by sid, key) as winner from entry
    ), judged as (
        select *, case when outcome not in (1, 2, 3) and winner < ord then 1 else outcome % 10 end as verdict from repeated
    ), placed as materialized (
        select *,
            head + count(*) filter (where verdict = 0) over (partition by sid order by ord) as new_seq,
            tip + count(*) filter (where verdict = 0) over (partition by partition order by ord) as new_pos
        from judged
    ), inserted as (
        insert into readback.events (partition, pos, sid, tenant, seq, key, type, by, at_ms, body)
        select partition, new_pos, sid, tenant, new_seq, key, type, by, at_ms, body from placed where verdict = 0
        order by ord
    ), stream_heads as (
        update readback.streams s set head = n.head
        from (select sid, max(new_seq) as head from placed where verdict = 0 group by sid) n
        where s.sid = n.sid
    ), chained as (
        update readback.partitions p set pos = n.last_pos, at_ms = n.at_ms, hash = sha256(p.hash || n.digests)
        from (
            select partition, max(new_pos) as last_pos, min(at_ms) as at_ms,
                string_agg(readback.event_digest(partition, new_pos, sid, new_seq, key, at_ms, tenant, type, by, body),
                    ''::bytea order by new_pos) as digests
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
            when verdict = 1 then coalesce(dup_seq, first_seq)
            when verdict = 4 then new_seq
            else 0 end),
        array_agg(case when verdict = 0 then at_ms when verdict = 1 then coalesce(dup_at_ms, at_ms) else 0 end)
    into outcomes, partitions, poss, seqs, ats
    from (
        select *, max(new_seq) filter (where ord = winner) over (partition by sid, key) as first_seq
        from placed order by ord
    ) ordered;
end
$$;
