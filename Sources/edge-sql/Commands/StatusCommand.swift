// `edge-sql status`: how a node is doing, for people, for scripts, and as a check.

import ArgumentParser
import Serving

struct StatusCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "status",
    abstract: "Show the role, the position and the lag of a node.",
    discussion: """
      With --check the command exits with 3 unless the node is in order: a replica streams from \
      its primary, and with --max-lag neither its lag nor the time since it last heard from the \
      primary is longer; on a primary the same holds for each of its replicas.
      """)

  @Argument(help: "The node: HOST:PORT.") var address: String?
  @Flag(help: "Print the node's own JSON line.") var json = false
  @Flag(help: "Go on, once a second.") var watch = false
  @Flag(help: "Exit with 3 when the node is not in order.") var check = false
  @Option(help: ArgumentHelp("The most lag that --check allows.", valueName: "duration"))
  var maxLag: String?
  @OptionGroup var client: ClientOptions

  func validate() throws {
    if maxLag != nil, !check { throw ValidationError("--max-lag goes with --check") }
    if watch, check { throw ValidationError("--watch and --check cannot be given together") }
  }

  func run() throws {
    try reportingFailures {
      let settings = try client.settings(address: address)
      let limit = try maxLag.map { try milliseconds($0, flag: "--max-lag") }
      guard !watch else { try goOn(settings) }
      let answer = try Self.ask(LineClient(settings))
      Console.output.write(text(answer))
      if check { try require(StatusCheck.problems(of: answer.json, maxLagMilliseconds: limit)) }
    }
  }

  /// Shows the status until the user ends it; a node that is away may come back.
  private func goOn(_ settings: ClientSettings) throws -> Never {
    var connection: LineClient? = try LineClient(settings)
    while true {
      do {
        let current = try connection ?? LineClient(settings)
        connection = current
        Console.output.write(text(try Self.ask(current)))
      } catch let error as ClientError {
        connection = nil
        Console.error.write("\(error.failure.message)\n")
      }
      MonotonicClock.sleep(milliseconds: 1000)
    }
  }

  private static func ask(_ connection: LineClient) throws -> Answer {
    try connection.request(
      ".status", timeoutMilliseconds: connection.settings.connectMilliseconds
    ).last
  }

  private func text(_ answer: Answer) -> String {
    if json { return answer.text + "\n" }
    let report = StatusReport(status: answer.json).text()
    // Home, the report, and nothing of the longer report that may have been there before.
    guard watch, Console.output.isTerminal else { return report + (watch ? "\n" : "") }
    return "\u{1b}[H\u{1b}[2J" + report
  }

  private func require(_ problems: [String]) throws {
    guard problems.isEmpty else {
      throw CommandFailure(.checkNotMet, problems.joined(separator: "; "))
    }
  }
}

/// What `--check` asks of a status.
enum StatusCheck {
  /// - Returns: one clause for each thing that is not in order.
  static func problems(of status: JSONValue, maxLagMilliseconds: Int?) -> [String] {
    let upstream = status.member("upstream")
    switch status.member("role").asString {
    case "replica":
      guard case .object = upstream else { return ["the replica has no upstream"] }
      return problems(of: upstream, "the replica", maxLagMilliseconds)
    case "primary":
      return (status.member("replicas").asArray ?? []).flatMap { replica in
        let name = replica.member("name").asString ?? replica.member("address").asString ?? "?"
        return problems(of: replica, "replica \(name)", maxLagMilliseconds)
      }
    case let role: return ["the role is \(role ?? "not told")"]
    }
  }

  private static func problems(
    of link: JSONValue, _ name: String, _ maxLagMilliseconds: Int?
  ) -> [String] {
    let state = link.member("state").asString ?? "in no known state"
    guard state == "streaming" else {
      let reason = link.member("last_error").asString.map { " (\($0))" } ?? ""
      return ["\(name) is \(state)\(reason)"]
    }
    guard let limit = maxLagMilliseconds else { return [] }
    var problems: [String] = []
    for (key, what) in [("lag_ms", "behind"), ("contact_ms", "without contact")] {
      guard let value = link.member(key).asInt else {
        problems.append("\(name) does not tell its \(key)")
        continue
      }
      if value > limit {
        let texts = (DurationText.text(milliseconds: value), DurationText.text(milliseconds: limit))
        problems.append("\(name) is \(texts.0) \(what), more than \(texts.1)")
      }
    }
    return problems
  }
}
