// The parts of a request's target.
// Source: RFC 3986

/// Takes targets apart.
enum HTTPPath {
  /// The path and the query of a target; one that names a host is allowed, as of a proxy.
  static func split(_ target: String) -> (path: String, query: String?) {
    var rest = Substring(target)
    if let scheme = rest.firstRange(of: "://"), !rest.hasPrefix("/") {
      rest = rest[scheme.upperBound...]
      rest = rest.firstIndex(of: "/").map { rest[$0...] } ?? "/"
    }
    guard let mark = rest.firstIndex(of: "?") else { return (String(rest), nil) }
    return (String(rest[..<mark]), String(rest[rest.index(after: mark)...]))
  }

  /// The database that a path chooses with `/dev/NAME`, and the path without it.
  static func database(_ path: String) -> (name: String?, rest: String) {
    guard path.hasPrefix("/dev/") else { return (nil, path) }
    let rest = path.dropFirst("/dev/".count)
    let name = rest.prefix { $0 != "/" }
    guard !name.isEmpty else { return (nil, path) }
    let remains = rest.dropFirst(name.count)
    return (String(name), remains.isEmpty ? "/" : String(remains))
  }

  /// The first label of a host; nil for addresses and for names without a point.
  static func label(ofHost host: String) -> String? {
    guard !host.hasPrefix("[") else { return nil }
    let name = host.prefix { $0 != ":" }
    let labels = name.split(separator: ".", omittingEmptySubsequences: false)
    guard labels.count > 1, !labels.contains(where: \.isEmpty) else { return nil }
    let isAddress = labels.allSatisfy { label in label.utf8.allSatisfy { $0 >= 48 && $0 <= 57 } }
    return isAddress ? nil : labels[0].lowercased()
  }
}
