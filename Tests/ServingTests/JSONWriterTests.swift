// What is written is valid JSON and reads back as the same.

import NIOCore
import Serving
import Testing

@Suite struct JSONWriterTests {
  @Test(arguments: [
    (1.0, "1.0"), (0.0, "0.0"), (-0.0, "-0.0"), (0.1, "0.1"), (-2.5, "-2.5"), (100.0, "100.0"),
    (12.34, "12.34"), (0.001, "0.001"), (0.000001, "1e-06"), (1e300, "1e+300"),
    (.leastNonzeroMagnitude, "5e-324"),
    (123456.789012, "123456.789012"), (0.30000000000000004, "0.30000000000000004"),
    (1e16, "1e+16"), (999_999_999.5, "999999999.5"), (1e9, "1000000000.0"),
    (Double.greatestFiniteMagnitude, "1.7976931348623157e+308"),
  ])
  func realsAreShortAndAlwaysHaveAPointOrAnExponent(value: Double, text: String) {
    #expect(written { $0.writeJSONNumber(value) } == text)
  }

  @Test func realsAreWrittenAsSwiftWritesThem() {
    var random = LineTestRandom(seed: 2)
    for round in 0..<200_000 {
      let value: Double
      switch round % 4 {
      case 0: value = Double(bitPattern: random.next())
      case 1:
        value = Double(Int64.random(in: -1_000_000_000...1_000_000_000, using: &random)) / 1000
      case 2: value = Double.random(in: -10...10, using: &random)
      default: value = (Double.random(in: 0..<1e9, using: &random) * 1e6).rounded() / 1e6
      }
      guard value.isFinite else { continue }
      let text = written { $0.writeJSONNumber(value) }
      #expect(text == value.description)
      #expect(Double(text)?.bitPattern == value.bitPattern)
    }
  }

  @Test func infinitiesAndNaNAreNotWritten() {
    for value in [Double.infinity, -.infinity, .nan] {
      var output = OutputBytes()
      let isWritten = output.writeJSONNumber(value)
      #expect(!isWritten)
      #expect(output.string == "")
    }
  }

  @Test func integersAreWrittenInDecimal() {
    var values: [Int64] = [0, 9, 10, 99, 100, 101, 12_345, .max, .min, -1, -10]
    var power: Int64 = 1
    for _ in 0..<18 {
      power *= 10
      values += [power, power - 1, power + 1, -power]
    }
    for value in values { #expect(written { $0.writeDecimal(value) } == "\(value)") }
    #expect(written { $0.writeDecimal(UInt64.max) } == "\(UInt64.max)")
  }

  @Test func stringsAreEscapedWhereJSONAsksForIt() {
    #expect(
      written { $0.writeJSONString("a\"b\\c/\n\r\t\u{8}\u{c}\u{1}\u{1f}\u{7f}é😀") }
        == #""a\"b\\c/\n\r\t\b\f\u0001\u001f\#u{7f}é😀""#)
    #expect(written { $0.writeJSONString("") } == "\"\"")
  }

  @Test func textThatIsNotUTF8IsNotWritten() {
    let bytes: [UInt8] = [0x61, 0x0a, 0x62, 0xff]
    var output = OutputBytes()
    output.append("x")
    let isWritten = bytes.withUnsafeBytes { output.writeJSONString($0) }
    #expect(!isWritten)
    #expect(output.string == "x")
  }

  @Test func stringsReadBackAsTheyWere() throws {
    var random = LineTestRandom(seed: 3)
    for _ in 0..<5000 {
      let text = random.text()
      #expect(try JSONValue.parse(written { $0.writeJSONString(text) }) == .string(text))
    }
  }

  @Test(arguments: [
    ("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="),
    ("fooba", "Zm9vYmE="), ("foobar", "Zm9vYmFy"),
  ])
  func base64IsAsInRFC4648(plain: String, encoded: String) {
    let bytes = Array(plain.utf8)
    let padded = written { buffer in bytes.withUnsafeBytes { buffer.writeBase64($0) } }
    let bare = written { buffer in
      bytes.withUnsafeBytes { buffer.writeBase64($0, padding: false) }
    }
    #expect(padded == encoded)
    #expect(bare == encoded.filter { $0 != "=" })
    #expect(decode(padded) == bytes)
    #expect(decode(bare) == bytes)
  }

  @Test(arguments: [
    "A", "AAAAA", "====", "=", "Zg=", "Z===", "Zg===", "Zm8==", "Zh==", "Zm9=", "Zm 9v", "Zm9v\n",
    "Zm-v", "Zm_v", "Zg==Zg==", "é",
  ])
  func whatIsNotBase64IsRejected(text: String) {
    #expect(decode(text) == nil)
  }

  @Test func everyByteSequenceSurvivesBase64() {
    var random = LineTestRandom(seed: 4)
    for _ in 0..<3000 {
      let bytes = random.bytes(countMax: 70)
      let text = written { buffer in
        bytes.withUnsafeBytes { buffer.writeBase64($0, padding: bytes.count % 2 == 0) }
      }
      #expect(decode(text) == bytes)
    }
  }

  private func decode(_ text: String) -> [UInt8]? {
    Array(text.utf8).withUnsafeBytes { Base64.decode($0) }
  }
}
