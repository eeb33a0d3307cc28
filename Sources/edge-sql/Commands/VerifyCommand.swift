// `edge-sql verify`: are the pages what they should be?

import Access
import ArgumentParser
import Serving
import Store
import WALShip

struct VerifyCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "verify", abstract: "Check the pages of database files.",
    discussion: """
      One file: each page against the page map beside it, and SQLite's own integrity check. Two \
      files: whether they hold the same pages. Both may be in use. Exits with 65 when something is \
      wrong.
      With --repair, damaged pages of a replica are fetched again: give the address of the node \
      while it runs, or its file and --upstream while it does not.
      """)

  @Argument(help: "One database file, or two to compare; with --repair, a file or HOST:PORT.")
  var files: [String]
  @Flag(help: "Fetch damaged pages of a replica again.") var repair = false
  @Option(
    help: ArgumentHelp("With --repair and a file: the node to fetch from.", valueName: "address"))
  var upstream: String?
  @Option(help: ArgumentHelp("A file with the secret that all nodes share.", valueName: "file"))
  var shipSecretFile: String?
  @Option(
    help: ArgumentHelp("The certificate that the upstream wants to see.", valueName: "file"))
  var tlsCert: String?
  @Option(help: ArgumentHelp("The private key of the certificate.", valueName: "file"))
  var tlsKey: String?
  @Flag(help: "Leave out SQLite's integrity check.") var fast = false
  @OptionGroup(title: "With --repair") var client: ClientOptions

  private static let shownMax = 20

  func validate() throws {
    guard (1...2).contains(files.count) else { throw ValidationError("give one file, or two") }
    if repair, files.count != 1 {
      throw ValidationError("--repair takes one file, or one address")
    }
    if !repair, upstream != nil || shipSecretFile != nil {
      throw ValidationError("--upstream and --ship-secret-file go with --repair")
    }
  }

  func run() async throws {
    try await reportingFailures {
      do {
        if repair {
          try await PageRepair(
            target: files[0], upstream: upstream, secretFile: shipSecretFile,
            tls: TLSFiles(certificate: tlsCert, key: tlsKey, authority: client.tlsCa),
            client: client
          ).run()
        } else if files.count == 2 {
          try compare()
        } else {
          try check(files[0])
        }
      } catch let error as any FailureConvertible {
        throw error
      } catch let failure as PrimaryDatabase.Failure {
        throw CommandFailure(.corruptData, failure.description)
      } catch is PageMapIdentity.Failure {
        throw CommandFailure(.corruptData, "the page map of \(files[0]) is damaged")
      } catch {
        throw NodeRun.failure(error, path: files[0])
      }
    }
  }

  private func check(_ path: String) throws {
    try requireFile(path)
    let comparison = try PageComparison(path: path)
    var problems: [String] = []
    describe(comparison)
    if Disk.exists(PrimaryDatabase.pageMapPath(of: path)) {
      let differing = try comparison.differencesFromPageMap(limit: Self.shownMax)
      problems += differing.map { "page \($0.pgno) does not match its checksum in the page map" }
      if differing.isEmpty {
        Console.output.write("\(path): \(comparison.pageCount) pages match the page map\n")
      }
    } else {
      Console.output.write("\(path): there is no page map beside it\n")
    }
    if !fast {
      let report = try comparison.integrityCheck()
      Console.output.write("\(path): integrity_check \(report.joined(separator: "; "))\n")
      if report != ["ok"] { problems.append("SQLite's integrity check fails") }
    }
    try conclude(problems)
  }

  private func compare() throws {
    for file in files { try requireFile(file) }
    let (first, second) = (try PageComparison(path: files[0]), try PageComparison(path: files[1]))
    guard first.pageSize == second.pageSize else {
      throw CommandFailure(
        .corruptData, "the pages have \(first.pageSize) and \(second.pageSize) bytes")
    }
    describe(first)
    describe(second)
    let differing = try first.differences(from: second, limit: Self.shownMax)
    if differing.isEmpty {
      Console.output.write("the same \(first.pageCount) pages in both files\n")
    }
    try conclude(differing.map { "page \($0.pgno) differs" })
  }

  private func describe(_ comparison: PageComparison) {
    let stamp = try? comparison.stamp()
    let role = stamp.map { "a replica at \($0.epoch).\($0.txid)" } ?? "not a replica's file"
    Console.output.write(
      "\(comparison.path): \(comparison.pageCount) pages of \(comparison.pageSize) bytes, \(role)\n"
    )
  }

  private func requireFile(_ path: String) throws {
    guard Disk.exists(path) else {
      throw CommandFailure(.unavailable, "there is no file \(path)")
    }
  }

  private func conclude(_ problems: [String]) throws {
    guard !problems.isEmpty else { return }
    for problem in problems { Console.output.write("\(problem)\n") }
    throw CommandFailure(
      .corruptData,
      problems.count >= Self.shownMax
        ? "at least \(problems.count) problems were found" : "\(problems.count) problems were found"
    )
  }
}
