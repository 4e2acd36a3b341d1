"""What the buy-till-you-die models of the literature start from, per customer, from an exported CDNOW log.

    python3 cdnow.py history > customers.csv

A customer's first purchase is where counting starts: `frequency` is the number of later days with a purchase, `recency`
the days from the first purchase to the last, `T` those from the first to the last day of the data.
"""

import sys

import duckdb

folder = sys.argv[1]
# Days are days in UTC, wherever this runs.
duckdb.sql("set TimeZone = 'UTC'")
customers = duckdb.sql(f"""
    with purchases as (
        select account_id, placed_at::date as day, amount_cents
        from read_parquet('{folder}/order.placed/**/*.parquet')
    ), data as (
        select max(day) as last_day from purchases
    )
    select username as customer,
           count(distinct day) - 1 as frequency,
           max(day) - min(day) as recency,
           any_value(last_day) - min(day) as T,
           sum(amount_cents)::bigint as spent_cents
    from purchases, data
    join read_parquet('{folder}/account.registered/**/*.parquet') on aggregate_id = account_id
    group by username
    order by username
""")
print(",".join(customers.columns))
for row in customers.fetchall():
    print(",".join(map(str, row)))
