// `edge-sql doctor`: looks for what will go wrong before it does.

import ArgumentParser
import Serving

struct DoctorCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "doctor",
    abstract: "Check this machine and the place of a database.",
    discussion: """
      Each line is OK, WARN or FAIL, with what to do. The exit code is 1 if anything is FAIL. \
      Nothing is changed; a file without a name is written and synced in the directory of the \
      database.
      """)

  @Option(help: ArgumentHelp("The database file; its directory is tried.", valueName: "file"))
  var db: String?
  @Flag(help: "Print JSON.") var json = false
  @OptionGroup var configuration: ConfigurationOptions

  func run() throws {
    try reportingFailures {
      let merged = try configuration.load(flags: [Settings.database.flag(db)])
      let path = try merged.optional(Settings.database)
      var findings = SQLiteFindings.all()
      if let path { findings += DatabaseFindings.all(path: path) }
      findings += DirectoryFindings(directory: Self.directory(of: path)).all()
      findings += SystemFindings.all()
      Console.output.write(json ? Self.jsonText(findings) : Self.text(findings))
      if findings.contains(where: { $0.level == .fail }) {
        throw ExitCode(ExitStatus.failed.rawValue)
      }
    }
  }

  private static func directory(of path: String?) -> String {
    guard let path, let slash = path.lastIndex(of: "/") else { return "." }
    return slash == path.startIndex ? "/" : String(path[..<slash])
  }

  private static func text(_ findings: [Finding]) -> String {
    let width = findings.map(\.subject.count).max() ?? 0
    return findings.map { $0.line(subjectWidth: width) }.joined()
  }

  private static func jsonText(_ findings: [Finding]) -> String {
    let counts = [Finding.Level.ok, .warn, .fail].map { level in
      (level.rawValue.lowercased(), findings.count { $0.level == level })
    }
    let members = counts.map { ($0.0, JSONValue.integer(Int64($0.1))) }
    let list = JSONValue.array(findings.map(\.json))
    return JSONDocument.text(.members(members + [("findings", list)])) + "\n"
  }
}
