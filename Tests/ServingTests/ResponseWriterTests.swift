// Answers are byte for byte what the contract shows.

import NIOCore
import Serving
import Store
import Testing
import WALShip

@Suite struct ResponseWriterTests {
  private func token(_ txid: UInt64) -> Token {
    Token(database: 0x6f1c_0b2a, epoch: Epoch(3), txid: TXID(txid))
  }

  /// One line written by `body`.
  private func line(
    id: String? = nil, integers: IntegerStyle = .number, _ body: (inout ResponseWriter) -> Void
  ) -> String {
    var writer = ResponseWriter(integers: integers)
    writer.beginLine(id: id.map { ByteBuffer(string: $0) })
    body(&writer)
    writer.endLine()
    let taken = writer.take()
    return String(buffer: taken)
  }

  @Test func rowsAreAsInTheContract() {
    let text = line { writer in
      writer.columns(["id", "name"])
      writer.beginRows()
      writer.beginRow()
      writer.value(integer: 7)
      Array("Ada".utf8).withUnsafeBytes { writer.value(text: $0) }
      writer.endRow()
      writer.endRows()
      writer.token(token(1042))
      writer.microseconds(41)
    }
    #expect(
      text == """
        {"cols":["id","name"],"rows":[[7,"Ada"]],"token":"e1.6f1c0b2a.3.1042","us":41}\n
        """)
  }

  @Test func changesAreAsInTheContract() {
    let text = line { writer in
      writer.changes(1, lastRowID: 8)
      writer.token(token(1043))
      writer.microseconds(612)
    }
    #expect(text == #"{"changes":1,"last_rowid":8,"token":"e1.6f1c0b2a.3.1043","us":612}"# + "\n")
  }

  @Test func theIDComesFirst() {
    let text = line(id: "2") { writer in
      writer.columns(encoded: ResponseWriter.encodedColumns(["name"]))
      writer.beginRows()
      writer.beginRow()
      writer.value(.text("Grace"))
      writer.endRow()
      writer.endRows()
      writer.token(token(1043))
      writer.microseconds(18)
    }
    #expect(
      text == """
        {"id":2,"cols":["name"],"rows":[["Grace"]],"token":"e1.6f1c0b2a.3.1043","us":18}\n
        """)
  }

  @Test func batchesAreAsInTheContract() {
    let text = line(id: "3") { writer in
      writer.beginResults()
      for _ in 0..<2 {
        writer.beginResult()
        writer.changes(1)
        writer.endResult()
      }
      writer.endResults()
      writer.token(token(1044))
      writer.microseconds(700)
    }
    #expect(
      text == """
        {"id":3,"results":[{"changes":1},{"changes":1}],"token":"e1.6f1c0b2a.3.1044","us":700}\n
        """)
  }

  @Test func errorsAreAsInTheContract() {
    let error = RequestError(
      code: "SQLITE_ERROR", message: "near \"SELEC\": syntax error", offset: 0, retry: false)
    let text = line { writer in
      writer.error(error)
      writer.microseconds(9)
    }
    #expect(
      text
        == #"{"error":{"code":"SQLITE_ERROR","message":"near \"SELEC\": syntax error","#
        + #""offset":0,"retry":false},"us":9}"# + "\n")
    #expect(
      line { $0.error(RequestError(.overloaded, "x"), failedStatement: 4) }
        == #"{"error":{"code":"OVERLOADED","message":"x","failed":4,"retry":true}}"# + "\n")
  }

  @Test func transactionsAreAsInTheContract() {
    let text = line { writer in
      writer.inTransaction()
      writer.token(token(1044))
      writer.microseconds(7)
    }
    #expect(text == #"{"tx":true,"token":"e1.6f1c0b2a.3.1044","us":7}"# + "\n")
  }

  @Test func statusIsAsInTheContract() {
    let text = line { writer in
      writer.member("role", "replica")
      writer.member("lag_txns", 0)
      writer.member("ok", true)
      writer.nullMember("upstream")
      writer.beginArray("peers")
      writer.beginElement()
      writer.member("name", "a")
      writer.endObject()
      writer.element("b")
      writer.endArray()
      writer.beginObject("more")
      writer.endObject()
    }
    #expect(
      text
        == #"{"role":"replica","lag_txns":0,"ok":true,"upstream":null,"#
        + #""peers":[{"name":"a"},"b"],"more":{}}"# + "\n")
  }

  @Test func everyValueHasItsForm() {
    let text = line { writer in
      writer.beginRows()
      writer.beginRow()
      writer.nullValue()
      writer.value(integer: .min)
      writer.value(real: 1)
      writer.value(real: -.infinity)
      [UInt8]([0xff]).withUnsafeBytes { writer.value(text: $0) }
      [UInt8]([0xff]).withUnsafeBytes { writer.value(blob: $0) }
      writer.value(Value.null)
      writer.endRow()
      writer.beginRow()
      writer.endRow()
      writer.endRows()
      writer.more()
    }
    #expect(
      text
        == #"{"rows":[[null,-9223372036854775808,1.0,{"real":"-Infinity"},{"text_b64":"/w=="},"#
        + #"{"b64":"/w=="},null],[]],"more":true}"# + "\n")
  }

  @Test func integersOfTheDatabaseAreStringsInTextMode() {
    let text = line(integers: .text) { writer in
      writer.changes(3, lastRowID: .max)
      writer.beginRows()
      writer.beginRow()
      writer.value(integer: 5)
      writer.value(Value.integer(6))
      writer.value(real: 7)
      writer.endRow()
      writer.endRows()
      writer.microseconds(1)
    }
    #expect(
      text
        == #"{"changes":3,"last_rowid":"9223372036854775807","rows":[["5","6",7.0]],"us":1}"#
        + "\n")
  }

  @Test func aLineCanBeTakenBack() {
    var writer = ResponseWriter()
    writer.beginLine()
    writer.microseconds(1)
    writer.endLine()
    writer.beginLine(id: ByteBuffer(string: "1"))
    writer.beginRows()
    let lineBytes = writer.lineBytes
    #expect(lineBytes == #"{"id":1,"rows":["#.utf8.count)
    writer.discardLine()
    writer.beginLine()
    writer.microseconds(2)
    writer.endLine()
    let taken = String(buffer: writer.take())
    #expect(taken == "{\"us\":1}\n{\"us\":2}\n")
    let left = writer.count
    #expect(left == 0)
  }

  @Test func tokensAreWrittenAsTheyDescribeThemselves() throws {
    var random = LineTestRandom(seed: 9)
    for _ in 0..<1000 {
      let epoch = UInt32(truncatingIfNeeded: random.next())
      let token = Token(
        database: UInt32(truncatingIfNeeded: random.next()),
        epoch: Epoch(epoch >> UInt32.random(in: 0..<32, using: &random)),
        txid: TXID((random.next() >> 24) >> UInt64.random(in: 0..<40, using: &random)))
      #expect(line { $0.token(token) } == "{\"token\":\"\(token)\"}\n")
    }
  }

  @Test func everyAnswerIsOneLineOfJSON() throws {
    var random = LineTestRandom(seed: 10)
    for _ in 0..<500 {
      let row = (0..<Int.random(in: 0..<6, using: &random)).map { _ in random.value() }
      let text = line(id: "\"x\"") { writer in
        writer.columns(row.map { _ in random.text() })
        writer.beginRows()
        for _ in 0..<3 {
          writer.beginRow()
          for value in row { writer.value(value) }
          writer.endRow()
        }
        writer.endRows()
        writer.error(RequestError(.badRequest, random.text()))
      }
      #expect(text.utf8.filter { $0 == 0x0a }.count == 1)
      #expect(throws: Never.self) { try JSONValue.parse(text) }
    }
  }
}
