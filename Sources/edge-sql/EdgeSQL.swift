// The command line: what there is, and how it begins.

import ArgumentParser
import Serving

@main
struct EdgeSQL: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "edge-sql",
    abstract:
      "One SQLite database, everywhere: a primary ships each commit to replicas at the edge.",
    version: "edge-sql \(SoftwareVersion.current)",
    subcommands: [
      PrimaryCommand.self, ReplicaCommand.self, ShellCommand.self, QueryCommand.self,
      StatusCommand.self, BackupCommand.self, RestoreCommand.self, VerifyCommand.self,
      TokenCommand.self, PromoteCommand.self, DemoteCommand.self, InspectCommand.self,
      DoctorCommand.self,
      BenchCommand.self,
    ])

  static func main() async {
    do {
      let words = CommandLineArguments.protected(CommandLine.arguments.dropFirst())
      var command = try parseAsRoot(words)
      if var asynchronous = command as? any AsyncParsableCommand {
        try await asynchronous.run()
      } else {
        try command.run()
      }
    } catch {
      exit(withError: error)
    }
  }
}
