// Every flag with a bad value: one sentence on standard error, the right exit code, and no file
// made.

import EdgeTesting
import Glibc
import Testing

extension NodeTests {
  @Suite struct BadFlagTests {
    private func check(
      _ arguments: [String], _ code: Int32, says words: String..., in directory: TestDirectory,
      environment: [String: String] = [:], sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
      let result = try Program.edgeSQL().run(
        arguments, directory: directory.path, environment: environment, deadline: .seconds(20))
      let what = "\(arguments): \(result.status)\n\(result.error)"
      #expect(result.status == .exited(code), "\(what)", sourceLocation: sourceLocation)
      for word in words {
        #expect(result.error.contains(word), "\(what)", sourceLocation: sourceLocation)
      }
      #expect(result.output.isEmpty, "\(what)", sourceLocation: sourceLocation)
      // A sentence and perhaps a hint, without a trace of the program's insides.
      let lines = result.error.split(separator: "\n")
      #expect((1...6).contains(lines.count), "\(what)", sourceLocation: sourceLocation)
      #expect(!result.error.contains("Error("), "\(what)", sourceLocation: sourceLocation)
    }

    @Test func flagsOfNodes() throws {
      let directory = try TestDirectory()
      let bad: [(flag: String, values: [String])] = [
        (
          "--listen",
          [
            "", "nonsense", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536",
            "127.0.0.1:-1", "http://a:1", "::1:7380", "[::1", "7380",
          ]
        ),
        ("--ship", ["nowhere", "1.2.3.4:99999", ":x"]),
        ("--name", ["", "two words", String(repeating: "n", count: 65)]),
        ("--db", [""]),
        ("--checkpoint-frames", ["0", "-1", "many", "99999999999", "1.5"]),
        ("--log-level", ["loud", ""]),
        ("--log-format", ["xml"]),
      ]
      for (flag, values) in bad {
        for value in values {
          // An empty value can only be given as an argument of its own, a negative number only
          // behind `=`.
          let given = value.isEmpty ? [flag, value] : ["\(flag)=\(value)"]
          try check(["primary"] + given, 78, says: flag, in: directory)
          try check(
            ["replica", "--upstream", "127.0.0.1:1"] + given, 78, says: flag, in: directory)
        }
      }
      #expect(Files.names(in: directory.path) == [])
    }

    @Test func upstreamFlag() throws {
      let directory = try TestDirectory()
      try check(["replica"], 78, says: "upstream", "--upstream", in: directory)
      for value in ["off", "127.0.0.1", "127.0.0.1:0", "a:1,", ",", "a b:1", "127.0.0.1:70000"] {
        try check(["replica", "--upstream=\(value)"], 78, says: "--upstream", in: directory)
      }
      try check(["replica", "--upstream", ""], 78, says: "--upstream", in: directory)
      #expect(Files.names(in: directory.path) == [])
    }

    @Test func flagsThatAreNone() throws {
      let directory = try TestDirectory()
      try check(["primary", "--lisen", "x"], 64, says: "--lisen", in: directory)
      try check(["primary", "extra"], 64, says: "extra", in: directory)
      try check(["primary", "--db"], 64, says: "--db", in: directory)
      try check(["replicate"], 64, says: "replicate", in: directory)
      try check(["query"], 64, in: directory)
      try check(["verify"], 64, in: directory)
      try check(["verify", "a", "b", "c"], 64, in: directory)
      try check(["status", "--max-lag", "1s"], 64, says: "--check", in: directory)
      try check(["bench", "lag"], 64, in: directory)
      try check(["inspect", "token", "nonsense"], 65, says: "nonsense", in: directory)
    }

    @Test func environmentAndFile() throws {
      let directory = try TestDirectory()
      try check(
        ["primary"], 78, says: "EDGE_SQL_LISTEN", in: directory,
        environment: ["EDGE_SQL_LISTEN": "nonsense"])
      let unknown = try directory.write("unknown.json", #"{"lisen":"127.0.0.1:0"}"#)
      try check(["primary", "--config", unknown], 78, says: "lisen", unknown, in: directory)
      let broken = try directory.write("broken.json", #"{"listen":"#)
      try check(["primary", "--config", broken], 78, says: broken, in: directory)
      let wrong = try directory.write("wrong.json", #"{"listen":true}"#)
      try check(["primary", "--config", wrong], 78, says: wrong, in: directory)
      let missing = directory.file("missing.json")
      let result = try Program.edgeSQL().run(
        ["primary", "--config", missing], directory: directory.path)
      #expect(
        !result.succeeded && result.error.contains(missing), "\(result.status) \(result.error)")
      #expect(!Files.exists(directory.file("edge.db")))
    }

    @Test func clientsWithoutANode() throws {
      let directory = try TestDirectory()
      let (listener, port) = try freePort()
      close(listener)
      for arguments in [
        ["query", "127.0.0.1:\(port)", "SELECT 1"], ["status", "127.0.0.1:\(port)"],
      ] {
        try check(arguments, 69, says: "\(port)", in: directory)
      }
      try check(
        ["query", "http://localhost", "SELECT 1"], 64, says: "http://localhost", in: directory)
      try check(["verify", directory.file("missing.db")], 69, says: "missing.db", in: directory)
    }

    @Test func portInUse() throws {
      let directory = try TestDirectory()
      let (listener, port) = try freePort()
      defer { close(listener) }
      let used = "127.0.0.1:\(port)"
      for flag in Self.listeners {
        try check(
          Self.node("primary", "x.db", flag, used), 69, says: "\(port)", "in use", in: directory)
      }
      // It can be started right after.
      _ = try NodeProcess(.primary, in: directory, database: "x.db")
    }

    /// A replica that cannot listen ends: with a file at once, without one after its first copy.
    @Test func portInUseAtAReplica() throws {
      let directory = try TestDirectory()
      let primary = try NodeProcess(.primary, in: directory, database: "x.db")
      let (listener, port) = try freePort()
      defer { close(listener) }
      for (number, flag) in Self.listeners.enumerated() {
        let copy = "copy\(number).db"
        let arguments =
          Self.node("replica", copy, flag, "127.0.0.1:\(port)")
          + ["--upstream", "127.0.0.1:\(primary.shipPort)"]
        for _ in 0..<2 {
          let result = try Program.edgeSQL().run(
            arguments, directory: directory.path, deadline: .seconds(20))
          #expect(result.status == .exited(69), "\(result.status) \(result.error)")
          #expect(result.output.isEmpty)
          #expect(result.error.contains("cannot listen on 127.0.0.1:\(port)"), "\(result.error)")
        }
        let replica = try NodeProcess(
          .replica, in: directory, database: copy,
          arguments: ["--upstream", "127.0.0.1:\(primary.shipPort)"])
        let ended = try replica.terminate()
        #expect(ended == .exited(0), "\(ended) \(replica.errorText)")
      }
    }

    private static let listeners = ["--listen", "--http", "--ship"]

    private static func node(
      _ role: String, _ database: String, _ flag: String, _ address: String
    ) -> [String] {
      [role, "--db", database, "--log-level", "critical"]
        + listeners.flatMap { [$0, $0 == flag ? address : "127.0.0.1:0"] }
    }

    private func freePort() throws -> (Int32, Int) { try LoopbackListener.open() }
  }
}
