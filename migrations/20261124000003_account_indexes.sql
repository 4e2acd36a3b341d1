-- Two indexes of accounts take the place of those that did less. Each is made for every build of the view: the
-- one that is read, those before it, and those that are being folded.

do $$
declare
    build record;
    old record;
    -- What they replace, in every build: the ends of their definitions.
    replaced constant text := '\((status, created_at, id|username, id)\)$';
begin
    for build in select table_name from builds where view = 'accounts' loop
        for old in
            select indexrelid::regclass as index from pg_index
            where indrelid = to_regclass(quote_ident(build.table_name)) and pg_get_indexdef(indexrelid) ~ replaced
        loop
            execute format('drop index %s', old.index);
        end loop;
        -- GET /accounts?status=active&sort=-created_at&fields=id,username: the newest of a status, by name. It
        -- includes the name, so that this list is read from the index alone. A name changes rarely, so that
        -- it costs few updates of the index.
        execute format('create index %I on %I (status, created_at, id) include (username)',
            build.table_name || '_by_status_with_username', build.table_name);
        -- GET /accounts?username=…: find one account; ?username[prefix]=…: those whose name begins so. The
        -- collation "C" is the order of bytes, in which names with a common beginning are neighbours.
        execute format('create index %I on %I (username collate "C", id)',
            build.table_name || '_by_username_in_byte_order', build.table_name);
    end loop;
    -- Not to be made again when a build is complete.
    update builds set indexes_to_make =
        array(select statement from unnest(indexes_to_make) as statement where statement !~ replaced)
    where view = 'accounts';
end $$;
