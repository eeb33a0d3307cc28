import Testing

@testable import WALShip

struct Encoded {
  var encoding: PageEncoding
  var payload: [UInt8]
}

func encodePage(_ page: [UInt8], base: [UInt8]? = nil) throws -> Encoded {
  var encoder = PageEncoder(pageSize: try testPageSize(page.count))
  return encodePage(page, base: base, with: &encoder)
}

func encodePage(_ page: [UInt8], base: [UInt8]?, with encoder: inout PageEncoder) -> Encoded {
  page.withUnsafeBytes { page in
    let result =
      base?.withUnsafeBytes { encoder.encode(page: page, base: $0) }
      ?? encoder.encode(page: page, base: nil)
    return Encoded(encoding: result.encoding, payload: Array(result.payload))
  }
}

/// Decodes between two guards, which must stay.
func decodePage(
  _ encoding: PageEncoding, _ payload: [UInt8], base: [UInt8]?, pageBytes: Int
) throws -> [UInt8] {
  let guardBytes = 64
  var memory = [UInt8](repeating: 0xA5, count: pageBytes + 2 * guardBytes)
  defer {
    #expect(memory.prefix(guardBytes).allSatisfy { $0 == 0xA5 })
    #expect(memory.suffix(guardBytes).allSatisfy { $0 == 0xA5 })
  }
  try memory.withUnsafeMutableBytes { memory in
    let page = UnsafeMutableRawBufferPointer(
      rebasing: memory[guardBytes..<guardBytes + pageBytes])
    try payload.withUnsafeBytes { payload in
      guard let base else {
        return try PageDecoder().decode(encoding, payload: payload, base: nil, into: page)
      }
      try base.withUnsafeBytes {
        try PageDecoder().decode(encoding, payload: payload, base: $0, into: page)
      }
    }
  }
  return Array(memory[guardBytes..<guardBytes + pageBytes])
}

/// `page` with `count` new bytes at `offset` and all that follows moved towards the end.
private func shifted(_ page: [UInt8], at offset: Int, by count: Int) -> [UInt8] {
  Array(
    (page[..<offset] + Array(repeating: 0x2A, count: count) + page[offset...]).prefix(page.count))
}

@Test(arguments: allPageSizes)
func pagesRoundTripForEachPageSize(size: Int) throws {
  var random = TestRandom(seed: UInt64(size))
  var encoder = PageEncoder(pageSize: try testPageSize(size))
  let noise = random.bytes(size)
  let text = random.text(size)
  let zeros = [UInt8](repeating: 0, count: size)
  var scattered = text
  for _ in 0..<20 { scattered[Int.random(in: 0..<size, using: &random)] ^= 0xFF }
  let pages = [
    noise, text, zeros, scattered, shifted(text, at: 100, by: 13), shifted(noise, at: 0, by: 1),
    Array(noise[..<(size / 2)] + text[..<(size / 2)]), random.bytes(size),
  ]
  var used: Set<PageEncoding> = []
  for page in pages {
    for base in [nil] + pages.map(Optional.some) {
      let encoded = encodePage(page, base: base, with: &encoder)
      used.insert(encoded.encoding)
      #expect(encoded.payload.count <= size)
      #expect(base != nil || !encoded.encoding.needsBase)
      let decoded = try decodePage(encoded.encoding, encoded.payload, base: base, pageBytes: size)
      #expect(decoded == page)
    }
  }
  #expect(used == Set(PageEncoding.allCases))
}

@Test func unchangedPageIsAnEmptyPayload() throws {
  let page = TestRandom.text(21)
  let encoded = try encodePage(page, base: page)
  #expect(encoded.encoding == .byteRuns && encoded.payload.isEmpty)
}

@Test func hundredChangedBytesEncodeUnder130() throws {
  var random = TestRandom(seed: 22)
  for base in [random.bytes(4096), random.text(4096)] {
    for offset in [0, 1, 2000, 3996] {
      var page = base
      page.replaceSubrange(offset..<offset + 100, with: random.bytes(100))
      let encoded = try encodePage(page, base: base)
      #expect(encoded.payload.count < 130)
      #expect(
        try decodePage(encoded.encoding, encoded.payload, base: base, pageBytes: 4096) == page)
    }
  }
}

@Test func movedContentIsFoundInTheDictionary() throws {
  var random = TestRandom(seed: 23)
  for base in [random.bytes(4096), random.text(4096)] {
    let page = shifted(base, at: 50, by: 40)
    let alone = try encodePage(page)
    let against = try encodePage(page, base: base)
    #expect(against.encoding == .lz4Dictionary)
    #expect(against.payload.count * 10 < alone.payload.count)
  }
}

@Test func uselessBaseFallsBackToPlainLZ4() throws {
  var random = TestRandom(seed: 24)
  // A page of which LZ4 leaves more than three quarters, so that both ways are tried.
  let page = random.bytes(3400) + [UInt8](repeating: 0, count: 696)
  let alone = try encodePage(page)
  let against = try encodePage(page, base: random.bytes(4096))
  #expect(against.payload.count <= alone.payload.count)
}

@Test func incompressiblePageIsRaw() throws {
  var random = TestRandom(seed: 25)
  let page = random.bytes(4096)
  let encoded = try encodePage(page, base: random.bytes(4096))
  #expect(encoded.encoding == .raw && encoded.payload == page)
}

@Test(arguments: PageEncoding.allCases)
func payloadsOfTheWrongLengthAreRefused(encoding: PageEncoding) throws {
  let base = TestRandom.text(26)
  for count in [4097, 8192] {
    #expect(throws: PageCodecError.wrongLength) {
      try decodePage(
        encoding, [UInt8](repeating: 0, count: count), base: base, pageBytes: 4096)
    }
  }
  // A diff alone may be empty: nothing changed.
  let empty: PageCodecError? =
    switch encoding {
    case .raw: .wrongLength
    case .lz4, .lz4Dictionary: .malformed
    case .byteRuns: nil
    }
  if let empty {
    #expect(throws: empty) { try decodePage(encoding, [], base: base, pageBytes: 4096) }
  } else {
    #expect(try decodePage(encoding, [], base: base, pageBytes: 4096) == base)
  }
}

@Test(arguments: PageEncoding.allCases)
func encodingsAgainstABaseNeedOneOfTheSameSize(encoding: PageEncoding) throws {
  guard encoding.needsBase else { return }
  for base in [nil, TestRandom.text(27, count: 512), []] {
    #expect(throws: PageCodecError.missingBase) {
      try decodePage(encoding, [1, 1, 1], base: base, pageBytes: 4096)
    }
  }
}

@Test func blockOfAShorterPageHasTheWrongLength() throws {
  let short = try encodePage([UInt8](repeating: 7, count: 512))
  #expect(short.encoding == .lz4)
  #expect(throws: PageCodecError.wrongLength) {
    try decodePage(.lz4, short.payload, base: nil, pageBytes: 1024)
  }
}

@Test func byteRunsOutsideThePageAreMalformed() throws {
  let base = TestRandom.text(28, count: 512)
  let huge: [UInt8] = [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01]
  let payloads: [[UInt8]] = [
    [0], [0, 0], [0, 2, 1], [0x80, 0x04, 1, 9], [0xFF, 0x03, 2, 9, 9], huge + [1, 9], [0] + huge,
    [0x81, 0x04, 1, 9], [1] + huge + [9], [0, 1, 9, 0], huge + huge,
  ]
  for payload in payloads {
    #expect(throws: PageCodecError.malformed) {
      try decodePage(.byteRuns, payload, base: base, pageBytes: 512)
    }
  }
  var page = base
  page[511] = 9
  #expect(try decodePage(.byteRuns, [0xFF, 0x03, 1, 9], base: base, pageBytes: 512) == page)
}

extension TestRandom {
  static func text(_ seed: UInt64, count: Int = 4096) -> [UInt8] {
    var random = TestRandom(seed: seed)
    return random.text(count)
  }
}
