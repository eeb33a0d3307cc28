// The thread of a fault proxy: one poll loop over the listener and both sides of each connection.

import Glibc

/// Moves bytes and makes faults. It is used on its thread alone.
final class ProxyLoop {
  /// One direction of one connection.
  private struct Lane {
    var from: Int32
    var to: Int32
    var direction: FaultProxy.Direction
    /// What waits to be written, and when it may be.
    var queue: [(due: UInt64, bytes: ArraySlice<UInt8>)] = []
    var queuedBytes = 0
    var isAtEnd = false
    var isShut = false
    var swallows = false
    /// When a link with a limit has passed on what came so far.
    var free: UInt64 = 0
  }

  private let listener: Int32
  private let wake: Int32
  private let state: StateBox
  /// Two lanes for each connection, up and down.
  private var lanes: [Lane] = []
  private var chunk = [UInt8](repeating: 0, count: 1 << 16)
  private static let queuedBytesMax = 256 << 10

  init(listener: Int32, wake: Int32, state: StateBox) {
    self.listener = listener
    self.wake = wake
    self.state = state
  }

  func run() {
    defer {
      closeAll()
      close(listener)
      close(wake)
    }
    while true {
      let now = state.lock.withLock { $0 }
      if now.isStopped { return }
      if now.wantsCut {
        closeAll()
        state.lock.withLock { $0.wantsCut = false }
      }
      if now.wantsSwallow {
        for index in lanes.indices { lanes[index].swallows = true }
        state.lock.withLock { $0.wantsSwallow = false }
      }
      step(now)
    }
  }

  private func step(_ present: FaultProxy.State) {
    var entries = [pollfd(fd: wake, events: Int16(POLLIN), revents: 0)]
    entries.append(pollfd(fd: listener, events: Int16(POLLIN), revents: 0))
    let now = Deadline.now()
    var timeout: Int32 = 1000
    for lane in lanes {
      let isPaused = present.isPaused[lane.direction.rawValue]
      let reads = !lane.isAtEnd && !isPaused && lane.queuedBytes < Self.queuedBytesMax
      entries.append(pollfd(fd: reads ? lane.from : -1, events: Int16(POLLIN), revents: 0))
      var writes = false
      if let first = lane.queue.first, !isPaused {
        writes = first.due <= now
        if !writes { timeout = min(timeout, Int32(clamping: (first.due - now) / 1_000_000 + 1)) }
      }
      entries.append(pollfd(fd: writes ? lane.to : -1, events: Int16(POLLOUT), revents: 0))
    }
    guard poll(&entries, nfds_t(entries.count), timeout) > 0 else { return }
    if entries[0].revents != 0 { while read(wake, &chunk, chunk.count) > 0 {} }
    var ended: Set<Int> = []
    for index in lanes.indices {
      if entries[2 + index * 2].revents != 0, !fill(index, present) { ended.insert(index / 2) }
      if entries[3 + index * 2].revents != 0, !drain(index) { ended.insert(index / 2) }
    }
    for pair in ended.sorted(by: >) { closePair(pair) }
    if entries[1].revents != 0 { accept(present) }
  }

  private func accept(_ present: FaultProxy.State) {
    let client = Glibc.accept(listener, nil, nil)
    guard client >= 0 else { return }
    guard !present.refuses, let upstream = try? Socket.connect(present.target) else {
      close(client)
      return
    }
    _ = fcntl(client, F_SETFD, FD_CLOEXEC)
    Socket.noDelay(client)
    state.lock.withLock { $0.connections += 1 }
    lanes.append(Lane(from: client, to: upstream, direction: .up))
    lanes.append(Lane(from: upstream, to: client, direction: .down))
  }

  /// Reads from one side. Returns false when the connection is broken.
  private func fill(_ index: Int, _ present: FaultProxy.State) -> Bool {
    // A slow link carries small pieces, so that it is even.
    let most = present.bytesPerSecond.map { max(64, min(chunk.count, $0 / 50)) } ?? chunk.count
    let count = recv(lanes[index].from, &chunk, most, Int32(MSG_DONTWAIT))
    if count < 0 { return errno == EAGAIN || errno == EINTR }
    guard count > 0 else {
      lanes[index].isAtEnd = true
      if lanes[index].swallows { return !lanes[index ^ 1].isAtEnd }
      if lanes[index].queue.isEmpty { shut(index) }
      return !(lanes[index].isShut && lanes[index ^ 1].isShut)
    }
    if lanes[index].swallows { return true }
    var bytes = chunk[..<count]
    let direction = lanes[index].direction.rawValue
    let cuts = state.lock.withLock { state in
      let before = state.bytes[direction]
      if let at = state.flipsAt[direction], at < before + count {
        if at >= before { bytes[at - before] ^= 0x10 }
        state.flipsAt[direction] = nil
      }
      var cuts = false
      if let at = state.cutsAt[direction], at <= before + count {
        bytes = bytes.prefix(max(0, at - before))
        state.cutsAt[direction] = nil
        cuts = true
      }
      state.bytes[direction] += bytes.count
      state.recorded?[direction] += bytes
      return cuts
    }
    var due = Deadline.now() + present.delayNanoseconds
    if let rate = present.bytesPerSecond {
      due = max(due, lanes[index].free)
      lanes[index].free = due + UInt64(bytes.count) * 1_000_000_000 / UInt64(rate)
    }
    lanes[index].queue.append((due, bytes))
    lanes[index].queuedBytes += bytes.count
    if cuts {
      // What came before the cut still arrives.
      while lanes[index].queue.first != nil, drain(index) {
        guard Socket.wait(lanes[index].to, POLLOUT, .seconds(1)) else { break }
      }
      return false
    }
    return due > Deadline.now() || drain(index)
  }

  /// Writes what may be written. Returns false when the connection is broken.
  private func drain(_ index: Int) -> Bool {
    while let (due, bytes) = lanes[index].queue.first, due <= Deadline.now() {
      let count = bytes.withUnsafeBytes {
        send(
          lanes[index].to, $0.baseAddress, $0.count,
          Int32(MSG_DONTWAIT | MSG_NOSIGNAL))
      }
      if count < 0 { return errno == EAGAIN || errno == EINTR }
      lanes[index].queuedBytes -= count
      if count == bytes.count {
        lanes[index].queue.removeFirst()
      } else {
        lanes[index].queue[0].bytes = bytes.dropFirst(count)
        return true
      }
    }
    if lanes[index].queue.isEmpty, lanes[index].isAtEnd { shut(index) }
    return true
  }

  private func shut(_ index: Int) {
    lanes[index].isShut = true
    shutdown(lanes[index].to, Int32(SHUT_WR))
  }

  private func closePair(_ pair: Int) {
    close(lanes[pair * 2].from)
    close(lanes[pair * 2].to)
    lanes.removeSubrange(pair * 2...pair * 2 + 1)
  }

  private func closeAll() {
    while !lanes.isEmpty { closePair(0) }
  }
}
