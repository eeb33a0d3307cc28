// The programs of streams and how their steps ended, as bytes. Layout: docs/PROTOCOL.md

import NIOCore
import Store
import WALShip

extension EngineReader {
  mutating func program() throws(ShipProtocolError) -> StreamProgram {
    let flags = try reader.byte()
    var program = StreamProgram(steps: [])
    program.begins = flags & 1 != 0
    program.isReading = flags & 2 != 0
    program.transaction = try optional { reader throws(ShipProtocolError) in
      try reader.reader.varint()
    }
    program.basis = try optional { reader throws(ShipProtocolError) in try reader.basis() }
    program.session = try optional { reader throws(ShipProtocolError) in
      try reader.reader.varint()
    }
    program.lastInsertRowid = Int64(bitPattern: try reader.fixed64())
    let count = try count(atLeast: 2)
    guard count <= StreamProgram.stepsMax else { throw .malformed("a program is too long") }
    guard flags < 4, !(program.begins && program.transaction != nil) else {
      throw .malformed("a program begins within its transaction")
    }
    program.steps.reserveCapacity(count)
    for index in 0..<count { program.steps.append(try step(index)) }
    return program
  }

  private mutating func step(_ index: Int) throws(ShipProtocolError) -> ProgramStep {
    let condition = try optional { reader throws(ShipProtocolError) in
      try reader.condition(before: index, depth: 0)
    }
    let action: ProgramStep.Action
    switch try reader.byte() {
    case 0:
      let statement = try statement()
      action = .execute(statement, wantsRows: try reader.byte() != 0)
    case 1:
      action = .describe(
        SQLText(bytes: ByteBuffer(bytes: try reader.counted(max: Self.bytesMax))))
    case 2: action = .autocommit
    case 3: action = .done(isOK: try reader.byte() != 0)
    default: throw .malformed("unknown step")
    }
    return ProgramStep(action, if: condition)
  }

  /// A condition of step `index`, which can depend on the steps before it alone.
  private mutating func condition(
    before index: Int, depth: Int
  ) throws(ShipProtocolError) -> StepCondition {
    guard depth < StepCondition.depthMax else { throw .malformed("a condition is too deep") }
    switch try reader.byte() {
    case 0: return .ok(try earlier(index))
    case 1: return .error(try earlier(index))
    case 2: return .not(try condition(before: index, depth: depth + 1))
    case 3: return .and(try conditions(before: index, depth: depth + 1))
    case 4: return .or(try conditions(before: index, depth: depth + 1))
    case 5: return .isAutocommit
    default: throw .malformed("unknown condition")
    }
  }

  private mutating func conditions(
    before index: Int, depth: Int
  ) throws(ShipProtocolError) -> [StepCondition] {
    var conditions: [StepCondition] = []
    for _ in 0..<(try count()) {
      conditions.append(try condition(before: index, depth: depth))
    }
    return conditions
  }

  private mutating func earlier(_ index: Int) throws(ShipProtocolError) -> Int {
    let step = try reader.varint()
    guard step < UInt64(index) else { throw .malformed("a condition on a later step") }
    return Int(step)
  }

  mutating func outcome() throws(ShipProtocolError) -> StepOutcome {
    switch try reader.byte() {
    case 0: return .skipped
    case 1: return .result(try result())
    case 2: return .description(try description())
    case 3: return .autocommit(try reader.byte() != 0)
    case 4: return .failed(try requestError())
    default: throw .malformed("unknown outcome")
    }
  }

  private mutating func description() throws(ShipProtocolError) -> StatementDescription {
    var description = StatementDescription()
    for _ in 0..<(try count()) { description.parameters.append(try optionalText()) }
    for _ in 0..<(try count(atLeast: 2)) {
      let name = try text()
      description.columns.append(.init(name: name, declaredType: try optionalText()))
    }
    let flags = try reader.byte()
    description.isExplain = flags & 1 != 0
    description.isReadOnly = flags & 2 != 0
    return description
  }

  mutating func optionalText() throws(ShipProtocolError) -> String? {
    try optional { reader throws(ShipProtocolError) in try reader.text() }
  }

  mutating func requestError() throws(ShipProtocolError) -> RequestError {
    let code = try text()
    let message = try text()
    let offset = try optional { reader throws(ShipProtocolError) in
      Int(try reader.reader.varint32())
    }
    return RequestError(
      code: code, message: message, offset: offset, retry: try reader.byte() != 0)
  }
}

extension ByteBuffer {
  mutating func writeProgram(_ program: StreamProgram) {
    writeInteger((program.begins ? 1 : 0) | (program.isReading ? 2 : 0) as UInt8)
    writeOptional(program.transaction) { $0.writeVarint($1) }
    writeOptional(program.basis) { $0.writeBasis($1) }
    writeOptional(program.session) { $0.writeVarint($1) }
    writeInteger(program.lastInsertRowid, endianness: .little)
    writeVarint(UInt64(program.steps.count))
    for step in program.steps {
      writeOptional(step.condition) { $0.writeCondition($1) }
      switch step.action {
      case .execute(let statement, let wantsRows):
        writeInteger(0 as UInt8)
        writeStatement(statement)
        writeFlag(wantsRows)
      case .describe(let sql):
        writeInteger(1 as UInt8)
        writeVarint(UInt64(sql.bytes.readableBytes))
        writeImmutableBuffer(sql.bytes)
      case .autocommit: writeInteger(2 as UInt8)
      case .done(let isOK):
        writeInteger(3 as UInt8)
        writeFlag(isOK)
      }
    }
  }

  private mutating func writeCondition(_ condition: StepCondition) {
    switch condition {
    case .ok(let step):
      writeInteger(0 as UInt8)
      writeVarint(UInt64(clamping: step))
    case .error(let step):
      writeInteger(1 as UInt8)
      writeVarint(UInt64(clamping: step))
    case .not(let inner):
      writeInteger(2 as UInt8)
      writeCondition(inner)
    case .and(let all):
      writeInteger(3 as UInt8)
      writeVarint(UInt64(all.count))
      for condition in all { writeCondition(condition) }
    case .or(let any):
      writeInteger(4 as UInt8)
      writeVarint(UInt64(any.count))
      for condition in any { writeCondition(condition) }
    case .isAutocommit: writeInteger(5 as UInt8)
    }
  }

  mutating func writeOutcome(_ outcome: StepOutcome) {
    switch outcome {
    case .skipped: writeInteger(0 as UInt8)
    case .result(let result):
      writeInteger(1 as UInt8)
      writeResult(result)
    case .description(let description):
      writeInteger(2 as UInt8)
      writeDescription(description)
    case .autocommit(let isAutocommit):
      writeInteger(3 as UInt8)
      writeFlag(isAutocommit)
    case .failed(let error):
      writeInteger(4 as UInt8)
      writeRequestError(error)
    }
  }

  private mutating func writeDescription(_ description: StatementDescription) {
    writeVarint(UInt64(description.parameters.count))
    for name in description.parameters { writeOptional(name) { $0.writeText($1) } }
    writeVarint(UInt64(description.columns.count))
    for column in description.columns {
      writeText(column.name)
      writeOptional(column.declaredType) { $0.writeText($1) }
    }
    writeInteger((description.isExplain ? 1 : 0) | (description.isReadOnly ? 2 : 0) as UInt8)
  }

  mutating func writeRequestError(_ error: RequestError) {
    writeText(error.code)
    writeText(error.message)
    writeOptional(error.offset) { $0.writeVarint(UInt64(clamping: $1)) }
    writeFlag(error.retry)
  }

  mutating func writeFlag(_ flag: Bool) { writeInteger(flag ? 1 : 0 as UInt8) }
}
