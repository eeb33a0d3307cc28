// JSON is read strictly, exactly, and never past its end.

import NIOCore
import Serving
import Testing

@Suite struct JSONReaderTests {
  private func reason(_ text: String) -> String? {
    do {
      _ = try JSONValue.parse(text)
      return nil
    } catch {
      return error.description
    }
  }

  private func number(_ text: String) throws -> JSONValue { try JSONValue.parse(text) }

  @Test func treeKeepsOrderAndRepeatedKeys() throws {
    let value = try JSONValue.parse(#" {"b":[1,2.0,"x",true,false,null],"a":{},"b":[]} "#)
    #expect(
      value
        == .object([
          .init(
            "b", .array([.integer(1), .real(2), .string("x"), .bool(true), .bool(false), .null])),
          .init("a", .object([])), .init("b", .array([])),
        ]))
    #expect(value["b"]?[1] == .real(2))
    #expect(value["c"] == nil)
  }

  @Test func integersAreExactOver64Bits() throws {
    #expect(try number("9223372036854775807") == .integer(.max))
    #expect(try number("-9223372036854775808") == .integer(.min))
    #expect(try number("-0") == .integer(0))
    #expect(reason("9223372036854775808")?.contains("64 bits") == true)
    #expect(reason("-9223372036854775809")?.contains("64 bits") == true)
    #expect(reason("99999999999999999999999999")?.contains("64 bits") == true)
  }

  @Test(arguments: [
    "0.1", "-0.0", "5e-324", "2.5e-324", "1.7976931348623157e308", "1e22", "1e23", "123456789.125",
    "9007199254740993.0", "0.30000000000000004", "1E+2", "1e-400", "8.5e-7",
    "179769313486231580793728971405301e276", "2.2250738585072011e-308",
    "1.00000000000000011102230246251565404236316680908203125",
  ])
  func realsAreRoundedCorrectly(text: String) throws {
    let expected = try #require(Double(text))
    guard case .real(let value) = try number(text) else {
      Issue.record("\(text) is not a REAL")
      return
    }
    #expect(value.bitPattern == expected.bitPattern)
  }

  @Test func numbersBeyondAnyDoubleAreErrors() {
    #expect(reason("1e400")?.contains("too large for a REAL") == true)
    #expect(reason("-1e99999999999999999999") != nil)
    #expect(reason("1e-99999999999999999999") == nil)
  }

  @Test(arguments: [
    "", " ", "{", "[", "[1", "[1,", "[1,]", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{1:2}", "[1 2]",
    "[1}", "{\"a\":1]", "01", "-", "+1", ".5", "1.", "1e", "1e+", "--1", "0x10", "NaN", "Infinity",
    "tru", "nul", "True", "'a'", "\"a", "\"\\", "\"\\u12\"", "\"\\u12g4\"", "\"\\x\"",
    "\"\\ud800\"", "\"\\udc00\"", "\"\\ud800\\u0041\"", "\"\\ud800x\"", "\"a\u{1}\"", "\"\n\"",
    "1 2", "{} x",
    "[],", "\u{feff}1", "1\u{a0}", "/**/1",
  ])
  func whatIsNotJSONIsRejected(text: String) {
    #expect(reason(text) != nil)
  }

  @Test func everyPrefixOfADocumentIsRejected() throws {
    let text = #"{"a":[1,-2.5e3,"x\u00e9\n",{"b":null}],"c":true}"#
    _ = try JSONValue.parse(text)
    for count in 0..<text.utf8.count {
      #expect(reason(String(text.prefix(count))) != nil)
    }
  }

  @Test func errorsTellTheByteAndOneReason() {
    #expect(reason("[1,}") == "a value was expected, at byte 3")
    #expect(reason("\"\\ud83d\"") == "half of a surrogate pair stands alone, at byte 1")
    #expect(reason("[\"a\tb\"]")?.hasSuffix("at byte 3") == true)
  }

  @Test func escapesStandForTheirCharacters() throws {
    let text = #""\"\\\/\b\f\n\r\t\u0041\u00e9\u6f22\ud83d\ude00\u0000é😀""#
    #expect(
      try JSONValue.parse(text)
        == .string("\"\\/\u{8}\u{c}\n\r\tA\u{e9}\u{6f22}\u{1f600}\u{0}é😀"))
  }

  private static let malformed: [[UInt8]] = [
    [0xff], [0xc0, 0x80], [0xc3], [0xe0, 0x80, 0x80], [0xed, 0xa0, 0x80], [0xf4, 0x90, 0x80, 0x80],
    [0xf0, 0x80, 0x80, 0x80], [0x80], [0xf8, 0x88, 0x80, 0x80, 0x80], [0xe2, 0x82], [0xc3, 0x41],
  ]

  @Test(arguments: malformed)
  func stringsThatAreNotUTF8AreRejected(bytes: [UInt8]) {
    for padding in [0, 1, 7, 8, 9] {
      let filler = [UInt8](repeating: 0x61, count: padding)
      let document = ByteBuffer(bytes: [0x22] + filler + bytes + filler + [0x22])
      #expect(throws: JSONError(offset: 1 + padding, reason: "this is not UTF-8")) {
        try JSONValue.parse(document)
      }
    }
  }

  @Test func everyScalarValueIsReadAsItIs() throws {
    for first in stride(from: UInt32(0x80), to: 0x11_0000, by: 97) {
      guard let scalar = Unicode.Scalar(first) else { continue }
      #expect(try JSONValue.parse("\"ab\(scalar)c\"") == .string("ab\(scalar)c"))
    }
  }

  @Test func nestingEndsAtDepth64() throws {
    func nested(_ depth: Int) -> String {
      String(repeating: "[", count: depth) + String(repeating: "]", count: depth)
    }
    _ = try JSONValue.parse(nested(64))
    #expect(reason(nested(65))?.contains("deeper than 64") == true)
    #expect(reason(String(repeating: "{\"a\":", count: 100_000))?.contains("deeper") == true)
  }

  @Test func documentsOverALimitAreRejected() {
    #expect(throws: JSONError.self) {
      try JSONValue.parse("[1,2,3]", limits: .init(bytesMax: 6))
    }
    #expect(throws: JSONError.self) {
      try JSONValue.parse("[1,2,3]", limits: .init(valuesMax: 3))
    }
    #expect(throws: Never.self) {
      try JSONValue.parse("[1,2,3]", limits: .init(bytesMax: 7, valuesMax: 4))
    }
  }

  @Test func garbageNeverTraps() {
    var random = LineTestRandom(seed: 1)
    let alphabet = Array(#"{}[]",:\/u0123456789abcdefE+-.tn rue 😀"#.utf8) + [0xff, 0x00, 0x0a]
    for round in 0..<20_000 {
      let count = Int.random(in: 0..<40, using: &random)
      let bytes = (0..<count).map { _ in
        round % 2 == 0
          ? UInt8(truncatingIfNeeded: random.next())
          : alphabet.randomElement(using: &random) ?? 0
      }
      let buffer = ByteBuffer(bytes: bytes)
      do {
        let value = try JSONValue.parse(buffer)
        let again = try JSONValue.parse(written { value.write(into: &$0) })
        #expect(again == value)
      } catch {
        #expect(error.offset >= 0 && error.offset <= count)
      }
    }
  }
}
