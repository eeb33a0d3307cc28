// SQLite's way to the simulated disks: a VFS in front of the system's own, which asks the disk of a
// file before each call. Locks and shared memory are the system's.
// Source: https://www.sqlite.org/vfs.html

import CSQLite
import Glibc
import Store

/// Registers itself as the default, once for a process.
enum SimulatedVFS {
  /// Which disk a path lies on; nil for files that are not simulated.
  nonisolated(unsafe) static var diskOf: (String) -> SimulatedDisk? = { _ in nil }  // one thread
  /// SQLite's random numbers, such as the salts of a WAL.
  nonisolated(unsafe) static var random: () -> UInt64 = { 0 }  // one thread

  fileprivate typealias System = UnsafeMutablePointer<sqlite3_vfs>
  fileprivate nonisolated(unsafe) static var system: System!  // one thread
  fileprivate typealias Methods = UnsafeMutablePointer<sqlite3_io_methods>
  fileprivate nonisolated(unsafe) static var methods: Methods!  // one thread

  /// What stands in front of the system's file.
  fileprivate struct Head {
    var base: sqlite3_file
    var owner: Unmanaged<Owner>?
  }
  fileprivate static let headBytes = (MemoryLayout<Head>.stride + 15) / 16 * 16

  fileprivate final class Owner {
    let disk: SimulatedDisk
    let path: String
    /// Its first sync makes its name durable as well: SQLite sees to that for logs and journals.
    var syncsName: Bool
    init(disk: SimulatedDisk, path: String, syncsName: Bool) {
      self.disk = disk
      self.path = path
      self.syncsName = syncsName
    }
  }

  static func register() {
    guard system == nil, let found = sqlite3_vfs_find(nil) else { return }
    system = found
    methods = makeMethods()
    let vfs = UnsafeMutablePointer<sqlite3_vfs>.allocate(capacity: 1)
    vfs.initialize(to: found.pointee)
    vfs.pointee.pNext = nil
    vfs.pointee.zName = UnsafePointer(strdup("simulated"))
    vfs.pointee.szOsFile = Int32(headBytes) + found.pointee.szOsFile
    vfs.pointee.xOpen = openFile
    vfs.pointee.xDelete = deleteFile
    vfs.pointee.xRandomness = fillWithChance
    vfs.pointee.xSleep = { _, microseconds in
      pauseThread(microseconds: Int(microseconds))
      return microseconds
    }
    sqlite3_vfs_register(vfs, 1)
  }

  /// Lets SQLite draw its random numbers anew.
  static func reseed() { sqlite3_randomness(0, nil) }

  fileprivate static func real(
    _ file: UnsafeMutablePointer<sqlite3_file>?
  ) -> UnsafeMutablePointer<sqlite3_file> {
    (UnsafeMutableRawPointer(file!) + headBytes).assumingMemoryBound(to: sqlite3_file.self)
  }

  fileprivate static func head(
    _ file: UnsafeMutablePointer<sqlite3_file>?
  ) -> UnsafeMutablePointer<Head> {
    UnsafeMutableRawPointer(file!).assumingMemoryBound(to: Head.self)
  }

  /// Asks the disk. Returns an SQLite code when the call is to fail.
  fileprivate static func ask(
    _ call: DiskCall, _ file: UnsafeMutablePointer<sqlite3_file>?, _ failure: Int32
  ) -> Int32 {
    guard let owner = head(file).pointee.owner?.takeUnretainedValue() else { return SQLITE_OK }
    let number = owner.disk.call(call, owner.path)
    guard number != 0 else { return SQLITE_OK }
    // As on real disks: a sync or a truncation that fails is never told as a lack of space.
    return number == ENOSPC && call == .write ? SQLITE_FULL : failure
  }
}

private func openFile(
  _ vfs: UnsafeMutablePointer<sqlite3_vfs>?, _ name: sqlite3_filename?,
  _ file: UnsafeMutablePointer<sqlite3_file>?, _ flags: Int32,
  _ outFlags: UnsafeMutablePointer<Int32>?
) -> Int32 {
  let head = SimulatedVFS.head(file)
  head.initialize(to: SimulatedVFS.Head(base: sqlite3_file(pMethods: nil), owner: nil))
  let path = name.map { String(cString: $0) }
  let disk = path.flatMap(SimulatedVFS.diskOf)
  let isNew = path.map { !Disk.exists($0) } ?? true
  if let disk, let path, disk.call(.open, path) != 0 { return SQLITE_CANTOPEN }
  let real = SimulatedVFS.real(file)
  let code = SimulatedVFS.system.pointee.xOpen(SimulatedVFS.system, name, real, flags, outFlags)
  guard code == SQLITE_OK else { return code }
  head.pointee.base.pMethods = UnsafePointer(SimulatedVFS.methods)
  if let disk, let path {
    let logs = SQLITE_OPEN_WAL | SQLITE_OPEN_MAIN_JOURNAL
    let owner = SimulatedVFS.Owner(
      disk: disk, path: path, syncsName: isNew && flags & logs != 0)
    head.pointee.owner = Unmanaged.passRetained(owner)
  }
  return SQLITE_OK
}

private func deleteFile(
  _ vfs: UnsafeMutablePointer<sqlite3_vfs>?, _ name: UnsafePointer<CChar>?, _ syncsFolder: Int32
) -> Int32 {
  let path = name.map { String(cString: $0) } ?? ""
  let disk = SimulatedVFS.diskOf(path)
  if let disk, disk.call(.name, path) != 0 { return SQLITE_IOERR | 10 << 8 }
  let code = SimulatedVFS.system.pointee.xDelete(SimulatedVFS.system, name, syncsFolder)
  if syncsFolder != 0 { disk?.noteFolderSync() }
  return code
}

private func fillWithChance(
  _ vfs: UnsafeMutablePointer<sqlite3_vfs>?, _ count: Int32, _ bytes: UnsafeMutablePointer<CChar>?
) -> Int32 {
  for index in 0..<Int(count) { bytes?[index] = CChar(truncatingIfNeeded: SimulatedVFS.random()) }
  return count
}

private func makeMethods() -> UnsafeMutablePointer<sqlite3_io_methods> {
  let methods = UnsafeMutablePointer<sqlite3_io_methods>.allocate(capacity: 1)
  var table = sqlite3_io_methods()
  table.iVersion = 2
  table.xClose = { file in
    let real = SimulatedVFS.real(file)
    let code = real.pointee.pMethods.pointee.xClose(real)
    SimulatedVFS.head(file).pointee.owner?.release()
    SimulatedVFS.head(file).pointee.owner = nil
    return code
  }
  table.xRead = { file, bytes, count, offset in
    let code = SimulatedVFS.ask(.read, file, SQLITE_IOERR | 1 << 8)
    guard code == SQLITE_OK else { return code }
    let real = SimulatedVFS.real(file)
    return real.pointee.pMethods.pointee.xRead(real, bytes, count, offset)
  }
  table.xWrite = { file, bytes, count, offset in
    let code = SimulatedVFS.ask(.write, file, SQLITE_IOERR | 3 << 8)
    guard code == SQLITE_OK else { return code }
    let real = SimulatedVFS.real(file)
    return real.pointee.pMethods.pointee.xWrite(real, bytes, count, offset)
  }
  table.xTruncate = { file, size in
    let code = SimulatedVFS.ask(.truncate, file, SQLITE_IOERR | 6 << 8)
    guard code == SQLITE_OK else { return code }
    let real = SimulatedVFS.real(file)
    return real.pointee.pMethods.pointee.xTruncate(real, size)
  }
  table.xSync = { file, flags in
    let code = SimulatedVFS.ask(.sync, file, SQLITE_IOERR | 4 << 8)
    guard code == SQLITE_OK else { return code }
    if let owner = SimulatedVFS.head(file).pointee.owner?.takeUnretainedValue(), owner.syncsName {
      owner.syncsName = false
      owner.disk.noteFolderSync()
    }
    let real = SimulatedVFS.real(file)
    return real.pointee.pMethods.pointee.xSync(real, flags)
  }
  passThrough(&table)
  methods.initialize(to: table)
  return methods
}

/// What concerns no bytes on the disk.
private func passThrough(_ table: inout sqlite3_io_methods) {
  table.xFileSize = { file, size in
    let real = SimulatedVFS.real(file)
    return real.pointee.pMethods.pointee.xFileSize(real, size)
  }
  table.xLock = { file, level in
    let real = SimulatedVFS.real(file)
    return real.pointee.pMethods.pointee.xLock(real, level)
  }
  table.xUnlock = { file, level in
    let real = SimulatedVFS.real(file)
    return real.pointee.pMethods.pointee.xUnlock(real, level)
  }
  table.xCheckReservedLock = { file, result in
    let real = SimulatedVFS.real(file)
    return real.pointee.pMethods.pointee.xCheckReservedLock(real, result)
  }
  table.xFileControl = { file, operation, argument in
    let real = SimulatedVFS.real(file)
    return real.pointee.pMethods.pointee.xFileControl(real, operation, argument)
  }
  table.xSectorSize = { file in
    let real = SimulatedVFS.real(file)
    return real.pointee.pMethods.pointee.xSectorSize(real)
  }
  table.xDeviceCharacteristics = { file in
    let real = SimulatedVFS.real(file)
    return real.pointee.pMethods.pointee.xDeviceCharacteristics(real)
  }
  table.xShmMap = { file, block, bytes, extends, pointer in
    let real = SimulatedVFS.real(file)
    return real.pointee.pMethods.pointee.xShmMap(real, block, bytes, extends, pointer)
  }
  table.xShmLock = { file, offset, count, flags in
    let real = SimulatedVFS.real(file)
    return real.pointee.pMethods.pointee.xShmLock(real, offset, count, flags)
  }
  table.xShmBarrier = { file in
    let real = SimulatedVFS.real(file)
    real.pointee.pMethods.pointee.xShmBarrier(real)
  }
  table.xShmUnmap = { file, removes in
    let real = SimulatedVFS.real(file)
    return real.pointee.pMethods.pointee.xShmUnmap(real, removes)
  }
}
