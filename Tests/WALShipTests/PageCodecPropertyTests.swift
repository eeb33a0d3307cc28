// Whatever bytes arrive, the decoder gives a page of the right size or an error, and writes nothing
// beyond the page: `decodePage` checks its guards. Worth a run with `--sanitize=address`.

import Testing

@testable import WALShip

/// One payload of each encoding, with the page and the base that it was made from.
private struct Sample {
  var encoding: PageEncoding
  var payload: [UInt8]
  var page: [UInt8]
  var base: [UInt8]

  static func all(pageBytes: Int, seed: UInt64) throws -> [Sample] {
    var random = TestRandom(seed: seed)
    let base = random.text(pageBytes)
    var scattered = base
    for offset in stride(from: 5, to: pageBytes, by: pageBytes / 16) { scattered[offset] ^= 0x55 }
    let moved = Array(base[17...] + random.bytes(17))
    let noise = random.bytes(pageBytes)
    return try [
      sample(noise, base: nil, as: .raw, keep: base),
      sample(base, base: nil, as: .lz4, keep: base),
      sample(moved, base: base, as: .lz4Dictionary, keep: base),
      sample(scattered, base: base, as: .byteRuns, keep: base),
    ]
  }

  private static func sample(
    _ page: [UInt8], base: [UInt8]?, as encoding: PageEncoding, keep: [UInt8]
  ) throws -> Sample {
    let encoded = try encodePage(page, base: base)
    try #require(encoded.encoding == encoding)
    return Sample(encoding: encoding, payload: encoded.payload, page: page, base: keep)
  }
}

/// - Returns: the page, or nil for an error that is one of the codec's.
private func outcome(_ sample: Sample, _ payload: [UInt8]) throws -> [UInt8]? {
  do {
    return try decodePage(
      sample.encoding, payload, base: sample.base, pageBytes: sample.page.count)
  } catch is PageCodecError {
    return nil
  }
}

@Test(arguments: [512, 4096])
func prefixesOfAPayloadGiveAnErrorOrAPage(size: Int) throws {
  for sample in try Sample.all(pageBytes: size, seed: 31) {
    for count in 0..<sample.payload.count {
      let page = try outcome(sample, Array(sample.payload[..<count]))
      // Only a diff can end early and be whole: its last runs are then missing.
      if sample.encoding == .byteRuns { continue }
      #expect(page == nil, "\(sample.encoding) cut at \(count)")
    }
  }
}

@Test(arguments: [512, 1024])
func singleBitFlipsGiveAnErrorOrAPage(size: Int) throws {
  for sample in try Sample.all(pageBytes: size, seed: 32) {
    for bit in 0..<sample.payload.count * 8 {
      var payload = sample.payload
      payload[bit / 8] ^= 1 << (bit % 8)
      _ = try outcome(sample, payload)
    }
  }
}

@Test(arguments: PageEncoding.allCases)
func garbageGivesAnErrorOrAPage(encoding: PageEncoding) throws {
  var random = TestRandom(seed: 33 + UInt64(encoding.rawValue))
  for size in allPageSizes {
    let base = random.text(size)
    let sample = Sample(encoding: encoding, payload: [], page: base, base: base)
    for _ in 0..<(size <= 4096 ? 300 : 30) {
      let count = Int.random(in: 0...min(size, 600), using: &random)
      _ = try outcome(sample, random.bytes(count))
      // Small numbers: more of them pass for lengths and offsets.
      _ = try outcome(sample, random.bytes(count).map { $0 & 0x1F })
    }
  }
}

@Test func garbledPayloadsOfLargePagesGiveAnErrorOrAPage() throws {
  var random = TestRandom(seed: 34)
  for sample in try Sample.all(pageBytes: 65536, seed: 34) {
    for _ in 0..<100 {
      var payload = sample.payload
      for _ in 0..<Int.random(in: 1...4, using: &random) {
        payload[Int.random(in: payload.indices, using: &random)] = UInt8(
          truncatingIfNeeded: random.next())
      }
      _ = try outcome(sample, payload)
    }
  }
}
