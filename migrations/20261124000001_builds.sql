-- Views are rebuilt without downtime: each build of a view has a table and a checkpoint of its own, and the
-- registry names the one that is read. A key whose event cannot be applied waits in quarantine, alone.

-- One folding of a view from the whole log. `views` repeats table_name and version of the build in use.
create table builds (
    view       text not null,
    build      integer not null check (build > 0),
    version    integer not null,
    table_name text not null unique,
    -- When it first came into use; null for one that has yet to be finished.
    used_at    timestamptz,
    -- Statements that make the indexes which were left out while the table is filled: making them afterwards
    -- takes a fraction of the time.
    indexes_to_make text[] not null default '{}',
    created_at timestamptz not null default now(),
    primary key (view, build)
);
insert into builds (view, build, version, table_name, used_at) select name, 1, version, table_name, now() from views;

alter table views add column build integer not null default 1;
alter table views alter column build drop default;
alter table views add foreign key (name, build) references builds (view, build);

alter table checkpoints add column build integer not null default 1;
alter table checkpoints alter column build drop default;
alter table checkpoints drop constraint checkpoints_view_fkey, drop constraint checkpoints_pkey;
alter table checkpoints add primary key (view, build);
alter table checkpoints add foreign key (view, build) references builds (view, build) on delete cascade;
-- Which projector folds it, for people.
alter table checkpoints add column folded_by text;

-- Keys that are folded no further, each from the event on that could not be applied. What comes after it in the
-- log is held back for that key alone. An event that cannot even be read has no row's key: then the key is the
-- aggregate, `<aggregate>:<id>`, whose events are held back from this view.
create table quarantine (
    view      text not null,
    build     integer not null,
    key       text not null,
    of_aggregate boolean not null,
    -- Of the event that could not be applied.
    position  bigint not null,
    -- The event as it stands in the log: text, because jsonb refuses some strings that JSON allows.
    event     text not null,
    error     text not null,
    -- Events held back so far, this one included.
    held      bigint not null default 1,
    since     timestamptz not null default now(),
    attempts  integer not null default 1,
    tried_at  timestamptz not null default now(),
    -- What a person asked for, until the projector has done it.
    request   text check (request in ('retry', 'skip')),
    -- Why the event is to be skipped.
    reason    text,
    primary key (view, build, key),
    foreign key (view, build) references builds (view, build) on delete cascade
);

-- What a person decided to leave out: every build of the view leaves it out, and whoever compares a view with
-- the log can tell why they differ.
create table skipped_events (
    view       text not null references views (name),
    key        text not null,
    position   bigint not null,
    event      text not null,
    error      text not null,
    reason     text not null,
    skipped_at timestamptz not null default now(),
    primary key (view, key, position)
);

-- For the migrations to come: makes a table known as a view, or as what the next version of a view is folded into.
create function register_view(view text, key_column text, version integer, table_name text default null)
returns void language sql as $$
    insert into builds (view, build, version, table_name, used_at)
    values ($1, 1, $3, coalesce($4, $1), now());
    insert into views (name, table_name, key_column, version, build) values ($1, coalesce($4, $1), $2, $3, 1);
    insert into checkpoints (view, build) values ($1, 1);
$$;

create function register_build(view text, version integer, table_name text)
returns void language sql as $$
    with made as (
        insert into builds (view, build, version, table_name)
        select $1, coalesce(max(b.build), 0) + 1, $2, $3 from builds b where b.view = $1
        returning builds.view, builds.build
    )
    insert into checkpoints (view, build) select made.view, made.build from made;
$$;
