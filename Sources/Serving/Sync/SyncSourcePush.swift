// Takes what offline copies push: gathers the frames of a commit, sends its pages to the primary as
// one write, and writes down what the copy holds then, all before the answer.
// Source: docs/SYNC.md

import NIOCore
import Store
import WALShip

/// A request to push frames.
struct SyncPush: Sendable {
  var generation: UInt32
  /// The number of the first frame, and of the one after the last.
  var start: Int
  var end: Int
  /// Of the requests before, when this one goes on.
  var baton: String?
  var body: ByteBuffer
  var access: AccessLevel
}

/// A push whose last frame ended no commit.
struct PushInParts {
  var push: PushedFrames
  var deadlineNanoseconds: UInt64
}

extension SyncSource {
  enum PushReply: Sendable {
    /// Frames up to this number are taken; with a baton they are kept only for the rest to come.
    case taken(Int, baton: String?)
    /// The copy is not what the database is, of which the generation has so many frames.
    case conflict(Int)
  }

  enum PushFailure: Error {
    case unknownBaton
    case malformed(String)
    case tooMany
    /// The copy holds frames that are not known here.
    case unknownFrames
    case refused(RequestError)
  }

  typealias PushCompletion = @Sendable (Result<PushReply, any Error>) -> Void
  private static let partsMax = 8
  /// How long the next part of a push may take.
  static let partSeconds: Int64 = 30
  /// How long a push may take to arrive here from the primary.
  private static let arrivalSeconds: Int64 = 30

  /// Takes a part of a push.
  ///
  /// - Parameters:
  ///   - loop: where the primary's answer is wanted.
  ///   - completion: is called once, on any thread.
  /// - Returns: false when the node is stopping.
  func push(
    _ request: SyncPush, to primary: any PrimaryAccess, on loop: any EventLoop,
    completion: @escaping PushCompletion
  ) -> Bool {
    loop.scheduleTask(in: .seconds(Self.partSeconds + 1)) { [weak self] in
      guard let self else { return }
      thread.submit { [self] in dropLateParts() }
    }
    return thread.submit { [self] in
      do {
        switch try take(request) {
        case .reply(let reply): completion(.success(reply))
        case .send(let sent):
          send(sent, request.access, to: primary, on: loop, completion: completion)
        }
      } catch {
        completion(.failure(error is SyncGenerations.Lost ? PushFailure.unknownFrames : error))
      }
    }
  }

  private enum Taken {
    case reply(PushReply)
    case send(Sent)
  }

  /// A push that is complete and on its way.
  private struct Sent {
    var push: PushedFrames
    var base: Position
    /// It was sent from this state before, and nobody knows what came of it.
    var isRepeat: Bool
  }

  // MARK: On the thread

  private func take(_ request: SyncPush) throws -> Taken {
    dropLateParts()
    var push = PushedFrames(generation: request.generation, start: request.start)
    if let baton = request.baton {
      guard let part = pushes.removeValue(forKey: baton),
        part.push.generation == request.generation, part.push.last + 1 == request.start
      else { throw PushFailure.unknownBaton }
      push = part.push
    }
    do throws(PushedFrames.Failure) {
      try push.append(request.body)
    } catch {
      switch error {
      case .malformed(let why): throw PushFailure.malformed(why)
      case .tooLarge: throw PushFailure.tooMany
      }
    }
    guard push.last + 1 == request.end else { throw PushFailure.malformed("not so many frames") }
    let (answer, position) = try judge(push)
    switch answer {
    case .conflict(let count): return .reply(.conflict(count))
    case .known(let last): return .reply(.taken(last, baton: nil))
    case .current where push.commit == 0: return .reply(.taken(push.last, baton: try keep(push)))
    case .current:
      let isRepeat = try change(always: true) { $0.sending(push, from: position.txid) }
      return .send(Sent(push: push, base: position, isRepeat: isRepeat))
    }
  }

  private func judge(
    _ push: PushedFrames
  ) throws -> (SyncGenerations.PushAnswer, Position) {
    try read { snapshot in
      try check(snapshot)
      let answer = try change(always: true) { generations in
        try generations.push(push, at: snapshot.position, tracker.epochs, wasApplied: wasApplied)
      }
      return (answer, snapshot.position)
    }
  }

  /// Whether a transaction left pages as these frames have them.
  func wasApplied(_ frames: ArraySlice<PushedFrames.Frame>, _ txid: TXID) -> Bool {
    var seen: Set<Pgno> = []
    return frames.reversed().contains { frame in
      guard seen.insert(frame.pgno).inserted else { return false }
      return map.entry(frame.pgno) == PageMapEntry(txid: txid, checksum: frame.checksum)
    }
  }

  private func keep(_ push: PushedFrames) throws -> String {
    let pages = pushes.values.reduce(push.pageCount) { $0 + $1.push.pageCount }
    guard pushes.count < Self.partsMax, pages <= PushedFrames.pendingPagesMax else {
      throw PushFailure.refused(
        RequestError(.overloaded, "too many pushes are under way: try again"))
    }
    let words = (0..<2).map { _ in Chance.number(in: 0...UInt64.max) }
    let baton = words.map { String($0, radix: 36) }.joined(separator: "-")
    pushes[baton] = PushInParts(
      push: push,
      deadlineNanoseconds: monotonicNanoseconds() + UInt64(Self.partSeconds) * 1_000_000_000)
    try change { $0.known[push.generation]?.offered = push.last }
    return baton
  }

  private func dropLateParts() {
    let now = monotonicNanoseconds()
    pushes = pushes.filter { $0.value.deadlineNanoseconds > now }
  }

  // MARK: To the primary

  private func send(
    _ sent: Sent, _ access: AccessLevel, to primary: any PrimaryAccess, on loop: any EventLoop,
    completion: @escaping PushCompletion
  ) {
    var request = EngineRequest(.push(sent.push.push(onto: sent.base)))
    request.access = access
    primary.submit(request, on: loop) { [self] response in
      let ended: @Sendable () -> Void = { [self] in
        completion(Result { try finish(sent, response) })
      }
      let isTaken: Bool
      if response.failure == nil {
        isTaken = true
        whenHere(sent.base.txid.next, on: loop) { [self] in
          if !thread.submit(ended) { completion(.failure(Self.stopping)) }
        }
      } else {
        isTaken = thread.submit(ended)
      }
      if !isTaken { completion(.failure(Self.stopping)) }
    }
  }
  private static let stopping = PushFailure.refused(
    RequestError(.primaryUnavailable, "this node is stopping"))

  private func whenHere(
    _ txid: TXID, on loop: any EventLoop, _ body: @escaping @Sendable () -> Void
  ) {
    let held = HeldAnswer(answer: body)
    let id = tracker.whenReached(.transaction(txid)) { held.release() }
    held.release(
      by: loop.scheduleTask(in: .seconds(Self.arrivalSeconds)) { [tracker] in
        tracker.cancel(id)
        held.release()
      })
  }

  /// Notes what came of a push.
  private func finish(_ sent: Sent, _ response: EngineResponse) throws -> PushReply {
    let (push, base) = (sent.push, sent.base.txid)
    if let error = response.failure?.error {
      let isUnknown = error.code == ErrorCode.outcomeUnknown.rawValue
      try change { $0.notSent(push, isKnown: !isUnknown && !sent.isRepeat) }
      guard error.code == RequestError.conflictCode else { throw PushFailure.refused(error) }
      // The same push can have been sent before, by a client that did not hear of it.
      switch try judge(push).0 {
      case .known(let last): return .taken(last, baton: nil)
      case .conflict(let count): return .conflict(count)
      // What the primary has more is not here yet: it can be this push.
      case .current: throw Failure.behind
      }
    }
    guard tracker.position.txid >= base.next else {
      try change { $0.notSent(push, isKnown: false) }
      throw Failure.behind
    }
    let isNoted = try change(always: true) { $0.sent(push, from: base) }
    return isNoted ? .taken(push.last, baton: nil) : .conflict(push.start - 1)
  }
}
