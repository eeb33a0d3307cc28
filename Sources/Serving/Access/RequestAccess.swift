// What a request to the primary's engine needs its client to be allowed. Sessions ask before they
// send one; the engine asks again, because replicas forward what their clients want.
// Source: docs/SECURITY.md

extension EngineRequest {
  /// The least that the client must be allowed.
  public var neededAccess: AccessLevel {
    switch work {
    case .position, .abandon, .leave: .none
    case .read: .read
    case .program(let program): program.isReading ? .read : .write
    // Whatever is in it: it has the write lock.
    case .write, .begin, .proceed: .write
    }
  }

  /// Why the client may not ask this; nil when it may.
  public var accessRefusal: RequestError? {
    access < neededAccess ? .denied(access, needs: neededAccess) : nil
  }
}
