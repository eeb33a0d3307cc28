"""The Python package `libsql-client` over HTTP and WebSocket: `/v1/execute`, `/v1/batch`, hrana2."""

import sys

import libsql_client

from checks import URL, VALUES, done, same

scheme = sys.argv[2] if len(sys.argv) > 2 else "http"
with libsql_client.create_client_sync(URL.replace("http", scheme, 1)) as client:
    table = f"client_{scheme}"
    client.execute(f"DROP TABLE IF EXISTS {table}")
    client.execute(f"CREATE TABLE {table}(id INTEGER PRIMARY KEY, v)")
    for number, value in enumerate(VALUES):
        client.execute(f"INSERT INTO {table} VALUES (?, ?)", [number, value])
        got = client.execute(f"SELECT v FROM {table} WHERE id = ?", [number]).rows[0][0]
        same(bytes(got) if isinstance(value, bytes) else got, value, f"value {number}")
    result = client.execute(f"INSERT INTO {table}(v) VALUES (:v)", {"v": "named"})
    same(result.rows_affected, 1, "rows affected")
    same(result.last_insert_rowid, len(VALUES), "last row")
    results = client.batch([
        f"INSERT INTO {table}(v) VALUES ('a')", (f"INSERT INTO {table}(v) VALUES (?)", ["b"]),
        f"SELECT count(*) FROM {table}",
    ])
    same(results[2].rows[0][0], len(VALUES) + 3, "a batch sees its own writes")
    try:
        client.batch([f"INSERT INTO {table}(v) VALUES ('c')", "INSERT INTO nowhere VALUES (1)"])
        raise SystemExit("a batch with an error succeeded")
    except libsql_client.LibsqlError:
        pass
    same(client.execute(f"SELECT count(*) FROM {table} WHERE v = 'c'").rows[0][0], 0, "all or nothing")
    try:
        client.execute("SELECT * FROM nowhere")
        raise SystemExit("a missing table was found")
    except libsql_client.LibsqlError as error:
        assert "no such table" in str(error), error
    if scheme == "ws":
        transaction = client.transaction()
        transaction.execute(f"INSERT INTO {table}(v) VALUES ('tx')")
        transaction.rollback()
        same(client.execute(f"SELECT count(*) FROM {table} WHERE v = 'tx'").rows[0][0], 0, "rollback")
        transaction = client.transaction()
        transaction.execute(f"INSERT INTO {table}(v) VALUES ('tx')")
        transaction.commit()
        same(client.execute(f"SELECT count(*) FROM {table} WHERE v = 'tx'").rows[0][0], 1, "commit")
done()
