// `NAME-sync`: the generations of embedded replicas, in two slots that are written in turn, so that
// one of them is whole whatever happens. Format: docs/FORMAT.md

import WALShip

/// The file beside one database. It belongs to one thread.
public final class SyncRecordsFile {
  public private(set) var records: SyncRecords
  private let path: String
  private var file: DiskFile?

  private static let slotBytes = 4096

  public static func path(of database: String) -> String { database + "-sync" }

  /// Reads the file, if there is one. That of another database keeps its last number alone: numbers
  /// are not given twice.
  public init(database path: String, identity: DatabaseID) {
    self.path = Self.path(of: path)
    records = SyncRecords(database: identity)
    let bytes = (try? Disk.readPrefix(of: self.path, count: 2 * Self.slotBytes)) ?? []
    let slots = [0, Self.slotBytes].compactMap { offset -> SyncRecords? in
      guard bytes.count >= offset + SyncRecords.byteCount else { return nil }
      return bytes.withUnsafeBytes {
        SyncRecords(
          decoding: UnsafeRawBufferPointer(
            rebasing: $0[offset..<offset + SyncRecords.byteCount]))
      }
    }
    guard let newest = slots.max(by: { $0.sequence < $1.sequence }) else { return }
    records.sequence = newest.sequence
    records.last = newest.last
    records.floor = newest.floor
    if newest.database.short == identity.short {
      records.records = newest.records
      records.pushes = newest.pushes
    }
  }

  /// Writes the records down before a client is told what follows from them.
  ///
  /// - Parameter isDurable: whether a power loss must not take them back: a number must not be given
  ///   twice. A length may be: a client that has more frames is told that its state is not known.
  public func save(
    last: UInt32, floor: UInt32, _ list: [SyncRecord], _ pushes: [SyncPushRecord] = [],
    isDurable: Bool
  ) throws(DiskError) {
    var next = records
    next.last = last
    next.floor = floor
    next.records = list
    next.pushes = pushes.suffix(SyncPushRecord.countMax)
    guard next != records else { return }
    next.sequence += 1
    let isNew = file == nil && !Disk.exists(path)
    let file = try opened()
    var bytes = [UInt8](repeating: 0, count: SyncRecords.byteCount)
    bytes.withUnsafeMutableBytes { next.encode(into: $0) }
    let offset = Int(next.sequence & 1) * Self.slotBytes
    let written: Result<Void, DiskError> = bytes.withUnsafeBytes { bytes in
      do throws(DiskError) {
        try file.write(bytes, at: offset, .writeCopy)
        return .success(())
      } catch { return .failure(error) }
    }
    try written.get()
    if isDurable { try file.sync(.syncCopy) }
    if isNew { try Disk.syncDirectory(of: path) }
    records = next
  }

  private func opened() throws(DiskError) -> DiskFile {
    if let file { return file }
    let opened = try DiskFile(path: path, mode: .create, operation: .openCopy)
    file = opened
    return opened
  }
}
