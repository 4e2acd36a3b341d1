-- Whose row a row is: the column of a view that holds the subject of its owner's tokens. A caller who may read
-- only what is theirs sees the rows in which it equals their subject, and no others; a view without such a column
-- is read by those alone who may read everybody's rows. It is neither rounded nor cut (no numeric, no
-- timestamptz, no varchar(n)). Lists of an owner's rows are served by indexes that begin with it.
alter table views add column owner_column text;

-- For the migrations to come.
create function register_owner(view text, owner_column text)
returns void language sql as $$
    update views set owner_column = $2 where name = $1;
$$;

-- GET /accounts/{id} and /customers/{id}: the one row of an account.
select register_owner('accounts', 'id');
select register_owner('customers', 'id');
-- GET /orders?sort=-placed_at: the account's own, from orders_by_account (account_id, placed_at, id).
select register_owner('orders', 'account_id');
