// How progress is told to people.

import Testing

@testable import edge_sql

@Suite struct ProgressBarTests {
  private func figures(done: Int, of total: Int, new: Int, seconds: UInt64) -> ProgressBar.Figures {
    ProgressBar.Figures(
      doneBytes: done, totalBytes: total, newBytes: new, nanoseconds: seconds * 1_000_000_000)
  }

  @Test func textTellsSpeedAndTimeLeft() {
    let half = figures(done: 512 << 20, of: 1 << 30, new: 512 << 20, seconds: 8)
    #expect(half.text == "50 %, 512 MiB of 1.0 GiB, 64.0 MiB/s, 8 s left")
    // What was there before says nothing about the speed.
    let resumed = figures(done: 900 << 20, of: 1 << 30, new: 0, seconds: 8)
    #expect(resumed.text == "87 %, 900 MiB of 1.0 GiB")
  }

  @Test func moreThanExpectedIsAll() {
    let more = figures(done: 3 << 20, of: 2 << 20, new: 3 << 20, seconds: 1)
    #expect(more.fraction == 1)
    #expect(more.text == "100 %, 3.0 MiB of 2.0 MiB, 3.0 MiB/s")
    #expect(figures(done: 0, of: 0, new: 0, seconds: 0).fraction == 0)
  }

  @Test(arguments: [10, 40, 60, 80, 200])
  func lineFitsIntoTheTerminal(_ columns: Int) {
    let half = figures(done: 512 << 20, of: 1 << 30, new: 512 << 20, seconds: 8)
    let line = ProgressBar.line("copying", half, columns: columns)
    #expect(line.count < columns)
    #expect(line.contains("[") == (columns >= 80))
    if columns == 200 {
      #expect(line.contains("[" + String(repeating: "#", count: 15) + "-"))
    }
  }
}
