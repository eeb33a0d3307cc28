// `edge-sql query`: SQL from the command line or a pipe, rows to standard output.

import ArgumentParser
import Glibc
import Serving

struct QueryCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "query",
    abstract: "Run SQL on a node.",
    discussion: """
      Several statements are one atomic batch, unless they begin and commit transactions \
      themselves: then they run one after the other and the first error ends it.
      Values of --args are integers, real numbers, null, blobs as x'00ff', else text; --json-args \
      takes the JSON of the line protocol, where all types are exact and a value may begin with a \
      hyphen.
      """)

  @Argument(help: "The node: HOST:PORT.") var address: String
  @Argument(help: "SQL; - or nothing reads it from standard input.") var sql: String?

  @Option(
    parsing: .upToNextOption,
    help: ArgumentHelp("Values for the parameters of the statement.", valueName: "value"))
  var args: [String] = []
  @Option(help: ArgumentHelp("The same as a JSON array or object.", valueName: "json"))
  var jsonArgs: String?
  @Option(help: "How to print: table, json (the node's own lines) or csv.")
  var mode = OutputMode.table

  @Option(help: "See at least the state of this token.") var token: String?
  @Flag(help: "Print the token of the answer on standard error.") var showToken = false
  @OptionGroup(title: "Request options") var request: RequestFlags
  @OptionGroup var client: ClientOptions

  func run() throws {
    try reportingFailures {
      let arguments = try argumentsJSON()
      let scanned = ScannedSQL(scanning: try sqlText())
      let statements = scanned.statements + (scanned.rest.isEmpty ? [] : [scanned.rest])
      let options = try request.options(token: token)
      let lines = try requestLines(statements, arguments, options)
      let connection = try LineClient(try client.settings(address: address))
      var printer = ResultPrinter(mode: mode)
      var newest: String?
      for line in lines {
        try connection.send(line)
        let last = try connection.finish(timeoutMilliseconds: request.answerMilliseconds) {
          printer.show($0)
        }
        newest = last.token ?? newest
      }
      if showToken, let newest { Console.error.write(newest + "\n") }
    }
  }

  private func requestLines(
    _ statements: [String], _ arguments: JSONValue?, _ options: RequestLineOptions
  ) throws -> [String] {
    guard let first = statements.first else { throw CommandFailure(.usage, "there is no SQL") }
    if statements.count == 1 {
      return [RequestLine.statement(first, args: arguments, options: options)]
    }
    guard arguments == nil else {
      throw CommandFailure(.usage, "arguments go with one statement, not with \(statements.count)")
    }
    guard statements.contains(where: ScannedSQL.controlsTransaction) else {
      return [RequestLine.batch(statements, options: options)]
    }
    guard options.key == nil else {
      throw CommandFailure(.usage, "--key goes with one statement or one batch")
    }
    return statements.map { RequestLine.statement($0, options: options) }
  }

  private func argumentsJSON() throws -> JSONValue? {
    guard let jsonArgs else {
      return args.isEmpty
        ? nil : .array(args.map { ArgumentText.json(CommandLineArguments.restored($0)) })
    }
    guard args.isEmpty else {
      throw CommandFailure(.usage, "--args and --json-args cannot be given together")
    }
    do {
      let value = try JSONDocument.parse(Array(jsonArgs.utf8))
      switch value {
      case .array, .object: return value
      case .null, .bool, .integer, .real, .string:
        throw CommandFailure(.usage, "--json-args must be a JSON array or object")
      }
    } catch let error as JSONError {
      throw CommandFailure(.usage, "--json-args is not valid JSON: \(error)")
    }
  }

  private func sqlText() throws -> String {
    if let sql, sql != "-" { return sql }
    guard isatty(STDIN_FILENO) == 0 else {
      throw CommandFailure(
        .usage, "there is no SQL", hint: "Give it behind the address, or pipe it in.")
    }
    do {
      let bytes = try TextFile.read(STDIN_FILENO, path: "standard input", bytesMax: 1 << 30)
      return String(decoding: bytes, as: UTF8.self)
    } catch {
      throw CommandFailure(.inputOutput, error.description)
    }
  }
}

/// Flags for the keys of a request.
struct RequestFlags: ParsableArguments {
  @Option(help: "Where reads run: local, bounded, latest or primary.") var read: ReadChoice?
  @Option(help: "The bound of --read bounded, in milliseconds.") var maxLagMs: Int?
  @Option(help: "How long to wait for the token.") var waitMs: Int?
  @Option(help: "What then: forward, error or stale.") var onLag: LagChoice?
  @Option(help: "Idempotency key of a write: repeating it has no further effect.")
  var key: String?
  @Option(help: "How long the statement may run.") var timeoutMs: Int?
  @Option(help: ArgumentHelp("Which database of a node with --data.", valueName: "name"))
  var database: String?

  func options(token: String?) throws -> RequestLineOptions {
    if (read == .bounded) != (maxLagMs != nil) {
      throw CommandFailure(.usage, "--read bounded and --max-lag-ms go together")
    }
    var options = RequestLineOptions()
    options.token = token
    options.read = read
    options.maxLagMilliseconds = maxLagMs
    options.waitMilliseconds = waitMs
    options.onLag = onLag
    options.key = key
    options.timeoutMilliseconds = timeoutMs
    options.database = database
    return options
  }

  /// How long to wait for an answer line: for ever, unless the statement has a limit.
  var answerMilliseconds: Int? {
    timeoutMs.map { $0 + (waitMs ?? 1000) + 5000 }
  }
}
