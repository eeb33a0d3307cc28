// Which database a session works with: the one that a request names, or the one that `.use` chose. A
// session that rests gives its database back, so that those of idle clients can be closed.

import NIOCore
import Store
import WALShip

extension LineSession {
  enum Readiness {
    case ready
    /// The writes before it must be answered first.
    case mustWait
    /// It was answered, or will go on by itself.
    case begun
  }

  /// The most databases whose tokens a session remembers.
  private static let seenMax = 256

  /// Gets hold of the database that a request is for.
  func prepare(_ request: LineRequest, _ head: AnswerHead) -> Readiness {
    let wanted = request.options.database ?? chosen
    let isFree = if case .none = transaction { true } else { false }
    if let lease, leaseName == wanted, !(isFree && lease.isRevoked) { return .ready }
    guard needsDatabase(request.body) else { return .ready }
    guard writes.isEmpty else { return .mustWait }
    guard isFree else {
      answer(head, error: Self.staysInTransaction)
      return .begun
    }
    guard mayRead(wanted, head) else { return .begun }
    change(to: wanted) { error in
      if let error {
        self.answerWithoutDatabase(request.body, head, error)
      } else {
        _ = self.start(request, at: head.started)
      }
    }
    return .begun
  }

  /// Whoever may not read a database does not get it opened, and is not told whether it is there.
  private func mayRead(_ name: String, _ head: AnswerHead) -> Bool {
    do throws(RequestError) {
      if try access.level(for: name, at: head.started) >= .read { return true }
      answer(head, error: .unknownDatabase(name))
    } catch {
      answer(head, error: error)
    }
    return false
  }

  private static let staysInTransaction = RequestError(
    .notAllowed, "a transaction is open: end it before you go to another database")

  /// Goes to another database; `then` gets the reason when it cannot be had, and the session stays
  /// where it is.
  private func change(to name: String, then: @escaping (RequestError?) -> Void) {
    endBatch()
    suspend()
    let bound = NIOLoopBound((self, then), eventLoop: loop)
    directory.acquire(name, on: loop) { result in
      let (session, then) = bound.value
      session.resume {
        switch result {
        case .success(let lease):
          session.release()
          session.lease = lease
          session.leaseName = name
          then(session.remember(name, lease.node.tracker.position))
        case .failure(let error): then(error)
        }
      }
    }
  }

  /// Finds what the client has seen of the present database.
  ///
  /// - Returns: what it must be told, once, when that is gone.
  private func remember(_ name: String, _ position: Position) -> RequestError? {
    guard let token = seenElsewhere.removeValue(forKey: name) else { return nil }
    guard token.database == position.database.short else {
      return .madeAnew(name)
    }
    seen = token
    return nil
  }

  /// Gives the database back.
  private func release() {
    endBatch()
    reader = nil
    if let leaseName, let seen {
      if seenElsewhere.count >= Self.seenMax { seenElsewhere.removeAll() }
      seenElsewhere[leaseName] = seen
    }
    seen = nil
    lease = nil
    leaseName = nil
  }

  /// Gives the database back if nobody has used it since a moment of the monotonic clock, or if it
  /// is to be removed.
  func releaseIfUnused(since nanoseconds: UInt64) {
    guard let lease, isAtRest else { return }
    if usedNanoseconds < nanoseconds || lease.isRevoked { release() }
  }

  // MARK: Commands

  func use(_ name: String, _ head: AnswerHead) {
    guard case .none = transaction else { return answer(head, error: Self.staysInTransaction) }
    guard mayRead(name, head) else { return }
    change(to: name) { error in
      if let error { return self.answer(head, error: error) }
      self.chosen = name
      self.answerOK(head)
    }
  }

  /// The databases that the client may read.
  func readableDatabases(_ head: AnswerHead) -> [String] {
    directory.names.filter { name in
      ((try? access.level(for: name, at: head.started)) ?? .none) >= .read
    }
  }

  /// `.db create NAME`, `.db drop NAME`, `.db fork NAME NEW`.
  func changeDatabases(_ arguments: [String], _ head: AnswerHead) {
    guard let administration = directory.administration else {
      return answer(
        head,
        error: RequestError(
          .notAllowed, "this node serves one database; one with --data serves many"))
    }
    let change: DatabaseChange
    do throws(RequestError) {
      guard let understood = try DatabaseChange(arguments) else {
        return answer(head, error: Self.misused("db"))
      }
      change = understood
      for name in change.names {
        let level = try access.level(for: name.text, at: head.started)
        guard level == .admin else { throw .denied(level, needs: .admin) }
      }
    } catch { return answer(head, error: error) }
    if case .drop(let name) = change {
      if leaseName == name.text {
        guard case .none = transaction else { return answer(head, error: Self.staysInTransaction) }
        release()
      }
      // Who removes a database knows that what was seen of it is gone.
      seenElsewhere[name.text] = nil
    }
    suspend()
    let bound = NIOLoopBound((self, head), eventLoop: loop)
    administration.perform(change, on: loop) { error in
      let (session, head) = bound.value
      session.resume {
        if let error { session.answer(head, error: error) } else { session.answerOK(head) }
      }
    }
  }

  /// A node without a default database still says how it is.
  private func answerWithoutDatabase(
    _ body: LineRequest.Body, _ head: AnswerHead, _ error: RequestError
  ) {
    guard case .command("status", _) = body, let administration = directory.administration,
      error.code == ErrorCode.databaseNotFound.rawValue,
      (try? access.level(for: chosen, at: head.started)) == .admin
    else { return answer(head, error: error) }
    let counts = administration.counts
    writer.beginLine(id: head.id)
    writer.member("role", administration.role.rawValue)
    writer.member("version", SoftwareVersion.current)
    writer.member("databases", Int64(counts.databases))
    writer.member("open", Int64(counts.open))
    if let link = administration.link { add(link) }
    endLine(head, token: nil)
  }
}

extension LineSession {
  private func add(_ link: LinkStatus) {
    writer.member("upstream", link.address)
    writer.member("upstream_state", link.isLinked ? "linked" : "connecting")
    writer.member("followed", Int64(link.followed))
    if let age = link.contactMilliseconds { writer.member("contact_ms", Int64(clamping: age)) }
    if let error = link.lastError { writer.member("last_error", error) }
  }
}

extension DatabaseChange {
  /// - Returns: nil when the words are not those of the command.
  init?(_ words: [String]) throws(RequestError) {
    switch (words.first, words.count) {
    case ("create", 2): self = .create(try .named(words[1]))
    case ("drop", 2): self = .drop(try .named(words[1]))
    case ("fork", 3): self = .fork(try .named(words[1]), to: try .named(words[2]))
    default: return nil
    }
  }
}
