// What the figures depend on and a reader cannot know: the machine, and what else it was doing.

import Glibc
import Serving
import Store

/// The machine as it was at one moment.
struct Machine {
  var processor: String
  var cores: Int
  var kernel: String
  var memoryBytes: UInt64
  var fileSystem: String
  var sqlite: String
  var swiftMode: String
  /// Average number of running threads over 1, 5 and 15 minutes.
  var loadBefore: String

  init(folder: String) {
    processor = Self.value(of: "model name", in: "/proc/cpuinfo") ?? "unknown processor"
    cores = Int(sysconf(Int32(_SC_NPROCESSORS_ONLN)))
    var name = utsname()
    uname(&name)
    let text = { (field: UnsafeRawBufferPointer) in
      String(decoding: field.prefix { $0 != 0 }, as: UTF8.self)
    }
    kernel =
      "\(withUnsafeBytes(of: &name.sysname, text)) \(withUnsafeBytes(of: &name.release, text)) "
      + withUnsafeBytes(of: &name.machine, text)
    memoryBytes = UInt64(sysconf(Int32(_SC_PHYS_PAGES))) * UInt64(sysconf(Int32(_SC_PAGESIZE)))
    fileSystem = Self.fileSystem(of: folder)
    sqlite = SQLiteLibrary.version
    #if DEBUG
      swiftMode = "debug: these figures mean nothing"
    #else
      swiftMode = "release"
    #endif
    loadBefore = Self.load()
  }

  static func load() -> String {
    Self.text("/proc/loadavg").split(separator: " ").prefix(3).joined(separator: " ")
  }

  func text(_ effort: Effort, loadAfter: String) -> String {
    """
    \(cores) cores of \(processor), \(memoryBytes >> 30) GiB, \(kernel), folder on \(fileSystem)
    SQLite \(sqlite), \(swiftMode) build; load average \(loadBefore) before, \(loadAfter) after
    \(effort.rounds) rounds after one to warm up; sides alternate; edge-sql and floor are medians of the rounds

    """
  }

  func json(_ effort: Effort, loadAfter: String) -> JSONValue {
    .members([
      ("processor", .string(processor)), ("cores", .integer(Int64(cores))),
      ("kernel", .string(kernel)), ("memory_bytes", .integer(Int64(memoryBytes))),
      ("file_system", .string(fileSystem)), ("sqlite", .string(sqlite)),
      ("build", .string(swiftMode)), ("edge_sql", .string(SoftwareVersion.current)),
      ("load_before", .string(loadBefore)), ("load_after", .string(loadAfter)),
      ("rounds", .integer(Int64(effort.rounds))), ("seconds", .real(effort.seconds)),
    ])
  }

  /// The type of the innermost mount that holds `folder`.
  private static func fileSystem(of folder: String) -> String {
    guard let resolved = realpath(folder, nil) else { return "an unknown file system" }
    defer { free(resolved) }
    let path = String(cString: resolved) + "/"
    var best = (length: 0, type: "an unknown file system")
    for line in text("/proc/mounts").split(separator: "\n") {
      let fields = line.split(separator: " ")
      guard fields.count > 2 else { continue }
      let mount = fields[1] == "/" ? "/" : fields[1] + "/"
      if path.hasPrefix(mount), mount.count >= best.length {
        best = (mount.count, String(fields[2]))
      }
    }
    return best.type
  }

  private static func value(of key: String, in path: String) -> String? {
    for line in text(path).split(separator: "\n") where line.hasPrefix(key) {
      guard let colon = line.firstIndex(of: ":") else { continue }
      return line[line.index(after: colon)...].drop { $0 == " " }.description
    }
    return nil
  }

  private static func text(_ path: String) -> String {
    let bytes = try? Disk.readPrefix(of: path, count: 1 << 16)
    return bytes.map { String(decoding: $0, as: UTF8.self) } ?? ""
  }
}

extension JSONValue {
  static func members(_ members: [(String, JSONValue)]) -> JSONValue {
    .object(members.map { Member($0.0, $0.1) })
  }

  var line: String {
    var output = OutputBytes()
    write(into: &output)
    return output.string
  }
}
