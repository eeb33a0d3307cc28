// Remembers which keyed writes were made, in the database itself: the note is committed with the
// write, and so is true after every crash, and on every replica.

import NIOCore
import Serving
import Store

/// The table of idempotency keys. It belongs to the writer's thread and is used inside its
/// transactions.
final class IdempotencyKeys {
  private let connection: Connection
  private static let table = "_edge_keys"
  /// Keys are remembered for a day.
  private static let secondsMax: Int64 = 86_400
  /// An answer with more bytes is not kept; a repeat of its request is then told so.
  private static let responseBytesMax = 64 << 10

  init(connection: Connection) { self.connection = connection }

  /// The answer that a key's request got, if there was one.
  func response(for key: String) throws(RequestError) -> EngineResponse? {
    try withEngine { () throws(SQLiteError) -> EngineResponse? in
      guard try exists() else { return nil }
      let rows = try connection.query(
        "SELECT response FROM \(Self.table) WHERE key = ? AND at > ?",
        [.text(key), .integer(now - Self.secondsMax)])
      guard let value = rows.first?.first else { return nil }
      guard case .blob(let bytes) = value,
        let response = try? EngineResponse(decoding: ByteBuffer(bytes: bytes))
      else {
        return .failed(
          RequestError(
            .responseTooLarge, "the write was made before; its answer was too large to be kept"))
      }
      return response
    }
  }

  /// Notes a request that was just made, in the same transaction.
  func remember(_ key: String, _ response: EngineResponse) throws(RequestError) {
    try withEngine { () throws(SQLiteError) in
      if try !exists() {
        try connection.execute(
          "CREATE TABLE \(Self.table)(key TEXT PRIMARY KEY, at INTEGER NOT NULL, response BLOB) WITHOUT ROWID"
        )
        try connection.execute("CREATE INDEX \(Self.table)_at ON \(Self.table)(at)")
      }
      let bytes = response.encode()
      let kept: Value =
        bytes.readableBytes <= Self.responseBytesMax ? .blob(Array(bytes.readableBytesView)) : .null
      _ = try connection.query(
        "DELETE FROM \(Self.table) WHERE key IN (SELECT key FROM \(Self.table) WHERE at <= ? LIMIT 100)",
        [.integer(now - Self.secondsMax)])
      _ = try connection.query(
        "INSERT OR REPLACE INTO \(Self.table) VALUES (?, ?, ?)",
        [.text(key), .integer(now), kept])
    }
  }

  private func exists() throws(SQLiteError) -> Bool {
    try !connection.query(
      "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?", [.text(Self.table)]
    ).isEmpty
  }

  private var now: Int64 { Int64(wallClockMicroseconds() / 1_000_000) }

  private func withEngine<T>(_ body: () throws(SQLiteError) -> T) throws(RequestError) -> T {
    connection.policy = .engine
    defer { connection.policy = .client }
    do throws(SQLiteError) {
      return try body()
    } catch { throw RequestError(error) }
  }
}
