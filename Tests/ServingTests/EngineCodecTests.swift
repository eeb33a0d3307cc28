import EdgeTesting
import NIOCore
import Serving
import Store
import Testing
import WALShip

@Suite struct EngineCodecTests {
  private let values: [Value] = [
    .null, .integer(.min), .integer(.max), .real(-0.0), .real(.infinity), .text(""),
    .text("héllo\u{0}"),
    .malformedText([0xff, 0xfe]), .blob([]), .blob([0, 1, 2]),
  ]

  private var requests: [EngineRequest] {
    let statements = [
      StatementRequest(sql: SQLText("SELECT 1")),
      StatementRequest(sql: SQLText("INSERT INTO t VALUES (?)"), arguments: .positional(values)),
      StatementRequest(
        sql: SQLText("UPDATE t SET a = :a"),
        arguments: .named([Arguments.NamedValue(name: ":a", value: .integer(7))])),
    ]
    let basis = TransactionBasis(
      reads: statements.map { ObservedRead(statement: $0, resultHash: 99) }, epoch: Epoch(2),
      txid: TXID(9))
    var keyed = EngineRequest(.write(statements))
    keyed.idempotencyKey = "order-1"
    keyed.timeoutMilliseconds = 250
    keyed.enforcesForeignKeys = false
    return [
      keyed, EngineRequest(.read(statements)), EngineRequest(.position),
      EngineRequest(.begin(basis: basis, statements)), EngineRequest(.begin(basis: nil, [])),
      EngineRequest(.proceed(transaction: .max, statements)),
      EngineRequest(.abandon(transaction: 5)),
    ]
  }

  private var responses: [EngineResponse] {
    let position = Position(
      database: DatabaseID(high: 4, low: 5), epoch: Epoch(6), txid: TXID(7),
      checksum: DatabaseChecksum(8))
    return [
      EngineResponse(),
      EngineResponse(
        results: [
          StatementResult(columns: values.indices.map { "c\($0)" }, rows: [values, values]),
          StatementResult(changes: 3, lastInsertRowid: -1),
        ], position: position, transaction: 12),
      EngineResponse(
        failure: .init(
          RequestError(code: "SQLITE_CONSTRAINT_UNIQUE", message: "no", offset: 4, retry: true),
          statement: 2)),
    ]
  }

  @Test func whatIsWrittenIsRead() throws {
    for request in requests { #expect(try EngineRequest(decoding: request.encode()) == request) }
    for response in responses {
      #expect(try EngineResponse(decoding: response.encode()) == response)
    }
  }

  @Test func noPrefixIsTakenForTheWhole() {
    for bytes in requests.map({ $0.encode() }) {
      for count in 0..<bytes.readableBytes {
        let prefix = bytes.getSlice(at: bytes.readerIndex, length: count) ?? ByteBuffer()
        #expect(throws: ShipProtocolError.self) { try EngineRequest(decoding: prefix) }
      }
    }
  }

  @Test func damagedBytesNeverTrap() {
    var generator = SeededGenerator(seed: 5)
    for bytes in requests.map({ $0.encode() }) + responses.map({ $0.encode() }) {
      for _ in 0..<2000 {
        var damaged = Array(bytes.readableBytesView)
        for _ in 0..<Int.random(in: 1...4, using: &generator) {
          damaged[Int.random(in: 0..<damaged.count, using: &generator)] = .random(
            in: 0...255, using: &generator)
        }
        _ = try? EngineRequest(decoding: ByteBuffer(bytes: damaged))
        _ = try? EngineResponse(decoding: ByteBuffer(bytes: damaged))
      }
    }
  }
}

@Suite struct HostileEngineBytesTests {
  /// Rows without columns have no bytes: a few bytes could promise any number of them, in each
  /// result anew.
  @Test func rowsWithoutColumnsAreRefused() {
    var bytes = ByteBuffer()
    bytes.writeInteger(1 as UInt8)  // results
    bytes.writeBytes([0, 20])  // columns, rows
    bytes.writeRepeatingByte(0, count: 40)
    #expect(throws: ShipProtocolError.malformed("rows without columns")) {
      _ = try EngineResponse(decoding: bytes)
    }
  }

  @Test func controlCharactersAreNoWhiteSpace() {
    let found = [UInt8(1)].withUnsafeBytes { StatementScanner.scan($0) }
    #expect(found.statements.isEmpty && found.rest == 0..<1)
  }
}
