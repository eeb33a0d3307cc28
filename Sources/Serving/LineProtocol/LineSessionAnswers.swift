// How answers are written: as JSON, or as text for people.

import NIOCore
import Store
import WALShip

/// How a client wants its results: `.mode`.
enum LineMode: String, CaseIterable {
  case json, table, csv
}

extension LineSession {
  /// Notes what the client has seen, so that it never sees less.
  func raise(_ token: Token) {
    guard let seen, seen.database == token.database else {
      self.seen = token
      return
    }
    if (token.epoch, token.txid) > (seen.epoch, seen.txid) { self.seen = token }
  }

  /// Counts a request that is answered.
  ///
  /// - Returns: how long it took, in microseconds.
  @discardableResult
  private func note(_ head: AnswerHead) -> UInt64 {
    let nanoseconds = monotonicNanoseconds() &- head.started
    NodeMeters.lineRequests.recordNanoseconds(Int64(clamping: nanoseconds))
    return nanoseconds / 1000
  }

  /// Answers with text for people.
  private func plain(_ head: AnswerHead, _ text: String) {
    note(head)
    writer.plain(text)
  }

  /// Whether answers say that a transaction is open.
  private var isInTransaction: Bool {
    if case .none = transaction { false } else { true }
  }

  /// Ends the line of an answer.
  ///
  /// - Returns: how long the request took, in microseconds.
  @discardableResult
  func endLine(_ head: AnswerHead, token: Token?, isStale: Bool = false) -> UInt64 {
    if isStale { writer.member("stale", true) }
    if isInTransaction { writer.inTransaction() }
    if let token {
      writer.token(token)
      raise(token)
    }
    let microseconds = note(head)
    writer.microseconds(microseconds)
    writer.endLine()
    return microseconds
  }

  /// Answers what has no result.
  func answerOK(_ head: AnswerHead, token: Token? = nil) {
    guard mode == .json else {
      if let token { raise(token) }
      return plain(head, "ok\n")
    }
    writer.beginLine(id: head.id)
    if !isInTransaction { writer.member("ok", true) }
    endLine(head, token: token)
  }

  func answer(_ head: AnswerHead, error: RequestError, statement: Int? = nil) {
    guard mode == .json else {
      let place = statement.map { " (statement \($0 + 1))" } ?? ""
      return plain(head, "Error: \(Self.oneLine(error.message))\(place) [\(error.code)]\n")
    }
    writer.beginLine(id: head.id)
    writer.error(error, failedStatement: statement)
    endLine(head, token: nil)
  }

  private static func oneLine(_ text: String) -> String {
    String(text.map { $0.isNewline ? " " : $0 })
  }

  /// Answers with what the primary, or a reader of the pool, has returned.
  func answer(
    _ head: AnswerHead, _ response: EngineResponse, isBatch: Bool, isStale: Bool = false
  ) {
    let token = response.position?.token
    if let failure = response.failure {
      forget(ifLost: failure.error)
      if let token { raise(token) }
      return answer(head, error: failure.error, statement: isBatch ? failure.statement : nil)
    }
    guard mode == .json else {
      if let token { raise(token) }
      let texts = response.results.map { text($0) }
      return plain(head, texts.isEmpty ? "ok\n" : texts.joined())
    }
    writer.beginLine(id: head.id)
    if isBatch {
      writer.beginResults()
      for result in response.results {
        writer.beginResult()
        write(result)
        writer.endResult()
      }
      writer.endResults()
    } else {
      write(response.results.first ?? StatementResult())
    }
    endLine(head, token: token, isStale: isStale)
  }

  private func write(_ result: StatementResult) {
    if !result.columns.isEmpty {
      writer.columns(result.columns)
      writer.beginRows()
      for row in result.rows {
        writer.beginRow()
        for value in row { writer.value(value) }
        writer.endRow()
      }
      writer.endRows()
    }
    if let changes = result.changes {
      writer.changes(Int(changes), lastRowID: result.lastInsertRowid)
    } else if result.columns.isEmpty {
      writer.member("ok", true)
    }
  }

  private func text(_ result: StatementResult) -> String {
    var text = ""
    if !result.columns.isEmpty {
      text =
        mode == .csv
        ? TextTable.csv(columns: result.columns, rows: result.rows)
        : TextTable.table(columns: result.columns, rows: result.rows)
    }
    if let changes = result.changes {
      guard mode == .table || result.columns.isEmpty else { return text }
      let rowid = result.lastInsertRowid.map { ", last rowid \($0)" } ?? ""
      text += "\(changes) row\(changes == 1 ? "" : "s") changed\(rowid)\n"
    } else if result.columns.isEmpty {
      text += "ok\n"
    }
    return text
  }
}
