// What a request to the primary's engine needs its client to be allowed. Sessions ask before they
// send one; the engine asks again, because replicas forward what their clients want.
// Source: docs/SECURITY.md

import NIOCore

extension EngineRequest {
  /// The least that the client must be allowed.
  public var neededAccess: AccessLevel {
    switch work {
    case .position, .abandon, .leave: .none
    case .read: .read
    case .program(let program): program.isReading ? .read : .write
    // Whatever is in it: it has the write lock.
    case .write, .begin, .proceed, .push: .write
    }
  }

  /// Why the client may not ask this; nil when it may.
  public var accessRefusal: RequestError? {
    access < neededAccess ? .denied(access, needs: neededAccess) : nil
  }
}

extension RequestError {
  /// What a follower is told that asks its clients for nothing, by a node that does.
  static let anonymous = RequestError(
    .authDenied,
    "the primary asks for credentials, and the replica that took this request does not: start it "
      + "with --auth-jwt-key-file as well")
}

/// The way to the primary for clients that nobody asked who they are. A node that asks does not do
/// for them what it would refuse to a client of its own that shows nothing.
public struct AnonymousAccess: PrimaryAccess {
  private let next: any PrimaryAccess

  public init(_ next: any PrimaryAccess) { self.next = next }

  public func submit(
    _ request: EngineRequest, on loop: any EventLoop,
    completion: @escaping @Sendable (EngineResponse) -> Void
  ) {
    var request = request
    request.isAnonymous = true
    next.submit(request, on: loop, completion: completion)
  }
}
