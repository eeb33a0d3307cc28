// Every decoder of bytes that others wrote, fed with recorded input and with seeded mutations of it.
// `make fuzz` runs the same checks for longer, led by coverage.

import EdgeTesting
import Testing

@Suite struct DecoderMutationTests {
  private static let mutations = 1500

  @Test(arguments: DecoderCheck.all) func mutationsOfTheCorpus(_ check: DecoderCheck) throws {
    let seeds = try Corpus.seeds(of: check)
    #expect(!seeds.isEmpty, "there are no seeds: make record")
    for seed in seeds { try check.run(seed) }
    let random = SeededGenerator(seed: 24)
    var mutator = Mutator(seeds: seeds, random: random)
    for number in 0..<Self.mutations {
      let input = mutator.next()
      do { try check.run(input) } catch {
        Issue.record("\(check) with mutation \(number) of seed \(random.seed): \(error): \(input)")
        return
      }
    }
  }

  @Test func noCorpusIsWithoutACheck() {
    let names = Set(DecoderCheck.all.map(\.name))
    #expect(names.count == DecoderCheck.all.count)
    #expect(names == Set(Files.names(in: Corpus.folder)))
  }
}
