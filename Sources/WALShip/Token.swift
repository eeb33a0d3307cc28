// What a client holds of a position: enough to ask any node for a state that is at least as new.
// Clients treat the text as opaque. The checks against a node's own position are in `TokenCheck`.

/// The client form of a position: `e1.<database, 8 hex>.<epoch>.<txid>`.
public struct Token: Hashable, Sendable, CustomStringConvertible {
  public var database: UInt32
  public var epoch: Epoch
  public var txid: TXID

  @inlinable public init(database: UInt32, epoch: Epoch, txid: TXID) {
    self.database = database
    self.epoch = epoch
    self.txid = txid
  }

  /// The longest text that can be a token, in bytes.
  public static let textBytesMax = 128

  public var description: String { "e1.\(hex(database, digits: 8)).\(epoch).\(txid)" }

  /// Reads a token. A trailing `.<mac>` is allowed here and checked where a key is known.
  ///
  /// - Returns: nil when `text` is not a token; the request then fails with `TOKEN_INVALID`.
  public init?(_ text: some StringProtocol) {
    guard text.utf8.count <= Self.textBytesMax else { return nil }
    let parts = text.split(separator: ".", omittingEmptySubsequences: false)
    guard parts.count == 4 || parts.count == 5, parts[0] == "e1", parts[1].utf8.count == 8,
      let database = Self.number(parts[1], radix: 16, UInt32.self),
      let epoch = Self.number(parts[2], radix: 10, UInt32.self),
      let txid = Self.number(parts[3], radix: 10, UInt64.self), txid <= TXID.max.rawValue
    else { return nil }
    self.init(database: database, epoch: Epoch(epoch), txid: TXID(txid))
  }

  /// The same position as one number that never decreases: Hrana's `replication_index`.
  public var replicationIndex: UInt64 { UInt64(epoch.rawValue) << 40 | txid.rawValue }

  /// Plain digits only: no sign, no separators.
  private static func number<T: FixedWidthInteger>(
    _ text: some StringProtocol, radix: Int, _: T.Type
  ) -> T? {
    guard let first = text.utf8.first, first != UInt8(ascii: "+"), first != UInt8(ascii: "-")
    else { return nil }
    return T(text, radix: radix)
  }
}
