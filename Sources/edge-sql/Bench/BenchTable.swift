// The table that benches work on, made for the run and dropped behind it.

import Serving

struct BenchTable {
  static let name = "edge_bench"
  private static let rowsPerInsert = 500

  /// Makes the table. One that is there already may be somebody's own, or of a bench that is
  /// running.
  ///
  /// - Parameter dropExisting: whether a table of that name may be dropped first.
  static func create(_ client: LineClient, dropExisting: Bool) throws {
    if dropExisting { try drop(client) }
    do {
      _ = try client.request(
        RequestLine.statement(
          "CREATE TABLE \(name)(id INTEGER PRIMARY KEY, at INTEGER, payload TEXT)"))
    } catch let error as ServerError where error.message.contains("already exists") {
      throw CommandFailure(
        .cannotCreate, "the table \(name) is there already",
        hint: "If it was left by a bench that was killed, give --drop-existing.")
    }
  }

  /// Inserts rows with ids from `first` on.
  ///
  /// - Returns: the token of the last insert.
  static func fill(_ client: LineClient, from first: Int = 1, rows: Int) throws -> String? {
    var token: String?
    let last = first + rows - 1
    for start in stride(from: first, through: last, by: rowsPerInsert) {
      let end = min(last, start + rowsPerInsert - 1)
      let sql = """
        WITH RECURSIVE n(i) AS (SELECT \(start) UNION ALL SELECT i + 1 FROM n WHERE i < \(end)) \
        INSERT INTO \(name) SELECT i, 0, printf('payload of row %08d', i) FROM n
        """
      token = try client.request(RequestLine.statement(sql)).last.token ?? token
    }
    return token
  }

  /// Request lines that read one row each, any of those that `fill` made.
  static func reads(from first: Int = 1, rows: Int) -> () -> [UInt8] {
    let select = "SELECT payload FROM \(name) WHERE id = ?"
    let lines = (first..<first + rows).map { id in
      Array((RequestLine.short(select, .integer(Int64(id))) + "\n").utf8)
    }
    return { lines[Int.random(in: 0..<lines.count)] }
  }

  /// A request line that inserts one row.
  static var insert: [UInt8] {
    let line = RequestLine.short(
      "INSERT INTO \(name)(at, payload) VALUES (?, ?)", .integer(0),
      .string("a row of the write bench"))
    return Array((line + "\n").utf8)
  }

  static func drop(_ client: LineClient) throws {
    _ = try client.request(RequestLine.statement("DROP TABLE IF EXISTS \(name)"))
  }

  /// Runs `body` on the table, and drops it whatever happens.
  static func with<Result>(
    _ client: LineClient, dropExisting: Bool, _ body: () throws -> Result
  ) throws -> Result {
    try create(client, dropExisting: dropExisting)
    do {
      let result = try body()
      try drop(client)
      return result
    } catch {
      // The bench's own failure is what the user has to hear of; a new connection, as this one may
      // be broken.
      if let other = try? LineClient(client.settings) { try? drop(other) }
      throw error
    }
  }
}
