// `edge-sql inspect`: looks into the things that edge-sql writes and hands out.

import ArgumentParser
import Serving
import WALShip

struct InspectCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "inspect", abstract: "Look into tokens and files.",
    subcommands: [InspectTokenCommand.self, InspectWALCommand.self, InspectPageMapCommand.self])
}

struct InspectTokenCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "token", abstract: "Show the position that a token stands for.")

  @Argument(help: "A token, as answers carry it.") var token: String
  @Flag(help: "Print JSON.") var json = false

  func run() throws {
    try reportingFailures {
      guard let parsed = Token(token) else {
        throw CommandFailure(
          .corruptData, "\"\(token)\" is not a token",
          hint: "A token looks like e1.6f1c0b2a.3.1042: e1, database, epoch, transaction.")
      }
      Console.output.write(json ? jsonText(parsed) : columns(parsed))
    }
  }

  private func columns(_ token: Token) -> String {
    var columns = Columns(.left, .left)
    columns.add("database", Self.databaseText(token))
    columns.add("epoch", "\(token.epoch)")
    columns.add("txid", "\(token.txid)")
    columns.add("replication index", "\(token.replicationIndex)")
    return columns.text()
  }

  private func jsonText(_ token: Token) -> String {
    let value = JSONValue.members([
      ("database", .string(Self.databaseText(token))),
      ("epoch", .integer(Int64(token.epoch.rawValue))),
      ("txid", .integer(Int64(token.txid.rawValue))),
      ("replication_index", .integer(Int64(clamping: token.replicationIndex))),
    ])
    return JSONDocument.text(value) + "\n"
  }

  /// The eight digits that the token carries.
  private static func databaseText(_ token: Token) -> String {
    let digits = String(token.database, radix: 16)
    return String(repeating: "0", count: 8 - digits.count) + digits
  }
}
