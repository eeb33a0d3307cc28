// The databases of a node over HTTP: which there are, and how they are made and removed.
//
//     GET    /v1/databases
//     POST   /v1/databases/NAME         an empty one
//     POST   /v1/databases/NAME/fork/NEW
//     DELETE /v1/databases/NAME
//
// Source: docs/HTTP.md

import NIOCore
import NIOHTTP1
import Store

public enum DatabaseRoutes {
  /// - Parameter verifier: checks clients' credentials; nil when none are asked for.
  public static func all(
    _ databases: OnDemandDatabases, verifier: (any CredentialVerifier)?
  ) -> [HTTPRoute] {
    // These choose no database by the ways of other requests, so the rights to what they name are
    // looked at here.
    func route(
      _ method: HTTPMethod, _ pattern: String,
      _ body: @escaping @Sendable (HTTPCall, AccessRights) throws(RequestError) -> Void
    ) -> HTTPRoute {
      HTTPRoute(method, pattern, needs: nil, opensDatabase: false) { call in
        do throws(CredentialError) {
          let rights = try HTTPCredential.rights(call.headers, verifier)
          do throws(RequestError) { try body(call, rights) } catch { call.refuse(error) }
        } catch {
          call.answer(.unauthorized, json: HTTPErrorBody.json(HTTPErrorBody.unauthorized(error)))
        }
      }
    }
    return [
      route(.GET, "/v1/databases") { call, rights in
        let names = databases.names.filter { rights.level(for: $0) >= .read }
        let list = JSONValue.array(names.map { .string($0) })
        var output = OutputBytes(capacity: 256)
        JSONValue.object([.init("databases", list)]).write(into: &output)
        call.answer(.ok, json: output.string)
      },
      route(.POST, "/v1/databases/:name") { call, rights throws(RequestError) in
        try databases.perform(.create(call.database("name")), call, rights)
      },
      route(.POST, "/v1/databases/:name/fork/:new") { call, rights throws(RequestError) in
        try databases.perform(.fork(call.database("name"), to: call.database("new")), call, rights)
      },
      route(.DELETE, "/v1/databases/:name") { call, rights throws(RequestError) in
        try databases.perform(.drop(call.database("name")), call, rights)
      },
    ]
  }
}

extension OnDemandDatabases {
  fileprivate func perform(
    _ change: DatabaseChange, _ call: HTTPCall, _ rights: AccessRights
  ) throws(RequestError) {
    for name in change.names {
      let level = rights.level(for: name.text)
      guard level == .admin else { throw .denied(level, needs: .admin) }
    }
    let bound = NIOLoopBound(call, eventLoop: call.loop)
    perform(change, on: call.loop) { error in
      if let error {
        bound.value.refuse(error)
      } else {
        bound.value.answer(.ok, json: "{\"ok\":true}")
      }
    }
  }
}

extension HTTPCall {
  fileprivate func database(_ name: String) throws(RequestError) -> DatabaseName {
    try .named(parameters[name] ?? "")
  }

  fileprivate func refuse(_ error: RequestError) {
    let status: HTTPResponseStatus =
      switch ErrorCode(rawValue: error.code) {
      case .badRequest: .badRequest
      case .authDenied, .notAllowed: .forbidden
      case .databaseNotFound: .notFound
      case .databaseExists: .conflict
      case nil where error.code == "SQLITE_BUSY": .conflict
      default: .serviceUnavailable
      }
    var output = OutputBytes(capacity: 256)
    JSONValue.object([
      .init("error", .string(error.message)), .init("code", .string(error.code)),
    ]).write(into: &output)
    answer(status, json: output.string)
  }
}
