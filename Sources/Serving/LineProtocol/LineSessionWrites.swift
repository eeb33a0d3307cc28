// Writes outside of transactions. They are given to the primary as they arrive, so that a pipeline
// of writes shares the group commit, and answered in the order of their lines.

import NIOCore
import Store
import WALShip

/// A write that is with the primary.
struct PendingWrite {
  var head: AnswerHead
  var isBatch: Bool
  var bytes: Int
  var response: EngineResponse?
}

extension LineSession {
  /// Gives a write to the primary.
  ///
  /// - Returns: false when there are too many on their way, so that this one must wait.
  func startWrite(
    _ head: AnswerHead, _ options: RequestOptions, _ statements: [StatementRequest], isBatch: Bool
  ) -> Bool {
    let bytes = statements.reduce(0) { $0 + $1.approximateBytes }
    let limits = node.limits
    let hasRoom =
      writes.count < limits.pipelinedWritesMax && writesBytes + bytes <= limits.pipelinedBytesMax
    guard writes.isEmpty || hasRoom else { return false }
    if let error = refusal(ofWrite: options) {
      guard writes.isEmpty else { return false }
      answer(head, error: error)
      return true
    }
    var request = EngineRequest(.write(statements))
    request.idempotencyKey = options.idempotencyKey
    request.timeoutMilliseconds = engineMilliseconds(options)
    request.enforcesForeignKeys = enforcesForeignKeys
    request.tokens = tokens(options)
    let number = firstWrite + UInt64(writes.count)
    writes.append(PendingWrite(head: head, isBatch: isBatch, bytes: bytes))
    writesBytes += bytes
    ask(request) { response in self.written(number, response) }
    return true
  }

  /// A write needs no token, but one of a lost history shows that the client builds on what no
  /// longer is.
  private func refusal(ofWrite options: RequestOptions) -> RequestError? {
    if let name = options.database, name != node.databaseName { return .unknownDatabase(name) }
    guard case .failed(let error) = node.gate.admit(tokens(options)) else { return nil }
    forget(ifLost: error)
    return error
  }

  /// What the client has seen, here or elsewhere.
  func tokens(_ options: RequestOptions) -> [Token] {
    guard let shown = options.token, shown != seen else { return [seen].compactMap(\.self) }
    return [shown] + [seen].compactMap(\.self)
  }

  /// What the connection saw is lost. It has been told now, and goes on with what there is.
  func forget(ifLost error: RequestError?) {
    if error?.code == ErrorCode.tokenEpoch.rawValue { seen = nil }
  }

  /// The time limit that goes with a request to the primary: nil leaves it to the primary.
  func engineMilliseconds(_ options: RequestOptions) -> Int? {
    guard options.timeoutMilliseconds != nil || timeoutMilliseconds != nil else { return nil }
    return statementMilliseconds(options)
  }

  private func written(_ number: UInt64, _ response: EngineResponse) {
    guard isOpen, number >= firstWrite else { return }
    writes[Int(number - firstWrite)].response = response
    while let first = writes.first, let response = first.response {
      writes.removeFirst()
      firstWrite += 1
      writesBytes -= first.bytes
      answer(first.head, response, isBatch: first.isBatch)
    }
    work()
  }
}

extension StatementRequest {
  /// About how much memory the request takes.
  var approximateBytes: Int {
    let count =
      switch arguments {
      case .none: 0
      case .positional(let values): values.reduce(0) { $0 + $1.approximateBytes }
      case .named(let values):
        values.reduce(0) { $0 + $1.value.approximateBytes + $1.name.utf8.count }
      }
    return sql.bytes.readableBytes + count + 64
  }
}
