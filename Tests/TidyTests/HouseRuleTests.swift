// The house rules of CONTRIBUTING.md that a program can check. Each failure names its file and
// line.

import Testing

@Suite struct HouseRuleTests {
  static let lineCountMax = 399
  static let functionLinesMax = 100
  static let lineCharactersMax = 120
  /// Files under Tests that may sleep. Waiting is for `EdgeTesting`, which looks again until a
  /// deadline.
  static let mayWait: Set<String> = []

  private var swiftFiles: [SourceFile] { Repository.sources + Repository.tests }
  private var allFiles: [SourceFile] { swiftFiles + Repository.documents + Repository.scripts }

  @Test func filesAreShort() {
    for file in swiftFiles where file.lineCount > Self.lineCountMax {
      Issue.record("\(file.path):\(file.lineCount): more than \(Self.lineCountMax) lines")
    }
  }

  @Test func functionsAreShort() {
    for file in swiftFiles {
      for function in FunctionSpan.all(in: file) where function.lineCount > Self.functionLinesMax {
        let place = "\(file.path):\(function.firstLine)"
        Issue.record("\(place): \(function.name) has \(function.lineCount) lines")
      }
    }
  }

  @Test func linesAreNotTooWide() {
    for file in swiftFiles {
      for (index, line) in file.lines.enumerated()
      where line.utf8.count > Self.lineCharactersMax && line.count > Self.lineCharactersMax {
        Issue.record("\(file.path):\(index + 1): \(line.count) characters")
      }
    }
  }

  @Test func sourcesDoNotTrapOnWhatCanHappen() {
    for file in Repository.sources {
      report(file.findings(of: "try!", in: /\btry!/, "try! hides an error that can happen"))
      report(file.findings(of: "as!", in: /\bas!/, "as! hides an error that can happen"))
      report(
        file.findings(
          of: "fatalError(", in: /\bfatalError\(/,
          "use precondition for our bugs, throw for the rest"))
    }
  }

  @Test func sourcesStartNoDetachedTasks() {
    for file in Repository.sources {
      report(
        file.findings(
          of: "Task.detached", in: /\bTask\.detached\b/, "nobody waits for a detached task"))
    }
  }

  @Test func uncheckedSendabilityHasItsReasonOnTheLine() {
    for file in swiftFiles where file.mentions("@unchecked") || file.mentions("nonisolated(") {
      for (index, line) in file.code.enumerated()
      where line.contains(/@unchecked\s+Sendable|nonisolated\(unsafe\)/) {
        // The comment is blank in `code`, so it is looked for in the line itself, behind the code.
        let codeEnd =
          line.lastIndex { $0 != " " }.map { line.distance(from: line.startIndex, to: $0) } ?? 0
        guard !file.lines[index].dropFirst(codeEnd + 1).contains(/\/\/\s*\S/) else { continue }
        Issue.record("\(file.path):\(index + 1): say on this line why it is safe")
      }
    }
  }

  @Test func testsWaitOnConditionsAndDoNotSleep() {
    let pattern = /\b(u|nano|thread)?sleep\(|\bTask\.yield\(/.ignoresCase()
    for file in Repository.tests where !Self.mayWait.contains(file.path) {
      report(
        file.findings(of: "leep(", "yield(", in: pattern, "wait on a condition with a deadline"))
    }
  }

  @Test func noPathOfAMachine() {
    // Put together here, so that this file does not break its own rule.
    let machine = "/" + "work/"
    for file in allFiles where file.mentions(machine) {
      for (index, line) in file.lines.enumerated() where line.contains(machine) {
        Issue.record("\(file.path):\(index + 1): a path of one machine")
      }
    }
  }

  @Test func nothingIsLeftForLater() {
    let words = ["TO" + "DO", "FIX" + "ME"]
    for file in allFiles where words.contains(where: file.mentions) {
      for (index, line) in file.lines.enumerated() where words.contains(where: line.contains) {
        Issue.record("\(file.path):\(index + 1): unfinished work belongs into an issue")
      }
    }
  }
}
