// What a replica of many databases must do so that it has what its upstream has: which databases
// are to be copied, which are behind, which are gone. Here is only the decision, from what the
// upstream told of each and what lies here.
//
// Two rules keep idle databases idle and others from being forgotten. News of a database says
// nothing while it is followed on a stream: the upstream tells again once the stream is over. And a
// database is left alone only if it stands exactly where the upstream says; whatever differs is
// followed, and the two sides then find out what it is.

/// The databases that a node follows, by name.
public struct CatalogueFollower: Sendable {
  public enum Work: Equatable, Sendable {
    /// Make a first copy, or complete one.
    case prepare
    /// Follow it on a stream until nothing is missing.
    case follow
    /// Remove what is here: the upstream has none of that name, or another one.
    case remove
  }

  /// What lies here of a database.
  public struct Held: Equatable, Sendable {
    /// Nil when only opening it would tell.
    public var database: DatabaseID?
    /// Nil when only opening it would tell.
    public var position: Position?
    public init(database: DatabaseID?, position: Position?) {
      self.database = database
      self.position = position
    }
    public init(_ position: Position) { self.init(database: position.database, position: position) }
  }

  private enum Told: Equatable {
    case nothing
    case fact(ShipNews.Fact)
  }

  private enum Stream: Equatable {
    case none
    case live
    /// Over, as the upstream says; where this node stands is yet to be reported.
    case ending
  }

  private struct Entry {
    var told = Told.nothing
    /// Nil: nothing that could be served.
    var held: Held?
    var stream = Stream.none
    var streamNumber: UInt16 = 0
    /// Where this node stands was reported before the upstream had confirmed the end.
    var isReported = false
    var work: Work?
    /// The last work failed a moment ago.
    var isPaused = false
    var isDue = false
  }

  private var entries: [String: Entry] = [:]
  /// Names to look at: those to be copied wait apart, so that what is large holds back nobody.
  private var due: [String] = []
  private var dueCopies: [String] = []
  private var isListed = false
  private var working = 0
  private var copying = 0
  private let copiesMax: Int
  private let worksMax: Int

  /// - Parameters:
  ///   - held: what lies here.
  ///   - copiesMax: first copies that are made at once.
  ///   - worksMax: everything else that is done at once.
  public init(held: [String: Held], copiesMax: Int, worksMax: Int) {
    self.copiesMax = copiesMax
    self.worksMax = worksMax
    for (name, held) in held { entries[name] = Entry(held: held) }
  }

  /// Databases that the upstream has and that cannot be served here yet.
  public func isExpected(_ name: String) -> Bool {
    guard let entry = entries[name] else { return false }
    if case .fact(.there) = entry.told { return true }
    return entry.work == .prepare
  }

  /// Whether nothing that the upstream has listed is missing here altogether.
  public var hasEverything: Bool {
    isListed
      && entries.values.allSatisfy { entry in
        guard case .fact(.there) = entry.told, entry.held == nil else {
          return entry.work != .prepare
        }
        return false
      }
  }

  public var isIdle: Bool { working == 0 && copying == 0 && due.isEmpty && dueCopies.isEmpty }

  // MARK: What the upstream tells

  public mutating func news(_ name: String, _ fact: ShipNews.Fact) {
    var entry = entries[name] ?? Entry()
    // It was told before the upstream knew of the stream.
    guard entry.stream != .live else { return }
    entry.told = .fact(fact)
    entries[name] = entry
    consider(name)
  }

  /// Everything was told that the upstream has. What it did not tell of is gone.
  public mutating func listed() {
    isListed = true
    for (name, entry) in entries where entry.told == .nothing && entry.stream == .none {
      entries[name]?.told = .fact(.gone)
      consider(name)
    }
  }

  /// Nothing that was told is worth anything any more.
  public mutating func linkLost() {
    isListed = false
    for (name, entry) in entries {
      entries[name]?.told = .nothing
      guard entry.stream == .live else { continue }
      endStream(name)
    }
  }

  // MARK: Streams

  public mutating func streamBegan(_ name: String, _ number: UInt16) {
    entries[name, default: Entry()].stream = .live
    entries[name]?.streamNumber = number
    entries[name]?.told = .nothing
    entries[name]?.isReported = false
  }

  /// The upstream knows that the stream is over.
  public mutating func streamEnded(_ name: String, _ number: UInt16) {
    // Another one may have begun since.
    guard let entry = entries[name], entry.stream == .live, entry.streamNumber == number else {
      return
    }
    endStream(name)
  }

  private mutating func endStream(_ name: String) {
    let isReported = entries[name]?.isReported ?? true
    entries[name]?.stream = isReported ? .none : .ending
    if isReported { consider(name) }
  }

  /// Nothing more is applied from the stream.
  ///
  /// - Parameter held: where the database stands; nil when there is none yet.
  public mutating func streamReported(_ name: String, held: Held?) {
    guard let entry = entries[name], entry.stream != .none else { return }
    if let held { entries[name]?.held = held }
    if entry.stream == .live {
      entries[name]?.isReported = true
    } else {
      entries[name]?.stream = .none
      consider(name)
    }
  }

  // MARK: Work

  /// The next thing to do; it counts as begun, and `finished` or `failed` must follow.
  public mutating func next() -> (name: String, work: Work)? {
    while working < worksMax, let name = Self.take(&due) {
      if let work = begin(name, isCopy: false) { return (name, work) }
    }
    while copying < copiesMax, let name = Self.take(&dueCopies) {
      if let work = begin(name, isCopy: true) { return (name, work) }
    }
    return nil
  }

  private static func take(_ names: inout [String]) -> String? {
    names.isEmpty ? nil : names.removeFirst()
  }

  private mutating func begin(_ name: String, isCopy: Bool) -> Work? {
    entries[name]?.isDue = false
    guard let work = needed(name) else { return nil }
    guard (work == .prepare) == isCopy else {
      consider(name)
      return nil
    }
    entries[name]?.work = work
    if isCopy { copying += 1 } else { working += 1 }
    return work
  }

  /// - Parameter held: what lies here now; nil for nothing that could be served.
  public mutating func finished(_ name: String, held: Held?) {
    end(name)
    entries[name]?.held = held
    consider(name)
  }

  /// It is tried again after `resume`.
  public mutating func failed(_ name: String, held: Held?) {
    end(name)
    entries[name]?.held = held
    entries[name]?.isPaused = true
  }

  public mutating func resume(_ name: String) {
    entries[name]?.isPaused = false
    consider(name)
  }

  private mutating func end(_ name: String) {
    switch entries[name]?.work {
    case .prepare: copying -= 1
    case .follow, .remove: working -= 1
    case nil: return
    }
    entries[name]?.work = nil
  }

  /// Whether a first copy that is being made is of a database that is gone.
  public func isInVain(_ name: String) -> Bool {
    guard let entry = entries[name] else { return false }
    return entry.work == .prepare && entry.told == .fact(.gone) && entry.stream == .none
  }

  /// What was held while a work was under way is known by now.
  private mutating func consider(_ name: String) {
    guard let entry = entries[name], !entry.isDue, entry.work == nil else { return }
    guard let work = needed(name) else {
      if entry.held == nil, entry.told == .fact(.gone), !entry.isPaused, entry.stream == .none {
        entries[name] = nil
      }
      return
    }
    entries[name]?.isDue = true
    if work == .prepare { dueCopies.append(name) } else { due.append(name) }
  }

  private func needed(_ name: String) -> Work? {
    guard let entry = entries[name], entry.work == nil, !entry.isPaused, entry.stream == .none,
      case .fact(let fact) = entry.told
    else { return nil }
    switch fact {
    case .gone: return entry.held == nil ? nil : .remove
    case .there(let position):
      guard let held = entry.held else { return .prepare }
      guard let position else { return .follow }
      if let database = held.database, !position.database.isNamed(by: database) { return .remove }
      return held.position == position ? nil : .follow
    }
  }
}
