// Where each database of a node stands, open or closed, for those who follow: kept as databases
// open, commit and close, and read from beside the closed ones when it is first asked for.

import Store
import Synchronization
import WALShip

/// The databases of a node and their positions. Safe to use from any thread.
public final class DatabaseCatalogue: Sendable {
  private enum Record {
    /// Nobody has looked yet.
    case unread
    case known(Position?)
  }

  private struct State {
    var records: [DatabaseName: Record] = [:]
    var isComplete = false
    /// Names whose record has changed since they were taken.
    var changed: Set<DatabaseName> = []
    var listener: Listener?
  }

  private struct Listener: Sendable { let call: @Sendable () -> Void }

  private let state = Mutex(State())
  private let saved: @Sendable (DatabaseName) -> Position?

  /// - Parameters:
  ///   - isComplete: whether what is not here is nowhere.
  ///   - saved: reads where a closed database stands; it waits for the disk.
  public init(
    names: [DatabaseName], isComplete: Bool,
    saved: @escaping @Sendable (DatabaseName) -> Position?
  ) {
    self.saved = saved
    state.withLock { state in
      state.isComplete = isComplete
      for name in names { state.records[name] = .unread }
    }
  }

  /// - Parameter call: called when there is something to take; from any thread, and often.
  func listen(_ call: @escaping @Sendable () -> Void) {
    state.withLock { $0.listener = Listener(call: call) }
  }

  // MARK: Changes

  /// There is this database, and it stands there; nil when that is not known.
  public func set(_ name: DatabaseName, _ position: Position?) {
    change(name) { $0.records[name] = .known(position) }
  }

  public func remove(_ name: DatabaseName) { change(name) { $0.records[name] = nil } }

  /// From now on what is not here is nowhere.
  public func complete() {
    let listener = state.withLock { state in
      state.isComplete = true
      return state.listener
    }
    listener?.call()
  }

  private func change(_ name: DatabaseName, _ body: (inout State) -> Void) {
    let listener = state.withLock { state in
      body(&state)
      // Nobody takes what nobody listens to.
      guard state.listener != nil else { return nil as Listener? }
      return state.changed.insert(name).inserted ? state.listener : nil
    }
    listener?.call()
  }

  // MARK: For followers

  var isComplete: Bool { state.withLock { $0.isComplete } }
  var names: [DatabaseName] { state.withLock { Array($0.records.keys) } }

  func takeChanged() -> Set<DatabaseName> {
    state.withLock { state in
      defer { state.changed = [] }
      return state.changed
    }
  }

  /// What a follower is to be told of a database.
  func fact(_ name: DatabaseName) -> ShipNews.Fact {
    state.withLock { state in
      switch state.records[name] {
      case nil: .gone
      case .unread: .there(nil)
      case .known(let position): .there(position)
      }
    }
  }

  /// Looks beside each closed database that nobody has looked at; it waits for the disk.
  func load() {
    let unread = state.withLock { state in
      state.records.compactMap { name, record in
        if case .unread = record { name } else { nil }
      }
    }
    for name in unread {
      let position = saved(name)
      state.withLock { state in
        guard case .unread? = state.records[name] else { return }
        state.records[name] = .known(position)
      }
    }
  }
}
