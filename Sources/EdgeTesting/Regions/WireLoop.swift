// The thread of a wire: one poll loop over the interfaces of all regions.

import Glibc

/// Moves packets. It is used on its thread alone.
final class WireLoop {
  private struct Packet {
    var due: UInt64
    var bytes: [UInt8]
  }

  /// From one region to another, in order.
  private struct Path {
    var packets: [Packet] = []
    var first = 0
    var bytes = 0
    var isEmpty: Bool { first == packets.count }
  }

  private let regions: [Region]
  private let wake: Int32
  private let state: WireState
  private var paths: [[Path]]
  private var random: SeededGenerator
  private var chunk = [UInt8](repeating: 0, count: 1 << 16)
  /// A path that has so much on the way loses what comes, as a router does.
  private static let pathBytesMax = 8 << 20
  private static let packetsAtOnceMax = 256

  init(regions: [Region], wake: Int32, state: WireState, seed: UInt64) {
    self.regions = regions
    self.wake = wake
    self.state = state
    random = SeededGenerator(seed: seed)
    let row = [Path](repeating: Path(), count: regions.count)
    paths = [[Path]](repeating: row, count: regions.count)
  }

  func run() {
    defer { close(wake) }
    while true {
      let present = state.lock.withLock { $0 }
      if present.isStopped { return }
      var counts = Wire.Counts()
      step(present.conditions, &counts)
      state.lock.withLock { state in
        state.counts.passed += counts.passed
        state.counts.lost += counts.lost
      }
    }
  }

  private func step(_ conditions: [[Wire.Condition]], _ counts: inout Wire.Counts) {
    var entries = [pollfd(fd: wake, events: Int16(POLLIN), revents: 0)]
    for region in regions {
      entries.append(pollfd(fd: region.tunnel, events: Int16(POLLIN), revents: 0))
    }
    _ = poll(&entries, nfds_t(entries.count), timeout())
    if entries[0].revents != 0 { while read(wake, &chunk, chunk.count) > 0 {} }
    for (from, region) in regions.enumerated() where entries[from + 1].revents != 0 {
      for _ in 0..<Self.packetsAtOnceMax {
        let count = read(region.tunnel, &chunk, chunk.count)
        guard count > 0 else { break }
        take(count, from, conditions, &counts)
      }
    }
    for from in paths.indices {
      for to in paths.indices { deliver(from, to, conditions, &counts) }
    }
  }

  /// Milliseconds until the next packet is due; the state is looked at once a second at least.
  private func timeout() -> Int32 {
    let now = Deadline.now()
    var milliseconds: Int32 = 1000
    for path in paths.joined() where !path.isEmpty {
      let due = path.packets[path.first].due
      milliseconds =
        due <= now ? 0 : min(milliseconds, Int32(clamping: (due - now) / 1_000_000 + 1))
    }
    return milliseconds
  }

  /// Looks where a packet wants to go. Only IPv4 to one of the regions is passed on.
  private func take(
    _ count: Int, _ from: Int, _ conditions: [[Wire.Condition]], _ counts: inout Wire.Counts
  ) {
    guard count >= 20, chunk[0] >> 4 == 4, Array(chunk[16..<19]) == [192, 0, 2] else { return }
    let to = Int(chunk[19]) - 1
    guard regions.indices.contains(to), to != from else { return }
    let condition = conditions[from][to]
    let isLost = condition.loss > 0 && Double.random(in: 0..<1, using: &random) < condition.loss
    guard !condition.isCut, !isLost, paths[from][to].bytes + count <= Self.pathBytesMax else {
      counts.lost += 1
      return
    }
    let jitter = Double.random(in: 0...1, using: &random) * condition.jitterMilliseconds
    let milliseconds = condition.delayMilliseconds + jitter
    let due = Deadline.now() + UInt64(milliseconds * 1_000_000)
    let after = paths[from][to].packets.last?.due ?? 0
    paths[from][to].packets.append(Packet(due: max(due, after), bytes: Array(chunk[..<count])))
    paths[from][to].bytes += count
  }

  private func deliver(
    _ from: Int, _ to: Int, _ conditions: [[Wire.Condition]], _ counts: inout Wire.Counts
  ) {
    let now = Deadline.now()
    while !paths[from][to].isEmpty {
      let packet = paths[from][to].packets[paths[from][to].first]
      guard packet.due <= now else { break }
      paths[from][to].first += 1
      paths[from][to].bytes -= packet.bytes.count
      let isGone =
        conditions[from][to].isCut
        || write(regions[to].tunnel, packet.bytes, packet.bytes.count) != packet.bytes.count
      if isGone { counts.lost += 1 } else { counts.passed += 1 }
    }
    if paths[from][to].isEmpty {
      paths[from][to].packets.removeAll(keepingCapacity: true)
      paths[from][to].first = 0
    } else if paths[from][to].first > 1024 {
      paths[from][to].packets.removeFirst(paths[from][to].first)
      paths[from][to].first = 0
    }
  }
}
