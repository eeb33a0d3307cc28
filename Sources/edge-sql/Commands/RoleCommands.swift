// `edge-sql promote`, `demote` and `restore`: what becomes of a database's file while no node has it
// open.

import ArgumentParser
import Serving
import Store
import WALShip

struct PromoteCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "promote", abstract: "Make a stopped replica's file a primary's.",
    discussion: """
      The file begins a new epoch. Start it with `edge-sql primary` and point the other replicas \
      at it: they fetch only the pages that differ. Transactions that this replica had not \
      received yet are lost; nodes that have them keep what they had aside. The former primary \
      accepts no writes once a replica of the new epoch has reached it; `edge-sql demote` makes \
      its file a replica's.
      """)

  @Argument(help: "The replica's database file.") var file: String

  func run() throws {
    try reportingFailures {
      try reportingRoleFailures(file) {
        let (epoch, last) = try RoleChange.promote(file)
        Console.output.write(
          "\(file) is a primary's now: epoch \(epoch) begins after transaction \(last)\n")
      }
    }
  }
}

struct DemoteCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "demote", abstract: "Make a stopped primary's file a replica's.",
    discussion: """
      Start it with `edge-sql replica`. It follows the primary that took over, fetches only the \
      pages that differ, and keeps aside what only it had.
      """)

  @Argument(help: "The primary's database file.") var file: String

  func run() throws {
    try reportingFailures {
      try reportingRoleFailures(file) {
        let position = try RoleChange.demote(file)
        Console.output.write(
          "\(file) is a replica's now: epoch \(position.epoch), transaction \(position.txid)\n")
      }
    }
  }
}

struct RestoreCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "restore", abstract: "Put a copy of a database in place as a primary's.",
    discussion: """
      The copy is checked first. The former database keeps its pages under another name, and a new \
      epoch begins: replicas follow by comparison, and tokens of what is lost are refused.
      """)

  @Argument(help: "The copy, as `edge-sql backup` or any SQLite tool wrote it.") var copy: String
  @Argument(help: "The primary's database file.") var file: String

  func run() throws {
    try reportingFailures {
      guard Disk.exists(copy) else {
        throw CommandFailure(.unavailable, "there is no file \(copy)")
      }
      try reportingRoleFailures(file) {
        let outcome = try Restore.run(from: copy, to: file)
        let position = outcome.position
        Console.output.write(
          "\(file) holds \(copy) now, \(SizeText.text(outcome.bytes)): epoch \(position.epoch), "
            + "transaction \(position.txid)\n")
        if let former = outcome.former {
          Console.output.write("the former database is \(former)\n")
        }
      }
    }
  }
}

/// The exit codes of what can go wrong with a change of role.
private func reportingRoleFailures(_ path: String, _ body: () throws -> Void) throws {
  do {
    try body()
  } catch let failure as RoleChange.Failure {
    let status: ExitStatus =
      switch failure {
      case .inUse: .temporary
      case .notKnown, .alreadyReplica, .foreignWrite, .neverConnected, .unsound: .corruptData
      }
    throw CommandFailure(status, failure.description)
  } catch let failure as Restore.Failure {
    throw CommandFailure(.corruptData, failure.description)
  } catch let failure as PrimaryDatabase.Failure {
    throw CommandFailure(PrimaryCommand.status(of: failure), failure.description)
  } catch WALInjector.Failure.inUse {
    throw CommandFailure(.temporary, RoleChange.Failure.inUse(path).description)
  } catch {
    throw NodeRun.failure(error, path: path)
  }
}
