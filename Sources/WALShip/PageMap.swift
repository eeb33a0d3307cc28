// The page map replaces a log: for each page, which transaction changed it last, and what its bytes
// add up to. A replica at any position gets exactly the pages changed since. This file is the
// format; `PageMapFile` in Store keeps it on disk. Layout: docs/FORMAT.md

/// What the map knows of one page.
public struct PageMapEntry: Hashable, Sendable {
  public static let byteCount = 16
  /// The transaction that last changed the page; zero when the page was never seen.
  public var txid: TXID
  public var checksum: UInt64
  @inlinable public init(txid: TXID, checksum: UInt64) {
    self.txid = txid
    self.checksum = checksum
  }
  public static let absent = PageMapEntry(txid: .zero, checksum: 0)
}

/// The end of an earlier epoch: its transactions up to `last` belong to the present history, later
/// ones are lost.
public struct EpochFork: Hashable, Sendable {
  public var epoch: Epoch
  public var last: TXID
  public init(epoch: Epoch, last: TXID) {
    self.epoch = epoch
    self.last = last
  }
}

/// The epochs of a database, oldest first, and which of their transactions survive.
public struct EpochHistory: Hashable, Sendable {
  public var current: Epoch
  public var forks: [EpochFork]
  public static let forksMax = 16

  public init(current: Epoch, forks: [EpochFork] = []) {
    self.current = current
    self.forks = forks
  }

  /// Whether the state after `txid` of `epoch` lies on the line that leads to the present.
  public func contains(epoch: Epoch, txid: TXID) -> Bool {
    if epoch == current { return true }
    guard epoch < current else { return false }
    var survives = false
    for fork in forks where fork.epoch >= epoch {
      if fork.epoch == epoch { survives = true }
      if txid > fork.last { return false }
    }
    return survives
  }

  /// The last transaction that a history which stands after `txid` of `epoch` shares with this one.
  ///
  /// - Returns: nil when it is not known; then only a comparison of all pages tells what differs.
  public func lastCommon(epoch: Epoch, txid: TXID) -> TXID? {
    guard epoch < current, forks.contains(where: { $0.epoch == epoch }) else { return nil }
    let last = forks.filter { $0.epoch >= epoch }.map(\.last).reduce(txid, min)
    return last == .zero ? nil : last
  }

  /// Begins a new epoch. `last` is the last transaction of the present epoch that the new one
  /// builds on, zero when that is not known.
  ///
  /// The step is random: two nodes that were promoted apart from each other then hardly ever give
  /// two histories one number.
  ///
  /// - Parameter other: the epoch of another primary, which the new one must be above.
  public mutating func fork(
    after last: TXID, above other: Epoch = Epoch(0), step: UInt32 = Chance.number(in: 1...1024)
  ) {
    forks.append(EpochFork(epoch: current, last: last))
    if forks.count > Self.forksMax { forks.removeFirst(forks.count - Self.forksMax) }
    current = Epoch(min(max(current, other).rawValue + step, Epoch.max.rawValue))
  }
}

/// Where in the life of a WAL a state of the map was taken.
public struct LogPlace: Hashable, Sendable {
  public var salts: Salts
  public var frame: UInt32
  public init(salts: Salts, frame: UInt32) {
    self.salts = salts
    self.frame = frame
  }
}

/// A state of the map whose entries are durable: what recovery starts from.
public struct PageMapBase: Hashable, Sendable {
  public static let byteCount = 512
  public var sequence: UInt64
  public var history: EpochHistory
  public var txid: TXID
  public var checksum: DatabaseChecksum
  public var place: LogPlace
  public var pageCount: UInt32
  /// Set by an orderly stop: the file was complete and the WAL empty or as named by `place`.
  public var isClean: Bool
  /// Set while a replica's entries may say of damaged pages that they are right: until they were
  /// compared with the upstream's.
  public var isDoubtful = false
  /// Identifies the run of the operating system: within one, writes to the map survive the end of a
  /// process.
  public var bootID: [UInt8] = []
  /// The file change counter of the database header then: a smaller one later means an older copy
  /// of the file.
  public var changeCounter: UInt32 = 0
  /// Which file the database was then, as the file system numbers it: another one has been put in
  /// its place since when it differs.
  public var fileNumber: UInt64 = 0
  /// A later epoch, of another primary, that this one was told of; it must not accept writes.
  public var superseding = Epoch(0)

  public init(
    sequence: UInt64, history: EpochHistory, txid: TXID, checksum: DatabaseChecksum,
    place: LogPlace,
    pageCount: UInt32, isClean: Bool
  ) {
    self.sequence = sequence
    self.history = history
    self.txid = txid
    self.checksum = checksum
    self.place = place
    self.pageCount = pageCount
    self.isClean = isClean
  }

  public func encode(into buffer: UnsafeMutableRawBufferPointer) {
    var writer = FixedWriter(buffer)
    writer.write(sequence)
    writer.write(history.current.rawValue)
    writer.write((isClean ? 1 : 0) | (isDoubtful ? 2 : 0) as UInt32)
    writer.write(txid.rawValue)
    writer.write(checksum.rawValue)
    writer.write(place.salts.first)
    writer.write(place.salts.second)
    writer.write(place.frame)
    writer.write(pageCount)
    writer.write(changeCounter)
    writer.write(superseding.rawValue)
    writer.write(fileNumber)
    for index in 0..<16 { writer.write(index < bootID.count ? bootID[index] : 0 as UInt8) }
    writer.write(UInt64(history.forks.count))
    for fork in history.forks {
      writer.write(UInt64(fork.epoch.rawValue))
      writer.write(fork.last.rawValue)
    }
    writer.seal(at: Self.byteCount - 8)
  }

  /// - Returns: nil when the slot was never written or its checksum does not hold.
  public init?(decoding buffer: UnsafeRawBufferPointer) {
    guard var reader = FixedReader(buffer, sealedAt: Self.byteCount - 8) else { return nil }
    sequence = reader.read()
    let current: UInt32 = reader.read()
    let flags: UInt32 = reader.read()
    txid = TXID(reader.read())
    checksum = DatabaseChecksum(reader.read())
    place = LogPlace(
      salts: Salts(first: reader.read(), second: reader.read()), frame: reader.read())
    pageCount = reader.read()
    changeCounter = reader.read()
    superseding = Epoch(reader.read())
    fileNumber = reader.read()
    bootID = (0..<16).map { _ in reader.read() }
    let count: UInt64 = reader.read()
    guard count <= EpochHistory.forksMax else { return nil }
    var forks: [EpochFork] = []
    for _ in 0..<count {
      let epoch: UInt64 = reader.read()
      forks.append(
        EpochFork(epoch: Epoch(UInt32(truncatingIfNeeded: epoch)), last: TXID(reader.read())))
    }
    history = EpochHistory(current: Epoch(current), forks: forks)
    isClean = flags & 1 != 0
    isDoubtful = flags & 2 != 0
    guard sequence <= Self.sequenceMax, txid <= TXID.max else { return nil }
    guard history.current <= Epoch.max, superseding <= Epoch.max else { return nil }
  }

  /// No page map gets so far: whoever counts on from a sequence below cannot overflow.
  static let sequenceMax: UInt64 = 1 << 62
}

/// How far the entries have come, rewritten with each transaction; trusted only within one run of
/// the system.
public struct PageMapLive: Hashable, Sendable {
  public static let byteCount = 64
  public var sequence: UInt64
  public var txid: TXID
  public var checksum: DatabaseChecksum
  public var place: LogPlace
  public var pageCount: UInt32

  public init(
    sequence: UInt64, txid: TXID, checksum: DatabaseChecksum, place: LogPlace, pageCount: UInt32
  ) {
    self.sequence = sequence
    self.txid = txid
    self.checksum = checksum
    self.place = place
    self.pageCount = pageCount
  }

  public func encode(into buffer: UnsafeMutableRawBufferPointer) {
    var writer = FixedWriter(buffer)
    writer.write(sequence)
    writer.write(txid.rawValue)
    writer.write(checksum.rawValue)
    writer.write(place.salts.first)
    writer.write(place.salts.second)
    writer.write(place.frame)
    writer.write(pageCount)
    writer.seal(at: Self.byteCount - 8)
  }

  public init?(decoding buffer: UnsafeRawBufferPointer) {
    guard var reader = FixedReader(buffer, sealedAt: Self.byteCount - 8) else { return nil }
    sequence = reader.read()
    txid = TXID(reader.read())
    checksum = DatabaseChecksum(reader.read())
    place = LogPlace(
      salts: Salts(first: reader.read(), second: reader.read()), frame: reader.read())
    pageCount = reader.read()
    guard sequence <= PageMapBase.sequenceMax, txid <= TXID.max else { return nil }
  }
}

/// The unchanging head of a page-map file.
public struct PageMapIdentity: Hashable, Sendable {
  public static let byteCount = 64
  public static let formatVersion: UInt32 = 1
  private static let magic: UInt64 = 0x4544_4745_504d_4150  // "EDGEPMAP"

  public var database: DatabaseID
  public var pageSize: PageSize
  public init(database: DatabaseID, pageSize: PageSize) {
    self.database = database
    self.pageSize = pageSize
  }

  public func encode(into buffer: UnsafeMutableRawBufferPointer) {
    var writer = FixedWriter(buffer)
    writer.write(Self.magic)
    writer.write(Self.formatVersion)
    writer.write(UInt32(pageSize.bytes))
    writer.write(database.high)
    writer.write(database.low)
    writer.seal(at: Self.byteCount - 8)
  }

  public enum Failure: Error, Equatable, Sendable {
    case notAPageMap
    case newerFormat(UInt32)
  }

  public init(decoding buffer: UnsafeRawBufferPointer) throws(Failure) {
    guard var reader = FixedReader(buffer, sealedAt: Self.byteCount - 8),
      reader.read() == Self.magic
    else { throw .notAPageMap }
    let version: UInt32 = reader.read()
    guard version == Self.formatVersion else { throw .newerFormat(version) }
    let size: UInt32 = reader.read()
    guard let pageSize = PageSize(Int(size)) else { throw .notAPageMap }
    self.pageSize = pageSize
    database = DatabaseID(high: reader.read(), low: reader.read())
  }
}

/// Where each part of a page-map file lies.
public enum PageMapLayout {
  public static let headerBytes = 4096
  public static let baseOffsets = [512, 1024]
  public static let liveOffsets = [2048, 2560]
  @inlinable public static func entryOffset(_ pgno: Pgno) -> Int {
    headerBytes + pgno.index * PageMapEntry.byteCount
  }
  public static func fileBytes(pages: Int) -> Int { headerBytes + pages * PageMapEntry.byteCount }
}

/// Writes little-endian numbers one after the other and a checksum behind them.
struct FixedWriter {
  private let buffer: UnsafeMutableRawBufferPointer
  private var offset = 0
  init(_ buffer: UnsafeMutableRawBufferPointer) { self.buffer = buffer }

  mutating func write<T: FixedWidthInteger>(_ value: T) {
    buffer.storeBytes(of: value.littleEndian, toByteOffset: offset, as: T.self)
    offset += MemoryLayout<T>.size
  }

  /// Leaves zeros up to an offset.
  mutating func seek(to next: Int) {
    precondition(offset <= next, "the part before outgrew its place")
    for index in offset..<next { buffer[index] = 0 }
    offset = next
  }

  mutating func seal(at end: Int) {
    precondition(offset <= end, "the record outgrew its slot")
    for index in offset..<end { buffer[index] = 0 }
    let sum = xxh64(UnsafeRawBufferPointer(rebasing: buffer[0..<end]), seed: 0)
    buffer.storeBytes(of: sum.littleEndian, toByteOffset: end, as: UInt64.self)
  }
}

/// Reads what `FixedWriter` wrote, after its checksum was found right.
struct FixedReader {
  private let buffer: UnsafeRawBufferPointer
  private var offset = 0

  init?(_ buffer: UnsafeRawBufferPointer, sealedAt end: Int) {
    guard buffer.count >= end + 8 else { return nil }
    let sum = buffer.loadUnaligned(fromByteOffset: end, as: UInt64.self)
    guard
      UInt64(littleEndian: sum) == xxh64(UnsafeRawBufferPointer(rebasing: buffer[0..<end]), seed: 0)
    else { return nil }
    self.buffer = buffer
  }

  mutating func seek(to next: Int) { offset = next }

  mutating func read<T: FixedWidthInteger>() -> T {
    defer { offset += MemoryLayout<T>.size }
    return T(littleEndian: buffer.loadUnaligned(fromByteOffset: offset, as: T.self))
  }
}
