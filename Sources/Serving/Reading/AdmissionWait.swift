// Brings the admission of a read to its end: waits for tokens, and asks the primary where it stands.

import NIOCore
import Store
import WALShip

/// One read that is not admitted yet. It is used on its loop alone.
final class AdmissionWait {
  private let node: NodeContext
  private let options: RequestOptions
  private let seen: Token?
  private let loop: any EventLoop
  private var completion: ((Admission) -> Void)?
  private var cancelWait: (() -> Void)?

  /// - Parameters:
  ///   - seen: what the client's session has seen.
  ///   - completion: called once, on `loop` and not before `start` returns, with a decision that is
  ///     neither to wait nor to ask; not after `cancel`.
  init(
    node: NodeContext, options: RequestOptions, seen: Token?, loop: any EventLoop,
    completion: @escaping (Admission) -> Void
  ) {
    self.node = node
    self.options = options
    self.seen = seen
    self.loop = loop
    self.completion = completion
  }

  func start(_ admission: Admission) {
    switch admission {
    case .wait(let tokens): wait(for: tokens)
    case .askPrimary: askPrimary()
    case .here, .hereStale, .forward, .failed:
      let bound = NIOLoopBound(self, eventLoop: loop)
      loop.execute { bound.value.finish(admission) }
    }
  }

  func cancel() {
    completion = nil
    cancelWait?()
    cancelWait = nil
  }

  private func wait(for tokens: [Token]) {
    cancelWait = node.gate.wait(for: tokens, options: options, on: loop) { self.finish($0) }
  }

  private func askPrimary() {
    let bound = NIOLoopBound(self, eventLoop: loop)
    node.primary.submit(EngineRequest(.position), on: loop) { bound.value.answered($0) }
  }

  private func answered(_ response: EngineResponse) {
    guard completion != nil else { return }
    guard let token = response.position?.token else { return finish(unanswered(response)) }
    switch node.gate.admit([token, options.token, seen].compactMap(\.self)) {
    case .wait(let tokens): wait(for: tokens)
    case let admission: finish(admission)
    }
  }

  private func unanswered(_ response: EngineResponse) -> Admission {
    if options.lagPolicy == .stale, node.gate.admit([]) == .here { return .hereStale }
    let unknown = RequestError(.primaryUnavailable, "the primary did not tell its position")
    return .failed(response.failure?.error ?? unknown)
  }

  private func finish(_ admission: Admission) {
    guard let completion else { return }
    self.completion = nil
    cancelWait = nil
    completion(admission)
  }
}
