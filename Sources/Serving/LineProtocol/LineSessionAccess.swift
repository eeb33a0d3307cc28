// What the client of a line session may do: asked before a line is understood, and again once it is
// known what the line wants.
// Source: docs/PROTOCOL.md, credentials

import NIOCore
import Store

extension LineSession {
  /// Commands that say nothing about a database.
  private static let openCommands: Set<String> = ["help", "ping", "quit"]
  /// Commands that show or move what is not the client's own.
  private static let adminCommands: Set<String> = ["status", "pages", "scrub"]

  /// Finds out what the client may do now.
  ///
  /// - Returns: why a line is refused before anybody looks at what it says.
  func refusal(ofLine body: LineRequest.Body, at now: UInt64) -> RequestError? {
    do throws(RequestError) {
      level = try access.level(for: node.databaseName, at: now)
    } catch {
      level = .none
      if case .command(let name, _) = body, Self.openCommands.contains(name) { return nil }
      return error
    }
    return nil
  }

  /// Why the client may not do what a line asks for.
  func refusal(ofAccess plan: LinePlan) -> RequestError? {
    let needed = needed(for: plan)
    guard level < needed else { return nil }
    // Who may not even read is not told that there is something.
    return level == .none ? .unknownDatabase(node.databaseName) : .denied(level, needs: needed)
  }

  private func needed(for plan: LinePlan) -> AccessLevel {
    switch plan {
    case .authenticate, .nothing: return .none
    case .command(let name, _):
      if Self.openCommands.contains(name) { return .none }
      return Self.adminCommands.contains(name) ? .admin : .read
    case .read, .uncompiled, .readBatch, .control, .write, .failed: break
    }
    // What happens in it happens under the write lock, reads as well.
    if case .writing = transaction { return .write }
    switch plan {
    case .write, .control(.begin(isImmediate: true), _), .control(.savepoint, _): return .write
    case .read, .uncompiled, .readBatch, .control, .failed: return .read
    case .authenticate, .nothing, .command: return .none
    }
  }

  /// Who shows no credential does not keep a connection.
  func awaitCredential() {
    guard access.isAnonymous else { return }
    let bound = NIOLoopBound(self, eventLoop: loop)
    credentialAlarm = loop.scheduleTask(
      in: .milliseconds(Int64(node.limits.credentialMilliseconds))
    ) {
      let session = bound.value
      guard session.isOpen, session.access.isAnonymous else { return }
      let head = AnswerHead(id: nil, started: monotonicNanoseconds())
      session.answer(head, error: RequestError(CredentialError.missing))
      session.close()
    }
  }

  /// Takes the credential of the client.
  func authenticate(_ credential: String, _ head: AnswerHead) {
    do throws(RequestError) {
      try access.present(credential, at: head.started)
      credentialAlarm?.cancel()
      answerOK(head)
    } catch {
      answer(head, error: error)
    }
  }
}
