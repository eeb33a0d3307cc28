// Files of keys: what they may hold, and who may read them.

import Access
import EdgeTesting
import Serving
import Testing

@Suite struct KeyFileTests {
  private func accepts(_ text: String, _ tokens: TestTokens) async throws -> Bool {
    let keys = try await TokenKey.parse(text, source: "test")
    return (try? TokenVerifier(keys: keys).verify(try tokens.token(.reader))) != nil
  }

  @Test func severalKeysInOneFile() async throws {
    let (ed, ec) = (try await TestTokens(.edDSA), try await TestTokens(.es256))
    let text = "# comment\r\n" + ed.key.publicPEM + "\n\n" + ec.key.publicPEM
    #expect(try await TokenKey.parse(text, source: "test").map(\.algorithm) == [.edDSA, .es256])
    #expect(try await accepts(text, ed))
    #expect(try await accepts(text, ec))
  }

  /// As sqld reads it: the 32 bytes in base64 for URLs; also as others write base64.
  @Test func aKeyInBase64() async throws {
    let tokens = try await TestTokens()
    let pem = tokens.key.publicPEM.split(separator: "\n")
    let der = try #require(
      Base64URL.decode(
        pem[1].utf8.map { $0 == UInt8(ascii: "+") ? UInt8(ascii: "-") : $0 }
          .map { $0 == UInt8(ascii: "/") ? UInt8(ascii: "_") : $0 }
          .filter { $0 != UInt8(ascii: "=") }))
    let bare = Base64URL.encode(der.suffix(32))
    let standard = bare.replacing("-", with: "+").replacing("_", with: "/")
    for text in [bare, bare + "\n", bare + "=", standard, standard + "=\n"] {
      #expect(try await accepts(text, tokens), "\(text)")
    }
  }

  @Test func textsThatAreNoKeys() async throws {
    let directory = try TestDirectory()
    let tokens = try await TestTokens()
    let file = directory.file("private.pem")
    try tokens.key.save(file)
    let secret = Files.text(file)
    for text in [
      secret, "", "AAAA", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
      "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
      tokens.key.publicPEM + "\n" + secret,
    ] {
      await #expect(throws: KeyFileFailure.self) {
        try await TokenKey.parse(text, source: "the file")
      }
    }
    do {
      _ = try await TokenKey.parse(secret, source: "the file")
    } catch {
      let key = secret.split(separator: "\n")[1]
      #expect("\(error)".contains("private key") && !"\(error)".contains(key))
    }
  }

  @Test func privateKeysAreForTheirOwnerAlone() async throws {
    let directory = try TestDirectory()
    let tokens = try await TestTokens()
    let file = directory.file("private.pem")
    try tokens.key.save(file)
    let loaded = try await SigningKey.load(file)
    #expect(loaded.publicPEM == tokens.key.publicPEM)
    #expect("\(loaded)" == "<private key>")
    #expect(throws: KeyFileFailure.self) { try tokens.stranger.save(file) }
    let open = try directory.write("open.pem", Files.text(file), mode: 0o644)
    await #expect(throws: KeyFileFailure.self) { try await SigningKey.load(open) }
    await #expect(throws: KeyFileFailure.self) { try await SigningKey.load(directory.path) }
    await #expect(throws: KeyFileFailure.self) {
      try await SigningKey.load(directory.file("missing"))
    }
  }
}
