// What a database holds, read from its files without any of the engine's code: every page as a
// reader of now would find it. The checks compare these.
// Source: https://www.sqlite.org/walformat.html

/// The pages of a database at one moment, as one number each.
struct StateImage: Equatable {
  private(set) var pages: [UInt64] = []

  /// Where a WAL stands, as its index in shared memory says.
  struct LogState {
    var frames = 0
    var pageCount = 0
    var copied = 0

    /// - Parameter index: the bytes of a -shm file.
    init(index: [UInt8]) {
      guard index.count >= 136, index[12] != 0 else { return }
      func word(_ offset: Int) -> Int {
        Int(index.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset, as: UInt32.self) })
      }
      frames = word(16)
      pageCount = word(20)
      copied = word(96)
    }
  }

  /// - Parameters:
  ///   - limit: the last frame that counts; nil for all.
  /// - Returns: nil when the file holds later pages already than those of `limit`, whether that was
  ///   made known or not.
  init?(database: [UInt8], log: [UInt8], index: [UInt8], pageSize: Int, limit: Int? = nil) {
    let state = LogState(index: index)
    let last = min(limit ?? state.frames, state.frames)
    if limit != nil, state.copied > last { return nil }
    func word(_ offset: Int) -> Int {
      Int(
        UInt32(
          bigEndian: log.withUnsafeBytes {
            $0.loadUnaligned(fromByteOffset: offset, as: UInt32.self)
          }
        ))
    }
    var newest: [Int: Int] = [:]
    var count = state.frames == 0 ? database.count / pageSize : 0
    if last > 0 {
      guard log.count >= 32 + last * (pageSize + 24) else { return nil }
      for frame in 1...last {
        let start = 32 + (frame - 1) * (pageSize + 24)
        newest[word(start)] = start + 24
        let commit = word(start + 4)
        if commit != 0 { count = commit }
      }
    } else if state.frames > 0 {
      count = database.count / pageSize
    }
    if last < state.frames {
      // A checkpoint that has not told yet how far it came can be under way.
      guard log.count >= 32 + state.frames * (pageSize + 24) else { return nil }
      for frame in last + 1...state.frames {
        let start = 32 + (frame - 1) * (pageSize + 24)
        let number = word(start)
        let end = number * pageSize
        guard newest[number] == nil, number <= count, end <= database.count else { continue }
        let later = log[start + 24..<start + 24 + pageSize]
        if database[end - pageSize..<end].elementsEqual(later) { return nil }
      }
    }
    pages.reserveCapacity(count)
    for number in 1...max(1, count) where number <= count {
      if let start = newest[number] {
        pages.append(Self.hash(log[start..<start + pageSize], page: number))
      } else {
        let start = (number - 1) * pageSize
        let end = min(start + pageSize, database.count)
        let bytes = start < end ? database[start..<end] : []
        pages.append(Self.hash(bytes, page: number))
      }
    }
  }

  /// The pages that differ, for people.
  func differences(from other: StateImage) -> String {
    let wrong = zip(pages, other.pages).enumerated().filter { $0.element.0 != $0.element.1 }
    return "\(wrong.prefix(5).map { $0.offset + 1 }) of \(pages.count) and \(other.pages.count)"
  }

  /// Bytes of page 1 in which a replica may differ are left out: the write version, and its stamp.
  private static func hash(_ bytes: ArraySlice<UInt8>, page: Int) -> UInt64 {
    var hash: UInt64 = 0x2545_F491_4F6C_DD1D
    bytes.withUnsafeBytes { raw in
      guard let base = raw.baseAddress else { return }
      // A plain loop: without optimization a quarter of each simulation was spent in here.
      let end = raw.count & ~7
      var offset = 0
      while offset < end {
        var word = base.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
        if page == 1 {
          if offset == 16 { word &= ~0xFF_0000 }
          if offset >= 72, offset < 88 { word = 0 }
          if offset == 88 { word &= ~0xFFFF_FFFF }
        }
        // Zeros count for nothing, so that a page beyond the end of the file is one of zeros.
        if word != 0 {
          hash = (hash ^ (word &+ UInt64(truncatingIfNeeded: offset))) &* 0xFF51_AFD7_ED55_8CCD
          hash ^= hash >> 32
        }
        offset &+= 8
      }
    }
    return hash
  }
}
