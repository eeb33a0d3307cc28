// Addresses as people write them, for listening and for connecting.

/// Where a node listens: `HOST:PORT`, `[IPv6]:PORT`, `:PORT` for every interface, or `off`.
enum ListenAddress: Equatable, Sendable, CustomStringConvertible {
  case off
  case address(host: String, port: Int)

  init(_ text: String) throws(AddressError) {
    if text == "off" {
      self = .off
      return
    }
    let (host, port) = try HostPort.split(text)
    guard let port else {
      throw AddressError("\"\(text)\" has no port: write HOST:PORT, [IPv6]:PORT, :PORT or off")
    }
    self = .address(host: host.isEmpty ? "0.0.0.0" : host, port: port)
  }

  var description: String {
    switch self {
    case .off: "off"
    case .address(let host, let port): HostPort.joined(host, port)
    }
  }
}

/// The node to talk to: as above, but `:PORT` and a missing host mean this machine, and the port
/// may be left out.
struct ServerAddress: Equatable, Sendable, CustomStringConvertible {
  var host: String
  var port: Int

  static let portDefault = 7380
  static let local = ServerAddress(host: "127.0.0.1", port: portDefault)

  init(host: String, port: Int) {
    self.host = host
    self.port = port
  }

  init(_ text: String) throws(AddressError) {
    guard text != "off" else { throw AddressError("\"off\" is not an address to connect to") }
    let (host, port) = try HostPort.split(text)
    guard port != 0 else { throw AddressError("port 0 in \"\(text)\" cannot be connected to") }
    self.init(host: host.isEmpty ? "127.0.0.1" : host, port: port ?? Self.portDefault)
  }

  var description: String { HostPort.joined(host, port) }
}

/// Why a text is no address: one sentence with the text in it.
struct AddressError: Error, Equatable, Sendable, CustomStringConvertible {
  var description: String
  init(_ description: String) { self.description = description }
}

enum HostPort {
  /// Splits at the last colon; brackets around an IPv6 address are taken off.
  ///
  /// - Returns: an empty host when only a port is given, and no port when there is no colon.
  static func split(_ text: String) throws(AddressError) -> (host: String, port: Int?) {
    guard !text.isEmpty else { throw AddressError("the address is empty") }
    if text.contains("://") {
      throw AddressError("\"\(text)\" is a URL: write the address as HOST:PORT")
    }
    guard !text.utf8.contains(where: { $0 <= 32 || $0 == UInt8(ascii: "/") || $0 == 127 }) else {
      throw AddressError("\"\(text)\" has a character in it that no address has")
    }
    if text.hasPrefix("[") { return try splitBracketed(text) }
    let colons = text.utf8.count { $0 == UInt8(ascii: ":") }
    guard colons <= 1 else {
      throw AddressError("\"\(text)\": an IPv6 address goes in brackets, as in [::1]:7380")
    }
    guard let colon = text.lastIndex(of: ":") else {
      if text.utf8.allSatisfy({ $0 >= 48 && $0 <= 57 }) {
        throw AddressError("\"\(text)\" is only a number: for a port write :\(text)")
      }
      return (text, nil)
    }
    return (String(text[..<colon]), try port(text[text.index(after: colon)...], in: text))
  }

  static func joined(_ host: String, _ port: Int) -> String {
    host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
  }

  private static func splitBracketed(_ text: String) throws(AddressError) -> (String, Int?) {
    guard let end = text.firstIndex(of: "]") else {
      throw AddressError("\"\(text)\" has no closing bracket: write [IPv6]:PORT")
    }
    let host = String(text[text.index(after: text.startIndex)..<end])
    guard host.contains(":") else {
      throw AddressError("\"\(host)\" in brackets is not an IPv6 address")
    }
    let rest = text[text.index(after: end)...]
    if rest.isEmpty { return (host, nil) }
    guard rest.hasPrefix(":") else {
      throw AddressError("\"\(text)\": after the bracket comes :PORT")
    }
    return (host, try port(rest.dropFirst(), in: text))
  }

  private static func port(
    _ digits: some StringProtocol, in text: String
  ) throws(AddressError) -> Int {
    guard !digits.isEmpty, digits.utf8.allSatisfy({ $0 >= 48 && $0 <= 57 }),
      let port = Int(digits), port <= 65535
    else {
      throw AddressError("\"\(digits)\" in \"\(text)\" is not a port: use 0 to 65535")
    }
    return port
  }
}
