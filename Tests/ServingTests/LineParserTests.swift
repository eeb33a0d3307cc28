// A line means one thing, or fails with one sentence that tells what is wrong with it.

import NIOCore
import Serving
import Store
import Testing
import WALShip

@Suite struct LineParserTests {
  private func statement(_ sql: String, _ arguments: Arguments = .none) -> LineRequest.Body {
    .statement(StatementRequest(sql: SQLText(sql), arguments: arguments))
  }

  @Test func sqlIsPassedOnAsItIs() throws {
    for sql in ["SELECT id, name FROM people WHERE id = 7", "SELEC 1", "BEGIN", "a; b;", "é"] {
      #expect(try parse(sql) == LineRequest(body: .script(SQLText(sql))))
    }
  }

  @Test func emptyLinesAndCommentsAskForNothing() throws {
    for line in ["", " ", "\t \r", "--", "-- SELECT 1", "  --x"] {
      #expect(try parse(line) == nil)
    }
    #expect(try parse("/* */")?.body == .script(SQLText("/* */")))
  }

  @Test func aNulInTheSQLIsRejected() {
    #expect(failure("SELECT 1\u{0}; DROP TABLE t")?.error.code == "PROTOCOL")
    #expect(failure(#"["SELECT 1\u0000"]"#)?.error.code == "PROTOCOL")
  }

  @Test func theShortFormIsSQLAndArguments() throws {
    #expect(
      try parse(#"["INSERT INTO people(name) VALUES (?)", "Grace"]"#)?.body
        == statement("INSERT INTO people(name) VALUES (?)", .positional([.text("Grace")])))
    #expect(try parse(#"  [ "SELECT \"a\"" ] "#)?.body == statement("SELECT \"a\""))
    #expect(
      try parse(#"["x",null,true,1,1.5,{"b64":"AQ"}]"#)?.body
        == statement("x", .positional([.null, .integer(1), .integer(1), .real(1.5), .blob([1])])))
  }

  @Test func sqlInJSONIsNotCopied() throws {
    let line = ByteBuffer(string: #"["SELECT 1"]"#)
    guard case .statement(let statement)? = try LineParser.parse(line)?.body else {
      Issue.record("a statement was expected")
      return
    }
    let start = line.withUnsafeReadableBytes { UInt(bitPattern: $0.baseAddress) }
    #expect(
      statement.sql.bytes.withUnsafeReadableBytes { UInt(bitPattern: $0.baseAddress) } == start + 2)
  }

  @Test func theContractsObjectIsRead() throws {
    let line =
      #"{"id":2,"sql":"SELECT name FROM people WHERE id = :id","args":{"id":8},"#
      + #""token":"e1.6f1c0b2a.3.1043","wait_ms":500,"on_lag":"error"}"#
    var options = RequestOptions()
    options.token = Token(database: 0x6f1c_0b2a, epoch: Epoch(3), txid: TXID(1043))
    options.waitMilliseconds = 500
    options.lagPolicy = .error
    #expect(
      try parse(line)
        == LineRequest(
          id: ByteBuffer(string: "2"),
          body: statement(
            "SELECT name FROM people WHERE id = :id",
            .named([.init(name: "id", value: .integer(8))])),
          options: options))
  }

  @Test func theContractsBatchIsRead() throws {
    let line =
      #"{"id":3,"batch":[{"sql":"UPDATE a SET n=n-1 WHERE id=?","args":[1]},"#
      + #"{"sql":"UPDATE a SET n=n+1 WHERE id=?","args":[2]}]}"#
    #expect(
      try parse(line)?.body
        == .batch([
          StatementRequest(
            sql: SQLText("UPDATE a SET n=n-1 WHERE id=?"), arguments: .positional([.integer(1)])),
          StatementRequest(
            sql: SQLText("UPDATE a SET n=n+1 WHERE id=?"), arguments: .positional([.integer(2)])),
        ]))
    #expect(try parse(#"{"batch":[]}"#)?.body == .batch([]))
  }

  @Test func everyOptionIsRead() throws {
    let request = try #require(
      try parse(
        #"{"timeout_ms":5,"db":"app","key":"k1","max_lag_ms":7,"read":"bounded","sql":"x"}"#))
    #expect(request.options.timeoutMilliseconds == 5)
    #expect(request.options.database == "app")
    #expect(request.options.idempotencyKey == "k1")
    #expect(request.options.read == .bounded(maxLagMilliseconds: 7))
    #expect(request.body == statement("x"))
    #expect(try parse(#"{"sql":"x","read":"latest"}"#)?.options.read == .latest)
    #expect(try parse(#"{"sql":"x","read":"primary"}"#)?.options.read == .primary)
    #expect(try parse(#"{"sql":"x","on_lag":"stale"}"#)?.options.lagPolicy == .stale)
    #expect(try parse(#"{"auth":"secret"}"#)?.body == .authenticate("secret"))
  }

  @Test func anyScalarIsAnIDAndComesBackVerbatim() throws {
    for id in [
      "1", "-0.50", "\"a\\u0041\"", "null", "true", "1e999", "\"\"", "9999999999999999999",
    ] {
      #expect(try parse("{\"id\": \(id) ,\"sql\":\"x\"}")?.id == ByteBuffer(string: id))
    }
    #expect(failure(#"{"id":[1],"sql":"x"}"#)?.error.code == "PROTOCOL")
    let long = String(repeating: "9", count: LineParser.idBytesMax + 1)
    #expect(failure("{\"id\":\(long)}")?.error.code == "PROTOCOL")
  }

  @Test func anObjectThatAsksForNothingSaysSo() throws {
    #expect(try parse("{}")?.body == LineRequest.Body.none)
    #expect(try parse(#"{"id":1}"#) == LineRequest(id: ByteBuffer(string: "1"), body: .none))
  }

  @Test func nullIsTheSameAsLeavingAKeyOut() throws {
    #expect(
      try parse(#"{"sql":"x","args":null,"token":null,"batch":null,"wait_ms":null}"#)
        == LineRequest(body: statement("x")))
  }

  @Test(arguments: [
    (#"{"tokne":"x"}"#, "there is no key \"tokne\", did you mean \"token\"?, at byte 2"),
    (#"{"zzzzzz":1}"#, "there is no key \"zzzzzz\", at byte 2"),
    (#"{"sql":1}"#, "\"sql\" must be a string, at byte 7"),
    (#"{"sql":"x","args":3}"#, "\"args\" must be an array or an object, at byte 18"),
    (#"{"wait_ms":-1}"#, "\"wait_ms\" must be an integer from 0 to 2147483647, at byte 11"),
    (#"{"wait_ms":1.5}"#, "\"wait_ms\" must be an integer from 0 to 2147483647, at byte 11"),
    (#"{"timeout_ms":0}"#, "\"timeout_ms\" must be an integer from 1 to 2147483647, at byte 14"),
    (
      #"{"on_lag":"wait"}"#,
      "\"on_lag\" must be one of \"forward\", \"error\", \"stale\", at byte 10"
    ),
    (#"{"sql":"x","sql":"y"}"#, "\"sql\" appears twice, at byte 12"),
    (#"{"sql":"x","batch":[]}"#, "only one of \"sql\", \"batch\" and \"auth\" can be in a request"),
    (#"{"args":[1]}"#, "\"args\" needs \"sql\""),
    (#"{"sql":"x","read":"bounded"}"#, "\"read\":\"bounded\" needs \"max_lag_ms\""),
    (#"{"sql":"x","max_lag_ms":1}"#, "\"max_lag_ms\" is only for \"read\":\"bounded\""),
    (#"{"batch":[{"args":[]}]}"#, "a statement of a batch needs \"sql\", at byte 10"),
    (#"{"sql":"x","args":{"a":1,"a":2}}"#, "the argument \"a\" appears twice, at byte 26"),
    (#"{"key":""}"#, "\"key\" must have 1 to 64 characters, at byte 7"),
    (#"[1]"#, "the first element must be the SQL text, a string, at byte 1"),
    (#"[]"#, "the first element must be the SQL text, a string, at byte 2"),
    (#"["x",[1]]"#, "an array cannot be a value, at byte 5"),
    (#"{"sql":"x"} x"#, "there is more after the end of the JSON text, at byte 12"),
    (#".use "a"#, "a quotation mark is not closed"),
  ])
  func whatIsWrongIsNamed(line: String, message: String) {
    #expect(failure(line)?.error == RequestError(.badRequest, message))
  }

  @Test func theIDIsFoundWhereverTheErrorIs() {
    let id = ByteBuffer(string: "7")
    for line in [
      #"{"id":7,"sq":1}"#, #"{"sq":1,"id":7}"#, #"{"sql":"x","token":"bad","id":7}"#,
      #"{"id":7,"sql":"x"#,
    ] {
      #expect(failure(line)?.id == id)
    }
    #expect(failure(#"{"sql":"x"#)?.id == nil)
  }

  @Test func aBadTokenHasItsOwnCode() {
    for token in ["", "x", "e1.6f1c0b2a.3", "e2.6f1c0b2a.3.1", "e1.6f1c0b2a.3.-1"] {
      #expect(failure("{\"sql\":\"x\",\"token\":\"\(token)\"}")?.error.code == "TOKEN_INVALID")
    }
    #expect(failure(#"{"sql":"x","token":1}"#)?.error.code == "PROTOCOL")
  }

  @Test func tokensAreReadAsTokenReadsThem() throws {
    let texts = [
      "e1.6f1c0b2a.3.1043", "e1.6F1C0B2A.0.0", "e1.00000000.4294967295.1099511627775",
      "e1.00000000.4294967296.1", "e1.00000000.1.1099511627776", "e1.6f1c0b2a.3.1043.mac",
      "e1.6f1c0b2a.03.01043", "e1.6f1c0b2a.3.", "e1.6f1c0b2a..1", "e1.6f1c0b2.3.1",
      "e1.+f1c0b2a.3.1",
      "e1.6f1c0b2a.3.1 ", "e1.6f1c0b2a.3.000000000000000000000000000001", "E1.6f1c0b2a.3.1",
    ]
    for text in texts {
      let line = "{\"sql\":\"x\",\"token\":\"\(text)\"}"
      #expect((try? parse(line))??.options.token == Token(text), "\(text)")
    }
    #expect(
      try parse(#"{"sql":"x","token":"\u00651.6f1c0b2a.3.1"}"#)?.options.token
        == Token("e1.6f1c0b2a.3.1"))
  }

  @Test func repeatedNamesAreFoundAmongMany() throws {
    func line(_ names: [String]) -> String {
      let members = names.map { "\"\($0)\":1" }.joined(separator: ",")
      return "{\"sql\":\"x\",\"args\":{\(members)}}"
    }
    let names = (0..<100).map { "n\($0)" }
    #expect(try parse(line(names)) != nil)
    for at in [0, 14, 15, 16, 17, 98] {
      #expect(failure(line(names + [names[at]]))?.error.message.contains(names[at]) == true)
      #expect(failure(line(Array(names[...at]) + [names[at]])) != nil)
    }
  }

  @Test func thereAreLimits() throws {
    func batch(_ count: Int) -> String {
      let statements = repeatElement(#"{"sql":""}"#, count: count).joined(separator: ",")
      return "{\"batch\":[\(statements)]}"
    }
    func short(_ count: Int) -> String {
      "[\"x\"" + repeatElement(",1", count: count).joined() + "]"
    }
    #expect(try parse(batch(10_000)) != nil)
    #expect(failure(batch(10_001))?.error.message.contains("10000") == true)
    #expect(try parse(short(32_766)) != nil)
    #expect(failure(short(32_767))?.error.message.contains("32766") == true)
    let key = String(repeating: "é", count: 64)
    #expect(try parse("{\"sql\":\"x\",\"key\":\"\(key)\"}")?.options.idempotencyKey == key)
    #expect(failure("{\"sql\":\"x\",\"key\":\"\(key)x\"}") != nil)
  }

  @Test func commandsAreSplitIntoWords() throws {
    func command(_ line: String) throws -> LineRequest.Body? { try parse(line)?.body }
    #expect(try command(".help") == .command(name: "help", arguments: []))
    #expect(try command("  .mode  csv \r") == .command(name: "mode", arguments: ["csv"]))
    #expect(
      try command(#".use "my ""db""" 'it''s' a"b"#)
        == .command(name: "use", arguments: ["my \"db\"", "it's", "a\"b"]))
    #expect(try command(".") == .command(name: "", arguments: []))
    #expect(try command(". x") == .command(name: "", arguments: ["x"]))
    #expect(try command(".use ''") == .command(name: "use", arguments: [""]))
  }

  @Test func garbageNeverTraps() {
    var random = LineTestRandom(seed: 8)
    let pieces = [
      "{", "}", "[", "]", "\"", ",", ":", "\"sql\"", "\"args\"", "\"id\"", "\"batch\"", "\"token\"",
      "\"b64\"", "\"AQ==\"", "1", "-2.5e3", "null", "true", "\\", "\\u", " ", "é", ".use ", "'",
      "--", "\"wait_ms\"", "\"read\"", "\"bounded\"",
    ]
    for round in 0..<20_000 {
      var buffer = ByteBuffer()
      if round % 2 == 0 {
        buffer.writeBytes(random.bytes(countMax: 60))
      } else {
        for _ in 0..<Int.random(in: 0..<20, using: &random) {
          buffer.writeString(pieces.randomElement(using: &random) ?? "")
        }
      }
      do {
        _ = try LineParser.parse(buffer)
      } catch {
        #expect(!error.error.message.isEmpty)
      }
    }
  }

  @Test func everyDamagedByteOfARequestIsHandled() {
    let line = Array(
      #"{"id":"a","sql":"SELECT ?","args":[1,"x",{"b64":"AQ=="}],"token":"e1.6f1c0b2a.3.1"}"#.utf8)
    for at in line.indices {
      for byte in [UInt8](0...255) {
        var damaged = line
        damaged[at] = byte
        _ = try? LineParser.parse(ByteBuffer(bytes: damaged))
      }
    }
  }
}
