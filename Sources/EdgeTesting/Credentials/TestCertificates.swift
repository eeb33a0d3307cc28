// Certificates for tests, made by the program openssl: an authority, and what it signs.

import Access
import Logging
import Serving

/// An authority in a directory.
public struct TestCertificates: Sendable {
  /// A certificate and its key.
  public struct Pair: Sendable {
    public let certificate: String
    public let key: String

    /// What a node is told.
    public var flags: [String] { ["--tls-cert", certificate, "--tls-key", key] }
  }

  private let directory: TestDirectory
  private let name: String
  private let openssl: Program
  /// Its certificate.
  public let authority: String
  private let key: String

  /// - Parameter name: of the authority; several can be in one directory.
  public init(in directory: TestDirectory, name: String = "ca") throws {
    guard let openssl = Program(named: "openssl") else {
      throw TestFailure("the program openssl is missing")
    }
    self.directory = directory
    self.name = name
    self.openssl = openssl
    authority = directory.file("\(name).pem")
    key = directory.file("\(name).key")
    try run([
      "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-keyout",
      key, "-out", authority, "-days", "2", "-subj", "/CN=\(name)",
    ])
  }

  /// A certificate of this authority.
  ///
  /// - Parameters:
  ///   - names: as openssl wants them: `DNS:localhost,IP:127.0.0.1`.
  ///   - days: a negative number makes one that has expired.
  public func issue(
    _ file: String = "node", names: String = "DNS:localhost,IP:127.0.0.1", days: Int = 2
  ) throws -> Pair {
    let pair = Pair(
      certificate: directory.file("\(file).pem"), key: directory.file("\(file).key"))
    let request = directory.file("\(file).csr")
    try run([
      "req", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-keyout", pair.key,
      "-out", request, "-subj", "/CN=\(file)",
    ])
    let extensions = try directory.write("\(file).ext", "subjectAltName=\(names)\n")
    try run([
      "x509", "-req", "-in", request, "-CA", authority, "-CAkey", key, "-CAcreateserial", "-days",
      "\(days)", "-extfile", extensions, "-out", pair.certificate,
    ])
    return pair
  }

  /// What a client needs to believe certificates of this authority.
  public func client(_ pair: Pair? = nil) throws -> TLSTransport {
    try TLSTransport(
      files: TLSFiles(certificate: pair?.certificate, key: pair?.key, authority: authority),
      verifiesClients: false, logger: Logger(label: "test"))
  }

  private func run(_ arguments: [String]) throws {
    let result = try openssl.run(arguments, deadline: .seconds(60))
    guard result.succeeded else {
      throw TestFailure("openssl \(arguments[0]): \(result.error)")
    }
  }
}
