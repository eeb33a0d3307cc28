"""Sends the same requests to sqld and to a node, and compares status, shape, values and error codes.

    compare.py http://127.0.0.1:8080 /path/to/sqld     the address of a node without tables, and a program

Every difference must be in the table of `differences.py`, with its reason; what is in the table must be seen."""

import contextlib
import ctypes
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse

from cases import all_cases
from differences import TABLE


class Server:
    def __init__(self, url):
        self.address = urllib.parse.urlsplit(url).netloc
        self.batons = []

    def ask(self, method, path, body):
        """The answer: status, type, and a body that can be compared."""
        if body is not None:
            for number, word in enumerate(["BATON", "OLD"], 1):
                baton = self.batons[-number] if len(self.batons) >= number else "none"
                body = body.replace(f'"{word}"', json.dumps(baton))
        connection = http.client.HTTPConnection(self.address, timeout=60)
        headers = {} if body is None else {"Content-Type": "application/json"}
        data = None if body is None else body.encode("utf-8", "surrogatepass")
        try:
            connection.request(method, path, data, headers)
            answer = connection.getresponse()
            text = answer.read().decode("utf-8", "replace")
        except (http.client.HTTPException, ConnectionError):
            return 0, "", "no answer"
        connection.close()
        kind = (answer.getheader("content-type") or "").split(";")[0]
        return answer.status, kind, self.read(text, kind, path)

    def close(self, version, body):
        """Ends the stream that a case has left open: there may be few of them."""
        if isinstance(body, dict) and body.get("baton"):
            self.ask("POST", f"/v{version}/pipeline", json.dumps({"baton": "BATON", "requests": [{"type": "close"}]}))

    def read(self, text, kind, path):
        if path == "/v3/cursor" and "\n" in text:
            return [self.clean(json.loads(line)) for line in text.splitlines()]
        try:
            return self.clean(json.loads(text))
        except ValueError:
            return text

    def clean(self, json):
        """Without what no two runs have in common."""
        if isinstance(json, list):
            return [self.clean(item) for item in json]
        if not isinstance(json, dict):
            return json
        found = {}
        for key, item in json.items():
            if key == "baton" and isinstance(item, str):
                self.batons.append(item)
                item = "…"
            elif key == "query_duration_ms" and isinstance(item, float):
                item = 0.5
            elif key == "replication_index" and item is not None:
                item = type(item).__name__
            found[key] = self.clean(item)
        return found


def differences(ours, theirs, path=""):
    """Where two values differ, and how."""
    if type(ours) is not type(theirs):
        yield path, ours, theirs
    elif isinstance(ours, dict) and ours.get("type") == theirs.get("type"):
        for key in sorted(set(ours) | set(theirs)):
            missing = "(missing)"
            yield from differences(ours.get(key, missing), theirs.get(key, missing), f"{path}.{key}")
    elif isinstance(ours, list) and len(ours) == len(theirs):
        for number, pair in enumerate(zip(ours, theirs)):
            yield from differences(*pair, f"{path}[{number}]")
    elif ours != theirs or repr(ours) != repr(theirs):
        yield path, ours, theirs


@contextlib.contextmanager
def started(program):
    """A sqld with an empty database, which ends with this script, however that ends."""
    with socket.socket() as free, tempfile.TemporaryDirectory() as folder:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        free.close()
        die_with_us = lambda: ctypes.CDLL(None).prctl(1, signal.SIGKILL)
        command = [program, "--no-welcome", "--db-path", f"{folder}/db", "--http-listen-addr", address]
        with open(f"{folder}/log", "w") as log:
            process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, preexec_fn=die_with_us)
        try:
            server = Server(f"http://{address}")
            deadline = time.monotonic() + 60
            while server.ask("GET", "/health", None)[0] != 200:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"sqld does not answer: {open(f'{folder}/log').read()}")
                time.sleep(0.05)
            yield server
        finally:
            process.kill()
            process.wait()


def main():
    with started(sys.argv[2]) as sqld:
        compare(Server(sys.argv[1]), sqld)


def compare(node, sqld):
    used = set()
    unexplained = requests = 0
    for case in all_cases():
        for number, step in enumerate(case.steps):
            requests += 1
            ours, theirs = node.ask(*step), sqld.ask(*step)
            where = case.name if number == 0 else f"{case.name}, step {number + 1}"
            names = {"status": 0, "type": 1, "body": 2}
            for part, index in names.items():
                for path, our, their in differences(ours[index], theirs[index], part):
                    row = explanation(where, path, our, their)
                    if row is not None:
                        used.add(row)
                        continue
                    unexplained += 1
                    print(f"{where}\n  {path}\n    here: {short(our)}\n    sqld: {short(their)}")
        version = 3 if case.steps[-1][1].startswith("/v3") else 2
        node.close(version, first(ours[2]))
        sqld.close(version, first(theirs[2]))
    for number, row in enumerate(TABLE):
        if number not in used:
            unexplained += 1
            print(f"not seen any more: {row}")
    print(f"{requests} requests, {len(TABLE)} explained kinds of differences, {unexplained} others")
    if unexplained:
        raise SystemExit(1)
    print("ok")


def first(body):
    """What has the baton: of a cursor, the first line."""
    return body[0] if isinstance(body, list) and body else body


def explanation(where, path, ours, theirs):
    for number, row in enumerate(TABLE):
        pairs = zip(row[:4], (where, path, json.dumps(ours, ensure_ascii=False), json.dumps(theirs, ensure_ascii=False)))
        if all(re.fullmatch(pattern, text, re.DOTALL) for pattern, text in pairs):
            return number
    return None


def short(value):
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) < 300 else text[:300] + "…"


main()
