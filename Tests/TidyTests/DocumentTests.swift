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
