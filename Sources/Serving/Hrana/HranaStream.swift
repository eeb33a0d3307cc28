// One stream of a client over HTTP or WebSocket: what it keeps between requests.

import NIOCore
import NIOHTTP1
import Store
import WALShip

/// A stream. It is used on its loop alone.
final class HranaStream {
  let id: UInt64
  let loop: any EventLoop
  /// Keeps the database open.
  let lease: DatabaseLease
  let session: SessionStream
  var texts = HranaTexts()
  /// What the next baton must say.
  var sequence: UInt64 = 0
  var requestsInProgress = 0
  var expiry: Scheduled<Void>?
  private(set) var isClosed = false

  init(id: UInt64, lease: DatabaseLease, access: AccessLevel, loop: any EventLoop) {
    self.id = id
    self.lease = lease
    self.loop = loop
    session = SessionStream(node: lease.node, loop: loop, access: access)
  }

  func close() {
    isClosed = true
    expiry?.cancel()
    session.close()
  }

  /// Runs requests.
  ///
  /// - Parameters:
  ///   - shown: the token that came with them.
  ///   - completion: called on the loop.
  func run(
    _ requests: [HranaRequest], shown: Token?,
    completion: @escaping (Result<([HranaOutcome], HranaTotals), HranaFailure>) -> Void
  ) {
    let run = HranaRun(requests) { self.syntaxError($0) }
    guard run.steps.count <= StreamProgram.stepsMax else {
      return completion(
        .failure(.malformed("more than \(StreamProgram.stepsMax) statements at once")))
    }
    if let denied = denial(run.steps) { return completion(.failure(.forbidden(denied))) }
    var options = RequestOptions()
    options.token = shown
    if let number = run.replicationIndex,
      let token = Token(
        replicationIndex: number, database: lease.node.tracker.position.database.short),
      shown.map({ ($0.epoch, $0.txid) < (token.epoch, token.txid) }) ?? true
    {
      options.token = token
    }
    let began = monotonicNanoseconds()
    session.run(run.steps, options: options) { ended in
      let milliseconds = Double((monotonicNanoseconds() - began) / 1000) / 1000
      let token = ended.token ?? self.lease.node.tracker.position.token
      completion(
        .success((run.outcomes(ended), HranaTotals(token: token, milliseconds: milliseconds))))
    }
  }

  /// Whether no node could compile a text.
  private func syntaxError(_ sql: SQLText) -> HranaError? {
    do throws(RequestError) {
      _ = try lease.node.readers.loopReader(on: loop).statement(sql)
      return nil
    } catch { return HranaError.isSyntax(error) ? HranaError(error) : nil }
  }

  /// Why a client that may only read cannot have these steps done.
  private func denial(_ steps: [ProgramStep]) -> String? {
    guard session.access < .write else { return nil }
    for case .execute(let statement, _) in steps.map(\.action) where writes(statement.sql) {
      return "Forbidden: the credential allows to read, and a statement writes"
    }
    return nil
  }

  private func writes(_ sql: SQLText) -> Bool {
    do throws(RequestError) {
      switch try lease.node.readers.loopReader(on: loop).statement(sql).kind {
      case .write, .begin(isImmediate: true): return true
      case .read, .begin, .commit, .rollback, .savepoint, .release, .rollbackTo, .setForeignKeys,
        .foreignKeys:
        return false
      }
    } catch { return StatementKind.ofUncompiled(sql) == .write }
  }
}

extension HTTPCall {
  /// The token in the header `Edge-Token`.
  func shownToken() throws(HranaFailure) -> Token? {
    guard let text = headers.first(name: HTTPHeaders.edgeToken) else { return nil }
    guard let token = Token(text) else {
      throw .token(RequestError(.tokenInvalid, "the header Edge-Token holds no token"))
    }
    return token
  }

  /// The body as JSON.
  func json() throws(HranaFailure) -> JSONValue {
    do throws(JSONError) {
      return try JSONValue.parse(body)
    } catch { throw HranaDecoder.unreadable("\(error)") }
  }
}

extension HTTPHeaders {
  static let edgeToken = "edge-token"
}
