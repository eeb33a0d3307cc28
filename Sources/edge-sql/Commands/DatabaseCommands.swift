// `edge-sql db`: makes, copies, lists and removes the databases of a node that has many.

import ArgumentParser
import Serving
import Store

struct DatabaseCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "db",
    abstract: "Create, list, fork and drop the databases of a node with --data.",
    discussion: "A name has \(DatabaseName.rule).",
    subcommands: [
      CreateDatabase.self, ListDatabases.self, ForkDatabase.self, DropDatabase.self,
    ])
}

/// How the commands reach the node.
struct DatabaseNode: ParsableArguments {
  @Option(help: ArgumentHelp("The node: HOST:PORT.", valueName: "address")) var at: String?
  @OptionGroup var client: ClientOptions

  func ask(_ words: [String]) throws -> Answer {
    let settings = try client.settings(address: at)
    return try LineClient(settings).request(words.joined(separator: " ")).last
  }
}

/// A name that the node would refuse does not reach it.
private func checked(_ name: String) throws -> String {
  guard let name = DatabaseName(name) else {
    throw CommandFailure(.usage, "the name of a database has \(DatabaseName.rule)")
  }
  return name.text
}

struct CreateDatabase: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "create", abstract: "Make an empty database.")
  @Argument(help: "The name.") var name: String
  @OptionGroup var node: DatabaseNode

  func run() throws {
    try reportingFailures {
      _ = try node.ask([".db", "create", checked(name)])
      Console.output.write("\(name): created\n")
    }
  }
}

struct ListDatabases: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "list", abstract: "Print the names of the databases, one a line.")
  @OptionGroup var node: DatabaseNode

  func run() throws {
    try reportingFailures {
      let names = try node.ask([".databases"]).json.member("databases").asArray ?? []
      for name in names { Console.output.write((name.asString ?? "?") + "\n") }
    }
  }
}

struct ForkDatabase: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "fork", abstract: "Make a database from another as it is at one moment.",
    discussion: "The new one has an identity of its own: tokens of the other mean nothing to it.")
  @Argument(help: "The database to copy.") var name: String
  @Argument(help: "The name of the new one.") var new: String
  @OptionGroup var node: DatabaseNode

  func run() throws {
    try reportingFailures {
      _ = try node.ask([".db", "fork", checked(name), checked(new)])
      Console.output.write("\(new): forked from \(name)\n")
    }
  }
}

struct DropDatabase: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "drop", abstract: "Remove a database and its files, for good.",
    discussion: """
      Requests that are under way are waited for, for five seconds; if one takes longer, nothing is \
      removed.
      """)
  @Argument(help: "The name.") var name: String
  @OptionGroup var node: DatabaseNode

  func run() throws {
    try reportingFailures {
      _ = try node.ask([".db", "drop", checked(name)])
      Console.output.write("\(name): dropped\n")
    }
  }
}
