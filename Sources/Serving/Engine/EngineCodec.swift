// Requests and answers as bytes, for their way between nodes. Layout: docs/PROTOCOL.md

import NIOCore
import Store
import WALShip

/// Reads what `ByteBuffer.write…` below wrote; the bytes come from another node and are not
/// trusted.
struct EngineReader {
  var reader: BodyReader

  init(_ bytes: UnsafeRawBufferPointer) { reader = BodyReader(bytes) }

  static let bytesMax = 17 << 20

  mutating func count(atLeast bytes: Int = 1) throws(ShipProtocolError) -> Int {
    let count = try reader.varint()
    guard count <= UInt64(reader.remaining / bytes) else {
      throw .malformed("a count is too large")
    }
    return Int(count)
  }

  mutating func text() throws(ShipProtocolError) -> String { try reader.text(max: Self.bytesMax) }

  mutating func value() throws(ShipProtocolError) -> Value {
    switch try reader.byte() {
    case 0: return .null
    case 1: return .integer(Int64(bitPattern: try reader.fixed64()))
    case 2: return .real(Double(bitPattern: try reader.fixed64()))
    case 3: return .text(try text())
    case 4: return .malformedText(Array(try reader.counted(max: Self.bytesMax)))
    case 5: return .blob(Array(try reader.counted(max: Self.bytesMax)))
    default: throw .malformed("unknown type of value")
    }
  }

  mutating func values() throws(ShipProtocolError) -> [Value] {
    var values: [Value] = []
    for _ in 0..<(try count()) { values.append(try value()) }
    return values
  }

  mutating func statement() throws(ShipProtocolError) -> StatementRequest {
    let sql = SQLText(bytes: ByteBuffer(bytes: try reader.counted(max: Self.bytesMax)))
    switch try reader.byte() {
    case 0: return StatementRequest(sql: sql)
    case 1: return StatementRequest(sql: sql, arguments: .positional(try values()))
    case 2:
      var named: [Arguments.NamedValue] = []
      for _ in 0..<(try count(atLeast: 2)) {
        named.append(Arguments.NamedValue(name: try text(), value: try value()))
      }
      return StatementRequest(sql: sql, arguments: .named(named))
    default: throw .malformed("unknown kind of arguments")
    }
  }

  mutating func statements() throws(ShipProtocolError) -> [StatementRequest] {
    var statements: [StatementRequest] = []
    for _ in 0..<(try count(atLeast: 2)) { statements.append(try statement()) }
    return statements
  }

  mutating func optional<T>(
    _ read: (inout EngineReader) throws(ShipProtocolError) -> T
  ) throws(ShipProtocolError) -> T? {
    try reader.byte() == 0 ? nil : try read(&self)
  }

  mutating func basis() throws(ShipProtocolError) -> TransactionBasis {
    let epoch = try reader.epoch()
    let txid = try reader.txid()
    var reads: [ObservedRead] = []
    for _ in 0..<(try count(atLeast: 10)) {
      let statement = try statement()
      reads.append(ObservedRead(statement: statement, resultHash: try reader.fixed64()))
    }
    return TransactionBasis(reads: reads, epoch: epoch, txid: txid)
  }
}

extension EngineRequest {
  public func encode() -> ByteBuffer {
    var buffer = ByteBuffer()
    switch work {
    case .write(let statements):
      buffer.writeInteger(1 as UInt8)
      buffer.writeStatements(statements)
    case .read(let statements):
      buffer.writeInteger(2 as UInt8)
      buffer.writeStatements(statements)
    case .position:
      buffer.writeInteger(3 as UInt8)
    case .begin(let basis, let statements):
      buffer.writeInteger(4 as UInt8)
      buffer.writeOptional(basis) { $0.writeBasis($1) }
      buffer.writeStatements(statements)
    case .proceed(let transaction, let statements):
      buffer.writeInteger(5 as UInt8)
      buffer.writeVarint(transaction)
      buffer.writeStatements(statements)
    case .abandon(let transaction):
      buffer.writeInteger(6 as UInt8)
      buffer.writeVarint(transaction)
    case .program(let program):
      buffer.writeInteger(7 as UInt8)
      buffer.writeProgram(program)
    case .leave(let session):
      buffer.writeInteger(8 as UInt8)
      buffer.writeVarint(session)
    case .push(let push):
      buffer.writeInteger(9 as UInt8)
      buffer.writePush(push)
    }
    buffer.writeOptional(idempotencyKey) { $0.writeText($1) }
    buffer.writeOptional(timeoutMilliseconds) { $0.writeVarint(UInt64(clamping: $1)) }
    buffer.writeInteger((enforcesForeignKeys ? 1 : 0) | (isAnonymous ? 2 : 0) as UInt8)
    buffer.writeInteger(access.rawValue)
    buffer.writeInteger(UInt8(clamping: tokens.count))
    for token in tokens {
      buffer.writeVarint(UInt64(token.database))
      buffer.writeVarint(UInt64(token.epoch.rawValue))
      buffer.writeVarint(token.txid.rawValue)
    }
    return buffer
  }

  public init(decoding buffer: ByteBuffer) throws(ShipProtocolError) {
    let result = buffer.withUnsafeReadableBytes { bytes in
      Result { () throws(ShipProtocolError) -> EngineRequest in
        var reader = EngineReader(bytes)
        return try EngineRequest(&reader)
      }
    }
    self = try result.get()
  }

  private init(_ reader: inout EngineReader) throws(ShipProtocolError) {
    switch try reader.reader.byte() {
    case 1: work = .write(try reader.statements())
    case 2: work = .read(try reader.statements())
    case 3: work = .position
    case 4:
      let basis = try reader.optional { reader throws(ShipProtocolError) in try reader.basis() }
      work = .begin(basis: basis, try reader.statements())
    case 5:
      let transaction = try reader.reader.varint()
      work = .proceed(transaction: transaction, try reader.statements())
    case 6: work = .abandon(transaction: try reader.reader.varint())
    case 7: work = .program(try reader.program())
    case 8: work = .leave(session: try reader.reader.varint())
    case 9: work = .push(try reader.push())
    default: throw .malformed("unknown request")
    }
    idempotencyKey = try reader.optional { reader throws(ShipProtocolError) in try reader.text() }
    timeoutMilliseconds = try reader.optional { reader throws(ShipProtocolError) in
      Int(try reader.reader.varint32())
    }
    let flags = try reader.reader.byte()
    guard flags < 4 else { throw .malformed("unknown flags of a request") }
    enforcesForeignKeys = flags & 1 != 0
    isAnonymous = flags & 2 != 0
    guard let access = AccessLevel(rawValue: try reader.reader.byte()) else {
      throw .malformed("unknown level of access")
    }
    self.access = access
    let count = try reader.reader.byte()
    guard count <= Self.tokensMax else { throw .malformed("too many tokens") }
    for _ in 0..<count {
      tokens.append(
        Token(
          database: try reader.reader.varint32(), epoch: Epoch(try reader.reader.varint32()),
          txid: TXID(try reader.reader.varint())))
    }
    guard reader.reader.isAtEnd else { throw .malformed("a request is too long") }
  }
}

extension EngineResponse {
  public func encode() -> ByteBuffer {
    var buffer = ByteBuffer()
    buffer.writeVarint(UInt64(results.count))
    for result in results { buffer.writeResult(result) }
    buffer.writeOptional(failure) { buffer, failure in
      buffer.writeRequestError(failure.error)
      buffer.writeOptional(failure.statement) { $0.writeVarint(UInt64(clamping: $1)) }
    }
    buffer.writeOptional(position) { buffer, position in
      buffer.writeInteger(position.database.high, endianness: .little)
      buffer.writeInteger(position.database.low, endianness: .little)
      buffer.writeVarint(UInt64(position.epoch.rawValue))
      buffer.writeVarint(position.txid.rawValue)
      buffer.writeInteger(position.checksum.rawValue, endianness: .little)
    }
    buffer.writeOptional(transaction) { $0.writeVarint($1) }
    buffer.writeVarint(UInt64(steps.count))
    for step in steps { buffer.writeOutcome(step) }
    buffer.writeInteger((isAutocommit ? 1 : 0) | (enforcesForeignKeys ? 2 : 0) as UInt8)
    buffer.writeOptional(session) { $0.writeVarint($1) }
    return buffer
  }

  public init(decoding buffer: ByteBuffer) throws(ShipProtocolError) {
    let result = buffer.withUnsafeReadableBytes { bytes in
      Result { () throws(ShipProtocolError) -> EngineResponse in
        var reader = EngineReader(bytes)
        return try EngineResponse(&reader)
      }
    }
    self = try result.get()
  }

  private init(_ reader: inout EngineReader) throws(ShipProtocolError) {
    results = []
    for _ in 0..<(try reader.count(atLeast: 7)) { results.append(try reader.result()) }
    failure = try reader.optional { reader throws(ShipProtocolError) in
      let error = try reader.requestError()
      let statement = try reader.optional { reader throws(ShipProtocolError) in
        Int(try reader.reader.varint32())
      }
      return Failure(error, statement: statement)
    }
    position = try reader.optional { reader throws(ShipProtocolError) in
      let database = DatabaseID(high: try reader.reader.fixed64(), low: try reader.reader.fixed64())
      let epoch = try reader.reader.epoch()
      let txid = try reader.reader.txid()
      return Position(
        database: database, epoch: epoch, txid: txid,
        checksum: DatabaseChecksum(try reader.reader.fixed64()))
    }
    transaction = try reader.optional { reader throws(ShipProtocolError) in
      try reader.reader.varint()
    }
    for _ in 0..<(try reader.count()) { steps.append(try reader.outcome()) }
    let flags = try reader.reader.byte()
    isAutocommit = flags & 1 != 0
    enforcesForeignKeys = flags & 2 != 0
    session = try reader.optional { reader throws(ShipProtocolError) in
      try reader.reader.varint()
    }
    guard reader.reader.isAtEnd else { throw .malformed("an answer is too long") }
  }
}

extension EngineReader {
  mutating func result() throws(ShipProtocolError) -> StatementResult {
    var columns: [String] = []
    for _ in 0..<(try count()) { columns.append(try text()) }
    var rows: [[Value]] = []
    let width = columns.count
    let height = try count(atLeast: max(1, width))
    // Such rows have no bytes, so nothing would bound their number.
    guard width > 0 || height == 0 else { throw .malformed("rows without columns") }
    for _ in 0..<height {
      var row: [Value] = []
      row.reserveCapacity(width)
      for _ in 0..<width { row.append(try value()) }
      rows.append(row)
    }
    let changes = try optional { reader throws(ShipProtocolError) in
      Int64(bitPattern: try reader.reader.fixed64())
    }
    let rowid = try optional { reader throws(ShipProtocolError) in
      Int64(bitPattern: try reader.reader.fixed64())
    }
    var result = StatementResult(
      columns: columns, rows: rows, changes: changes, lastInsertRowid: rowid)
    let typed = try count()
    guard typed == 0 || typed == width else { throw .malformed("types of other columns") }
    for _ in 0..<typed { result.declaredTypes.append(try optionalText()) }
    result.counts.read = Int64(clamping: try reader.varint())
    result.counts.written = Int64(clamping: try reader.varint())
    return result
  }
}

extension ByteBuffer {
  mutating func writeText(_ text: String) {
    writeVarint(UInt64(text.utf8.count))
    writeString(text)
  }

  mutating func writeOptional<T>(_ value: T?, _ write: (inout ByteBuffer, T) -> Void) {
    writeInteger(value == nil ? 0 : 1 as UInt8)
    if let value { write(&self, value) }
  }

  mutating func writeValue(_ value: Value) {
    func counted(_ bytes: [UInt8]) {
      writeVarint(UInt64(bytes.count))
      writeBytes(bytes)
    }
    switch value {
    case .null: writeInteger(0 as UInt8)
    case .integer(let number):
      writeInteger(1 as UInt8)
      writeInteger(number, endianness: .little)
    case .real(let number):
      writeInteger(2 as UInt8)
      writeInteger(number.bitPattern, endianness: .little)
    case .text(let text):
      writeInteger(3 as UInt8)
      writeText(text)
    case .malformedText(let bytes):
      writeInteger(4 as UInt8)
      counted(bytes)
    case .blob(let bytes):
      writeInteger(5 as UInt8)
      counted(bytes)
    }
  }

  mutating func writeStatements(_ statements: [StatementRequest]) {
    writeVarint(UInt64(statements.count))
    for statement in statements { writeStatement(statement) }
  }

  mutating func writeStatement(_ statement: StatementRequest) {
    writeVarint(UInt64(statement.sql.bytes.readableBytes))
    writeImmutableBuffer(statement.sql.bytes)
    switch statement.arguments {
    case .none: writeInteger(0 as UInt8)
    case .positional(let values):
      writeInteger(1 as UInt8)
      writeVarint(UInt64(values.count))
      for value in values { writeValue(value) }
    case .named(let values):
      writeInteger(2 as UInt8)
      writeVarint(UInt64(values.count))
      for named in values {
        writeText(named.name)
        writeValue(named.value)
      }
    }
  }

  mutating func writeBasis(_ basis: TransactionBasis) {
    writeVarint(UInt64(basis.epoch.rawValue))
    writeVarint(basis.txid.rawValue)
    writeVarint(UInt64(basis.reads.count))
    for read in basis.reads {
      writeStatement(read.statement)
      writeInteger(read.resultHash, endianness: .little)
    }
  }

  mutating func writeResult(_ result: StatementResult) {
    writeVarint(UInt64(result.columns.count))
    for column in result.columns { writeText(column) }
    writeVarint(UInt64(result.rows.count))
    for row in result.rows { for value in row { writeValue(value) } }
    writeOptional(result.changes) { $0.writeInteger($1, endianness: .little) }
    writeOptional(result.lastInsertRowid) { $0.writeInteger($1, endianness: .little) }
    writeVarint(UInt64(result.declaredTypes.count))
    for type in result.declaredTypes { writeOptional(type) { $0.writeText($1) } }
    writeVarint(UInt64(clamping: result.counts.read))
    writeVarint(UInt64(clamping: result.counts.written))
  }
}
