// What tests about repair and return begin with: a database that is large against what changes, and
// the ways to damage a file.

import EdgeTesting
import Serving
import Store

enum Ballast {
  /// 20 MB that do not compress.
  static let pages = 5000

  static func make(_ path: String, rows: Int = pages) throws {
    let connection = try Connection(path: path, mode: .create)
    try connection.execute(
      "CREATE TABLE ballast(id INTEGER PRIMARY KEY, b BLOB);"
        + "WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s LIMIT \(rows))"
        + "INSERT INTO ballast SELECT i, randomblob(4000) FROM s; \(WriteLoad.schema);"
        + "CREATE TABLE notes(id INTEGER PRIMARY KEY, t TEXT)")
  }
}

extension NodeProcess {
  /// Ends the node where it stands, changes its files, and starts it again.
  func whileKilled(waits: Bool = true, _ change: () throws -> Void) throws {
    kill()
    try change()
    try start(waits: waits)
  }

  func note(_ text: String) throws {
    try connect().run("INSERT INTO notes(t) VALUES (?)", [.string(text)])
  }

  /// A member of the status, by its path.
  func status(_ path: String...) throws -> JSONValue? {
    var value: JSONValue? = try report()
    for name in path { value = value?[name] }
    return value
  }
}
