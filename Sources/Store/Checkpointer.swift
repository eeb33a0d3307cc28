// Keeps the WAL of a primary bounded without ever losing a frame that was not captured. The engine holds SQLite's
// checkpoint lock, so no other program can copy frames into the file or let the WAL be reset; while the engine itself
// copies, it holds a reader's slot, which forbids the reset alone. docs/ARCHITECTURE.md

import WALShip

/// The only checkpointer of a primary's database. It belongs to one thread.
public final class Checkpointer {
  private let connection: Connection
  private let index: WALIndex
  private let map: PageMapFile
  private var holdsCheckpointLock = false

  public struct Outcome: Equatable, Sendable {
    public var frames: UInt32
    public var copied: UInt32
    /// Nothing of the WAL is needed any more: the next writer begins it anew.
    public var isComplete: Bool { copied >= frames }
  }

  init(path: String, map: PageMapFile) throws {
    connection = try Connection(path: path, mode: .readWrite)
    connection.setBusyTimeout(milliseconds: 1000)
    connection.keepLog()
    // Checkpoints sync the WAL before they copy from it, and the file afterwards.
    try connection.execute("PRAGMA synchronous=FULL")
    _ = try connection.query("SELECT rootpage FROM sqlite_schema LIMIT 1")
    index = try WALIndex(connection: connection)
    self.map = map
  }

  /// Takes the checkpoint lock, for life. Returns false while another program's checkpoint runs.
  func takeLock() -> Bool {
    if !holdsCheckpointLock {
      holdsCheckpointLock = index.tryLockExclusive(WALIndex.Lock.checkpoint.rawValue)
    }
    return holdsCheckpointLock
  }

  private func releaseLock() {
    if holdsCheckpointLock { index.unlockExclusive(WALIndex.Lock.checkpoint.rawValue) }
    holdsCheckpointLock = false
  }

  /// Copies frames into the file, then makes the page map durable, then allows the WAL to be reset.
  ///
  /// - Parameter captured: brings capture up to at least the given place and says what is captured then.
  /// - Returns: nil when a reader or another program was in the way; try again later.
  public func run(
    isClean: Bool = false, captured: (LogPlace) throws -> PageMapLive
  ) throws -> Outcome? {
    guard takeLock() else { return nil }
    // Any reader slot will do: a reset needs them all. Slots are tried from the least used one on.
    let slots = (1...4).reversed().map { WALIndex.Lock.reader0.rawValue + Int32($0) }
    guard let slot = slots.first(where: { index.tryLockExclusive($0) }) else { return nil }
    defer { index.unlockExclusive(slot) }
    index.setReadMark(Int(slot - WALIndex.Lock.reader0.rawValue), WALIndex.readMarkUnused)
    releaseLock()
    guard try copyIntoFile() else {
      _ = takeLock()
      return nil
    }
    for _ in 0..<1000 where !takeLock() {}
    guard let header = index.header() else { return nil }
    let copied = index.backfilled
    let live = try captured(LogPlace(salts: header.salts, frame: copied))
    var base = map.base
    base.txid = live.txid
    base.checksum = live.checksum
    base.place = live.place
    base.pageCount = live.pageCount
    base.isClean = isClean
    base.changeCounter = try fileChangeCounter()
    try map.saveBase(base)
    return Outcome(frames: header.frameCount, copied: copied)
  }

  /// Returns false when another program got the checkpoint lock first.
  private func copyIntoFile() throws -> Bool {
    do {
      _ = try connection.checkpointPassive()
      return true
    } catch {
      guard error.primaryCode == SQLiteError.busy else { throw error }
      return false
    }
  }

  func fileChangeCounter() throws -> UInt32 {
    let header = PageMemory(bytes: 512)
    try index.readDatabase(into: header.bytes, at: 0)
    return UInt32(bigEndian: header.bytes.load(fromByteOffset: 24, as: UInt32.self))
  }
}
