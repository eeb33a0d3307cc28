#!/usr/bin/env python3
"""Counts how often a primary allocates memory for a request, and for a row of its answer.

usage: Benchmarks/Allocations/count.py [PATH OF edge-sql]      (needs cc)
"""
import http.client
import json
import os
import re
import socket
import sqlite3
import struct
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
PROGRAM = sys.argv[1] if len(sys.argv) > 1 else ".build/release/edge-sql"
ROWS = 10_000


def make_table(path):
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, v BLOB)")
    rows = ((i, f"row {i:08}", os.urandom(100)) for i in range(1, ROWS + 1))
    database.executemany("INSERT INTO t VALUES (?, ?, ?)", rows)
    database.commit()
    database.close()


class Node:
    def __init__(self, folder):
        library, self.file = f"{folder}/count.so", f"{folder}/count"
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, f"{HERE}/count.c"], check=True)
        make_table(f"{folder}/a.db")
        self.process = subprocess.Popen(
            [PROGRAM, "primary", "--db", f"{folder}/a.db", "--listen", "127.0.0.1:0",
             "--http", "127.0.0.1:0", "--ship", "off"],
            env=dict(os.environ, LD_PRELOAD=library, ALLOCATIONS_FILE=self.file),
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        ready = next(line for line in self.process.stdout if line.startswith("ready: "))
        ports = [int(port) for port in re.findall(r"on [0-9.]+:(\d+)", ready)]
        self.socket = socket.create_connection(("127.0.0.1", ports[0]))
        self.lines = self.socket.makefile("rb")
        self.http = http.client.HTTPConnection("127.0.0.1", ports[1])

    def line(self, sql, *arguments):
        self.socket.sendall(json.dumps([sql, *arguments]).encode() + b"\n")
        answer = self.lines.readline()
        assert b'"error"' not in answer, answer

    def hrana(self, sql, *arguments):
        values = [{"type": "integer", "value": str(number)} for number in arguments]
        execute = {"type": "execute", "stmt": {"sql": sql, "args": values}}
        body = json.dumps({"requests": [execute, {"type": "close"}]})
        self.http.request("POST", "/v2/pipeline", body, {"content-type": "application/json"})
        answer = self.http.getresponse().read()
        assert b'"type":"error"' not in answer, answer

    def count(self):
        with open(self.file, "rb") as file:
            return struct.unpack("Q", file.read(8))[0]


def measure(node, name, request, rows, times=500):
    for number in range(50):
        request(number)
    before = node.count()
    for number in range(times):
        request(number)
    each = (node.count() - before) / times
    print(f"{name:32} {each:10.1f} {each / rows:10.3f}")


with tempfile.TemporaryDirectory() as folder:
    node = Node(folder)
    try:
        print(f"{'allocations':32} {'a request':>10} {'a row':>10}")
        for shell, run in (("line", node.line), ("Hrana", node.hrana)):
            by_key = "SELECT name FROM t WHERE id = ?"
            measure(node, f"{shell}, SELECT by key", lambda n: run(by_key, n + 1), 1)
            for rows in (100, 1000):
                query = f"SELECT id, name, v FROM t LIMIT {rows}"
                measure(node, f"{shell}, SELECT of {rows} rows", lambda n: run(query), rows)
            measure(node, f"{shell}, INSERT", lambda n: run("INSERT INTO t(id) VALUES (NULL)"), 1)
    finally:
        node.process.terminate()
        node.process.wait()
