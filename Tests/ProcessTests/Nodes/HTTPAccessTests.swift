// Who may do what over HTTP and WebSocket: each route of both roles, asked by everybody.

import EdgeTesting
import Serving
import Testing

extension NodeTests {
  @Suite struct HTTPAccessTests {
    @Test func rows45and46_eachHTTPRouteAskedByEachBearer() async throws {
      let pair = try await GuardedPair(speaksHTTP: true)
      try pair.ask(AccessRoute.http + AccessRoute.webSocket)
      // Each allowed write was made, and no other one: two bearers, two nodes.
      #expect(
        try pair.primary.connect().integer("SELECT count(*) FROM t")
          == Int64(
            AccessRoute.inserts * 2 * 2))
    }

    /// The routes of a node of many databases. `default` is the one that readers and writers know.
    @Test func rows45and46_eachRouteOfManyDatabases() async throws {
      let directory = try TestDirectory()
      let tokens = try await TestTokens()
      let node = try NodeProcess(
        .primary, in: directory, database: "data",
        arguments: [
          "--data", "--auth-require-exp", "--auth-jwt-key-file", try tokens.keyFile(in: directory),
        ], ships: false, speaksHTTP: true)
      let admin = try tokens.token(.admin)
      for name in ["default", "another", "third"] {
        let route = AccessRoute.http("create", .admin, "POST /v1/databases/\(name)")
        #expect(try route.ask(node, admin) == .done)
      }
      func routes(_ line: String, _ allowed: [Bearer]) -> AccessRoute {
        let path = line.split(separator: " ")[1]
        var route = AccessRoute.http("databases", .admin, line)
        let ask = route.ask
        route.ask = { node, token in
          // What it makes is taken away again, and the other way round.
          let outcome = try ask(node, token)
          guard outcome == .done, path != "/v1/databases" else { return outcome }
          let undo = line.hasPrefix("DELETE") ? "POST \(path)" : "DELETE /v1/databases/new"
          guard try AccessRoute.http("", .admin, undo).ask(node, admin) == .done else {
            return .other("it was not done")
          }
          return outcome
        }
        route.expected = { bearer in
          if bearer.refusal != nil { return AccessOutcome.expected(bearer, needs: .admin) }
          return allowed.contains(bearer) ? .done : .denied
        }
        return route
      }
      try GuardedPair.ask(
        [
          routes("GET /v1/databases", [.otherDatabase, .reader, .writer, .admin]),
          routes("POST /v1/databases/new", [.admin]),
          routes("POST /v1/databases/third/fork/new", [.admin]),
          // Both ends of a copy count.
          routes("POST /v1/databases/another/fork/new", [.admin]),
          routes("DELETE /v1/databases/third", [.admin]),
          routes("DELETE /v1/databases/another", [.admin, .otherDatabase]),
          // The way a database is chosen makes no difference.
          AccessRoute.http("by its path", .read, "GET /dev/default/dump"),
          AccessRoute.http("by its path", .admin, "GET /dev/default/status"),
        ], node, tokens)
      // Each sees what it may read.
      for (bearer, names) in [
        (Bearer.otherDatabase, ["another"]), (.writer, ["default"]),
        (.reader, ["another", "default", "third"]),
      ] {
        let credential = "Authorization: Bearer \(try tokens.token(bearer) ?? "")"
        let answer = try HTTPClient(port: node.httpPort).request(
          "GET", "/v1/databases", headers: [credential])
        #expect(try answer.json["databases"]?.elements.compactMap(\.text) == names, "\(bearer)")
      }
    }

    /// Credentials are written in more than one way, and only in one place.
    @Test func row45_howCredentialsAreShown() async throws {
      let pair = try await GuardedPair(speaksHTTP: true)
      let token = try #require(try pair.tokens.token(.writer))
      let expired = try #require(try pair.tokens.token(.expired))
      let table: [(path: String, headers: [String], status: Int)] = [
        ("/v1/execute", ["authorization: bearer \(token)"], 200),
        ("/v1/execute", ["AUTHORIZATION: BEARER \(token)"], 200),
        ("/v1/execute", ["Authorization: Bearer"], 401),
        ("/v1/execute", ["Authorization: Bearer "], 401),
        ("/v1/execute", ["Authorization: Bearer None"], 401),
        ("/v1/execute", ["Authorization: Basic \(token)"], 401),
        ("/v1/execute", ["Authorization: \(token)"], 401),
        ("/v1/execute", ["Authorization: Bearer \(token) \(token)"], 401),
        ("/v1/execute", ["Authorization: Bearer \(token)x"], 401),
        ("/v1/execute", ["X-Authorization: Bearer \(token)"], 401),
        ("/v1/execute?jwt=\(token)", [], 401),
        // Two of them are no better than the first.
        (
          "/v1/execute", ["Authorization: Bearer \(expired)", "Authorization: Bearer \(token)"], 401
        ),
        ("/v1/execute", ["Cookie: jwt=\(token)"], 401),
      ]
      for node in pair.nodes {
        for (path, headers, status) in table {
          let answer = try HTTPClient(port: node.httpPort).request(
            "POST", path, #"{"stmt":{"sql":"SELECT 1"}}"#, headers: headers)
          #expect(answer.status == status, "\(node.role) \(path) \(headers): \(answer.text)")
        }
      }
    }

    /// The baton of a stream is no credential.
    @Test func row46_batonsGiveNoRights() async throws {
      let pair = try await GuardedPair(speaksHTTP: true)
      let writer = "Authorization: Bearer \(try pair.tokens.token(.writer) ?? "")"
      let insert = #"{"type":"execute","stmt":{"sql":"INSERT INTO t VALUES ('x')"}}"#
      for node in pair.nodes {
        func post(_ baton: String?, _ headers: [String], _ requests: String) throws -> HTTPMessage {
          let name = baton.map { "\"\($0)\"" } ?? "null"
          return try HTTPClient(port: node.httpPort).request(
            "POST", "/v2/pipeline", "{\"baton\":\(name),\"requests\":[\(requests)]}",
            headers: headers)
        }
        let begin = #"{"type":"execute","stmt":{"sql":"BEGIN IMMEDIATE"}}"#
        let begun = try post(nil, [writer], begin)
        let baton = try #require(try begun.json["baton"]?.text)
        for bearer in Bearer.allCases where bearer != .writer && bearer != .admin {
          let shown = try pair.tokens.token(bearer).map { ["Authorization: Bearer \($0)"] } ?? []
          let expected = AccessOutcome.expected(bearer, needs: .write)
          #expect(AccessOutcome(try post(baton, shown, insert)) == expected, "\(bearer)")
        }
        // Nothing of that has cost the writer its stream.
        let rest = #"{"type":"execute","stmt":{"sql":"COMMIT"}},{"type":"close"}"#
        #expect(AccessOutcome(try post(baton, [writer], "\(insert),\(rest)")) == .done)
      }
      #expect(try pair.primary.connect().integer("SELECT count(*) FROM t") == 2)
    }
  }
}
