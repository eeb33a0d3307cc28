// Which tokens are believed, for how long, and at what cost.

import Access
import EdgeTesting
import Serving
import Synchronization
import Testing

@Suite struct TokenVerifierTests {
  private static let start: Int64 = 1_800_000_000

  private func keys(_ key: SigningKey) async throws -> [TokenKey] {
    try await TokenKey.parse(key.publicPEM, source: "test")
  }

  /// How a credential is refused; nil when it is not.
  private func refusal(_ verifier: TokenVerifier, _ token: String?) -> CredentialError? {
    do throws(CredentialError) {
      _ = try verifier.verify(token)
      return nil
    } catch {
      return error
    }
  }

  @Test(arguments: TokenAlgorithm.allCases)
  func row45_eachBearerGetsWhatIsDue(_ algorithm: TokenAlgorithm) async throws {
    let tokens = try await TestTokens(algorithm)
    let verifier = TokenVerifier(keys: try await keys(tokens.key), requiresExpiry: true)
    for bearer in Bearer.allCases {
      let token = try tokens.token(bearer)
      #expect(refusal(verifier, token) == bearer.refusal, "\(bearer)")
      // Again, from memory.
      #expect(refusal(verifier, token) == bearer.refusal, "\(bearer), asked twice")
      guard let level = bearer.level else { continue }
      #expect(try verifier.verify(token).level(for: "default") == level, "\(bearer)")
    }
  }

  @Test func aTokenCostsOneCheckOfItsSignature() async throws {
    let tokens = try await TestTokens()
    let verifier = TokenVerifier(keys: try await keys(tokens.key))
    let token = try tokens.token(.reader)
    for _ in 0..<1000 { _ = try verifier.verify(token) }
    #expect(verifier.signatureChecks == 1)
    let forged = try tokens.token(.forged)
    for _ in 0..<1000 { #expect(refusal(verifier, forged) == .invalid) }
    #expect(verifier.signatureChecks == 2)
  }

  /// Made-up tokens push out what is remembered of others that are bad, and nothing else.
  @Test func forgeriesDoNotPushOutWhatIsGood() async throws {
    let tokens = try await TestTokens()
    let verifier = TokenVerifier(keys: try await keys(tokens.key))
    let token = try tokens.token(.reader)
    _ = try verifier.verify(token)
    for number in 0..<1000 {
      let forged = try tokens.signed("{\"n\":\(number)}", by: tokens.stranger)
      #expect(refusal(verifier, forged) == .invalid)
    }
    let checks = verifier.signatureChecks
    _ = try verifier.verify(token)
    #expect(verifier.signatureChecks == checks)
    // The first of the forgeries is forgotten by now.
    _ = refusal(verifier, try tokens.signed("{\"n\":0}", by: tokens.stranger))
    #expect(verifier.signatureChecks == checks + 1)
  }

  /// More tokens than are remembered: all are answered rightly, and the one in use stays.
  @Test func memoryIsBounded() async throws {
    let tokens = try await TestTokens()
    let verifier = TokenVerifier(keys: try await keys(tokens.key))
    let first = try tokens.token(.reader)
    _ = try verifier.verify(first)
    let forgotten = try tokens.signed("{\"n\":0}")
    for number in 0..<5000 {
      _ = try verifier.verify(try tokens.signed("{\"n\":\(number)}"))
      if number % 500 == 0 { _ = try verifier.verify(first) }
    }
    let checks = verifier.signatureChecks
    _ = try verifier.verify(first)
    #expect(verifier.signatureChecks == checks)
    _ = try verifier.verify(forgotten)
    #expect(verifier.signatureChecks == checks + 1)
  }

  @Test func timesAreHonouredWithALittleLeeway() async throws {
    let tokens = try await TestTokens()
    let clock = Clock()
    let verifier = TokenVerifier(keys: try await keys(tokens.key), now: { clock.seconds })
    let token = try tokens.signed("{\"nbf\":\(Self.start),\"exp\":\(Self.start + 100)}")
    let expected: [(Int64, CredentialError?)] = [
      (-11, .invalid), (-10, nil), (0, nil), (100, nil), (109, nil), (110, .expired),
      (1 << 40, .expired),
      // A clock that was set back.
      (50, nil),
    ]
    for (seconds, refusal) in expected {
      clock.set(Self.start + seconds)
      #expect(self.refusal(verifier, token) == refusal, "after \(seconds) s")
    }
    #expect(try verifier.verify(token).expirySeconds == Self.start + 110)
    #expect(verifier.signatureChecks == 1)
    for extreme in [Int64.max, .min] {
      let odd = try tokens.signed("{\"exp\":\(extreme)}")
      #expect(self.refusal(verifier, odd) == (extreme < 0 ? .expired : nil))
    }
  }

  @Test func anEndCanBeRequired() async throws {
    let tokens = try await TestTokens()
    let keys = try await keys(tokens.key)
    let endless = try tokens.token(.endless)
    #expect(refusal(TokenVerifier(keys: keys), endless) == nil)
    #expect(refusal(TokenVerifier(keys: keys, requiresExpiry: true), endless) == .invalid)
  }

  @Test func otherKeysTakeEffectAtOnce() async throws {
    let tokens = try await TestTokens()
    let verifier = TokenVerifier(keys: try await keys(tokens.key))
    let (old, new) = (try tokens.token(.reader), try tokens.token(.forged))
    #expect(refusal(verifier, old) == nil && refusal(verifier, new) == .invalid)
    verifier.replace(keys: try await keys(tokens.stranger))
    #expect(refusal(verifier, old) == .invalid && refusal(verifier, new) == nil)
    verifier.replace(keys: try await keys(tokens.stranger) + keys(tokens.key))
    #expect(refusal(verifier, old) == nil && refusal(verifier, new) == nil)
  }

  /// The header cannot choose: a key is for one algorithm.
  @Test func row45_anAlgorithmBelongsToItsKey() async throws {
    let (ed, ec) = (try await TestTokens(.edDSA), try await TestTokens(.es256))
    let both = try await keys(ed.key) + keys(ec.key)
    for tokens in [ed, ec] {
      let verifier = TokenVerifier(keys: both)
      #expect(refusal(verifier, try tokens.token(.reader)) == nil)
      // A signature is only tried with the keys of its algorithm.
      #expect(verifier.signatureChecks == 1)
      let parts = try #require(try tokens.token(.reader)).split(separator: ".")
      for name in ["none", "None", "HS256", "RS256", "eddsa", "ES384", ""] {
        let header = Base64URL.encode("{\"alg\":\"\(name)\"}".utf8)
        #expect(refusal(verifier, "\(header).\(parts[1]).\(parts[2])") == .invalid, "\(name)")
      }
      for header in [
        "{}", "{\"alg\":null}", "[]", "{\"alg\":\"EdDSA\",\"crit\":[\"exp\"]}",
        "{\"alg\":\"none\",\"alg\":\"EdDSA\"}", "{\"alg\":\"EdDSA\",\"b64\":false}",
      ] {
        let head = Base64URL.encode(header.utf8)
        #expect(refusal(verifier, "\(head).\(parts[1]).\(parts[2])") == .invalid, "\(header)")
      }
    }
  }

  /// Any change of one character makes it another text, and no text is good but the one.
  @Test func anyChangeIsSeen() async throws {
    let tokens = try await TestTokens()
    let verifier = TokenVerifier(keys: try await keys(tokens.key))
    let token = Array(try #require(try tokens.token(.reader)).utf8)
    for at in token.indices {
      var changed = token
      changed[at] = changed[at] == UInt8(ascii: "A") ? UInt8(ascii: "B") : UInt8(ascii: "A")
      #expect(refusal(verifier, String(decoding: changed, as: UTF8.self)) == .invalid, "\(at)")
    }
    let text = String(decoding: token, as: UTF8.self)
    for other in [text + "=", text + ".", " " + text, text + "\n", text + "A", "." + text] {
      #expect(refusal(verifier, other) == .invalid)
    }
    #expect(refusal(verifier, String(repeating: "a.", count: 1 << 20)) == .invalid)
    #expect(refusal(verifier, nil) == .missing && refusal(verifier, "") == .missing)
  }
}

/// A clock that stands where it is put.
private final class Clock: Sendable {
  private let value = Mutex<Int64>(0)
  var seconds: Int64 { value.withLock { $0 } }
  func set(_ seconds: Int64) { value.withLock { $0 = seconds } }
}
