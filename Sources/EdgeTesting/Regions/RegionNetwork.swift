// Regions and the wire that joins them.

import Glibc

/// A few regions, each joined to each. Everything is gone with this object and the processes that
/// were started in the regions.
public final class RegionNetwork {
  public let regions: [Region]
  public let wire: Wire

  /// - Parameter seed: which packets are lost.
  /// - Throws: when this machine does not let tests have networks of their own, although
  ///   `whyNot()` found no reason.
  public init(regions count: Int, seed: UInt64) throws {
    regions = try (0..<count).map { try Region(number: $0) }
    wire = try Wire(joining: regions, seed: seed)
  }

  /// Why there can be no regions here; nil when there can.
  public static func whyNot() -> String? {
    guard geteuid() == 0 else { return "network namespaces need root" }
    guard access("/dev/net/tun", R_OK | W_OK) == 0 else { return "/dev/net/tun is missing" }
    do {
      _ = try Region(number: 0)
      return nil
    } catch {
      return "\(error)"
    }
  }
}
