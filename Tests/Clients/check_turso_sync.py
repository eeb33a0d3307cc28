"""The Python package `pyturso`, `turso.sync`: pulls that wait, and copies of a part of the database."""

import os
import shutil
import sys
import tempfile
import threading

import turso.sync
from turso.sync import PartialSyncOpts, PartialSyncPrefixBootstrap, PartialSyncQueryBootstrap

from checks import URL, done, same

FOLDER = tempfile.mkdtemp()


def connect(name, **options):
    return turso.sync.connect(os.path.join(FOLDER, name), remote_url=URL, **options)


def write(db, *statements):
    for sql in statements:
        db.execute(sql)
    db.commit()
    db.push()


def polls():
    db = connect("waits.db", long_poll_timeout_ms=40_000)
    for number in range(3):
        found = []
        thread = threading.Thread(target=lambda: found.append(db.pull()))
        thread.start()
        write(writer, "INSERT INTO sync_t VALUES (NULL, 'poll')")
        thread.join(50)
        same(found, [True], "a pull that waited")
        count = db.execute("SELECT count(*) FROM sync_t WHERE data = 'poll'").fetchone()[0]
        same(count, number + 1, "rows after a pull that waited")
    # Nothing comes, and the pull ends when it said so.
    db = connect("ends.db", long_poll_timeout_ms=200)
    same(db.pull(), False, "a pull of nothing")


def sparse(name):
    return os.stat(os.path.join(FOLDER, name)).st_blocks * 512


def parts(number, **options):
    """Whatever is read is the database as of the last pull, and only what is read is fetched."""
    write(writer, "DELETE FROM sync_t")
    write(
        writer,
        "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 900) "
        "INSERT INTO sync_t SELECT i, 'begun' || hex(zeroblob(1600)) FROM n")
    name = f"part{number}.db"
    db = connect(name, partial_sync_experimental=PartialSyncOpts(
        PartialSyncPrefixBootstrap(64 << 10), **options))
    same(sparse(name) < 1 << 20, True, "only a part is there")
    expected = {}

    def check(ids):
        for row in ids:
            found = db.execute("SELECT substr(data, 1, 5) FROM sync_t WHERE id = ?", (row,))
            same(found.fetchone()[0], expected.get(row, "begun"), f"row {row} of {name}")

    check([2, 500, 890])
    for turn in range(4):
        for row in range(100 + 7 * turn, 900, 160):
            expected[row] = f"new_{turn}"
        ids = ", ".join(str(row) for row in range(100 + 7 * turn, 900, 160))
        write(
            writer, f"UPDATE sync_t SET data = 'new_{turn}' || substr(data, 6) WHERE id IN ({ids})")
        same(db.pull(), True, "a pull")
        if turn == 2:
            db.checkpoint()
        check(range(50 + turn, 900, 45))
        check(expected)
    rows = db.execute("SELECT id, substr(data, 1, 5) FROM sync_t ORDER BY id").fetchall()
    same(rows, [(row, expected.get(row, "begun")) for row in range(1, 901)], f"all of {name}")


def refusals():
    try:
        connect("query.db", partial_sync_experimental=PartialSyncOpts(
            PartialSyncQueryBootstrap("SELECT * FROM sync_t")))
        raise SystemExit("a query chose pages")
    except turso.DatabaseError as error:
        assert "501" in str(error), error


writer = connect("writer.db")
write(
    writer, "DROP TABLE IF EXISTS sync_t",
    "CREATE TABLE sync_t(id INTEGER PRIMARY KEY, data)")
polls()
for number, options in enumerate([
        {}, {"segment_size": 4096}, {"segment_size": 16384, "prefetch": True}]):
    parts(number, **options)
same(
    connect("chunks.db", pull_bytes_threshold=100_000)
    .execute("SELECT count(*) FROM sync_t").fetchone()[0], 900, "a copy in chunks")
refusals()
done()
# What the library does when it is torn down is not looked at.
sys.stdout.flush()
shutil.rmtree(FOLDER)
os._exit(0)
