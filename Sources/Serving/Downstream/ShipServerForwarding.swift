// Requests that a follower's clients have for the primary.

import NIOCore
import WALShip

extension ShipServerSession {
  func forward(_ number: UInt64, _ bytes: ByteBuffer) throws {
    let request = try EngineRequest(decoding: bytes)
    switch request.work {
    case .abandon(let transaction): transactions.remove(transaction)
    case .leave(let session): sessions.remove(session)
    case .write, .read, .position, .begin, .proceed, .program, .push: break
    }
    pending += 1
    server.noteUse()
    if server.asksForCredentials, request.isAnonymous, request.neededAccess > .none {
      return answer(number, request, .failed(.anonymous))
    }
    let session = NIOLoopBound(self, eventLoop: server.loop)
    source.primary.submit(request, on: server.loop) { response in
      session.value.answer(number, request, response)
    }
  }

  func answer(_ number: UInt64, _ request: EngineRequest, _ response: EngineResponse) {
    pending -= 1
    noteTransaction(request, response)
    guard case .serving = phase else { return }
    // What the answer speaks of goes out first, so that the follower has it when the answer
    // arrives.
    pump()
    for piece in ShipFragment.split(response.encode(), request: number) {
      send(ShipMessage(.response, body: piece.encode()))
    }
    report()
    outlet?.flush()
  }

  /// Follows what the follower's clients have open, to end it with the link.
  func noteTransaction(_ request: EngineRequest, _ response: EngineResponse) {
    switch request.work {
    case .proceed(let transaction, _): transactions.remove(transaction)
    case .program(let program):
      // One that was refused as a whole has left everything as it was.
      let code = response.failure?.error.code
      let hasRun = !response.steps.isEmpty
      if let transaction = program.transaction,
        hasRun || code == ErrorCode.transactionTimeout.rawValue
      {
        transactions.remove(transaction)
      }
      if let session = program.session, hasRun || code == ErrorCode.streamExpired.rawValue {
        sessions.remove(session)
      }
    case .write, .read, .position, .begin, .abandon, .leave, .push: break
    }
    if let open = response.transaction { transactions.insert(open) }
    if let session = response.session { sessions.insert(session) }
    guard case .serving = phase else { return endWork() }
  }

  /// The follower is gone: ends what its clients have open.
  func endWork() {
    for transaction in transactions { end(.abandon(transaction: transaction)) }
    for session in sessions { end(.leave(session: session)) }
    transactions = []
    sessions = []
  }

  private func end(_ work: EngineRequest.Work) {
    source.primary.submit(EngineRequest(work), on: server.loop) { _ in }
  }
}
