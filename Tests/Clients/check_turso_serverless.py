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
db.close()
done()
