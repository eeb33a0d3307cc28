// What it costs to make a page small and to make it whole again.

import CFloor
import WALShip

enum CodecBenchmark {
  static func run(_ effort: Effort) async throws -> GroupReport {
    var report = GroupReport(name: "codec", subject: "a page of 4 KiB, encoded and decoded")
    var sides = Alternation()
    let text = SamplePages(.newText)
    let copy = sides.add("memcpy of the page", .nanoseconds) {
      Timing.copyPages(text.pages, seconds: effort.slice)
    }
    var keys: [(String, Alternation.Key, Alternation.Key)] = []
    let changes: [(String, SamplePages.Change)] = [
      ("one row changed", .oneRow), ("content shifted", .shifted), ("new text", .newText),
    ]
    for (name, change) in changes {
      let work = try CodecWork(SamplePages(change))
      report.notes.append("\(name): \(work.payloadBytes) bytes for a page of 4,096")
      let encode = sides.add("encode", .nanoseconds) { work.encode(seconds: effort.slice) }
      let decode = sides.add("decode", .nanoseconds) { try work.decode(seconds: effort.slice) }
      keys.append((name, encode, decode))
    }
    let measured = try await sides.run(rounds: effort.rounds)
    for (name, encode, decode) in keys {
      report.figures.append(measured.figure("encode, \(name)", encode, over: copy))
      report.figures.append(measured.figure("decode, \(name)", decode, over: copy))
    }
    return report
  }
}

extension Timing {
  /// The floor of whatever has to look at each byte of a page: nanoseconds to copy one.
  static func copyPages(_ pages: [[UInt8]], seconds: Double) -> Double {
    var target = [UInt8](repeating: 0, count: SamplePages.pageBytes)
    return nanosecondsPerCall(seconds: seconds, calls: pages.count) {
      target.withUnsafeMutableBytes { target in
        for page in pages {
          page.withUnsafeBytes { floor_copy(target.baseAddress, $0.baseAddress, $0.count) }
        }
      }
    }
  }
}

/// Sample pages and their payloads.
private final class CodecWork {
  private let samples: SamplePages
  private let payloads: [(encoding: PageEncoding, bytes: [UInt8])]
  private var encoder: PageEncoder
  private let page: UnsafeMutableRawBufferPointer

  /// Bytes of the median page.
  var payloadBytes: Int { payloads.map(\.bytes.count).sorted()[payloads.count / 2] }

  init(_ samples: SamplePages) throws {
    guard let pageSize = PageSize(SamplePages.pageBytes) else { throw Failure("no page size") }
    self.samples = samples
    var encoder = PageEncoder(pageSize: pageSize)
    payloads = samples.pages.indices.map { index in
      Self.withPage(samples, index) { page, base in
        let encoded = encoder.encode(page: page, base: base)
        return (encoded.encoding, Array(encoded.payload))
      }
    }
    self.encoder = encoder
    page = .allocate(byteCount: SamplePages.pageBytes, alignment: 16)
  }

  deinit { page.deallocate() }

  func encode(seconds: Double) -> Double {
    Timing.nanosecondsPerCall(seconds: seconds, calls: samples.pages.count) {
      for index in samples.pages.indices {
        Self.withPage(samples, index) { page, base in
          floor_keep(UInt64(encoder.encode(page: page, base: base).payload.count))
        }
      }
    }
  }

  func decode(seconds: Double) throws -> Double {
    let decoder = PageDecoder()
    return try Timing.nanosecondsPerCall(seconds: seconds, calls: samples.pages.count) {
      for (index, payload) in payloads.enumerated() {
        try Self.withPage(samples, index) { _, base in
          try payload.bytes.withUnsafeBytes {
            try decoder.decode(payload.encoding, payload: $0, base: base, into: page)
          }
        }
        floor_keep(UInt64(page[SamplePages.pageBytes - 1]))
      }
    }
  }

  private static func withPage<T>(
    _ samples: SamplePages, _ index: Int,
    _ body: (UnsafeRawBufferPointer, UnsafeRawBufferPointer?) throws -> T
  ) rethrows -> T {
    try samples.pages[index].withUnsafeBytes { page in
      guard samples.hasBase else { return try body(page, nil) }
      return try samples.bases[index].withUnsafeBytes { try body(page, $0) }
    }
  }
}
