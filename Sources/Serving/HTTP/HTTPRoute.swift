// What a node serves over HTTP: a table of routes for each group of them.

import NIOHTTP1

/// One route.
public struct HTTPRoute: Sendable {
  public let method: HTTPMethod
  /// The parts of the path; those that begin with a colon match anything and get a name.
  let pattern: [Substring]
  /// What a client must be allowed; nil when no credential is asked for.
  public let minimum: AccessLevel?
  /// Whether the route works on a database, which is then open when the handler is called.
  public let needsDatabase: Bool
  /// Called on the loop of the connection; it answers at once or later.
  public let handler: @Sendable (HTTPCall) -> Void

  /// - Parameters:
  ///   - path: `/sync/:generation/:start`.
  ///   - minimum: for the database if the route needs one, else for all databases.
  public init(
    _ method: HTTPMethod, _ path: String, minimum: AccessLevel?, needsDatabase: Bool = true,
    handler: @escaping @Sendable (HTTPCall) -> Void
  ) {
    self.method = method
    pattern = path.split(separator: "/", omittingEmptySubsequences: true)
    self.minimum = minimum
    self.needsDatabase = needsDatabase
    self.handler = handler
  }

  /// The named parts of a path that this route is for; nil when it is for others.
  func match(_ parts: [Substring]) -> [String: String]? {
    guard parts.count == pattern.count else { return nil }
    var found: [String: String] = [:]
    for (part, wanted) in zip(parts, pattern) {
      if wanted.hasPrefix(":") {
        found[String(wanted.dropFirst())] = String(part)
      } else if part != wanted {
        return nil
      }
    }
    return found
  }
}
