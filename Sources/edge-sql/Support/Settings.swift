// The table of everything that can be configured. A new setting is one entry here: its flag, its
// environment variable and its key in the file follow from the name, and `all` makes the file
// accept it.

import Serving
import WALShip

/// One setting: its name in the file (`ship_secret_file`), and how its text becomes a value.
struct Setting<Value: Sendable>: SettingEntry {
  let name: String
  let summary: String
  /// Read by `parse` like any other text; nil when there is no value unless somebody gives one.
  let defaultText: String?
  let isSecret: Bool
  let parse: @Sendable (String) throws(BadValue) -> Value

  init(
    _ name: String, default defaultText: String? = nil, secret isSecret: Bool = false,
    _ summary: String, _ parse: @escaping @Sendable (String) throws(BadValue) -> Value
  ) {
    self.name = name
    self.summary = summary
    self.defaultText = defaultText
    self.isSecret = isSecret
    self.parse = parse
  }

  func check(_ text: String) throws(BadValue) { _ = try parse(text) }

  /// What the command line says, for `Configuration.load`.
  func flag(_ text: String?) -> GivenFlag? { text.map { GivenFlag(name: name, text: $0) } }
}

extension Setting where Value == Bool {
  /// A flag without a value; nil when it was not given.
  func flag(_ value: Bool?) -> GivenFlag? { flag(value.map { $0 ? "true" : "false" }) }
}

extension Setting where Value == Int {
  func flag(_ value: Int?) -> GivenFlag? { flag(value.map { String($0) }) }
}

/// A setting whose type does not matter: for checking, listing and documentation.
protocol SettingEntry: Sendable {
  var name: String { get }
  var summary: String { get }
  var defaultText: String? { get }
  /// Never shown: `Configuration.effective` hides it.
  var isSecret: Bool { get }
  func check(_ text: String) throws(BadValue)
}

extension SettingEntry {
  /// `--ship-secret-file`
  var flagName: String { "--" + String(name.map { $0 == "_" ? "-" : $0 }) }
  /// `EDGE_SQL_SHIP_SECRET_FILE`
  var environmentName: String { "EDGE_SQL_" + name.uppercased() }
}

/// A value from the command line.
struct GivenFlag: Sendable {
  var name: String
  var text: String
}

enum LogFormat: String, CaseIterable, Sendable {
  /// Text on a terminal, JSON elsewhere.
  case auto
  case text, json
}

enum Settings {
  static let listen = Setting(
    "listen", default: "127.0.0.1:7380", "where clients connect: HOST:PORT, :PORT or off",
    Parse.listenAddress)
  static let http = Setting(
    "http", default: "127.0.0.1:8080", "where clients connect that speak HTTP: HOST:PORT or off",
    Parse.listenAddress)
  static let streamIdle = Setting(
    "stream_idle", default: "10s", "how long a stream over HTTP waits for its next request",
    Parse.milliseconds)
  static let ship = Setting(
    "ship", default: "127.0.0.1:7381", "where replicas connect: HOST:PORT, :PORT or off",
    Parse.listenAddress)
  static let upstream = Setting(
    "upstream", "the ship address of the node to follow: HOST:PORT, or several with commas",
    Parse.upstreams)
  static let database = Setting("db", "the database file", Parse.path)
  static let data = Setting(
    "data", "the folder of a node that serves many databases, in place of one file", Parse.path)
  static let databases = Setting(
    "databases", default: "*", "which databases a replica takes: names and globs, with commas",
    Parse.databases)
  static let databaseIdle = Setting(
    "database_idle", default: "60s", "how long one of many databases stays open without use",
    Parse.milliseconds)
  static let databasesOpen = Setting(
    "databases_open", default: "100", "the most of many databases that are open at once",
    Parse.integer(1...10_000))
  static let name = Setting("name", "what this node calls itself", Parse.nodeName)
  static let shipSecretFile = Setting(
    "ship_secret_file", "a file with the secret that primary and replicas share", Parse.path)
  static let insecure = Setting(
    "insecure", default: "false",
    "listen on other than local addresses without credentials or without TLS", Parse.boolean)
  static let authKeyFiles = Setting(
    "auth_jwt_key_file", "files with the public keys of client tokens, with commas", Parse.paths)
  static let authRequireExp = Setting(
    "auth_require_exp", default: "false", "refuse client tokens that never expire", Parse.boolean)
  static let tlsCert = Setting("tls_cert", "this node's certificate, in PEM", Parse.path)
  static let tlsKey = Setting(
    "tls_key", "the private key of the certificate, in PEM", Parse.path)
  static let tlsCA = Setting(
    "tls_ca", "the authority whose certificates the other side must show, in PEM", Parse.path)
  static let checkpointFrames = Setting(
    "checkpoint_frames", default: "1000", "checkpoint when the WAL holds this many frames",
    Parse.integer(1...10_000_000))
  static let scrubRate = Setting(
    "scrub_rate", default: "32MiB", "bytes a second that the check of all pages reads; 0B for none",
    Parse.bytes)
  static let scrubInterval = Setting(
    "scrub_interval", default: "1d", "how long after a check of all pages the next one begins",
    Parse.milliseconds)
  static let sqliteHeapLimit = Setting(
    "sqlite_heap_limit", default: "auto",
    "the most memory that SQLite may take; 0B for no limit, auto for half of what there is",
    Parse.bytesOrAuto)
  static let logLevel = Setting(
    "log_level", default: "info", "trace, debug, info, notice, warning, error or critical",
    Parse.choice(["trace", "debug", "info", "notice", "warning", "error", "critical"]))
  static let logFormat = Setting(
    "log_format", default: "auto", "text, json, or auto: text on a terminal", Parse.logFormat)

  static let address = Setting(
    "address", default: ServerAddress.local.description, "the node that client commands talk to",
    Parse.serverAddress)
  static let token = Setting(
    "token", secret: true, "the token that client commands present", Parse.text)
  static let tokenFile = Setting(
    "token_file", "a file with the token that client commands present", Parse.path)
  static let tls = Setting(
    "tls", default: "false", "whether client commands connect with TLS", Parse.boolean)

  static let all: [any SettingEntry] = [
    listen, http, streamIdle, ship, upstream, database, data, databases, databaseIdle,
    databasesOpen,
    name, shipSecretFile, insecure,
    authKeyFiles,
    authRequireExp, tlsCert, tlsKey, tlsCA, checkpointFrames, scrubRate, scrubInterval,
    sqliteHeapLimit, logLevel, logFormat, address, token, tokenFile, tls,
  ]
}

/// How texts become values. Every function names what it wanted in the error.
enum Parse {
  @Sendable static func text(_ text: String) throws(BadValue) -> String { text }

  @Sendable static func path(_ text: String) throws(BadValue) -> String {
    guard !text.isEmpty, !text.utf8.contains(0) else { throw BadValue("the path is empty") }
    return text
  }

  @Sendable static func paths(_ text: String) throws(BadValue) -> [String] {
    var paths: [String] = []
    for part in text.split(separator: ",", omittingEmptySubsequences: false) {
      paths.append(try path(String(part)))
    }
    return paths
  }

  @Sendable static func databases(_ text: String) throws(BadValue) -> DatabaseFilter {
    guard let filter = DatabaseFilter(text) else {
      throw BadValue("\"\(text)\" is no list of databases: use \(DatabaseFilter.rule)")
    }
    return filter
  }

  @Sendable static func nodeName(_ text: String) throws(BadValue) -> String {
    let isPlain = text.utf8.allSatisfy { $0 > 32 && $0 < 127 }
    guard !text.isEmpty, text.utf8.count <= 64, isPlain else {
      throw BadValue("\"\(text)\" is not a name: use 1 to 64 ASCII characters without spaces")
    }
    return text
  }

  @Sendable static func boolean(_ text: String) throws(BadValue) -> Bool {
    switch text.lowercased() {
    case "true", "yes", "on", "1": return true
    case "false", "no", "off", "0": return false
    default: throw BadValue("\"\(text)\" is neither true nor false")
    }
  }

  static func integer(
    _ range: ClosedRange<Int>
  ) -> @Sendable (String) throws(BadValue) -> Int {
    { (text) throws(BadValue) in
      guard let value = Int(text) else { throw BadValue("\"\(text)\" is not a whole number") }
      guard range.contains(value) else {
        throw BadValue("\(value) is outside \(range.lowerBound) to \(range.upperBound)")
      }
      return value
    }
  }

  static func choice(_ words: [String]) -> @Sendable (String) throws(BadValue) -> String {
    { (text) throws(BadValue) in
      guard words.contains(text) else { throw notOneOf(words, text) }
      return text
    }
  }

  @Sendable static func logFormat(_ text: String) throws(BadValue) -> LogFormat {
    guard let format = LogFormat(rawValue: text) else {
      throw notOneOf(LogFormat.allCases.map(\.rawValue), text)
    }
    return format
  }

  /// Whole milliseconds from `250ms`, `2s`, `5m`.
  @Sendable static func milliseconds(_ text: String) throws(BadValue) -> Int {
    try DurationText.milliseconds(text)
  }

  /// Bytes from `65536`, `64KiB`, `1MiB`.
  @Sendable static func bytes(_ text: String) throws(BadValue) -> Int {
    try SizeText.bytes(text)
  }

  /// The same, or nil for `auto`.
  @Sendable static func bytesOrAuto(_ text: String) throws(BadValue) -> Int? {
    text == "auto" ? nil : try bytes(text)
  }

  @Sendable static func listenAddress(_ text: String) throws(BadValue) -> ListenAddress {
    do { return try ListenAddress(text) } catch { throw BadValue(error.description) }
  }

  @Sendable static func serverAddress(_ text: String) throws(BadValue) -> ServerAddress {
    do { return try ServerAddress(text) } catch { throw BadValue(error.description) }
  }

  /// An address to connect to, whose port must be given: ship ports have no default.
  @Sendable static func upstream(_ text: String) throws(BadValue) -> ServerAddress {
    let address = try serverAddress(text)
    if case .some(.some) = try? HostPort.split(text).port { return address }
    throw BadValue("\"\(text)\" has no port: write the primary's ship address as HOST:PORT")
  }

  @Sendable static func upstreams(_ text: String) throws(BadValue) -> [ServerAddress] {
    var addresses: [ServerAddress] = []
    for part in text.split(separator: ",", omittingEmptySubsequences: false) {
      addresses.append(try upstream(String(part)))
    }
    return addresses
  }

  private static func notOneOf(_ words: [String], _ text: String) -> BadValue {
    let suggestion = Suggestion.nearest(to: text, in: words).map { "; did you mean \($0)?" } ?? ""
    return BadValue("\"\(text)\" is not one of \(words.joined(separator: ", "))\(suggestion)")
  }
}
