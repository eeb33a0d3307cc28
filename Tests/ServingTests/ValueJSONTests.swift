// Every SQLite value crosses the line protocol unchanged.

import NIOCore
import Serving
import Store
import Testing

@Suite struct ValueJSONTests {
  private static let forms: [(Value, String)] = [
    (.null, "null"), (.integer(.max), "9223372036854775807"),
    (.integer(.min), "-9223372036854775808"), (.integer(0), "0"), (.real(1), "1.0"),
    (.real(-0.0), "-0.0"), (.real(0.1), "0.1"), (.real(.leastNonzeroMagnitude), "5e-324"),
    (.real(1.7976931348623157e308), "1.7976931348623157e+308"),
    (.real(.infinity), #"{"real":"Infinity"}"#), (.real(-.infinity), #"{"real":"-Infinity"}"#),
    (.text("Ada"), #""Ada""#), (.text(""), #""""#), (.text("12"), #""12""#),
    (.malformedText([0x61, 0xff]), #"{"text_b64":"Yf8="}"#),
    (.blob([1, 2, 3]), #"{"b64":"AQID"}"#),
    (.blob([]), #"{"b64":""}"#),
  ]

  @Test(arguments: forms)
  func valuesAreWrittenAndReadBothWays(original: Value, text: String) throws {
    #expect(written { $0.writeJSON(original) } == text)
    #expect(try value(in: text) == original)
  }

  @Test func integersAreStringsInTextMode() {
    #expect(written { $0.writeJSON(.integer(-7), integers: .text) } == "\"-7\"")
    #expect(written { $0.writeJSON(.real(7), integers: .text) } == "7.0")
  }

  @Test func notANumberIsNull() {
    #expect(written { $0.writeJSON(.real(.nan)) } == "null")
  }

  @Test func trueAndFalseBindAsOneAndZero() throws {
    #expect(try value(in: "true") == .integer(1))
    #expect(try value(in: "false") == .integer(0))
  }

  @Test func aNumberWithAPointOrAnExponentIsReal() throws {
    #expect(try value(in: "1e3") == .real(1000))
    #expect(try value(in: "1.0") == .real(1))
    #expect(try value(in: "1") == .integer(1))
  }

  @Test func malformedTextThatIsUTF8IsText() throws {
    #expect(try value(in: #"{"text_b64":"w6k="}"#) == .text("é"))
  }

  @Test func base64MayBeUnpaddedAndEscaped() throws {
    #expect(try value(in: #"{"b64":"Yf8"}"#) == .blob([0x61, 0xff]))
    #expect(try value(in: #"{"b64":"\/\/8="}"#) == .blob([0xff, 0xff]))
  }

  @Test(arguments: [
    "[]", "{}", #"{"b64":1}"#, #"{"b64":"!"}"#, #"{"b64":"AQ==","x":1}"#, #"{"x":"AQ=="}"#,
    #"{"real":"NaN"}"#, #"{"real":1.5}"#, "9223372036854775808", "1e400",
  ])
  func whatIsNoValueIsRejected(text: String) {
    #expect(throws: JSONError.self) { try value(in: text) }
  }

  @Test func randomValuesComeBackAsTheyWere() throws {
    var random = LineTestRandom(seed: 5)
    for _ in 0..<20_000 {
      let original = random.value()
      let text = written { $0.writeJSON(original) }
      let again = try value(in: text)
      #expect(again == original)
      if case .real(let a) = original, case .real(let b) = again {
        #expect(a.bitPattern == b.bitPattern)
      }
    }
  }
}
