// Which source of a setting wins, and what is said about values that are wrong.

import Testing

@testable import edge_sql

@Suite struct ConfigurationTests {
  private func file(_ text: String) throws -> ConfigurationFile {
    try ConfigurationFile(path: "edge.json", bytes: Array(text.utf8))
  }

  private func failure(_ body: () throws -> Void) -> String? {
    do { try body() } catch let failure as CommandFailure {
      return failure.status == .configuration ? failure.message : "status \(failure.status)"
    } catch { return "\(error)" }
    return nil
  }

  @Test func flagWinsOverEnvironmentOverFileOverDefault() throws {
    let file = try file(#"{"listen": ":1", "ship": ":2", "name": "file", "log_level": "debug"}"#)
    let environment = ["EDGE_SQL_LISTEN": ":3", "EDGE_SQL_SHIP": ":4"]
    let configuration = try Configuration(
      flags: [Settings.listen.flag("[::1]:5"), Settings.ship.flag(nil)],
      environment: { environment[$0] }, file: file)
    #expect(try configuration[Settings.listen] == .address(host: "::1", port: 5))
    #expect(configuration.origin(of: Settings.listen) == .flag("--listen"))
    #expect(try configuration[Settings.ship] == .address(host: "0.0.0.0", port: 4))
    #expect(try configuration[Settings.name] == "file")
    #expect(configuration.origin(of: Settings.name).description == "name in edge.json")
    #expect(try configuration[Settings.checkpointFrames] == 1000)
    #expect(configuration.origin(of: Settings.checkpointFrames) == .builtIn)
  }

  @Test func emptyEnvironmentVariableIsNotSet() throws {
    let configuration = try Configuration(environment: { _ in "" })
    #expect(try configuration.optional(Settings.upstream) == nil)
  }

  @Test func unknownKeyIsAnErrorWithASuggestion() {
    #expect(
      failure { _ = try Configuration(file: file(#"{"ship-secret-fil": "x"}"#)) }?
        .hasSuffix("did you mean \"ship_secret_file\"?") == true)
    #expect(failure { _ = try Configuration(file: file(#"{"zzzzzzzz": 1}"#)) } != nil)
  }

  @Test func keyThatIsThereTwiceIsAnError() {
    let text = failure { _ = try Configuration(file: file(#"{"name": "a", "name": "b"}"#)) }
    #expect(text == "name is in edge.json twice")
  }

  @Test func badValueNamesItsSource() {
    #expect(
      failure { _ = try Configuration(flags: [Settings.listen.flag("7380")]) }?
        .hasPrefix("--listen: ") == true)
    #expect(
      failure { _ = try Configuration(environment: { $0 == "EDGE_SQL_INSECURE" ? "maybe" : nil }) }
        == "EDGE_SQL_INSECURE: \"maybe\" is neither true nor false")
    #expect(
      failure { _ = try Configuration(file: file(#"{"checkpoint_frames": 0}"#)) }
        == "checkpoint_frames in edge.json: 0 is outside 1 to 10000000")
    #expect(failure { _ = try Configuration(file: file(#"{"listen": [1]}"#)) } != nil)
  }

  @Test func settingWithoutValueSaysHowToGiveIt() throws {
    let configuration = try Configuration()
    #expect(
      failure { _ = try configuration[Settings.upstream] }?.hasPrefix("upstream is not set") == true
    )
  }

  @Test func secretsAreNotShown() throws {
    let configuration = try Configuration(environment: { $0 == "EDGE_SQL_TOKEN" ? "sesame" : nil })
    #expect(configuration.effective().contains { $0.key == "token" && $0.value == "(hidden)" })
    #expect(!configuration.effective().contains { $0.value == "sesame" })
  }

  @Test func everyDefaultIsValid() throws {
    for setting in Settings.all {
      if let text = setting.defaultText { try setting.check(text) }
    }
    #expect(Set(Settings.all.map(\.name)).count == Settings.all.count)
  }
}

@Suite struct AddressTests {
  @Test(arguments: [
    ("off", ListenAddress.off), ("a.example:1", .address(host: "a.example", port: 1)),
    ("[::1]:7380", .address(host: "::1", port: 7380)), (":0", .address(host: "0.0.0.0", port: 0)),
  ])
  func listenAddressIsRead(_ text: String, _ address: ListenAddress) throws {
    #expect(try ListenAddress(text) == address)
  }

  @Test(arguments: [
    "", "7380", "host", "host:", "host:70000", "host:-1", "::1:7380", "[::1]", "[::1:7380", "[x]:1",
    "http://a:1", "a b:1", "host:+1",
  ])
  func badListenAddressIsRefused(_ text: String) {
    #expect(throws: AddressError.self) { try ListenAddress(text) }
  }

  @Test func serverAddressHasDefaults() throws {
    #expect(try ServerAddress("host").port == ServerAddress.portDefault)
    #expect(try ServerAddress(":1").host == "127.0.0.1")
    #expect(try ServerAddress("[::1]").description == "[::1]:7380")
    #expect(throws: AddressError.self) { try ServerAddress("off") }
    #expect(throws: AddressError.self) { try ServerAddress("host:0") }
  }

  @Test func durationsAndSizesAreRead() throws {
    #expect(try DurationText.milliseconds("1.5s") == 1500)
    #expect(try DurationText.milliseconds("250ms") == 250)
    #expect(throws: BadValue.self) { try DurationText.milliseconds("2") }
    #expect(throws: BadValue.self) { try DurationText.milliseconds("-2s") }
    #expect(throws: BadValue.self) { try DurationText.milliseconds("2w") }
    #expect(try SizeText.bytes("64KiB") == 65536)
    #expect(throws: BadValue.self) { try SizeText.bytes("99999999999999999TiB") }
    #expect(DurationText.text(milliseconds: 3_725_000) == "1 h 2 min")
    #expect(DurationText.text(nanoseconds: 41_234) == "41.2 µs")
    #expect(fixed(-0.04, decimals: 1) == "0.0" && fixed(9.999, decimals: 2) == "10.00")
  }
}
