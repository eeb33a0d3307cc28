// The routes of HTTP and WebSocket in the table that is crossed with all bearers of credentials.

import EdgeTesting
import Serving

extension AccessRoute {
  /// Requests for one database with a table `t`. Those with `INSERT` in their name add a row of 'x'
  /// to it when they are allowed.
  static let http: [AccessRoute] =
    statements("/v2/pipeline") + statements("/v3/pipeline") + [
      http("read by a cursor", .read, "POST /v3/cursor", batch("SELECT 1")),
      http("INSERT by a cursor", .write, "POST /v3/cursor", batch("SELECT 1", insert)),
      http("BEGIN IMMEDIATE by a cursor", .write, "POST /v3/cursor", batch("BEGIN IMMEDIATE")),
      http("read", .read, "POST /v1/execute", #"{"stmt":{"sql":"SELECT count(*) FROM t"}}"#),
      http("INSERT", .write, "POST /v1/execute", #"{"stmt":{"sql":"\#(insert)"}}"#),
      http("INSERT RETURNING", .write, "POST /v1/execute", #"{"stmt":{"sql":"\#(returns)"}}"#),
      http("batch of reads", .read, "POST /v1/batch", batch("BEGIN", "SELECT 1", "COMMIT")),
      http("INSERT in a batch", .write, "POST /v1/batch", batch("BEGIN", insert, "COMMIT")),
      http("plain JSON that reads", .read, "POST /", #"{"statements":["SELECT 1"]}"#),
      http("INSERT as plain JSON", .write, "POST /", #"{"statements":["SELECT 1","\#(insert)"]}"#),
      http("dump", .read, "GET /dump"),
      http("status", .admin, "GET /status"),
      http("metrics", .admin, "GET /metrics"),
      // They tell nothing, and so ask for nothing.
      open("GET /v1"), open("GET /v2"), open("GET /v3"), open("GET /version"), open("GET /health"),
    ]

  /// What adds a row when it is allowed.
  static let inserts = (http + webSocket).count { $0.name.contains("INSERT") }

  private static let insert = "INSERT INTO t VALUES ('x')"
  private static let returns = "INSERT INTO t VALUES ('x') RETURNING v"

  /// What the requests of a pipeline may be.
  private static func statements(_ path: String) -> [AccessRoute] {
    func pipeline(_ name: String, _ needs: AccessLevel, _ requests: String...) -> AccessRoute {
      let all = requests + [#"{"type":"close"}"#]
      return http(
        name, needs, "POST \(path)", "{\"requests\":[\(all.joined(separator: ","))]}")
    }
    return [
      pipeline("nothing", .read),
      pipeline("read", .read, execute("SELECT count(*) FROM t")),
      pipeline("read transaction", .read, execute("BEGIN"), execute("SELECT 1"), execute("COMMIT")),
      pipeline("describe a write", .read, #"{"type":"describe","sql":"\#(insert)"}"#),
      pipeline("autocommit", .read, #"{"type":"get_autocommit"}"#),
      pipeline("stored text", .read, #"{"type":"store_sql","sql_id":1,"sql":"\#(insert)"}"#),
      pipeline("INSERT", .write, execute(insert)),
      pipeline("read and INSERT", .write, execute("SELECT 1"), execute(insert)),
      pipeline(
        "INSERT of a stored text", .write, #"{"type":"store_sql","sql_id":1,"sql":"\#(insert)"}"#,
        #"{"type":"execute","stmt":{"sql_id":1}}"#),
      pipeline("INSERT in a script", .write, #"{"type":"sequence","sql":"SELECT 1; \#(insert)"}"#),
      pipeline(
        "INSERT in a batch", .write, #"{"type":"batch",\#(batch("SELECT 1", insert).dropFirst())"#),
      pipeline(
        "INSERT in a transaction", .write, execute("BEGIN"), execute(insert), execute("COMMIT")),
      pipeline("write with a CTE", .write, execute("WITH a AS (SELECT 1) DELETE FROM t WHERE 0")),
      pipeline("schema", .write, execute("CREATE TABLE IF NOT EXISTS u(a)")),
      pipeline("PRAGMA that writes", .write, execute("PRAGMA user_version = 7")),
      pipeline("BEGIN IMMEDIATE", .write, execute("BEGIN IMMEDIATE"), execute("ROLLBACK")),
      pipeline("SAVEPOINT", .write, execute("SAVEPOINT a"), execute("RELEASE a")),
      pipeline("TEMP table", .write, execute("CREATE TEMP TABLE IF NOT EXISTS x(a)")),
      pipeline("VACUUM", .write, execute("VACUUM")),
    ]
  }

  private static func execute(_ sql: String) -> String {
    #"{"type":"execute","stmt":{"sql":"\#(sql)"}}"#
  }

  private static func batch(_ statements: String...) -> String {
    let steps = statements.map { #"{"stmt":{"sql":"\#($0)"}}"# }
    return #"{"batch":{"steps":[\#(steps.joined(separator: ","))]}}"#
  }

  private static func open(_ line: String) -> AccessRoute {
    var route = http("open", .none, line)
    route.expected = { _ in .done }
    return route
  }

  /// - Parameter line: method and path.
  static func http(
    _ name: String, _ needs: AccessLevel, _ line: String, _ body: String = ""
  ) -> AccessRoute {
    AccessRoute("\(line): \(name)", needs: needs) { node, token in
      let words = line.split(separator: " ").map(String.init)
      let client = try HTTPClient(port: node.httpPort, transport: node.transport)
      let credential = token.map { ["Authorization: Bearer \($0)"] } ?? []
      return AccessOutcome(try client.request(words[0], words[1], body, headers: credential))
    }
  }
}

extension AccessOutcome {
  /// What an answer of HTTP says of the credential.
  init(_ answer: HTTPMessage) {
    let text = answer.text
    switch answer.status {
    case 200:
      // Nothing of what was done failed.
      self = text.contains(#""error":{"#) || text.contains("step_error\"") ? .other(text) : .done
    case 401 where text.contains("`Expected authorization header but none given`"): self = .missing
    case 401 where text.contains("`The JWT has expired`"): self = .expired
    case 401 where text.contains("`The JWT is invalid`"): self = .refused
    case 403 where text.hasPrefix(#"{"error":"Forbidden"#) || text.contains("AUTH_DENIED"):
      self = .denied
    case 404 where text.hasPrefix(#"{"error":"Namespace `"#): self = .unknownDatabase
    default: self = .other("\(answer.status) \(text)")
    }
  }
}

// MARK: WebSocket

extension AccessRoute {
  /// Requests on a WebSocket, each of which has a stream 1.
  static let webSocket: [AccessRoute] =
    ["hrana1", "hrana2", "hrana3"].flatMap { version in
      [
        socket(version, "read", .read, #""type":"execute","stmt":{"sql":"SELECT 1"}"#),
        socket(version, "INSERT", .write, #""type":"execute","stmt":{"sql":"\#(insert)"}"#),
        socket(
          version, "INSERT in a batch", .write,
          #""type":"batch",\#(batch("SELECT 1", insert).dropFirst().dropLast())"#),
      ]
    } + [
      socket("hrana3", "INSERT in a script", .write, #""type":"sequence","sql":"\#(insert)""#),
      socket("hrana3", "describe a write", .read, #""type":"describe","sql":"\#(insert)""#),
      socket("hrana3", "autocommit", .read, #""type":"get_autocommit""#),
      socket(
        "hrana3", "SAVEPOINT", .write, #""type":"execute","stmt":{"sql":"SAVEPOINT a"}"#),
      socket(
        "hrana3", "INSERT by a cursor", .write,
        #""type":"open_cursor","cursor_id":3,\#(batch(insert).dropFirst().dropLast())"#),
    ]

  private static func socket(
    _ version: String, _ name: String, _ needs: AccessLevel, _ request: String
  ) -> AccessRoute {
    AccessRoute("\(version): \(name)", needs: needs) { node, token in
      let socket = try WebSocketClient(
        port: node.httpPort, headers: ["Sec-WebSocket-Protocol: \(version)"],
        transport: node.transport)
      let credential = token.map { "\"\($0)\"" } ?? "null"
      try socket.send(#"{"type":"hello","jwt":\#(credential)}"#)
      let hello = try socket.message()
      guard hello["type"]?.text == "hello_ok" else {
        // The connection ends with it.
        guard try socket.receive().kind == .close else { return .other("it goes on") }
        return AccessOutcome(hello: hello["error"])
      }
      let stream = #"{"type":"open_stream","stream_id":1}"#
      var requests = [stream, #"{"stream_id":1,\#(request)}"#]
      if request.contains("cursor_id") {
        requests.append(#"{"type":"fetch_cursor","cursor_id":3,"max_count":10}"#)
      }
      for (number, json) in requests.enumerated() {
        try socket.send(#"{"type":"request","request_id":\#(number),"request":\#(json)}"#)
      }
      var last = JSONValue.null
      for _ in requests { last = try socket.message() }
      return AccessOutcome(response: last)
    }
  }
}

extension AccessOutcome {
  fileprivate init(hello error: JSONValue?) {
    let message = error?["message"]?.text ?? ""
    switch error?["code"]?.text {
    case "AUTH_JWT_INVALID" where message.contains("none given"): self = .missing
    case "AUTH_JWT_INVALID" where message.contains("has expired"): self = .expired
    case "AUTH_JWT_INVALID" where message.contains("is invalid"): self = .refused
    case "NAMESPACE_DOESNT_EXIST": self = .unknownDatabase
    case let code: self = .other("\(code ?? "") \(message)")
    }
  }

  fileprivate init(response: JSONValue) {
    switch response["type"]?.text {
    case "response_ok": self = .done
    case "response_error" where response["error"]?["code"]?.text == "BLOCKED": self = .denied
    case let type: self = .other("\(type ?? "") \(response)")
    }
  }
}
