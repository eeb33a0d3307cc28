"""The Python package `aiolibsql` without a file of its own: as `libsql`, on an event loop.

Version 0.3.0 commits before every statement that is no INSERT, UPDATE or DELETE, and for `rollback()`, with sqld as
well: transactions are begun and ended by SQL here."""

import asyncio
import os
import sys

import aiolibsql

from checks import URL, VALUES, done, same


async def values(db):
    await db.execute("DROP TABLE IF EXISTS aio_v")
    await db.execute("CREATE TABLE aio_v(id INTEGER PRIMARY KEY, v)")
    await db.commit()
    for number, value in enumerate(VALUES):
        if isinstance(value, int) and abs(value) >= 2**31:
            continue  # this client binds larger numbers as floats
        await db.execute("INSERT INTO aio_v VALUES (?, ?)", (number, value))
        await db.commit()
        cursor = await db.execute("SELECT v FROM aio_v WHERE id = ?", (number,))
        same((await cursor.fetchone())[0], value, f"value {number}")


async def count(db, where="1"):
    cursor = await db.execute(f"SELECT count(*) FROM aio_t WHERE {where}")
    return (await cursor.fetchone())[0]


async def transactions(db):
    await db.execute("DROP TABLE IF EXISTS aio_t")
    await db.execute("CREATE TABLE aio_t(id INTEGER PRIMARY KEY, v UNIQUE)")
    await db.commit()
    for number in range(50):
        cursor = await db.execute("INSERT INTO aio_t(v) VALUES (?)", (number,))
        same(cursor.lastrowid, number + 1, "last row")
        await db.commit()
        same(await count(db), number + 1, "own writes")
    await db.executemany("INSERT INTO aio_t(v) VALUES (?)", [(n,) for n in range(2000, 2050)])
    await db.commit()
    same(await count(db, "v >= 2000"), 50, "executemany")
    other = await aiolibsql.connect(URL, auth_token="")
    try:
        await other.execute("INSERT INTO aio_t(v) VALUES (7)")
        raise SystemExit("a UNIQUE constraint was not enforced")
    except Exception as error:
        assert "UNIQUE" in str(error), error
    await other.close()
    plain = await aiolibsql.connect(URL, auth_token="", isolation_level=None)
    for end, rows in [("ROLLBACK", 0), ("COMMIT", 1)]:
        await plain.execute("BEGIN")
        await plain.execute("INSERT INTO aio_t(v) VALUES (1000)")
        same(await count(plain, "v = 1000"), 1, "inside of the transaction")
        same(await count(db, "v = 1000"), 0, "outside of it")
        await plain.execute(end)
        same(await count(plain, "v = 1000"), rows, end)
    await plain.close()


async def results(db):
    cursor = await db.execute(
        "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT 5000) SELECT n FROM c")
    same(len(await cursor.fetchall()), 5000, "a large result")
    for wrong, word in [("SELEC 1", "syntax"), ("SELECT * FROM nowhere", "no such table")]:
        try:
            await db.execute(wrong)
            raise SystemExit(f"not refused: {wrong}")
        except Exception as error:
            assert word in str(error), error


async def side_by_side():
    """Several connections at once, each with its own stream."""
    first = await aiolibsql.connect(URL, auth_token="")
    await first.execute("DROP TABLE IF EXISTS aio_many")
    await first.execute("CREATE TABLE aio_many(v)")
    await first.commit()

    async def writer(name):
        db = await aiolibsql.connect(URL, auth_token="")
        for number in range(10):
            await db.execute("INSERT INTO aio_many VALUES (?)", (f"{name}-{number}",))
            await db.commit()
        await db.close()

    await asyncio.gather(*(writer(name) for name in range(4)))
    await first.execute("INSERT INTO aio_many VALUES ('last')")
    await first.commit()
    cursor = await first.execute("SELECT count(DISTINCT v) FROM aio_many")
    same((await cursor.fetchone())[0], 41, "writers side by side")
    await first.close()


async def main():
    db = await aiolibsql.connect(URL, auth_token="")
    await values(db)
    await transactions(db)
    await results(db)
    await side_by_side()
    await db.close()


asyncio.run(main())
done()
# A thread of the package may abort the process while the interpreter ends.
sys.stdout.flush()
os._exit(0)
