// How databases of a node are made, copied and removed while it serves the others. What is answered
// is durable; what a crash cut off did not happen, or is finished by the next start.

import NIOCore
import Store

extension OnDemandDatabases: DatabaseAdministration {
  /// How long a removal waits for requests and transactions that are under way.
  private static let dropMilliseconds: UInt64 = 5000

  public func perform(
    _ change: DatabaseChange, on loop: any EventLoop,
    completion: @escaping @Sendable (RequestError?) -> Void
  ) {
    let isAnonymous = hooks.withLock { $0.clientsAreAnonymous }
    perform(change, isAnonymous: isAnonymous, on: loop, completion: completion)
  }

  /// - Parameter isAnonymous: whether the client that wants the change was not asked who it is, here
  ///   or at the node below that took it.
  func perform(
    _ change: DatabaseChange, isAnonymous: Bool, on loop: any EventLoop,
    completion: @escaping @Sendable (RequestError?) -> Void
  ) {
    guard role == .primary else {
      return forward(change, isAnonymous: isAnonymous, on: loop, completion: completion)
    }
    Task {
      var failure: RequestError?
      do {
        switch change {
        case .create(let name): try await create(name)
        case .drop(let name): try await drop(name)
        case .fork(let source, let name): try await fork(source, to: name, on: loop)
        }
        logger.notice("the databases changed", metadata: ["change": "\(change)"])
      } catch let error as RequestError {
        failure = error
      } catch {
        logger.error(
          "the databases could not be changed",
          metadata: ["change": "\(change)", "error": "\(error)"])
        failure = keeper.clientError(error)
      }
      let told = failure
      loop.execute { completion(told) }
    }
  }

  // MARK: Create

  private func create(_ name: DatabaseName) async throws {
    try await reserve(name)
    do {
      let database = try await keeper.open(name)
      state.withLock { _ = $0.names.insert(name) }
      catalogue.set(name, database.node.tracker.position)
      opened(name, database)
    } catch {
      // What there is of it is nobody's.
      try? await keeper.drop(name)
      forget(name)
      throw error
    }
  }

  /// Keeps a name that is free for a database that is about to be made.
  private func reserve(_ name: DatabaseName) async throws {
    let isThere = keeper.exists(name)
    var evicted: (DatabaseName, Opened)?
    let failure: RequestError? = state.withLock { state in
      guard !state.isStopped else { return Self.stopping }
      guard !isThere, !state.names.contains(name), state.entries[name] == nil else {
        return RequestError(.databaseExists, "there is a database \(name) already")
      }
      guard makeRoom(&state, &evicted) else { return tooManyOpen }
      state.entries[name] = Entry(phase: .changing)
      return nil
    }
    if let (name, opened) = evicted {
      await closeUnlessUsed(name, opened)
    }
    if let failure { throw failure }
  }

  private func free(_ name: DatabaseName) { state.withLock { $0.entries[name] = nil } }

  // MARK: Fork

  private func fork(
    _ source: DatabaseName, to name: DatabaseName, on loop: any EventLoop
  ) async throws {
    let lease = try await hold(source, on: loop)
    try await reserve(name)
    do {
      guard let opened = state.withLock({ $0.entries[source]?.opened }) else {
        throw RequestError.unknownDatabase(source.text)
      }
      try await keeper.fork(opened.database, named: source, to: name)
      // Opened once, so that what is answered is a database and not only a file.
      let database = try await keeper.open(name)
      state.withLock { _ = $0.names.insert(name) }
      catalogue.set(name, database.node.tracker.position)
      self.opened(name, database)
    } catch {
      try? await keeper.drop(name)
      forget(name)
      throw error
    }
    withExtendedLifetime(lease) {}
  }

  private func hold(_ name: DatabaseName, on loop: any EventLoop) async throws -> DatabaseLease {
    try await withCheckedThrowingContinuation { continuation in
      loop.execute { [self] in
        acquire(name.text, on: loop) { continuation.resume(with: $0) }
      }
    }
  }

  // MARK: Drop

  private enum Seizure {
    case seized(Opened?)
    case wait
    case failed(RequestError)
  }

  /// Removes a database. Those who do nothing with it now lose it; requests and transactions that
  /// are under way are waited for, and when they take too long nothing is removed.
  private func drop(_ name: DatabaseName) async throws {
    try await remove(name, milliseconds: Self.dropMilliseconds, mustBeKnown: true)
  }

  /// Removes a database that the upstream does not have any more, however long those take who have a
  /// transaction open; nobody else gets it meanwhile.
  public func removeFollowed(_ name: DatabaseName) async throws {
    guard keeper.exists(name) else { return }
    try await remove(name, milliseconds: nil, mustBeKnown: false)
  }

  private func remove(
    _ name: DatabaseName, milliseconds: UInt64?, mustBeKnown: Bool
  ) async throws {
    let opened = try await seize(name, milliseconds: milliseconds, mustBeKnown: mustBeKnown)
    await opened?.database.close()
    do {
      try await keeper.drop(name)
    } catch {
      if !keeper.exists(name) { forget(name) } else { free(name) }
      throw error
    }
    forget(name)
  }

  /// While the name is still taken: what is made under it afterwards is told of afterwards.
  private func forget(_ name: DatabaseName) {
    catalogue.remove(name)
    state.withLock { state in
      state.names.remove(name)
      state.entries[name] = nil
    }
  }

  /// Takes a database away from everybody.
  ///
  /// - Parameter milliseconds: how long others are waited for; nil for as long as it takes.
  private func seize(
    _ name: DatabaseName, milliseconds: UInt64?, mustBeKnown: Bool
  ) async throws -> Opened? {
    let end = milliseconds.map { monotonicNanoseconds() + $0 * 1_000_000 }
    while true {
      let isLate = end.map { monotonicNanoseconds() >= $0 } ?? false
      let seizure: Seizure = state.withLock { state in
        guard !state.isStopped else { return .failed(Self.stopping) }
        guard state.names.contains(name) || !mustBeKnown else {
          return .failed(.unknownDatabase(name.text))
        }
        guard let entry = state.entries[name] else {
          state.entries[name] = Entry(phase: .changing)
          return .seized(nil)
        }
        guard let opened = entry.opened else { return isLate ? .failed(Self.inUse(name)) : .wait }
        if entry.leases == 0 {
          state.entries[name] = Entry(phase: .changing)
          return .seized(opened)
        }
        opened.isRevoked.store(!isLate, ordering: .relaxed)
        return isLate ? .failed(Self.inUse(name)) : .wait
      }
      switch seizure {
      case .seized(let opened): return opened
      case .failed(let error): throw error
      case .wait: try? await Task.sleep(for: .milliseconds(Self.pollMilliseconds))
      }
    }
  }

  static func inUse(_ name: DatabaseName) -> RequestError {
    RequestError(
      code: "SQLITE_BUSY", message: "database \(name) is in use: it was not removed", retry: true)
  }
}
