// Shows how far a replica is with its first copy, or with a catch-up that takes long.

import Logging
import Replica
import Serving

/// Looks at the status of a replica now and then.
struct CopyWatch {
  let service: ReplicaService
  let logger: Logger

  private static let pauseMilliseconds = 200
  /// What is smaller is over before anybody has read the bar.
  private static let bytesMin = 4 << 20

  /// Shows each copy until the task is cancelled.
  func run() async {
    var bar: ProgressBar?
    while !Task.isCancelled {
      if let progress = service.copyProgress, progress.expectedBytes >= Self.bytesMin {
        bar = bar ?? ProgressBar("copying") { logger.info("\($0)") }
        bar?.show(progress.receivedBytes, of: progress.expectedBytes)
      } else {
        bar?.end()
        bar = nil
      }
      try? await Task.sleep(for: .milliseconds(Self.pauseMilliseconds))
    }
    bar?.end()
  }
}
