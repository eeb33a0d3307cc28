"""Records the -wal files of this folder with stock SQLite (3.40.1 made those checked in).

Salts are random, so a new run gives new bytes; the frames, and with them the tests, stay the same.
"""
import os
import shutil
import sqlite3
import tempfile

folder = os.path.dirname(os.path.abspath(__file__))


def fresh(path):
    database = sqlite3.connect(path, isolation_level=None)
    for pragma in ("page_size=512", "journal_mode=wal", "wal_autocheckpoint=0"):
        database.execute("pragma " + pragma)
    database.execute("create table t(a integer primary key, b text)")
    return database


def record(path, name):
    shutil.copy(path + "-wal", os.path.join(folder, name + ".wal"))


with tempfile.TemporaryDirectory() as scratch:
    path = os.path.join(scratch, "commits.db")
    database = fresh(path)
    database.execute("insert into t values(1, 'one')")
    database.execute("begin")
    database.execute("insert into t values(2, ?)", ("x" * 700,))
    database.execute("insert into t values(3, 'three')")
    database.execute("commit")
    record(path, "three-commits")
    # Frame 1 is overwritten with new salts; frames 2 to 6 are leftovers.
    database.execute("pragma wal_checkpoint(restart)")
    database.execute("update t set b = 'uno' where a = 1")
    record(path, "restarted")
    database.close()

    # The page cache is too small for the transaction, so it spills before any commit.
    path = os.path.join(scratch, "spill.db")
    database = fresh(path)
    database.execute("pragma cache_size=2")
    database.execute("pragma cache_spill=2")
    database.execute("begin")
    for key in range(1, 5):
        database.execute("insert into t values(?, ?)", (key, "y" * 900))
    record(path, "open-transaction")
    database.execute("rollback")
    database.close()
