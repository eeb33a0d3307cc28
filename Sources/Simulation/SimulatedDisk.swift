// The disk of one simulated node: real files in memory, and beside them what a loss of power would
// leave of them. Every call of the engine and of SQLite comes by here first, so that it can fail,
// and so that the node can end in the middle of anything.
//
// What is durable: the bytes of a file as of its last sync, and the names in the folder as of the
// last sync of the folder. After a loss of power each sector of 512 bytes that was written since is
// there or not, and the names are those of some moment since.

import EdgeTesting
import Glibc
import Store

/// What is done to a file, as far as the disk cares.
enum DiskCall: String, CaseIterable {
  case open, read, write, sync, truncate, grow, map, name, syncFolder

  init(_ operation: DiskOperation) {
    self =
      switch operation {
      case .openLog, .openPageMap, .openCopy: .open
      case .readLog, .readCopy, .readFile: .read
      case .writeLog, .writeCopy: .write
      case .syncLog, .syncPageMap, .syncCopy: .sync
      case .truncateLog, .truncateCopy: .truncate
      case .growPageMap: .grow
      case .mapPageMap: .map
      case .renameCopy, .removeFile: .name
      case .syncDirectory: .syncFolder
      }
  }
}

/// How a node ends without wanting to.
enum CrashKind: String {
  case kill, powerLoss
}

/// The files of one node. It lives in the simulation's one thread.
final class SimulatedDisk: @unchecked Sendable {  // one thread
  /// A file as a restart finds it.
  struct StoredFile {
    var bytes: [UInt8]
    var number: UInt64
  }
  typealias Image = [String: StoredFile]

  private(set) var folder: String
  private let parent: String
  private var incarnation = 0
  private var chance: SeededGenerator
  /// Durable bytes by inode.
  private var durable: [ino_t: [UInt8]] = [:]
  /// Names to inodes: the durable ones first, then each later state.
  private var names: [[String: ino_t]] = []
  /// Links that keep inodes which may come back.
  private var kept: Set<ino_t> = []
  /// What `fileNumber` says of an inode: the same in each run of a seed.
  private var numbers: [ino_t: UInt64] = [:]
  private var nextNumber: UInt64 = 1000

  /// Calls since the node began.
  private(set) var calls = 0
  /// The call in which the node ends, and how.
  private var crash: (call: Int, kind: CrashKind)?
  /// What the crash left, once it has happened.
  private(set) var remains: Image?
  /// Calls of this kind fail with this number, by chance.
  var fault: (calls: Set<DiskCall>, number: Int32, oneIn: UInt64)?
  /// The call that fails, counted from the start of the node, and the number it fails with.
  var failure: (call: Int, number: Int32)?
  private(set) var failedCall: DiskCall?
  var isFull = false
  /// Not the node's own calls, but those of a program beside it, or of the checks.
  private var isForeign = 0
  /// Called in the middle of the node's own calls.
  var onCall: (() -> Void)?
  /// Losses of power are possible: what is durable must be known.
  let tracksDurability: Bool

  init(parent: String, seed: UInt64, tracksDurability: Bool) {
    self.parent = parent
    self.tracksDurability = tracksDurability
    chance = SeededGenerator(exactly: seed)
    folder = parent
    begin(with: [:])
  }

  func path(_ name: String) -> String { "\(folder)/\(name)" }

  // MARK: Calls

  /// - Returns: the `errno` of a failure, 0 for none.
  func call(_ call: DiskCall, _ path: String) -> Int32 {
    if remains != nil { return EIO }
    if isForeign == 0 {
      calls += 1
      if let crash, calls >= crash.call {
        end(crash.kind)
        return EIO
      }
      if let failure, failure.call == calls {
        failedCall = call
        return failure.number
      }
      if let fault, fault.calls.contains(call), chance.next() % fault.oneIn == 0 {
        return fault.number
      }
      if isFull, call == .write || call == .grow { return ENOSPC }
      onCall?()
      // What looked at the files in between may have met the end.
      if remains != nil { return EIO }
    }
    switch call {
    case .sync: noteSync(path)
    case .name, .open: noteNames()
    case .syncFolder: noteFolderSync()
    case .read, .write, .truncate, .grow, .map: break
    }
    return 0
  }

  /// Runs `body` as another program than the node.
  func foreign<T>(_ body: () throws -> T) rethrows -> T {
    isForeign += 1
    defer { isForeign -= 1 }
    return try body()
  }

  func plan(_ kind: CrashKind, afterCalls count: Int) { crash = (calls + max(1, count), kind) }
  var isCrashPlanned: Bool { crash != nil }

  /// Ends the node now.
  func end(_ kind: CrashKind) {
    guard remains == nil else { return }
    remains = kind == .kill ? present() : afterPowerLoss()
  }

  // MARK: Names and durability

  private func inode(_ path: String) -> ino_t? {
    var info = stat()
    return stat(path, &info) == 0 ? info.st_ino : nil
  }

  private func listing() -> [String: ino_t] {
    var result: [String: ino_t] = [:]
    for name in Files.names(in: folder) where name != "kept" {
      result[name] = inode(path(name))
    }
    return result
  }

  private func noteNames() {
    guard tracksDurability else { return }
    let present = listing()
    guard present != names.last else { return }
    for (name, inode) in present where kept.insert(inode).inserted {
      link(path(name), keptPath(inode))
    }
    names.append(present)
  }

  private func keptPath(_ inode: ino_t) -> String { "\(folder)/kept/\(inode)" }

  func noteSync(_ path: String) {
    guard tracksDurability, let inode = inode(path) else { return }
    noteNames()
    durable[inode] = Self.read(path)
  }

  func noteFolderSync() {
    guard tracksDurability else { return }
    noteNames()
    names.removeFirst(names.count - 1)
  }

  /// A number for a file that does not change with a restart.
  func fileNumber(_ path: String) -> UInt64 {
    guard let inode = inode(path) else { return 0 }
    return number(inode)
  }

  private func number(_ inode: ino_t) -> UInt64 {
    if let known = numbers[inode] { return known }
    nextNumber += 1
    numbers[inode] = nextNumber
    return nextNumber
  }

  // MARK: Ends and beginnings

  /// All files as they are: what is left when only the process ends.
  func present() -> Image {
    var image = Image()
    for (name, inode) in listing().sorted(by: { $0.key < $1.key }) {
      image[name] = StoredFile(bytes: Self.read(path(name)), number: number(inode))
    }
    return image
  }

  private func afterPowerLoss() -> Image {
    precondition(tracksDurability, "this disk does not know what is durable")
    noteNames()
    let version = names[Int(chance.next() % UInt64(names.count))]
    var image = Image()
    // How much of what was not synced reached the disk.
    let keepsOneIn = [UInt64(1), 2, 2, 10, .max][Int(chance.next() % 5)]
    for (name, inode) in version.sorted(by: { $0.key < $1.key }) {
      let now = Self.read(keptPath(inode))
      let then = durable[inode] ?? []
      image[name] = StoredFile(
        bytes: mixed(then, now, keepsOneIn: keepsOneIn), number: number(inode))
    }
    return image
  }

  private func mixed(_ then: [UInt8], _ now: [UInt8], keepsOneIn: UInt64) -> [UInt8] {
    guard then != now else { return now }
    let size = chance.next() % keepsOneIn == 0 ? now.count : then.count
    var bytes = [UInt8](repeating: 0, count: size)
    for start in stride(from: 0, to: size, by: 512) {
      let end = min(start + 512, size)
      let source = chance.next() % keepsOneIn == 0 ? now : then
      guard start < source.count else { continue }
      let last = min(end, source.count)
      bytes.replaceSubrange(start..<last, with: source[start..<last])
    }
    return bytes
  }

  /// Gives the node a new folder with these files. The former one stays for whoever still has it
  /// open, and is of no consequence.
  func begin(with image: Image) {
    incarnation += 1
    folder = "\(parent)/\(incarnation)"
    mkdir(parent, 0o755)
    mkdir(folder, 0o755)
    mkdir(folder + "/kept", 0o755)
    numbers = [:]
    kept = []
    durable = [:]
    for (name, file) in image.sorted(by: { $0.key < $1.key }) {
      Self.write(path(name), file.bytes)
      guard let inode = inode(path(name)) else { continue }
      numbers[inode] = file.number
      durable[inode] = file.bytes
    }
    names = [[:]]
    noteNames()
    if tracksDurability { noteFolderSync() }
    calls = 0
    crash = nil
    remains = nil
    failure = nil
  }

  /// Removes what an earlier incarnation left.
  func sweep() {
    for number in 1..<max(1, incarnation) { Files.removeAll("\(parent)/\(number)") }
  }

  static func read(_ path: String) -> [UInt8] {
    let descriptor = open(path, O_RDONLY)
    guard descriptor >= 0 else { return [] }
    defer { close(descriptor) }
    var info = stat()
    guard fstat(descriptor, &info) == 0 else { return [] }
    let size = Int(info.st_size)
    return [UInt8](unsafeUninitializedCapacity: size) { buffer, count in
      count = size == 0 ? 0 : max(0, pread(descriptor, buffer.baseAddress, size, 0))
    }
  }

  static func write(_ path: String, _ bytes: [UInt8]) {
    let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0o644)
    precondition(descriptor >= 0, "cannot write \(path)")
    defer { close(descriptor) }
    precondition(Glibc.write(descriptor, bytes, bytes.count) == bytes.count, "no room for \(path)")
  }
}
