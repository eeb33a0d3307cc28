// What a node remembers of the generations that it told embedded replicas of. A client comes back
// with two numbers alone, so what they once stood for must outlive the process.
// Format: docs/FORMAT.md

/// A generation as it was when it was last written down.
public struct SyncRecord: Hashable, Sendable {
  public var number: UInt32
  public var epoch: Epoch
  /// Whoever has this generation holds at least this transaction.
  public var base: TXID
  /// The last transaction that any of its clients can have.
  public var seen: TXID
  /// How many frames were handed out: who has more was served by a later state than this one.
  public var length: UInt32

  public init(number: UInt32, epoch: Epoch, base: TXID, seen: TXID, length: UInt32) {
    self.number = number
    self.epoch = epoch
    self.base = base
    self.seen = seen
    self.length = length
  }
}

/// Frames that a client pushed, so that the same push is known when it comes again.
public struct SyncPushRecord: Hashable, Sendable {
  public static let countMax = 7

  /// The generation, and its first and last frame that were pushed.
  public var number: UInt32
  public var start: UInt32
  public var last: UInt32
  /// Of the frames as they came.
  public var hash: UInt64
  /// The transaction that they belong behind. The push was sent to the primary from there; whether
  /// it was done is another question.
  public var base: TXID

  public init(number: UInt32, start: UInt32, last: UInt32, hash: UInt64, base: TXID) {
    self.number = number
    self.start = start
    self.last = last
    self.hash = hash
    self.base = base
  }
}

/// All generations that a node remembers, and the last number it gave.
public struct SyncRecords: Hashable, Sendable {
  public static let byteCount = 2048
  public static let countMax = 64
  private static let magic: UInt64 = 0x636e_7973_6567_6465

  public var sequence: UInt64 = 0
  public var database: DatabaseID
  /// The last number that was given to a generation; 0 before the first.
  public var last: UInt32 = 0
  /// Copies of generations that were forgotten can stand at numbers up to this one.
  public var floor: UInt32 = 0
  /// At most `countMax`, in the order of their numbers.
  public var records: [SyncRecord] = []
  /// The last `SyncPushRecord.countMax`, in the order in which they came.
  public var pushes: [SyncPushRecord] = []
  private static let pushesOffset = 44 + countMax * 28

  public init(database: DatabaseID) { self.database = database }

  public func encode(into buffer: UnsafeMutableRawBufferPointer) {
    var writer = FixedWriter(buffer)
    writer.write(Self.magic)
    writer.write(sequence)
    writer.write(database.high)
    writer.write(database.low)
    writer.write(last)
    let kept = records.suffix(Self.countMax)
    writer.write(UInt32(kept.count))
    writer.write(floor)
    for record in kept {
      writer.write(record.number)
      writer.write(record.epoch.rawValue)
      writer.write(record.base.rawValue)
      writer.write(record.seen.rawValue)
      writer.write(record.length)
    }
    writer.seek(to: Self.pushesOffset)
    let latest = pushes.suffix(SyncPushRecord.countMax)
    writer.write(UInt32(latest.count))
    for push in latest {
      writer.write(push.number)
      writer.write(push.start)
      writer.write(push.last)
      writer.write(push.hash)
      writer.write(push.base.rawValue)
    }
    writer.seal(at: Self.byteCount - 8)
  }

  /// - Returns: nil when the bytes were never written or their checksum does not hold.
  public init?(decoding buffer: UnsafeRawBufferPointer) {
    guard buffer.count == Self.byteCount,
      var reader = FixedReader(buffer, sealedAt: Self.byteCount - 8),
      reader.read() == Self.magic
    else { return nil }
    sequence = reader.read()
    database = DatabaseID(high: reader.read(), low: reader.read())
    last = reader.read()
    let count: UInt32 = reader.read()
    floor = reader.read()
    guard count <= Self.countMax, sequence < .max else { return nil }
    for _ in 0..<count {
      records.append(
        SyncRecord(
          number: reader.read(), epoch: Epoch(reader.read()), base: TXID(reader.read()),
          seen: TXID(reader.read()), length: reader.read()))
    }
    // A release that knew of no pushes left zeros here.
    reader.seek(to: Self.pushesOffset)
    let pushCount: UInt32 = reader.read()
    guard pushCount <= SyncPushRecord.countMax else { return nil }
    for _ in 0..<pushCount {
      pushes.append(
        SyncPushRecord(
          number: reader.read(), start: reader.read(), last: reader.read(), hash: reader.read(),
          base: TXID(reader.read())))
    }
  }
}
