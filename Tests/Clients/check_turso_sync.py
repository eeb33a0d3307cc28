"""The Python package `pyturso`, `turso.sync`: pulls that wait."""

import os
import shutil
import sys
import tempfile
import threading

import turso.sync

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


writer = connect("writer.db")
write(
    writer, "DROP TABLE IF EXISTS sync_t",
    "CREATE TABLE sync_t(id INTEGER PRIMARY KEY, data)")
polls()
done()
# What the library does when it is torn down is not looked at.
sys.stdout.flush()
shutil.rmtree(FOLDER)
os._exit(0)
