// What a seed decides before anything runs: how the cluster looks, and which faults it will meet.
// Each fault is on in some of the seeds only, so that those that hide others have runs without
// them.

import EdgeTesting
import WALShip

/// The conditions of one simulation.
struct SimulationPlan {
  var pageSize: PageSize
  var checkpointFrames: UInt32
  /// Each replica's upstreams: 0 is the primary.
  var upstreams: [[Int]]
  var clients: Int
  var steps: Int
  var scrubs = true

  // Faults of nodes
  var kills = false
  var powerLosses = false
  var orderlyStops = false
  var suspends = false
  // Faults of disks
  var diskErrors = false
  var fullDisks = false
  var bitRot = false
  // Faults of the network
  var slowLinks = false
  var cuts = false
  var partitions = false
  var corruption = false
  var narrowWindow = false
  // What people and programs do
  var foreignWriter = false
  var longReader = false
  var promotions = false
  var oldBackups = false
  var vacuum = false

  /// Acknowledged writes can be lost, with tokens that say so.
  var isLossy: Bool { promotions || oldBackups }

  /// A cluster without faults.
  init(
    pageSize: PageSize, checkpointFrames: UInt32, upstreams: [[Int]], clients: Int, steps: Int
  ) {
    self.pageSize = pageSize
    self.checkpointFrames = checkpointFrames
    self.upstreams = upstreams
    self.clients = clients
    self.steps = steps
  }

  init(seed: UInt64) {
    var chance = SeededGenerator(exactly: seed &* 0x9E37_79B9 &+ 17)
    func pick<T>(_ values: [T]) -> T { values[Int(chance.next() % UInt64(values.count))] }
    func isOn(_ percent: UInt64) -> Bool { chance.next() % 100 < percent }
    pageSize = PageSize(pick([512, 1024, 1024, 4096]))!
    checkpointFrames = pick([8, 20, 60, 300])
    upstreams = pick([[[0]], [[0], [0]], [[0], [1, 0]], [[0], [0], [1]], [[0], [1], [2]]])
    clients = 1 + Int(chance.next() % 4)
    steps = 400 + Int(chance.next() % 800)
    scrubs = isOn(50)
    guard !isOn(5) else { return }
    kills = isOn(35)
    powerLosses = isOn(25)
    orderlyStops = isOn(25)
    suspends = isOn(15)
    diskErrors = isOn(20)
    fullDisks = isOn(12)
    bitRot = isOn(12)
    slowLinks = isOn(25)
    cuts = isOn(30)
    partitions = isOn(20)
    corruption = isOn(15)
    narrowWindow = isOn(20)
    foreignWriter = isOn(25)
    longReader = isOn(20)
    promotions = isOn(12)
    oldBackups = isOn(8)
    vacuum = isOn(15)
    if bitRot { scrubs = true }
  }

  /// The faults that are on, for people.
  var summary: String {
    let faults: [(String, Bool)] = [
      ("kills", kills), ("power losses", powerLosses), ("stops", orderlyStops),
      ("suspends", suspends), ("disk errors", diskErrors), ("full disks", fullDisks),
      ("bit rot", bitRot), ("slow links", slowLinks), ("cuts", cuts), ("partitions", partitions),
      ("corruption", corruption), ("narrow window", narrowWindow),
      ("foreign writer", foreignWriter), ("long reader", longReader),
      ("promotions", promotions), ("old backups", oldBackups), ("vacuum", vacuum),
    ]
    let on = faults.filter(\.1).map(\.0)
    return "\(upstreams.count) replicas \(upstreams), \(clients) clients, pages of \(pageSize) "
      + "bytes, checkpoints at \(checkpointFrames) frames, \(steps) steps; "
      + (on.isEmpty ? "no faults" : on.joined(separator: ", "))
  }
}
