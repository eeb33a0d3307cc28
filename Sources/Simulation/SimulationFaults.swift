// What a simulation does to its cluster: ends of processes and machines, disks and networks that
// fail, and an operator who changes things.

import EdgeTesting
import Glibc
import Store
import WALShip

extension Simulation {
  /// Lets something happen to the cluster, now and then.
  func disturb() throws {
    for (number, at) in restarts.sorted(by: { $0.key < $1.key }) where at <= now {
      try restart(nodes[number])
    }
    guard isOneIn(12) else { return }
    let node = nodes[pick(nodes.count)]
    switch pick(14) {
    case 0 where plan.kills: plan(.kill, for: node)
    case 1 where plan.powerLosses: plan(.powerLoss, for: node)
    case 2 where plan.orderlyStops: try stop(node)
    case 3 where plan.suspends: suspend(node)
    case 4 where plan.diskErrors: failDisk(of: node)
    case 5 where plan.fullDisks: fill(node)
    case 6 where plan.bitRot: rot(node)
    case 7 where plan.cuts, 8 where plan.cuts: cut()
    case 9 where plan.partitions: partition()
    case 10 where plan.promotions && isOneIn(3): try promote()
    case 11 where plan.oldBackups && isOneIn(2): try useBackup()
    case 12 where plan.orderlyStops && isOneIn(2): try changeUpstream(of: node)
    default: break
    }
  }

  // MARK: Nodes

  private func plan(_ kind: CrashKind, for node: SimulatedNode) {
    guard node.isUp, !node.isDead, !node.disk.isCrashPlanned else { return }
    let calls = 1 + pick(isOneIn(2) ? 30 : 400)
    trace("\(node.name) will end by \(kind.rawValue) in \(calls) calls")
    node.disk.plan(kind, afterCalls: calls)
    if kind == .powerLoss { powerLosses.insert(node.number) }
  }

  func stop(_ node: SimulatedNode) throws {
    guard node.mayRun, !node.disk.isCrashPlanned else { return }
    trace("\(node.name) is stopped")
    foreign.leave(node)
    do {
      try node.stop()
    } catch {
      trace("  \(error)")
      if node.isDead { return }
      node.crash()
    }
    network.drop(node, tellsPeers: true, now: now)
    for client in clients where client.node === node { client.disconnect() }
    restarts[node.number] = now + UInt64(pick(2000)) * 1_000_000
  }

  /// Starts a node from what its end has left.
  func restart(_ node: SimulatedNode) throws {
    restarts[node.number] = nil
    guard !node.isUp else { return }
    let image = node.disk.remains ?? node.disk.present()
    if powerLosses.remove(node.number) != nil { node.boot += 1 }
    node.disk.begin(with: image)
    node.disk.fault = nil
    node.disk.isFull = false
    trace("\(node.name) starts as a \(node.role == .primary ? "primary" : "replica")")
    do {
      try node.start()
    } catch let error as Violation {
      throw error
    } catch {
      trace("  it does not start: \(error)")
      if case PrimaryDatabase.Failure.superseded = error { return try demote(node) }
      if isHealing { throw Violation("\(node.name) does not start: \(error)") }
      restarts[node.number] = now + 1_000_000_000
    }
  }

  private func suspend(_ node: SimulatedNode) {
    guard node.mayRun else { return }
    trace("\(node.name) stands still")
    node.isSuspended = true
    reliefs.append((now + UInt64(pick(20_000)) * 1_000_000, { node.isSuspended = false }))
  }

  // MARK: Disks

  private func failDisk(of node: SimulatedNode) {
    guard node.isUp else { return }
    let calls =
      isOneIn(2) ? Set(DiskCall.allCases) : [DiskCall.allCases[pick(DiskCall.allCases.count)]]
    node.disk.fault = (calls, EIO, UInt64(1 + pick(20)))
    trace("\(node.name)'s disk fails: \(calls.map(\.rawValue).sorted())")
    reliefs.append((now + UInt64(pick(1500)) * 1_000_000, { node.disk.fault = nil }))
  }

  private func fill(_ node: SimulatedNode) {
    trace("\(node.name)'s disk is full")
    node.disk.isFull = true
    reliefs.append((now + UInt64(pick(4000)) * 1_000_000, { node.disk.isFull = false }))
  }

  /// Changes a bit in a replica's file or page map.
  private func rot(_ node: SimulatedNode) {
    guard node.role == .replica, node.isUp, node.replica?.database != nil else { return }
    let name = isOneIn(3) ? "db-pagemap" : "db"
    let path = node.disk.path(name)
    let header = 4096
    let size = name == "db" ? Files.size(path) : min(Files.size(path), header + 16 * 40)
    guard size > header + 16 else { return }
    let offset = header + pick(size - header)
    guard (try? Files.flipBit(path, at: offset, bit: UInt8(pick(8)))) != nil else { return }
    trace("a bit of \(node.name)'s \(name) flips at \(offset)")
    node.flips += 1
    node.isScrubbed = false
  }

  // MARK: Network

  private func cut() {
    guard !network.links.isEmpty else { return }
    let link = network.links[pick(network.links.count)]
    trace("the link of \(link.down.node.name) to \(link.up.node.name) is cut")
    network.cut(link, now: now)
  }

  private func partition() {
    let (one, other) = (nodes[pick(nodes.count)], nodes[pick(nodes.count)])
    guard one !== other else { return }
    var directions = [[one.number, other.number], [other.number, one.number]]
    if isOneIn(2) { directions.removeLast() }
    trace("nothing goes \(directions)")
    for direction in directions { network.blocked.insert(direction) }
    reliefs.append(
      (
        now + UInt64(pick(30_000)) * 1_000_000,
        { [network] in for direction in directions { network.blocked.remove(direction) } }
      ))
  }

  // MARK: The operator

  private func changeUpstream(of node: SimulatedNode) throws {
    guard node.role == .replica, node.mayRun else { return }
    // Never a ring: what is refused there waits for its operator.
    let others = [primaryNumber] + nodes.map(\.number).filter { $0 < node.number }
    node.upstreams = isOneIn(2) ? [primaryNumber] : [others[pick(others.count)], primaryNumber]
    trace("\(node.name) is to follow \(node.upstreams)")
    try stop(node)
  }

  /// Makes a replica the primary; the former one may live on for a while.
  private func promote() throws {
    let candidates = nodes.filter {
      $0.role == .replica && $0.mayRun && $0.isServing && !$0.isRotten && !$0.disk.isCrashPlanned
    }
    guard !candidates.isEmpty else { return }
    let node = candidates[pick(candidates.count)]
    let former = primary
    if isOneIn(2), former.mayRun { try stop(former) }
    try stop(node)
    guard !node.isUp, !node.isDead else { return }
    node.disk.begin(with: node.disk.present())
    do {
      let result = try node.run { try RoleChange.promote(node.path) }
      trace("\(node.name) is promoted: epoch \(result.epoch) after \(result.after)")
    } catch {
      trace("\(node.name) is not promoted: \(error)")
      // An attempt that was cut off is made again.
      node.disk.fault = nil
      guard (try? DatabaseHeader(file: node.path))??.stamp == nil else { return }
      _ = try node.run { try RoleChange.promote(node.path) }
    }
    node.role = .primary
    primaryNumber = node.number
    for other in nodes where other.role == .replica {
      other.upstreams = [node.number]
      if other.mayRun { try stop(other) }
    }
    try restart(node)
  }

  /// Lets a former primary follow the present one.
  func demote(_ node: SimulatedNode) throws {
    node.disk.begin(with: node.disk.remains ?? node.disk.present())
    guard node.number != primaryNumber else {
      // The former primary began a later epoch by itself, behind an older copy of its files.
      let result = try node.run { try RoleChange.promote(node.path) }
      trace("\(node.name) is promoted again: epoch \(result.epoch) after \(result.after)")
      restarts[node.number] = now
      return
    }
    let position: Position
    do {
      position = try node.run { try RoleChange.demote(node.path) }
    } catch {
      throw Violation("\(node.name) cannot be demoted: \(error)")
    }
    trace("\(node.name) is demoted at \(position.epoch).\(position.txid)")
    // What was captured just now belongs to its own epoch.
    try record.note(position, node.image(), on: node.name)
    node.role = .replica
    node.upstreams = [primaryNumber]
    restarts[node.number] = now
  }

  /// Keeps a copy of the primary's database, or puts an older one in its place.
  private func useBackup() throws {
    let node = primary
    guard node.mayRun, !node.disk.isCrashPlanned else { return }
    try stop(node)
    guard !node.isUp, !node.isDead, Disk.exists(node.path) else { return }
    var image = node.disk.present()
    guard var kept = backup else {
      trace("a copy of \(node.name)'s files is kept")
      backup = image
      return
    }
    trace("the kept copy is put under \(node.name)")
    backup = nil
    for suffix in ["", "-wal"] {
      kept["db" + suffix]?.number = UInt64(90_000 + pick(1000))
      image["db" + suffix] = kept["db" + suffix]
    }
    image["db-shm"] = nil
    node.disk.begin(with: image)
  }
}
