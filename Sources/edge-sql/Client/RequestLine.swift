// Builds request lines. Values become JSON as the line protocol wants them.
// Source: docs/PROTOCOL.md, the line protocol

import Serving

/// What a request says beside its SQL; nil leaves it to the node.
struct RequestLineOptions: Sendable {
  var token: String?
  var read: ReadChoice?
  var maxLagMilliseconds: Int?
  var waitMilliseconds: Int?
  var onLag: LagChoice?
  var key: String?
  var timeoutMilliseconds: Int?
  var database: String?

  fileprivate var members: [(String, JSONValue)] {
    var members: [(String, JSONValue)] = []
    func add(_ name: String, _ text: String?) {
      if let text { members.append((name, .string(text))) }
    }
    func add(_ name: String, _ number: Int?) {
      if let number { members.append((name, .integer(Int64(number)))) }
    }
    add("token", token)
    add("read", read?.rawValue)
    add("max_lag_ms", maxLagMilliseconds)
    add("wait_ms", waitMilliseconds)
    add("on_lag", onLag?.rawValue)
    add("key", key)
    add("timeout_ms", timeoutMilliseconds)
    add("db", database)
    return members
  }
}

enum ReadChoice: String, CaseIterable, Sendable { case local, bounded, latest, primary }
enum LagChoice: String, CaseIterable, Sendable { case forward, error, stale }

enum RequestLine {
  /// One statement; `args` is an array, an object, or nil.
  static func statement(
    _ sql: String, args: JSONValue? = nil, options: RequestLineOptions = RequestLineOptions()
  ) -> String {
    var members = [("sql", JSONValue.string(sql))]
    if let args { members.append(("args", args)) }
    return JSONDocument.text(.members(members + options.members))
  }

  /// Several statements that happen all or not at all.
  static func batch(
    _ statements: [String], options: RequestLineOptions = RequestLineOptions()
  ) -> String {
    let batch = JSONValue.array(statements.map { .members([("sql", .string($0))]) })
    return JSONDocument.text(.members([("batch", batch)] + options.members))
  }

  /// The short form: `["SQL", arg, …]`.
  static func short(_ sql: String, _ args: JSONValue...) -> String {
    JSONDocument.text(.array([.string(sql)] + args))
  }
}
