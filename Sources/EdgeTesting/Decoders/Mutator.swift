// Turns good input into bad input, the same on each run: what `make fuzz` finds with coverage and
// time, a test finds in part without both.

/// Makes mutations of seeds.
public struct Mutator {
  private var random: SeededGenerator
  private let seeds: [[UInt8]]
  private let bytesMax: Int

  /// Bytes and ends of numbers that decoders stumble over.
  private static let interesting: [UInt8] = [
    0, 1, 2, 0x7f, 0x80, 0xff, 0x0a, 0x22, 0x27, 0x3b, 0x5b,
  ]
  private static let numbers: [[UInt8]] = [
    [UInt8](repeating: 0xff, count: 9) + [1],
    [0xff, 0xff, 0xff, 0xff, 0x0f], [0xff, 0xff, 0x03], [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01],
    [UInt8](repeating: 0xff, count: 8), [UInt8](repeating: 0, count: 8),
    Array("9223372036854775808".utf8), Array("-9223372036854775808".utf8), Array("1e999".utf8),
    Array("\\ud800".utf8), Array("\r\n".utf8), Array("/*".utf8),
  ]

  /// - Parameter bytesMax: no mutation is longer.
  public init(seeds: [[UInt8]], random: SeededGenerator, bytesMax: Int = 8192) {
    self.seeds = seeds.isEmpty ? [[]] : seeds
    self.random = random
    self.bytesMax = bytesMax
  }

  /// The next mutation: one to four changes of a seed.
  public mutating func next() -> [UInt8] {
    var bytes = seeds[index(below: seeds.count)]
    for _ in 0..<Int.random(in: 1...4, using: &random) { change(&bytes) }
    return Array(bytes.prefix(bytesMax))
  }

  private mutating func index(below count: Int) -> Int {
    count > 0 ? Int.random(in: 0..<count, using: &random) : 0
  }

  private mutating func range(in bytes: [UInt8]) -> Range<Int> {
    let start = index(below: bytes.count)
    return start..<min(bytes.count, start + Int.random(in: 1...32, using: &random))
  }

  private mutating func change(_ bytes: inout [UInt8]) {
    guard !bytes.isEmpty else {
      bytes = random.bytes(Int.random(in: 0...64, using: &random))
      return
    }
    switch index(below: 9) {
    case 0: bytes[index(below: bytes.count)] ^= 1 << UInt8(index(below: 8))
    case 1: bytes[index(below: bytes.count)] = Self.interesting[index(below: 11)]
    case 2: bytes[index(below: bytes.count)] &+= UInt8(truncatingIfNeeded: random.next())
    case 3: bytes.removeSubrange(range(in: bytes))
    case 4: bytes.removeSubrange(index(below: bytes.count)...)
    case 5: bytes.insert(contentsOf: bytes[range(in: bytes)], at: index(below: bytes.count))
    case 6:
      let number = Self.numbers[index(below: Self.numbers.count)]
      let start = index(below: bytes.count)
      bytes.replaceSubrange(start..<min(bytes.count, start + index(below: 9)), with: number)
    case 7: bytes.insert(contentsOf: random.bytes(4), at: index(below: bytes.count))
    default:
      let other = seeds[index(below: seeds.count)]
      bytes = bytes.prefix(index(below: bytes.count)) + other.suffix(index(below: other.count))
    }
  }
}
