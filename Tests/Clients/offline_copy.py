"""Works with one offline copy, as lines say, and prints a line of JSON for each: its rows, or its error.

usage: offline_copy.py URL MODULE PATH
`sync` pushes or pulls, `die` ends the process as kill -9 does, `info` keeps what the library knows of
the node, `forget` brings that back; all else is SQL.
"""

import asyncio
import importlib
import json
import os
import shutil
import signal
import sys

URL, MODULE, PATH = sys.argv[1].rstrip("/"), sys.argv[2], sys.argv[3]


class Plain:
    def __init__(self):
        self.db = importlib.import_module(MODULE).connect(
            PATH, sync_url=URL, auth_token="", offline=True)

    def run(self, sql):
        rows = self.db.execute(sql).fetchall() or []
        self.db.commit()
        return [list(row) for row in rows or []]

    def sync(self):
        self.db.sync()


class Asynchronous:
    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self.db = self.loop.run_until_complete(self.connect())

    async def connect(self):
        import aiolibsql

        db = aiolibsql.connect(PATH, sync_url=URL, auth_token="", offline=True)
        return await db if hasattr(db, "__await__") else db

    def run(self, sql):
        async def run():
            cursor = await self.db.execute(sql)
            rows = cursor.fetchall()
            rows = await rows if hasattr(rows, "__await__") else rows
            await self.db.commit()
            return [list(row) for row in rows or []]

        return self.loop.run_until_complete(run())

    def sync(self):
        async def run():
            result = self.db.sync()
            return await result if hasattr(result, "__await__") else result

        self.loop.run_until_complete(run())


def main():
    client = None
    for line in sys.stdin:
        line = line.strip()
        answer = []
        try:
            if client is None:
                client = Asynchronous() if MODULE == "aiolibsql" else Plain()
            if line == "sync":
                client.sync()
            elif line == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            elif line == "info":
                shutil.copy(PATH + "-info", PATH + "-kept")
            elif line == "forget":
                shutil.copy(PATH + "-kept", PATH + "-info")
            else:
                answer = client.run(line)
        except BaseException as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)
    os._exit(0)


main()
