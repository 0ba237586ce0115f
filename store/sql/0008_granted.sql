-- What ends a device's tokens ends every token that it was given before, whosever clock that was dated by. A token is dated
-- when its request comes in, and so is a revocation; which of the two is committed first is another matter, and a thief who
-- refreshes all the time would keep one token dated later than the revocation that followed it.

alter table readback.devices add column granted_ms bigint not null default 0;  -- of the latest token that it was given

grant create on schema readback to readback_owner, readback_log;

-- The functions of 0006 that give and end; all else in them is as it was.
create or replace function readback.redeem_claim(
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
            update readback.devices set granted_ms = greatest(granted_ms, of_at_ms)
            where tenant = of_tenant and device = of_device;
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
        granted_ms = greatest(granted_ms, of_at_ms), highest = default, taken = default
    where tenant = of_tenant and device = of_device;
    perform readback.write_audit(of_tenant, 'device.enrolled', of_key, of_by, of_body);
    outcome := 'ok';
end
$$;

create or replace function readback.rotate_token(
    of_hash bytea, of_next_hash bytea, of_device_key text, of_next_key text, of_public_key bytea, of_at_ms bigint,
    of_until_ms bigint, of_key uuid, of_by text, of_body text, out outcome text, out of_tenant text, out of_device text
) language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    token readback.refresh_tokens;
    following text := coalesce(of_next_key, of_device_key);
    granted bigint;
begin
    outcome := 'unknown';
    select tenant, device into of_tenant, of_device from readback.refresh_tokens where hash = of_hash;
    select granted_ms into granted from readback.devices where tenant = of_tenant and device = of_device for update;
    select * into token from readback.refresh_tokens where hash = of_hash and key = of_device_key and until_ms > of_at_ms;
    if token.hash is null then
        return;
    end if;
    if token.rotated then
        if readback.is_newest(of_tenant, of_device, of_next_hash, following) then
            update readback.devices set granted_ms = greatest(granted_ms, of_at_ms)
            where tenant = of_tenant and device = of_device;
            outcome := 'ok';
            return;
        end if;
        delete from readback.refresh_tokens where tenant = of_tenant and device = of_device;
        perform readback.renew_revocation(of_tenant, 'principal', of_device, greatest(of_at_ms, granted), null,
            'a refresh token was used twice', of_by);
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
    update readback.devices set granted_ms = greatest(granted_ms, of_at_ms), key = coalesce(of_next_key, key),
        public_key = case when of_next_key is null then public_key else of_public_key end
    where tenant = of_tenant and device = of_device;
    perform readback.write_audit(of_tenant,
        case when of_next_key is null then 'device.refreshed' else 'device.rotated' end, of_key, of_by, of_body);
    outcome := 'ok';
end
$$;

create or replace function readback.revoke_device(
    of_tenant text, of_device text, of_at_ms bigint, of_key uuid, of_by text, of_body text
) returns boolean language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    granted bigint;
begin
    update readback.devices set revoked = true where tenant = of_tenant and device = of_device returning granted_ms into granted;
    if not found then
        return false;
    end if;
    delete from readback.claims where tenant = of_tenant and device = of_device;
    delete from readback.refresh_tokens where tenant = of_tenant and device = of_device;
    perform readback.renew_revocation(of_tenant, 'principal', of_device, greatest(of_at_ms, granted), null, 'device revoked',
        of_by);
    perform readback.write_audit(of_tenant, 'device.revoked', of_key, of_by, of_body);
    return true;
end
$$;

revoke create on schema readback from readback_owner, readback_log;
