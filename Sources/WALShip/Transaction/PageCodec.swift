// Pages as they travel: in the smallest of four encodings, against the previous image of the page
// when both ends hold it. The only file that knows LZ4.
//
// Sources: https://github.com/lz4/lz4/blob/dev/doc/lz4_Block_format.md, docs/FORMAT.md

import CLZ4

/// How the payload of a page is to be read.
public enum PageEncoding: UInt8, Sendable, CaseIterable {
  /// The page itself.
  case raw = 0
  /// One LZ4 block.
  case lz4 = 1
  /// One LZ4 block with the base, the earlier image of the page, as dictionary.
  case lz4Dictionary = 2
  /// The bytes that differ from the base: see `ByteRunDiff`.
  case byteRuns = 3

  /// Whether the receiver needs the same earlier image of the page.
  public var needsBase: Bool { self == .lz4Dictionary || self == .byteRuns }
}

/// A payload that no encoder writes: the session that sent it ends.
public enum PageCodecError: Error, Equatable, Sendable {
  /// The payload is too long for a page, or gives fewer or more bytes than the page has.
  case wrongLength
  /// The encoding needs an earlier image of the page, of the same size.
  case missingBase
  case malformed
}

/// Encodes pages of one size, with memory of its own that is used again for each page.
public struct PageEncoder: ~Copyable {
  private let pageSize: PageSize
  /// Two payloads: the best so far, and the one that tries to be smaller.
  private let scratch: UnsafeMutableRawBufferPointer
  private let stream: UnsafeMutablePointer<LZ4_stream_t>

  /// A byte-run diff of at most so many bytes is not worth the time of LZ4.
  private static let tinyDiffBytes = 128

  public init(pageSize: PageSize) {
    self.pageSize = pageSize
    scratch = .allocate(byteCount: 2 * pageSize.bytes, alignment: 16)
    stream = .allocate(capacity: 1)
  }

  deinit {
    scratch.deallocate()
    stream.deallocate()
  }

  /// Encodes `page`, against `base` where the receiver holds that image of the page.
  ///
  /// - Returns: a payload no longer than the page. It is valid until the next call; that of `.raw`
  ///   is `page` itself.
  public mutating func encode(
    page: UnsafeRawBufferPointer, base: UnsafeRawBufferPointer?
  ) -> (encoding: PageEncoding, payload: UnsafeRawBufferPointer) {
    precondition(page.count == pageSize.bytes, "the encoder is for one page size")
    var best = (encoding: PageEncoding.raw, payload: page)

    if let base {
      precondition(base.count == pageSize.bytes, "a base is an image of the same page")
      let runs = spare(besides: best.payload, best.payload.count - 1)
      if let count = ByteRunDiff.encode(page: page, base: base, into: runs) {
        best = (.byteRuns, UnsafeRawBufferPointer(rebasing: runs[..<count]))
        if count <= Self.tinyDiffBytes { return best }
      }
      let block = spare(besides: best.payload, best.payload.count - 1)
      if let count = compress(page, dictionary: base, into: block) {
        best = (.lz4Dictionary, UnsafeRawBufferPointer(rebasing: block[..<count]))
      }
      if best.payload.count <= pageSize.bytes / 4 * 3 { return best }
    }

    let block = spare(besides: best.payload, best.payload.count - 1)
    if let count = compress(page, into: block) {
      best = (.lz4, UnsafeRawBufferPointer(rebasing: block[..<count]))
    }
    return best
  }

  /// `count` bytes of scratch memory that `best` does not use.
  private func spare(
    besides best: UnsafeRawBufferPointer, _ count: Int
  ) -> UnsafeMutableRawBufferPointer {
    let isFirst = best.baseAddress == UnsafeRawPointer(scratch.baseAddress)
    let start = isFirst ? pageSize.bytes : 0
    return UnsafeMutableRawBufferPointer(rebasing: scratch[start..<start + count])
  }

  /// Both ways of compression begin with a full reset of the stream: one that ran out of room
  /// leaves it undefined, and LZ4's fast reset is not allowed then.
  ///
  /// - Returns: the bytes written; nil when `block` has no room for them.
  private func compress(
    _ page: UnsafeRawBufferPointer, into block: UnsafeMutableRawBufferPointer
  ) -> Int? {
    let count = LZ4_compress_fast_extState(
      stream, characters(page), characters(block), Int32(page.count), Int32(block.count), 1)
    return count > 0 ? Int(count) : nil
  }

  /// LZ4 looks back 65535 bytes. A page of 65536 therefore only finds what moved towards its front;
  /// what stayed in place is found by the byte-run diff.
  private func compress(
    _ page: UnsafeRawBufferPointer, dictionary: UnsafeRawBufferPointer,
    into block: UnsafeMutableRawBufferPointer
  ) -> Int? {
    _ = LZ4_loadDict(stream, characters(dictionary), Int32(dictionary.count))
    let count = LZ4_compress_fast_continue(
      stream, characters(page), characters(block), Int32(page.count), Int32(block.count), 1)
    return count > 0 ? Int(count) : nil
  }
}

/// Decodes what `PageEncoder` wrote. Payloads are hostile: any bytes give a page or an error.
public struct PageDecoder: Sendable {
  public init() {}

  /// Writes exactly `page.count` bytes, a page size, to `page`, which overlaps neither input.
  ///
  /// - Throws: when the payload is not that of such a page; `page` is undefined then.
  public func decode(
    _ encoding: PageEncoding, payload: UnsafeRawBufferPointer, base: UnsafeRawBufferPointer?,
    into page: UnsafeMutableRawBufferPointer
  ) throws(PageCodecError) {
    precondition(PageSize(page.count) != nil, "pages have 512 to 65536 bytes")
    guard encoding == .raw ? payload.count == page.count : payload.count < page.count else {
      throw .wrongLength
    }
    switch encoding {
    case .raw:
      page.copyMemory(from: payload)
    case .lz4:
      try check(
        LZ4_decompress_safe(
          characters(payload), characters(page), Int32(payload.count), Int32(page.count)),
        isPage: page.count)
    case .lz4Dictionary:
      guard let base, base.count == page.count else { throw .missingBase }
      try check(
        LZ4_decompress_safe_usingDict(
          characters(payload), characters(page), Int32(payload.count), Int32(page.count),
          characters(base), Int32(base.count)),
        isPage: page.count)
    case .byteRuns:
      guard let base, base.count == page.count else { throw .missingBase }
      try ByteRunDiff.decode(payload, base: base, into: page)
    }
  }

  /// `count` is what LZ4 returned: negative for bytes that are no block, or too many.
  private func check(_ count: Int32, isPage pageBytes: Int) throws(PageCodecError) {
    guard count >= 0 else { throw .malformed }
    guard Int(count) == pageBytes else { throw .wrongLength }
  }
}

/// The bytes as LZ4 takes them. It neither reads nor writes through the pointer of an empty buffer.
private func characters(_ bytes: UnsafeRawBufferPointer) -> UnsafePointer<CChar>? {
  bytes.baseAddress?.assumingMemoryBound(to: CChar.self)
}

private func characters(_ bytes: UnsafeMutableRawBufferPointer) -> UnsafeMutablePointer<CChar>? {
  bytes.baseAddress?.assumingMemoryBound(to: CChar.self)
}
