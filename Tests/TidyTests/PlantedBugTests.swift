// The planted bugs of `make mutants`: one that no longer fits its source would be found by nothing.

import Testing

@Suite struct PlantedBugTests {
  /// The lines that a hunk takes away, and those around them, are in the file as they stand there.
  @Test func everyPlantedBugFitsItsSource() throws {
    #expect(Repository.patches.count >= 12)
    for patch in Repository.patches {
      let hunks = Hunk.all(of: patch)
      if hunks.isEmpty { Issue.record("\(patch.path) changes nothing") }
      for hunk in hunks {
        let source = try #require(
          Repository.sources.first { $0.path == hunk.path }, "\(patch.path): no \(hunk.path)")
        let count = hunk.before.count
        let fits = source.lines.indices.dropLast(count - 1).contains { first in
          source.lines[first..<first + count].elementsEqual(hunk.before)
        }
        if !fits { Issue.record("\(patch.path) does not fit \(hunk.path)") }
      }
    }
  }
}

/// A piece of a patch in the unified format.
private struct Hunk {
  var path: String
  /// The lines before the change.
  var before: [Substring] = []

  static func all(of patch: SourceFile) -> [Hunk] {
    var hunks: [Hunk] = []
    var path = ""
    for line in patch.lines {
      if let match = line.firstMatch(of: /^\+\+\+ b\/(.+)$/) {
        path = String(match.1)
      } else if line.hasPrefix("@@") {
        hunks.append(Hunk(path: path))
      } else if !hunks.isEmpty, line.hasPrefix(" ") || line.hasPrefix("-"), !line.hasPrefix("---") {
        hunks[hunks.count - 1].before.append(line.dropFirst())
      }
    }
    return hunks
  }
}
