-- Who may do what. Three roles without a login, of which the services' users are members: a database that is reached
-- by a service can do what that service has to, and nothing else. Whoever runs the migrations owns everything.
--
--   headwater_projector      writes rows, checkpoints and the quarantine; tables and indexes only by the functions below
--   headwater_query_service  reads views and how far they are folded
--   headwater_replay         reads these, and what was held back or left out
--
-- Where the migrations' user may not create roles, someone who may does it, and calls grant_access() as the owner.

do $$
declare
    role text;
begin
    foreach role in array array['headwater_projector', 'headwater_query_service', 'headwater_replay'] loop
        if to_regrole(role) is null then
            execute format('create role %I nologin', role);
        end if;
    end loop;
exception
    -- Another database of this server is being migrated.
    when duplicate_object or unique_violation then null;
    when insufficient_privilege then
        raise notice 'the roles headwater_* were not created: % may not; create them and call grant_access()', current_user;
end $$;

-- Gives the roles that are there what they need on what is there. A migration that adds a table ends with it.
create function grant_access() returns void language plpgsql as $$
declare
    build record;
    reader text;
begin
    if to_regrole('headwater_projector') is not null then
        grant select on views, builds, checkpoints to headwater_projector;
        -- Not what a build's table is called, nor how its indexes are made: the functions below trust that.
        grant update (build, version, table_name, term) on views to headwater_projector;
        grant update (used_at) on builds to headwater_projector;
        grant update (position, frame_sequence, frame_id, updated_at, folded_by) on checkpoints to headwater_projector;
        grant select, insert, update, delete on quarantine, skipped_events to headwater_projector;
        if to_regclass('_sqlx_migrations') is not null then
            grant select on _sqlx_migrations to headwater_projector;
        end if;
        for build in select table_name from builds loop
            -- To maintain is to analyze.
            execute format('grant select, insert, update, delete, maintain on %I to headwater_projector', build.table_name);
        end loop;
        -- A row is tried in a temporary table before it is released from quarantine.
        execute format('grant temporary on database %I to headwater_projector', current_database());
        grant execute on function create_build, empty_build, leave_out_indexes, make_index, drop_build
            to headwater_projector;
    end if;
    foreach reader in array array['headwater_query_service', 'headwater_replay'] loop
        if to_regrole(reader) is not null then
            execute format('grant select on views, builds, checkpoints to %I', reader);
            for build in select table_name from builds loop
                execute format('grant select on %I to %I', build.table_name, reader);
            end loop;
        end if;
    end loop;
    if to_regrole('headwater_replay') is not null then
        grant select on quarantine, skipped_events to headwater_replay;
    end if;
end $$;

-- What a projector does with tables while it folds a view anew. These run as their owner, and take names from the
-- registry alone.

-- Makes a build with an empty table like that of the build in use, and gives its number.
create function create_build(of_view text, of_version integer) returns integer
language plpgsql security definer as $$
declare
    model text;
    number integer;
begin
    -- Locks the view's row, so that two who do this at once get two numbers.
    select b.table_name into strict model
        from views v join builds b on b.view = v.name and b.build = v.build where v.name = of_view for update of v;
    select max(build) + 1 into number from builds where view = of_view;
    execute format('create table %I (like %I including all)', of_view || '_' || number, model);
    perform register_build(of_view, of_version, of_view || '_' || number);
    return number;
end $$;

-- Empties a build that was never read, so that it is folded from the start of the log again. False if there is none.
create function empty_build(of_view text, of_build integer) returns boolean
language plpgsql security definer as $$
declare
    emptied text;
begin
    update checkpoints c set position = 0, frame_sequence = 0, frame_id = null
        from builds b
        where c.view = of_view and c.build = of_build and b.view = c.view and b.build = c.build and b.used_at is null
        returning b.table_name into emptied;
    if emptied is null then
        return false;
    end if;
    delete from quarantine where view = of_view and build = of_build;
    execute format('truncate %I', emptied);
    return true;
end $$;

-- Drops the indexes of a build that was never read, but for those that keep a constraint or begin with a column by
-- which rows are found while folding, and notes how to make them again.
create function leave_out_indexes(of_view text, of_build integer, found_by text[]) returns void
language plpgsql security definer as $$
declare
    index record;
begin
    for index in
        select i.indexrelid::regclass as name, pg_get_indexdef(i.indexrelid) as statement
        from builds b
        join pg_index i on i.indrelid = to_regclass(quote_ident(b.table_name))
        left join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
        where b.view = of_view and b.build = of_build and b.used_at is null and (a.attname = any(found_by)) is not true
          and not exists (select from pg_constraint c where c.conindid = i.indexrelid)
    loop
        execute format('drop index %s', index.name);
        update builds set indexes_to_make = indexes_to_make || index.statement
            where view = of_view and build = of_build;
    end loop;
end $$;

-- Makes one of the indexes that were left out.
create function make_index(of_view text, of_build integer, statement text) returns void
language plpgsql security definer as $$
begin
    update builds set indexes_to_make = array_remove(indexes_to_make, statement)
        where view = of_view and build = of_build and statement = any(indexes_to_make);
    if not found then
        raise exception 'build % of % has no such index to make', of_build, of_view;
    end if;
    execute statement;
end $$;

-- Drops a build that is not in use, with its table. False if there is none.
create function drop_build(of_view text, of_build integer) returns boolean
language plpgsql security definer as $$
declare
    dropped text;
begin
    delete from builds b using views v
        where b.view = of_view and b.build = of_build and v.name = b.view and v.build <> b.build
        returning b.table_name into dropped;
    if dropped is null then
        return false;
    end if;
    execute format('drop table %I', dropped);
    return true;
end $$;

do $$
declare
    function text;
begin
    foreach function in array array['create_build', 'empty_build', 'leave_out_indexes', 'make_index', 'drop_build'] loop
        -- Nobody puts a temporary table of their own in the place of one of ours.
        execute format('alter function %I set search_path = %I, pg_temp', function, current_schema());
        execute format('revoke execute on function %I from public', function);
    end loop;
    execute format('revoke temporary on database %I from public', current_database());
end $$;

-- A view of a later migration is known to the roles, too.
create or replace function register_view(view text, key_column text, version integer, table_name text default null)
returns void language sql as $$
    insert into builds (view, build, version, table_name, used_at)
    values ($1, 1, $3, coalesce($4, $1), now());
    insert into views (name, table_name, key_column, version, build) values ($1, coalesce($4, $1), $2, $3, 1);
    insert into checkpoints (view, build) values ($1, 1);
    select grant_access();
$$;

-- And so is a table that the next version of a view is folded into.
create or replace function register_build(view text, version integer, table_name text)
returns void language sql as $$
    with made as (
        insert into builds (view, build, version, table_name)
        select $1, coalesce(max(b.build), 0) + 1, $2, $3 from builds b where b.view = $1
        returning builds.view, builds.build
    )
    insert into checkpoints (view, build) select made.view, made.build from made;
    select grant_access();
$$;

select grant_access();
