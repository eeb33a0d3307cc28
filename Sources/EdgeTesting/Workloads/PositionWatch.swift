// P4 seen from outside: the position that a node tells never goes back, whatever happens to it.

import Serving
import Synchronization

/// Watches the positions that replicas tell, through restarts.
public final class PositionWatch: Sendable {
  private let stops = Flag()
  private let threads: [BackgroundThread]

  public init(ports: [Int]) {
    let stops = stops
    threads = ports.map { port in
      BackgroundThread {
        var last = (epoch: Int64(0), txid: Int64(0))
        while !stops.isSet {
          guard let connection = try? LineConnection(port: port) else {
            elapse(seconds: 0.01)
            continue
          }
          while !stops.isSet, let status = try? connection.request(".status").json {
            let now = (epoch: status["epoch"]?.integer ?? 0, txid: status["txid"]?.integer ?? 0)
            guard now.epoch > last.epoch || (now.epoch == last.epoch && now.txid >= last.txid)
            else {
              throw TestFailure("a replica went from \(last) back to \(now)")
            }
            last = now
            elapse(seconds: 0.005)
          }
        }
      }
    }
  }

  /// Ends it; throws when a node went back.
  public func stop() throws {
    stops.set()
    for thread in threads { try thread.join() }
  }
}
