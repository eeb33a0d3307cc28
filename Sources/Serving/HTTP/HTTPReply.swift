// A whole answer as a value, for work that is done on another loop than the client's.

import NIOCore
import NIOHTTP1

struct HTTPReply: Sendable {
  var status: HTTPResponseStatus
  var type: String
  /// Sent one after the other, as the client takes them, when there are several.
  var pieces: [ByteBuffer]
  var headers: HTTPHeaders = [:]

  init(_ status: HTTPResponseStatus, type: String, _ body: ByteBuffer) {
    self.status = status
    self.type = type
    pieces = [body]
  }

  init(_ status: HTTPResponseStatus, type: String, text: String) {
    self.init(status, type: type, ByteBuffer(string: text))
  }

  init(_ status: HTTPResponseStatus, error: HranaError) {
    var output = OutputBytes(capacity: 256)
    error.write(into: &output)
    self.init(status, type: HTTPType.json, output.take())
  }
}

extension HTTPCall {
  func answer(_ reply: HTTPReply) {
    guard reply.pieces.count != 1 else {
      return answer(reply.status, type: reply.type, reply.pieces[0], headers: reply.headers)
    }
    begin(reply.status, type: reply.type, headers: reply.headers)
    send(reply.pieces[...])
  }

  private func send(_ pieces: ArraySlice<ByteBuffer>) {
    var left = pieces
    while !isOver, let next = left.popFirst() {
      write(next)
      if !isWritable, !left.isEmpty {
        let rest = left
        return whenWritable { self.send(rest) }
      }
    }
    end()
  }
}
