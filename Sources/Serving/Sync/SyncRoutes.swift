// The routes of embedded replicas: those of libsql, aiolibsql and libsql_experimental, and the one
// of pyturso.
// Source: docs/SYNC.md

import NIOCore
import NIOHTTP1
import Store

enum SyncRoutes {
  static let all: [HTTPRoute] = [
    HTTPRoute(.GET, "/info", needs: .read) { info($0) },
    HTTPRoute(.GET, "/export/:generation", needs: .read) { export($0) },
    HTTPRoute(.GET, "/sync/:generation/:start/:end", needs: .read) { pull($0) },
    HTTPRoute(.POST, "/sync/:generation/:start/:end", needs: .write) { SyncPushRoute.push($0) },
    HTTPRoute(.POST, "/sync/:generation/:start/:end/:baton", needs: .write) {
      SyncPushRoute.push($0)
    },
    HTTPRoute(.POST, "/pull-updates", needs: .read) { PullUpdatesRoute.pull($0) },
  ]

  static func source(_ call: HTTPCall) -> SyncSource? {
    if let damage = call.node.gate.damage {
      refuse(call, .serviceUnavailable, damage)
      return nil
    }
    if let source = call.node.pages()?.sync { return source }
    refuse(call, .serviceUnavailable, "the node is still looking at its pages: try again")
    return nil
  }

  static func refuse(_ call: HTTPCall, _ status: HTTPResponseStatus, _ message: String) {
    call.answer(status, json: HTTPErrorBody.json(message))
  }

  /// The status 500, like 400, means the end of a generation to these clients, so it is none for
  /// failures.
  static func fail(_ call: HTTPCall, _ error: any Error) {
    switch error {
    case SyncSource.Failure.pageSize(let bytes):
      refuse(
        call, .notImplemented,
        "embedded replicas need pages of 4096 bytes, and this database has \(bytes)")
    case SyncSource.Failure.behind, is SyncGenerations.Busy:
      refuse(call, .serviceUnavailable, "a write has not arrived here yet: try again")
    case SyncSource.Failure.changed:
      refuse(
        call, .conflict,
        "the pages have changed since the copy began, and former states are not kept: pull first")
    case is SyncGenerations.Lost:
      refuse(
        call, .gone,
        "this node does not know the state of the local copy: "
          + "remove it with its -info, -wal and -shm, and begin anew")
    case let error as SQLiteError: refuse(call, .serviceUnavailable, error.message)
    default:
      call.node.logger.error("pages for an embedded replica cannot be read: \(error)")
      refuse(call, .serviceUnavailable, "the node cannot read its pages: see its log")
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

  /// A parameter of the path: digits alone.
  static func number(_ call: HTTPCall, _ name: String) -> UInt32? {
    guard let text = call.parameters[name], text.utf8.allSatisfy({ (48...57).contains($0) }) else {
      return nil
    }
    return UInt32(text)
  }

  private static func pull(_ call: HTTPCall) {
    guard let generation = number(call, "generation"), let start = number(call, "start"),
      let end = number(call, "end"), generation > 0, start > 0, end > start
    else { return refuse(call, .unprocessableEntity, "not a generation and a range of frames") }
    guard let source = source(call) else { return }
    let held = NIOLoopBound(call, eventLoop: call.loop)
    let loop = call.loop
    let isTaken = source.pull(generation, from: Int(start), count: Int(end - start)) { result in
      loop.execute {
        switch result {
        case .success(.frames(let bytes)):
          held.value.answer(.ok, type: HTTPType.bytes, bytes)
        case .success(.generation(let next)):
          held.value.answer(.badRequest, json: "{\"generation\":\(next)}")
        case .failure(let error): fail(held.value, error)
        }
      }
    }
    if !isTaken { refuse(call, .serviceUnavailable, "the node is stopping") }
  }

  private static func export(_ call: HTTPCall) {
    guard let generation = number(call, "generation"), generation > 0 else {
      return refuse(call, .unprocessableEntity, "not a generation")
    }
    guard let source = source(call) else { return }
    SyncAnswer.send(as: HTTPType.bytes, to: call) { source.export(generation) }
  }
}
