// What it costs to add a page up, once for the page map and once for the chain of the WAL.

import CFloor
import WALShip

enum ChecksumBenchmark {
  static func run(_ effort: Effort) async throws -> GroupReport {
    var report = GroupReport(name: "checksums", subject: "a page of 4 KiB, added up")
    let pages = SamplePages(.oneRow).pages
    var sides = Alternation()
    let copy = sides.add("memcpy of the page", .nanoseconds) {
      Timing.copyPages(pages, seconds: effort.slice)
    }
    let page = sides.add("page checksum", .nanoseconds) {
      each(pages, effort) { index, page in
        floor_keep(pageChecksum(page, pgno: Pgno(UInt32(index + 2))))
      }
    }
    var chain = WALChecksum.zero
    let log = sides.add("WAL checksum", .nanoseconds) {
      each(pages, effort) { _, page in chain.update(page, bigEndian: false) }
    }
    var sums: [UInt32] = [0, 0]
    let stock = sides.add("SQLite's own loop, in C", .nanoseconds) {
      each(pages, effort) { _, page in
        floor_wal_checksum(page.baseAddress, page.count, &sums)
      }
    }
    let measured = try await sides.run(rounds: effort.rounds)
    floor_keep(UInt64(chain.s0) ^ UInt64(sums[0]))
    report.figures = [
      measured.figure("page checksum", page, over: copy),
      measured.figure("WAL checksum", log, over: copy),
      measured.figure("WAL checksum", log, over: stock),
    ]
    return report
  }

  private static func each(
    _ pages: [[UInt8]], _ effort: Effort, _ body: (Int, UnsafeRawBufferPointer) -> Void
  ) -> Double {
    Timing.nanosecondsPerCall(seconds: effort.slice, calls: pages.count) {
      for (index, page) in pages.enumerated() { page.withUnsafeBytes { body(index, $0) } }
    }
  }
}
