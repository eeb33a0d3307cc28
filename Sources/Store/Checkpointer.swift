// Keeps the WAL of a primary bounded without ever losing a frame that was not captured.
//
// SQLite lets any writer begin the WAL anew once all of its frames are in the file. So the engine
// holds the checkpoint lock for life (`LogCopier`): nobody else can copy frames, and it says how
// many are copied only after they were captured and the page map is durable.

import WALShip

/// The only checkpointer of a primary's database. It is used by one thread at a time.
public final class Checkpointer {
  private let path: String
  private let copier: LogCopier
  private let map: PageMapFile

  init(path: String, map: PageMapFile) throws {
    self.path = path
    copier = try LogCopier(path: path, pageSize: map.identity.pageSize)
    self.map = map
  }

  /// Takes the checkpoint lock, for life.
  ///
  /// - Returns: false when another program's checkpoint took longer.
  func takeLock(milliseconds: Int) -> Bool { copier.takeLock(milliseconds: milliseconds) }

  func giveLock() { copier.giveLock() }

  /// Copies frames into the file, as far as readers allow.
  ///
  /// - Parameter captured: brings capture up to at least the given place and says what is captured
  ///   then.
  public func run(
    isClean: Bool = false, captured: (LogPlace) throws -> PageMapLive
  ) throws -> CheckpointOutcome {
    try copier.copy { place, isNew in
      guard isNew || isClean else { return }
      try saveBase(try captured(place), isClean: isClean)
    }
  }

  /// Copies the rest while no program can commit, and then waits a little for those who read from
  /// the WAL. New readers take the file alone by then, so short ones never outlast it.
  ///
  /// - Returns: whether the next commit begins the WAL anew; nil when another program keeps the
  ///   write lock.
  public func finish(
    waitingMilliseconds: Int, captured: (LogPlace) throws -> PageMapLive
  ) throws -> Bool? {
    try copier.withoutWriters(milliseconds: Self.writersMilliseconds) {
      try copier.poll(milliseconds: waitingMilliseconds) {
        try run(captured: captured).isComplete && copier.isUnread
      }
    }
  }
  /// As long as a commit of this node waits for other programs.
  private static let writersMilliseconds = 5000

  private func saveBase(_ live: PageMapLive, isClean: Bool) throws {
    var base = map.base
    base.txid = live.txid
    base.checksum = live.checksum
    base.place = live.place
    base.pageCount = live.pageCount
    base.isClean = isClean
    base.changeCounter = try fileChangeCounter()
    base.fileNumber = Disk.fileNumber(path)
    try map.saveBase(base)
  }

  func fileChangeCounter() throws -> UInt32 { try copier.fileChangeCounter() }
}
