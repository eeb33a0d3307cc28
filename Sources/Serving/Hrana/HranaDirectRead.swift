// The commonest request of all, one read on a stream of its own, without making the stream: the rows
// go from SQLite straight into the answer.
//
// Whatever is out of the ordinary (a write, an error, a wait, a long result) is left to the stream,
// which begins from nothing: what was read here has changed nothing.

import NIOCore
import NIOHTTP1
import Store
import WALShip

extension HranaServer {
  /// Answers a pipeline of `execute` and `close`, if that takes no more than a read in place.
  ///
  /// - Returns: false when nothing was answered.
  func readDirectly(_ call: HTTPCall, _ requests: [JSONValue], shown: Token?) -> Bool {
    guard requests.count == 2, requests[0]["type"] == .string("execute"), let lease = call.lease,
      let statement = try? HranaDecoder(texts: HranaTexts()).statement(requests[0]["stmt"]),
      statement.error == nil, statement.replicationIndex == nil
    else { return false }
    let node = lease.node
    var options = RequestOptions()
    options.token = shown
    guard node.gate.admit(options, session: nil) == .here else { return false }
    let began = monotonicNanoseconds()
    do throws(RequestError) {
      let reader = try node.readers.loopReader(on: call.loop)
      let cached = try reader.statement(statement.statement.sql)
      guard cached.kind == .read, !cached.isSlow else { return false }
      var sink = HranaSink(cached, wantsRows: statement.wantsRows)
      let outcome = try reader.read(cached, statement.statement.arguments, into: &sink)
      guard case .finished(.token(let token)) = outcome, sink.isUTF8 else { return false }
      // An epoch has begun meanwhile: the stream judges the token again.
      if let shown, shown.epoch < token.epoch { return false }
      let nanoseconds = monotonicNanoseconds() - began
      let totals = HranaTotals(token: token, milliseconds: Double(nanoseconds / 1000) / 1000)
      call.answer(HTTPReply(.ok, type: HTTPType.json, sink.end(totals)).showing(token))
      return true
    } catch { return false }
  }
}

/// Writes the answer to a pipeline of `execute` and `close` while the rows come.
private struct HranaSink: ~Copyable, ResultSink {
  private var output = OutputBytes()
  private var meter: RowMeter
  private let wantsRows: Bool
  private var hasRows = false
  private var counts = RowCounts()
  /// False once there was a text that JSON cannot hold.
  private(set) var isUTF8 = true

  init(_ statement: CachedStatement, wantsRows: Bool) {
    meter = RowMeter(statement.statement)
    self.wantsRows = wantsRows
  }

  var resultBytes: Int { output.count }

  mutating func beginResult(of statement: CachedStatement) {
    output.append(
      "{\"baton\":null,\"base_url\":null,\"results\":"
        + "[{\"type\":\"ok\",\"response\":{\"type\":\"execute\",\"result\":{\"cols\":")
    output.append(statement.columnTexts.hrana)
    output.append(",\"rows\":[")
  }

  mutating func row(of statement: Statement, columns: Int) {
    meter.noteRow(of: statement)
    guard wantsRows, isUTF8 else { return }
    if hasRows { output.append(",") }
    hasRows = true
    output.append("[")
    for column in 0..<columns {
      if column > 0 { output.append(",") }
      isUTF8 = output.writeHrana(column, of: statement) && isUTF8
    }
    output.append("]")
  }

  mutating func endResult(of statement: CachedStatement) {
    if let compiled = statement.statement { counts = meter.counts(of: compiled) }
  }

  mutating func end(_ totals: HranaTotals) -> ByteBuffer {
    output.append("],")
    output.writeHranaEnd(
      changes: 0, lastInsertRowid: nil, counts, index: totals.index,
      milliseconds: totals.milliseconds)
    output.append("}},{\"type\":\"ok\",\"response\":{\"type\":\"close\"}}]}")
    return output.take()
  }
}

extension OutputBytes {
  /// The value of a column in the row that a statement stands at.
  ///
  /// - Returns: false for a text that is not UTF-8.
  mutating func writeHrana(_ column: Int, of statement: Statement) -> Bool {
    switch statement.columnType(column) {
    case .null: return writeHrana(.null)
    case .integer: return writeHrana(.integer(statement.integer(column)))
    case .real: return writeHrana(.real(statement.real(column)))
    case .text:
      append("{\"type\":\"text\",\"value\":")
      guard writeJSONString(statement.textBytes(column)) else { return false }
    case .blob:
      append("{\"type\":\"blob\",\"base64\":\"")
      writeBase64(statement.blobBytes(column), padding: false)
      append("\"")
    }
    append("}")
    return true
  }
}
