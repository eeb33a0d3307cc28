// What `OnDemandDatabases` does for those who follow its databases, and at a replica for what follows
// others.

import NIOCore
import Store
import Synchronization

extension OnDemandDatabases {
  /// What a replica adds.
  struct Hooks: Sendable {
    var expected: @Sendable (DatabaseName) -> RequestError? = { _ in nil }
    var link: @Sendable () -> LinkStatus? = { nil }
    var forward: Forward?
    var takes: @Sendable (DatabaseName) -> Bool = { _ in true }
    var clientsAreAnonymous = false
  }

  /// Asks the node above for a change, and calls back from any thread. The `Bool`: whether nobody has
  /// asked its client who it is.
  public typealias Forward =
    @Sendable (DatabaseChange, Bool, @escaping @Sendable (RequestError?) -> Void) -> Void

  /// - Parameter call: why a database that will be here is not yet; it must not wait.
  public func setExpected(_ call: @escaping @Sendable (DatabaseName) -> RequestError?) {
    hooks.withLock { $0.expected = call }
  }

  public func setLink(_ call: @escaping @Sendable () -> LinkStatus?) {
    hooks.withLock { $0.link = call }
  }

  /// - Parameters:
  ///   - takes: whether a database will be here when it is above.
  ///   - clientsAreAnonymous: whether this node does not ask its own clients who they are.
  public func setForward(
    takes: @escaping @Sendable (DatabaseName) -> Bool, clientsAreAnonymous: Bool,
    _ call: @escaping Forward
  ) {
    hooks.withLock { hooks in
      hooks.takes = takes
      hooks.clientsAreAnonymous = clientsAreAnonymous
      hooks.forward = call
    }
  }

  public var link: LinkStatus? { hooks.withLock { $0.link }() }

  /// Why a client does not get a database.
  func absence(of name: DatabaseName) -> RequestError {
    hooks.withLock { $0.expected }(name) ?? .unknownDatabase(name.text)
  }

  /// Opens a database for one who follows it, or who makes it follow.
  ///
  /// - Parameter completion: called on `loop`; the lease is needed only until the following keeps
  ///   the database open by itself.
  public func acquireForFollowing(
    _ name: DatabaseName, on loop: any EventLoop,
    completion:
      @escaping @Sendable (Result<(any OpenDatabase, DatabaseLease), RequestError>) -> Void
  ) {
    acquire(name, for: .follower, on: loop) { [self] result in
      completion(
        result.flatMap { lease in
          guard let opened = state.withLock({ $0.entries[name]?.opened }) else {
            return .failure(.unknownDatabase(name.text))
          }
          return .success((opened.database, lease))
        })
    }
  }

  // MARK: Changes

  /// How long the answer to a change waits until the change has arrived here.
  private static let arrivalMilliseconds: UInt64 = 5000

  /// Has a change made above, and answers when it can be seen here.
  func forward(
    _ change: DatabaseChange, isAnonymous: Bool, on loop: any EventLoop,
    completion: @escaping @Sendable (RequestError?) -> Void
  ) {
    guard let forward = hooks.withLock({ $0.forward }) else {
      return loop.execute { completion(RequestError(.primaryUnavailable, "there is no link yet")) }
    }
    forward(change, isAnonymous) { [self] error in
      loop.execute { [self] in
        guard error == nil else { return completion(error) }
        let end = monotonicNanoseconds() + Self.arrivalMilliseconds * 1_000_000
        awaitArrival(of: change, until: end, on: loop) { completion(nil) }
      }
    }
  }

  /// It is durable above by then, so that one who waits in vain is told nothing worse.
  private func awaitArrival(
    of change: DatabaseChange, until end: UInt64, on loop: any EventLoop,
    then: @escaping @Sendable () -> Void
  ) {
    guard !hasArrived(change), monotonicNanoseconds() < end else { return then() }
    loop.scheduleTask(in: .milliseconds(Int64(Self.pollMilliseconds))) { [self] in
      awaitArrival(of: change, until: end, on: loop, then: then)
    }
  }

  private func hasArrived(_ change: DatabaseChange) -> Bool {
    state.withLock { state in
      if state.isStopped { return true }
      switch change {
      case .create(let name), .fork(_, to: let name):
        return state.names.contains(name) || !hooks.withLock { $0.takes }(name)
      case .drop(let name): return !state.names.contains(name) && state.entries[name] == nil
      }
    }
  }

  // MARK: What is prepared elsewhere

  /// Takes the files of a database that nobody can have yet, or that cannot be opened for clients.
  ///
  /// - Throws: `RequestError` when somebody has it open after all.
  public func beginPreparation(_ name: DatabaseName) throws {
    let failure: RequestError? = state.withLock { state in
      guard !state.isStopped else { return Self.stopping }
      guard state.entries[name] == nil else { return Self.inUse(name) }
      state.entries[name] = Entry(phase: .changing)
      return nil
    }
    if let failure { throw failure }
  }

  /// - Parameter isThere: whether clients can have it from now on.
  public func endPreparation(_ name: DatabaseName, isThere: Bool) {
    state.withLock { state in
      state.entries[name] = nil
      if isThere { state.names.insert(name) } else { state.names.remove(name) }
    }
  }
}
