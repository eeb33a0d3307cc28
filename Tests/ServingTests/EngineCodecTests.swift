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
    var reading = EngineRequest(.program(program))
    reading.access = .read
    reading.isAnonymous = true
    var plain = StreamProgram(steps: [ProgramStep(.autocommit)])
    plain.isReading = true
    return [
      reading, EngineRequest(.program(plain)), EngineRequest(.leave(session: 8)),
      keyed, EngineRequest(.read(statements)), EngineRequest(.position),
      EngineRequest(.begin(basis: basis, statements)), EngineRequest(.begin(basis: nil, [])),
      EngineRequest(.proceed(transaction: .max, statements)),
      EngineRequest(.abandon(transaction: 5)), EngineRequest(.push(push)),
    ]
  }

  private var push: PagePush {
    var push = PagePush(
      epoch: Epoch(2), txid: TXID(9), checksum: DatabaseChecksum(77), pageCount: 300)
    for number in [1, 2, 300] as [UInt32] {
      push.append(Pgno(number), [UInt8](repeating: UInt8(number & 0xff), count: PagePush.pageBytes))
    }
    return push
  }

  @Test func pagesOfAPushComeInOrderAndWhole() throws {
    var bytes = Array(EngineRequest(.push(push)).encode().readableBytesView)
    // Kind, epoch, txid, 8 bytes, size, count, then the first page and how long it is.
    #expect(bytes[14] == 1 && bytes[15] == 0x80 && bytes[16] == 0x20)
    for (place, byte) in [(14, 2), (14, 0), (15, 0x81), (13, 9), (11, 0x81)] as [(Int, UInt8)] {
      var changed = bytes
      changed[place] = byte
      #expect(throws: ShipProtocolError.self, "\(place)") {
        try EngineRequest(decoding: ByteBuffer(bytes: changed))
      }
    }
    bytes.removeLast(200)
    #expect(throws: ShipProtocolError.self) {
      try EngineRequest(decoding: ByteBuffer(bytes: bytes))
    }
  }

  private var program: StreamProgram {
    let statement = StatementRequest(
      sql: SQLText("INSERT INTO t VALUES (?)"), arguments: .positional(values))
    var program = StreamProgram(
      steps: [
        ProgramStep(.done(isOK: true)), ProgramStep(.done(isOK: false), if: .ok(0)),
        ProgramStep(.execute(statement, wantsRows: true), if: .not(.error(1))),
        ProgramStep(.execute(statement, wantsRows: false), if: .and([.isAutocommit, .or([])])),
        ProgramStep(.describe(SQLText("SELECT 1"))), ProgramStep(.autocommit),
      ], session: 9)
    program.begins = true
    program.basis = TransactionBasis(
      reads: [ObservedRead(statement: statement, resultHash: 7)], epoch: Epoch(2), txid: TXID(9))
    program.lastInsertRowid = -5
    return program
  }

  private var outcomes: [StepOutcome] {
    var result = StatementResult(columns: ["a", "b"], rows: [[.integer(1), .null]], changes: 1)
    result.declaredTypes = ["TEXT", nil]
    result.counts = RowCounts(read: 5, written: 6)
    let description = StatementDescription(
      parameters: [nil, ":x"], columns: [.init(name: "a", declaredType: "INT")], isExplain: true,
      isReadOnly: false)
    return [
      .skipped, .result(result), .result(StatementResult()), .description(description),
      .autocommit(true), .autocommit(false),
      .failed(RequestError(code: "SQLITE_BUSY", message: "no", retry: true)),
    ]
  }

  private var responses: [EngineResponse] {
    var stepped = EngineResponse(transaction: 3)
    stepped.steps = outcomes
    stepped.isAutocommit = false
    stepped.enforcesForeignKeys = false
    stepped.session = 4
    let position = Position(
      database: DatabaseID(high: 4, low: 5), epoch: Epoch(6), txid: TXID(7),
      checksum: DatabaseChecksum(8))
    return [
      stepped, EngineResponse(),
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

  private func decoding(_ change: (inout StreamProgram) -> Void) -> ShipProtocolError? {
    var program = StreamProgram(steps: [])
    change(&program)
    do throws(ShipProtocolError) {
      _ = try EngineRequest(decoding: EngineRequest(.program(program)).encode())
      return nil
    } catch { return error }
  }

  @Test func programsThatCannotBeAreRefused() {
    func nested(_ depth: Int) -> StepCondition {
      (0..<depth).reduce(.isAutocommit) { condition, _ in .not(condition) }
    }
    #expect(decoding { $0.steps = [ProgramStep(.autocommit, if: nested(63))] } == nil)
    let refused: [(inout StreamProgram) -> Void] = [
      { $0.steps = [ProgramStep(.autocommit, if: .ok(0))] },
      { $0.steps = [ProgramStep(.autocommit), ProgramStep(.autocommit, if: .error(5))] },
      { $0.steps = [ProgramStep(.autocommit, if: nested(64))] },
      { $0.steps = Array(repeating: ProgramStep(.autocommit), count: StreamProgram.stepsMax + 1) },
      {
        $0.begins = true
        $0.transaction = 1
      },
    ]
    for change in refused { #expect(decoding(change) != nil) }
  }

  @Test func controlCharactersAreNoWhiteSpace() {
    let found = [UInt8(1)].withUnsafeBytes { StatementScanner.scan($0) }
    #expect(found.statements.isEmpty && found.rest == 0..<1)
  }
}
