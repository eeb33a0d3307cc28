// Databases that clients of a follower want to have made, copied or removed.

import NIOCore
import WALShip

extension TrunkSession {
  func change(_ asked: ShipChange) throws {
    let change = try DatabaseChange(asked)
    guard changes < ShipChange.waitingMax else {
      return answer(asked.number, RequestError(.overloaded, "too many changes wait already"))
    }
    guard !(server.source.asksForCredentials && asked.isAnonymous) else {
      return answer(asked.number, .anonymous)
    }
    changes += 1
    let bound = NIOLoopBound(self, eventLoop: server.loop)
    server.source.databases.perform(
      change, isAnonymous: asked.isAnonymous, on: server.loop
    ) { error in
      bound.value.changes -= 1
      bound.value.answer(asked.number, error)
    }
  }

  private func answer(_ number: UInt64, _ error: RequestError?) {
    let failure = error.map {
      ShipChanged.Failure(code: $0.code, message: $0.message, retry: $0.retry)
    }
    // What is news by now goes out first, so that the follower has it when the answer arrives.
    run()
    send(ShipMessage(.changed, body: ShipChanged(number: number, failure: failure).encode()))
    flush()
  }
}
