// A node does not start when its ports would be open to those who are not meant, and says what is
// missing.

import EdgeTesting
import Serving
import Testing

extension NodeTests {
  @Suite struct OpenAddressTests {
    /// What a node is given, by the names that the cases use.
    private struct Things {
      let directory: TestDirectory
      var flags: [String: [String]] = [:]

      init() async throws {
        directory = try TestDirectory()
        let tokens = try await TestTokens()
        let papers = try TestCertificates(in: directory)
        let secret = try directory.write("secret", "a secret of the nodes alone", mode: 0o600)
        flags["tokens"] = ["--auth-jwt-key-file", try tokens.keyFile(in: directory)]
        flags["secret"] = ["--ship-secret-file", secret]
        flags["TLS"] = try papers.issue().flags
        flags["CA"] = ["--tls-ca", papers.authority]
        flags["insecure"] = ["--insecure"]
      }

      /// The end of a start that must be refused.
      func refusal(
        _ role: String, listen: String, ship: String, _ given: [String]
      ) throws -> String {
        let result = try Program.edgeSQL().run(
          [role, "--db", directory.file("x.db"), "--listen", listen, "--ship", ship]
            + (role == "replica" ? ["--upstream", "127.0.0.1:1"] : [])
            + given.flatMap { flags[$0] ?? [$0] }, deadline: .seconds(20))
        #expect(result.status == .exited(78), "\(given): \(result.status) \(result.error)")
        return result.error
      }
    }

    private static let (open, local) = ("0.0.0.0:0", "127.0.0.1:0")

    @Test func row47_portsThatWouldBeOpenAreRefused() async throws {
      let things = try await Things()
      let (open, local) = (Self.open, Self.local)
      let cases: [(listen: String, ship: String, given: [String], says: [String])] = [
        (open, "off", [], ["--auth-jwt-key-file", "--tls-cert", "--insecure"]),
        (open, "off", ["tokens"], ["--tls-cert", "--insecure"]),
        (open, "off", ["TLS"], ["--auth-jwt-key-file", "--insecure"]),
        (local, open, [], ["--ship-secret-file", "--tls-ca", "--insecure"]),
        (local, open, ["TLS"], ["--ship-secret-file", "--tls-ca", "--insecure"]),
        // Tokens for clients, and a back door beside them: never, and not with --insecure either.
        (local, local, ["tokens"], ["--ship-secret-file", "--ship off"]),
        (local, local, ["tokens", "TLS"], ["--ship-secret-file", "--ship off"]),
        (local, local, ["tokens", "insecure"], ["--ship-secret-file", "--ship off"]),
      ]
      for role in ["primary", "replica"] {
        for (listen, ship, given, says) in cases {
          let text = try things.refusal(role, listen: listen, ship: ship, given)
          for word in says { #expect(text.contains(word), "\(role), \(given): \(text)") }
        }
      }
      #expect(!Files.exists(things.directory.file("x.db")))
    }

    @Test func whatIsEnoughIsEnough() async throws {
      let things = try await Things()
      let cases: [(host: String, given: [String])] = [
        ("127.0.0.1", []), ("127.0.0.1", ["tokens", "secret"]),
        ("127.0.0.1", ["tokens", "TLS", "CA"]), ("0.0.0.0", ["tokens", "TLS", "CA"]),
        ("0.0.0.0", ["tokens", "TLS", "secret"]), ("0.0.0.0", ["insecure"]),
        ("0.0.0.0", ["secret", "insecure"]),
      ]
      for (host, given) in cases {
        let node = try NodeProcess(
          .primary, in: things.directory, database: "p.db",
          arguments: given.flatMap { things.flags[$0] ?? [] }, host: host)
        try node.terminate()
      }
    }

    @Test func keysAndCertificatesThatAreNone() async throws {
      let things = try await Things()
      let directory = things.directory
      let open = try directory.write("open.key", Files.text(directory.file("node.key")))
      let certificate = directory.file("node.pem")
      let cases: [([String], String)] = [
        (["--auth-jwt-key-file", directory.file("missing")], "missing"),
        (["--auth-jwt-key-file", directory.file("node.key")], "private key"),
        (["--auth-jwt-key-file", certificate], "CERTIFICATE"),
        (["--auth-require-exp"], "--auth-jwt-key-file"),
        (["--tls-cert", certificate], "--tls-key"),
        (["--tls-key", directory.file("node.key")], "--tls-cert"),
        (["--tls-cert", certificate, "--tls-key", open], "chmod 600"),
        (["--tls-cert", certificate, "--tls-key", directory.file("ca.key")], "together"),
        (["--tls-cert", directory.file("node.key"), "--tls-key", certificate], "no certificate"),
        (["--tls-ca", directory.file("secret")], "no certificate"),
      ]
      for (given, says) in cases {
        let text = try things.refusal("primary", listen: Self.local, ship: "off", given)
        #expect(text.contains(says), "\(given): \(text)")
      }
      #expect(!Files.exists(directory.file("x.db")))
    }
  }
}
