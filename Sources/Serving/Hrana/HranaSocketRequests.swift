// What the requests on a WebSocket do. Those of one stream are answered in their order, others need
// not be.

import NIOCore
import Store
import WALShip

/// A cursor whose entries are fetched piece by piece.
struct HranaSocketCursor {
  var stream: Int64
  /// Nil while the batch runs.
  var entries: HranaCursor?
  /// The batch could not be run.
  var error: HranaError?
  /// A request that waits for the batch.
  var fetch: (request: Int64, max: Int)?
  var isOver = false
}

extension HranaSocket {
  private static let entriesMax = 1000

  func request(_ message: JSONValue) {
    let began = monotonicNanoseconds()
    do throws(HranaFailure) {
      guard case .integer(let number)? = message["request_id"], let json = message["request"] else {
        throw HranaDecoder.unreadable("a request needs `request_id` and `request`")
      }
      let isDone = try perform(number, json, began)
      if isDone { NodeMeters.webSocketRequests.record(since: began) }
    } catch { fail(error) }
  }

  /// - Returns: false when the answer comes later.
  private func perform(
    _ number: Int64, _ json: JSONValue, _ began: UInt64
  ) throws(HranaFailure) -> Bool {
    switch json["type"] {
    case .string("open_stream"):
      try openStream(Self.id(json, "stream_id"))
      answer(number, "open_stream")
    case .string("close_stream"):
      closeStream(number, streams.removeValue(forKey: try Self.id(json, "stream_id")))
    case .string("open_cursor"): try openCursor(number, json)
    case .string("fetch_cursor"): try fetch(number, json)
    case .string("close_cursor"):
      cursors.removeValue(forKey: try Self.id(json, "cursor_id"))
      answer(number, "close_cursor")
    case .string("close"): throw HranaDecoder.unreadable("unknown type of request `close`")
    default:
      var decoder = HranaDecoder(texts: texts)
      let request = try decoder.request(json)
      texts = decoder.texts
      switch request {
      case .failed(let error): answer(number, error: error)
      case .storeSQL: answer(number, "store_sql")
      case .closeSQL: answer(number, "close_sql")
      case .execute, .batch, .sequence, .describe, .autocommit, .close:
        run(number, request, on: try stream(json), began)
        return false
      }
    }
    return true
  }

  private static func id(_ json: JSONValue, _ key: String) throws(HranaFailure) -> Int64 {
    guard case .integer(let id)? = json[key], Int32(exactly: id) != nil else {
      throw HranaDecoder.unreadable("missing or malformed field `\(key)`")
    }
    return id
  }

  // MARK: Streams

  private func openStream(_ id: Int64) throws(HranaFailure) {
    guard streams[id] == nil else { throw .malformed("Stream \(id) already exists") }
    guard streams.count < Self.streamsMax, let lease else {
      throw .malformed("this connection has as many streams as it may have")
    }
    streams[id] = HranaStream(id: 0, lease: lease, access: access, loop: loop)
  }

  /// What was asked of the stream before is done first.
  private func closeStream(_ number: Int64, _ stream: HranaStream?) {
    guard let stream, stream.requestsInProgress > 0 else {
      stream?.close()
      return answer(number, "close_stream")
    }
    leaving.append(stream)
    stream.onIdle = {
      stream.onIdle = nil
      stream.close()
      self.leaving.removeAll { $0 === stream }
      self.answer(number, "close_stream")
    }
  }

  private func stream(_ json: JSONValue) throws(HranaFailure) -> HranaStream {
    let id = try Self.id(json, "stream_id")
    guard let stream = streams[id] else { throw .malformed("Stream \(id) not found") }
    return stream
  }

  private func run(
    _ number: Int64, _ request: HranaRequest, on stream: HranaStream, _ began: UInt64
  ) {
    begin(stream)
    stream.run([request], shown: nil) { result in
      defer { self.finish(stream) }
      NodeMeters.webSocketRequests.record(since: began)
      switch result {
      case .success(let (outcomes, totals)): self.answer(number, outcomes[0], totals)
      case .failure(.forbidden(let text)):
        self.answer(number, error: HranaError(code: "BLOCKED", message: text))
      case .failure(let failure): self.fail(failure)
      }
    }
  }

  private func begin(_ stream: HranaStream) {
    requestsInProgress += 1
    stream.requestsInProgress += 1
  }

  private func finish(_ stream: HranaStream) {
    stream.requestsInProgress -= 1
    if stream.requestsInProgress == 0 { stream.onIdle?() }
    finished()
  }

  // MARK: Cursors

  private func openCursor(_ number: Int64, _ json: JSONValue) throws(HranaFailure) {
    let id = try Self.id(json, "cursor_id")
    guard cursors[id] == nil else { throw .malformed("Cursor \(id) already exists") }
    let streamID = try Self.id(json, "stream_id")
    let stream = try stream(json)
    guard !cursors.values.contains(where: { $0.stream == streamID }) else {
      throw .malformed("Stream \(streamID) already has an open cursor")
    }
    let batch = try HranaDecoder(texts: texts).batch(json["batch"])
    cursors[id] = HranaSocketCursor(stream: streamID)
    answer(number, "open_cursor")
    begin(stream)
    stream.run([.batch(batch)], shown: nil) { result in
      defer { self.finish(stream) }
      guard var cursor = self.cursors[id] else { return }
      switch result {
      case .success((let outcomes, let totals)):
        switch outcomes[0] {
        case .batch(let steps): cursor.entries = HranaCursor(steps: steps, token: totals.token)
        case .failed(let error): cursor.error = error
        case .executed, .sequence, .described, .autocommit, .done:
          preconditionFailure("a batch has another outcome")
        }
      case .failure(let failure):
        cursor.error = HranaError(code: "BLOCKED", message: failure.text)
      }
      let fetch = cursor.fetch
      cursor.fetch = nil
      self.cursors[id] = cursor
      if let fetch { self.sendEntries(fetch.request, id, max: fetch.max) }
    }
  }

  private func fetch(_ number: Int64, _ json: JSONValue) throws(HranaFailure) {
    let id = try Self.id(json, "cursor_id")
    guard let cursor = cursors[id] else { throw .malformed("Cursor \(id) not found") }
    guard case .integer(let most)? = json["max_count"], most >= 0 else {
      throw HranaDecoder.unreadable("missing or malformed field `max_count`")
    }
    let count = Int(min(most, Int64(Self.entriesMax)))
    guard cursor.entries != nil || cursor.error != nil else {
      guard cursor.fetch == nil else { throw .malformed("Cursor \(id) is being fetched") }
      cursors[id]?.fetch = (number, count)
      return
    }
    sendEntries(number, id, max: count)
  }

  private func sendEntries(_ number: Int64, _ id: Int64, max count: Int) {
    guard var cursor = cursors[id] else { return }
    if let error = cursor.error { return answer(number, error: error) }
    var output = OutputBytes()
    Self.beginAnswer(number, &output)
    output.append("{\"type\":\"fetch_cursor\",\"entries\":[")
    var sent = 0
    while sent < count, !cursor.isOver, output.count < server.limits.responseBytesMax {
      guard let entry = cursor.entries?.next() else {
        cursor.isOver = true
        break
      }
      if sent > 0 { output.append(",") }
      output.append(entry)
      sent += 1
    }
    output.append("],\"done\":")
    output.append(cursor.isOver ? "true" : "false")
    output.append("}}")
    cursors[id] = cursor
    send(output)
  }

  // MARK: Answers

  private static func beginAnswer(_ number: Int64, _ output: inout OutputBytes) {
    output.append("{\"type\":\"response_ok\",\"request_id\":")
    output.writeDecimal(number)
    output.append(",\"response\":")
  }

  private func answer(_ number: Int64, _ type: StaticString) {
    var output = OutputBytes(capacity: 128)
    Self.beginAnswer(number, &output)
    output.append("{\"type\":\"")
    output.append(type)
    output.append("\"}}")
    send(output)
  }

  private func answer(_ number: Int64, _ outcome: HranaOutcome, _ totals: HranaTotals) {
    var output = OutputBytes()
    Self.beginAnswer(number, &output)
    if let error = output.writeResponse(outcome, totals) { return answer(number, error: error) }
    output.append("}")
    send(output)
  }

  func answer(_ number: Int64, error: HranaError) {
    var output = OutputBytes(capacity: 256)
    output.append("{\"type\":\"response_error\",\"request_id\":")
    output.writeDecimal(number)
    output.append(",\"error\":")
    error.write(into: &output)
    output.append("}")
    send(output)
  }
}
