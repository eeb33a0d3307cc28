// The route on which offline copies push what was written to them.
// Source: docs/SYNC.md

import NIOCore
import NIOHTTP1

enum SyncPushRoute {
  static func push(_ call: HTTPCall) {
    guard let generation = SyncRoutes.number(call, "generation"),
      let start = SyncRoutes.number(call, "start"), let end = SyncRoutes.number(call, "end"),
      generation > 0, start > 0, end > start
    else {
      return SyncRoutes.refuse(
        call, .unprocessableEntity, "not a generation and a range of frames")
    }
    guard let source = SyncRoutes.source(call) else { return }
    let request = SyncPush(
      generation: generation, start: Int(start), end: Int(end), baton: call.parameters["baton"],
      body: call.body, access: call.access)
    let held = NIOLoopBound(call, eventLoop: call.loop)
    let loop = call.loop
    let isTaken = source.push(request, to: call.node.primary, on: loop) { result in
      loop.execute { answer(held.value, generation, result) }
    }
    if !isTaken { SyncRoutes.refuse(call, .serviceUnavailable, "the node is stopping") }
  }

  private static func answer(
    _ call: HTTPCall, _ generation: UInt32, _ result: Result<SyncSource.PushReply, any Error>
  ) {
    let status: String
    var more = ""
    let last: Int
    switch result {
    case .success(.taken(let number, let baton)):
      (status, last) = ("ok", number)
      if let baton { more = ",\"baton\":\"\(baton)\"" }
    case .success(.conflict(let number)): (status, last) = ("conflict", number)
    case .failure(let error): return fail(call, error)
    }
    call.answer(
      .ok,
      json: "{\"status\":\"\(status)\",\"generation\":\(generation),"
        + "\"max_frame_no\":\(last)\(more)}")
  }

  /// These clients send the same again after 5xx, and only then.
  private static func fail(_ call: HTTPCall, _ error: any Error) {
    func refuse(_ status: HTTPResponseStatus, _ message: String) {
      SyncRoutes.refuse(call, status, message)
    }
    switch error {
    case SyncSource.PushFailure.unknownBaton:
      refuse(.conflict, "the node has forgotten the frames before these: sync again")
    case SyncSource.PushFailure.malformed(let why): refuse(.unprocessableEntity, why)
    case SyncSource.PushFailure.tooMany: refuse(.payloadTooLarge, "too many frames in one push")
    case SyncSource.PushFailure.unknownFrames:
      refuse(
        .gone,
        "this node does not know the state of the local copy: open it again, and if that does not "
          + "help, remove it with its -info, -wal and -shm, and what was written to it")
    case SyncSource.PushFailure.refused(let error):
      switch error.code {
      case ErrorCode.badRequest.rawValue: refuse(.unprocessableEntity, error.message)
      case RequestError.tooLargeCode: refuse(.payloadTooLarge, error.message)
      case ErrorCode.authDenied.rawValue, ErrorCode.authRequired.rawValue:
        refuse(.forbidden, error.message)
      default: refuse(.serviceUnavailable, error.message)
      }
    default: SyncRoutes.fail(call, error)
    }
  }
}
