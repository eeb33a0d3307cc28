"""The Python package `turso-serverless`: a cursor for each statement, over new connections."""

import turso_serverless

from checks import URL, VALUES, done, same

db = turso_serverless.connect(URL, auth_token=None)
cursor = db.cursor()
cursor.execute("DROP TABLE IF EXISTS serverless_t")
cursor.execute("CREATE TABLE serverless_t(id INTEGER PRIMARY KEY, v)")
db.commit()
for number, value in enumerate(VALUES):
    cursor.execute("INSERT INTO serverless_t VALUES (?, ?)", (number, value))
    db.commit()
    cursor.execute("SELECT v FROM serverless_t WHERE id = ?", (number,))
    same(cursor.fetchone()[0], value, f"value {number}")
cursor.execute("INSERT INTO serverless_t(v) VALUES ('gone')")
db.rollback()
cursor.execute("SELECT count(*) FROM serverless_t WHERE v = 'gone'")
same(cursor.fetchone()[0], 0, "rollback")
cursor.executescript("CREATE TABLE IF NOT EXISTS s2(a); DELETE FROM s2; INSERT INTO s2 VALUES (1);")
cursor.execute("SELECT count(*) FROM s2")
same(cursor.fetchone()[0], 1, "a script")
cursor.execute("CREATE TABLE IF NOT EXISTS s3(a UNIQUE)")
cursor.execute("DELETE FROM s3")
db.commit()
cursor.executemany("INSERT INTO s3 VALUES (?)", [(number,) for number in range(40)])
cursor.execute("SELECT count(*) FROM s3")
same(cursor.fetchone()[0], 40, "a transaction sees its own writes")
other = turso_serverless.connect(URL, auth_token=None)
outside = other.cursor()
outside.execute("SELECT count(*) FROM s3")
same(outside.fetchone()[0], 0, "others do not")
db.commit()
try:
    cursor.execute("INSERT INTO s3 VALUES (7)")
    raise SystemExit("a UNIQUE constraint was not enforced")
except turso_serverless.IntegrityError as error:
    assert "UNIQUE" in str(error), error
db.rollback()
try:
    cursor.execute("SELECT * FROM nowhere")
    raise SystemExit("a missing table was found")
except turso_serverless.DatabaseError as error:
    assert "no such table" in str(error), error
cursor.execute("SELECT count(*), sum(a) FROM s3")
same(cursor.fetchone(), (40, 780), "after errors")
cursor.execute(
    "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT 5000) SELECT n FROM c")
same([row[0] for row in cursor.fetchall()], list(range(1, 5001)), "a large result")
other.close()
db.close()
done()
