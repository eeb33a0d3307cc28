import Testing

@testable import WALShip

private func decode(_ bytes: [UInt8]) -> (value: UInt64?, offset: Int) {
  var offset = 0
  let value = bytes.withUnsafeBytes { Varint.decode($0, at: &offset) }
  return (value, offset)
}

@Test func varintsRoundTripAtEveryWidth() {
  var random = TestRandom(seed: 11)
  var values: [UInt64] = [0, 1, 127, 128, .max, .max - 1]
  for bits in 0..<64 { values += [1 << bits, (1 << bits) - 1, random.next() >> UInt64(bits)] }
  for value in values {
    var bytes = [UInt8](repeating: 0xAA, count: 12)
    var offset = 1
    bytes.withUnsafeMutableBytes { Varint.encode(value, into: $0, at: &offset) }
    #expect(offset - 1 == Varint.byteCount(value) && Varint.byteCount(value) <= 10)
    #expect(bytes[offset] == 0xAA)
    var read = 1
    #expect(bytes.withUnsafeBytes { Varint.decode($0, at: &read) } == value)
    #expect(read == offset)
    for end in 1..<offset {
      #expect(decode(Array(bytes[1..<end])) == (nil, 0))
    }
  }
}

@Test func varintsBeyond64BitsAreRefused() {
  let nines = [UInt8](repeating: 0xFF, count: 9)
  #expect(decode(nines + [0x01]) == (.max, 10))
  #expect(decode(nines + [0x02]) == (nil, 0))
  #expect(decode(nines + [0x81]) == (nil, 0))
  #expect(decode([UInt8](repeating: 0x80, count: 20)) == (nil, 0))
  #expect(decode([]) == (nil, 0))
}

@Test func varintBytesAreLEB128() {
  #expect(decode([0xE5, 0x8E, 0x26]) == (624_485, 3))
}
