// What clients of `/pull-updates` and of `/sync` can send, and what a file beside a database can hold.

import NIOCore
import Serving
import Store
import WALShip

extension DecoderCheck {
  static let syncChecks = [
    DecoderCheck("pull-updates", checkPullUpdates), DecoderCheck("sync-records", checkRecords),
    DecoderCheck("pushed-frames", checkPushedFrames),
  ]

  /// Frames that a client pushes, however its requests cut them. Few bytes stand for a frame: its
  /// page number, the size behind it, and what its page is filled with.
  private static func checkPushedFrames(_ bytes: [UInt8]) throws {
    var whole = PushedFrames(generation: 1, start: 1)
    var parts = whole
    var body = ByteBuffer()
    for start in stride(from: 0, to: min(bytes.count, 400), by: 4) {
      let frame = Array(bytes[start...].prefix(4))
      body.writeInteger(UInt32(frame[0]))
      body.writeInteger(UInt32(frame.count > 1 ? frame[1] : 0))
      body.writeRepeatingByte(frame.count > 2 ? frame[2] : 0, count: 16)
      body.writeRepeatingByte(frame.count > 3 ? frame[3] : 0, count: PagePush.pageBytes)
    }
    var failed = (whole: false, parts: false)
    do { try whole.append(body) } catch { failed.whole = true }
    do {
      while let part = body.readSlice(length: min(body.readableBytes, PushedFrames.frameBytes)),
        part.readableBytes > 0
      {
        try parts.append(part)
      }
    } catch { failed.parts = true }
    // Nothing at all is no push, and makes no part.
    try require(failed.whole == failed.parts || bytes.isEmpty, "parts are judged otherwise")
    guard !failed.whole, !bytes.isEmpty else { return }
    try require(whole.frames == parts.frames && whole.commit == parts.commit, "parts differ")
    let push = whole.push(onto: .none)
    try require(push.numbers == push.numbers.sorted(), "pages are in order")
    try require(push.numbers.allSatisfy { $0.rawValue <= whole.commit }, "a page behind the end")
    try require(
      push.content.readableBytes == push.numbers.count * PagePush.pageBytes, "pages are whole")
    // Whatever does not end with a frame is none.
    var short = PushedFrames(generation: 1, start: 1)
    let isTaken = (try? short.append(ByteBuffer(bytes: bytes))) != nil
    try require(!isTaken || bytes.count % PushedFrames.frameBytes == 0, "half a frame is taken")
  }

  /// A request is the same each time, is no longer than what was sent, and does not depend on the
  /// order of its fields and of unknown ones.
  private static func checkPullUpdates(_ bytes: [UInt8]) throws {
    guard let request = try? PullUpdatesRequest(decoding: ByteBuffer(bytes: bytes)) else { return }
    let again = try? PullUpdatesRequest(decoding: ByteBuffer(bytes: bytes))
    try require(again == request, "one request is two")
    // A byte that is no text becomes three.
    let size =
      request.serverRevision.utf8.count + request.clientRevision.utf8.count
      + request.querySelector.utf8.count
    try require(size <= 3 * bytes.count, "\(size) bytes of text")
    if let pages = request.pages { try checkPages(pages, bytes.count) }
    // An unknown field, number 1000, changes nothing.
    let more = try? PullUpdatesRequest(
      decoding: ByteBuffer(bytes: [0xc2, 0x3e, 2, 1, 2] + bytes + [0xc0, 0x3e, 0x7f]))
    try require(more == request, "an unknown field changes a request")
  }

  /// A set has its numbers in order, as many as it says, whichever way it is asked.
  private static func checkPages(_ pages: PageSet, _ bytes: Int) throws {
    let bound: UInt32 = 1 << 18
    let numbers = pages.numbers(below: bound)
    try require(zip(numbers, numbers.dropFirst()).allSatisfy { $0 < $1 }, "numbers are in order")
    try require(numbers.allSatisfy { $0 < bound }, "a number beyond the bound")
    // A run takes four bytes, whatever its length; a container four and some.
    try require(pages.count <= (bytes / 4 + 1) << 16, "\(pages.count) numbers")
    let rest = pages.hasNumber(from: bound, below: .max)
    try require(rest || pages.count - numbers.count <= 1, "numbers are missing")
    for start in [0, 1, numbers.first ?? 7, numbers.last ?? 9, 65535, 65536] {
      for end in [start, start + 1, start + 70000, bound] where end <= bound {
        let isThere = numbers.contains { $0 >= start && $0 < end }
        try require(pages.hasNumber(from: start, below: end) == isThere, "\(start) to \(end)")
      }
    }
  }

  /// What is read is what is written.
  private static func checkRecords(_ bytes: [UInt8]) throws {
    var input = bytes
    input += [UInt8](repeating: 0, count: max(0, SyncRecords.byteCount - input.count))
    input.removeLast(input.count - SyncRecords.byteCount)
    // Damage is found by the checksum; what lies behind it is looked at with a right one.
    let sum = input.dropLast(8).withUnsafeBytes { xxh64($0, seed: 0) }
    for index in 0..<8 {
      input[SyncRecords.byteCount - 8 + index] = UInt8(
        truncatingIfNeeded: sum >> (8 * UInt64(index)))
    }
    guard let records = input.withUnsafeBytes({ SyncRecords(decoding: $0) }) else { return }
    try require(records.records.count <= SyncRecords.countMax, "\(records.records.count) records")
    var output = [UInt8](repeating: 0xff, count: SyncRecords.byteCount)
    output.withUnsafeMutableBytes { records.encode(into: $0) }
    let again = output.withUnsafeBytes { SyncRecords(decoding: $0) }
    try require(again == records, "records are not read as they were written")
  }
}
