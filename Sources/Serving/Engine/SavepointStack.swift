// The savepoints of an open transaction, by what its statements have done.

/// The open savepoints, the outermost first.
package struct SavepointStack: Equatable, Sendable {
  private var names: [String] = []

  package init() {}

  /// Whether RELEASE of `name` releases the outermost savepoint.
  package func isOutermost(_ name: String) -> Bool {
    names.lastIndex(of: name.lowercased()) == 0
  }

  /// Follows what a statement has done.
  package mutating func note(_ kind: StatementKind?) {
    switch kind {
    case .savepoint(let name): names.append(name.lowercased())
    case .release(let name):
      if let index = names.lastIndex(of: name.lowercased()) { names.removeSubrange(index...) }
    case .rollbackTo(let name):
      if let index = names.lastIndex(of: name.lowercased()) {
        names.removeSubrange((index + 1)...)
      }
    default: break
    }
  }
}
