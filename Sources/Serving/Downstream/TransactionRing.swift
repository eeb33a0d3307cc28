// The last transactions, each encoded once for all followers. A follower that needs an older one
// catches up by pages, so the ring may forget whenever it likes: it bounds memory, not what a
// replica can get.

import DequeModule
import NIOCore
import Synchronization
import WALShip

/// Encoded transactions, newest last, without gaps. Safe to use from any thread.
public final class TransactionRing: @unchecked Sendable {  // all state is used under `lock`
  private let lock = Mutex<Void>(())
  private var messages: Deque<ByteBuffer> = []
  private var firstTXID = TXID.zero
  private var bytes = 0
  private let bytesMax: Int
  private var totals = Totals()

  /// What was shipped since the start, counted once however many followers there are.
  public struct Totals: Equatable, Sendable {
    public var transactions = 0
    public var pages = 0
    /// Bytes of the changed pages.
    public var rawBytes = 0
    /// Bytes of the messages that carry them.
    public var encodedBytes = 0
  }

  /// - Parameter bytesMax: 0 for a node that has no followers: then nothing is encoded, or counted.
  public init(bytesMax: Int = 16 << 20) { self.bytesMax = bytesMax }

  /// Adds a transaction. One without a body empties the ring: it is too large to be sent live.
  public func append(_ txid: TXID, body: ByteBuffer?, pages: Int, rawBytes: Int) {
    guard bytesMax > 0 else { return }
    var message = ByteBuffer()
    if let body { message.writeShipMessage(ShipMessage(.transaction, body: body)) }
    lock.withLock { _ in
      totals.transactions += 1
      totals.pages += pages
      totals.rawBytes += rawBytes
      totals.encodedBytes += message.readableBytes
      let expected = TXID(firstTXID.rawValue + UInt64(messages.count))
      if body == nil || messages.isEmpty || txid != expected {
        messages.removeAll()
        bytes = 0
        firstTXID = body == nil ? txid.next : txid
      }
      guard body != nil else { return }
      messages.append(message)
      bytes += message.readableBytes
      while bytes > bytesMax, let oldest = messages.popFirst() {
        bytes -= oldest.readableBytes
        firstTXID = firstTXID.next
      }
    }
  }

  /// Forgets everything: after this node's pages were replaced.
  public func removeAll() {
    lock.withLock { _ in
      messages.removeAll()
      bytes = 0
    }
  }

  public var first: TXID? { lock.withLock { _ in messages.isEmpty ? nil : firstTXID } }
  public var statistics: Totals { lock.withLock { _ in totals } }

  /// The whole message of a transaction; nil when the ring no longer has it.
  public func message(_ txid: TXID) -> ByteBuffer? {
    lock.withLock { _ in
      guard txid >= firstTXID else { return nil }
      let index = txid.rawValue - firstTXID.rawValue
      return index < UInt64(messages.count) ? messages[Int(index)] : nil
    }
  }
}
