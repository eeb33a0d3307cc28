// `edge-sql token`: the keys and the tokens of clients. Nothing of it needs a node or the network.

import Access
import ArgumentParser
import Glibc
import Serving
import Store
import WALShip

struct TokenCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "token", abstract: "Make keys and tokens for clients, and explain tokens.",
    subcommands: [TokenKeygenCommand.self, TokenMintCommand.self, TokenExplainCommand.self])
}

struct TokenKeygenCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "keygen", abstract: "Make a key for tokens.",
    discussion: """
      The private key is for `token mint` and stays with whoever makes tokens. Nodes get the public \
      one: --auth-jwt-key-file.
      """)

  @Argument(help: "The new file of the private key.") var file: String
  @Option(help: ArgumentHelp("Write the public key to this file.", valueName: "file"))
  var `public`: String?
  @Option(help: "EdDSA or ES256.") var algorithm = TokenAlgorithm.edDSA

  func run() async throws {
    try await reportingFailures {
      try await explainingFiles {
        let key = try await SigningKey.generate(algorithm)
        let pem = key.publicPEM + "\n"
        if let path = `public`, Disk.exists(path) {
          throw CommandFailure(.cannotCreate, "\(path) exists: a key is never written over")
        }
        try key.save(file)
        guard let path = `public` else { return Console.output.write(pem) }
        try Disk.replace(path, with: Array(pem.utf8))
      }
    }
  }
}

struct TokenMintCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "mint", abstract: "Make a token.",
    discussion: """
      ro may read, rw may write as well, and admin may also copy whole databases, see the status of \
      nodes, and create and drop databases. Without --database it holds for all of them.
      """)

  @Option(help: ArgumentHelp("The private key.", valueName: "file")) var key: String
  @Option(help: "ro, rw or admin.") var scope: TokenScope
  @Option(
    help: ArgumentHelp(
      "The database it is for; may be given several times.", valueName: "name"))
  var database: [String] = []
  @Option(help: ArgumentHelp("How long it is good, or never.", valueName: "duration"))
  var ttl = "30d"
  @Option(help: "Who it is for: a word for the logs.") var subject: String?

  func run() async throws {
    try await reportingFailures {
      try await explainingFiles {
        for name in database where !Self.isDatabaseName(name) {
          throw CommandFailure(
            .usage, "\"\(name)\" is no name of a database: 1 to 64 of a-z, 0-9, _ and -")
        }
        let now = Int64(wallClockMicroseconds() / 1_000_000)
        var rights = AccessRights(subject: subject)
        if database.isEmpty { rights.anyDatabase = scope.level }
        for name in database { rights.databases[name] = scope.level }
        var claims = TokenClaims(rights: rights, issued: now)
        if ttl != "never" {
          claims.expires = now + Int64(max(1, try milliseconds(ttl, flag: "--ttl") / 1000))
        }
        Console.output.write(try await SigningKey.load(key).token(claims) + "\n")
      }
    }
  }

  private static func isDatabaseName(_ name: String) -> Bool {
    (1...64).contains(name.utf8.count)
      && name.utf8.allSatisfy { byte in
        (97...122).contains(byte) || (48...57).contains(byte) || byte == 45 || byte == 95
      }
  }
}

struct TokenExplainCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "explain", abstract: "Say what a token is and what it allows.",
    discussion: """
      Also explains the tokens that answers carry, which name a state of a database. Exits with 77 \
      when a credential would be refused.
      """)

  @Argument(help: "The token; - reads it from standard input.") var token: String
  @Option(
    help: ArgumentHelp("A file with public keys to check it with.", valueName: "file"))
  var key: [String] = []

  func run() async throws {
    try await reportingFailures {
      try await explainingFiles {
        let text = try tokenText()
        if let position = Token(text) {
          return Console.output.write(TokenExplanation.text(position))
        }
        let keys = key.isEmpty ? nil : try await TokenKey.load(key)
        let explanation = TokenExplanation(
          text, keys: keys, nowSeconds: Int64(wallClockMicroseconds() / 1_000_000))
        Console.output.write(explanation.text)
        if !explanation.isGood { throw ExitCode(ExitStatus.auth.rawValue) }
      }
    }
  }

  private func tokenText() throws -> String {
    guard token == "-" else { return token }
    do throws(TextFile.Failure) {
      let bytes = try TextFile.read(STDIN_FILENO, path: "standard input", bytesMax: 65536)
      return String(decoding: bytes.filter { $0 > 32 }, as: UTF8.self)
    } catch {
      throw CommandFailure(.inputOutput, error.description)
    }
  }
}

enum TokenScope: String, ExpressibleByArgument, CaseIterable {
  case ro, rw, admin

  var level: AccessLevel {
    switch self {
    case .ro: .read
    case .rw: .write
    case .admin: .admin
    }
  }
}

extension TokenAlgorithm: ExpressibleByArgument {}

/// What is wrong with files becomes the failure of the command.
private func explainingFiles(_ body: () async throws -> Void) async throws {
  do {
    try await body()
  } catch let failure as KeyFileFailure {
    throw CommandFailure(.configuration, failure.description)
  } catch let error as DiskError {
    throw CommandFailure(.inputOutput, error.description)
  }
}
