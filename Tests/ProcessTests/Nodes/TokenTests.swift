// What a read may say about how new its answer must be, and what happens when the node is not that
// new.

import EdgeTesting
import Serving
import Testing

extension NodeTests {
  @Suite struct TokenTests {
    private func makeCluster() throws -> (
      cluster: Cluster, primary: LineConnection, replica: LineConnection
    ) {
      let cluster = try Cluster()
      let primary = try cluster.primary.connect()
      try primary.run("CREATE TABLE t(id INTEGER PRIMARY KEY, n INTEGER)")
      try primary.run("INSERT INTO t VALUES (1, 1)")
      try cluster.settle()
      return (cluster, primary, try cluster.replica.connect())
    }

    @Test func row37_lateReplica() throws {
      let (cluster, primary, _) = try makeCluster()
      cluster.link.pause(.down)
      let token = try primary.run("UPDATE t SET n = 2").token ?? ""
      func read(_ options: (String, JSONValue)...) throws -> LineConnection.Answer {
        try cluster.replica.connect().query(
          "SELECT n FROM t", [], [("token", .string(token))] + options)
      }
      let began = Deadline.now()
      let error = try read(("on_lag", "error"), ("wait_ms", 200))
      #expect(error.error == "TOKEN_TIMEOUT" && error.retry)
      #expect(Deadline.now() - began >= 200_000_000)
      let stale = try read(("on_lag", "stale"), ("wait_ms", 0))
      #expect(stale.integer == 1 && stale.json["stale"] == .bool(true))
      let staleToken = try #require(stale.token)
      #expect(staleToken != token)
      // A waiting read is answered as soon as the link is back.
      let waiting = try cluster.replica.connect()
      try waiting.send(
        LineConnection.line(
          "SELECT n FROM t", [],
          [("token", .string(token)), ("wait_ms", 20_000), ("on_lag", "error")]) + "\n")
      cluster.link.resume()
      #expect(try waiting.receive().integer == 2)
    }

    /// `forward` goes to the primary: the link carries requests although the replica is late.
    @Test func lateReadIsForwarded() throws {
      let (cluster, primary, _) = try makeCluster()
      cluster.replica.suspend()
      let token = try primary.run("UPDATE t SET n = 3").token ?? ""
      let client = try cluster.replica.connect()
      try client.send(
        LineConnection.line("SELECT n FROM t", [], [("token", .string(token)), ("wait_ms", 0)])
          + "\n")
      cluster.replica.resume()
      #expect(try client.receive().integer == 3)
      let answer = try client.query("SELECT n FROM t", [], [("read", "primary")])
      #expect(answer.integer == 3 && answer.token != nil)
    }

    @Test func forwardWithoutALinkFails() throws {
      let (cluster, primary, _) = try makeCluster()
      cluster.link.partition()
      let token = try primary.run("UPDATE t SET n = 2").token ?? ""
      try eventually("the replica to notice") {
        try cluster.replica.report()["upstream"]?["state"]?.text == "connecting"
      }
      let answer = try cluster.replica.connect().query(
        "SELECT n FROM t", [], [("token", .string(token)), ("wait_ms", 50)])
      #expect(answer.error == "PRIMARY_UNAVAILABLE" && answer.retry)
      #expect(
        try cluster.replica.connect().query("SELECT n FROM t", [], [("read", "primary")]).error
          == "PRIMARY_UNAVAILABLE")
      #expect(
        try cluster.replica.connect().query("SELECT n FROM t", [], [("read", "latest")]).error
          == "PRIMARY_UNAVAILABLE")
      #expect(try cluster.replica.connect().integer("SELECT n FROM t") == 1)
      cluster.link.heal()
      try cluster.settle()
    }

    @Test func row51_tokensThatAreNone() throws {
      let (cluster, primary, replica) = try makeCluster()
      let good = try primary.run("SELECT n FROM t").token ?? ""
      let parts = good.split(separator: ".").map(String.init)
      try #require(parts.count >= 4)
      for client in [primary, replica] {
        for text in [
          "", "x", "e1", "e2.\(parts[1]).1.1", "e1.\(parts[1]).1", "e1.zzzzzzzz.1.1",
          "e1.\(parts[1]).1.-1", "e1.\(parts[1]).99999999999999999999.1",
        ] {
          let answer = try client.query("SELECT n FROM t", [], [("token", .string(text))])
          #expect(answer.error == "TOKEN_INVALID", "\(text): \(answer.json)")
        }
        let other = parts[1] == "00000001" ? "00000002" : "00000001"
        #expect(
          try client.query("SELECT n FROM t", [], [("token", .string("e1.\(other).1.1"))]).error
            == "TOKEN_INVALID")
      }
      // The epoch before the first one was never there; one to come is not known to the primary.
      let lost = "e1.\(parts[1]).0.1"
      #expect(
        try primary.query("SELECT n FROM t", [], [("token", .string(lost))]).error == "TOKEN_EPOCH")
      let coming = "e1.\(parts[1]).9.1"
      #expect(
        try primary.query("SELECT n FROM t", [], [("token", .string(coming))]).error
          == "TOKEN_EPOCH")
      let answer = try replica.query(
        "SELECT n FROM t", [], [("token", .string(coming)), ("wait_ms", 100), ("on_lag", "error")])
      #expect(answer.error == "TOKEN_TIMEOUT" || answer.error == "TOKEN_EPOCH")
      _ = cluster
    }

    /// A token of the future ends in a bounded time, and those who wait for it are in nobody's way.
    @Test func row50_futureToken() throws {
      let (cluster, primary, _) = try makeCluster()
      let parts = (try primary.run("SELECT n FROM t").token ?? "").split(separator: ".")
      try #require(parts.count >= 4)
      let future = "\(parts[0]).\(parts[1]).\(parts[2]).999999"
      for node in [cluster.primary, cluster.replica] {
        let waiters = try (0..<150).map { _ in
          let client = try node.connect()
          try client.send(
            LineConnection.line(
              "SELECT n FROM t", [],
              [("token", .string(future)), ("wait_ms", 2000), ("on_lag", "error")]) + "\n")
          return client
        }
        let other = try node.connect()
        for _ in 0..<50 { #expect(try other.integer("SELECT n FROM t") == 1) }
        for waiter in waiters { #expect(try waiter.receive().error == "TOKEN_TIMEOUT") }
      }
    }

    @Test func readModes() throws {
      let (cluster, primary, replica) = try makeCluster()
      for number in 1...50 {
        try primary.run("UPDATE t SET n = ?", [.integer(Int64(number))])
        let fresh = try cluster.replica.connect()
        #expect(
          try fresh.query("SELECT n FROM t", [], [("read", "latest")]).integer == Int64(number))
      }
      #expect(try replica.query("SELECT n FROM t", [], [("read", "primary")]).integer == 50)
      try eventually("contact within a second") {
        try replica.query(
          "SELECT n FROM t", [], [("read", "bounded"), ("max_lag_ms", 10_000), ("on_lag", "error")]
        ).error == nil
      }
      cluster.link.pause()
      elapse(seconds: 0.3)
      let late: [(String, JSONValue)] = [("read", "bounded"), ("max_lag_ms", 100)]
      #expect(
        try replica.query("SELECT n FROM t", [], late + [("on_lag", "error")]).error
          == "TOKEN_TIMEOUT")
      let stale = try replica.query("SELECT n FROM t", [], late + [("on_lag", "stale")])
      #expect(stale.integer == 50 && stale.json["stale"] == .bool(true))
      #expect(try replica.query("SELECT n FROM t", [], [("read", "bounded")]).error == "PROTOCOL")
      cluster.link.resume()
    }
  }
}
