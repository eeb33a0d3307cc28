#!/usr/bin/env python3
"""Checks Turso's embedded replicas (libsql or libsql_experimental, connect(sync_url=...)).

usage: libsql_sync.py URL [libsql|libsql_experimental]
"""

import importlib
import os
import sqlite3
import sys
import tempfile


def content(path):
    with sqlite3.connect(path) as database:
        check = database.execute("PRAGMA integrity_check").fetchone()[0]
        assert check == "ok", check
        return database.execute("SELECT id, data, length(data) FROM sync_test ORDER BY id").fetchall()


def main():
    url = sys.argv[1]
    module = importlib.import_module(sys.argv[2] if len(sys.argv) > 2 else "libsql")
    folder = tempfile.mkdtemp()
    path = os.path.join(folder, "local.db")
    client = module.connect(path, sync_url=url, auth_token="")
    client.sync()
    client.execute("DROP TABLE IF EXISTS sync_test")
    client.execute("CREATE TABLE sync_test (id INTEGER PRIMARY KEY, data)")
    client.commit()
    expected = []
    for number in range(30):
        value = [number, "text %d" % number, float(number) + 0.5, 2**30 + number, b"\x00\xff" * 50][number % 5]
        client.execute("INSERT INTO sync_test VALUES (?, ?)", (number, value))
        client.commit()
        expected.append((number, value))
        found = client.execute("SELECT data FROM sync_test WHERE id = ?", (number,)).fetchone()
        assert found is not None and found[0] == value, ("own write not read", number, found)
    # More pages than one pull takes: a commit that spans several.
    client.execute(
        "WITH RECURSIVE n(i) AS (VALUES (1000) UNION ALL SELECT i + 1 FROM n WHERE i < 1700)"
        " INSERT INTO sync_test SELECT i, randomblob(3000) FROM n")
    client.commit()
    client.sync()
    count = client.execute("SELECT count(*) FROM sync_test").fetchone()[0]
    assert count == 30 + 701, count

    # A second copy, made from nothing, holds the same; so does the first when it is opened again.
    other_path = os.path.join(folder, "other.db")
    other = module.connect(other_path, sync_url=url, auth_token="")
    other.sync()
    client.execute("DELETE FROM sync_test WHERE id % 3 = 0")
    client.commit()
    other.sync()
    del client
    again = module.connect(path, sync_url=url, auth_token="")
    again.sync()
    rows = "SELECT id, data FROM sync_test ORDER BY id"
    assert again.execute(rows).fetchall() == other.execute(rows).fetchall(), "two copies differ"
    del again, other
    assert content(path) == content(other_path), "the files differ"
    print("ok: %s" % module.__name__)


main()
