// Seeded bytes and hand-made WALs for the tests of this folder.

import Foundation
import Testing

@testable import WALShip

/// SplitMix64: the same bytes on each run. Source: https://prng.di.unimi.it/splitmix64.c
struct TestRandom: RandomNumberGenerator {
  var state: UInt64
  init(seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }

  mutating func bytes(_ count: Int) -> [UInt8] {
    (0..<count).map { _ in UInt8(truncatingIfNeeded: next() >> 32) }
  }

  /// Rows as a table might hold them: words, numbers, a little noise.
  mutating func text(_ count: Int) -> [UInt8] {
    let words = ["order", "paid", "Amsterdam", "customer", "2024-05-", "null", "shipped", "item"]
    var text: [UInt8] = []
    while text.count < count {
      text += Array((words.randomElement(using: &self) ?? "").utf8)
      text += Array("\(next() % 100_000)".utf8)
    }
    return Array(text[..<count])
  }
}

/// Every page size that SQLite knows.
let allPageSizes = (9...16).map { 1 << $0 }

func testPageSize(_ bytes: Int) throws -> PageSize { try #require(PageSize(bytes)) }

/// A recorded -wal file. How they were made: Fixtures/make-fixtures.py.
func fixture(_ name: String) throws -> [UInt8] {
  let url = try #require(
    Bundle.module.url(forResource: name, withExtension: "wal", subdirectory: "Fixtures"))
  return Array(try Data(contentsOf: url))
}

/// A frame to be: `commit` is the size of the database in pages, or 0.
struct TestFrame {
  var pgno: UInt32
  var commit: UInt32
  var page: [UInt8]
}

/// The bytes of a WAL with these frames.
func wal(_ header: WALHeader, _ frames: [TestFrame]) -> [UInt8] {
  var bytes = [UInt8](repeating: 0, count: WALHeader.byteCount)
  bytes.withUnsafeMutableBytes { header.encode(into: $0) }
  var checksum = header.checksum
  for frame in frames {
    checksum = frame.page.withUnsafeBytes {
      frameChecksum(
        after: checksum, pgno: Pgno(frame.pgno), commitPageCount: frame.commit, page: $0,
        bigEndian: header.bigEndianChecksums)
    }
    var head = [UInt8](repeating: 0, count: FrameHeader.byteCount)
    head.withUnsafeMutableBytes {
      FrameHeader(
        pgno: Pgno(frame.pgno), commitPageCount: frame.commit, salts: header.salts,
        checksum: checksum
      ).encode(into: $0)
    }
    bytes += head + frame.page
  }
  return bytes
}

func summarize(_ wal: [UInt8]) throws -> WALSummary {
  try wal.withUnsafeBytes { try WALSummary(scanning: $0) }
}
