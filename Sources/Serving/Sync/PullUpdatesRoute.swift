// The route of pyturso and of Turso's newer libraries: the pages that changed since a client's
// state, now or as soon as there are some.
// Source: docs/SYNC.md

import NIOCore
import NIOHTTP1
import Store
import WALShip

enum PullUpdatesRoute {
  private static let type = "application/protobuf"

  static func pull(_ call: HTTPCall) {
    let request: PullUpdatesRequest
    do throws(PullUpdatesRequest.Failure) {
      request = try PullUpdatesRequest(decoding: call.body)
    } catch {
      return SyncRoutes.refuse(call, .badRequest, "not a request of /pull-updates")
    }
    guard request.pageSelector.isEmpty, request.querySelector.isEmpty else {
      return SyncRoutes.refuse(
        call, .notImplemented, "copies of a part of the database are not served")
    }
    // Only the parts of a copy ask for a state of the past.
    guard request.serverRevision.isEmpty else {
      return SyncRoutes.refuse(call, .notImplemented, "only the present state can be had")
    }
    guard !request.wantsLogicalLog else {
      return SyncRoutes.refuse(
        call, .notImplemented, "changes are served as pages: logical_mvcc_pull=False")
    }
    guard let source = SyncRoutes.source(call) else { return }
    let revision = SyncRevision(request.clientRevision)
    guard let revision, waits(call, source, revision, request.pollMilliseconds) else {
      return send(source, revision, to: call)
    }
  }

  /// - Parameter waits: for its turn: many may have waited for one commit.
  private static func send(
    _ source: SyncSource, _ revision: SyncRevision?, to call: HTTPCall, waits: Bool = false
  ) {
    SyncAnswer.send(as: type, to: call, waits: waits) { SyncPages(source, .updates(revision)) }
  }

  /// Whether the answer comes later: the client has the present state, and would wait.
  private static func waits(
    _ call: HTTPCall, _ source: SyncSource, _ revision: SyncRevision, _ milliseconds: UInt64
  ) -> Bool {
    let position = source.tracker.position
    guard milliseconds > 0, revision.txid == position.txid,
      revision.isPart(of: position, source.tracker.epochs)
    else { return false }
    let name = call.node.databaseName
    let pageCount = source.map.live.pageCount
    return SyncPoll.wait(call, source, at: position, milliseconds: milliseconds) { end in
      switch end {
      case .behind: SyncRoutes.fail(call, SyncSource.Failure.behind)
      case .unchanged:
        let header = PullUpdatesAnswer.header(
          revision: SyncRevision(position).text, pageCount: pageCount)
        call.answer(.ok, type: type, header)
      case .newer:
        call.takeBack(name) { error in
          if let error { return SyncRoutes.refuse(call, .serviceUnavailable, error.message) }
          guard let source = SyncRoutes.source(call) else { return }
          send(source, revision, to: call, waits: true)
        }
      }
    }
  }
}
