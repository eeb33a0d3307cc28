// The way from a body to programs without a node, for checks of it.

import NIOCore

package enum HranaInput {
  /// What the programs of one pipeline may have together.
  package static let stepsMax = HranaRun.stepsTotalMax

  /// What a pipeline has done, one program after the other.
  ///
  /// - Returns: nil for a body that breaks the protocol.
  package static func programs(ofPipeline body: ByteBuffer) -> [[ProgramStep]]? {
    guard let json = try? JSONValue.parse(body), case .array(let given)? = json["requests"] else {
      return nil
    }
    var decoder = HranaDecoder(texts: HranaTexts())
    var requests: [HranaRequest] = []
    do throws(HranaFailure) {
      for json in given { requests.append(try decoder.request(json)) }
      return try HranaRun.make(requests) { _ in nil }.map(\.steps)
    } catch { return nil }
  }
}
