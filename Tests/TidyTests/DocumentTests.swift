// Keeps the documents true where a program can tell: links lead somewhere, and tests that are named
// exist.

import Testing

@Suite struct DocumentTests {
  @Test func linksLeadToFiles() {
    for file in Repository.documents {
      for (index, line) in file.lines.enumerated() {
        for match in line.matches(of: /\]\(([^)#\s]+)(#[^)]*)?\)/) {
          let target = String(match.1)
          guard !target.contains("://") else { continue }
          let folder = file.path.split(separator: "/").dropLast().joined(separator: "/")
          guard !Repository.exists(folder.isEmpty ? target : "\(folder)/\(target)") else {
            continue
          }
          Issue.record("\(file.path):\(index + 1): \(target) does not exist")
        }
      }
    }
  }

  /// A test is named as `StoreTests/aGapIsRefused`: the target, and the function.
  @Test func testsThatAreNamedExist() {
    for file in Repository.documents {
      for (index, line) in file.lines.enumerated() {
        for match in line.matches(of: /`(\w+Tests)\/(\w+)`/) {
          let isThere = Repository.tests.contains { test in
            test.path.hasPrefix("Tests/\(match.1)/")
              && test.code.contains { $0.contains("func \(match.2)(") }
          }
          guard !isThere else { continue }
          Issue.record("\(file.path):\(index + 1): there is no test \(match.2) in \(match.1)")
        }
      }
    }
  }

  /// Each row of the fault matrix names a test that has the number of the row in its name:
  /// `row07_…`, `rows07and08_…`, `rows14to17_…`.
  @Test func everyRowOfTheFaultMatrixHasATest() throws {
    let document = try #require(Repository.documents.first { $0.path == "docs/GUARANTEES.md" })
    let rows = document.lines.compactMap { line in
      line.firstMatch(of: /^\| (\d+) \|/).flatMap { match in Int(match.1).map { ($0, line) } }
    }
    #expect(rows.count >= 36)
    for (number, line) in rows {
      let isProved = line.matches(of: /Tests\/rows?(\d\d)(?:(to|and)(\d\d))?_/).contains { match in
        guard let first = Int(match.1) else { return false }
        guard let last = match.3.flatMap({ Int($0) }) else { return number == first }
        return match.2 == "to" ? (first...last).contains(number) : [first, last].contains(number)
      }
      if !isProved { Issue.record("row \(number) names no test of that number") }
    }
  }

  /// Files that are named in backquotes by their path from the top, or from where the document is.
  @Test func filesThatAreNamedExist() {
    for file in Repository.documents {
      for (index, line) in file.lines.enumerated() {
        for match in line.matches(of: /`((?:Sources|Tests|Scripts|docs|Benchmarks)\/[\w.\/-]+)`/) {
          let isThere = ["", file.folder].contains { Repository.exists($0 + match.1) }
          guard !isThere else { continue }
          Issue.record("\(file.path):\(index + 1): \(match.1) does not exist")
        }
      }
    }
  }

  /// Sources point at documents of this repository, where the reader can follow.
  @Test func documentsThatSourcesNameExist() {
    for file in Repository.sources + Repository.tests where file.mentions("docs/") {
      for (index, line) in file.lines.enumerated() where line.contains("docs/") {
        for match in line.matches(of: /\bdocs\/[\w-]+\.md/) {
          guard !Repository.exists(String(match.0)) else { continue }
          Issue.record("\(file.path):\(index + 1): \(match.0) does not exist")
        }
      }
    }
  }
}
