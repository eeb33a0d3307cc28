// TLS between nodes and towards clients: who is not who he should be gets nothing, the reason is in
// the log, and nobody ever falls back to plain text.

import Access
import EdgeTesting
import Glibc
import Serving
import Testing

extension NodeTests {
  @Suite struct TLSTests {
    /// Two authorities, and what they signed.
    private struct Papers {
      let directory: TestDirectory
      let ours: TestCertificates
      let theirs: TestCertificates
      let node: TestCertificates.Pair

      init() throws {
        directory = try TestDirectory()
        ours = try TestCertificates(in: directory)
        theirs = try TestCertificates(in: directory, name: "other")
        node = try ours.issue()
      }

      /// A primary that wants certificates from its followers.
      func primary(_ pair: TestCertificates.Pair? = nil) throws -> NodeProcess {
        let node = try NodeProcess(
          .primary, in: directory, database: "p.db",
          arguments: (pair ?? self.node).flags + ["--tls-ca", ours.authority])
        node.transport = try ours.client()
        return node
      }
    }

    @Test func everythingWorksThroughTLS() throws {
      let papers = try Papers()
      let primary = try papers.primary()
      let replica = try NodeProcess(
        .replica, in: papers.directory, database: "r.db",
        arguments: ["--upstream", "localhost:\(primary.shipPort)"] + papers.node.flags
          + ["--tls-ca", papers.ours.authority])
      replica.transport = primary.transport
      let client = try replica.connect()
      try client.run("CREATE TABLE t(a, b)")
      // Longer than any buffer on the way.
      let text = String(repeating: "0123456789abcdef", count: 40_000)
      for number in 0..<8 {
        try client.run("INSERT INTO t VALUES (?, ?)", [.integer(Int64(number)), .string(text)])
      }
      #expect(try client.integer("SELECT sum(length(b)) FROM t") == 8 * Int64(text.utf8.count))
      let rows = try client.run("SELECT b FROM t").rows
      #expect(rows.count == 8 && rows.allSatisfy { $0.first?.text == text })
      // Half a connection is enough for the answers.
      let bound = try replica.connect()
      try bound.send("SELECT 1\nSELECT 2\n")
      #expect(try bound.receive().integer == 1 && bound.receive().integer == 2)
    }

    /// The link with many databases as well: who has no certificate of ours gets nothing.
    @Test func manyDatabasesThroughTLS() throws {
      let papers = try Papers()
      let primary = try NodeProcess(
        .primary, in: papers.directory, database: "many",
        arguments: ["--data"] + papers.node.flags + ["--tls-ca", papers.ours.authority])
      primary.transport = try papers.ours.client()
      let client = try primary.connect()
      #expect(try client.request(".db create a").error == nil)
      try client.run("CREATE TABLE t(v)", [], [("db", "a")])
      func replica(_ name: String, _ pair: TestCertificates.Pair, _ authority: String) throws
        -> NodeProcess
      {
        try NodeProcess(
          .replica, in: papers.directory, database: name,
          arguments: ["--data", "--upstream", "localhost:\(primary.shipPort)"] + pair.flags
            + ["--tls-ca", authority], ships: false)
      }
      let ours = try replica("ours", papers.node, papers.ours.authority)
      ours.transport = primary.transport
      let reader = try ours.connect()
      try eventually("the database is there") {
        try reader.query("INSERT INTO t VALUES (1)", [], [("db", "a")]).error == nil
      }
      #expect(try reader.run("SELECT count(*) FROM t", [], [("db", "a")]).integer == 1)
      let strange = try replica("theirs", try papers.theirs.issue(), papers.ours.authority)
      try eventually("it says why: \(strange.errorText)") {
        strange.errorText.contains("the upstream is away")
      }
      #expect(Files.names(in: strange.database).filter { $0.hasSuffix(".db") }.isEmpty)
    }

    /// Each with what the log of the replica says.
    @Test func row49_followersWithTheWrongPapers() throws {
      let papers = try Papers()
      let stranger = try papers.theirs.issue("stranger")
      let old = try papers.ours.issue("old", days: -1)
      let ours = ["--tls-ca", papers.ours.authority]
      let primary = try papers.primary()
      try primary.connect().run("CREATE TABLE t(a)")
      let cases: [(String, [String], replica: String, primary: String)] = [
        (
          "another authority", papers.node.flags + ["--tls-ca", papers.theirs.authority],
          "authority", "does not know the authority of our certificate"
        ),
        ("a certificate of another authority", stranger.flags + ours, "TLS", "authority"),
        ("an expired certificate", old.flags + ours, "expired", "expired"),
        ("no certificate", ours, "wants a certificate", "showed no certificate"),
        ("no TLS", [], "does it want TLS", "does not speak TLS"),
      ]
      for (number, (name, flags, replicaSays, primarySays)) in cases.enumerated() {
        let replica = try NodeProcess(
          .replica, in: papers.directory, database: "r\(number).db",
          arguments: ["--upstream", "localhost:\(primary.shipPort)"] + flags, ships: false,
          waits: false)
        try eventually("\(name): \(replica.errorText)\n\(primary.errorText)") {
          replica.errorText.contains(replicaSays) && primary.errorText.contains(primarySays)
        }
        #expect(!Files.exists(replica.database), "\(name)")
        #expect(replica.isRunning)
      }
      #expect(try primary.connect().integer("SELECT count(*) FROM t") == 0)
    }

    @Test func row49_primariesWithTheWrongPapers() throws {
      let papers = try Papers()
      let cases: [(String, TestCertificates.Pair, says: String)] = [
        ("another name", try papers.ours.issue("named", names: "DNS:elsewhere"), "another name"),
        ("expired", try papers.ours.issue("old", days: -1), "expired"),
        ("another authority", try papers.theirs.issue("stranger"), "authority"),
      ]
      for (number, (name, pair, says)) in cases.enumerated() {
        let primary = try papers.primary(pair)
        let replica = try NodeProcess(
          .replica, in: papers.directory, database: "r\(number).db",
          arguments: ["--upstream", "localhost:\(primary.shipPort)"] + papers.node.flags
            + ["--tls-ca", papers.ours.authority], ships: false, waits: false)
        try eventually("\(name): \(replica.errorText)") { replica.errorText.contains(says) }
        #expect(!Files.exists(replica.database), "\(name)")
        #expect(throws: TLSFailure.self, "\(name)") { try primary.connect() }
        try primary.terminate()
      }
    }

    /// A node with TLS follows nobody without.
    @Test func row49_noNodeFallsBackToPlainText() throws {
      let papers = try Papers()
      let primary = try NodeProcess(.primary, in: papers.directory, database: "p.db")
      let replica = try NodeProcess(
        .replica, in: papers.directory, database: "r.db",
        arguments: ["--upstream", "localhost:\(primary.shipPort)"] + papers.node.flags
          + ["--tls-ca", papers.ours.authority], ships: false, waits: false)
      try eventually("the reason") { replica.errorText.contains("TLS") }
      #expect(!Files.exists(replica.database))
    }

    @Test func row49_clientsThatAreNotMeant() throws {
      let papers = try Papers()
      let primary = try papers.primary()
      // Plain text: nothing is answered, and nothing is done.
      let plain = try LineConnection(port: primary.listenPort)
      try plain.send("CREATE TABLE t(a)\nSELECT 1\n")
      let answer = try? plain.readLine()
      #expect(answer == .some(.none) || answer == nil)
      primary.transport = try papers.theirs.client()
      #expect(throws: TLSFailure.self) { try primary.connect() }
      primary.transport = try papers.ours.client()
      #expect(try primary.connect().integer("SELECT count(*) FROM sqlite_schema") == 0)
      // TLS where none is spoken.
      let other = try NodeProcess(.primary, in: papers.directory, database: "q.db")
      other.transport = try papers.ours.client()
      #expect(throws: TLSFailure.self) { try other.connect() }
      // Handshakes that never end cost nobody else anything.
      let silent = try (0..<20).map { _ in try LineConnection(port: primary.listenPort) }
      #expect(try primary.connect().integer("SELECT 1") == 1)
      _ = silent
    }

    @Test func certificatesAreReadAgain() throws {
      let papers = try Papers()
      let primary = try papers.primary()
      let client = try primary.connect()
      #expect(try client.integer("SELECT 1") == 1)
      let other = try papers.theirs.issue("next")
      try papers.directory.write("node.pem", Files.read(other.certificate))
      try papers.directory.write("node.key", Files.read(other.key), mode: 0o600)
      primary.signal(SIGHUP)
      primary.transport = try papers.theirs.client()
      try eventually("the new certificate") { (try? primary.connect()) != nil }
      #expect(try client.integer("SELECT 2") == 2, "connections stay")
      primary.transport = try papers.ours.client()
      #expect(throws: TLSFailure.self) { try primary.connect() }
      // Half of a pair is no pair.
      try papers.directory.write("node.pem", Files.read(papers.ours.authority))
      primary.signal(SIGHUP)
      try eventually("the complaint") { primary.errorText.contains("stay as they were") }
      primary.transport = try papers.theirs.client()
      #expect(try primary.connect().integer("SELECT 3") == 3)
    }
  }
}
