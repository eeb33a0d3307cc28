// Requests that a follower's clients have for the primary.

import NIOCore
import WALShip

extension ShipServerSession {
  func forward(_ number: UInt64, _ bytes: ByteBuffer) throws {
    let request = try EngineRequest(decoding: bytes)
    if case .abandon(let transaction) = request.work { transactions.remove(transaction) }
    let session = NIOLoopBound(self, eventLoop: server.loop)
    source.primary.submit(request, on: server.loop) { response in
      session.value.answer(number, request, response)
    }
  }

  func answer(_ number: UInt64, _ request: EngineRequest, _ response: EngineResponse) {
    noteTransaction(request, response)
    guard case .serving = phase else { return }
    // What the answer speaks of goes out first, so that the follower has it when the answer
    // arrives.
    pump()
    for piece in ShipFragment.split(response.encode(), request: number) {
      send(ShipMessage(.response, body: piece.encode()))
    }
    context?.flush()
  }

  func noteTransaction(_ request: EngineRequest, _ response: EngineResponse) {
    if case .proceed(let transaction, _) = request.work { transactions.remove(transaction) }
    guard let open = response.transaction else { return }
    if case .serving = phase {
      transactions.insert(open)
    } else {
      source.primary.submit(EngineRequest(.abandon(transaction: open)), on: server.loop) { _ in }
    }
  }
}
