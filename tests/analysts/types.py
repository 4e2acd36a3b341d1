"""Columns have the types that the page promises, and no row is missing or there twice."""

import glob
import json

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds

MOMENT = pa.timestamp("us", tz="UTC")
ENVELOPE = {
    "position": pa.int64(), "time": MOMENT, "aggregate": pa.string(), "aggregate_id": pa.string(),
    "event_type": pa.string(), "event_version": pa.int32(), "previous": pa.int64(), "actor": pa.string(),
    "idempotency_key": pa.string(), "correlation_id": pa.string(), "causation_id": pa.string(),
    "traceparent": pa.string(),
}
DATA = {
    "account.registered": {"email": pa.string(), "name": pa.string(), "region": pa.string(), "username": pa.string()},
    "order.placed": {
        "account_id": pa.string(), "amount_cents": pa.int64(), "currency": pa.string(), "placed_at": MOMENT,
        "quantity": pa.int64(),
    },
}

manifest = json.load(open("history/manifest.json"))
assert set(manifest["rows"]) == set(DATA), manifest
positions = set()
for event_type, columns in DATA.items():
    table = ds.dataset(f"history/{event_type}", format="parquet").to_table()
    found = {field.name: field.type for field in table.schema}
    assert found == ENVELOPE | columns, found
    assert table.num_rows == manifest["rows"][event_type]
    counted = duckdb.sql(f"select count(*) from read_parquet('history/{event_type}/*.parquet')").fetchall()[0][0]
    assert counted == table.num_rows
    positions.update(table["position"].to_pylist())
assert positions == set(range(1, manifest["position"] + 1))

personal = {"email", "username", "name", "actor", "idempotency_key"}
clear = ds.dataset("history/account.registered", format="parquet").to_table().to_pylist()
masked = ds.dataset("shared/account.registered", format="parquet").to_table().to_pylist()
for before, after in zip(clear, masked, strict=True):
    for column, value in before.items():
        if column in personal and value is not None:
            assert len(after[column]) == 32 and after[column] != value
        else:
            assert after[column] == value
assert len({row["email"] for row in masked}) == len({row["email"] for row in clear})
for file in glob.glob("shared/*/*.parquet"):
    assert b"@cdnow.example" not in open(file, "rb").read(), file
