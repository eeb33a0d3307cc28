"""The requests that both servers get: a list of cases, each a name and steps that follow one another.

A step is a method, a path and a body. In bodies, `BATON` stands for the baton of the last answer, and `OLD` for the one
before it. Cases change the database, and so come in their order."""

import json


class Case:
    def __init__(self, name, *steps):
        self.name = name
        self.steps = steps


def post(path, body):
    return ("POST", path, body if isinstance(body, str) else json.dumps(body))


def get(path):
    return ("GET", path, None)


def pipe(*requests, version=2, baton=None):
    return post(f"/v{version}/pipeline", {"baton": baton, "requests": list(requests)})


def stmt(sql, *args, **more):
    found = {"sql": sql, **more}
    if args:
        found["args"] = [value(argument) for argument in args]
    return found


def value(given):
    if given is None:
        return {"type": "null"}
    if isinstance(given, dict):
        return given
    if isinstance(given, int):
        return {"type": "integer", "value": str(given)}
    if isinstance(given, float):
        return {"type": "float", "value": given}
    return {"type": "text", "value": given}


def execute(sql, *args, **more):
    return {"type": "execute", "stmt": stmt(sql, *args, **more)}


def batch(*steps, **more):
    return {"type": "batch", "batch": {"steps": [step(s) for s in steps], **more}}


def step(given):
    if isinstance(given, str):
        return {"stmt": {"sql": given}}
    sql, condition = given
    return {"stmt": {"sql": sql}, "condition": condition}


def ok(number):
    return {"type": "ok", "step": number}


def error(number):
    return {"type": "error", "step": number}


def no(condition):
    return {"type": "not", "cond": condition}


CLOSE = {"type": "close"}
AUTOCOMMIT = {"type": "get_autocommit"}


def both(name, *requests):
    """The same in both versions."""
    return [Case(f"v{version} {name}", pipe(*requests, version=version)) for version in (2, 3)]


def setup():
    tables = """
        CREATE TABLE people(id INTEGER PRIMARY KEY, name TEXT NOT NULL, age INT CHECK (age > 0));
        CREATE TABLE pets(id INTEGER PRIMARY KEY, owner INT REFERENCES people(id), name VARCHAR(20));
        CREATE TABLE k(a UNIQUE, b REAL, c BLOB, d NUMERIC(10, 2));
        CREATE TABLE w(a TEXT PRIMARY KEY, b) WITHOUT ROWID;
        CREATE VIEW grown AS SELECT name FROM people WHERE age >= 18;
        CREATE TABLE log(what);
        CREATE TRIGGER noted AFTER INSERT ON people BEGIN INSERT INTO log VALUES (new.name); END;
    """
    rows = """
        INSERT INTO people VALUES (1, 'Ada', 36), (2, 'Grace', 85), (3, 'Edsger', 17);
        INSERT INTO pets VALUES (1, 1, 'Charles');
        INSERT INTO w VALUES ('x', 1), ('y', 2);
    """
    yield Case("tables", pipe({"type": "sequence", "sql": tables}))
    yield Case("rows", pipe({"type": "sequence", "sql": rows}))


def values_out():
    expressions = """1|1.0|-1|0|9223372036854775807|-9223372036854775808|0.1|1.0/3|1e100|1e-300|1e999|-1e999|0.0|-0.0
        |1e15|1e16|123456789.125|5e-324|1.7976931348623157e308|'x'|''|'Grüße, 世界'|'it''s'|'a"b\\c'|char(10)|char(0)
        |char(128512)|char(55296)|x''|x'00'|x'0001'|x'000102'|x'ff00ff'|zeroblob(5)|NULL|true|CAST(x'ff' AS TEXT)
        |CAST('12' AS INTEGER)|'12' + 1|1 = 1|length('ü')|json_array(1, 2)|typeof(1.0)|round(2.5)|abs(-3)|random() = 1
        |hex('ü')|unicode('ü')|quote(x'01')|printf('%.3f', 1.5)|substr('hello', 2, 3)|coalesce(NULL, 'a')|date(0)
        |strftime('%Y', 0)|total(1)|group_concat('a')|instr('abc', 'c')|max(1, 2)|nullif(1, 1)|iif(1, 'a', 'b')|1 << 40
        |sign(-2)|ltrim('  a')|upper('ü')|like('a%', 'abc')|glob('a*', 'abc')|changes() >= 0|total_changes() >= 0"""
    for expression in expressions.split("|"):
        expression = expression.strip()
        yield Case(f"out {expression}", pipe(execute(f"SELECT {expression} AS v, typeof({expression})")))


def values_in():
    given = [0, 1, -1, 2**31, 2**53, 2**53 + 1, 2**63 - 1, -(2**63), 0.5, -0.0, 1e308, 5e-324, 1.0, 1e22]
    given += ["", "x", "Grüße", "a\0b", "\U0001f600", "'\"\\\n", "x" * 3000, None]
    for number, argument in enumerate(given):
        yield Case(f"in {number} {str(argument)[:12]!r}", pipe(execute("SELECT ?, typeof(?1)", argument)))
    texts = ["9223372036854775808", "-9223372036854775809", "abc", "1.5", "", " 1", "1 ", "+1", "01", "-0", "0x10", "1e3"]
    for text in texts:
        argument = {"type": "integer", "value": text}
        yield Case(f"integer text {text!r}", pipe(execute("SELECT ?", argument)))
    raw = [
        '{"type":"integer","value":7}', '{"type":"integer","value":null}', '{"type":"integer"}',
        '{"type":"float","value":7}', '{"type":"float","value":"7.5"}', '{"type":"float","value":null}',
        '{"type":"float","value":1e400}', '{"type":"float"}', '{"type":"text","value":7}', '{"type":"text"}',
        '{"type":"text","value":null}', '{"type":"text","value":"\\ud800"}', '{"type":"blob","base64":""}',
        '{"type":"blob","base64":"AA"}', '{"type":"blob","base64":"AA=="}', '{"type":"blob","base64":"AAE"}',
        '{"type":"blob","base64":"AAE="}', '{"type":"blob","base64":"AAEC"}', '{"type":"blob","base64":"A"}',
        '{"type":"blob","base64":"AB"}', '{"type":"blob","base64":"A A="}', '{"type":"blob","base64":"_-8"}',
        '{"type":"blob","base64":"/+8="}', '{"type":"blob","base64":"!!!!"}', '{"type":"blob","base64":"AA="}',
        '{"type":"blob","value":"AA"}', '{"type":"null","value":1}', '{"type":"real","value":1.5}',
        '{"type":"INTEGER","value":"1"}', '{"type":1}', '{"value":"1"}', '{}', 'null', '7', '"x"', '[]', 'true',
        '{"type":"text","value":"a","extra":1}', '{"value":"a","type":"text"}',
    ]
    for text in raw:
        body = '{"requests":[{"type":"execute","stmt":{"sql":"SELECT ?, typeof(?1)","args":[%s]}}]}' % text
        yield Case(f"value {text}", post("/v2/pipeline", body))


def statements():
    for sql in [
        "SELECT 1", "SELECT 1;", "SELECT 1 ; ", " \n SELECT 1 -- end", "/* a */ SELECT 1", "-- only this", "", " ", ";",
        "SELECT 1; SELECT 2", "SELECT 1; -- no more", "SELEC 1", "SELECT", "SELECT (", "SELECT 'a", "SELECT * FROM nope",
        "SELECT nope", "SELECT nope()", "SELECT abs()", "SELECT 1 AS a, 2 AS a", "SELECT 1, 'x', NULL",
        "SELECT id, name, age FROM people ORDER BY id", "SELECT count(*), max(age) FROM people",
        "SELECT p.name, q.name FROM people p LEFT JOIN pets q ON q.owner = p.id ORDER BY p.id", "SELECT * FROM grown",
        "SELECT * FROM people WHERE 0", "SELECT a, b, c, d FROM k", "SELECT rowid FROM people LIMIT 1", "VALUES (1, 2), (3, 4)",
        "WITH a(n) AS (VALUES (1), (2)) SELECT n FROM a", "SELECT * FROM json_each('[1, 2]') LIMIT 0",
        "SELECT name FROM pragma_table_info('people')", "PRAGMA table_info(people)", "PRAGMA foreign_keys",
        "PRAGMA user_version", "PRAGMA nonsense", "PRAGMA encoding", "PRAGMA page_size", "PRAGMA index_list(k)",
        "EXPLAIN QUERY PLAN SELECT 1", "SELECT * FROM sqlite_schema LIMIT 0", "SELECT type, name FROM sqlite_master WHERE name = 'k'",
        "INSERT INTO people(name, age) VALUES ('Barbara', 50)", "INSERT INTO people(name, age) VALUES ('a', 1), ('b', 2)",
        "INSERT INTO people VALUES (9000, 'far', 1)", "INSERT INTO people(name, age) SELECT 'copy', 3 WHERE 0",
        "UPDATE people SET age = age + 1 WHERE id < 3", "UPDATE people SET age = 1 WHERE 0",
        "INSERT INTO people(name) VALUES ('r') RETURNING id, name", "UPDATE people SET age = 5 WHERE name = 'r' RETURNING age",
        "DELETE FROM people WHERE name = 'r' RETURNING name", "DELETE FROM people WHERE id = 9000", "DELETE FROM people WHERE 0",
        "REPLACE INTO people VALUES (2, 'Grace H', 85)", "INSERT INTO w VALUES ('z', 3)",
        "INSERT OR IGNORE INTO w VALUES ('z', 4)", "INSERT INTO w VALUES ('z', 5) ON CONFLICT DO UPDATE SET b = 6",
        "SELECT b FROM w WHERE a = 'z'", "INSERT INTO k(a) VALUES ('u')", "INSERT INTO k(a) VALUES ('u')",
        "INSERT INTO people(name) VALUES (NULL)", "INSERT INTO people(name, age) VALUES ('n', -1)",
        "INSERT INTO people(id, name) VALUES (1, 'again')", "INSERT INTO pets(owner) VALUES (777)",
        "INSERT INTO people(id, name) VALUES ('text', 'x')", "INSERT INTO nope VALUES (1)", "INSERT INTO people VALUES (1)",
        "UPDATE nope SET a = 1", "DELETE FROM nope", "INSERT INTO grown VALUES (1)", "SELECT RAISE(ABORT, 'x')",
        "CREATE TABLE made(a)", "CREATE TABLE made(a)", "CREATE TABLE IF NOT EXISTS made(a)", "ALTER TABLE made ADD COLUMN b",
        "CREATE INDEX made_a ON made(a)", "DROP INDEX made_a", "ALTER TABLE made RENAME TO remade", "DROP TABLE remade",
        "DROP TABLE remade", "DROP TABLE IF EXISTS remade", "CREATE TABLE sqlite_mine(a)", "DROP VIEW people",
        "ANALYZE", "REINDEX", "VACUUM", "ATTACH 'x.db' AS x", "DETACH x", "SELECT load_extension('x')",
        "VACUUM INTO 'x.db'", "PRAGMA journal_mode = DELETE", "PRAGMA writable_schema = ON", "SELECT json('{')",
        "SELECT * FROM people WHERE name LIKE 'A%' ESCAPE 'xx'", "SELECT 1 LIMIT 'a'", "SELECT sum(1) OVER ()",
        "COMMIT", "ROLLBACK", "END", "RELEASE a", "ROLLBACK TO a",
    ]:
        yield Case(f"sql {sql}", pipe(execute(sql), CLOSE))


def arguments():
    named = lambda *pairs: [{"name": n, "value": value(v)} for n, v in pairs]
    for name, sql, args, more in [
        ("none for one", "SELECT ?", [], {}), ("one for none", "SELECT 1", [1], {}), ("two for one", "SELECT ?", [1, 2], {}),
        ("one for two", "SELECT ?, ?", [1], {}), ("numbered", "SELECT ?2, ?1", [1, 2], {}), ("gap", "SELECT ?5", [1], {}),
        ("gap filled", "SELECT ?3", [1, 2, 3], {}), ("twice", "SELECT ?1, ?1", [7], {}),
    ]:
        yield Case(f"args {name}", pipe(execute(sql, *args, **more)))
    for name, sql, pairs in [
        ("colon", "SELECT :a", [(":a", 1)]), ("at", "SELECT @a", [("@a", 1)]), ("dollar", "SELECT $a", [("$a", 1)]),
        ("bare", "SELECT :a", [("a", 1)]), ("bare at", "SELECT @a", [("a", 1)]), ("bare dollar", "SELECT $a", [("a", 1)]),
        ("two", "SELECT :a, :b", [("b", 2), ("a", 1)]), ("same twice", "SELECT :a, :a", [("a", 1)]),
        ("unknown", "SELECT :a", [("b", 1)]), ("unknown besides", "SELECT :a", [("a", 1), ("b", 2)]),
        ("missing", "SELECT :a, :b", [("a", 1)]), ("other prefix", "SELECT :a", [("@a", 1)]),
        ("given twice", "SELECT :a", [("a", 1), ("a", 2)]), ("for positional", "SELECT ?", [("a", 1)]),
        ("number", "SELECT ?1", [("1", 5)]), ("number with mark", "SELECT ?1", [("?1", 5)]), ("empty", "SELECT :a", [("", 1)]),
    ]:
        yield Case(f"named {name}", pipe(execute(sql, named_args=named(*pairs))))
    yield Case("positional for named", pipe(execute("SELECT :a, :b", 1, 2)))
    yield Case("both kinds", pipe(execute("SELECT ?, :a", 1, named_args=named(("a", 2)))))
    yield Case("want_rows", pipe(execute("SELECT 1", want_rows=True)))
    yield Case("want_rows false", pipe(execute("SELECT 1", want_rows=False)))
    yield Case("want_rows null", pipe(execute("SELECT 1", want_rows=None)))
    for index in [None, 0, "0", 1, "1", "x", -1, 1.5, {}]:
        yield Case(f"replication_index {index!r}", pipe(execute("SELECT 1", replication_index=index)))


def batches():
    insert = "INSERT INTO log VALUES ('b')"
    wrong = "INSERT INTO people(name) VALUES (NULL)"
    yield from both("batch of none", batch())
    yield from both("batch", batch("SELECT 1", insert, "SELECT 2"))
    yield from both("batch with an error", batch("SELECT 1", wrong, "SELECT 2"))
    yield from both("batch unparsable", batch("SELECT 1", "SELEC 2", "SELECT 3"))
    yield from both("batch unknown table", batch("SELECT 1", "SELECT * FROM nope", "SELECT 3"))
    yield from both("batch two in one", batch("SELECT 1; SELECT 2", "SELECT 3"))
    yield from both("batch of an empty one", batch("SELECT 1", "", "SELECT 3"))
    conditions = {
        "ok": ok(0), "error": error(0), "not ok": no(ok(0)), "not error": no(error(0)), "and of none": {"type": "and", "conds": []},
        "or of none": {"type": "or", "conds": []}, "and": {"type": "and", "conds": [ok(0), error(1)]},
        "or": {"type": "or", "conds": [error(0), ok(1)]}, "nested": no({"type": "and", "conds": [ok(0), no(error(1))]}),
        "null": None,
    }
    for name, condition in conditions.items():
        yield from both(f"condition {name}", batch("SELECT 1", wrong, ("SELECT 3", condition)))
    yield from both("skipped steps", batch(wrong, ("SELECT 2", ok(0)), ("SELECT 3", ok(1)), ("SELECT 4", error(1)), ("SELECT 5", no(ok(1)))))
    for name, condition in {
        "itself": ok(2), "later": ok(9), "negative": ok(-1), "text": {"type": "ok", "step": "0"}, "no step": {"type": "ok"},
        "unknown": {"type": "maybe"}, "not of none": {"type": "not"}, "and of null": {"type": "and", "conds": None},
        "fraction": {"type": "ok", "step": 0.5}, "empty": {},
    }.items():
        yield Case(f"bad condition {name}", pipe(batch("SELECT 1", "SELECT 2", ("SELECT 3", condition))))
    auto = {"type": "is_autocommit"}
    yield Case("v2 is_autocommit", pipe(batch("SELECT 1", ("SELECT 2", auto))))
    yield Case("v3 is_autocommit", pipe(batch(("SELECT 1", auto), "BEGIN", ("SELECT 2", auto), "COMMIT", ("SELECT 3", auto)), version=3))
    yield from both("transaction", batch("BEGIN", (insert, ok(0)), ("COMMIT", ok(1)), ("ROLLBACK", no(ok(2)))))
    yield from both("transaction that fails", batch("BEGIN", (insert, ok(0)), (wrong, ok(1)), ("COMMIT", ok(2)), ("ROLLBACK", no(ok(3)))))
    yield from both("what is left", execute("SELECT count(*) FROM log"))
    yield from both("left open", batch("BEGIN", insert), CLOSE)
    yield from both("rolled back by close", execute("SELECT count(*) FROM log"))
    yield from both("nested BEGIN", batch("BEGIN", "BEGIN", "ROLLBACK"))
    yield from both("savepoints", batch("SAVEPOINT a", insert, "SAVEPOINT b", insert, "ROLLBACK TO b", "RELEASE a", "SELECT count(*) FROM log"))
    yield from both("read-only transaction", batch("BEGIN", "SELECT count(*) FROM log", "COMMIT"))
    yield from both("immediate", batch("BEGIN IMMEDIATE", insert, "ROLLBACK"))
    yield Case("batch index", pipe(batch("SELECT 1", replication_index="1")))
    yield Case("batch index as a number", pipe(batch("SELECT 1", replication_index=1)))


def others():
    for sql in [
        "SELECT 1", "SELECT 1; SELECT 2", "INSERT INTO log VALUES ('s'); SELECT count(*) FROM log;", "", ";;", "-- nothing",
        "INSERT INTO log VALUES ('t'); INSERT INTO nope VALUES (1); INSERT INTO log VALUES ('u')",
        "INSERT INTO log VALUES ('t'); SELEC; INSERT INTO log VALUES ('u')",
        "INSERT INTO log VALUES ('t'); INSERT INTO people(name) VALUES (NULL); INSERT INTO log VALUES ('u')",
        "BEGIN; INSERT INTO log VALUES ('v'); COMMIT", "BEGIN; INSERT INTO log VALUES ('v')", "SELECT ?",
        "CREATE TABLE sq(a); CREATE TRIGGER tq AFTER INSERT ON sq BEGIN SELECT 1; SELECT 2; END; INSERT INTO sq VALUES (1); DROP TABLE sq",
    ]:
        yield from both(f"sequence {sql}", {"type": "sequence", "sql": sql}, CLOSE)
        yield from both(f"after {sql}", execute("SELECT count(*), max(what) FROM log"))
        yield Case("clean", pipe({"type": "sequence", "sql": "DELETE FROM log"}, CLOSE))
    for sql in [
        "SELECT 1", "SELECT ?, :a, @b, $c, ?9", "SELECT id, name AS n, age + 1 FROM people", "SELECT 1; SELECT 2", "SELECT ?2",
        "INSERT INTO log VALUES (?)", "INSERT INTO log VALUES (1) RETURNING what", "BEGIN", "COMMIT", "PRAGMA user_version",
        "EXPLAIN SELECT 1", "EXPLAIN QUERY PLAN SELECT 1", "SELECT * FROM nope", "SELEC", "", "CREATE TABLE d(a)", "VACUUM",
        "SELECT a, b, c, d FROM k", "SELECT :a, :a", "PRAGMA user_version = 3", "SAVEPOINT a", "DELETE FROM log WHERE what = :w",
    ]:
        yield from both(f"describe {sql}", {"type": "describe", "sql": sql}, CLOSE)
    store = lambda number, sql="SELECT 7": {"type": "store_sql", "sql_id": number, "sql": sql}
    use = lambda number: {"type": "execute", "stmt": {"sql_id": number}}
    for name, requests in {
        "and use": [store(1), use(1), use(1)], "twice": [store(1), store(1)], "unknown": [use(5)], "negative": [store(-1), use(-1)],
        "closed": [store(1), {"type": "close_sql", "sql_id": 1}, use(1)], "close unknown": [{"type": "close_sql", "sql_id": 9}],
        "again after close": [store(1), {"type": "close_sql", "sql_id": 1}, store(1, "SELECT 8"), use(1)], "wrong SQL": [store(1, "SELEC"), use(1)],
        "large id": [store(2**31)], "text id": [store("1")], "no SQL": [{"type": "store_sql", "sql_id": 1}], "no id": [{"type": "store_sql", "sql": "a"}],
        "in a batch": [store(1), {"type": "batch", "batch": {"steps": [{"stmt": {"sql_id": 1}}]}}],
        "for a sequence": [store(1, "SELECT 1; SELECT 2"), {"type": "sequence", "sql_id": 1}], "to describe": [store(1), {"type": "describe", "sql_id": 1}],
        "both": [store(1), {"type": "execute", "stmt": {"sql": "SELECT 1", "sql_id": 1}}], "neither": [{"type": "execute", "stmt": {}}],
        "many": [store(n) for n in range(151)], "large": [store(1, "SELECT '" + "x" * 262200 + "'")],
    }.items():
        yield from both(f"store {name}", *requests, CLOSE)
    yield from both("autocommit", AUTOCOMMIT)
    yield Case("v3 autocommit inside", pipe(execute("BEGIN"), AUTOCOMMIT, execute("ROLLBACK"), AUTOCOMMIT, version=3))
    yield from both("errors stop nothing", execute("SELECT nope"), execute("SELECT 1"), {"type": "sequence", "sql": "SELEC"}, execute("SELECT 2"))
    yield from both("nothing")
    yield from both("close alone", CLOSE)
    yield from both("after close", CLOSE, execute("SELECT 1"))
    yield from both("close twice", CLOSE, CLOSE)
    yield Case("temporary table", pipe(execute("CREATE TEMP TABLE x(a)"), execute("INSERT INTO x VALUES (1)"), execute("SELECT * FROM x"), CLOSE))
    yield Case("temporary table is gone", pipe(execute("SELECT * FROM x"), CLOSE))
    yield Case("last_insert_rowid", pipe(execute("INSERT INTO people(id, name) VALUES (500, 'l')"), execute("SELECT last_insert_rowid(), changes()"), CLOSE))
    yield Case("foreign keys off", pipe(execute("PRAGMA foreign_keys = OFF"), execute("PRAGMA foreign_keys"), execute("INSERT INTO pets(owner) VALUES (778)"), CLOSE))


def batons():
    one = execute("SELECT 1")
    for version in (2, 3):
        name = f"v{version} baton"
        yield Case(f"{name} goes on", pipe(one, version=version), pipe(one, version=version, baton="BATON"), pipe(CLOSE, version=version, baton="BATON"))
        yield Case(f"{name} used twice", pipe(one, version=version), pipe(one, version=version, baton="BATON"), pipe(one, version=version, baton="OLD"))
        yield Case(f"{name} after close", pipe(one, version=version), pipe(CLOSE, version=version, baton="BATON"), pipe(one, version=version, baton="OLD"))
        yield Case(f"{name} transaction", pipe(execute("BEGIN"), execute("INSERT INTO log VALUES ('baton')"), version=version),
                   pipe(execute("SELECT count(*) FROM log WHERE what = 'baton'"), version=version, baton="BATON"),
                   pipe(execute("COMMIT"), CLOSE, version=version, baton="BATON"), pipe(execute("SELECT count(*) FROM log"), version=version))
        yield Case(f"{name} stored text", pipe({"type": "store_sql", "sql_id": 3, "sql": "SELECT 3"}, version=version),
                   pipe({"type": "execute", "stmt": {"sql_id": 3}}, version=version, baton="BATON"), pipe(CLOSE, version=version, baton="BATON"))
        yield Case(f"{name} after a bad request", pipe(one, version=version), pipe({"type": "nope"}, version=version, baton="BATON"))
        for wrong in ["", "x", "AAAA", "!", "é"]:
            yield Case(f"{name} {wrong!r}", pipe(one, version=version, baton=wrong))
        for wrong in [7, {}, [], True]:
            yield Case(f"{name} {wrong!r}", pipe(one, version=version, baton=wrong))
    yield Case("baton of v2 in v3", pipe(one), pipe(one, version=3, baton="BATON"), pipe(CLOSE, version=3, baton="BATON"))
    yield Case("baton with a cursor", pipe(one, version=3), post("/v3/cursor", {"baton": "BATON", "batch": {"steps": [step("SELECT 2")]}}),
               pipe(CLOSE, version=3, baton="BATON"))


def bodies():
    for body in [
        "", " ", "{", "[]", "null", "7", '"x"', "{}", '{"requests":null}', '{"requests":{}}', '{"requests":[]}', '{"requests":[null]}',
        '{"requests":[7]}', '{"requests":[{}]}', '{"requests":[{"type":"nope"}]}', '{"requests":[{"type":7}]}', '{"requests":[{"type":"execute"}]}',
        '{"requests":[{"type":"execute","stmt":null}]}', '{"requests":[{"type":"execute","stmt":{"sql":7}}]}',
        '{"requests":[{"type":"execute","stmt":{"sql":null}}]}', '{"requests":[{"type":"execute","stmt":{"sql":"SELECT 1","args":null}}]}',
        '{"requests":[{"type":"execute","stmt":{"sql":"SELECT 1","args":{}}}]}', '{"requests":[{"type":"execute","stmt":{"sql":"SELECT 1","named_args":7}}]}',
        '{"requests":[{"type":"execute","stmt":{"sql":"SELECT ?","args":[[]]}}]}', '{"requests":[{"type":"batch"}]}', '{"requests":[{"type":"batch","batch":{}}]}',
        '{"requests":[{"type":"batch","batch":{"steps":[{}]}}]}', '{"requests":[{"type":"sequence"}]}', '{"requests":[{"type":"describe"}]}',
        '{"requests":[{"type":"close_sql"}]}', '{"requests":[{"type":"open_stream","stream_id":1}]}', '{"requests":[{"type":"get_autocommit","extra":1}]}',
        '{"requests":[],"requests":[]}', '{"requests":[]} x', '{"requests":[],}', "{'requests':[]}", '{"baton":null,"requests":[],"more":1}',
        '\ufeff{"requests":[]}', '{"requests":[{"type":"execute","stmt":{"sql":"SELECT \'\\u0000\'"}}]}', '{"requests":[{"type":"execute","stmt":{"sql":"SELECT 1\\u0000"}}]}',
        '{"requests":[{"type":"execute","stmt":{"sql":"SELECT 1","want_rows":"yes"}}]}', "[" * 200, '{"requests":' + "[" * 100 + "]" * 100 + "}",
    ]:
        yield Case(f"body {body[:60]}", post("/v2/pipeline", body), )
        yield Case(f"v3 body {body[:60]}", post("/v3/pipeline", body), )


def first_version():
    for name, body in {
        "read": {"stmt": stmt("SELECT 1 AS a")}, "write": {"stmt": stmt("INSERT INTO log VALUES ('one')")}, "error": {"stmt": stmt("SELECT nope")},
        "syntax": {"stmt": stmt("SELEC")}, "constraint": {"stmt": stmt("INSERT INTO people(name) VALUES (NULL)")}, "nothing": {"stmt": stmt("")},
        "two": {"stmt": stmt("SELECT 1; SELECT 2")}, "arguments": {"stmt": stmt("SELECT ?, ?", 1, "x")}, "too few": {"stmt": stmt("SELECT ?")},
        "both kinds": {"stmt": stmt("SELECT ?, :a", 1, named_args=[{"name": "a", "value": value(1)}])}, "no table": {"stmt": stmt("SELECT * FROM nope")},
        "not allowed": {"stmt": stmt("ATTACH 'x' AS y")}, "read-only pragma": {"stmt": stmt("PRAGMA query_only")},
        "BEGIN": {"stmt": stmt("BEGIN")}, "missing": {}, "null": {"stmt": None}, "text": {"stmt": "SELECT 1"}, "stored": {"stmt": {"sql_id": 1}},
        "not UTF-8": {"stmt": stmt("SELECT CAST(x'ff' AS TEXT)")}, "infinity": {"stmt": stmt("SELECT 1e999")},
    }.items():
        yield Case(f"v1 execute {name}", post("/v1/execute", body))
    for name, body in {
        "reads": [step("SELECT 1"), step("SELECT 2")], "error": [step("SELECT 1"), step("SELECT nope"), step("SELECT 3")], "none": [],
        "unparsable": [step("SELECT 1"), step("SELEC")], "transaction": [step("BEGIN"), step(("INSERT INTO log VALUES ('v1')", ok(0))), step(("COMMIT", ok(1))), step(("ROLLBACK", no(ok(2))))],
        "open": [step("BEGIN"), step("INSERT INTO log VALUES ('open')")], "bad reference": [step(("SELECT 1", ok(4)))],
    }.items():
        yield Case(f"v1 batch {name}", post("/v1/batch", {"batch": {"steps": body}}))
    yield Case("v1 batch missing", post("/v1/batch", {}))
    yield Case("v1 bad JSON", post("/v1/execute", "{"))
    yield Case("v1 what is left", post("/v1/execute", {"stmt": stmt("SELECT count(*) FROM log WHERE what IN ('v1', 'open')")}))
    for name, body in {
        "texts": {"statements": ["SELECT 1 AS a", "SELECT 'x'"]}, "objects": {"statements": [{"q": "SELECT ?", "params": [7]}]},
        "named": {"statements": [{"q": "SELECT :a", "params": {"a": 1}}]}, "named with a colon": {"statements": [{"q": "SELECT :a", "params": {":a": 1}}]},
        "values": {"statements": [{"q": "SELECT ?, ?, ?, ?, ?", "params": [1, 1.5, "x", None, {"base64": "AAE"}]}]},
        "booleans": {"statements": [{"q": "SELECT ?, ?", "params": [True, False]}]}, "blob out": {"statements": ["SELECT x'0001'"]},
        "large integer": {"statements": ["SELECT 9223372036854775807"]}, "write": {"statements": ["INSERT INTO log VALUES ('legacy')"]},
        "error in the middle": {"statements": ["INSERT INTO log VALUES ('lost')", "SELECT nope", "SELECT 1"]}, "what is left": {"statements": ["SELECT count(*) FROM log WHERE what = 'lost'"]},
        "syntax": {"statements": ["SELEC 1"]}, "BEGIN": {"statements": ["BEGIN"]}, "none": {"statements": []}, "missing": {}, "null": {"statements": None},
        "number": {"statements": [7]}, "no q": {"statements": [{"params": []}]}, "array value": {"statements": [{"q": "SELECT ?", "params": [[1]]}]},
        "too few": {"statements": [{"q": "SELECT ?"}]}, "rows": {"statements": ["SELECT id, name FROM people ORDER BY id LIMIT 2"]}, "infinity": {"statements": ["SELECT 1e999"]},
        "two in one": {"statements": ["SELECT 1; SELECT 2"]}, "nothing": {"statements": [""]},
    }.items():
        yield Case(f"legacy {name}", post("/", body))
    yield Case("legacy bad JSON", post("/", "{"))
    yield Case("clean", pipe({"type": "sequence", "sql": "DELETE FROM log"}, CLOSE))


def cursors():
    for name, steps in {
        "rows": [step("SELECT id, name FROM people WHERE id < 4 ORDER BY id")], "none": [], "two": [step("SELECT 1"), step("SELECT 2")],
        "write": [step("INSERT INTO log VALUES ('cursor') RETURNING what")], "error": [step("SELECT 1"), step("SELECT nope"), step("SELECT 3")],
        "skipped": [step("SELECT nope"), step(("SELECT 2", ok(0))), step(("SELECT 3", error(0)))], "unparsable": [step("SELECT 1"), step("SELEC")],
        "constraint": [step("INSERT INTO people(name) VALUES (NULL)")], "transaction": [step("BEGIN"), step("INSERT INTO log VALUES ('c')"), step("ROLLBACK")],
        "no rows": [step("SELECT 1 WHERE 0")], "is_autocommit": [step("BEGIN"), step(("SELECT 1", {"type": "is_autocommit"})), step("COMMIT"), step(("SELECT 2", {"type": "is_autocommit"}))],
        "values": [step("SELECT 1, 1.5, 'x', x'00', NULL, 9223372036854775807")], "bad reference": [step(("SELECT 1", ok(3)))],
    }.items():
        yield Case(f"cursor {name}", post("/v3/cursor", {"baton": None, "batch": {"steps": steps}}))
    for body in ["{", "{}", '{"batch":null}', '{"batch":{"steps":7}}', '{"baton":"x","batch":{"steps":[]}}']:
        yield Case(f"cursor body {body}", post("/v3/cursor", body))


def routes():
    for path in ["/", "/v1", "/v2", "/v2/", "/v3", "/v3-protobuf", "/health", "/version", "/nope", "/v2/pipeline", "/v3/pipeline", "/v3/cursor", "/v1/execute", "/v2/pipeline/x", "//v2"]:
        yield Case(f"GET {path}", get(path))
    for path in ["/v2", "/v3", "/health", "/version", "/nope", "/dump", "/v1", "/v2/cursor"]:
        yield Case(f"POST {path}", post(path, "{}"))
    for method in ["OPTIONS", "PUT", "DELETE", "HEAD"]:
        yield Case(f"{method} /v2/pipeline", (method, "/v2/pipeline", None))
        yield Case(f"{method} /v2", (method, "/v2", None))
    yield Case("dump", get("/dump"))


def all_cases():
    for part in (setup, values_out, values_in, statements, arguments, batches, others, batons, bodies, first_version, cursors, routes):
        yield from part()
