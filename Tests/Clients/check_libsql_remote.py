"""The Python package `libsql`: every statement is described, then run by a pipeline or a cursor."""

import libsql

from checks import URL, VALUES, done, same

db = libsql.connect(database=URL, auth_token="")
db.execute("DROP TABLE IF EXISTS libsql_t")
db.execute("CREATE TABLE libsql_t(id INTEGER PRIMARY KEY, v UNIQUE)")
db.commit()
db.execute("CREATE TABLE IF NOT EXISTS libsql_v(id INTEGER PRIMARY KEY, v)")
db.execute("DELETE FROM libsql_v")
db.commit()
for number, value in enumerate(VALUES):
    if isinstance(value, int) and abs(value) >= 2**31:
        continue  # this client binds larger numbers as floats
    db.execute("INSERT INTO libsql_v VALUES (?, ?)", (number, value))
    db.commit()
    got = db.execute("SELECT v FROM libsql_v WHERE id = ?", (number,)).fetchone()[0]
    same(got, value, f"value {number}")
for number in range(200):
    db.execute("INSERT INTO libsql_t(v) VALUES (?)", (number,))
    db.commit()
    same(db.execute("SELECT count(*) FROM libsql_t").fetchone()[0], number + 1, "own writes")
try:
    db.execute("INSERT INTO libsql_t(v) VALUES (7)")
    raise SystemExit("a UNIQUE constraint was not enforced")
except Exception as error:
    assert "UNIQUE" in str(error), error
db.rollback()
db.execute("INSERT INTO libsql_t(v) VALUES (1000)")
db.rollback()
same(db.execute("SELECT count(*) FROM libsql_t WHERE v = 1000").fetchone()[0], 0, "rollback")
db.executemany("INSERT INTO libsql_t(v) VALUES (?)", [(n,) for n in range(2000, 2050)])
db.commit()
same(db.execute("SELECT count(*) FROM libsql_t WHERE v >= 2000").fetchone()[0], 50, "executemany")
rows = db.execute(
    "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT 5000) SELECT n FROM c"
).fetchall()
same(len(rows), 5000, "a large result")
try:
    db.execute("SELEC 1")
    raise SystemExit("a syntax error was not told")
except Exception as error:
    assert "syntax" in str(error), error
done()
