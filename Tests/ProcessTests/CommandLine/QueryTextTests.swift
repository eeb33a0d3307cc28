// What is typed on a command line or at the prompt, and what it is taken for.

import Serving
import Testing

@testable import edge_sql

@Suite struct QueryTextTests {
  @Test(arguments: [
    ("7", JSONValue.integer(7)), ("-7", .integer(-7)), ("+7", .string("+7")),
    ("9223372036854775808", .string("9223372036854775808")), ("2.5", .real(2.5)),
    ("-.5e3", .real(-500)), ("1e999", .string("1e999")), ("NULL", .null), ("nan", .string("nan")),
    ("0x10", .string("0x10")), ("", .string("")), ("x'0g'", .string("x'0g'")),
    ("x'0'", .string("x'0'")), ("'5'", .string("'5'")), ("1-2", .string("1-2")),
  ])
  func argumentHasAType(_ text: String, _ value: JSONValue) {
    #expect(ArgumentText.json(text) == value)
  }

  @Test func blobArgumentBecomesBase64() {
    #expect(JSONDocument.text(ArgumentText.json("X'00fF'")) == #"{"b64":"AP8="}"#)
    #expect(JSONDocument.text(ArgumentText.json("x''")) == #"{"b64":""}"#)
  }

  @Test func negativeNumbersBehindArgsAreNoOptions() {
    let words = ["query", "-1", "--args", "-5", "a", "-.5", "-x", "-6", "--args", "-7"]
    let restored = CommandLineArguments.protected(words).map(CommandLineArguments.restored)
    #expect(restored == words)
    let marked = zip(words, CommandLineArguments.protected(words)).filter { $0 != $1 }.map(\.0)
    #expect(marked == ["-5", "-.5", "-7"])
  }

  @Test(arguments: [
    ("select 1; select 2", ["select 1;"], "select 2"),
    ("select ';'; -- ; end", ["select ';';"], ""),
    ("select 'it''s;", [], "select 'it''s;"),
    ("select \"a;\", `b;`, [c;] /* ; */;;", ["select \"a;\", `b;`, [c;] /* ; */;"], ""),
    (
      "create temp trigger t insert on a begin select case 1 when 1 then 2 end; end; x",
      [
        "create temp trigger t insert on a begin select case 1 when 1 then 2 end; end;"
      ],
      "x"
    ),
    ("create table a(begin, end); x;", ["create table a(begin, end);", "x;"], ""),
    ("select /* open", [], "select /* open"), (" \n ; ; -- only\n", [], ""),
  ])
  func statementsEndAtTheirSemicolon(_ text: String, _ statements: [String], _ rest: String) {
    #expect(ScannedSQL(scanning: text) == ScannedSQL(statements: statements, rest: rest))
  }

  @Test func transactionStatementsAreSeen() {
    #expect(ScannedSQL.controlsTransaction("/* a */ -- b\n Begin immediate;"))
    #expect(!ScannedSQL.controlsTransaction("beginning;"))
    #expect(!ScannedSQL.controlsTransaction("select 'begin';"))
  }
}

@Suite struct EditingTests {
  private func buffer(_ text: String, back: Int = 0) -> EditBuffer {
    var buffer = EditBuffer()
    buffer.set(text)
    for _ in 0..<back { buffer.moveLeft() }
    return buffer
  }

  @Test func keysEditAroundTheCursor() {
    var line = buffer("select 1", back: 2)
    line.insert("ed")
    #expect(line.text == "selected 1")
    line.deleteBackward()
    line.deleteForward()
    #expect(line.text == "selecte1" && line.cursor == 7)
    line.moveHome()
    line.deleteBackward()
    line.moveEnd()
    line.deleteForward()
    #expect(line.text == "selecte1" && line.cursor == 8)
  }

  @Test func killedTextComesBack() {
    var line = buffer("select a, b")
    line.killWordBackward()
    #expect(line.text == "select a, ")
    line.moveHome()
    line.yank()
    #expect(line.text == "bselect a, ")
    line.killToEnd()
    #expect(line.text == "b" && line.killed == Array("select a, "))
    line.killToStart()
    #expect(line.isEmpty)
  }

  @Test func combiningMarkJoinsItsCharacter() {
    var line = buffer("e", back: 0)
    line.insert("\u{301}")
    #expect(line.characters.count == 1 && line.cursor == 1)
  }

  @Test func layoutWrapsWideCharactersWhole() {
    let layout = LineLayout(prompt: "> ", buffer: buffer("ab日本", back: 1), columns: 7)
    #expect(layout.end == LineLayout.Point(row: 1, column: 2))
    #expect(layout.cursor == LineLayout.Point(row: 1, column: 0))
    let full = LineLayout(prompt: "> ", buffer: buffer("abcde"), columns: 7)
    #expect(full.end == LineLayout.Point(row: 1, column: 0) && full.text == "> abcde\n")
  }

  @Test func keysAreReadFromBytes() {
    var bytes = Array("\u{1b}[A\u{1b}[1;5C\u{1b}[3~\u{1b}OH日\u{12}\r".utf8)[...]
    let reader = KeyReader(nextByte: { bytes.popFirst() }, hasMore: { !bytes.isEmpty })
    let keys = (0..<8).map { _ in reader.next() }
    #expect(
      keys == [.up, .wordRight, .delete, .home, .text("日"), .control("r"), .enter, .endOfInput])
  }

  @Test func historyEntryFitsOnOneLine() {
    let entry = "select 'a\\n',\n 2"
    #expect(!History.escape(entry).contains("\n"))
    #expect(History.unescape(History.escape(entry)) == entry)
  }
}
