// What a client of `/pull-updates` can send, and what a file beside a database can hold.

import NIOCore
import Serving
import WALShip

extension DecoderCheck {
  static let syncChecks = [
    DecoderCheck("pull-updates", checkPullUpdates), DecoderCheck("sync-records", checkRecords),
  ]

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
    try require(request.pageSelector.count <= bytes.count, "a longer selector")
    // An unknown field, number 1000, changes nothing.
    let more = try? PullUpdatesRequest(
      decoding: ByteBuffer(bytes: [0xc2, 0x3e, 2, 1, 2] + bytes + [0xc0, 0x3e, 0x7f]))
    try require(more == request, "an unknown field changes a request")
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
