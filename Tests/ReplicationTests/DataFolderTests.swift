// The folder of many databases: which names there can be, and what a crash leaves behind.

import EdgeTesting
import Store
import TestTraits
import Testing

@Suite(.services) struct DataFolderTests {
  @Test(arguments: [
    "a", "0", "-", "_", "--", "a-b_c9", String(repeating: "z", count: 64), "-rf",
  ])
  func goodNames(_ text: String) { #expect(DatabaseName(text)?.text == text) }

  @Test(arguments: [
    "", ".", "..", "../a", "a/b", "/etc/passwd", "a.db", "a.", ".a", "A", "Ä", "ä", "a b", " a",
    "a\n",
    "a\0", "a\0b", "a\\b", "%2e%2e", "..%2f", "a:b", "a*", "a'", "a\"", "a;b", "~",
    "\u{2024}\u{2024}",
    "ａ", "a\u{301}", String(repeating: "z", count: 65), "a-wal/", "\u{ff0f}a",
  ])
  func wrongNames(_ text: String) { #expect(DatabaseName(text) == nil) }

  @Test func onlyDatabasesAreListed() throws {
    let directory = try TestDirectory()
    let path = directory.file("data")
    do { _ = try DataFolder(path: path) }
    let inside = ["a.db", "b-1.db", "a.db-wal", "B.db", "c.db.diverged-1-2", "notes.txt", ".db"]
    for name in inside { try directory.write("data/\(name)", "") }
    try directory.write("outside.db", "")
    #expect(try DataFolder(path: path).names().sorted().map(\.text) == ["a", "b-1"])
  }

  @Test func aFolderHasOneNode() throws {
    let directory = try TestDirectory()
    let first = try DataFolder(path: directory.path)
    #expect(throws: DataFolder.Failure.inUse(directory.path)) {
      try DataFolder(path: directory.path)
    }
    withExtendedLifetime(first) {}
    let file = try directory.write("file", "")
    #expect(throws: DataFolder.Failure.notAFolder(file)) { try DataFolder(path: file) }
  }

  @Test func aDropTakesAllOfOneDatabaseAndNothingElse() throws {
    let directory = try TestDirectory()
    let own = [
      "a.db", "a.db-wal", "a.db-shm", "a.db-pagemap", "a.db-identity", "a.db.diverged-1-2",
    ]
    let others = ["a-b.db", "a-b.db-wal", "aa.db", "b.db", "a.txt"]
    for name in own + others { try directory.write(name, "x") }
    let folder = try DataFolder(path: directory.path)
    try folder.drop(try #require(DatabaseName("a")))
    #expect(
      Files.names(in: directory.path).filter { $0.first != "." } == others.sorted())
    // Again: there is nothing to do.
    try folder.drop(try #require(DatabaseName("a")))
  }

  /// A crash behind each step of a drop, and in a fork.
  @Test(arguments: [
    ["a.dropped", "a.db-wal", "a.db-pagemap", "a.db-identity"], ["a.dropped", "a.db-identity"],
    ["a.dropped"], ["a.forking"],
  ])
  func aStartFinishesWhatWasCutOff(_ left: [String]) throws {
    let directory = try TestDirectory()
    for name in left + ["b.db", "b.db-wal"] { try directory.write(name, "x") }
    let folder = try DataFolder(path: directory.path)
    #expect(Files.names(in: directory.path).filter { $0.first != "." } == ["b.db", "b.db-wal"])
    #expect(folder.names().map(\.text) == ["b"])
  }
}
