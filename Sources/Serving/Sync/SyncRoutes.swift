// The routes that embedded replicas of libsql, aiolibsql and libsql_experimental speak.
// Source: docs/SYNC.md

import NIOConcurrencyHelpers
import NIOCore
import NIOHTTP1
import Store

enum SyncRoutes {
  static let all: [HTTPRoute] = [
    HTTPRoute(.GET, "/info", needs: .read) { info($0) },
    HTTPRoute(.GET, "/export/:generation", needs: .read) { export($0) },
    HTTPRoute(.GET, "/sync/:generation/:start/:end", needs: .read) { pull($0) },
    HTTPRoute(.POST, "/sync/:generation/:start/:end", needs: .write) { push($0) },
    HTTPRoute(.POST, "/sync/:generation/:start/:end/:baton", needs: .write) { push($0) },
  ]

  /// Exports at a time in this process: each has a thread and a snapshot.
  private static let exportsMax = 4
  private static let exports = NIOLockedValueBox(0)

  private static func source(_ call: HTTPCall) -> SyncSource? {
    if let source = call.node.pages()?.sync { return source }
    refuse(call, .serviceUnavailable, "the node is still looking at its pages: try again")
    return nil
  }

  private static func refuse(_ call: HTTPCall, _ status: HTTPResponseStatus, _ message: String) {
    var writer = ResponseWriter()
    writer.beginLine()
    writer.member("error", message)
    writer.endLine()
    call.answer(status, type: HTTPType.json, writer.take())
  }

  private static func fail(_ call: HTTPCall, _ error: any Error) {
    switch error {
    case SyncSource.Failure.pageSize(let bytes):
      refuse(
        call, .notImplemented,
        "embedded replicas need pages of 4096 bytes, and this database has \(bytes)")
    case SyncSource.Failure.refused(.behind):
      refuse(call, .serviceUnavailable, "this node is behind the client: try again")
    case SyncSource.Failure.refused(.lost):
      refuse(
        call, .gone,
        "the local copy does not belong to this history: remove it and its -info, -wal and -shm")
    case let error as SQLiteError where error.code == SQLiteError.busy:
      refuse(call, .serviceUnavailable, error.message)
    default:
      refuse(call, .internalServerError, "\(error)")
    }
  }

  private static func info(_ call: HTTPCall) {
    guard let source = source(call) else { return }
    let held = NIOLoopBound(call, eventLoop: call.loop)
    let loop = call.loop
    let isTaken = source.info { result in
      loop.execute {
        switch result {
        case .success(let number):
          held.value.answer(.ok, json: "{\"current_generation\":\(number)}")
        case .failure(let error): fail(held.value, error)
        }
      }
    }
    if !isTaken { refuse(call, .serviceUnavailable, "the node is stopping") }
  }

  private static func pull(_ call: HTTPCall) {
    guard let number = call.parameters["generation"].flatMap({ UInt32($0) }),
      let start = call.parameters["start"].flatMap({ UInt32($0) }),
      let end = call.parameters["end"].flatMap({ UInt32($0) }), start > 0, end > start
    else { return refuse(call, .badRequest, "not a range of frames") }
    guard let source = source(call) else { return }
    let held = NIOLoopBound(call, eventLoop: call.loop)
    let loop = call.loop
    let isTaken = source.pull(number, from: Int(start), count: Int(end - start)) { result in
      loop.execute {
        switch result {
        case .success(.frames(let bytes)):
          held.value.answer(.ok, type: "application/octet-stream", bytes)
        case .success(.generation(let next)):
          held.value.answer(.badRequest, json: "{\"generation\":\(next)}")
        case .failure(let error): fail(held.value, error)
        }
      }
    }
    if !isTaken { refuse(call, .serviceUnavailable, "the node is stopping") }
  }

  /// Pages cannot be taken from clients: nobody could say which rows they change.
  private static func push(_ call: HTTPCall) {
    refuse(
      call, .notImplemented,
      "writes of an offline copy are not taken: connect with offline=False, and they are forwarded")
  }

  private static func export(_ call: HTTPCall) {
    guard let source = source(call) else { return }
    let isFree = exports.withLockedValue { count in
      guard count < exportsMax else { return false }
      count += 1
      return true
    }
    guard isFree else {
      return refuse(call, .serviceUnavailable, "too many copies are being read: try again")
    }
    do {
      ExportAnswer(call, try source.export()) { exports.withLockedValue { $0 -= 1 } }.step()
    } catch {
      exports.withLockedValue { $0 -= 1 }
      fail(call, error)
    }
  }
}

/// An export that is written as the client takes it. On the call's loop.
private final class ExportAnswer {
  private let call: HTTPCall
  private let export: SyncExport
  private let onEnd: () -> Void
  private var isOver = false

  init(_ call: HTTPCall, _ export: SyncExport, onEnd: @escaping () -> Void) {
    self.call = call
    self.export = export
    self.onEnd = onEnd
    call.onGone = { self.close() }
  }

  private func close() {
    guard !isOver else { return }
    isOver = true
    export.close()
    onEnd()
  }

  func step() {
    guard !isOver else { return }
    let held = NIOLoopBound(self, eventLoop: call.loop)
    let loop = call.loop
    let isTaken = export.read { result in loop.execute { held.value.take(result) } }
    if !isTaken { close() }
  }

  private func take(_ result: Result<ByteBuffer?, any Error>) {
    guard !isOver else { return }
    switch result {
    case .success(let bytes?):
      call.begin(.ok, type: "application/octet-stream")
      call.write(bytes)
      call.whenWritable { self.step() }
    case .success(nil):
      close()
      call.end()
    case .failure:
      close()
      call.abort()
    }
  }
}
