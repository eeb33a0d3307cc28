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
    guard request.querySelector.isEmpty else {
      return SyncRoutes.refuse(
        call, .notImplemented,
        "which pages a query touches is not known here: use PartialSyncPrefixBootstrap")
    }
    guard !request.wantsLogicalLog else {
      return SyncRoutes.refuse(
        call, .notImplemented, "changes are served as pages: logical_mvcc_pull=False")
    }
    if let pages = request.pages { return part(pages, of: request, call) }
    // Only the parts of a copy ask for a state of the past.
    guard request.serverRevision.isEmpty else {
      return SyncRoutes.refuse(call, .notImplemented, "only the present state can be had")
    }
    guard let source = SyncRoutes.source(call) else { return }
    let revision = SyncRevision(request.clientRevision)
    if let revision { SyncCopies.note(shown: revision) }
    guard let revision, waits(call, source, revision, request.pollMilliseconds) else {
      return send(source, .updates(revision), to: call)
    }
  }

  private static func part(_ pages: PageSet, of request: PullUpdatesRequest, _ call: HTTPCall) {
    guard request.clientRevision.isEmpty else {
      return SyncRoutes.refuse(call, .notImplemented, "changes are served as a whole")
    }
    guard let source = SyncRoutes.source(call) else { return }
    guard !request.serverRevision.isEmpty else {
      return send(source, .beginning(pages), to: call)
    }
    guard let beginning = SyncRevision(request.serverRevision), beginning.copy != 0 else {
      return SyncRoutes.fail(call, SyncSource.Failure.changed)
    }
    // A client that is refused while it reads may wait for ever.
    send(source, .more(pages, beginning), to: call, waits: true)
  }

  /// - Parameter waits: for its turn: many may have waited for one commit.
  private static func send(
    _ source: SyncSource, _ form: SyncPages.Form, to call: HTTPCall, waits: Bool = false
  ) {
    SyncAnswer.send(as: type, to: call, waits: waits) { SyncPages(source, form) }
  }

  /// Whether the answer comes later: the client has the present state, and would wait.
  private static func waits(
    _ call: HTTPCall, _ source: SyncSource, _ revision: SyncRevision, _ milliseconds: UInt64
  ) -> Bool {
    let position = source.tracker.position
    guard milliseconds > 0, SyncCopies.since(revision) == position.txid,
      revision.isPart(of: position, source.tracker.epochs)
    else { return false }
    let name = call.node.databaseName
    let pageCount = source.map.live.pageCount
    return SyncPoll.wait(call, source, at: position, milliseconds: milliseconds) { end in
      switch end {
      case .behind: SyncRoutes.fail(call, SyncSource.Failure.behind)
      case .unchanged:
        let header = PullUpdatesAnswer.header(
          revision: revision.later(position, pageCount: pageCount).text, pageCount: pageCount)
        call.answer(.ok, type: type, header)
      case .newer:
        call.takeBack(name) { error in
          if let error { return SyncRoutes.refuse(call, .serviceUnavailable, error.message) }
          guard let source = SyncRoutes.source(call) else { return }
          send(source, .updates(revision), to: call, waits: true)
        }
      }
    }
  }
}
