// Configuration files that people, editors and disks have damaged: each is refused with a sentence
// that names the file, or every setting of it has a value.

import EdgeTesting
import Testing

@testable import edge_sql

@Suite struct ConfigurationMutationTests {
  private static let mutations = 20_000
  private static let path = "edge.json"
  private static let files = [
    #"{"listen": ":1", "ship": "[::1]:2", "upstream": "a.example:1,b:2", "db": "/var/lib/x.db"}"#,
    #"{"name": "paris-1", "insecure": true, "checkpoint_frames": 1000, "log_format": "json"}"#,
    #"{"scrub_rate": "32MiB", "scrub_interval": "1.5h", "log_level": "debug", "token": "\u00e9"}"#,
    #"{"address": "[::1]:7380", "token_file": "/a", "ship_secret_file": "/b", "insecure": "off"}"#,
    #"{"token": "any text is a credential, whatever it is"}"#, #"{"db": "/var/lib/app/live.db"}"#,
    #"{"checkpoint_frames": 12345}"#,
  ]

  @Test func mutationsOfConfigurationFiles() throws {
    for file in Self.files {
      try requireValues(of: ConfigurationFile(path: Self.path, bytes: Array(file.utf8)))
    }
    let random = SeededGenerator(seed: 4)
    var mutator = Mutator(seeds: Self.files.map { Array($0.utf8) }, random: random)
    var (accepted, refused) = (0, 0)
    for number in 0..<Self.mutations {
      let bytes = mutator.next()
      let text = String(decoding: bytes, as: UTF8.self)
      do {
        try requireValues(of: ConfigurationFile(path: Self.path, bytes: bytes))
        accepted += 1
      } catch let failure as TextFile.Failure {
        #expect(failure.path == Self.path, "mutation \(number): \(text)")
        refused += 1
      } catch let failure as CommandFailure {
        let isNamed = failure.status == .configuration && failure.message.contains(Self.path)
        #expect(isNamed, "mutation \(number), \(failure): \(text)")
        refused += 1
      } catch { Issue.record("mutation \(number), \(error): \(text)") }
    }
    // Both happen often, else this looks at nothing.
    #expect(min(accepted, refused) > Self.mutations / 50, "\(accepted) and \(refused)")
  }

  /// What is accepted has been checked as a whole, and keeps its meaning when it is written anew.
  private func requireValues(of file: ConfigurationFile) throws {
    let configuration = try Configuration(file: file)
    let effective = configuration.effective()
    for (key, text) in try file.texts() {
      let shown = effective.first { $0.key == key }
      #expect(shown?.origin == .file(path: Self.path, key: key))
      #expect(shown?.value == text || shown?.value == "(hidden)")
    }
    for setting in Settings.all {
      guard let value = effective.first(where: { $0.key == setting.name })?.value else { continue }
      if !setting.isSecret { try setting.check(value) }
    }
  }

  /// Values from the environment and the command line, which no file has checked.
  @Test func mutationsOfValues() {
    let texts = [
      "32MiB", "1.5h", "[::1]:7380", "a.example:1,b:2", "1000", "true", "-1", "json", "",
    ]
    var mutator = Mutator(
      seeds: texts.map { Array($0.utf8) }, random: SeededGenerator(seed: 5), bytesMax: 200)
    for _ in 0..<Self.mutations {
      let text = String(decoding: mutator.next(), as: UTF8.self)
      for setting in Settings.all {
        do { try setting.check(text) } catch { #expect(!error.description.isEmpty) }
      }
    }
  }
}
