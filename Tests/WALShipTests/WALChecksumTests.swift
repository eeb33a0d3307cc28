import Testing

@testable import WALShip

/// The published algorithm, word by word.
private func plainChecksum(_ bytes: [UInt8], from: WALChecksum, bigEndian: Bool) -> WALChecksum {
  var (s0, s1) = (from.s0, from.s1)
  func word(_ at: Int) -> UInt32 {
    (0..<4).reduce(0) { $0 | UInt32(bytes[at + $1]) << (8 * (bigEndian ? 3 - $1 : $1)) }
  }
  for offset in stride(from: 0, to: bytes.count, by: 8) {
    s0 = s0 &+ word(offset) &+ s1
    s1 = s1 &+ word(offset + 4) &+ s0
  }
  return WALChecksum(s0: s0, s1: s1)
}

@Test func walChecksumOfBlocksIsThatOfThePublishedAlgorithm() {
  var random = TestRandom(seed: 1)
  let counts = [0, 8, 16, 504, 512, 1016, 1024, 1032, 2040, 2048, 4096, 4104, 8192, 65536]
  for count in counts {
    for bigEndian in [false, true] {
      let bytes = random.bytes(count)
      let start = WALChecksum(
        s0: UInt32(truncatingIfNeeded: random.next()),
        s1: UInt32(truncatingIfNeeded: random.next()))
      var checksum = start
      bytes.withUnsafeBytes { checksum.update($0, bigEndian: bigEndian) }
      #expect(checksum == plainChecksum(bytes, from: start, bigEndian: bigEndian), "\(count)")
    }
  }
}

@Test func walChecksumTakesBytesAtAnyAddress() {
  let bytes = Array(repeating: UInt8(0xff), count: 7) + TestRandom(seed: 2).copy { $0.bytes(4096) }
  for skip in 0..<7 {
    var checksum = WALChecksum.zero
    let part = Array(bytes[skip..<skip + 4096])
    bytes.withUnsafeBytes {
      checksum.update(UnsafeRawBufferPointer(rebasing: $0[skip..<skip + 4096]), bigEndian: false)
    }
    #expect(checksum == plainChecksum(part, from: .zero, bigEndian: false))
  }
}

extension TestRandom {
  fileprivate func copy<T>(_ body: (inout TestRandom) -> T) -> T {
    var copy = self
    return body(&copy)
  }
}
