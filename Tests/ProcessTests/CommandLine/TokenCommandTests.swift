// `edge-sql token` as a person uses it.

import EdgeTesting
import Glibc
import Testing

@Suite(.serialized, .programs) struct TokenCommandTests {
  private let directory: TestDirectory
  private let program: Program

  init() throws {
    directory = try TestDirectory()
    program = try Program.edgeSQL()
  }

  private func run(_ arguments: String..., input: String = "") throws -> Program.Result {
    try program.run(["token"] + arguments, input: input, deadline: .seconds(20))
  }

  private func mode(_ path: String) -> mode_t {
    var info = stat()
    return stat(path, &info) == 0 ? info.st_mode & 0o777 : 0
  }

  @Test(arguments: ["EdDSA", "ES256"])
  func aKeyATokenAndWhatItSays(_ algorithm: String) throws {
    let (key, publicKey) = (directory.file("key.pem"), directory.file("public.pem"))
    let made = try run("keygen", key, "--public", publicKey, "--algorithm", algorithm)
    #expect(made.succeeded && made.output.isEmpty, "\(made.error)")
    #expect(mode(key) == 0o600)
    #expect(try !run("keygen", key).succeeded, "a key is never written over")
    let minted = try run(
      "mint", "--key", key, "--scope", "ro", "--database", "a", "--database", "b-1", "--ttl", "2h",
      "--subject", "ann")
    #expect(minted.succeeded, "\(minted.error)")
    let explained = try run("explain", "-", "--key", publicKey, input: minted.output)
    #expect(explained.succeeded, "\(explained.output)")
    for text in [algorithm, "ann", "in 1 h 59 min", "read database a", "database b-1", "good"] {
      let other = text.replacing("1 h 59", with: "2 h 0")
      #expect(
        explained.output.contains(text) || explained.output.contains(other), "\(explained.output)")
    }
    #expect(!explained.output.contains("write"))
  }

  @Test func tokensThatAreRefusedSayWhy() throws {
    let (key, publicKey, other) =
      (directory.file("key.pem"), directory.file("public.pem"), directory.file("other.pem"))
    _ = try run("keygen", key, "--public", publicKey)
    _ = try run("keygen", directory.file("k2.pem"), "--public", other)
    let token = try run("mint", "--key", key, "--scope", "admin", "--ttl", "never").output
    let unchecked = try run("explain", "-", input: token)
    #expect(unchecked.succeeded && unchecked.output.contains("not checked"))
    #expect(unchecked.output.contains("never") && unchecked.output.contains("every database"))
    let wrong = try run("explain", "-", "--key", other, input: token)
    #expect(wrong.status == .exited(77) && wrong.output.contains("refused"))
    #expect(try run("explain", "-", "--key", other, "--key", publicKey, input: token).succeeded)
    #expect(try run("explain", "nonsense").status == .exited(77))
    let position = try run("explain", "e1.00c0ffee.3.1042")
    #expect(position.succeeded && position.output.contains("1042"), "\(position.output)")
    #expect(position.output.contains("00c0ffee"))
  }

  @Test func whatCannotBeMinted() throws {
    let key = directory.file("key.pem")
    _ = try run("keygen", key)
    for arguments in [
      ["--scope", "root"], ["--scope", "ro", "--database", "A"],
      ["--scope", "ro", "--database", ""], ["--scope", "ro", "--ttl", "soon"],
    ] {
      let result = try program.run(
        ["token", "mint", "--key", key] + arguments, deadline: .seconds(20))
      #expect(result.status == .exited(64), "\(arguments): \(result.error)")
    }
    let open = try directory.write("open.pem", Files.text(key), mode: 0o644)
    let result = try run("mint", "--key", open, "--scope", "ro")
    #expect(result.status == .exited(78) && result.error.contains("chmod 600"))
  }
}
