"""Local copies of a database, as `libsql`, `libsql_experimental` and `aiolibsql` keep them."""

import asyncio
import importlib
import inspect


class Plain:
    def __init__(self, module, path, url, **options):
        self.db = importlib.import_module(module).connect(
            path, sync_url=url, auth_token="", **options)

    def write(self, sql):
        self.db.execute(sql)
        self.db.commit()

    def run(self, sql):
        rows = self.db.execute(sql).fetchall()
        self.db.commit()
        return [list(row) for row in rows or []]

    def sync(self):
        self.db.sync()


class Asynchronous:
    """The same on an event loop; what can be awaited differs between versions of the package."""

    def __init__(self, module, path, url, **options):
        self.loop = asyncio.new_event_loop()
        self.db = self.wait(lambda: importlib.import_module(module).connect(
            path, sync_url=url, auth_token="", **options))

    def wait(self, call):
        async def result():
            value = call()
            return await value if inspect.isawaitable(value) else value

        return self.loop.run_until_complete(result())

    def write(self, sql):
        self.wait(lambda: self.db.execute(sql))
        self.wait(self.db.commit)

    def run(self, sql):
        cursor = self.wait(lambda: self.db.execute(sql))
        rows = self.wait(cursor.fetchall)
        self.wait(self.db.commit)
        return [list(row) for row in rows or []]

    def sync(self):
        self.wait(self.db.sync)


def connect(module, path, url, **options):
    kind = Asynchronous if module == "aiolibsql" else Plain
    return kind(module, path, url, **options)
