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
  }

  /// - Parameter call: why a database that will be here is not yet; it must not wait.
  public func setExpected(_ call: @escaping @Sendable (DatabaseName) -> RequestError?) {
    hooks.withLock { $0.expected = call }
  }

  public func setLink(_ call: @escaping @Sendable () -> LinkStatus?) {
    hooks.withLock { $0.link = call }
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
