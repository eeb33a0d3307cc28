// What can go wrong between a command and a node, and with which exit code the command then ends.

/// The connection failed, or what came over it was not an answer.
enum ClientError: FailureConvertible, Equatable {
  case unreachable(ServerAddress, reason: String)
  case timeout(ServerAddress, milliseconds: Int)
  /// TLS is missing on one side, or the other side is not who it should be.
  case insecure(ServerAddress, reason: String)
  /// The node closed the connection, or the network did.
  case lost(ServerAddress, reason: String)
  /// Ctrl-C while waiting.
  case interrupted
  case malformedAnswer(String)

  var failure: CommandFailure {
    switch self {
    case .unreachable(let address, let reason):
      CommandFailure(
        .unavailable, "cannot connect to \(address): \(reason)",
        hint: "Is a node running there? The address is the one it was given with --listen.")
    case .insecure(let address, let reason):
      CommandFailure(
        .unavailable, "no TLS with \(address): \(reason)",
        hint: "--tls connects with TLS, --tls-ca FILE says whose certificates are good.")
    case .timeout(let address, let milliseconds):
      CommandFailure(
        .temporary,
        "\(address) did not answer within \(DurationText.text(milliseconds: milliseconds))")
    case .lost(let address, let reason):
      CommandFailure(.unavailable, "the connection to \(address) broke: \(reason)")
    case .interrupted: CommandFailure(.failed, "interrupted")
    case .malformedAnswer(let reason):
      CommandFailure(
        .failed, "the answer is not the line protocol: \(reason)",
        hint: "Is this the port for clients of an edge-sql node?")
    }
  }
}

/// An error that the node answered with.
struct ServerError: FailureConvertible, Equatable {
  var code: String
  var message: String
  var canRetry = false
  /// Whether the transaction of the connection is still open.
  var isInTransaction = false

  var failure: CommandFailure { CommandFailure(status, "\(message) (\(code))", hint: hint) }

  /// Source: the list of codes in docs/PROTOCOL.md
  private var status: ExitStatus {
    switch code {
    case "AUTH_REQUIRED", "AUTH_DENIED": .auth
    case "TOKEN_TIMEOUT", "STATEMENT_TIMEOUT", "TRANSACTION_TIMEOUT", "PRIMARY_UNAVAILABLE",
      "OVERLOADED":
      .temporary
    case _ where code.hasPrefix("SQLITE_BUSY") || code.hasPrefix("SQLITE_LOCKED"): .temporary
    case _ where code.hasPrefix("SQLITE_CORRUPT") || code == "SQLITE_NOTADB": .corruptData
    case _ where code.hasPrefix("SQLITE_IOERR") || code == "SQLITE_FULL": .inputOutput
    default: .failed
    }
  }

  private var hint: String? {
    switch code {
    case "AUTH_REQUIRED": "Give the token with --token-file or EDGE_SQL_TOKEN."
    case "OUTCOME_UNKNOWN": "It was applied once or not at all; with --key it can be repeated."
    case "PRIMARY_UNAVAILABLE": "Writes need the primary; reads go on at this replica."
    default: nil
    }
  }
}
