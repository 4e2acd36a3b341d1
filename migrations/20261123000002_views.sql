-- The views of the shipped domain. Every index ends in the key, so that an order is total and a cursor
-- can name a place in it; a descending list is the same index read backwards.

create table accounts (
    id         uuid primary key,
    email      text,
    username   text,
    name       text,
    region     text,
    status     text not null,
    created_at timestamptz not null,
    revision   bigint not null
);
-- GET /accounts?email=…  and  ?username=…: find one account. Not unique: the writer keeps claims unique,
-- and within one batch of the projector an address may pass from one row to another.
create index accounts_by_email on accounts (email, id);
create index accounts_by_username on accounts (username, id);
-- GET /accounts?status=active&sort=-created_at: the newest of a status.
create index accounts_by_status on accounts (status, created_at, id);

create table orders (
    id           uuid primary key,
    account_id   uuid not null,
    quantity     integer not null,
    amount_cents bigint not null,
    currency     text not null,
    status       text not null,
    reason       text,
    placed_at    timestamptz not null,
    revision     bigint not null
);
-- GET /orders?account_id=…&sort=-placed_at: the orders of one account, newest first.
create index orders_by_account on orders (account_id, placed_at, id);
-- GET /orders?sort=-placed_at: the newest orders of all, and any range of time.
create index orders_by_placed_at on orders (placed_at, id);

create table customers (
    id             uuid primary key,
    orders         integer not null,
    repeat_orders  integer not null,
    first_order_at timestamptz not null,
    last_order_at  timestamptz not null,
    spent_cents    bigint not null
);
-- GET /customers?sort=-spent_cents: the best customers; spent_cents[gte]=…: those above a total.
create index customers_by_spent on customers (spent_cents, id);
-- GET /customers?sort=-last_order_at: who ordered last; last_order_at[lt]=…: who has not for long.
create index customers_by_last_order on customers (last_order_at, id);

-- Read by its key, a day, or by a range of days.
create table daily_sales (
    day          date primary key,
    orders       integer not null,
    quantity     bigint not null,
    amount_cents bigint not null
);

insert into views (name, table_name, key_column, version) values
    ('accounts', 'accounts', 'id', 1),
    ('orders', 'orders', 'id', 1),
    ('customers', 'customers', 'id', 1),
    ('daily_sales', 'daily_sales', 'day', 1);
insert into checkpoints (view) select name from views;
