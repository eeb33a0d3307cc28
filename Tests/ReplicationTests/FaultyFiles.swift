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

  private init() {
    DiskFaults.install { operation, path in FaultyFiles.shared.number(operation, path) }
  }

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
  func heal(_ prefix: String) { faults.withLock { $0[prefix] = nil } }
}
