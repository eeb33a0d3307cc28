// Finds the reader that belongs to an event loop.

import NIOCore
import Synchronization

/// A reader for each event loop that has asked for one.
final class LoopReaderTable: Sendable {
  private let readers = Mutex<[ObjectIdentifier: NIOLoopBound<LoopReader>]>([:])

  /// The reader of `loop`, which is the present one.
  func reader(of loop: any EventLoop) -> LoopReader? {
    readers.withLock { $0[ObjectIdentifier(loop)] }?.value
  }

  func set(_ reader: LoopReader, of loop: any EventLoop) {
    let bound = NIOLoopBound(reader, eventLoop: loop)
    readers.withLock { $0[ObjectIdentifier(loop)] = bound }
  }
}
