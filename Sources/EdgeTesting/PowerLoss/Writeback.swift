// What a kernel may do at any moment: write some dirty pages of some file to the disk, in any
// order. After a loss of power they are there, although nobody synced them.

import Glibc

/// A thread that writes back pages of some files until it is stopped.
public final class Writeback: Sendable {
  private let stops = Flag()
  private let thread: BackgroundThread

  private typealias SyncRange = @convention(c) (Int32, Int64, Int64, UInt32) -> Int32
  /// SYNC_FILE_RANGE_WRITE and both waits: the pages alone, without the log of the file system.
  private static let writeAndWait: UInt32 = 7

  /// - Parameters:
  ///   - pauseSeconds: between two pieces.
  ///   - seed: which pages, of which file.
  public init(
    _ paths: [String], pauseSeconds: ClosedRange<Double> = 0.0005...0.02, seed: UInt64
  ) throws {
    guard let symbol = dlsym(nil, "sync_file_range") else {
      throw TestFailure("this C library has no sync_file_range")
    }
    let syncRange = unsafeBitCast(symbol, to: SyncRange.self)
    let stops = stops
    thread = BackgroundThread {
      var random = SeededGenerator(seed: seed)
      while !stops.isSet {
        elapse(seconds: .random(in: pauseSeconds, using: &random))
        guard let path = paths.randomElement(using: &random) else { return }
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { continue }
        defer { close(descriptor) }
        let pages = max(1, Files.size(path) / 4096)
        let first = Int.random(in: 0..<pages, using: &random)
        let count = Int.random(in: 1...max(1, pages / 3), using: &random)
        _ = syncRange(descriptor, Int64(first) * 4096, Int64(count) * 4096, Self.writeAndWait)
      }
    }
  }

  /// Ends the thread; the files are closed afterwards.
  public func stop() throws {
    stops.set()
    try thread.join()
  }
}
