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
  /// Called when all that was asked of the stream is done.
  var onIdle: (() -> Void)?
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
    let (runs, options): ([HranaRun], RequestOptions)
    do throws(HranaFailure) {
      (runs, options) = try prepare(requests, shown)
    } catch { return completion(.failure(error)) }
    let began = monotonicNanoseconds()
    next(runs[...], options, []) { outcomes, token in
      let nanoseconds = monotonicNanoseconds() - began
      let totals = HranaTotals(
        token: token ?? self.lease.node.tracker.position.token,
        milliseconds: Double(nanoseconds / 1000) / 1000)
      completion(.success((outcomes, totals)))
    }
  }

  /// Runs a batch whose results are not kept until its end.
  ///
  /// - Parameters:
  ///   - outlet: takes the results.
  ///   - completion: called on the loop, with the error that kept the whole batch from being run, or
  ///     the token of all that was seen.
  func run(
    cursor batch: HranaBatch, shown: Token?, outlet: any StepOutlet,
    completion: @escaping (Result<(HranaError?, Token), HranaFailure>) -> Void
  ) {
    do throws(HranaFailure) {
      let (runs, options) = try prepare([.batch(batch)], shown)
      guard let run = runs.last else { return completion(.failure(.invalidBaton)) }
      session.run(run.steps, options: options, outlet: outlet) { ended in
        var failure: HranaError?
        if case .failed(let error)? = run.outcomes(ended).last { failure = error }
        let token = self.session.token ?? self.lease.node.tracker.position.token
        completion(.success((failure, token)))
      }
    } catch { completion(.failure(error)) }
  }

  /// What requests become, if they may be done.
  private func prepare(
    _ requests: [HranaRequest], _ shown: Token?
  ) throws(HranaFailure) -> ([HranaRun], RequestOptions) {
    let runs = try HranaRun.make(requests) { self.syntaxError($0) }
    if let denied = denial(runs.flatMap(\.steps)) { throw .forbidden(denied) }
    var options = RequestOptions()
    options.token = shown
    if let number = runs.compactMap(\.replicationIndex).max(),
      let token = Token(
        replicationIndex: number, database: lease.node.tracker.position.database.short),
      shown.map({ ($0.epoch, $0.txid) < (token.epoch, token.txid) }) ?? true
    {
      options.token = token
    }
    return (runs, options)
  }

  /// Does one program after the other. What is left of a script that has failed is not done.
  private func next(
    _ runs: ArraySlice<HranaRun>, _ options: RequestOptions, _ before: [HranaOutcome],
    completion: @escaping ([HranaOutcome], Token?) -> Void
  ) {
    guard let run = runs.first else { return completion(before, session.token) }
    session.run(run.steps, options: options) { ended in
      var rest = runs.dropFirst()
      var outcomes = run.outcomes(ended)
      if run.goesOn, case .sequence(nil)? = outcomes.last {
        outcomes.removeLast()
      } else if run.goesOn {
        while let skipped = rest.popFirst(), skipped.goesOn {}
      }
      self.next(rest, options, before + outcomes, completion: completion)
    }
  }

  /// Why no node could compile a text.
  private func syntaxError(_ sql: SQLText) -> HranaError? {
    do throws(RequestError) {
      _ = try lease.node.readers.loopReader(on: loop).statement(sql)
      return nil
    } catch {
      let error = HranaError(error)
      return error.isUnparsable ? error : nil
    }
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
      // A savepoint takes the write lock where no transaction is open.
      case .write, .savepoint, .begin(isImmediate: true): return true
      case .read, .begin, .commit, .rollback, .release, .rollbackTo, .setForeignKeys, .foreignKeys:
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
