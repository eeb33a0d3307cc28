// `edge-sql verify --repair`: finds the damaged pages of a replica and has them sent again.

import Access
import Replica
import Serving
import Store
import WALShip

/// One repair: of a node that runs, or of a replica's file that no node has open.
struct PageRepair {
  var target: String
  var upstream: String?
  var secretFile: String?
  var tls: TLSFiles
  var client: ClientOptions

  private static let nodeMilliseconds = 3_600_000
  private static let readyMilliseconds = 60_000

  func run() async throws {
    if Disk.exists(target) { return try await repairFile() }
    guard (try? ServerAddress(target)) != nil else {
      throw CommandFailure(.unavailable, "there is no file \(target), and it is no address either")
    }
    try repairNode()
  }

  // MARK: A node

  private func repairNode() throws {
    let client = try LineClient(client.settings(address: target))
    let answer = try client.request(".scrub", timeoutMilliseconds: Self.nodeMilliseconds).last.json
    func count(_ key: String) -> Int { answer.member(key).asInt ?? 0 }
    try conclude(
      pages: count("pages"), damaged: count("damaged"), repaired: count("repaired"),
      mended: count("mended"), trouble: nil)
  }

  // MARK: A file

  private func repairFile() async throws {
    guard let header = try DatabaseHeader(file: target) else {
      throw PrimaryDatabase.Failure.notADatabase(target)
    }
    guard header.stamp != nil else {
      throw CommandFailure(
        .usage, "\(target) is not a replica's file: nobody can repair a primary's",
        hint: "take a copy from a replica with `edge-sql backup`, and put it in place with "
          + "`edge-sql restore`")
    }
    guard let upstream else {
      throw CommandFailure(.usage, "where shall good pages come from? give --upstream HOST:PORT")
    }
    let service = try await start(upstream)
    let late = Task {
      try await Task.sleep(for: .milliseconds(Self.readyMilliseconds))
      await service.stop()
    }
    do {
      try await service.waitUntilReady()
      late.cancel()
      let report = try await service.scrub()
      let trouble = service.status.upstream?.lastError
      await service.stop()
      try conclude(
        pages: Int(report.pages), damaged: report.damaged.count, repaired: report.repaired,
        mended: report.mended, trouble: trouble)
    } catch is ThreadStopped {
      let reason = service.status.upstream?.lastError.map { ": \($0)" } ?? ""
      throw CommandFailure(.temporary, "the upstream could not be followed\(reason)")
    }
  }

  private func start(_ upstream: String) async throws -> ReplicaService {
    var options = NodeOptions()
    options.name = "repair"
    options.logger.logLevel = .critical
    options.scrub.bytesPerSecond = 0
    let addresses: [ServerAddress]
    do {
      addresses = try Parse.upstreams(upstream)
      if let secretFile { options.secret = try ShipSecret(file: secretFile) }
      if tls != TLSFiles() {
        options.shipTransport = try TLSTransport(
          files: tls, verifiesClients: false, logger: options.logger)
      }
    } catch let error as KeyFileFailure {
      throw CommandFailure(.configuration, error.description)
    } catch let error as BadValue {
      throw CommandFailure(.usage, error.description)
    } catch let error as ShipSecret.Failure {
      throw CommandFailure(.configuration, error.description)
    }
    do {
      return try await ReplicaService(
        configuration: ReplicaConfiguration(
          databasePath: target,
          upstreams: addresses.map { NodeAddress(host: $0.host, port: $0.port) }, options: options))
    } catch WALInjector.Failure.inUse {
      throw CommandFailure(
        .temporary, "a node has \(target) open",
        hint: "give the address where its clients connect instead of the file")
    }
  }

  private func conclude(
    pages: Int, damaged: Int, repaired: Int, mended: Int, trouble: String?
  ) throws {
    var text = "\(target): \(grouped(pages)) pages checked, \(grouped(damaged)) damaged"
    if damaged > 0 { text += ", \(grouped(repaired)) repaired" }
    if mended > 0 { text += ", \(grouped(mended)) damaged entries of the page map mended" }
    Console.output.write(text + "\n")
    guard repaired < damaged else { return }
    let reason = trouble.map { ": \($0)" } ?? ""
    throw CommandFailure(
      .corruptData, "\(grouped(damaged - repaired)) pages could not be repaired\(reason)")
  }
}
