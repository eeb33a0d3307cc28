// `edge-sql inspect wal` and `edge-sql inspect pagemap`: what is in the files beside a database.

import ArgumentParser
import Serving
import Store
import WALShip

struct InspectWALCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "wal", abstract: "Show the transactions in a -wal file, and why reading it ended.")

  @Argument(help: "A -wal file.") var file: String
  @Option(help: "How many of the last transactions to list.") var last = 10

  func validate() throws {
    guard last >= 0 else { throw ValidationError("--last takes a number from 0 on") }
  }

  func run() throws {
    try reportingFailures {
      guard Disk.exists(file) else {
        throw CommandFailure(.unavailable, "there is no file \(file)")
      }
      let report: LogReport
      do {
        report = try LogReport(path: file)
      } catch let error as WALFormatError {
        throw CommandFailure(.corruptData, "\(file) is not a WAL: \(error)")
      } catch {
        throw NodeRun.failure(error, path: file)
      }
      var columns = Columns(.left, .left)
      columns.add("page size", "\(report.header.pageSize)")
      columns.add(
        "salts",
        "\(String(report.header.salts.first, radix: 16)) \(String(report.header.salts.second, radix: 16))"
      )
      columns.add("checkpoint sequence", "\(report.header.checkpointSequence)")
      columns.add("file", "\(report.fileBytes) bytes")
      columns.add("transactions", "\(report.transactions.count)")
      columns.add("committed frames", "\(report.transactions.last?.frames.upperBound ?? 0)")
      columns.add("end", Self.reason(report.end))
      Console.output.write(columns.text())
      for transaction in report.transactions.suffix(last) {
        let frames = transaction.frames
        Console.output.write(
          "frames \(frames.lowerBound) to \(frames.upperBound), then \(transaction.pageCount) pages\n"
        )
      }
    }
  }

  private static func reason(_ end: TransactionScanner.End) -> String {
    switch end {
    case .moreBytesNeeded: "the file ends after a commit"
    case .openTransaction(let frames): "\(frames) frames follow that were never committed"
    case .saltChanged(let frame): "frame \(frame) belongs to an earlier generation"
    case .checksumMismatch(let frame): "the checksum of frame \(frame) does not hold"
    case .zeroPgno(let frame): "frame \(frame) names no page"
    }
  }
}

struct InspectPageMapCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "pagemap", abstract: "Show what a page map says of its database.")

  @Argument(help: "A -pagemap file.") var file: String
  @Option(help: "Show the entry of this page, too.") var page: UInt32?

  func run() throws {
    try reportingFailures {
      guard Disk.exists(file) else {
        throw CommandFailure(.unavailable, "there is no file \(file)")
      }
      let map: PageMapFile
      do {
        map = try PageMapFile(opening: file)
      } catch PageMapIdentity.Failure.newerFormat(let version) {
        throw CommandFailure(
          .corruptData, "\(file) has format \(version), which a newer release wrote")
      } catch is PageMapIdentity.Failure {
        throw CommandFailure(.corruptData, "\(file) is not a page map, or is damaged")
      } catch {
        throw NodeRun.failure(error, path: file)
      }
      let (base, live) = (map.base, map.live)
      var columns = Columns(.left, .left)
      columns.add("database", "\(map.identity.database)")
      columns.add("page size", "\(map.identity.pageSize)")
      columns.add("epoch", "\(base.history.current)")
      for fork in base.history.forks {
        columns.add("epoch \(fork.epoch)", "up to transaction \(fork.last)")
      }
      columns.add(
        "durable", "transaction \(base.txid), \(base.pageCount) pages, frame \(base.place.frame)")
      columns.add(
        "present", "transaction \(live.txid), \(live.pageCount) pages, frame \(live.place.frame)")
      columns.add("checksum", "\(live.checksum)")
      columns.add("stopped in order", base.isClean ? "yes" : "no")
      if let page {
        guard page > 0 else { throw CommandFailure(.usage, "pages are numbered from 1") }
        let entry = map.entry(Pgno(page))
        columns.add(
          "page \(page)", "transaction \(entry.txid), checksum \(String(entry.checksum, radix: 16))"
        )
      }
      Console.output.write(columns.text())
    }
  }
}
