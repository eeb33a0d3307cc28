// A primary and replicas of it, each in a region of its own, joined by a wire with faults.
//
//   region 0: the primary       region 1: first, follows the primary
//   region 2: second, follows the primary; third, follows first over the wire

import EdgeTesting
import Serving

/// Nodes in three regions. Clients of a node connect inside of its region.
final class RegionCluster {
  /// Where a client of a node connects.
  struct Place: Sendable {
    var name: String
    var region: Region
    var port: Int

    func connect() throws -> LineConnection {
      try region.inside { try LineConnection(port: port) }
    }
  }

  /// Whether this machine lets tests have regions; says why when it does not.
  static let isPossible: Bool = {
    guard let reason = RegionNetwork.whyNot() else { return true }
    print("skipped: regions are tested in network namespaces: \(reason)")
    return false
  }()

  let network: RegionNetwork
  let directory: TestDirectory
  /// The primary, then first, second and third.
  private(set) var nodes: [NodeProcess] = []
  private(set) var places: [Place] = []

  var wire: Wire { network.wire }
  var regions: [Region] { network.regions }
  var primary: NodeProcess { nodes[0] }
  var replicas: ArraySlice<NodeProcess> { nodes.dropFirst() }

  init(seed: UInt64, prepare: (String) throws -> Void) throws {
    network = try RegionNetwork(regions: 3, seed: seed)
    directory = try TestDirectory()
    try prepare(directory.file("primary.db"))
    try add("primary", in: 0, following: nil)
    try add("first", in: 1, following: 0)
    try add("second", in: 2, following: 0)
    try add("third", in: 2, following: 1)
  }

  private func add(_ name: String, in number: Int, following upstream: Int?) throws {
    let region = regions[number]
    var arguments = ["--insecure", "--name", name]
    if let upstream {
      let above = places[upstream].region.address
      arguments += ["--upstream", "\(above):\(nodes[upstream].shipPort)"]
    }
    let node = try region.inside {
      try NodeProcess(
        upstream == nil ? .primary : .replica, in: directory, database: "\(name).db",
        arguments: arguments, host: "0.0.0.0")
    }
    nodes.append(node)
    places.append(Place(name: name, region: region, port: node.listenPort))
  }

  func report(_ number: Int) throws -> JSONValue {
    try places[number].connect().request(".status").json
  }

  /// What node `number` says about the link to the node above it.
  func upstreamState(_ number: Int) throws -> String? {
    try report(number)["upstream"]?["state"]?.text
  }

  /// Waits until every replica is where the primary is.
  func settle(_ deadline: Deadline = .seconds(60)) throws {
    for number in nodes.indices.dropFirst() {
      try eventually("\(places[number].name) at the primary's position", deadline: deadline) {
        try report(number)["txid"] == report(0)["txid"]
      }
    }
  }

  func requireEqual() throws {
    try settle()
    for node in replicas { try samePages(primary.database, node.database) }
  }

  /// Waits until a write through every node is answered.
  ///
  /// - Returns: seconds until the last of them was.
  func secondsUntilAllWrite(_ deadline: Deadline) throws -> Double {
    let began = Deadline.now()
    for place in places {
      try eventually("a write through \(place.name)", deadline: deadline) {
        let client = try place.connect()
        client.seconds = 30
        return try client.query("UPDATE heartbeat SET n = n + 1").error == nil
      }
    }
    return Double(Deadline.now() - began) / 1e9
  }
}
