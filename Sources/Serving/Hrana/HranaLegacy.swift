// `POST /`: the requests of the first clients. Several statements run in one transaction, up to the
// first that fails.

import NIOCore
import NIOHTTP1
import Store
import WALShip

extension HranaServer {
  func legacy(_ call: HTTPCall) {
    do throws(HranaFailure) {
      guard let lease = call.lease else { throw .invalidBaton }
      let token = try call.shownToken()
      let statements = try Self.statements(try call.json())
      let stream = HranaStream(id: 0, lease: lease, access: call.access, loop: call.loop)
      call.onGone = { stream.close() }
      stream.run([.batch(Self.transaction(statements))], shown: token) { result in
        stream.close()
        switch result {
        case .failure(let failure): call.answer(failure.reply)
        case .success(let (outcomes, totals)):
          call.answer(Self.reply(outcomes[0], statements.count, totals).showing(totals.token))
        }
      }
    } catch { call.answer(error.reply) }
  }

  private static func statements(_ json: JSONValue) throws(HranaFailure) -> [StatementRequest] {
    guard case .array(let given)? = json["statements"] else {
      throw HranaDecoder.unreadable("missing or malformed field `statements`")
    }
    guard given.count <= HranaDecoder.stepsMax - 4 else {
      throw .malformed("too many statements at once")
    }
    var statements: [StatementRequest] = []
    for json in given {
      let statement = try statement(json)
      if let word = StatementScanner.firstWords(of: statement.sql).first,
        ["begin", "commit", "end", "rollback", "savepoint", "release"].contains(word)
      {
        throw .query("interactive transaction not allowed in HTTP queries")
      }
      statements.append(statement)
    }
    return statements
  }

  private static func statement(_ json: JSONValue) throws(HranaFailure) -> StatementRequest {
    if case .string(let sql) = json { return StatementRequest(sql: SQLText(sql)) }
    guard case .string(let sql)? = json["q"] else {
      throw HranaDecoder.unreadable("a statement is a text, or an object with `q`")
    }
    var request = StatementRequest(sql: SQLText(sql))
    switch json["params"] {
    case nil, .null?: break
    case .array(let values)?:
      var positional: [Value] = []
      for value in values { positional.append(try plain(value)) }
      if !positional.isEmpty { request.arguments = .positional(positional) }
    case .object(let members)?:
      var named: [Arguments.NamedValue] = []
      for member in members {
        named.append(Arguments.NamedValue(name: member.key, value: try plain(member.value)))
      }
      if !named.isEmpty { request.arguments = .named(named) }
    default: throw HranaDecoder.unreadable("`params` is an array or an object")
    }
    return request
  }

  /// A value as plain JSON.
  private static func plain(_ json: JSONValue) throws(HranaFailure) -> Value {
    switch json {
    case .null: return .null
    case .bool(let value): return .integer(value ? 1 : 0)
    case .integer(let number): return .integer(number)
    case .real(let number): return .real(number)
    case .string(let text): return .text(text)
    case .object:
      guard case .string(var text)? = json["base64"],
        let bytes = text.withUTF8({ Base64.decode(UnsafeRawBufferPointer($0)) })
      else { throw HranaDecoder.unreadable("a blob is an object with `base64`") }
      return .blob(bytes)
    case .array: throw HranaDecoder.unreadable("an array is no value of SQL")
    }
  }

  /// BEGIN, each statement if the one before succeeded, COMMIT; ROLLBACK if that did not happen.
  private static func transaction(_ statements: [StatementRequest]) -> HranaBatch {
    func step(_ sql: String, _ condition: StepCondition?) -> HranaBatch.Step {
      HranaBatch.Step(
        condition: condition,
        statement: HranaStatement(statement: StatementRequest(sql: SQLText(sql))))
    }
    var steps = [step("BEGIN", nil)]
    for statement in statements {
      steps.append(
        HranaBatch.Step(
          condition: .ok(steps.count - 1), statement: HranaStatement(statement: statement)))
    }
    steps.append(step("COMMIT", .ok(steps.count - 1)))
    steps.append(step("ROLLBACK", .not(.ok(steps.count - 1))))
    return HranaBatch(steps: steps)
  }

  private static func reply(
    _ outcome: HranaOutcome, _ count: Int, _ totals: HranaTotals
  ) -> HTTPReply {
    guard case .batch(let steps) = outcome else {
      guard case .failed(let error) = outcome else { return HranaFailure.invalidBaton.reply }
      return HTTPReply(.badRequest, type: HTTPType.json, text: HTTPErrorBody.json(error.message))
    }
    // Without BEGIN nothing ran; the failure of COMMIT belongs to no statement.
    for at in [0, count + 1] {
      guard case .failed(let error) = steps[at] else { continue }
      let message = HranaError(error).message
      return HTTPReply(
        .internalServerError, type: HTTPType.json, text: HTTPErrorBody.json(message))
    }
    var output = OutputBytes()
    output.append("[")
    for (index, step) in steps.dropFirst().prefix(count).enumerated() {
      if index > 0 { output.append(",") }
      switch step {
      case .result(let result): output.writeLegacy(result, totals.milliseconds)
      case .failed(let error):
        output.append("{\"error\":")
        output.writeJSONString(HranaError(error).message)
        output.append("}")
      case .skipped, .description, .autocommit: output.append("null")
      }
    }
    output.append("]")
    return HTTPReply(.ok, type: HTTPType.json, output.take())
  }
}

extension OutputBytes {
  fileprivate mutating func writeLegacy(_ result: StatementResult, _ milliseconds: Double) {
    append("{\"results\":{\"columns\":[")
    for (index, name) in result.columns.enumerated() {
      if index > 0 { append(",") }
      writeJSONString(name)
    }
    append("],\"rows\":[")
    for (number, row) in result.rows.enumerated() {
      append(number > 0 ? ",[" : "[")
      for (index, value) in row.enumerated() {
        if index > 0 { append(",") }
        writeLegacy(value)
      }
      append("]")
    }
    append("],\"rows_read\":")
    writeDecimal(result.counts.read)
    append(",\"rows_written\":")
    writeDecimal(result.counts.written)
    append(",\"query_duration_ms\":")
    if !writeJSONNumber(milliseconds) { append("0.0") }
    append("}}")
  }

  private mutating func writeLegacy(_ value: Value) {
    switch value {
    case .null: append("null")
    case .integer(let number): writeDecimal(number)
    case .real(let number):
      if !writeJSONNumber(number) { append("null") }
    case .text(let text): writeJSONString(text)
    case .malformedText(let bytes), .blob(let bytes):
      append("{\"base64\":\"")
      bytes.withUnsafeBytes { writeBase64($0, padding: false) }
      append("\"}")
    }
  }
}
