// Connections that streams do not share with other clients while they use them: a spare one for
// transactions, and those that streams keep because of their TEMP objects.

import NIOCore
import Serving
import Store
import WALShip

/// They belong to the writer's thread, as everything that writes.
///
/// The transaction of a stream runs on the spare connection, since its next statement may need a
/// TEMP object. If one does, the spare becomes the stream's own, with the open transaction, and the
/// next transaction gets a new spare.
final class StreamConnections {
  private struct Session {
    var connection: WritingConnection
    var usedNanoseconds: UInt64
  }

  private let database: PrimaryDatabase
  private let limits: ServingLimits
  private var spareConnection: WritingConnection?
  private var sessions: [UInt64: Session] = [:]
  private var nextSession = Chance.number(in: 1...(1 << 48) as ClosedRange<UInt64>)

  init(database: PrimaryDatabase, limits: ServingLimits) {
    self.database = database
    self.limits = limits
  }

  var sessionCount: Int { sessions.count }

  func spare() throws(RequestError) -> WritingConnection {
    if let spareConnection { return spareConnection }
    do {
      let opened = try WritingConnection(
        try database.openConnection(temporaryBytesMax: limits.temporaryBytesMax),
        policy: .ownConnection, limits: limits)
      spareConnection = opened
      return opened
    } catch { throw RequestError(reporting: error) }
  }

  /// Makes the spare connection a stream's own.
  ///
  /// - Throws: `OVERLOADED` when too many streams have one.
  func claim() throws(RequestError) -> UInt64 {
    guard sessions.count < limits.streamConnectionsMax else {
      throw RequestError(
        .overloaded, "\(limits.streamConnectionsMax) streams have TEMP objects already")
    }
    let connection = try spare()
    spareConnection = nil
    nextSession += 1
    sessions[nextSession] = Session(
      connection: connection, usedNanoseconds: monotonicNanoseconds())
    return nextSession
  }

  /// The connection of a stream, which uses it now.
  func connection(of session: UInt64) -> WritingConnection? {
    sessions[session]?.usedNanoseconds = monotonicNanoseconds()
    return sessions[session]?.connection
  }

  /// - Returns: the connection that is no longer anybody's.
  @discardableResult
  func close(_ session: UInt64) -> WritingConnection? {
    sessions.removeValue(forKey: session)?.connection
  }

  /// Closes those that were not used for long, but not `busy`.
  func closeIdle(butNot busy: WritingConnection?) {
    let now = monotonicNanoseconds()
    let limit = UInt64(limits.streamConnectionIdleMilliseconds) * 1_000_000
    sessions = sessions.filter { _, session in
      session.connection === busy || now &- session.usedNanoseconds < limit
    }
  }

  func closeAll() {
    sessions = [:]
    spareConnection = nil
  }

  /// The last frame that one of them committed since the last call. Nobody can begin the WAL anew
  /// before it is captured, so the largest number is the latest.
  func takeCommittedFrames() -> UInt32? {
    let all = [spareConnection].compactMap(\.self) + sessions.values.map(\.connection)
    return all.compactMap { $0.connection.takeCommittedFrames() }.max()
  }
}

/// An interactive transaction, which has the writer to itself.
struct OpenTransaction {
  var id: UInt64
  var deadlineNanoseconds: UInt64
  var connection: WritingConnection
  var savepoints = SavepointStack()
  /// It began with a SAVEPOINT, so the RELEASE of that one commits.
  var endsWithSavepoint = false
}
