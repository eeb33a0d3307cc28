// The rules are as good as what tells code from prose.

import Testing

@Suite struct BlankingTests {
  @Test func theRulesSeeTheRepository() {
    #expect(Repository.sources.contains { $0.path == "Sources/Store/WAL/WALInjector.swift" })
    #expect(Repository.tests.contains { $0.path == "Tests/TidyTests/BlankingTests.swift" })
    #expect(Repository.documents.contains { $0.path == "docs/PROTOCOL.md" })
    #expect(Repository.scripts.contains { $0.path == ".ci/run" })
  }

  @Test(arguments: [
    ("let a = 1  // try!", "let a = 1         "),
    ("/* try! /* x */ y */ b", "                     b"),
    (#"let s = "try! \" x" + t"#, #"let s =             + t"#),
    (#"f("\(try! g("}")) }")"#, #"f(   try! g(   )    )"#),
    ("let r = #\"a \" \\(b) \\#(c)\"# + d", "let r =               c    + d"),
  ])
  func commentsAndStringsBecomeBlank(text: String, expected: String) {
    #expect(CodeBlanker.blanked(text) == expected)
  }

  @Test func linesStayWhereTheyAre() {
    let text = "a\n\"\"\"\n  try! \\(b)\n  \"\"\"\n/* c\n*/ d\n"
    let blanked = CodeBlanker.blanked(text)
    #expect(blanked.split(separator: "\n", omittingEmptySubsequences: false).count == 8 - 1)
    #expect(!blanked.contains("try!"))
    #expect(blanked.contains("b") && blanked.contains("d") && !blanked.contains("c"))
  }

  @Test func functionsEndAtTheirBrace() {
    let text = """
      protocol P {
        func a() -> Int
        func b(_ x: [Int])
      }
      extension P {
        func c(
          _ x: () -> Void = {}
        ) {
          if true { x() }
        }
      }
      """
    let spans = FunctionSpan.all(in: SourceFile(path: "a.swift", text: text))
    #expect(spans.map(\.name) == ["c"])
    #expect(spans.map(\.lineCount) == [5])
  }
}
