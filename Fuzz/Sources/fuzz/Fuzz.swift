// Runs one check of `DecoderCheck` under libFuzzer: `fuzz CHECK [OPTION OF libFuzzer | FILE | FOLDER]…`.
// With a file, that input is run once: this is how a crash is looked at again.
//
// Source: https://llvm.org/docs/LibFuzzer.html

import EdgeTesting
import Glibc

@_silgen_name("LLVMFuzzerRunDriver")
private func runFuzzer(
  _ count: UnsafeMutablePointer<Int32>,
  _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?>,
  _ run: @convention(c) (UnsafePointer<UInt8>?, Int) -> Int32
) -> Int32

@main
enum Fuzz {
  /// The check of this process. libFuzzer calls a function without a context.
  nonisolated(unsafe) private static var check: DecoderCheck?  // set once, before the fuzzer runs

  static func main() {
    guard CommandLine.argc > 1, let found = DecoderCheck.named(CommandLine.arguments[1]) else {
      // Without a name: the names, one a line.
      for check in DecoderCheck.all { print(check.name) }
      exit(CommandLine.argc > 1 ? 64 : 0)
    }
    check = found
    // libFuzzer sees the arguments without the name of the check.
    var arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>? = CommandLine.unsafeArgv + 1
    CommandLine.unsafeArgv[1] = CommandLine.unsafeArgv[0]
    var count = CommandLine.argc - 1
    exit(runFuzzer(&count, &arguments, runOneInput))
  }

  fileprivate static func run(_ bytes: UnsafePointer<UInt8>?, _ count: Int) -> Int32 {
    do {
      try check?.run(Array(UnsafeBufferPointer(start: bytes, count: count)))
    } catch {
      let text = Array("\(error)\n".utf8)
      _ = write(STDERR_FILENO, text, text.count)
      abort()
    }
    return 0
  }
}

/// The name under which the fuzzer's own main would look for it.
@_cdecl("LLVMFuzzerTestOneInput")
func runOneInput(_ bytes: UnsafePointer<UInt8>?, _ count: Int) -> Int32 { Fuzz.run(bytes, count) }
