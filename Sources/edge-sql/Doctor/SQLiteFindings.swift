// The SQLite library that edge-sql runs with, and what is known to be wrong with it.

import Store

/// A version of SQLite such as 3.40.1.
struct SQLiteVersion: Comparable, CustomStringConvertible {
  var major: Int
  var minor: Int
  var patch: Int

  init(_ major: Int, _ minor: Int, _ patch: Int) {
    (self.major, self.minor, self.patch) = (major, minor, patch)
  }

  init?(_ text: String) {
    let parts = text.split(separator: ".").map { Int($0) }
    guard parts.count >= 2, let major = parts[0], let minor = parts[1] else { return nil }
    self.init(major, minor, parts.count > 2 ? parts[2] ?? 0 : 0)
  }

  var description: String { "\(major).\(minor).\(patch)" }

  static func < (a: SQLiteVersion, b: SQLiteVersion) -> Bool {
    (a.major, a.minor, a.patch) < (b.major, b.minor, b.patch)
  }

  /// Two connections that write and checkpoint at the same moment may damage the database.
  ///
  /// Source: https://www.sqlite.org/wal.html#walresetbug
  var hasWALResetBug: Bool {
    guard self >= SQLiteVersion(3, 7, 0), self < SQLiteVersion(3, 51, 3) else { return false }
    switch minor {
    case 44: return patch < 6
    case 50: return patch < 7
    default: return true
    }
  }
}

enum SQLiteFindings {
  static func all() -> [Finding] {
    let text = SQLiteLibrary.version
    guard let version = SQLiteVersion(text) else {
      return [.warn("SQLite", "the version \"\(text)\" is not readable", do: "Use a release.")]
    }
    return [library(version), walReset(version)]
  }

  /// RETURNING came with 3.35; nothing older than the WAL itself can work.
  private static func library(_ version: SQLiteVersion) -> Finding {
    if version < SQLiteVersion(3, 7, 0) {
      return .fail("SQLite", "\(version) has no write-ahead log", do: "Install 3.37 or newer.")
    }
    if version < SQLiteVersion(3, 37, 0) {
      return .warn(
        "SQLite", "\(version) is older than what edge-sql is tested with",
        do: "Install 3.37 or newer.")
    }
    return .ok("SQLite", "\(version)")
  }

  private static func walReset(_ version: SQLiteVersion) -> Finding {
    guard version.hasWALResetBug else {
      return .ok("WAL-reset bug", "not in \(version)")
    }
    return .warn(
      "WAL-reset bug",
      "in \(version), as in all from 3.7.0 to 3.51.2; closed while edge-sql runs, as it holds"
        + " WAL_CKPT_LOCK",
      do: "Nothing, as long as other programs open the database only while edge-sql runs. Else"
        + " update SQLite to 3.51.3, or to 3.50.7 or 3.44.6 of the older lines.")
  }
}
