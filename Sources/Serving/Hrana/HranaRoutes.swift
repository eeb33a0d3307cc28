// Hrana over HTTP: pipelines, cursors, and the stateless requests of its first version.
// Source: https://github.com/tursodatabase/libsql, HRANA_3_SPEC

import NIOCore
import NIOHTTP1
import Store
import WALShip

extension HranaServer {
  var routes: [HTTPRoute] {
    let hello1 = "Hello, this is HTTP API v1"
    let hello2 = "Hello, this is HTTP API v2 (Hrana over HTTP)"
    let hello3 = "Hello, this is HTTP API v3 (Hrana over HTTP)"
    return [
      HTTPRoute(.GET, "/v1", needs: nil) { $0.answer(.ok, text: hello1) },
      HTTPRoute(.GET, "/v2", needs: nil) { $0.answer(.ok, text: hello2) },
      HTTPRoute(.GET, "/v3", needs: nil) { $0.answer(.ok, text: hello3) },
      HTTPRoute(.POST, "/v2/pipeline", needs: .read) { self.pipeline($0) },
      HTTPRoute(.POST, "/v3/pipeline", needs: .read) { self.pipeline($0) },
      HTTPRoute(.POST, "/v3/cursor", needs: .read) { self.cursor($0) },
      HTTPRoute(.POST, "/v1/execute", needs: .read) { self.executeAlone($0) },
      HTTPRoute(.POST, "/v1/batch", needs: .read) { self.batchAlone($0) },
      HTTPRoute(.POST, "/", needs: .read) { self.legacy($0) },
    ]
  }

  // MARK: Streams of requests

  /// What a request does on its stream; it ends with a reply, or without one of use. The reply is
  /// nil when it has left already.
  private typealias Work =
    @Sendable (
      HranaStream, @escaping (Result<HTTPReply?, HranaFailure>) -> Void
    ) -> Void

  private func pipeline(_ call: HTTPCall) {
    do throws(HranaFailure) {
      let token = try call.shownToken()
      let json = try call.json()
      guard case .array(let given)? = json["requests"] else {
        throw HranaDecoder.unreadable("missing or malformed field `requests`")
      }
      // Nobody can come back to a stream that is closed within its first request.
      let isBrief = json["baton"] ?? .null == .null && given.last?["type"] == .string("close")
      if isBrief, readDirectly(call, given, shown: token) { return }
      try enter(call, json["baton"], isBrief: isBrief) { stream, completion in
        do throws(HranaFailure) {
          let requests = try Self.decode(given, stream)
          stream.run(requests, shown: token) { result in
            completion(
              result.map { self.pipelineReply(stream, $0.0, $0.1, closes: requests.last == .close) }
            )
          }
        } catch { completion(.failure(error)) }
      }
    } catch { call.answer(error.reply) }
  }

  private static func decode(
    _ given: [JSONValue], _ stream: HranaStream
  ) throws(HranaFailure) -> [HranaRequest] {
    var decoder = HranaDecoder(texts: stream.texts)
    var requests: [HranaRequest] = []
    for json in given {
      let request = try decoder.request(json)
      guard requests.last != .close || request == .close else {
        throw .malformed("nothing can come after the request `close`")
      }
      requests.append(request)
    }
    stream.texts = decoder.texts
    return requests
  }

  private func pipelineReply(
    _ stream: HranaStream, _ outcomes: [HranaOutcome], _ totals: HranaTotals, closes: Bool
  ) -> HTTPReply {
    if closes { close(stream) }
    var output = OutputBytes()
    output.append("{\"baton\":")
    output.writeOptional(closes ? nil : baton(stream))
    output.append(",\"base_url\":null,\"results\":[")
    for (index, outcome) in outcomes.enumerated() {
      if index > 0 { output.append(",") }
      output.writeHrana(outcome, totals)
    }
    output.append("]}")
    return HTTPReply(.ok, type: HTTPType.json, output.take()).showing(totals.token)
  }

  /// Finds the stream of a request, or makes one, and does the work there.
  ///
  /// - Parameter isBrief: no other request can be for the stream, if it is a new one.
  private func enter(
    _ call: HTTPCall, _ json: JSONValue?, isBrief: Bool = false, work: @escaping Work
  ) throws(HranaFailure) {
    switch json {
    case nil, .null?:
      guard let lease = call.lease else { throw .invalidBaton }
      let stream: HranaStream
      if isBrief {
        stream = HranaStream(id: Self.briefID, lease: lease, access: call.access, loop: call.loop)
        call.onGone = { stream.close() }
      } else {
        stream = try open(lease, access: call.access, loop: call.loop)
        // Nobody will come again: the client does not know the next baton.
        call.onGone = { self.close(stream) }
      }
      begin(stream, access: call.access, isNew: true, work) { call.answer($0) }
    case .string(let baton)?:
      let (found, sequence) = try find(baton)
      let (bound, access, node) = (NIOLoopBound(call, eventLoop: call.loop), call.access, call.node)
      let callLoop = call.loop
      let enter: @Sendable () -> Void = {
        let stream = found.value
        let answer: (HTTPReply) -> Void = { reply in
          if callLoop.inEventLoop {
            bound.value.answer(reply)
          } else {
            callLoop.execute { bound.value.answer(reply) }
          }
        }
        guard stream.lease.node === node, !stream.isClosed else {
          return answer(HranaFailure.closedStream.reply)
        }
        guard sequence == stream.sequence else { return answer(HranaFailure.usedBaton.reply) }
        let watch: @Sendable () -> Void = {
          guard !bound.value.isOver else { return }
          bound.value.onGone = { found.eventLoop.execute { self.close(found.value) } }
        }
        if callLoop.inEventLoop { watch() } else { callLoop.execute(watch) }
        self.begin(stream, access: access, isNew: false, work, answer)
      }
      if found.eventLoop.inEventLoop { enter() } else { found.eventLoop.execute(enter) }
    default: throw HranaDecoder.unreadable("missing or malformed field `baton`")
    }
  }

  private func begin(
    _ stream: HranaStream, access: AccessLevel, isNew: Bool, _ work: Work,
    _ answer: @escaping (HTTPReply) -> Void
  ) {
    stream.sequence += 1
    stream.requestsInProgress += 1
    stream.expiry?.cancel()
    stream.session.access = access
    work(stream) { result in
      stream.requestsInProgress -= 1
      switch result {
      case .success(let reply):
        if let reply { answer(reply) }
        self.awaitNext(stream)
      case .failure(let failure):
        // A client that broke the protocol still has its last baton.
        if isNew {
          self.close(stream)
        } else {
          stream.sequence -= 1
          self.awaitNext(stream)
        }
        answer(failure.reply)
      }
    }
  }

  // MARK: Cursors

  private func cursor(_ call: HTTPCall) {
    do throws(HranaFailure) {
      let token = try call.shownToken()
      let json = try call.json()
      let bound = NIOLoopBound(call, eventLoop: call.loop)
      try enter(call, json["baton"]) { stream, completion in
        do throws(HranaFailure) {
          let batch = try HranaDecoder(texts: stream.texts).batch(json["batch"])
          let answer = HranaCursorAnswer(bound, stream, self)
          stream.run(cursor: batch, shown: token, outlet: answer) { result in
            completion(
              result.map { error, token in
                if let error { return HTTPReply(.internalServerError, error: error) }
                answer.end(token)
                return nil
              })
          }
        } catch { completion(.failure(error)) }
      }
    } catch { call.answer(error.reply) }
  }

  // MARK: Requests without streams

  private func executeAlone(_ call: HTTPCall) {
    alone(call) { json throws(HranaFailure) in
      .execute(try HranaDecoder(texts: HranaTexts()).statement(json["stmt"]))
    } write: { output, outcome, totals in
      guard case .executed(.result(let result)) = outcome else { return .notUTF8 }
      output.append("{\"result\":")
      guard output.writeHrana(result, index: totals.index, milliseconds: totals.milliseconds)
      else { return .notUTF8 }
      output.append("}")
      return nil
    }
  }

  private func batchAlone(_ call: HTTPCall) {
    alone(call) { json throws(HranaFailure) in
      .batch(try HranaDecoder(texts: HranaTexts()).batch(json["batch"]))
    } write: { output, outcome, totals in
      guard case .batch(let steps) = outcome else { return .notUTF8 }
      output.append("{\"result\":")
      output.writeHrana(batch: steps, totals)
      output.append("}")
      return nil
    }
  }

  private func alone(
    _ call: HTTPCall, decode: (JSONValue) throws(HranaFailure) -> HranaRequest,
    write: @escaping (inout OutputBytes, HranaOutcome, HranaTotals) -> HranaError?
  ) {
    do throws(HranaFailure) {
      guard let lease = call.lease else { throw .invalidBaton }
      let token = try call.shownToken()
      let request = try decode(try call.json())
      let stream = HranaStream(
        id: Self.briefID, lease: lease, access: call.access, loop: call.loop)
      call.onGone = { stream.close() }
      stream.run([request], shown: token) { result in
        // Whatever a batch left open is rolled back.
        stream.close()
        call.answer(Self.reply(result, write))
      }
    } catch { call.answer(error.reply) }
  }

  private static func reply(
    _ result: Result<([HranaOutcome], HranaTotals), HranaFailure>,
    _ write: (inout OutputBytes, HranaOutcome, HranaTotals) -> HranaError?
  ) -> HTTPReply {
    switch result {
    case .failure(let failure): return failure.reply
    case .success(let (outcomes, totals)):
      var output = OutputBytes()
      let error = outcomes[0].error ?? write(&output, outcomes[0], totals)
      if let error {
        let status: HTTPResponseStatus = error.isInput ? .badRequest : .internalServerError
        return HTTPReply(status, error: error).showing(totals.token)
      }
      return HTTPReply(.ok, type: HTTPType.json, output.take()).showing(totals.token)
    }
  }
}

extension HTTPReply {
  /// Tells the client what state the answer is of.
  func showing(_ token: Token?) -> HTTPReply {
    guard let token else { return self }
    var reply = self
    reply.headers.replaceOrAdd(name: HTTPHeaders.edgeToken, value: "\(token)")
    return reply
  }
}

extension HranaOutcome {
  /// What failed, where the request is one statement.
  fileprivate var error: HranaError? {
    switch self {
    case .executed(.failed(let error)), .described(.failed(let error)): HranaError(error)
    case .failed(let error), .sequence(let error?): error
    case .executed, .described, .batch, .sequence(nil), .autocommit, .done: nil
    }
  }
}
