// From a request to the handler of its route: which route, who asks, which database.
//
// A client that presents no credential where one is needed learns nothing, not even whether a
// database exists.
// Source: docs/HTTP.md

import NIOCore
import NIOHTTP1

/// The table of all routes.
struct HTTPRouter: Sendable {
  static let routes: [HTTPRoute] = HranaRoutes.routes + OperationRoutes.routes

  let routes: [HTTPRoute]

  /// - Parameter database: what the path has said.
  func serve(_ call: HTTPCall, database: String?) {
    if call.method == .OPTIONS { return answerOptions(call) }
    let parts = call.path.split(separator: "/", omittingEmptySubsequences: true)
    // HEAD is GET without a body.
    let method = call.method == .HEAD ? .GET : call.method
    var others: [String] = []
    for route in routes {
      guard let parameters = route.match(parts) else { continue }
      if route.method == method {
        call.parameters = parameters
        return admit(call, route, database)
      }
      others.append(route.method.rawValue)
    }
    if others.isEmpty { return call.answer(.notFound) }
    call.answer(.methodNotAllowed, headers: ["Allow": others.joined(separator: ", ")])
  }

  private func answerOptions(_ call: HTTPCall) {
    call.answer(
      .ok,
      headers: [
        "Access-Control-Allow-Methods": "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
        "Access-Control-Allow-Headers":
          call.headers.first(name: "access-control-request-headers") ?? "*",
        "Access-Control-Max-Age": "86400",
      ])
  }

  // MARK: Who

  private func admit(_ call: HTTPCall, _ route: HTTPRoute, _ database: String?) {
    guard let minimum = route.minimum else {
      return route.needsDatabase ? open(call, route, database) : route.handler(call)
    }
    do throws(CredentialError) {
      call.rights = try Self.rights(of: call.headers, call.server.options.verifier)
    } catch {
      return call.refuse(.unauthorized, error.httpMessage)
    }
    if route.needsDatabase { return open(call, route, database) }
    call.access = call.rights.anyDatabase
    guard call.access >= minimum else { return call.refuse(.forbidden, Self.forbidden(minimum)) }
    route.handler(call)
  }

  /// What the credential of a request allows.
  static func rights(
    of headers: HTTPHeaders, _ verifier: (any CredentialVerifier)?
  ) throws(CredentialError) -> AccessRights {
    guard let verifier else { return .full }
    return try verifier.verify(credential(headers))
  }

  /// The credential of `Authorization`; nil for none, and for what clients send that have none.
  private static func credential(_ headers: HTTPHeaders) -> String? {
    guard let header = headers.first(name: "authorization") else { return nil }
    let parts = header.split(separator: " ", maxSplits: 1).map(String.init)
    guard let scheme = parts.first?.lowercased() else { return nil }
    guard parts.count == 2 else { return scheme == "bearer" ? nil : parts[0] }
    guard scheme == "bearer" else { return parts[1] }
    return parts[1] == "None" ? nil : parts[1]
  }

  static func forbidden(_ needed: AccessLevel) -> String {
    switch needed {
    case .none, .read: "Not authorized to execute query: this credential does not allow to read"
    case .write: "Not authorized to execute query: this credential does not allow to write"
    case .admin: "Not authorized: this credential does not allow to administer"
    }
  }

  // MARK: Which database

  /// What a request says about its database.
  private enum Choice {
    /// It must exist.
    case named(String?)
    /// The host begins like this, which may be the name of a database.
    case maybe(String)
  }

  private func open(_ call: HTTPCall, _ route: HTTPRoute, _ database: String?) {
    let choice: Choice
    if let name = database ?? call.headers.first(name: "x-namespace"), !name.isEmpty {
      choice = .named(name)
    } else if let label = HTTPPath.label(ofHost: call.headers.first(name: "host") ?? "") {
      choice = .maybe(label)
    } else {
      choice = .named(nil)
    }
    switch choice {
    case .named(let name):
      acquire(call, name) { result in
        switch result {
        case .success(let lease): serve(call, route, lease)
        case .failure(let error): refuse(call, error, name)
        }
      }
    case .maybe(let label):
      acquire(call, label) { result in
        if case .success(let lease) = result { return serve(call, route, lease) }
        acquire(call, nil) { result in
          switch result {
          case .success(let lease): serve(call, route, lease)
          case .failure(let error): refuse(call, error, nil)
          }
        }
      }
    }
  }

  private func acquire(
    _ call: HTTPCall, _ name: String?,
    then: @escaping (Result<DatabaseLease, RequestError>) -> Void
  ) {
    let bound = NIOLoopBound((call, then), eventLoop: call.loop)
    call.server.directory.acquire(name, on: call.loop) { result in
      let (call, then) = bound.value
      if !call.isGone { then(result) }
    }
  }

  private func serve(_ call: HTTPCall, _ route: HTTPRoute, _ lease: DatabaseLease) {
    call.lease = lease
    guard let minimum = route.minimum else { return route.handler(call) }
    call.access = call.rights.level(for: lease.node.databaseName)
    if call.access == .none { return Self.refuseUnknown(call, lease.node.databaseName) }
    guard call.access >= minimum else { return call.refuse(.forbidden, Self.forbidden(minimum)) }
    route.handler(call)
  }

  private func refuse(_ call: HTTPCall, _ error: RequestError, _ name: String?) {
    guard error.code != ErrorCode.databaseNotFound.rawValue else {
      return Self.refuseUnknown(call, name ?? NodeContext.databaseNameDefault)
    }
    call.refuse(.serviceUnavailable, error.message)
  }

  private static func refuseUnknown(_ call: HTTPCall, _ name: String) {
    call.refuse(.notFound, "Namespace `\(name.prefix(64))` doesn't exist")
  }
}

extension CredentialError {
  /// What sqld says.
  var httpMessage: String {
    switch self {
    case .missing: "Unauthorized: `Expected authorization header but none given`"
    case .invalid: "Unauthorized: `The JWT is invalid`"
    case .expired: "Unauthorized: `The JWT has expired`"
    }
  }
}
