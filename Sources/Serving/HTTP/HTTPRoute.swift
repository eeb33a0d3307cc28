// Routes, and which of them a request means.

import NIOHTTP1

/// What answers the requests to one path.
public struct HTTPRoute: Sendable {
  public var method: HTTPMethod
  /// Segments between slashes; one that begins with a colon stands for any text.
  let pattern: [Substring]
  /// What the client must be allowed to do with the database; nil for routes that tell nothing.
  public var needs: AccessLevel?
  /// False for routes that are about the node: `needs` is then what must be allowed for all
  /// databases.
  public var opensDatabase: Bool
  public var handler: @Sendable (HTTPCall) -> Void

  public init(
    _ method: HTTPMethod, _ pattern: String, needs: AccessLevel?, opensDatabase: Bool = true,
    handler: @escaping @Sendable (HTTPCall) -> Void
  ) {
    self.opensDatabase = opensDatabase
    self.method = method
    self.pattern = pattern.split(separator: "/", omittingEmptySubsequences: true)
    self.needs = needs
    self.handler = handler
  }

  /// What the pattern finds in a path; nil when they do not match.
  func match(_ path: [Substring]) -> [String: String]? {
    guard path.count == pattern.count else { return nil }
    var found: [String: String] = [:]
    for (part, given) in zip(pattern, path) {
      if part.first == ":" {
        found[String(part.dropFirst())] = String(given)
      } else if part != given {
        return nil
      }
    }
    return found
  }
}

/// All routes of a node.
public struct HTTPRouter: Sendable {
  enum Match {
    case route(HTTPRoute, [String: String])
    /// The path exists with these methods.
    case wrongMethod([HTTPMethod])
    case unknown
  }

  private let routes: [HTTPRoute]

  public init(_ routes: [HTTPRoute]) { self.routes = routes }

  func route(_ method: HTTPMethod, _ path: String) -> Match {
    let segments = path.split(separator: "/", omittingEmptySubsequences: true)
    var others: [HTTPMethod] = []
    for route in routes {
      guard let found = route.match(segments) else { continue }
      if route.method == method || (method == .HEAD && route.method == .GET) {
        return .route(route, found)
      }
      others.append(route.method)
    }
    return others.isEmpty ? .unknown : .wrongMethod(others)
  }
}
