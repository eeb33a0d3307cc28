// Connections between simulated nodes: streams of bytes that arrive late, in pieces, damaged, or not
// at all, and ends that notice at once, later or never.

import EdgeTesting
import NIOCore
import NIOEmbedded

/// One end of a connection.
final class LinkEnd {
  unowned let node: SimulatedNode
  let channel: EmbeddedChannel
  /// What is on its way here.
  var arriving: [(due: UInt64, bytes: ByteBuffer)] = []
  var arrivingBytes = 0
  /// When the other end's closing is noticed here.
  var endDue: UInt64?
  var isGone = false

  init(node: SimulatedNode, channel: EmbeddedChannel) {
    self.node = node
    self.channel = channel
  }
}

/// A connection from a replica to its upstream.
final class SimulatedLink {
  let down: LinkEnd
  let up: LinkEnd
  /// Nothing gets through any more, and nobody is told.
  var isSilent = false

  init(down: LinkEnd, up: LinkEnd) {
    self.down = down
    self.up = up
  }

  var isOver: Bool { down.isGone && up.isGone }
  func other(_ end: LinkEnd) -> LinkEnd { end === down ? up : down }
  var ends: [LinkEnd] { [down, up] }
}

/// All connections of a cluster.
final class SimulatedNetwork {
  private(set) var links: [SimulatedLink] = []
  private var chance: SeededGenerator
  /// Delays are random up to this.
  var delayMax: UInt64 = 2_000_000
  /// Bytes on the way to an end from which on its sender sees a full socket.
  var windowBytes = 1 << 20
  /// Bytes are damaged one time in so many deliveries; 0 for never.
  var corruptsOneIn: UInt64 = 0
  /// Directions in which nothing moves, by node numbers.
  var blocked: Set<[Int]> = []
  private(set) var deliveries = 0

  init(seed: UInt64) { chance = SeededGenerator(exactly: seed) }

  func isBlocked(from: SimulatedNode, to: SimulatedNode) -> Bool {
    blocked.contains([from.number, to.number])
  }

  func add(_ link: SimulatedLink) { links.append(link) }

  /// Takes what the nodes have written, and notes which ends were closed.
  func collect(now: UInt64) {
    for link in links {
      for end in link.ends where !end.isGone {
        let peer = link.other(end)
        while let bytes = try? end.channel.readOutbound(as: ByteBuffer.self) {
          guard !peer.isGone, !link.isSilent, !end.node.isDead else { continue }
          // A stream keeps its order, however late its pieces are.
          let due = max(now + chance.next() % delayMax, peer.arriving.last?.due ?? 0)
          peer.arriving.append((due, bytes))
          peer.arrivingBytes += bytes.readableBytes
        }
        setWritable(end, peer.arrivingBytes < windowBytes)
        if !end.channel.isActive {
          end.isGone = true
          if !peer.isGone, !link.isSilent { peer.endDue = now + chance.next() % delayMax }
        }
      }
    }
    links.removeAll(where: \.isOver)
  }

  private func setWritable(_ end: LinkEnd, _ isWritable: Bool) {
    guard end.channel.isWritable != isWritable, end.channel.isActive else { return }
    end.channel.isWritable = isWritable
    end.node.run { end.channel.pipeline.fireChannelWritabilityChanged() }
  }

  /// Ends to which something can be delivered now.
  func ready(now: UInt64) -> [(SimulatedLink, LinkEnd)] {
    links.flatMap { link in
      link.ends.compactMap { end in
        guard !end.isGone, end.node.mayRun, !isBlocked(from: link.other(end).node, to: end.node)
        else { return nil }
        if let first = end.arriving.first { return first.due <= now ? (link, end) : nil }
        return (end.endDue ?? .max) <= now ? (link, end) : nil
      }
    }
  }

  /// Delivers a piece of what has arrived, of any length, or the end of the stream.
  func deliver(_ end: LinkEnd) {
    deliveries += 1
    guard var first = end.arriving.first else {
      end.isGone = true
      end.node.run { _ = end.channel.close() }
      return
    }
    var piece: ByteBuffer
    if chance.next() % 3 == 0, first.bytes.readableBytes > 1 {
      let count = 1 + Int(chance.next() % UInt64(first.bytes.readableBytes))
      piece = first.bytes.readSlice(length: count) ?? ByteBuffer()
      if first.bytes.readableBytes == 0 {
        end.arriving.removeFirst()
      } else {
        end.arriving[0] = first
      }
    } else {
      piece = first.bytes
      end.arriving.removeFirst()
    }
    end.arrivingBytes -= piece.readableBytes
    if corruptsOneIn > 0, chance.next() % corruptsOneIn == 0, piece.readableBytes > 0 {
      let offset = piece.readerIndex + Int(chance.next() % UInt64(piece.readableBytes))
      let byte = piece.getInteger(at: offset, as: UInt8.self) ?? 0
      piece.setInteger(byte ^ UInt8(1 << (chance.next() % 8)), at: offset)
    }
    let arrived = piece
    end.node.run { _ = try? end.channel.writeInbound(arrived) }
  }

  /// Breaks a connection: what is on the way arrives in part.
  func cut(_ link: SimulatedLink, now: UInt64) {
    for end in link.ends where !end.isGone {
      let left = end.arriving.isEmpty ? 0 : Int(chance.next() % UInt64(end.arriving.count + 1))
      end.arriving.removeLast(end.arriving.count - left)
      end.arrivingBytes = end.arriving.reduce(0) { $0 + $1.bytes.readableBytes }
      end.endDue = now + chance.next() % delayMax
    }
    link.isSilent = true
  }

  /// A node is gone. Its peers are told, unless the machine went with it.
  func drop(_ node: SimulatedNode, tellsPeers: Bool, now: UInt64) {
    for link in links {
      for end in link.ends where end.node === node {
        end.isGone = true
        link.isSilent = true
        let peer = link.other(end)
        if tellsPeers { peer.endDue = now + chance.next() % delayMax }
      }
    }
    links.removeAll(where: \.isOver)
  }
}
