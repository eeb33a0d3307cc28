// A list of pages from one snapshot, as an embedded replica wants it: the whole database as a file,
// or pages for `/pull-updates`. It is read piece by piece, as the client takes it.

import NIOCore
import Store
import WALShip

/// Pages on their way to a client. It has a thread, and a snapshot until it ends.
final class SyncPages: @unchecked Sendable {  // confined to `thread`
  enum Form: Sendable {
    /// The bytes of the file.
    case file
    /// Messages of `/pull-updates`, for a client that shows a revision.
    case updates(SyncRevision?)
    /// Pages with which the copy of a part begins.
    case beginning(PageSet)
    /// More pages of such a copy, as of the state with which it began.
    case more(PageSet, SyncRevision)
  }

  private let thread = DatabaseThread()
  private let source: SyncSource
  private let form: Form
  private let onSnapshot: @Sendable (Position) throws -> Void
  private var reader: SnapshotReader?
  private var pages: [Pgno]?
  /// What the client has at the end.
  private var revision: SyncRevision?
  private var next = 0
  private var began: UInt64 = 0
  private static let pagesPerPiece = 64
  /// A snapshot keeps the WAL from being begun anew: clients that are slower than 1 MiB/s are cut
  /// off.
  private static let pagesPerSecondMin = (1 << 20) / SyncSource.pageBytes
  private static let secondsAtLeast = 10

  struct TooSlow: Error {}

  /// - Parameter onSnapshot: is told which state is sent, before the first byte of it.
  init(
    _ source: SyncSource, _ form: Form,
    onSnapshot: @escaping @Sendable (Position) throws -> Void = { _ in }
  ) {
    self.source = source
    self.form = form
    self.onSnapshot = onSnapshot
  }

  /// The next piece; nil at the end.
  func read(completion: @escaping @Sendable (Result<ByteBuffer?, any Error>) -> Void) -> Bool {
    thread.submit { [self] in completion(Result { try piece() }) }
  }

  private func piece() throws -> ByteBuffer? {
    var bytes = ByteBuffer()
    if reader == nil { try begin(&bytes) }
    guard let reader else { return nil }
    let count = next < (pages?.count ?? 0) ? pages?.count ?? 0 : 0
    let end = min(count, next + Self.pagesPerPiece)
    let seconds = Self.secondsAtLeast + next / Self.pagesPerSecondMin
    guard monotonicNanoseconds() - began < UInt64(seconds) * 1_000_000_000 else { throw TooSlow() }
    while next < end, let pgno = pages?[next] {
      let page = try source.page(pgno, reader)
      switch form {
      case .file: bytes.writeBytes(page)
      case .updates, .beginning, .more:
        PullUpdatesAnswer.write(UInt32(pgno.index), page, into: &bytes)
      }
      next += 1
    }
    if bytes.readableBytes > 0 { return bytes }
    if case .updates(let shown?) = form, let revision {
      SyncCopies.note(sent: revision, after: shown)
    }
    return nil
  }

  private func begin(_ bytes: inout ByteBuffer) throws {
    let opened = try source.makeReader()
    let snapshot = try opened.begin(following: source.map)
    reader = opened
    began = monotonicNanoseconds()
    if case .more = form {} else { try source.check(snapshot) }
    try onSnapshot(snapshot.position)
    switch form {
    case .file: pages = (0..<snapshot.pageCount).map { Pgno($0 + 1) }
    case .updates(let shown):
      let isKnown = shown?.isPart(of: snapshot.position, source.tracker.epochs) ?? false
      let since = isKnown ? shown.map(SyncCopies.since) ?? .zero : .zero
      // Who shows no state of this history gets all pages, and no other is left.
      pages =
        since == snapshot.position.txid ? [] : source.changed(since, through: snapshot.pageCount)
      revision =
        shown?.later(snapshot.position, pageCount: snapshot.pageCount)
        ?? SyncRevision(snapshot.position)
    case .beginning(let set):
      pages = source.pages(set, through: snapshot.pageCount)
      revision = .beginning(snapshot.position, pageCount: snapshot.pageCount)
    case .more(let set, let beginning):
      let held = SyncCopies.held(beginning)
      pages = try source.pages(set, asOf: beginning, held, in: snapshot)
      bytes = PullUpdatesAnswer.header(
        revision: beginning.text, pageCount: max(held.shown.pageCount, held.sent.pageCount))
    }
    if let revision {
      bytes = PullUpdatesAnswer.header(revision: revision.text, pageCount: snapshot.pageCount)
    }
  }

  func close() {
    _ = thread.submit { [self] in
      reader?.end()
      reader = nil
      pages = []
    }
    thread.stop()
  }
}
