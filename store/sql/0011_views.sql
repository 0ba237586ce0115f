-- The read models (core/flight/views.py) as typed views, for reports and people with psql. They show the live generation of
-- each, and of it what the caller may see: the row-level security of readback.rows is the caller's own (security_invoker), so
-- that the gateway's login sees a tenant's rows and only with readback.tenant set, and a reporting role what it is granted.
-- Nothing of the gateway reads them. Postgres 14 has no such views: there they show no rows to anybody.

grant create on schema readback to readback_owner;

create view readback.live_rows as
    select m.model, r.tenant, r.key, r.partition, r.pos, r.seq, to_timestamp(r.at_ms / 1000.0) as at, r.doc::jsonb as doc
    from readback.models m
    join readback.rows r on r.generation = m.live
    where r.doc is not null;

create view readback.flight_board as
    select
        tenant,
        key as flight,
        doc ->> 'flight' as designator,
        doc ->> 'operator' as operator,
        doc ->> 'registration' as registration,
        doc ->> 'type' as type,
        doc ->> 'from' as departs_from,
        doc ->> 'to' as arrives_at,
        doc ->> 'status' as status,
        (doc ->> 'attempt')::integer as attempt,
        (doc #>> '{times,OUT,scheduled}')::timestamptz as std,
        (doc #>> '{times,IN,scheduled}')::timestamptz as sta,
        (doc ->> 'etd')::timestamptz as etd,
        (doc ->> 'eta')::timestamptz as eta,
        (doc #>> '{times,OUT,actual}')::timestamptz as out_at,
        (doc #>> '{times,OFF,actual}')::timestamptz as off_at,
        (doc #>> '{times,ON,actual}')::timestamptz as on_at,
        (doc #>> '{times,IN,actual}')::timestamptz as in_at,
        (doc #>> '{delayed,minutes}')::integer as delay_minutes,
        doc #>> '{gates,departure,gate}' as departure_gate,
        doc #>> '{gates,arrival,gate}' as arrival_gate,
        doc #>> '{diverted,to}' as diverted_to,
        doc #>> '{cancelled,reason}' as cancelled_for,
        seq,
        at
    from readback.live_rows
    where model = 'flight_board';

create view readback.aircraft_line as
    select
        tenant,
        doc ->> 'registration' as registration,
        (doc ->> 'std')::timestamptz as std,
        (doc ->> 'sta')::timestamptz as sta,
        (doc ->> 'etd')::timestamptz as etd,
        (doc ->> 'eta')::timestamptz as eta,
        doc ->> 'flight' as designator,
        doc ->> 'type' as type,
        doc ->> 'from' as departs_from,
        doc ->> 'to' as arrives_at,
        doc ->> 'status' as status,
        seq,
        at
    from readback.live_rows
    where model = 'aircraft_line';

create view readback.manifest as
    select
        tenant,
        split_part(key, '/', 1) as flight,
        doc ->> 'passenger' as passenger,
        doc ->> 'name' as name,
        doc ->> 'status' as status,
        doc ->> 'seat' as seat,
        seq,
        at
    from readback.live_rows
    where model = 'manifest';

create view readback.seat_map as
    select
        tenant,
        split_part(key, '/', 1) as flight,
        doc ->> 'seat' as seat,
        doc ->> 'class' as class,
        doc ->> 'status' as status,
        doc ->> 'passenger' as passenger,
        (doc ->> 'until')::timestamptz as held_until,
        doc ->> 'why' as blocked_for,
        seq,
        at
    from readback.live_rows
    where model = 'seat_map';

create view readback.crew_roster as
    select
        tenant,
        doc ->> 'flight' as flight,
        doc ->> 'crew' as crew,
        doc ->> 'name' as name,
        doc ->> 'role' as role,
        doc ->> 'status' as status,
        (doc ->> 'acknowledged')::boolean as acknowledged,
        (doc ->> 'report_at')::timestamptz as report_at,
        (doc ->> 'release_at')::timestamptz as release_at,
        doc ->> 'from' as departs_from,
        doc ->> 'to' as arrives_at,
        seq,
        at
    from readback.live_rows
    where model = 'crew_roster';

do $$
declare
    name text;
begin
    foreach name in array array['live_rows', 'flight_board', 'aircraft_line', 'manifest', 'seat_map', 'crew_roster'] loop
        execute format('alter view readback.%I owner to readback_owner', name);
        execute format('grant select on readback.%I to readback_gateway', name);
        if current_setting('server_version_num')::integer >= 150000 then
            execute format('alter view readback.%I set (security_invoker = true)', name);
        end if;
    end loop;
end
$$;

revoke create on schema readback from readback_owner;
