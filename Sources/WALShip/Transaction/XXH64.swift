// XXH64, written from its specification. It guards against damage, not against forgers.
//
// Source: https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md

/// The XXH64 of `bytes`.
@inlinable
public func xxh64(_ bytes: UnsafeRawBufferPointer, seed: UInt64) -> UInt64 {
  guard let start = bytes.baseAddress, !bytes.isEmpty else {
    return XXH64.avalanche(seed &+ XXH64.prime5)
  }
  let tail = start + (bytes.count & ~31)
  var hash: UInt64
  if bytes.count >= 32 {
    var state = XXH64(seed: seed)
    state.add(start, stripes: bytes.count >> 5)
    hash = state.merged
  } else {
    hash = seed &+ XXH64.prime5
  }
  hash &+= UInt64(bytes.count)
  return XXH64.finish(hash, tail: tail, count: bytes.count & 31)
}

/// The four accumulators, for input of at least one stripe of 32 bytes.
@usableFromInline
struct XXH64 {
  @usableFromInline var v1: UInt64
  @usableFromInline var v2: UInt64
  @usableFromInline var v3: UInt64
  @usableFromInline var v4: UInt64

  @inlinable
  init(seed: UInt64) {
    v1 = seed &+ Self.prime1 &+ Self.prime2
    v2 = seed &+ Self.prime2
    v3 = seed
    v4 = seed &- Self.prime1
  }

  /// Adds `stripes` times 32 bytes from `start`.
  @inlinable
  mutating func add(_ start: UnsafeRawPointer, stripes: Int) {
    var (a, b, c, d) = (v1, v2, v3, v4)
    for stripe in 0..<stripes {
      let input = start + 32 &* stripe
      a = Self.round(a, Self.word(input))
      b = Self.round(b, Self.word(input + 8))
      c = Self.round(c, Self.word(input + 16))
      d = Self.round(d, Self.word(input + 24))
    }
    (v1, v2, v3, v4) = (a, b, c, d)
  }

  /// The accumulators as one number, before the length is added.
  @inlinable
  var merged: UInt64 {
    var hash =
      Self.rotate(v1, 1) &+ Self.rotate(v2, 7) &+ Self.rotate(v3, 12) &+ Self.rotate(v4, 18)
    hash = Self.merge(hash, v1)
    hash = Self.merge(hash, v2)
    hash = Self.merge(hash, v3)
    return Self.merge(hash, v4)
  }

  /// Adds the last `count` bytes, fewer than 32, and mixes.
  @inlinable
  static func finish(_ hash: UInt64, tail: UnsafeRawPointer, count: Int) -> UInt64 {
    var hash = hash
    var next = tail
    let end = tail + count
    while end - next >= 8 {
      hash = rotate(hash ^ round(0, word(next)), 27) &* prime1 &+ prime4
      next += 8
    }
    if end - next >= 4 {
      let lane = UInt64(UInt32(littleEndian: next.loadUnaligned(as: UInt32.self)))
      hash = rotate(hash ^ lane &* prime1, 23) &* prime2 &+ prime3
      next += 4
    }
    while next < end {
      hash = rotate(hash ^ UInt64(next.load(as: UInt8.self)) &* prime5, 11) &* prime1
      next += 1
    }
    return avalanche(hash)
  }

  @inlinable
  static func avalanche(_ hash: UInt64) -> UInt64 {
    var hash = (hash ^ hash &>> 33) &* prime2
    hash = (hash ^ hash &>> 29) &* prime3
    return hash ^ hash &>> 32
  }

  @inlinable
  static func round(_ accumulator: UInt64, _ lane: UInt64) -> UInt64 {
    rotate(accumulator &+ lane &* prime2, 31) &* prime1
  }

  @inlinable
  static func merge(_ hash: UInt64, _ accumulator: UInt64) -> UInt64 {
    (hash ^ round(0, accumulator)) &* prime1 &+ prime4
  }

  @inlinable
  static func word(_ address: UnsafeRawPointer) -> UInt64 {
    UInt64(littleEndian: address.loadUnaligned(as: UInt64.self))
  }

  @inlinable
  static func rotate(_ value: UInt64, _ bits: UInt64) -> UInt64 {
    value &<< bits | value &>> (64 &- bits)
  }

  @inlinable static var prime1: UInt64 { 0x9E37_79B1_85EB_CA87 }
  @inlinable static var prime2: UInt64 { 0xC2B2_AE3D_27D4_EB4F }
  @inlinable static var prime3: UInt64 { 0x1656_67B1_9E37_79F9 }
  @inlinable static var prime4: UInt64 { 0x85EB_CA77_C2B2_AE63 }
  @inlinable static var prime5: UInt64 { 0x27D4_EB2F_1656_67C5 }
}
