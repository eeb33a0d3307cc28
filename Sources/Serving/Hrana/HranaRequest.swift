// Hrana's requests, read from JSON. What breaks the protocol is a failure of the whole request, as
// in sqld; what is only wrong for one statement is an error of that statement.
// Source: https://github.com/tursodatabase/libsql, HRANA_3_SPEC

import NIOCore
import Store
import WALShip

/// One request of a stream.
enum HranaRequest: Equatable, Sendable {
  case execute(HranaStatement)
  case batch(HranaBatch)
  case sequence(SQLText)
  case describe(SQLText)
  case storeSQL
  case closeSQL
  case autocommit
  case close
  /// It cannot be done, and the others can.
  case failed(HranaError)
}

struct HranaStatement: Equatable, Sendable {
  var statement: StatementRequest
  var wantsRows = true
  var replicationIndex: UInt64?
  /// Why it cannot be run although the protocol allows it.
  var error: HranaError?
}

struct HranaBatch: Equatable, Sendable {
  struct Step: Equatable, Sendable {
    var condition: StepCondition?
    var statement: HranaStatement
  }
  var steps: [Step]
  var replicationIndex: UInt64?
}

/// SQL texts that a stream or a connection keeps under numbers.
struct HranaTexts: Sendable {
  static let countMax = 150
  static let bytesMax = 256 << 10
  private var texts: [Int64: SQLText] = [:]
  private var bytes = 0
  var isEmpty: Bool { texts.isEmpty }

  func text(_ id: Int64) throws(HranaFailure) -> SQLText {
    guard let text = texts[id] else { throw .malformed("SQL text \(id) not found") }
    return text
  }

  /// - Returns: why the text is not stored; nil when it is.
  mutating func store(_ id: Int64, _ text: SQLText) throws(HranaFailure) -> HranaError? {
    guard texts[id] == nil else { throw .malformed("SQL text \(id) already exists") }
    guard texts.count < Self.countMax else {
      return HranaError(
        code: "SQL_STORE_TOO_MANY",
        message: "The server already stores \(texts.count) SQL texts, it cannot store more")
    }
    guard bytes + text.bytes.readableBytes <= Self.bytesMax else {
      return HranaError(
        code: "SQL_STORE_TOO_LARGE",
        message: "The stored SQL texts may have \(Self.bytesMax) bytes together")
    }
    bytes += text.bytes.readableBytes
    texts[id] = text
    return nil
  }

  mutating func close(_ id: Int64) {
    if let text = texts.removeValue(forKey: id) { bytes -= text.bytes.readableBytes }
  }
}

/// Reads requests; stored texts are looked up, and stored, on the way.
struct HranaDecoder {
  var texts: HranaTexts

  static let stepsMax = StreamProgram.stepsMax

  mutating func request(_ json: JSONValue) throws(HranaFailure) -> HranaRequest {
    switch json["type"] {
    case .string("execute"): return .execute(try statement(json["stmt"]))
    case .string("batch"): return .batch(try batch(json["batch"]))
    case .string("sequence"): return .sequence(try sql(json))
    case .string("describe"): return .describe(try sql(json))
    case .string("store_sql"):
      guard case .string(let text)? = json["sql"] else { throw Self.missing("sql") }
      let error = try texts.store(try id(json["sql_id"]), SQLText(text))
      return error.map { .failed($0) } ?? .storeSQL
    case .string("close_sql"):
      texts.close(try id(json["sql_id"]))
      return .closeSQL
    case .string("get_autocommit"): return .autocommit
    case .string("close"): return .close
    case .string(let other): throw Self.unreadable("unknown type of request `\(other.prefix(64))`")
    default: throw Self.missing("type")
    }
  }

  static func unreadable(_ reason: String) -> HranaFailure {
    .malformed("Cannot deserialize client message from JSON: \(reason)")
  }

  private static func missing(_ key: String) -> HranaFailure {
    unreadable("missing or malformed field `\(key)`")
  }

  private func id(_ json: JSONValue?) throws(HranaFailure) -> Int64 {
    guard case .integer(let id)? = json, Int32(exactly: id) != nil else {
      throw Self.missing("sql_id")
    }
    return id
  }

  /// The text, or the stored one that is meant.
  private func sql(_ json: JSONValue) throws(HranaFailure) -> SQLText {
    switch (json["sql"].nonNull, json["sql_id"].nonNull) {
    case (.string(let text)?, nil): return SQLText(text)
    case (nil, let id?): return try texts.text(try self.id(id))
    case (nil, nil): throw .malformed("Either `sql` or `sql_id` are required")
    case (_?, _?): throw .malformed("Either `sql` or `sql_id` are required, but not both")
    case (_?, nil): throw Self.missing("sql")
    }
  }

  // MARK: Statements

  func statement(_ json: JSONValue?) throws(HranaFailure) -> HranaStatement {
    guard let json, case .object = json else { throw Self.missing("stmt") }
    var positional: [Value] = []
    var named: [Arguments.NamedValue] = []
    for value in try array(json["args"], "args") { positional.append(try self.value(value)) }
    for argument in try array(json["named_args"], "named_args") {
      guard case .string(let name)? = argument["name"], let value = argument["value"] else {
        throw Self.missing("named_args")
      }
      named.append(Arguments.NamedValue(name: name, value: try self.value(value)))
    }
    var arguments = Arguments.none
    if !positional.isEmpty { arguments = .positional(positional) }
    if !named.isEmpty { arguments = .named(named) }
    var found = HranaStatement(
      statement: StatementRequest(sql: try sql(json), arguments: arguments))
    found.replicationIndex = try replicationIndex(json)
    switch json["want_rows"].nonNull {
    case nil: break
    case .bool(let wantsRows)?: found.wantsRows = wantsRows
    default: throw Self.missing("want_rows")
    }
    if !positional.isEmpty, !named.isEmpty {
      found.error = HranaError(
        code: "ARGS_BOTH_POSITIONAL_AND_NAMED",
        message: "Specifying both positional and named arguments is not supported")
    }
    return found
  }

  private func array(_ json: JSONValue?, _ key: String) throws(HranaFailure) -> [JSONValue] {
    switch json {
    case nil, .null?: return []
    case .array(let values)?: return values
    default: throw Self.missing(key)
    }
  }

  func value(_ json: JSONValue) throws(HranaFailure) -> Value {
    switch json["type"] {
    case .string("null"): return .null
    case .string("integer"):
      guard case .string(let text)? = json["value"], let number = Int64(text) else {
        throw Self.unreadable("an integer must be a string with a 64-bit number")
      }
      return .integer(number)
    case .string("float"):
      switch json["value"] {
      case .real(let number)?: return .real(number)
      case .integer(let number)?: return .real(Double(number))
      case .null?: return .null
      default: throw Self.unreadable("a float must be a number")
      }
    case .string("text"):
      guard case .string(let text)? = json["value"] else { throw Self.missing("value") }
      return .text(text)
    case .string("blob"):
      guard case .string(var text)? = json["base64"] else { throw Self.missing("base64") }
      // Padding may be there, or some of it.
      while text.utf8.last == UInt8(ascii: "=") { text.removeLast() }
      let bytes = text.withUTF8 { Base64.decode(UnsafeRawBufferPointer($0)) }
      guard let bytes else { throw Self.unreadable("the blob is not base64") }
      return .blob(bytes)
    default: throw Self.unreadable("unknown type of value")
    }
  }

  /// As a number or as text; null means none.
  private func replicationIndex(_ json: JSONValue) throws(HranaFailure) -> UInt64? {
    switch json["replication_index"] {
    case nil, .null?: return nil
    case .integer(let number)? where number >= 0: return UInt64(number)
    case .string(let text)?:
      if let number = UInt64(text) { return number }
      fallthrough
    default: throw Self.missing("replication_index")
    }
  }

  // MARK: Batches

  func batch(_ json: JSONValue?) throws(HranaFailure) -> HranaBatch {
    guard let json, case .array(let given)? = json["steps"] else { throw Self.missing("batch") }
    guard given.count <= Self.stepsMax else {
      throw .malformed("a batch has at most \(Self.stepsMax) steps")
    }
    var steps: [HranaBatch.Step] = []
    for step in given {
      let condition = try step["condition"].nonNull.map { json throws(HranaFailure) in
        try self.condition(json, before: steps.count, depth: 0)
      }
      steps.append(
        HranaBatch.Step(condition: condition, statement: try statement(step["stmt"])))
    }
    return HranaBatch(steps: steps, replicationIndex: try replicationIndex(json))
  }

  private func condition(
    _ json: JSONValue, before count: Int, depth: Int
  ) throws(HranaFailure) -> StepCondition {
    guard depth < StepCondition.depthMax else {
      throw .malformed("the conditions of a batch are nested too deep")
    }
    func step() throws(HranaFailure) -> Int {
      guard case .integer(let step)? = json["step"] else { throw Self.missing("step") }
      guard step >= 0, step < Int64(count) else {
        throw .malformed("Invalid reference to step in a batch condition")
      }
      return Int(step)
    }
    func all() throws(HranaFailure) -> [StepCondition] {
      guard case .array(let conditions)? = json["conds"] else { throw Self.missing("conds") }
      var found: [StepCondition] = []
      for inner in conditions {
        found.append(try condition(inner, before: count, depth: depth + 1))
      }
      return found
    }
    switch json["type"] {
    case .string("ok"): return .ok(try step())
    case .string("error"): return .error(try step())
    case .string("not"):
      guard let inner = json["cond"] else { throw Self.missing("cond") }
      return .not(try condition(inner, before: count, depth: depth + 1))
    case .string("and"): return .and(try all())
    case .string("or"): return .or(try all())
    case .string("is_autocommit"): return .isAutocommit
    default: throw Self.unreadable("unknown type of condition")
    }
  }
}

extension Optional where Wrapped == JSONValue {
  /// Nil also for a null that is written out.
  var nonNull: JSONValue? { self == .some(.null) ? nil : self }
}
