"""Brings one embedded copy up to date, as often as lines come in, and prints what it then holds.

usage: sync_copy.py URL MODULE PATH | sync_copy.py --digest - FILE
Each line is SQL to write through the copy first, or empty. The answer to each is one line: a digest
of all tables as SQLite reads them from the local file, after an integrity check.
"""

import hashlib
import os
import sqlite3
import subprocess
import sys

import copies

URL, MODULE, PATH = sys.argv[1].rstrip("/"), sys.argv[2], sys.argv[3]


class Turso:
    def __init__(self):
        import turso.sync

        self.db = turso.sync.connect(PATH, remote_url=URL)

    def write(self, sql):
        self.db.execute(sql)
        self.db.commit()
        self.db.push()

    def sync(self):
        self.db.pull()

    def rows(self, sql):
        return self.db.execute(sql).fetchall()


def digest(rows):
    found = hashlib.sha256()
    tables = [row[0] for row in rows(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT GLOB '_edge_*' "
        "AND name NOT GLOB '*turso_*' AND name NOT GLOB 'sqlite_*' ORDER BY name")]
    for table in tables:
        found.update(repr((table, rows('SELECT * FROM "%s" ORDER BY 1' % table))).encode())
    return found.hexdigest()


def local(client):
    if hasattr(client, "rows"):
        return digest(client.rows)
    # Another process than the client's, so that the file is seen as any program sees it.
    return subprocess.run(
        [sys.executable, __file__, "--digest", "-", PATH],
        check=True, capture_output=True, text=True).stdout.strip()


def digest_of_file(path):
    database = sqlite3.connect(path)
    found = database.execute("PRAGMA integrity_check").fetchall()
    assert found == [("ok",)], found
    return digest(lambda sql: database.execute(sql).fetchall())


def main():
    if URL == "--digest":
        print(digest_of_file(PATH))
        return
    client = None
    for line in sys.stdin:
        try:
            if client is None:
                client = Turso() if MODULE == "turso" else copies.connect(MODULE, PATH, URL)
            if line.strip():
                client.write(line.strip())
            client.sync()
            print(local(client), flush=True)
        except BaseException as error:
            print("error: %s" % str(error).replace("\n", " "), flush=True)
    # What the libraries do when they are torn down is not looked at.
    sys.stdout.flush()
    os._exit(0)


main()
