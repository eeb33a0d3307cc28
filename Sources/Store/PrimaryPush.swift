// Pages from a client become a commit of the primary: appended to its WAL under the write lock, as
// SQLite would, durable before anybody sees them. What they hold was looked at before (`PushCheck`).

import WALShip

extension PrimaryDatabase {
  /// Makes pages the next commit, if the database stands where they belong; on the writer's thread,
  /// without an open transaction.
  ///
  /// - Throws: `PagePush.Failure.conflict` when it does not, `SQLITE_BUSY` when another program keeps
  ///   the write lock: then nothing was done. After a `DiskError` the commit was made, or not.
  public func commit(_ push: PagePush) throws {
    let write = WALIndex.Lock.write.rawValue
    guard lockPatiently(write) else {
      throw SQLiteError(code: SQLiteError.busy, message: "another program is writing")
    }
    defer { index.unlockExclusive(write) }
    try captureAll()
    guard push.isOnto(tracker.position) else { throw PagePush.Failure.conflict }
    guard let header = index.header() else {
      throw SQLiteError(code: SQLiteError.corrupt, message: "the wal-index cannot be read")
    }
    let bytes = (push.numbers.count + 1) * log.frameBytes
    let appender = WALAppender(
      index: index, log: log, pageSize: pageSize, header: header,
      memoryBytes: min(bytes, FrameBatch.memoryBytes))
    // As every writer does that finds all of the WAL in the file. The file keeps its length.
    if header.frameCount > 0, index.backfilled == header.frameCount {
      _ = try appender.restart(fileFramesMax: .max) { _ in }
    }
    let last = push.numbers.count - 1
    var number = 0
    try push.forEach { pgno, page in
      defer { number += 1 }
      guard number == last else { return try appender.append(pgno, page) }
      try appender.publish(pageCount: push.pageCount, last: pgno, page, isDurable: true) { _ in }
    }
    try captureDurable(through: appender.header.frameCount)
  }

  /// As long as a commit of SQL waits for other programs.
  private func lockPatiently(_ lock: Int32) -> Bool {
    for attempt in 0..<Self.lockTries {
      if index.tryLockExclusive(lock) { return true }
      if attempt < Self.lockTries - 1 { pauseThread(microseconds: 500) }
    }
    return false
  }
  private static let lockTries = 10_000
}
