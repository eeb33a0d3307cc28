// Copies of a part of the database over `/pull-updates`, as pyturso keeps them: they begin with some
// pages, get more as of that state, and are never a mixture of two states.

import EdgeTesting
import Store
import TestTraits
import Testing

@testable import Primary
@testable import Replica
@testable import Serving

/// A set of page numbers as Roaring's portable format has it, in containers of all kinds.
func roaring(_ numbers: Set<Int>, runs: Bool = false) -> [UInt8] {
  func word(_ value: Int) -> [UInt8] { [UInt8(value & 0xff), UInt8(value >> 8 & 0xff)] }
  let groups = Dictionary(grouping: numbers.sorted()) { $0 >> 16 }.sorted { $0.key < $1.key }
  let count = groups.count
  var bytes = word(runs ? 12347 : 12346)
  if runs {
    bytes += word(count - 1) + [UInt8](repeating: 0xff, count: (count + 7) / 8)
  } else {
    bytes += word(0) + word(count) + word(count >> 16)
  }
  for (key, members) in groups { bytes += word(key) + word(members.count - 1) }
  if !runs || count >= 4 { bytes += [UInt8](repeating: 0, count: 4 * count) }
  for (_, members) in groups {
    let low = members.map { $0 & 0xffff }
    if runs {
      let first = low.filter { !low.contains($0 - 1) }
      bytes += word(first.count)
      for start in first {
        var end = start
        while low.contains(end + 1) { end += 1 }
        bytes += word(start) + word(end - start)
      }
    } else if low.count > 4096 {
      var bits = [UInt8](repeating: 0, count: 8192)
      for number in low { bits[number / 8] |= 1 << UInt8(number % 8) }
      bytes += bits
    } else {
      bytes += low.flatMap(word)
    }
  }
  return bytes
}

@Suite(.services) struct PartialCopyTests {
  private static let roles = [NodeRole.primary, .replica]

  private func write(_ nodes: HTTPNodes, _ statements: String...) throws {
    for result in try nodes.results(statements.map { execute($0) }) where result.code != nil {
      throw TestFailure("\(result)")
    }
  }

  private func fill(_ nodes: HTTPNodes) throws {
    try write(
      nodes, "CREATE TABLE t(id INTEGER PRIMARY KEY, data)",
      "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 200) "
        + "INSERT INTO t SELECT i, randomblob(3000) FROM n")
  }

  private func begin(_ nodes: HTTPNodes, _ pages: Range<Int>) throws -> PullUpdatesReply {
    var ask = PullUpdatesAsk()
    ask.pages = roaring(Set(pages))
    return try ask(nodes.client())
  }

  private func more(
    _ nodes: HTTPNodes, _ pages: Set<Int>, of copy: PullUpdatesReply, runs: Bool = false
  ) throws -> PullUpdatesReply {
    var ask = PullUpdatesAsk()
    ask.serverRevision = copy.revision
    ask.pages = roaring(pages, runs: runs)
    return try ask(nodes.client())
  }

  private func requireRefused(_ status: Int, _ body: () throws -> PullUpdatesReply) throws {
    let refused = #expect(throws: EmbeddedCopy.Refused.self) { _ = try body() }
    #expect(refused?.status == status, "\(refused.map(\.description) ?? "")")
  }

  private func pull(_ nodes: HTTPNodes, since revision: String) throws -> PullUpdatesReply {
    try PullUpdatesAsk(since: revision)(nodes.client())
  }

  @Test(arguments: roles) func pagesComeAsTheyWereAtTheBeginning(_ role: NodeRole) async throws {
    try await HTTPNodes.with(role) { nodes in
      try fill(nodes)
      let whole = try PullUpdatesAsk()(nodes.client())
      let copy = try begin(nodes, 0..<8)
      #expect(copy.pages == whole.pages.filter { $0.key < 8 })
      #expect(copy.pageCount == whole.pageCount && copy.revision != whole.revision)
      // Of what is asked for behind the end nothing comes.
      for runs in [false, true] {
        let rest = try more(nodes, Set(8..<5000).union([70_000, 1 << 31]), of: copy, runs: runs)
        #expect(rest.pages == whole.pages.filter { $0.key >= 8 } && rest.revision == copy.revision)
      }
      #expect(try begin(nodes, 0..<0).pages.isEmpty)
      // Two copies are two, though they began with the same state.
      #expect(try begin(nodes, 0..<8).revision != copy.revision)
    }
  }

  /// Which pages a change touches is seen from a pull.
  @Test(arguments: roles) func aPageThatChangedIsNotSent(_ role: NodeRole) async throws {
    try await HTTPNodes.with(role) { nodes in
      try fill(nodes)
      let copy = try begin(nodes, 0..<2)
      try write(nodes, "UPDATE t SET data = randomblob(3000) WHERE id = 150")
      let whole = try PullUpdatesAsk()(nodes.client())
      let changed = Set(try pull(nodes, since: copy.revision.wholeRevision).pages.keys)
      #expect(!changed.isEmpty && changed.count < 5)
      let all = Set(2..<copy.pageCount)
      // The copy has not pulled: neither the page nor what is asked for with it.
      try requireRefused(409) { try more(nodes, all, of: copy) }
      let others = try more(nodes, all.subtracting(changed), of: copy)
      #expect(others.pages.count == all.subtracting(changed).count)
      // It has that now, and must not get the former page over it.
      let pulled = try pull(nodes, since: copy.revision)
      #expect(
        Set(pulled.pages.keys) == changed && pulled.pages.allSatisfy { whole.pages[$0] == $1 })
      #expect(Set(try more(nodes, all, of: copy).pages.keys) == all.subtracting(changed))
      #expect(try more(nodes, changed, of: copy).pages.isEmpty)
      let next = try pull(nodes, since: pulled.revision)
      #expect(next.pages.isEmpty && next.revision == pulled.revision)
      #expect(try more(nodes, changed, of: copy).pages.isEmpty)
      // Changed once more since.
      try write(nodes, "UPDATE t SET data = randomblob(3000) WHERE id = 20")
      try requireRefused(409) { try more(nodes, all, of: copy) }
      // Another copy that began later is another matter.
      let late = try begin(nodes, 0..<2)
      #expect(try more(nodes, all, of: late).pages.count == all.count)
    }
  }

  @Test(arguments: roles) func theSizeIsThatOfTheCopy(_ role: NodeRole) async throws {
    try await HTTPNodes.with(role) { nodes in
      try fill(nodes)
      let copy = try begin(nodes, 0..<2)
      let end = copy.pageCount
      try write(nodes, "CREATE TABLE more(a)", "INSERT INTO more VALUES (zeroblob(40000))")
      // Behind what the copy knows.
      #expect(try more(nodes, [end - 5, end, end + 3], of: copy).pages.keys.sorted() == [end - 5])
      let grown = try pull(nodes, since: copy.revision)
      #expect(grown.pageCount > end)
      try write(nodes, "DELETE FROM t WHERE id > 20", "DROP TABLE more", "VACUUM")
      try requireRefused(409) { try more(nodes, [end - 5], of: copy) }
      let small = try pull(nodes, since: grown.revision)
      #expect(small.pageCount < end - 5)
      // It was sent that these are gone, and has not shown that it took that.
      #expect(try more(nodes, [end - 5], of: copy).pageCount == grown.pageCount)
      _ = try pull(nodes, since: small.revision)
      let rest = try more(nodes, Set(0..<end), of: copy)
      #expect(rest.pages.isEmpty && rest.pageCount == small.pageCount)
    }
  }

  @Test(arguments: roles) func wrongRequestsAreTold(_ role: NodeRole) async throws {
    try await HTTPNodes.with(role) { nodes in
      try fill(nodes)
      let copy = try begin(nodes, 0..<2)
      var parts = copy.revision.split(separator: ".").map(String.init)
      #expect(parts.count == 6)
      parts[2] = "ffff"
      var later = copy
      later.revision = parts.joined(separator: ".")
      try requireRefused(409) { try more(nodes, [3], of: later) }
      var whole = copy
      whole.revision = copy.revision.wholeRevision
      try requireRefused(409) { try more(nodes, [3], of: whole) }
      var ask = PullUpdatesAsk(since: copy.revision)
      ask.pages = roaring([1])
      try requireRefused(501) { try ask(nodes.client()) }
      ask = PullUpdatesAsk()
      ask.query = "SELECT * FROM t"
      try requireRefused(501) { try ask(nodes.client()) }
      ask = PullUpdatesAsk()
      for bytes in [
        [1], [0x3a, 0x30, 0, 0], [0x3a, 0x30, 0, 0, 0xff, 0xff, 0xff, 0xff],
        roaring([1, 2]) + [0], roaring([1, 2]).dropLast(), roaring([5, 9]).reversed(),
        roaring(Set(0..<5000)).dropLast(4), [0x3b, 0x30, 0xff, 0xff, 1],
      ] as [[UInt8]] {
        ask.pages = bytes
        try requireRefused(400) { try ask(nodes.client()) }
      }
      // A size that the client made up takes no memory.
      parts = copy.revision.split(separator: ".").map(String.init)
      parts[3] = "77"
      parts[4] = "ffffffff"
      var huge = copy
      huge.revision = parts.joined(separator: ".")
      let runs: [UInt8] = [0x3b, 0x30, 0, 0, 1, 0xff, 0x7f, 0xff, 0xff, 1, 0, 0, 0, 0xff, 0xff]
      ask = PullUpdatesAsk()
      ask.serverRevision = huge.revision
      ask.pages = runs
      try requireRefused(409) { try ask(nodes.client()) }
    }
  }

  @Test func setsAreReadAsTheyAreWritten() throws {
    let sets: [Set<Int>] = [
      [0], [65535], [1 << 31], Set(0..<4096), Set(0..<4097), Set(60_000..<70_000),
      Set(stride(from: 1, to: 30_000, by: 3)), Set((0..<9).map { $0 << 16 | 7 }),
    ]
    for numbers in sets {
      for runs in [false, true] {
        let set = try PageSet(decoding: roaring(numbers, runs: runs))
        #expect(set.count == numbers.count)
        #expect(set.numbers(below: .max).map { Int($0) } == numbers.sorted())
        #expect(
          set.numbers(below: 65_536).map { Int($0) } == numbers.filter { $0 < 65_536 }.sorted())
      }
    }
  }
}

extension String {
  /// The same state, as a whole copy knows it.
  fileprivate var wholeRevision: String { split(separator: ".").prefix(3).joined(separator: ".") }
}
