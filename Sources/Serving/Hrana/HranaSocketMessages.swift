// What comes on a WebSocket: the hello, and requests for the database that it opened. A connection
// that rests gives the database back, so that those of idle clients can be closed.

import NIOCore
import Store
import WALShip

/// What a stream of a connection that rests goes on with.
struct RestingStream {
  var token: Token?
  var lastInsertRowid: Int64
}

extension HranaSocket {
  func receive(_ message: JSONValue) {
    switch message["type"] {
    case .string("hello"): hello(message)
    case .string("request"):
      guard isOpening || resting != nil else {
        guard lease != nil else {
          return fail(.malformed("Received a request before hello message"))
        }
        return perform(message)
      }
      guard waiting.count < Self.waitingMax else { return fail(.malformed("too many requests")) }
      waiting.append(message)
      if !isOpening { wake() }
    default: fail(.dataInconsistentWithMessage, HranaDecoder.unreadable("unknown type").text)
    }
  }

  /// The credential may have ended since the hello.
  private func perform(_ message: JSONValue) {
    usedNanoseconds = monotonicNanoseconds()
    if let verifier = server.verifier, let lease {
      do throws(CredentialError) {
        access = try verifier.verify(credential).level(for: lease.node.databaseName)
      } catch { return fail(.policyViolation, HTTPErrorBody.unauthorized(error)) }
      guard access > .none else { return fail(.policyViolation, "the credential is not for this") }
      for stream in streams.values { stream.session.access = access }
    }
    request(message)
  }

  // MARK: Hello

  private func hello(_ message: JSONValue) {
    helloAlarm?.cancel()
    credential = nil
    if case .string(let token)? = message["jwt"].nonNull, !token.isEmpty { credential = token }
    let rights: AccessRights
    do throws(CredentialError) {
      rights = try server.verifier?.verify(credential) ?? .full
    } catch { return refuseHello("AUTH_JWT_INVALID", HTTPErrorBody.unauthorized(error)) }
    guard !isOpening else { return fail(.malformed("one hello at a time")) }
    isOpening = true
    let bound = NIOLoopBound(self, eventLoop: loop)
    server.directory.acquire(target, on: loop) { result in
      let socket = bound.value
      guard socket.context != nil else { return }
      socket.isOpening = false
      switch result {
      case .success(let lease): socket.opened(lease, rights)
      case .failure(let error): socket.refuseHello(error.code, error.message)
      }
    }
  }

  private func opened(_ lease: DatabaseLease, _ rights: AccessRights) {
    access = rights.level(for: lease.node.databaseName)
    guard access > .none else {
      let name = lease.node.databaseName
      return refuseHello("NAMESPACE_DOESNT_EXIST", "Namespace `\(name)` doesn't exist")
    }
    let loss = hold(lease)
    for stream in streams.values { stream.session.access = access }
    var output = OutputBytes(capacity: 64)
    output.append("{\"type\":\"hello_ok\"}")
    send(output)
    performWaiting(loss)
  }

  private func refuseHello(_ code: String, _ message: String) {
    var output = OutputBytes(capacity: 256)
    output.append("{\"type\":\"hello_error\",\"error\":")
    HranaError(code: code, message: message).write(into: &output)
    output.append("}")
    send(output)
    fail(.policyViolation, message)
  }

  // MARK: Rest

  /// Whether nothing is under way, and no stream has anything that only its connection to the
  /// database knows.
  private var isAtRest: Bool {
    requestsInProgress == 0 && !isOpening && !isClosing && cursors.isEmpty && leaving.isEmpty
      && !streams.values.contains { $0.session.hasState }
  }

  /// Gives the database back if nobody has used it since a moment of the monotonic clock, or if it
  /// is to be removed.
  func releaseIfUnused(since nanoseconds: UInt64) {
    guard let lease, isAtRest, usedNanoseconds < nanoseconds || lease.isRevoked else { return }
    resting = streams.mapValues { stream in
      RestingStream(
        token: stream.session.token, lastInsertRowid: stream.session.lastInsertRowid)
    }
    for stream in streams.values { stream.close() }
    streams = [:]
    self.lease = nil
  }

  /// Gets the database back for the requests that wait: that of the hello, and no other.
  private func wake() {
    isOpening = true
    let bound = NIOLoopBound(self, eventLoop: loop)
    server.directory.acquire(databaseName, on: loop) { result in
      let socket = bound.value
      guard socket.context != nil else { return }
      socket.isOpening = false
      switch result {
      case .success(let lease): socket.performWaiting(socket.hold(lease))
      case .failure(let error): socket.performWaiting(error)
      }
    }
  }

  /// - Returns: what the client must be told when what its streams have seen is gone.
  private func hold(_ lease: DatabaseLease) -> RequestError? {
    self.lease = lease
    databaseName = lease.node.databaseName
    usedNanoseconds = monotonicNanoseconds()
    guard let resting else { return nil }
    self.resting = nil
    let present = lease.node.tracker.position.database.short
    var isLost = false
    for (id, known) in resting {
      let stream = HranaStream(id: 0, lease: lease, access: access, loop: loop)
      stream.session.lastInsertRowid = known.lastInsertRowid
      if known.token?.database ?? present == present {
        stream.session.token = known.token
      } else {
        isLost = true
      }
      streams[id] = stream
    }
    guard isLost else { return nil }
    return .madeAnew(lease.node.databaseName)
  }

  /// - Parameter error: what all of them get instead of an answer.
  private func performWaiting(_ error: RequestError?) {
    let waiting = waiting
    self.waiting = []
    for message in waiting where !isClosing {
      if let error { refuse(message, error) } else { perform(message) }
    }
    readIfWanted()
  }

  private func refuse(_ message: JSONValue, _ error: RequestError) {
    guard case .integer(let number)? = message["request_id"] else {
      return fail(HranaDecoder.unreadable("a request needs `request_id` and `request`"))
    }
    answer(number, error: HranaError(error))
  }
}
