// Compresses answers for clients that ask for it, and costs the others nothing: NIO's compressor
// joins the pipeline with the first request that has `Accept-Encoding`.

import NIOCore
import NIOHTTP1
import NIOHTTPCompression

/// Looks at requests before the compressor does, if there is one.
final class HTTPCompression: ChannelInboundHandler, RemovableChannelHandler {
  typealias InboundIn = HTTPServerRequestPart
  typealias InboundOut = HTTPServerRequestPart

  /// Shorter answers are not worth compressing.
  private static let bytesMin = 1024

  /// The compressor sees the requests from the present one on, and must see their answers.
  private(set) var isActive = false

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    if !isActive, case .head(let head) = unwrapInboundIn(data),
      head.headers.contains(name: "accept-encoding")
    {
      activate(context)
    }
    context.fireChannelRead(data)
  }

  private func activate(_ context: ChannelHandlerContext) {
    let compressor = HTTPResponseCompressor { head, _ in
      let length = head.headers.first(name: "content-length").flatMap { Int($0) }
      let isShort = length.map { $0 < Self.bytesMin } ?? false
      return isShort || head.version.isOld ? .doNotCompress : .compressIfPossible
    }
    do {
      try context.pipeline.syncOperations.addHandler(compressor, position: .after(self))
      isActive = true
    } catch {
      context.fireErrorCaught(error)
    }
  }

  /// Takes itself and the compressor out.
  func leave(_ context: ChannelHandlerContext) throws {
    let pipeline = context.pipeline.syncOperations
    if isActive {
      let compressor = try pipeline.context(handlerType: HTTPResponseCompressor.self)
      pipeline.removeHandler(context: compressor, promise: nil)
    }
    pipeline.removeHandler(context: try pipeline.context(handler: self), promise: nil)
  }
}
