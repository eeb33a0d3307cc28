// The commit order as the simulation saw it: which pages each position of each epoch stands for. A
// position names one state, on every node, for ever.

import WALShip

/// States by position.
struct StateRecord {
  private struct Key: Hashable {
    var epoch: UInt32
    var txid: UInt64
  }
  private var states: [Key: StateImage] = [:]
  /// Positions whose pages could not be read any more as they were captured.
  private var unread: Set<Key> = []

  /// Notes what a primary has at a position.
  ///
  /// - Parameter image: nil when its pages cannot be read any more.
  mutating func note(_ position: Position, _ image: StateImage?, on node: String) throws(Violation)
  {
    let key = Key(epoch: position.epoch.rawValue, txid: position.txid.rawValue)
    guard let image else {
      if states[key] == nil { unread.insert(key) }
      return
    }
    if let known = states[key], known != image {
      throw Violation(
        "\(node) gives position \(position.epoch).\(position.txid) to another state than before")
    }
    states[key] = image
  }

  func knows(_ position: Position) -> Bool {
    let key = Key(epoch: position.epoch.rawValue, txid: position.txid.rawValue)
    return states[key] != nil || unread.contains(key)
  }

  /// Checks what a replica shows at a position.
  func check(_ position: Position, _ image: StateImage, on node: String) throws(Violation) {
    let key = Key(epoch: position.epoch.rawValue, txid: position.txid.rawValue)
    if unread.contains(key) { return }
    guard let known = states[key] else {
      throw Violation("\(node) is at \(position.epoch).\(position.txid), which no primary ever was")
    }
    guard known == image else {
      throw Violation(
        "\(node) shows other pages at \(position.epoch).\(position.txid) than the primary had: "
          + image.differences(from: known))
    }
  }
}
