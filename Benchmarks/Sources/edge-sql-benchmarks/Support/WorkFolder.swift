// Where the databases of a run lie, and the table that most of them begin with.

import CFloor
import CLoad
import Dispatch
import Glibc
import Synchronization

/// A folder that is gone after the run, also after Ctrl-C.
final class WorkFolder: Sendable {
  let path: String
  /// Rows of the table in `makeTable`.
  static let rows: UInt32 = 100_000

  /// Makes the folder below TMPDIR, or else below the current directory.
  init() throws {
    let parent = getenv("TMPDIR").map { String(cString: $0) } ?? "."
    var template = Array("\(parent)/edge-sql-benchmarks-XXXXXX".utf8CString)
    // Whole paths: litestream wants its folder as a URL.
    guard mkdtemp(&template) != nil, let whole = realpath(template, nil) else {
      throw Failure("no folder can be made in \(parent)")
    }
    defer { free(whole) }
    path = String(cString: whole)
  }

  /// Removes what the run left; sqld makes folders of its own.
  func remove() { load_remove_tree(path) }

  /// Removes the folder and ends the process when it is interrupted, as long as the result is kept.
  func removeWhenInterrupted() -> [any DispatchSourceSignal] {
    let queue = DispatchQueue(label: "interrupts")
    return [SIGINT, SIGTERM].map { number in
      signal(number, SIG_IGN)
      let source = DispatchSource.makeSignalSource(signal: number, queue: queue)
      source.setEventHandler { [self] in
        ChildProcess.killAll()
        remove()
        _exit(128 + number)
      }
      source.resume()
      return source
    }
  }

  private let count = Mutex(0)

  /// A path that was not used before.
  func newPath() -> String {
    let number = count.withLock { count in
      count += 1
      return count
    }
    return "\(path)/\(number).db"
  }

  /// A new database with the table `t` of 100,000 rows, about 130 bytes each; no program has it open.
  func makeTable(rows: UInt32 = WorkFolder.rows) throws -> String {
    let path = newPath()
    let database = try FloorDatabase(path)
    try database.execute(
      "PRAGMA synchronous=OFF; CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, v BLOB)")
    if rows > 0 {
      try database.execute(
        "WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s LIMIT \(rows)) "
          + "INSERT INTO t SELECT i, printf('row %08d', i), randomblob(100) FROM s")
    }
    return path
  }
}

extension WorkFolder {
  /// The usual table, and text beside it until the file is so large.
  func makeLarge(megabytes: Int) throws -> String {
    let path = try makeTable()
    let database = try FloorDatabase(path)
    try database.execute("PRAGMA synchronous=OFF; PRAGMA journal_mode=OFF")
    try database.fill(megabytes: megabytes)
    return path
  }

  /// Removes a database and what lies beside it.
  func removeDatabase(_ path: String) {
    for suffix in ["", "-wal", "-shm", "-pagemap", "-identity", "-incoming", "-log"] {
      unlink(path + suffix)
    }
  }
}

/// What went wrong, for people.
struct Failure: Error, CustomStringConvertible {
  let description: String
  init(_ description: String) { self.description = description }
}

/// SQLite through C, with nothing of ours around it.
final class FloorDatabase {
  private let handle: OpaquePointer

  init(_ path: String) throws {
    var handle: OpaquePointer?
    let code = floor_open(path, &handle)
    guard code == 0, let handle else {
      floor_close(handle)
      throw Failure("\(path): SQLite says \(code)")
    }
    self.handle = handle
  }

  deinit { floor_close(handle) }

  /// - Parameter synchronous: as SQLite calls it: OFF, NORMAL or FULL.
  convenience init(wal path: String, synchronous: String) throws {
    try self.init(path)
    try execute("PRAGMA journal_mode=WAL; PRAGMA synchronous=\(synchronous)")
  }

  func execute(_ sql: String) throws { try check(floor_execute(handle, sql)) }
  /// The first number that a query gives, by a connection that only reads; nil when it gives none.
  static func look(_ path: String, _ sql: String) -> Int? {
    var value: Int64 = 0
    return floor_look(path, sql, &value) == 0 ? Int(value) : nil
  }

  func fill(megabytes: Int) throws { try check(floor_fill(handle, Int32(megabytes))) }
  func update(count: Int) throws {
    try check(floor_update(handle, Int32(count), WorkFolder.rows))
  }
  func insert(count: Int) throws { try check(floor_insert(handle, Int32(count))) }
  func select(count: Int) throws {
    try check(floor_select(handle, Int32(count), WorkFolder.rows))
  }

  /// Calls `body` with all pages as of now.
  func withPages<T>(_ body: (UnsafeRawBufferPointer) throws -> T) throws -> T {
    var bytes: Int64 = 0
    guard let pages = floor_pages(handle, &bytes) else { throw Failure("no memory for the pages") }
    defer { floor_free(pages) }
    return try body(UnsafeRawBufferPointer(start: pages, count: Int(bytes)))
  }

  private func check(_ code: Int32) throws {
    guard code == 0 else { throw Failure("stock SQLite says \(code)") }
  }
}
