// What a request says of itself beside its route: which database it means, and who sends it.

import NIOCore
import NIOHTTP1

/// Path and database of a request.
struct HTTPTarget: Sendable {
  var path: String
  /// Nil: the default one.
  var database: String?
  /// It came of a host name, which may have been chosen for other reasons: where there is no such
  /// database, the default one is meant.
  var isHint = false

  /// A database is named by `/dev/NAME/…`, by the header `x-namespace`, or by the first label of a
  /// host name that has at least three.
  init(_ request: HTTPRequest) {
    path = request.path
    let segments = path.split(separator: "/", maxSplits: 2, omittingEmptySubsequences: true)
    if segments.count >= 2, segments[0] == "dev" {
      database = String(segments[1])
      path = segments.count > 2 ? "/\(segments[2])" : "/"
    } else if let name = request.headers.first(name: "x-namespace"), !name.isEmpty {
      database = name
    } else {
      database = request.headers.first(name: "host").flatMap(Self.label(ofHost:))
      isHint = database != nil
    }
  }

  /// The first label of `name.example.org`; nil for addresses, and names that are too short to have
  /// a label of a database.
  static func label(ofHost host: String) -> String? {
    guard !host.hasPrefix("[") else { return nil }
    let name = host.split(separator: ":", maxSplits: 1).first ?? ""
    let labels = name.split(separator: ".", omittingEmptySubsequences: false)
    let isLocalhost = labels.count == 2 && labels[1] == "localhost"
    guard labels.count >= 3 || isLocalhost, labels.allSatisfy({ !$0.isEmpty }) else { return nil }
    guard !labels.allSatisfy({ $0.allSatisfy(\.isNumber) }) else { return nil }
    return labels[0].lowercased()
  }
}

extension DatabaseDirectory {
  /// The database that a request means.
  func acquire(
    _ target: HTTPTarget, on loop: any EventLoop,
    completion: @escaping @Sendable (Result<DatabaseLease, RequestError>) -> Void
  ) {
    acquire(target.database, on: loop) { [self] result in
      guard case .failure = result, target.isHint else { return completion(result) }
      acquire(nil, on: loop, completion: completion)
    }
  }
}

/// Credentials in the header `Authorization`.
enum HTTPCredential {
  /// - Parameter verifier: nil when nobody asks for credentials.
  static func rights(
    _ headers: HTTPHeaders, _ verifier: (any CredentialVerifier)?
  ) throws(CredentialError) -> AccessRights {
    guard let verifier else { return .full }
    return try verifier.verify(bearer(headers.first(name: "authorization")))
  }

  /// The token of `Bearer TOKEN`; nil when the header is missing.
  static func bearer(_ header: String?) throws(CredentialError) -> String? {
    guard let header else { return nil }
    let parts = header.split(separator: " ", maxSplits: 1)
    guard parts.first?.lowercased() == "bearer" else { throw .invalid }
    // Clients that were given no token send the word alone, or `None` behind it.
    guard parts.count == 2, parts[1] != "None" else { return nil }
    return String(parts[1])
  }
}

/// Bodies of answers that are errors of HTTP.
enum HTTPErrorBody {
  static func json(_ message: String) -> String {
    var output = OutputBytes(capacity: 256)
    JSONValue.object([.init("error", .string(message))]).write(into: &output)
    return output.string
  }

  /// As sqld words them: clients show these to people.
  static func unauthorized(_ error: CredentialError) -> String {
    let reason =
      switch error {
      case .missing: "Expected authorization header but none given"
      case .invalid: "The JWT is invalid"
      case .expired: "The JWT has expired"
      }
    return "Unauthorized: `\(reason)`"
  }

  static func forbidden(_ level: AccessLevel, _ needs: AccessLevel) -> String {
    "Forbidden: this needs the right \(needs), the credential has \(level)"
  }
}

extension HTTPHeaders {
  /// What a browser asks before it lets a page of another origin call.
  static let crossOrigin: HTTPHeaders = [
    "access-control-allow-methods": "GET, HEAD, POST, PUT, DELETE, OPTIONS",
    "access-control-allow-headers": "*, authorization",
    "access-control-max-age": "86400",
  ]
}
