// Tables line up and CSV can be read back, whatever the values hold.

import Serving
import Store
import Testing

@Suite struct TextTableTests {
  private let rows: [[Value]] = [
    [.integer(7), .text("Ada"), .null], [.integer(-12), .text("Zoë\n漢"), .real(1.5)],
  ]

  @Test func tablesAreDrawnLikeThoseOfSqlite3() {
    #expect(
      TextTable.table(columns: ["id", "name", "n"], rows: rows) == """
        +-----+--------+------+
        | id  | name   | n    |
        +-----+--------+------+
        |   7 | Ada    | NULL |
        | -12 | Zoë\\n漢 |  1.5 |
        +-----+--------+------+

        """)
  }

  @Test func aTableWithoutRowsIsItsHeader() {
    #expect(TextTable.table(columns: ["a"], rows: []) == "+---+\n| a |\n+---+\n")
  }

  @Test func nothingThatATerminalObeysGetsThrough() {
    let text = TextTable.table(columns: ["\u{1b}[31m"], rows: [[.text("\u{9b}2J\u{202e}x\t")]])
    for scalar in text.unicodeScalars where scalar != "\n" {
      #expect(scalar.value >= 0x20 && scalar.value < 0x7f)
    }
  }

  @Test func longBlobsAreCutInTablesOnly() {
    let blob = Value.blob([UInt8](repeating: 0xab, count: 100))
    #expect(TextTable.table(columns: ["b"], rows: [[blob]]).contains("… (100 bytes)"))
    #expect(
      TextTable.csv(columns: ["b"], rows: [[blob]])
        == "b\r\nx'" + String(repeating: "ab", count: 100) + "'\r\n")
  }

  @Test func csvFollowsRFC4180() {
    #expect(
      TextTable.csv(
        columns: ["a", "b,c"],
        rows: [
          [.null, .text("")], [.text("say \"hi\""), .text("x\r\ny")], [.real(1), .integer(.min)],
          [.real(.infinity), .text("plain")],
        ])
        == "a,\"b,c\"\r\n,\"\"\r\n\"say \"\"hi\"\"\",\"x\r\ny\"\r\n1.0,-9223372036854775808\r\n"
        + "Infinity,plain\r\n")
  }

  @Test func rowsOfAnotherLengthDoNotTrap() {
    _ = TextTable.table(columns: ["a", "b"], rows: [[.integer(1)], []])
    _ = TextTable.table(columns: ["a"], rows: [[.integer(1), .integer(2)]])
    #expect(TextTable.table(columns: [], rows: []) == "+\n|\n+\n")
  }
}
