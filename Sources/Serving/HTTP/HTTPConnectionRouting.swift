// What a request asks for, who asks, and of which database.
//
// Who presents no credential where one is needed learns nothing, not even whether a database exists.
// Source: docs/HTTP.md

import NIOCore
import NIOHTTP1

/// The target and the route of a request, and all that they depend on.
struct HTTPRouting {
  var method: HTTPMethod
  var path: String
  var host: String?
  var namespace: String?
  var target: HTTPTarget
  var match: HTTPRouter.Match

  func holds(for request: HTTPRequest) -> Bool {
    method == request.method && path == request.path
      && host == request.headers.first(name: "host")
      && namespace == request.headers.first(name: "x-namespace")
  }
}

extension HTTPConnection {
  func start(_ request: HTTPRequest) {
    if request.method == .OPTIONS {
      return respond(.ok, type: "", ByteBuffer(), HTTPHeaders.crossOrigin)
    }
    if let socket = HranaHandshake(request) { return open(socket) }
    let routing = route(request)
    let target = routing.target
    switch routing.match {
    case .unknown: respond(.notFound, type: "", ByteBuffer())
    case .wrongMethod(let methods):
      let allowed = methods.map(\.rawValue).joined(separator: ", ")
      respond(.methodNotAllowed, type: "", ByteBuffer(), ["Allow": allowed])
    case .route(let route, let parameters): admit(request, target, route, parameters)
    }
  }

  /// What a request means, looked up anew only where it differs from the one before.
  private func route(_ request: HTTPRequest) -> HTTPRouting {
    if let lastRouting, lastRouting.holds(for: request) { return lastRouting }
    let target = HTTPTarget(request)
    let routing = HTTPRouting(
      method: request.method, path: request.path, host: request.headers.first(name: "host"),
      namespace: request.headers.first(name: "x-namespace"), target: target,
      match: server.router.route(request.method, target.path))
    lastRouting = routing
    return routing
  }

  private func admit(
    _ request: HTTPRequest, _ target: HTTPTarget, _ route: HTTPRoute, _ parameters: [String: String]
  ) {
    func run(_ lease: DatabaseLease?, _ rights: AccessRights, _ access: AccessLevel) {
      let call = HTTPCall(
        request, path: target.path, lease: lease, rights: rights, access: access,
        connection: self)
      call.parameters = parameters
      answering?.call = call
      route.handler(call)
    }
    guard let needs = route.needs else {
      // Whatever is asked for, it can be told without the database, and strangers do not get one
      // opened.
      guard route.opensDatabase, server.directory.idleMilliseconds == nil else {
        return run(nil, AccessRights(), .none)
      }
      return acquire(target) { run(try? $0.get(), AccessRights(), .none) }
    }
    let rights: AccessRights
    do throws(CredentialError) {
      rights = try HTTPCredential.rights(request.headers, server.verifier)
    } catch {
      return fail(.unauthorized, HTTPErrorBody.unauthorized(error))
    }
    guard route.opensDatabase else {
      let access = rights.anyDatabase
      guard access >= needs else { return fail(.forbidden, HTTPErrorBody.forbidden(access, needs)) }
      return run(nil, rights, access)
    }
    acquire(target) { result in
      switch result {
      case .success(let lease):
        let access = rights.level(for: lease.node.databaseName)
        guard access > .none else { return self.failUnknown(lease.node.databaseName) }
        guard access >= needs else {
          return self.fail(.forbidden, HTTPErrorBody.forbidden(access, needs))
        }
        run(lease, rights, access)
      case .failure(let error) where error.code == ErrorCode.databaseNotFound.rawValue:
        self.failUnknown(target.database ?? NodeContext.databaseNameDefault)
      case .failure(let error): self.fail(.serviceUnavailable, error.message)
      }
    }
  }

  /// Opens the database that a request means; nothing happens when the client is gone by then.
  private func acquire(
    _ target: HTTPTarget, then: @escaping (Result<DatabaseLease, RequestError>) -> Void
  ) {
    let bound = NIOLoopBound((self, then), eventLoop: loop)
    server.directory.acquire(target, on: loop) { result in
      let (connection, then) = bound.value
      if connection.answering != nil { then(result) }
    }
  }

  private func fail(_ status: HTTPResponseStatus, _ message: String) {
    respond(status, type: HTTPType.json, ByteBuffer(string: HTTPErrorBody.json(message)))
  }

  private func failUnknown(_ name: String) {
    fail(.notFound, "Namespace `\(name.prefix(64))` doesn't exist")
  }

  private func open(_ handshake: HranaHandshake) {
    guard let headers = handshake.answer, !isDraining else {
      return respond(.badRequest, type: "", ByteBuffer())
    }
    let (server, loop, connections) = (server, loop, connections)
    upgrade(headers) {
      HranaSocket.handlers(
        server: server, loop: loop, connections: connections, handshake: handshake)
    }
  }
}
