"""Where a node answers otherwise than sqld 0.24.32, and why.

A row: the cases, the place in the answer, our value and sqld's (as JSON), and the reason. The first four are regular
expressions that must match as a whole."""

ANY = ".*"
MISSING = '"\\(missing\\)"'
JSON_ERROR = '"Cannot deserialize client message from JSON: .*"'
# The answer as a whole is of another kind: text or JSON, and what is in it.
WHOLE = "(status|type|body(\\.(baton|base_url|results|error))?)"

TABLE = [
    # Words.
    (ANY, "body", JSON_ERROR, JSON_ERROR, "each has its own words for what is wrong with a JSON text"),
    (ANY, ".*extended_code", ANY, MISSING, "we add SQLite's extended code, as Turso does"),
    (ANY, ".*message", '"SQL string could not be parsed: .*"', '"SQL string could not be parsed: .*"', "SQLite's words; sqld has a parser of its own"),
    (ANY, ".*message", '"Arguments do not match SQL parameters: .*"', '"Arguments do not match SQL parameters: .*"', "our words say how many there are"),
    ("(v. )?(bad condition negative|close.*)", "body", ANY, JSON_ERROR, "a step before the first is a reference that is not valid"),
    ("v. after close", "body", '"nothing can come after the request `close`"', '"Stream for this baton was closed"', "what comes after `close` was sent too much"),
    ("legacy .*", "body", JSON_ERROR, '"Failed to (deserialize|parse) .*"', "the same words for all requests"),
    ("v. store many", ".*message", '".*stores 150 SQL.*"', '".*stores 50 SQL.*"', "likewise"),
    ("v. store large", ".*message", '"The stored SQL texts may have 262144 bytes together"', '"The statement is too large to be stored: .*"', "the limit is another"),
    ("legacy too few", "body\\[0\\].error", '"Arguments do not match.*"', '".*bind.*"', "our words"),
    ("legacy error in the middle", "body\\[1\\].error", '"SQL input error: no such column: nope.*"', '"no such column: nope.*"', "our words"),
    ("legacy two in one", "body.error", '"SQL string contains more than one statement"', '"Failed to parse query.*"', "our words"),
    # Statements that are allowed here and not there, or the other way round.
    ("sql (ANALYZE|VACUUM)|temporary table", "body.results\\[\\d\\]", '{"type": "ok".*', '.*(unsupported statement|no such table: x).*', "they work here"),
    ("sql (ATTACH|DETACH|VACUUM INTO|PRAGMA|SELECT load_ext).*", ".*error\\.(code|message)", ANY, ANY, "what leaves the database is refused as SQLITE_AUTH, not by a list of statements"),
    ("v1 execute not allowed", "status|body.(code|message)", ANY, ANY, "likewise"),
    # Counts.
    (ANY, ".*rows_read", "\\d+", "\\d+", "a stock SQLite tells less: docs/HTTP.md"),
    (ANY, ".*rows_written", "\\d+", "\\d+", "entries of indexes and of the schema are not counted"),
    ("sql INSERT.*", ".*last_insert_rowid", "null", '"0"', "an INSERT that makes no rowid has none"),
    # What cannot be said in JSON.
    ("out (char\\(55296\\)|CAST.*)|v1 execute not UTF-8", WHOLE + "|body.(code|message)", ANY, ANY, "a text that is not UTF-8 is an error of its statement, not of the request"),
    ("value .*float.*null.*", WHOLE, ANY, ANY, "null is what NaN and the infinities are in answers, so it is read, too"),
    # What is read more generously.
    ("(v3 )?body .*\"arg", WHOLE, ANY, ANY, "null arguments are none"),
    ("(v3 )?body .*\"requests\":\\[\\],\"requests\".*", WHOLE, ANY, ANY, "of a key that comes twice, one counts"),
    ("(v2|body) .*autocommit.*", WHOLE, ANY, ANY, "they are accepted in version 2: turso's push sends them there"),
    ("positional for named", "body.results\\[0\\]", '{"type": "ok".*', ".*ARGS_INVALID.*", "SQLite numbers all parameters"),
    ("want_rows false", ".*rows", "\\[\\]", ANY, "it is honoured, as HRANA_3_SPEC says"),
    ("v. store many", "body.results\\[\\d+\\]", '{"type": "ok".*', ".*SQL_STORE_TOO_MANY.*", "150 texts, as sqld has on WebSockets"),
    # Tokens.
    ("(replication_index|batch index).*", "body.results.*", ".*TOKEN_EPOCH.*|null", ANY, "a state that this database never had is not waited for, and not ignored"),
    # Errors.
    ("v. describe SELEC", ".*error.(code|message)", '"SQL_PARSE_ERROR"|"SQL string.*"', '"SQL_INPUT_ERROR"|"SQL input.*"', "wrong syntax has one code"),
    ("v. describe ", "body.results\\[0\\]", ".*SQL_NO_STATEMENT.*", ANY, "no statement has no description"),
    ("(v3 )?body .*SELECT.*u0000.*", ".*error.(code|message)", ANY, ANY, "where a NUL ends a text is for SQLite to say"),
    ("v1 execute both kinds", "status", "400", "501", "the client's fault"),
    ("v. sequence INSERT.*SELEC;.*", "body.results\\[0\\]", ".*SQL_PARSE_ERROR.*", '{"type": "ok".*', "a script with wrong syntax does nothing; sqld leaves out the statement"),
    ("v. after INSERT.*SELEC;.*", ".*rows.*", ANY, ANY, "likewise"),
    ("v1 execute stored", "body", '"SQL text 1 not found"', '"`sql_id` is only supported.*"', "there are no stored texts"),
    ("v1 execute read-only pragma", WHOLE + "|body.(code|message|result)", ANY, ANY, "it would tell how nodes read"),
    ("cursor unparsable", "body.(code|message|error)", ANY, ANY, "the error as everywhere else"),
    ("cursor constraint", "body", ANY, ANY, "a step that fails has no beginning"),
    # The requests of the first clients.
    ("legacy (missing|null|number|no q|array value)", "status", "400", "422", "one status for what cannot be read"),
    ("legacy syntax", "status|body.error", '400|"SQL string could not be parsed.*"', ANY, "wrong syntax is no fault of the server"),
    ("legacy nothing", "status|body", ANY, ANY, "no statement is an error"),
    ("legacy what is left", ".*rows.*", "0", "1", "one transaction: nothing stays of what failed"),
    # Routes.
    ("GET /v1", "body", '"Hello.*"', '"This is sqld.*"', "we are not sqld"),
    ("GET (/v2/|//v2)", WHOLE, ANY, ANY, "empty parts of a path do not count"),
    ("GET /v3", "body", '"Hello, this is HTTP API v3.*"', '"Hello, this is HTTP API v2.*"', "it is version 3"),
    ("GET /v3-protobuf", WHOLE, ANY, ANY, "protobuf is not spoken; clients then use JSON"),
    ("GET /", "status", "405", "404", "the path exists, for POST"),
    ("GET /(health|version)", "type|body", ANY, ANY, "we say more, and say its type"),
    ("dump", "type|body", ANY, ANY, "written like the shell's, and with the type of text"),
]
