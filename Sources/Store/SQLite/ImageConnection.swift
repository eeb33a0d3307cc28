// A database that is nowhere but in memory, given as the bytes of its file.

import CSQLite

extension Connection {
  /// Opens a database for reading.
  ///
  /// - Parameter image: memory of SQLite's own, which now belongs to the connection, also when this
  ///   throws. Source: https://www.sqlite.org/c3ref/deserialize.html
  convenience init(image: UnsafeMutableRawBufferPointer) throws(SQLiteError) {
    do throws(SQLiteError) {
      try self.init(path: ":memory:", mode: .create)
    } catch {
      sqlite3_free(image.baseAddress)
      throw error
    }
    let code = sqlite3_deserialize(
      handle, "main", image.baseAddress?.assumingMemoryBound(to: UInt8.self),
      Int64(image.count), Int64(image.count),
      UInt32(SQLITE_DESERIALIZE_FREEONCLOSE | SQLITE_DESERIALIZE_READONLY))
    guard code == SQLITE_OK else { throw SQLiteError(handle, code: code) }
  }
}
