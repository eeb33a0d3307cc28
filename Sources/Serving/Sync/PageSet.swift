// Which pages a client of `/pull-updates` wants: a Roaring bitmap, as its portable format has it. The
// bytes stay as they came; a set takes a few bytes more for each of its containers, however many
// pages it has.
// Source: https://github.com/RoaringBitmap/RoaringFormatSpec

import NIOCore

/// A set of page numbers from 0. Any bytes may be given to it.
package struct PageSet: Equatable {
  package struct Malformed: Error {}

  /// The numbers with the same upper 16 bits.
  private struct Container: Equatable {
    enum Form: Equatable {
      /// Each number, in order.
      case numbers
      /// A bit for each number.
      case bits
      /// Where a run begins, and how many come after its first.
      case runs(Int)
    }
    var key: UInt16
    var count: Int
    var form: Form
    /// Where its content begins.
    var start: Int
  }

  private let bytes: [UInt8]
  private var containers: [Container] = []

  private static let cookie: UInt32 = 12346
  private static let runsCookie: UInt32 = 12347
  private static let containersMax = 1 << 16
  /// A container of more numbers has a bit for each.
  private static let numbersMax = 4096
  private static let bitsBytes = 8192
  /// With runs and fewer containers the format leaves out where they begin.
  private static let offsetsFrom = 4

  /// How many numbers it has.
  package var count: Int { containers.reduce(0) { $0 + $1.count } }

  package init(decoding bytes: [UInt8]) throws(Malformed) {
    self.bytes = bytes
    var cursor = 0
    let first = try take32(&cursor)
    let hasRuns = first & 0xffff == Self.runsCookie
    guard hasRuns || first == Self.cookie else { throw Malformed() }
    let count = hasRuns ? Int(first >> 16) + 1 : Int(try take32(&cursor))
    guard count <= Self.containersMax else { throw Malformed() }
    let flags = try take(hasRuns ? (count + 7) / 8 : 0, &cursor)
    // Before anything is kept for them: the keys must be there.
    var keys = try take(4 * count, &cursor)
    // Where containers begin follows from what is before them, and is not believed.
    if !hasRuns || count >= Self.offsetsFrom { _ = try take(4 * count, &cursor) }
    containers.reserveCapacity(count)
    for index in 0..<count {
      let key = word(keys)
      let size = Int(word(keys + 2)) + 1
      keys += 4
      if let last = containers.last, last.key >= key { throw Malformed() }
      let isRun = hasRuns && bytes[flags + index / 8] >> UInt8(index % 8) & 1 == 1
      containers.append(try container(key, size, isRun: isRun, &cursor))
    }
    guard cursor == bytes.count else { throw Malformed() }
  }

  private func container(
    _ key: UInt16, _ count: Int, isRun: Bool, _ cursor: inout Int
  ) throws(Malformed) -> Container {
    if isRun {
      let runs = Int(word(try take(2, &cursor)))
      let start = try take(4 * runs, &cursor)
      var next = 0
      var found = 0
      for run in 0..<runs {
        let first = Int(word(start + 4 * run))
        let last = first + Int(word(start + 4 * run + 2))
        guard first >= next, last < 1 << 16 else { throw Malformed() }
        found += last - first + 1
        next = last + 1
      }
      guard found == count else { throw Malformed() }
      return Container(key: key, count: count, form: .runs(runs), start: start)
    }
    guard count <= Self.numbersMax else {
      let start = try take(Self.bitsBytes, &cursor)
      let found = bytes[start..<start + Self.bitsBytes].reduce(0) { $0 + $1.nonzeroBitCount }
      guard found == count else { throw Malformed() }
      return Container(key: key, count: count, form: .bits, start: start)
    }
    let start = try take(2 * count, &cursor)
    for index in 1..<max(1, count) where word(start + 2 * index - 2) >= word(start + 2 * index) {
      throw Malformed()
    }
    return Container(key: key, count: count, form: .numbers, start: start)
  }

  /// Its numbers below a bound, in order.
  package func numbers(below end: UInt32) -> [UInt32] {
    var found: [UInt32] = []
    for container in containers {
      let base = UInt32(container.key) << 16
      guard base < end else { break }
      let limit = Int(min(end - base, 1 << 16))
      switch container.form {
      case .numbers:
        for index in 0..<container.count {
          let number = word(container.start + 2 * index)
          guard Int(number) < limit else { break }
          found.append(base + UInt32(number))
        }
      case .bits:
        for number in 0..<limit
        where bytes[container.start + number / 8] >> UInt8(number % 8) & 1 == 1 {
          found.append(base + UInt32(number))
        }
      case .runs(let runs):
        for run in 0..<runs {
          let first = Int(word(container.start + 4 * run))
          let last = first + Int(word(container.start + 4 * run + 2))
          guard first < limit else { break }
          for number in first...min(last, limit - 1) { found.append(base + UInt32(number)) }
        }
      }
    }
    return found
  }

  /// Whether it has a number of these.
  package func hasNumber(from start: UInt32, below end: UInt32) -> Bool {
    guard start < end else { return false }
    return containers.contains { container in
      let base = Int(container.key) << 16
      let (low, high) = (max(0, Int(start) - base), min(1 << 16, Int(end) - base))
      guard low < high else { return false }
      let range = low..<high
      switch container.form {
      case .numbers:
        return (0..<container.count).contains {
          range.contains(Int(word(container.start + 2 * $0)))
        }
      case .bits:
        return range.contains { bytes[container.start + $0 / 8] >> UInt8($0 % 8) & 1 == 1 }
      case .runs(let runs):
        return (0..<runs).contains {
          let first = Int(word(container.start + 4 * $0))
          let last = first + Int(word(container.start + 4 * $0 + 2))
          return first < range.upperBound && last >= range.lowerBound
        }
      }
    }
  }

  // MARK: Bytes

  /// - Returns: where they begin.
  private func take(_ count: Int, _ cursor: inout Int) throws(Malformed) -> Int {
    guard count <= bytes.count - cursor else { throw Malformed() }
    defer { cursor += count }
    return cursor
  }

  private func take32(_ cursor: inout Int) throws(Malformed) -> UInt32 {
    let start = try take(4, &cursor)
    return UInt32(word(start)) | UInt32(word(start + 2)) << 16
  }

  private func word(_ offset: Int) -> UInt16 {
    UInt16(bytes[offset]) | UInt16(bytes[offset + 1]) << 8
  }
}
