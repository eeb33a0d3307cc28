// A file of this repository as the house rules see it: its lines, and the same lines with comments
// and the contents of strings blanked out, so that a rule about code does not trip over prose.

import Foundation

/// One text file.
struct SourceFile {
  /// From the top of the repository, with forward slashes.
  let path: String
  let lines: [Substring]
  /// As many lines as `lines`; empty for files that are not Swift.
  let code: [Substring]

  /// All of `lines`, for a quick look whether a word is there at all.
  private let characters: [CChar]

  init(path: String, text: String) {
    self.path = path
    lines = Self.split(text)
    code = path.hasSuffix(".swift") ? Self.split(CodeBlanker.blanked(text)) : []
    characters = text.utf8CString.map(\.self)
  }

  private static func split(_ text: String) -> [Substring] {
    text.utf8.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
      .map { Substring($0) }
  }

  /// Whether `word` is anywhere in the file. Patterns are slow; most files need not be searched
  /// with them.
  func mentions(_ word: String) -> Bool {
    strstr(characters, word) != nil
  }

  /// `Store` of `Sources/Store/…`.
  var module: String {
    let parts = path.split(separator: "/")
    return parts.count > 2 ? String(parts[1]) : ""
  }

  /// `docs/` of `docs/FORMAT.md`; empty at the top.
  var folder: String { path.lastIndex(of: "/").map { String(path[...$0]) } ?? "" }

  /// Lines without the empty one behind a last line end.
  var lineCount: Int { lines.last == "" ? lines.count - 1 : lines.count }

  /// The lines of code that match, as findings; only files that mention one of `words` are
  /// searched.
  func findings(
    of words: String..., in pattern: some RegexComponent, _ message: String
  ) -> [Finding] {
    guard words.contains(where: mentions) else { return [] }
    return code.enumerated().compactMap { index, line in
      line.contains(pattern) ? Finding(path: path, line: index + 1, message: message) : nil
    }
  }
}

/// A place that breaks a rule.
struct Finding: CustomStringConvertible {
  var path: String
  var line: Int
  var message: String
  var description: String { "\(path):\(line): \(message)" }
}

/// The files of this repository.
enum Repository {
  static let root = URL(filePath: #filePath)
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

  /// Swift files of the folders `Sources` and `Tests`.
  static let sources = swiftFiles(below: "Sources")
  static let tests = swiftFiles(below: "Tests")
  static let documents =
    files(below: "docs", suffixes: [".md"])
    + ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "Benchmarks/README.md"].compactMap(file)
  static let patches = files(below: "Tests/Mutants", suffixes: [".patch"])
  static let scripts =
    files(below: "Scripts", suffixes: [".sh"])
    + ["Makefile", ".ci/run", "Package.swift"].compactMap(file)

  static func exists(_ path: String) -> Bool {
    FileManager.default.fileExists(atPath: root.appending(path: path).path)
  }

  private static func swiftFiles(below folder: String) -> [SourceFile] {
    files(below: folder, suffixes: [".swift"])
  }

  private static func files(below folder: String, suffixes: [String]) -> [SourceFile] {
    let top = root.appending(path: folder).resolvingSymlinksInPath()
    let names = FileManager.default.enumerator(atPath: top.path)?.compactMap { $0 as? String } ?? []
    return names.filter { name in suffixes.contains { name.hasSuffix($0) } }.sorted()
      .compactMap { file("\(folder)/\($0)") }
  }

  private static func file(_ path: String) -> SourceFile? {
    let text = try? String(contentsOf: root.appending(path: path), encoding: .utf8)
    return text.map { SourceFile(path: path, text: $0) }
  }
}
