// Copies the database of a running node: all pages, then those that changed meanwhile, and so on
// until what is left is small enough to be read from one snapshot. It is how a replica catches up,
// but the client asks for each part.
// Source: docs/ARCHITECTURE.md, "Catching up"

import Serving
import Store
import WALShip

/// One backup, from a connected node to a finished file.
final class BackupRun {
  private let target: BackupTarget
  private let copy: ReplicaCopy
  private let pages: PageRequests
  private let pageSize: Int
  private var pageCount: UInt32
  private var bar: ProgressBar
  private var passedPages = 0

  /// A round with no more bytes of pages than this is followed by the last one.
  private static let smallBytes = 1 << 20
  /// After so many rounds the last one is tried, however large it is: the node may outrun the link.
  private static let roundsBeforeLast = 8
  private static let roundsMax = 24
  /// The history of the node may become another one, or damage may be on the way: then all begins
  /// anew.
  private static let triesMax = 3

  /// What became of it.
  struct Result {
    var position: Position
    var bytes: Int
    var pageCount: UInt32
  }

  /// Asks the node what it has, and makes the temporary files.
  init(_ client: LineClient, _ target: BackupTarget) throws {
    self.target = target
    let status = try client.request(
      ".status", timeoutMilliseconds: client.settings.connectMilliseconds
    ).last.json
    guard let database = status.member("database").asString.flatMap({ DatabaseID($0) }),
      let pageSize = status.member("page_size").asInt.flatMap({ PageSize($0) }),
      let pageCount = status.member("page_count").asInt,
      let epoch = status.member("epoch").asInt
    else {
      throw CommandFailure(.failed, "\(client.settings.address) is not a node of edge-sql")
    }
    self.pageSize = pageSize.bytes
    self.pageCount = UInt32(clamping: pageCount)
    do {
      copy = try ReplicaCopy(
        beginning: target.path,
        identity: PageMapIdentity(database: database, pageSize: pageSize),
        history: EpochHistory(current: Epoch(UInt32(clamping: epoch))))
    } catch {
      throw target.failure(error)
    }
    pages = PageRequests(client: client, copy: copy)
    bar = ProgressBar("copying") { Console.error.write($0 + "\n") }
  }

  /// Makes the copy.
  ///
  /// - Throws: what went wrong; the temporary files are removed then.
  func run() throws -> Result {
    pages.onProgress = { [unowned self] in progress($0) }
    defer { bar.end() }
    do {
      for _ in 0..<Self.triesMax {
        if let result = try copyOnce() { return result }
      }
      throw CommandFailure(
        .temporary, "the pages did not add up: the history of the node changes too often")
    } catch {
      copy.discard()
      throw failure(error)
    }
  }

  /// - Returns: nil when the history became another one, or the pages do not add up.
  private func copyOnce() throws -> Result? {
    passedPages = 0
    var since = TXID.zero
    var epoch: Epoch?
    for number in 1...Self.roundsMax {
      guard let round = try pages.round(since: since, pageCount: pageCount),
        round.epoch == epoch ?? round.epoch
      else { return nil }
      epoch = round.epoch
      since = round.began
      let isSmall = round.pages * pageSize <= Self.smallBytes
      guard isSmall || number >= Self.roundsBeforeLast,
        let end = try pages.finalRound(since: since)
      else { continue }
      guard end.position.epoch == epoch else { return nil }
      // Somebody else may have made a file there meanwhile.
      try target.check()
      guard try copy.finishPlain(at: end.position, pageCount: end.pageCount) else { return nil }
      return Result(
        position: end.position, bytes: Int(end.pageCount) * pageSize, pageCount: end.pageCount)
    }
    throw CommandFailure(
      .temporary, "the database changes faster than it can be copied over this link")
  }

  private func progress(_ passed: Int) {
    passedPages = min(Int(pageCount), passedPages + passed)
    bar.show(passedPages * pageSize, of: Int(pageCount) * pageSize)
  }

  private func failure(_ error: any Error) -> any Error {
    switch error {
    case let error as ServerError where error.code == ErrorCode.badRequest.rawValue:
      CommandFailure(.failed, error.message, hint: "Is the node older than this command?")
    case let error as ShipProtocolError:
      CommandFailure(.corruptData, "the pages cannot be read: \(error)")
    case is PageCodecError: CommandFailure(.corruptData, "a page cannot be read")
    default: target.failure(error)
    }
  }
}
