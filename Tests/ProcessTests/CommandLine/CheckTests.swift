// The judgements of `status --check` and `doctor`.

import Serving
import Testing

@testable import edge_sql

@Suite struct CheckTests {
  private func problems(_ status: String, maxLag: Int? = nil) throws -> [String] {
    StatusCheck.problems(of: try JSONValue.parse(status), maxLagMilliseconds: maxLag)
  }

  @Test func replicaMustStreamAndBeNear() throws {
    let good = #"{"role":"replica","upstream":{"state":"streaming","lag_ms":5,"contact_ms":20}}"#
    #expect(try problems(good).isEmpty)
    #expect(try problems(good, maxLag: 20).isEmpty)
    #expect(try problems(good, maxLag: 19).count == 1)
    #expect(try problems(good, maxLag: 4).count == 2)
    #expect(try problems(#"{"role":"replica","upstream":{"state":"connecting"}}"#).count == 1)
    #expect(try problems(#"{"role":"replica","upstream":null}"#).count == 1)
  }

  @Test func valueThatIsNotToldIsNotMet() throws {
    let status = #"{"role":"replica","upstream":{"state":"streaming","lag_ms":null}}"#
    #expect(try problems(status).isEmpty)
    #expect(try problems(status, maxLag: 1000).count == 2)
    #expect(try problems("{}").count == 1)
  }

  @Test func primaryIsJudgedByItsReplicas() throws {
    #expect(try problems(#"{"role":"primary","replicas":[]}"#, maxLag: 1).isEmpty)
    let status = #"""
      {"role":"primary","replicas":[{"name":"a","state":"streaming","lag_ms":9,"contact_ms":1},
       {"name":"b","state":"bootstrapping"}]}
      """#
    #expect(try problems(status, maxLag: 5).map { $0.prefix(9) } == ["replica a", "replica b"])
  }

  @Test func statusWithoutKeysIsDrawn() throws {
    for text in ["{}", #"{"role":"primary","upstream":{},"replicas":[{}],"wal":{}}"#] {
      _ = StatusReport(status: try JSONValue.parse(text)).text()
    }
  }

  @Test(arguments: [
    ("3.6.23", false), ("3.7.0", true), ("3.40.1", true), ("3.44.5", true), ("3.44.6", false),
    ("3.50.6", true), ("3.50.7", false), ("3.51.2", true), ("3.51.3", false), ("3.52.0", false),
  ])
  func versionsWithTheWALResetBugAreKnown(_ text: String, _ hasBug: Bool) throws {
    #expect(try #require(SQLiteVersion(text)).hasWALResetBug == hasBug)
  }

  @Test func longestMountWins() {
    let table = MountTable(
      text: """
        /dev/a / ext4 rw 0 0
        host /data nfs4 rw,noatime 0 0
        tmp /data/my\\040files tmpfs ro 0 0
        """)
    #expect(table.mount(containing: "/database")?.kind == "ext4")
    #expect(table.mount(containing: "/data/x")?.kind == "nfs4")
    #expect(table.mount(containing: "/data/my files/x")?.options == ["ro"])
  }
}
