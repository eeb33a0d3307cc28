// What an offline copy pushes: frames of its own WAL, in requests of up to 128. The bytes come from
// outside; whether their pages make a database is for the primary to say.
// Source: docs/SYNC.md

import NIOCore
import Store
import WALShip

/// Consecutive frames of one push, as far as they have come.
package struct PushedFrames: Sendable {
  package struct Frame: Equatable, Sendable {
    package var pgno: Pgno
    /// Of the whole frame. Its header has the salts of the copy's WAL and the checksum of all of
    /// it, so that no two copies push the same.
    var id: UInt64
    /// Of the page, as the page map has it.
    var checksum: UInt64
    /// Of the copy's WAL up to this frame.
    var chain: WALChecksum
  }

  package enum Failure: Error, Equatable {
    case malformed(String)
    case tooLarge
  }

  let generation: UInt32
  package let start: Int
  package private(set) var frames: [Frame] = []
  /// Pages of the database after the last frame; 0 when it ends no commit.
  package private(set) var commit: UInt32 = 0
  /// The newest version of each page.
  private var pages: [Pgno: [UInt8]] = [:]
  /// The first frame, whole.
  private var first: [UInt8] = []

  package static let frameBytes = FrameHeader.byteCount + PagePush.pageBytes
  package static let framesMax = 16_384
  /// Of all pushes that are not complete.
  static let pendingPagesMax = 3 * PagePush.pagesMax

  /// - Parameter start: the number of the first frame, from 1 on.
  package init(generation: UInt32, start: Int) {
    self.generation = generation
    self.start = start
  }

  /// The number of the last frame.
  package var last: Int { start + frames.count - 1 }
  package var pageCount: Int { pages.count }

  /// Takes the frames of one request.
  package mutating func append(_ body: ByteBuffer) throws(Failure) {
    let count = body.readableBytes / Self.frameBytes
    guard count > 0, body.readableBytes == count * Self.frameBytes else {
      throw .malformed("\(body.readableBytes) bytes are no frames")
    }
    guard frames.count + count <= Self.framesMax else { throw .tooLarge }
    let taken: Result<Void, Failure> = body.withUnsafeReadableBytes { bytes in
      for number in 0..<count {
        let start = number * Self.frameBytes
        let frame = UnsafeRawBufferPointer(rebasing: bytes[start..<start + Self.frameBytes])
        do throws(Failure) { try take(frame) } catch { return .failure(error) }
      }
      return .success(())
    }
    try taken.get()
  }

  private mutating func take(_ frame: UnsafeRawBufferPointer) throws(Failure) {
    let header: FrameHeader
    do throws(WALFormatError) {
      header = try FrameHeader(decoding: frame)
    } catch { throw .malformed("a frame has no page") }
    let page = UnsafeRawBufferPointer(rebasing: frame[FrameHeader.byteCount...])
    frames.append(
      Frame(
        pgno: header.pgno, id: xxh64(frame, seed: 0),
        checksum: pageChecksum(page, pgno: header.pgno), chain: header.checksum))
    if frames.count == 1 { first = Array(frame) }
    pages[header.pgno] = Array(page)
    commit = header.commitPageCount
    guard pages.count <= PagePush.pagesMax else { throw .tooLarge }
  }

  /// Whether the first frame comes right behind one in the WAL of the same copy.
  func follows(_ last: Frame) -> Bool {
    guard let next = frames.first, first.count == Self.frameBytes else { return false }
    return first.withUnsafeBytes { bytes in
      guard let header = try? FrameHeader(decoding: bytes) else { return false }
      let page = UnsafeRawBufferPointer(rebasing: bytes[FrameHeader.byteCount...])
      return [false, true].contains { bigEndian in
        next.chain
          == frameChecksum(
            after: last.chain, pgno: header.pgno, commitPageCount: header.commitPageCount,
            page: page, bigEndian: bigEndian)
      }
    }
  }

  /// Of the first frames, as they came.
  func hash(ofFirst count: Int) -> UInt64 {
    var hash: UInt64 = 0
    for frame in frames.prefix(count) {
      hash = withUnsafeBytes(of: frame.id.littleEndian) { xxh64($0, seed: hash) }
    }
    return hash
  }

  /// The pages of a push that is complete.
  package func push(onto base: Position) -> PagePush {
    var push = PagePush(onto: base, pageCount: commit)
    for pgno in pages.keys.sorted() where pgno.rawValue <= commit {
      push.append(pgno, pages[pgno] ?? [])
    }
    return push
  }
}
