// Files whose disk operations fail when a test wants it.

import Store
import Synchronization

/// Makes disk operations fail on paths that begin with a chosen text. Installed once for the
/// process.
final class FaultyFiles: Sendable {
  static let shared = FaultyFiles()

  private struct Fault {
    var operation: DiskOperation
    var number: Int32
    /// Calls that still succeed.
    var spared: Int
    /// Calls that fail after those.
    var failing: Int
  }

  private let faults = Mutex<[String: Fault]>([:])
  /// The most that one call moves, and how many calls were cut short.
  private let limits = Mutex<[String: (bytes: Int, uses: Int)]>([:])

  private init() {
    DiskFaults.install(
      { operation, path in FaultyFiles.shared.number(operation, path) },
      limit: { _, path in FaultyFiles.shared.limit(path) })
  }

  private func limit(_ path: String) -> Int {
    limits.withLock { limits in
      for prefix in limits.keys where path.hasPrefix(prefix) {
        limits[prefix]?.uses += 1
        return limits[prefix]?.bytes ?? .max
      }
      return .max
    }
  }

  /// Lets each call to the system move so many bytes at most.
  func shorten(under prefix: String, toBytes bytes: Int) {
    limits.withLock { $0[prefix] = (bytes, 0) }
  }

  /// How many transfers the limit was asked for.
  func transfers(under prefix: String) -> Int { limits.withLock { $0[prefix]?.uses ?? 0 } }

  private func number(_ operation: DiskOperation, _ path: String) -> Int32 {
    faults.withLock { faults in
      for (prefix, fault) in faults where fault.operation == operation && path.hasPrefix(prefix) {
        if fault.spared > 0 {
          faults[prefix]?.spared -= 1
        } else if fault.failing > 0 {
          faults[prefix]?.failing -= 1
          return fault.number
        }
      }
      return 0
    }
  }

  /// - Parameters:
  ///   - spared: calls that succeed first.
  ///   - times: calls that fail then.
  func fail(
    _ operation: DiskOperation, under prefix: String, with number: Int32, sparing spared: Int = 0,
    times: Int = .max
  ) {
    faults.withLock {
      $0[prefix] = Fault(operation: operation, number: number, spared: spared, failing: times)
    }
  }

  /// Whether the failures that were asked for have all happened.
  func isSpent(_ prefix: String) -> Bool { faults.withLock { $0[prefix]?.failing == 0 } }

  /// Ends the failures.
  func heal(_ prefix: String) {
    faults.withLock { $0[prefix] = nil }
    limits.withLock { $0[prefix] = nil }
  }
}
