// `edge-sql backup`: an ordinary database file from a running node.

import ArgumentParser
import Serving
import Store

struct BackupCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "backup",
    abstract: "Copy the database of a running node into an ordinary file.",
    discussion: """
      The file holds the state at one position, as any SQLite writes it: no replica, and no part of \
      one. Clients and replicas of the node are not held up. FILE is there as a whole at the end, \
      or not at all.
      """)

  @Argument(help: "The node, a primary or a replica: HOST:PORT.") var address: String
  @Argument(help: "The file to make.") var file: String
  @Flag(help: "Replace the file if it is there, and the logs and the page map beside it.")
  var force = false
  @OptionGroup var client: ClientOptions

  func run() throws {
    try reportingFailures {
      let target = BackupTarget(path: file, replaces: force)
      try target.check()
      Interrupt.block(Interrupt.all)
      var settings = try client.settings(address: address)
      settings.isInterruptible = true
      let began = MonotonicClock.nowNanoseconds
      let result = try BackupRun(LineClient(settings), target).run()
      let milliseconds = Int((MonotonicClock.nowNanoseconds - began) / 1_000_000)
      let (position, size) = (result.position, SizeText.text(result.bytes))
      Console.output.write(
        "\(file): \(size) in \(grouped(Int(result.pageCount))) pages, "
          + "position \(position.epoch).\(position.txid), token \(position.token), "
          + "\(DurationText.text(milliseconds: milliseconds))\n")
    }
  }
}
