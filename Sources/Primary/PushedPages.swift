// Pages that offline copies push: they are looked at beside the writer, on a thread of their own,
// and only then queue for it. Source: docs/SYNC.md

import NIOCore
import Serving
import Store
import Synchronization
import WALShip

/// Checks pushes, one after the other. `submit` may be called from any thread.
final class PushedPages: @unchecked Sendable {  // `check` is used on the thread alone
  private let thread = DatabaseThread()
  private let check: PushCheck
  private let waiting = Mutex(0)
  /// Each is up to 16 MiB.
  private static let waitingMax = 4

  init(path: String, map: PageMapFile, tracker: PositionTracker) {
    check = PushCheck(path: path, map: map, tracker: tracker)
  }

  func stop() { thread.stop() }

  /// - Parameter then: gets a push that was found to be sound.
  func submit(_ pending: Writer.Pending, then: @escaping @Sendable (Writer.Pending) -> Void) {
    guard case .push(let push) = pending.request.work else { return }
    func refuse(_ error: RequestError) {
      pending.loop.execute { pending.completion(.failed(error)) }
    }
    let hasRoom = waiting.withLock { count in
      guard count < Self.waitingMax else { return false }
      count += 1
      return true
    }
    guard hasRoom else {
      return refuse(RequestError(.overloaded, "too many pushes of pages wait: try again"))
    }
    let isTaken = thread.submit { [self] in
      defer { waiting.withLock { $0 -= 1 } }
      var pending = pending
      do {
        pending.request.work = .push(try check.check(push))
        then(pending)
      } catch {
        let failure = RequestError(push: error)
        pending.loop.execute { [pending] in pending.completion(.failed(failure)) }
      }
    }
    if !isTaken { refuse(RequestError(.primaryUnavailable, "this node is stopping")) }
  }
}

extension Writer {
  /// On the writer's thread, when no transaction is open.
  func commit(_ push: PagePush) -> EngineResponse {
    do {
      try database.commit(push)
      return EngineResponse()
    } catch { return .failed(RequestError(push: error)) }
  }
}

extension RequestError {
  /// Why pages were not taken.
  init(push error: any Error) {
    switch error {
    case let failure as PagePush.Failure: self.init(failure)
    case let error as SQLiteError:
      self = RequestError(error).ofCommit
      retry = code == "SQLITE_BUSY"
    case is DiskError:
      self.init(
        .outcomeUnknown, "the disk failed at the commit, which was made once, or not at all")
    default: self.init(code: "SQLITE_ERROR", message: "\(error)")
    }
  }
}
