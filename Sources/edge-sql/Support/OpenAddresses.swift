// Whoever can reach the ports of a node can read and write: what protects them must be there, or
// somebody must have said that it need not be.
// Source: docs/SECURITY.md

import Serving

/// The check of a node's addresses before it opens any of them.
struct OpenAddresses {
  private let configuration: Configuration
  private let options: NodeOptions
  private let security: NodeSecurity

  init(_ configuration: Configuration, _ options: NodeOptions, _ security: NodeSecurity) {
    self.configuration = configuration
    self.options = options
    self.security = security
  }

  func check() throws(CommandFailure) {
    if let ship = options.ship { try checkNodes(ship) }
    if let listen = options.listen { try checkClients(listen, Settings.listen) }
    if let http = options.http { try checkClients(http, Settings.http) }
  }

  /// Where followers connect. They get every page, and their word is taken for who their clients
  /// are.
  private func checkNodes(_ address: NodeAddress) throws(CommandFailure) {
    let isProven = options.secret != nil || security.nodesAreVerified
    guard security.shipTransport == nil || security.transport != nil else {
      throw configuration.failure(
        Settings.ship, "replicas connect with TLS: give --tls-cert and --tls-key, or --ship off")
    }
    if isProven { return }
    let remedy = "give --ship-secret-file, or --tls-ca with --tls-cert and --tls-key"
    guard options.verifier == nil else {
      throw configuration.failure(
        Settings.ship,
        "clients need a token, but whoever connects to \(address) as a replica needs nothing: "
          + "\(remedy), or --ship off")
    }
    guard !Self.isLocal(address.host), try !configuration[Settings.insecure] else { return }
    throw configuration.failure(
      Settings.ship, "\(address) can be reached by others: \(remedy), or --insecure if you mean it")
  }

  /// Where clients connect.
  func checkClients(
    _ address: NodeAddress, _ setting: some SettingEntry
  ) throws(CommandFailure) {
    guard !Self.isLocal(address.host), try !configuration[Settings.insecure] else { return }
    var missing: [String] = []
    if options.verifier == nil {
      missing.append("clients need no credential (--auth-jwt-key-file)")
    }
    if options.transport == nil {
      missing.append("nothing is encrypted (--tls-cert and --tls-key)")
    }
    guard !missing.isEmpty else { return }
    throw configuration.failure(
      setting,
      "\(address) can be reached by others, and \(missing.joined(separator: ", and ")): "
        + "give what is missing, or --insecure if you mean it")
  }

  private static func isLocal(_ host: String) -> Bool {
    host == "localhost" || host == "::1"
      || (host.hasPrefix("127.") && host.split(separator: ".").count == 4)
  }
}
