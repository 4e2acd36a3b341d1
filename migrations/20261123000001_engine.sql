-- What the projector and the query-service agree on: which views exist, and how far each is folded.

-- The registry: the public name of a view, the table that holds its rows, and the column that names a row.
-- A rebuilt view takes over by one update of this row.
create table views (
    name       text primary key,
    table_name text not null unique,
    key_column text not null,
    version    integer not null
);

-- Up to where each view is folded. The projector moves it in the transaction that writes the rows, by
-- compare-and-set; frame_sequence and frame_id let it notice a log that was replaced or lost its tail.
create table checkpoints (
    view           text primary key references views (name),
    position       bigint not null default 0,
    frame_sequence bigint not null default 0,
    frame_id       uuid,
    updated_at     timestamptz not null default now()
);
