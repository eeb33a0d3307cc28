import Access
import Testing

@Suite struct JWTAlgorithmTests {
  @Test func noAlgorithmIsCalledNone() {
    #expect(JWTAlgorithm(rawValue: "none") == nil)
  }
}
