// A disk that is full, on either side: writes fail by name, what is acknowledged stays, nobody
// dies, and all goes on by itself once there is space. Rows 7 and 8 of the fault matrix.
//
// The disks are small file systems in memory, which only root can mount; elsewhere these tests say
// that they were skipped.

import EdgeTesting
import Glibc
import Serving
import Store
import Testing

/// A file system of its own, of a few megabytes.
private final class SmallDisk {
  let path: String

  /// - Returns: nil when this user may not mount.
  init?(megabytes: Int, in directory: TestDirectory) throws {
    path = directory.file("disk")
    mkdir(path, 0o755)
    guard geteuid() == 0, mount("tmpfs", path, "tmpfs", 0, "size=\(megabytes)m") == 0 else {
      print("skipped: a small file system needs root and CAP_SYS_ADMIN")
      return nil
    }
  }

  deinit { umount2(path, Int32(MNT_DETACH)) }

  /// Takes all the space there is, up to `spare` bytes.
  func fill(spare: Int) throws {
    var info = statvfs()
    guard statvfs(path, &info) == 0 else { throw TestFailure("no statvfs") }
    let free = Int(info.f_bavail) * Int(info.f_frsize)
    let descriptor = open(path + "/ballast", O_CREAT | O_WRONLY | O_CLOEXEC, 0o644)
    defer { close(descriptor) }
    guard posix_fallocate(descriptor, 0, off_t(max(4096, free - spare))) == 0 else {
      throw TestFailure("the disk could not be filled")
    }
  }

  func free() { unlink(path + "/ballast") }
}

extension NodeTests {
  @Suite struct FullDiskTests {
    private func insert(_ node: NodeProcess, _ id: Int) throws -> String? {
      try node.connect().query(
        "INSERT INTO log(id, body) VALUES (\(id), hex(randomblob(20000)))"
      ).error
    }

    @Test func row07_fullDiskOfThePrimary() throws {
      let directory = try TestDirectory()
      guard let disk = try SmallDisk(megabytes: 24, in: directory) else { return }
      let primary = try NodeProcess(.primary, in: directory, database: disk.path + "/p.db")
      let replica = try NodeProcess(
        .replica, in: directory, database: "r.db",
        arguments: ["--upstream", "127.0.0.1:\(primary.shipPort)"], ships: false)
      defer {
        primary.kill()
        replica.kill()
      }
      try primary.connect().run(WriteLoad.schema)
      var acknowledged: [Int] = []
      for id in 0..<20 where try insert(primary, id) == nil { acknowledged.append(id) }
      #expect(acknowledged.count == 20)
      try disk.fill(spare: 200_000)
      var refused: [String] = []
      for id in 100..<140 {
        if let error = try insert(primary, id) {
          refused.append(error)
        } else {
          acknowledged.append(id)
        }
      }
      #expect(!refused.isEmpty, "the disk was never full")
      #expect(primary.isRunning)
      // Reads go on, and what was acknowledged is there.
      #expect(try primary.connect().integer("SELECT count(*) FROM log") == acknowledged.count)
      disk.free()
      try eventually("writes work again") { try insert(primary, 1000) == nil }
      acknowledged.append(1000)
      try eventually("the replica follows") { try replica.txid() == primary.txid() }
      try samePages(primary.database, replica.database)
      let ids = try primary.connect().run("SELECT id FROM log ORDER BY seq").rows
      #expect(ids.compactMap { $0.first?.integer }.map(Int.init) == acknowledged)
    }

    @Test func row08_fullDiskOfAReplica() throws {
      let directory = try TestDirectory()
      guard let disk = try SmallDisk(megabytes: 24, in: directory) else { return }
      let primary = try NodeProcess(.primary, in: directory, database: "p.db")
      let replica = try NodeProcess(
        .replica, in: directory, database: disk.path + "/r.db",
        arguments: ["--upstream", "127.0.0.1:\(primary.shipPort)"], ships: false)
      defer {
        primary.kill()
        replica.kill()
      }
      try primary.connect().run(WriteLoad.schema)
      for id in 0..<20 { #expect(try insert(primary, id) == nil) }
      try eventually("the replica follows") { try replica.txid() == primary.txid() }
      try disk.fill(spare: 200_000)
      for id in 100..<140 { #expect(try insert(primary, id) == nil) }
      try eventually("the replica says what is wrong") {
        try replica.status("upstream", "last_error")?.text?.contains("space") == true
      }
      // It serves the state that it has, whole.
      let rows = try replica.connect().integer("SELECT count(*) FROM log")
      #expect(rows >= 20 && rows < 60)
      #expect(replica.isRunning)
      disk.free()
      try eventually("the replica follows") { try replica.txid() == primary.txid() }
      try samePages(primary.database, replica.database)
    }

    /// A replica whose first copy does not fit says so, and completes it when it does.
    @Test func row08_firstCopyThatDoesNotFit() throws {
      let directory = try TestDirectory()
      guard let disk = try SmallDisk(megabytes: 24, in: directory) else { return }
      try Ballast.make(directory.file("p.db"), rows: 2000)
      let primary = try NodeProcess(.primary, in: directory, database: "p.db")
      try disk.fill(spare: 4_000_000)
      let replica = try NodeProcess(
        .replica, in: directory, database: disk.path + "/r.db",
        arguments: ["--upstream", "127.0.0.1:\(primary.shipPort)"], ships: false, waits: false)
      defer {
        primary.kill()
        replica.kill()
      }
      try eventually("the replica says what is wrong") { replica.errorText.contains("space") }
      disk.free()
      try replica.waitUntilReady()
      try eventually("the replica follows") { try replica.txid() == primary.txid() }
      try samePages(primary.database, replica.database)
    }
  }
}
