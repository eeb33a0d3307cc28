// What the shell does with a line: statements go to the node, a few commands are its own.

import Serving

/// The conversation behind the prompt. A broken connection is made again with the next request.
final class ShellSession {
  private let settings: ClientSettings
  private var connection: LineClient?
  /// The newest state that was seen: a new connection must not fall behind it.
  private var token: String?
  private var isInTransaction = false
  private var pending = ""
  private var mode: OutputMode
  private var showsTime = false
  private var readDepth = 0
  /// Ctrl-C ends not only a request but also the files that are being read.
  private var isStopped = false

  /// Whether `.quit` was given.
  private(set) var isDone = false
  /// Whether anything failed: a script then ends with 1.
  private(set) var hasFailed = false

  private static let readDepthMax = 8
  private static let readBytesMax = 1 << 30

  init(_ settings: ClientSettings, mode: OutputMode) {
    self.settings = settings
    self.mode = mode
  }

  /// A statement has begun and not ended.
  var isPending: Bool { !pending.isEmpty }

  func discardPending() { pending = "" }

  /// Connects; without this the first request does.
  func connect() throws { _ = try connected() }

  /// The role and the lag of the node, such as `replica +0 2ms> `.
  func prompt() -> String {
    if isPending { return "   ...> " }
    let mark = isInTransaction ? "*" : ""
    do {
      let answer = try connected().request(".status", timeoutMilliseconds: 2000).last
      let upstream = answer.json.member("upstream")
      let role = answer.json.member("role").asString ?? "edge-sql"
      let count = upstream.member("lag_txns").asInt.map { " +\($0)" } ?? ""
      let time = upstream.member("lag_ms").asInt.map { " \($0)ms" } ?? ""
      return role + count + time + mark + "> "
    } catch is ServerError {
      return "edge-sql\(mark)> "
    } catch {
      disconnect()
      return "(disconnected)> "
    }
  }

  /// Takes one line of input.
  func take(_ line: String) {
    if readDepth == 0 { isStopped = false }
    if !isPending, line.drop(while: \.isWhitespace).hasPrefix(".") {
      command(line)
      return
    }
    if isPending || line.contains(where: { !$0.isWhitespace }) { pending += line + "\n" }
    let scanned = ScannedSQL(scanning: pending)
    pending = scanned.rest.isEmpty ? "" : scanned.rest + "\n"
    for statement in scanned.statements where !run(sql: statement) {
      // What follows was typed in the belief that this one works.
      break
    }
  }

  /// Runs what was not ended with a semicolon when the input ended.
  func finishInput() {
    let statement = pending
    pending = ""
    if statement.contains(where: { !$0.isWhitespace }) { run(sql: statement) }
  }

  // MARK: Commands of the shell

  private func command(_ line: String) {
    let words = line.split(whereSeparator: \.isWhitespace).map(String.init)
    let argument = words.count > 1 ? words[1] : nil
    switch words[0] {
    case ".quit", ".exit": isDone = true
    case ".help":
      Console.output.write(Self.help)
      run(line: ".help", isQuiet: true)
    case ".mode": setMode(argument)
    case ".timer":
      switch argument {
      case "on": showsTime = true
      case "off": showsTime = false
      default: tell("usage: .timer on|off")
      }
    case ".read":
      let path = line.drop(while: \.isWhitespace).dropFirst(".read".count)
      read(path.split(whereSeparator: \.isWhitespace).joined(separator: " "))
    default: run(line: words.joined(separator: " "))
    }
  }

  private func setMode(_ name: String?) {
    guard let name else {
      Console.output.write("\(mode.rawValue)\n")
      return
    }
    guard let mode = OutputMode(rawValue: name) else {
      tell("usage: .mode table|json|csv")
      return
    }
    self.mode = mode
  }

  private func read(_ path: String) {
    guard !path.isEmpty else {
      tell("usage: .read FILE")
      return
    }
    guard readDepth < Self.readDepthMax else {
      tell(".read: files read each other more than \(Self.readDepthMax) deep")
      return
    }
    do {
      let bytes = try TextFile.read(path, bytesMax: Self.readBytesMax)
      readDepth += 1
      defer { readDepth -= 1 }
      let text = String(decoding: bytes, as: UTF8.self)
      for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
        if isDone || isStopped { break }
        take(String(line))
      }
      if isStopped { discardPending() } else { finishInput() }
    } catch {
      tell("\(error)")
    }
  }

  // MARK: Requests

  /// - Returns: whether it worked.
  @discardableResult
  private func run(sql: String) -> Bool {
    var options = RequestLineOptions()
    if connection == nil { options.token = token }
    return run(line: RequestLine.statement(sql, options: options))
  }

  /// - Parameter isQuiet: a failure is not worth telling.
  @discardableResult
  private func run(line: String, isQuiet: Bool = false) -> Bool {
    do {
      let start = MonotonicClock.nowNanoseconds
      let connection = try connected()
      var printer = ResultPrinter(mode: mode)
      try connection.send(line)
      let last = try connection.finish(acceptsText: line.hasPrefix(".")) { part in
        if line.hasPrefix("."), mode != .json, part.isJSON, !part.isResult {
          Console.output.write(Self.members(part.json))
        } else {
          printer.show(part)
        }
      }
      token = last.token ?? token
      isInTransaction = last.isInTransaction
      if showsTime { tellTime(last, MonotonicClock.nowNanoseconds - start) }
      return true
    } catch {
      if let error = error as? ServerError {
        isInTransaction = error.isInTransaction
      } else {
        disconnect()
      }
      if error as? ClientError == .interrupted { isStopped = true }
      if !isQuiet {
        tell("\((error as? any FailureConvertible)?.failure.description ?? "\(error)")")
      }
      return false
    }
  }

  private func connected() throws -> LineClient {
    if let connection { return connection }
    let connection = try LineClient(settings)
    self.connection = connection
    return connection
  }

  private func disconnect() {
    if isInTransaction { tell("the transaction was rolled back with its connection") }
    connection = nil
    isInTransaction = false
  }

  private func tell(_ text: String) {
    hasFailed = true
    Console.error.write(Console.error.red("error:") + " \(text)\n")
  }

  private func tellTime(_ last: Answer, _ nanoseconds: UInt64) {
    let node = last.microseconds.map {
      ", \(DurationText.text(nanoseconds: UInt64($0) * 1000)) in the node"
    }
    Console.error.write("time: \(DurationText.text(nanoseconds: nanoseconds))\(node ?? "")\n")
  }

  /// An answer that is no result: a status as `edge-sql status` shows it, else one member a line.
  private static func members(_ json: JSONValue) -> String {
    guard case .object(let members) = json else { return "" }
    if json["role"] != nil { return StatusReport(status: json).text() }
    var columns = Columns(.left, .left)
    for member in members where member.key != "us" {
      columns.add(member.key, member.value.asString ?? JSONDocument.text(member.value))
    }
    return columns.text()
  }

  private static let help = """
    SQL ends with a semicolon and may go over several lines; Ctrl-C discards it.
    .mode table|json|csv   how rows are shown
    .timer on|off          how long requests take
    .read FILE             run the lines of a file
    .quit                  leave; Ctrl-D does it too
    Commands of the node, such as .tables, .schema, .status and .token:

    """
}
