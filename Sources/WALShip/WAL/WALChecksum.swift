// The checksum that chains the frames of a WAL: the hot loop of capture and of injection.
//
// For each pair of words: s0 += x + s1, then s1 += y + s0. Done so, each addition waits for the
// one before it, and a 4 KiB page takes a thousand of these steps. The sum is linear modulo 2^32,
// though, so blocks are summed from zero in vectors and then added to the carried state.
//
// Source: https://www.sqlite.org/fileformat2.html#checksum_algorithm

/// The running checksum of a WAL.
public struct WALChecksum: Hashable, Sendable {
  public var s0: UInt32
  public var s1: UInt32

  public init(s0: UInt32, s1: UInt32) {
    self.s0 = s0
    self.s1 = s1
  }

  public static let zero = WALChecksum(s0: 0, s1: 0)

  /// Continues the checksum over `bytes`, whose count must be a multiple of 8.
  ///
  /// `bigEndian` is the order of the words in the sum, which the magic number of the WAL states.
  public mutating func update(_ bytes: UnsafeRawBufferPointer, bigEndian: Bool) {
    precondition(bytes.count & 7 == 0, "the WAL checksum takes pairs of 32-bit words")
    guard var next = bytes.baseAddress else { return }
    let end = next + bytes.count
    if bigEndian == Self.nativeIsBigEndian {
      while end - next >= Self.blockBytes {
        addNativeBlock(next)
        next += Self.blockBytes
      }
      while next < end {
        add(
          next.loadUnaligned(as: UInt32.self),
          next.loadUnaligned(fromByteOffset: 4, as: UInt32.self))
        next += 8
      }
    } else {
      while next < end {
        add(
          next.loadUnaligned(as: UInt32.self).byteSwapped,
          next.loadUnaligned(fromByteOffset: 4, as: UInt32.self).byteSwapped)
        next += 8
      }
    }
  }

  /// One step of the published algorithm.
  @inline(__always)
  mutating func add(_ x: UInt32, _ y: UInt32) {
    s0 = s0 &+ x &+ s1
    s1 = s1 &+ y &+ s0
  }

  static let nativeIsBigEndian = UInt32(1).bigEndian == 1

  // MARK: - Blocks
  // A step maps the state s to M s + B (x, y), M = [1 1; 1 2] and B = [1 0; 1 1]. A vector holds
  // two pairs, so a chain of vectors v adds up to the sum of (M^2)^k (M B even + B odd). M^2 solves
  // z^2 = 7 z - 1; Clenshaw's recurrence b' = v + 7 b - b'' therefore runs the chain lane by lane,
  // without a multiplication, and the matrices come in only once, at the end of it.
  // Source: https://en.wikipedia.org/wiki/Clenshaw_algorithm

  private static let vectorsPerChain = 32
  private static let chainBytes = vectorsPerChain * 16
  /// Two chains, so that one can advance while the other waits.
  private static let blockBytes = 2 * chainBytes

  @inline(__always)
  private mutating func addNativeBlock(_ block: UnsafeRawPointer) {
    var first = Chain()
    var second = Chain()
    for index in 0..<Self.vectorsPerChain {
      let pairs = block + 16 * index
      first.add(pairs.loadUnaligned(as: SIMD4<UInt32>.self))
      second.add(
        pairs.loadUnaligned(fromByteOffset: Self.chainBytes, as: SIMD4<UInt32>.self))
    }
    append(first)
    append(second)
  }

  /// The state before the chain, moved past its 64 pairs by M^64, plus what the chain adds.
  @inline(__always)
  private mutating func append(_ chain: Chain) {
    let (x, y) = chain.sum
    let moved0 = 0x9bcc_a01d &* s0 &+ 0xaedf_2ac5 &* s1
    let moved1 = 0xaedf_2ac5 &* s0 &+ 0x4aab_cae2 &* s1
    s0 = moved0 &+ x
    s1 = moved1 &+ y
  }

  private struct Chain {
    var last = SIMD4<UInt32>()
    var lastButOne = SIMD4<UInt32>()

    @inline(__always)
    mutating func add(_ pairs: SIMD4<UInt32>) {
      let next = (last &<< 3) &- last &+ (pairs &- lastButOne)
      lastButOne = last
      last = next
    }

    /// The checksum of the chain from a zero state: the pairs of b - 7 b'' through M B and B, plus
    /// M^2 times those of b''.
    @inline(__always)
    var sum: (UInt32, UInt32) {
      let (x, y) = Self.step(last &+ lastButOne &- (lastButOne &<< 3))
      let (p, q) = Self.step(lastButOne)
      return (x &+ 2 &* p &+ 3 &* q, y &+ 3 &* p &+ 5 &* q)
    }

    /// M B (first pair) + B (second pair).
    @inline(__always)
    private static func step(_ pairs: SIMD4<UInt32>) -> (UInt32, UInt32) {
      let x = 2 &* pairs[0] &+ pairs[1] &+ pairs[2]
      return (x, x &+ pairs[0] &+ pairs[1] &+ pairs[3])
    }
  }
}
